"""Detection: what anomaly maps are worth, by image and by pixel, with intervals over patients.

In: maps (n, i, j[, k]), the exact masks of what is abnormal, and validation cases on which the threshold is chosen.
Out: :class:`Anomalies`. It makes no maps; see :mod:`medlab.evaluate.anomaly`.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from medlab.evaluate import anomaly, comparison, inputs, interval
from medlab.evaluate.comparison import Comparison
from medlab.evaluate.result import number

METRICS = ("auc", "average_precision", "dice")
NAMES = {
    "auc": "AUC of the images",
    "average_precision": "Average precision of the pixels",
    "dice": "Dice of the pixels",
}
_BINS = 2000
"""Steps into which the pixels' scores are cut for the intervals; with fewer distinct scores nothing is lost."""


@dataclass(frozen=True, eq=False, repr=False)
class Anomalies:
    """What anomaly maps are worth.

    Attributes:
        table: index ``auc`` (images), ``average_precision`` (pixels), ``dice`` (pixels, at the threshold); columns
            ``value``, ``low``, ``high``, ``chance`` (what a map of random numbers has; NaN for Dice).
        threshold: value of the map from which a pixel is called abnormal: the best Dice on the validation cases.
        validation_dice: that Dice.
        false_pixels: pixels called abnormal in a healthy image, on average.
        scores: (n,) abnormality of each image.
        y: (n,) whether each image has a lesion.
        n: number of images.
        patients: number of patients.
        notes: what a reader has to know.
    """

    table: pd.DataFrame
    threshold: float
    validation_dice: float
    false_pixels: float
    scores: NDArray[np.float64]
    y: NDArray[np.bool_]
    n: int
    patients: int
    notes: list[str] = field(default_factory=list)
    _group: NDArray[np.int64] | None = None
    _counts: NDArray[np.float64] | None = None
    _cells: NDArray[np.float64] | None = None
    _marked: int | None = None

    def __getitem__(self, metric: str) -> float:
        """One value: ``result["auc"]``."""
        return float(self.table.loc[metric, "value"])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; an undefined value is None."""
        shown = {
            metric: {name: number(row[name]) for name in ("value", "low", "high", "chance")}
            for metric, row in self.table.iterrows()
        }
        return {
            "n": self.n, "patients": self.patients, "metrics": shown, "threshold": number(self.threshold),
            "validation_dice": number(self.validation_dice), "false_pixels": number(self.false_pixels),
            "notes": list(self.notes),
        }  # fmt: skip

    def __str__(self) -> str:
        lines = [f"{self.n} images, {int(self.y.sum())} of them abnormal"]
        for metric, row in self.table.iterrows():
            if np.isnan(row["value"]):
                continue
            chance = "" if np.isnan(row["chance"]) else f", chance {row['chance']:.3g}"
            lines.append(f"  {NAMES[metric]}: {row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f}){chance}")
        return "\n".join(lines + [f"  - {note}" for note in self.notes])

    __repr__ = __str__


def anomalies(
    maps: ArrayLike,
    masks: ArrayLike,
    validation: tuple[ArrayLike, ArrayLike] | None = None,
    *,
    share: float = 0.005,
    groups: ArrayLike | None = None,
    confidence: float = 0.95,
    n: int = 1000,
    seed: int = 0,
) -> Anomalies:
    """AUC of the images, average precision and Dice of the pixels, with intervals over patients.

    An image is abnormal where its mask is not empty; its score is that of :func:`medlab.evaluate.image_scores`. All
    pixels of all images count together, so that what is marked in healthy images counts against the map. The threshold
    of the Dice is the best one on ``validation``, never on the cases that are judged.

    Args:
        maps: (n, i, j[, k]) anomaly maps of the test cases.
        masks: of the same shape, above 0 where something is abnormal. Or (n,) 0 and 1 where only the image as a whole
            is known: then the pixels are not judged, and their rows are NaN.
        validation: maps and masks of other cases, at least one of them abnormal. Not needed without masks.
        share: of the pixels by which an image is scored.
        groups: (n,) the patient of each case; by default every case is a patient of its own.
        confidence: level of the intervals.
        n: number of resamples.
        seed: of the resamples.

    Returns:
        The result. Maps of one value everywhere get AUC 0.5, and chance for the pixels. One patient alone gives no
        interval: low and high are NaN.

    Raises:
        ValueError: shapes that differ, a channel axis, NaN, no healthy or no abnormal test image, no abnormal
            validation case.
    """
    interval.check_level(confidence, n)
    whole = np.ndim(masks) == 1
    maps, masks = _pair(maps, masks, "test")
    y = masks.reshape(len(masks), -1).any(axis=1)
    if y.all() or not y.any():
        raise ValueError(
            f"Expected healthy and abnormal test images. All {len(y)} are {'abnormal' if y.all() else 'healthy'} by "
            "their masks: no AUC is defined."
        )
    group, patients = inputs.patients(groups, len(y))
    scores = anomaly.image_scores(maps, share=share)
    limits = interval.bootstrap("auc", y, _ranks(scores), groups=groups, n=n, seed=seed, confidence=confidence)
    if patients < 2:  # who else might have come, one patient cannot tell
        limits = (limits[0], np.nan, np.nan)
    rows = {"auc": (*limits, 0.5)}
    if whole:
        rows |= dict.fromkeys(METRICS[1:], (np.nan,) * 4)
        notes = ["There are no masks: the pixels were not judged."]
        return Anomalies(_table(rows), np.nan, np.nan, np.nan, scores, y, len(y), patients, notes, group)
    if validation is None:
        raise ValueError("Expected validation=(maps, masks) of other cases: the threshold of the Dice is chosen there.")
    if not isinstance(validation, tuple | list) or len(validation) != 2:
        raise ValueError(f"Expected validation as a pair (maps, masks). Received {type(validation).__name__}.")
    known = _pair(*validation, "validation")
    if not known[1].any():
        raise ValueError("Expected a validation case with a mask that is not empty: the threshold is chosen on it.")
    threshold, validation_dice = _best_threshold(*known)
    counts, cells = _histograms(maps, masks), _cells(maps, masks, threshold)
    draws = _draws(counts, cells, group, patients, n, seed)
    exact = {"average_precision": _precision(maps, masks), "dice": float(_dice(np.ones((1, len(y))), cells)[0])}
    for metric, value in exact.items():
        low, high = interval.percentiles(draws[metric], confidence) if patients > 1 else (np.nan, np.nan)
        rows[metric] = value, low, high, float(masks.mean()) if metric == "average_precision" else np.nan
    notes = [
        f"The Dice's threshold {threshold:.3g} is the best one on {len(known[0])} validation images; its own chance is "
        "not in the interval."
    ]
    return Anomalies(
        _table(rows), threshold, validation_dice, float(cells[~y, 1].mean()), scores, y, len(y), patients, notes,
        group, counts, cells, zlib.crc32(np.packbits(masks)),
    )  # fmt: skip


def compare_anomalies(
    first: Anomalies, second: Anomalies, metric: str = "auc", *, confidence: float = 0.95, n: int = 1000, seed: int = 0
) -> Comparison:
    """The difference of two kinds of maps on the same cases: DeLong's test for the AUC, else a paired bootstrap.

    Args:
        first: what :func:`anomalies` gave for the first maps.
        second: for the second, of the same cases in the same order.
        metric: ``"auc"``, ``"average_precision"`` or ``"dice"``.
        confidence: level of the interval.
        n: number of resamples, of patients.
        seed: of the resamples.

    Returns:
        A Comparison; ``difference`` is the first's value minus the second's.

    Raises:
        ValueError: other cases, an unknown metric.
    """
    interval.check_level(confidence, n)
    for one in (first, second):
        if not isinstance(one, Anomalies):
            raise ValueError(f"Expected two results of evaluate.anomalies. Received {type(one).__name__}.")
    if metric not in METRICS:
        raise ValueError(f"Expected a metric among {', '.join(METRICS)}. Received {metric!r}.")
    if first.n != second.n or not np.array_equal(first.y, second.y) or not np.array_equal(first._group, second._group):
        raise ValueError(f"Expected two results of the same cases. Received {first.n} and {second.n} other ones.")
    if metric != "auc" and (first._counts is None or second._counts is None):
        raise ValueError(f"Expected results with masks for {metric}. Without them there is the auc alone.")
    if metric != "auc" and first._marked != second._marked:
        raise ValueError("Expected two results of the same cases. Their masks differ.")
    if metric == "auc":
        ranks = [_ranks(one.scores) for one in (first, second)]
        return comparison.compare(first.y, *ranks, groups=first._group, confidence=confidence)
    one, two = (
        _draws(result._counts, result._cells, first._group, first.patients, n, seed)[metric]
        for result in (first, second)
    )
    differences = one - two
    low, high = interval.percentiles(differences, confidence) if first.patients > 1 else (np.nan, np.nan)
    differences = differences[~np.isnan(differences)]
    tails = [(1 + int((side * differences <= 0).sum())) / (1 + len(differences)) for side in (1, -1)]
    values = first[metric], second[metric]
    return Comparison("bootstrap", metric, *values, values[0] - values[1], low, high, min(1.0, 2 * min(tails)), first.n)


def _table(rows: dict[str, tuple[float, ...]]) -> pd.DataFrame:
    columns = ["value", "low", "high", "chance"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("metric")


def _pair(maps: ArrayLike, masks: ArrayLike, name: str) -> tuple[NDArray, NDArray[np.bool_]]:
    maps, masks = anomaly.checked_maps(maps), np.asarray(masks)
    if maps.ndim == 4 and maps.shape[-1] == 1:
        raise ValueError(
            f"Expected {name} maps (n, i, j[, k]) without a channel axis. Received shape {maps.shape}: leave the "
            "channel axis away, maps[..., 0], and that of the masks."
        )
    if masks.ndim == 1 and name == "test" and len(masks) == len(maps):
        if masks.dtype.kind not in "biuf" or not np.isin(masks, (0, 1)).all():
            raise ValueError(f"Expected 0 or 1 for each image, or masks. Received {np.unique(masks)[:5].tolist()}.")
        return maps, masks > 0
    if masks.shape != maps.shape:
        raise ValueError(f"Expected {name} masks of the maps' shape {maps.shape}. Received {masks.shape}.")
    if masks.dtype.kind not in "biuf" or (masks.dtype.kind == "f" and not np.isfinite(masks).all()):
        raise ValueError(f"Expected {name} masks of numbers, 0 where nothing is abnormal. Received {masks.dtype}.")
    return maps, masks > 0


def _ranks(scores: NDArray) -> NDArray[np.float64]:
    """Scores of any scale as numbers from 0 to 1 in the same order."""
    from scipy.stats import rankdata

    return (rankdata(scores) - 0.5) / len(scores)


def _ordered(maps: NDArray, masks: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Distinct scores, highest first, and how many abnormal and healthy pixels are at or above each."""
    order = np.argsort(maps, axis=None, kind="stable")[::-1]
    score, truth = maps.ravel()[order], masks.ravel()[order]
    last = np.flatnonzero(np.diff(score, append=np.inf))
    true = np.cumsum(truth)[last]
    return score[last], true, last + 1 - true


