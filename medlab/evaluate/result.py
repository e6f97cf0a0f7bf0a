"""Evaluation: the table of metrics with intervals, the curves, and how both are shown.

In: what ``classify`` measured. Out: text, HTML, plain JSON types and a figure. It computes nothing.
"""

from __future__ import annotations

import html
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = {
    "auc": "AUC",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ppv": "Positive predictive value",
    "npv": "Negative predictive value",
    "f1": "F1 score",
    "mcc": "Matthews correlation",
    "brier": "Brier score (0 is best)",
    "ece": "Calibration error (0 is best)",
    "average_precision": "Average precision",
}
"""The metrics' names for readers."""


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """What a model's predictions are worth, with intervals.

    Attributes:
        table: index ``metric``; columns ``value``, ``low``, ``high``, ``n`` (cases judged). NaN is undefined.
        curves: tables. ``"roc"`` (class, fpr, tpr, threshold), ``"precision_recall"`` (class, recall, precision,
            threshold) and ``"reliability"`` (class, low, high, confidence, accuracy, count; a row a bin), one block of
            rows a class: a binary task has its positive class alone, and reliability of several exclusive classes is
            that of the called class. ``"confusion"``: counts, truth by row, call by column; for a multi-label task a
            row a label with tn, fp, fn, tp.
        per_class: index (class, metric), the columns of ``table``; None for a binary task.
        kind: ``"binary"``, ``"multi-class"`` or ``"multi-label"``.
        classes: the class names; the second is the positive one of a binary task.
        y: truth as it was judged.
        p: probabilities as they were judged.
        n: number of cases.
        patients: number of patients.
        confidence: level of the intervals.
        threshold: probability from which a case is called positive (not used with several exclusive classes).
        notes: what a reader has to know: undefined metrics, exact limits, few cases.
    """

    table: pd.DataFrame
    curves: dict[str, pd.DataFrame]
    per_class: pd.DataFrame | None
    kind: str
    classes: list[str]
    y: np.ndarray
    p: np.ndarray
    n: int
    patients: int
    confidence: float
    threshold: float
    notes: list[str] = field(default_factory=list)

    def __getitem__(self, metric: str) -> float:
        """The value of one metric: ``evaluation["auc"]``."""
        return float(self.table.loc[metric, "value"])

    def worst(self, n: int = 6) -> pd.DataFrame:
        """The cases whose truth got the least probability, worst first.

        Returns:
            Index: the case's number among those judged. Columns: ``truth`` (class name; of a multi-label case the
            label that was missed most) and ``p``, the probability given to the truth.
        """
        if self.kind == "multi-label":
            given = np.where(self.y == 1, self.p, 1 - self.p)
            which = given.argmin(axis=1)
            truth = [self.classes[i] if self.y[row, i] else f"no {self.classes[i]}" for row, i in enumerate(which)]
            given = given.min(axis=1)
        else:
            truth = [self.classes[i] for i in self.y]
            given = np.where(self.y == 1, self.p, 1 - self.p) if self.p.ndim == 1 else self.p[range(self.n), self.y]
        order = np.argsort(given, kind="stable")[:n]
        return pd.DataFrame({"truth": truth, "p": given}).iloc[order]

    def plot(self) -> Figure:
        """ROC, precision-recall, reliability and confusion side by side, as a matplotlib Figure."""
        from medlab import view

        return view.evaluation_grid(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types in the form of ``results.json``; an undefined value is None."""
        result = {
            "n": self.n,
            "patients": self.patients,
            "classes": list(self.classes),
            "confidence": self.confidence,
            "threshold": self.threshold,
            "metrics": entries(self.table),
            "notes": list(self.notes),
        }
        if self.per_class is not None:
            result["per_class"] = {name: entries(self.per_class.loc[name]) for name in self.classes}
        return result

    def __str__(self) -> str:
        width = max(map(len, NAMES.values()))
        lines = [self._headline()]
        lines += [f"  {NAMES.get(name, name):<{width}}  {interval(*row)}" for name, row in self._rows(self.table)]
        return "\n".join(lines + [f"  - {note}" for note in self.notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        level = f"{self.confidence:.0%} interval"
        parts = [f"<p>{html.escape(self._headline())}</p>"]
        if self.per_class is None:
            columns = {"": self.table}
        else:
            columns = {"all classes": self.table} | {name: self.per_class.loc[name] for name in self.classes}
        heads = "".join(f"<th>{html.escape(name)}</th>" for name in columns) if len(columns) > 1 else ""
        heads = heads or f"<th>value ({level})</th>"
        parts.append(f'<table><thead><tr><th style="text-align:left">metric</th>{heads}</tr></thead><tbody>')
        for name in self.table.index:
            cells = "".join(f"<td>{interval(*dict(self._rows(table))[name])}</td>" for table in columns.values())
            parts.append(f'<tr><td style="text-align:left">{NAMES.get(name, name)}</td>{cells}</tr>')
        parts.append("</tbody></table>")
        if self.notes:
            parts.append("<ul>" + "".join(f"<li>{html.escape(note)}</li>" for note in self.notes) + "</ul>")
        return "".join(parts)

    def _headline(self) -> str:
        people = "" if self.patients == self.n else f" of {count(self.patients, 'patient')}"
        if self.kind == "binary":
            what = f"positive: {self.classes[1]}, called from a probability of {self.threshold:.3g}"
        elif self.kind == "multi-class":
            what = f"{len(self.classes)} classes, the most probable is called, rates are means over the classes"
        else:
            what = f"{len(self.classes)} labels, called from {self.threshold:.3g}, values are means over the labels"
        return f"{count(self.n, 'case')}{people}; {what}; {self.confidence:.0%} intervals"

    @staticmethod
    def _rows(table: pd.DataFrame) -> list[tuple[str, tuple[float, float, float]]]:
        return [(row.Index, (row.value, row.low, row.high)) for row in table.itertuples()]


def interval(value: float, low: float, high: float) -> str:
    """``"0.971 (0.958 to 0.982)"``; ``"undefined"`` where there is no value."""
    if math.isnan(value):
        return "undefined"
    if math.isnan(low) or math.isnan(high):
        return f"{value:.3f}"
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def entries(table: pd.DataFrame) -> dict[str, dict[str, float | None]]:
    """The rows of a table as ``{metric: {"value", "low", "high"}}`` with None for NaN."""
    return {
        str(row.Index): {"value": number(row.value), "low": number(row.low), "high": number(row.high)}
        for row in table.itertuples()
    }


def number(value: float) -> float | None:
    """A plain float, None for NaN or infinity: what JSON can hold."""
    return float(value) if math.isfinite(value) else None


def count(n: int, noun: str) -> str:
    """``"1 case"``, ``"2 cases"``."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
