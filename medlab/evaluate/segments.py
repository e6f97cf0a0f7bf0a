"""Segmentation as a result: the tables of overlap, distance and volume, and how they are shown.

In: what ``regions`` measured. Out: text, HTML, plain JSON types and a figure. It computes nothing.
"""

from __future__ import annotations

import html
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from medlab.evaluate.average import LENGTH, SHARE, SIGNED
from medlab.evaluate.result import count, entries, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = {
    "dice": SHARE, "iou": SHARE, "hd95": LENGTH, "hd": LENGTH, "assd": LENGTH, "nsd": SHARE, "volume_error": SIGNED,
    "volume_error_percent": SIGNED,
}  # fmt: skip
METRICS = tuple(KINDS)
"""The measures of a case and structure, in the order of the tables."""

STATES = ("found", "missed", "hallucinated", "misplaced", "absent")
"""What became of a structure in a case: in truth and prediction; in truth alone; in prediction alone; in both, without
a common voxel; in neither."""


@dataclass(frozen=True, eq=False, repr=False)
class Segmentation:
    """What a model's label maps are worth, with intervals.

    Attributes:
        table: index ``metric``; the mean over the structures of their means: columns ``value``, ``low``, ``high``,
            ``median``, ``median_low``, ``median_high``, ``n`` (cases that count). NaN is undefined.
        per_class: index (class, metric), the same columns.
        cases: a row a case and structure: case (its number), class, state (of ``STATES``), dice, iou, hd95, hd, assd
            (mm), nsd, volume_error, volume_error_percent, volume_truth, volume_prediction.
        failures: index class, a column a state: in how many cases the structure was found, missed, ...
        classes: the structures' names.
        n: number of cases.
        patients: number of patients.
        confidence: level of the intervals.
        tolerance: mm, of the surface Dice of each structure.
        unit: of volumes: ``"ml"``, or of the areas that stand for them in pictures, ``"cm²"``.
        notes: what a reader has to know: failures, absences, few patients.
    """

    table: pd.DataFrame
    per_class: pd.DataFrame
    cases: pd.DataFrame
    failures: pd.DataFrame
    classes: list[str]
    n: int
    patients: int
    confidence: float
    tolerance: dict[str, float]
    unit: str
    notes: list[str] = field(default_factory=list)

    def __getitem__(self, metric: str) -> float:
        """The mean of one measure over the structures: ``result["dice"]``."""
        return float(self.table.loc[metric, "value"])

    def worst(self, n: int = 6, metric: str = "dice") -> pd.DataFrame:
        """The cases that were segmented worst, worst first.

        Args:
            n: number of cases.
            metric: ``"dice"``, ``"iou"``, ``"nsd"`` (low is bad) or a distance or volume error (far from 0 is bad).

        Returns:
            Index ``case``, its number. Columns: the mean of the metric over the structures that are in truth or
            prediction, ``class``, the structure that came out worst, and its ``state``. Cases without any structure are
            left out.
        """
        if metric not in METRICS:
            raise ValueError(f"Expected a metric among {', '.join(METRICS)}. Received {metric!r}.")
        rows = self.cases[(self.cases["state"] != "absent") & self.cases[metric].notna()]
        badness = -rows[metric] if KINDS[metric] == SHARE else rows[metric].abs()
        rows = rows.assign(badness=badness)
        last = rows.loc[rows.groupby("case")["badness"].idxmax()].set_index("case")[["class", "state"]]
        means = rows.groupby("case")[[metric, "badness"]].mean().join(last)
        return means.sort_values("badness", ascending=False, kind="stable").drop(columns="badness").head(n)

    def plot(self, metric: str = "dice") -> Figure:
        """The metric of every case by structure, and predicted against true volumes, as a matplotlib Figure."""
        from medlab import view

        return view.segmentation_grid(self, metric=metric)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types in the form of ``results.json``; an undefined or infinite value is None."""
        return {
            "n": self.n,
            "patients": self.patients,
            "classes": list(self.classes),
            "confidence": self.confidence,
            "tolerance_mm": dict(self.tolerance),
            "unit": self.unit,
            "metrics": _with_medians(self.table),
            "per_class": {name: _with_medians(self.per_class.loc[name]) for name in self.classes},
            "failures": {
                name: {state: int(value) for state, value in row.items()} for name, row in self.failures.iterrows()
            },
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        width = max(map(len, self._names().values()))
        lines = [self._headline()]
        for name, table in self._tables().items():
            lines.append(name)
            lines += [f"  {label:<{width}}  {_cell(table.loc[metric])}" for metric, label in self._names().items()]
        lines.append(self.failures.to_string())
        return "\n".join(lines + [f"  - {note}" for note in self.notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        level = f"{self.confidence:.0%} interval"
        tables = self._tables()
        heads = "".join(f"<th>{html.escape(name)}</th>" for name in tables)
        parts = [
            f"<p>{html.escape(self._headline())}</p>",
            f'<table><thead><tr><th style="text-align:left">mean ({level}), median</th>{heads}</tr></thead><tbody>',
        ]
        for metric, label in self._names().items():
            cells = "".join(f"<td>{_cell(table.loc[metric])}</td>" for table in tables.values())
            parts.append(f'<tr><td style="text-align:left">{html.escape(label)}</td>{cells}</tr>')
        for state in STATES:
            cells = "".join(f"<td>{self.failures[state].get(name, self.failures[state].sum())}</td>" for name in tables)
            parts.append(f'<tr><td style="text-align:left">{state} (cases)</td>{cells}</tr>')
        parts.append("</tbody></table>")
        parts.append("<ul>" + "".join(f"<li>{html.escape(note)}</li>" for note in self.notes) + "</ul>")
        return "".join(parts)

    def _tables(self) -> dict[str, pd.DataFrame]:
        each = {name: self.per_class.loc[name] for name in self.classes}
        return each if len(each) == 1 else {"all structures": self.table} | each

    def _names(self) -> dict[str, str]:
        what = "Volume" if self.unit == "ml" else "Area"
        return {
            "dice": "Dice",
            "iou": "Intersection over union",
            "hd95": "Hausdorff distance, 95th percentile (mm)",
            "hd": "Hausdorff distance (mm)",
            "assd": "Average surface distance (mm)",
            "nsd": "Surface Dice within tolerance",
            "volume_error": f"{what} error ({self.unit})",
            "volume_error_percent": f"{what} error (%)",
        }

    def _headline(self) -> str:
        people = "" if self.patients == self.n else f" of {count(self.patients, 'patient')}"
        many = "" if len(self.classes) == 1 else "; 'all structures' is the mean of the structures' means"
        return f"{count(self.n, 'case')}{people}; mean with {self.confidence:.0%} interval, then median{many}"


def _cell(row: pd.Series) -> str:
    """``"0.912 (0.880 to 0.940), 0.925"``: mean, its interval, median."""
    if math.isnan(row["value"]):
        return "undefined"
    value, low, high, median = (_short(row[name]) for name in ("value", "low", "high", "median"))
    limits = "" if math.isnan(row["low"]) else f" ({low} to {high})"
    return f"{value}{limits}, {median}"


def _short(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _with_medians(table: pd.DataFrame) -> dict[str, dict[str, float | None]]:
    found = entries(table)
    for metric, row in table.iterrows():
        found[str(metric)] |= {"median": number(row["median"]), "n": int(row["n"])}
    return found