def _precision(maps: NDArray, masks: NDArray) -> float:
    """Average precision: precision at each score, weighted by the recall that is gained there."""
    _, true, false = _ordered(maps, masks)
    return float((np.diff(true, prepend=0) * true / (true + false)).sum() / true[-1])


def _best_threshold(maps: NDArray, masks: NDArray) -> tuple[float, float]:
    """The score from which pixels are called abnormal with the best Dice, and that Dice; the highest of equal ones."""
    score, true, false = _ordered(maps, masks)
    value = 2 * true / (true + false + true[-1])
    best = int(value.argmax())
    return float(score[best]), float(value[best])


def _histograms(maps: NDArray, masks: NDArray) -> NDArray[np.float64]:
    """(n, 2, bins) how many abnormal and healthy pixels of each image are in each step of the scores, highest first."""
    distinct = np.unique(maps)
    if len(distinct) > _BINS:
        # Fine where the precision moves: half of the steps by the abnormal pixels, half by all of them.
        shares = np.linspace(0, 1, _BINS // 2)
        parts = [np.quantile(part, shares) for part in (maps[masks], maps)]
        distinct = np.unique(np.concatenate(parts))
    step = len(distinct) - np.clip(np.searchsorted(distinct, maps, side="right"), 1, len(distinct))
    flat = step.reshape(len(maps), -1) + np.arange(len(maps))[:, None] * len(distinct)
    truth = masks.reshape(len(maps), -1)
    size = len(maps) * len(distinct)
    found = [np.bincount(flat[part], minlength=size).reshape(len(maps), -1) for part in (truth, ~truth)]
    return np.stack(found, axis=1).astype(np.float64)


def _cells(maps: NDArray, masks: NDArray, threshold: float) -> NDArray[np.float64]:
    """(n, 3) pixels of each image that are called rightly, called wrongly, and missed."""
    called = (maps >= threshold).reshape(len(maps), -1)
    truth = masks.reshape(len(masks), -1)
    return np.stack([(called & truth).sum(1), (called & ~truth).sum(1), (~called & truth).sum(1)], 1).astype(np.float64)


def _dice(weights: NDArray, cells: NDArray) -> NDArray[np.float64]:
    hit, false, missed = (weights @ cells).T
    total = 2 * hit + false + missed
    return np.divide(2 * hit, total, out=np.full(len(total), np.nan), where=total > 0)


def _draws(
    counts: NDArray, cells: NDArray, group: NDArray, patients: int, n: int, seed: int
) -> dict[str, NDArray[np.float64]]:
    """Average precision and Dice of ``n`` resamples of the patients, the same for the same seed."""
    found: dict[str, list[NDArray]] = {"average_precision": [], "dice": []}
    flat = counts.reshape(len(counts), -1)
    for weights in interval.resamples(group, patients, n, seed):
        for start in range(0, len(weights), 250):
            part = weights[start : start + 250]
            gained, false = np.split((part @ flat), 2, axis=1)
            true, called = gained.cumsum(axis=1), (gained + false).cumsum(axis=1)
            precision = np.divide(true, called, out=np.zeros_like(true), where=called > 0)
            total = true[:, -1]
            area = np.divide((gained * precision).sum(axis=1), total, out=np.full(len(part), np.nan), where=total > 0)
            found["average_precision"].append(area)
            found["dice"].append(_dice(part, cells))
    return {name: np.concatenate(parts) for name, parts in found.items()}
