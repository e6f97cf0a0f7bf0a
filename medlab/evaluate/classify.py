"""Classification: truth and probabilities in, an Evaluation with intervals out.

One class against the other, several exclusive classes, or several labels a case. The arithmetic is in ``metrics``,
the resampling in ``interval``; this file puts them together and says what the reader has to know.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from medlab.evaluate import boundary, calibration, inputs, interval, metrics
from medlab.evaluate.result import NAMES, Evaluation, count

FEW = 10
"""Fewer patients than this in a class are named in the notes: their intervals are rough."""


def classification(
    y: ArrayLike,
    p: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    threshold: float = 0.5,
    n: int = 2000,
) -> Evaluation:
    """Twelve metrics with intervals, and the curves behind them.

    Args:
        y: (n,) class indices, or (n, classes) of 0 and 1 for a multi-label task.
        p: (n,) probability of class 1 of two, or (n, classes).
        groups: (n,) the patient of each case; by default every case is a patient of its own.
        confidence: level of the intervals.
        seed: the same seed gives the same intervals.
        classes: the class names; by default the indices.
        threshold: a case is called positive from this probability (binary and multi-label). With several exclusive
            classes the most probable is called.
        n: number of bootstrap resamples.

    Returns:
        An Evaluation. The intervals are bootstrap intervals over patients, drawn without regard to class (see
        :func:`medlab.evaluate.interval.limits`); resamples in which a metric is undefined are left out. Where every
        resample agrees on a perfect value it is an exact limit instead (:mod:`medlab.evaluate.boundary`), and a note
        says so. Undefined values are NaN: AUC, average precision and mcc where the truth has one class, a rate whose
        denominator is 0. mcc is 0 where all cases are called alike.

    Raises:
        ValueError: lengths that differ, no cases, NaN, labels outside the classes, values that are no probabilities
            (logits), a wrong number of class names, a confidence outside 0 to 1.
    """
    interval.check_level(confidence, n)
    task = inputs.check(y, p, classes)
    if not 0 <= threshold <= 1:
        raise ValueError(f"Expected a threshold from 0 to 1. Received {threshold!r}.")
    group, _ = inputs.patients(groups, task.n)
    sample = interval.draw(task, groups, n=n, seed=seed, threshold=threshold)
    tables, exact = [], []
    options = {"confidence": confidence, "n": n, "seed": seed}
    for entry, (values, draws) in enumerate(zip(sample.values, sample.draws, strict=True)):
        rows = {}
        for name in metrics.METRICS:
            view, cut = _one_class(task, entry - 1, threshold, name) if entry else (task, threshold)
            low, high = interval.limits(name, values[name], draws[name], view, group, threshold=cut, **options)
            rows[name] = (values[name], low, high, task.n)
            if not entry and boundary.is_stuck(name, values[name], draws[name]):
                exact.append(name)
        tables.append(_table(rows))
    per_class = pd.concat(dict(zip(task.classes, tables[1:], strict=True)), names=["class"]) if tables[1:] else None
    return Evaluation(
        table=tables[0],
        curves=_curves(task, threshold),
        per_class=per_class,
        kind=task.kind,
        classes=task.classes,
        y=task.y.astype(np.int64),
        p=task.p,
        n=task.n,
        patients=sample.patients,
        confidence=confidence,
        threshold=threshold,
        notes=_notes(task, group, tables[0], exact, threshold),
    )


def _one_class(task: inputs.Task, index: int, threshold: float, name: str) -> tuple[inputs.Task, float]:
    """One class against the rest as a binary task, with a threshold that makes the same calls."""
    names = ["", task.classes[index]]
    if task.kind == "multi-label":
        return inputs.Task("binary", task.y[:, index], task.p[:, index], names), threshold
    if name in ("auc", "average_precision", "brier", "ece"):
        return inputs.Task("binary", task.y == index, task.p[:, index], names), threshold
    # The most probable class is called, which no threshold on p does: the calls themselves stand in for p.
    called = (task.p.argmax(axis=1) == index).astype(np.float64)
    return inputs.Task("binary", task.y == index, called, names), 0.5


def _table(rows: dict[str, tuple[float, float, float, int]]) -> pd.DataFrame:
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high", "n"])
    return table.rename_axis("metric")


def _curves(task: inputs.Task, threshold: float) -> dict[str, pd.DataFrame]:
    roc, precision, reliable = {}, {}, {}
    for index in [1] if task.kind == "binary" else range(len(task.classes)):
        name = task.classes[index]
        truth = task.y == index if task.y.ndim == 1 else task.y[:, index]
        score = task.p if task.p.ndim == 1 else task.p[:, index]
        roc[name], precision[name] = _ranking_curves(truth, score)
        reliable[name] = calibration.reliability(truth, score)
    if task.kind == "multi-class":  # what ece measures: the called class, whichever it is
        right = task.p.argmax(axis=1) == task.y
        reliable = {"called class": calibration.reliability(right, task.p.max(axis=1))}
    return {
        "roc": _stack(roc),
        "precision_recall": _stack(precision),
        "reliability": _stack(reliable),
        "confusion": _confusion(task, threshold),
    }


def _stack(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(tables, names=["class"]).reset_index(level=0).reset_index(drop=True)


def _ranking_curves(truth: NDArray[np.bool_], score: NDArray[np.float64]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """ROC from (0, 0) to (1, 1) and precision over recall, one point a distinct probability, highest first.

    A rate is NaN where the truth has no case for it.
    """
    order = np.argsort(-score, kind="stable")
    score, truth = score[order], truth[order]
    last = np.flatnonzero(np.r_[score[1:] != score[:-1], True])
    true = np.r_[0, np.cumsum(truth)[last]].astype(np.float64)
    false = np.r_[0, np.cumsum(~truth)[last]].astype(np.float64)
    cut = np.r_[np.inf, score[last]]
    tpr, fpr = metrics.ratio(true, np.full_like(true, true[-1])), metrics.ratio(false, np.full_like(false, false[-1]))
    precision = np.r_[1.0, true[1:] / (true + false)[1:]]
    return (
        pd.DataFrame({"fpr": fpr, "tpr": tpr, "threshold": cut}),
        pd.DataFrame({"recall": tpr, "precision": precision, "threshold": cut}),
    )


def _confusion(task: inputs.Task, threshold: float) -> pd.DataFrame:
    if task.kind == "multi-label":
        called = task.p >= threshold
        cells = {"tn": ~task.y & ~called, "fp": ~task.y & called, "fn": task.y & ~called, "tp": task.y & called}
        counts = {name: where.sum(axis=0) for name, where in cells.items()}
        return pd.DataFrame(counts, index=pd.Index(task.classes, name="class"))
    called = task.p.argmax(axis=1) if task.kind == "multi-class" else (task.p >= threshold).astype(np.int64)
    matrix = metrics.confusion(task.y.astype(np.int64), called, len(task.classes), np.ones((1, task.n)))[0]
    index, columns = pd.Index(task.classes, name="truth"), pd.Index(task.classes, name="called")
    return pd.DataFrame(matrix.astype(np.int64), index=index, columns=columns)


def _notes(
    task: inputs.Task, group: NDArray[np.int64], table: pd.DataFrame, exact: list[str], threshold: float
) -> list[str]:
    notes = []
    present = task.present()
    if task.kind != "multi-label":
        absent = [name for name, cases in zip(task.classes, present, strict=True) if not cases]
        if absent:
            notes.append(f"No case of {', '.join(absent)}: what needs one is undefined or left out of the means.")
        for index in np.flatnonzero(present):
            people = len(np.unique(group[task.y == index]))
            if people < FEW:
                notes.append(f"Only {count(people, 'patient')} with {task.classes[index]}: the intervals are rough.")
    else:
        one_sided = [name for name, cases in zip(task.classes, present, strict=True) if cases in (0, task.n)]
        if one_sided:
            notes.append(f"Present in none or all cases and left out of some means: {', '.join(one_sided)}.")
    undefined = [NAMES[name] for name in table.index[table["value"].isna()]]
    if undefined:
        notes.append(f"Undefined here: {', '.join(undefined)}.")
    if exact:
        names = ", ".join(NAMES[name] for name in exact)
        notes.append(f"At its bound in every resample, so that its limit is an exact one instead: {names}.")
    if task.kind == "binary":
        if task.n > 1 and np.ptp(task.p) == 0:
            notes.append("Every case has the same probability: the AUC is 0.5 whatever the sample.")
        elif task.n > 1 and len(np.unique(task.p >= threshold)) == 1:
            notes.append(f"Every case is called {task.classes[int(task.p[0] >= threshold)]}.")
    return notes
