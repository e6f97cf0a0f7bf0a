"""Segmentation: label maps of truth and prediction in, a table of every case and structure with intervals out.

The arithmetic of one pair of masks is in ``overlap`` and ``surface``, the resampling in ``average``; this file asks
them for every case and class, and says what the reader has to know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from medlab.evaluate import average, inputs, interval, overlap, surface
from medlab.evaluate.result import count
from medlab.evaluate.segments import KINDS, METRICS, STATES, Segmentation

FEW = 10
"""Fewer patients than this with a structure are named in the notes: their intervals are rough."""


def segmentation(
    truth: ArrayLike | Sequence[ArrayLike],
    prediction: ArrayLike | Sequence[ArrayLike],
    *,
    spacing: float | Sequence[float] | Sequence[Sequence[float]] | None = None,
    classes: Sequence[str] | Mapping[int, str] | None = None,
    groups: ArrayLike | None = None,
    tolerance: float | Mapping[str, float] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    n: int = 2000,
) -> Segmentation:
    """Dice, IoU, Hausdorff and surface distances, and volume error of every case and structure.

    Args:
        truth: (n, i, j[, k]) label maps, or a list of n maps whose shapes may differ, or of label Volumes; 0 is
            background, a negative value a voxel of unknown truth that is left out.
        prediction: label maps of the same shapes.
        spacing: millimeters between voxels along each axis, for all cases or one row a case; one number for isotropic
            voxels. None: that of the Volumes.
        classes: the structures' names, that of label 1 first (a first name "background" is passed over), or a dict
            from label to name. None: the labels that occur.
        groups: (n,) the patient of each case; by default every case is a patient of its own.
        tolerance: mm of outline difference that do not matter to ``nsd``; one for all, or by structure's name. None:
            the longest edge of a voxel.
        confidence: level of the intervals.
        seed: the same seed gives the same intervals.
        n: number of bootstrap resamples of the patients.

    Returns:
        A :class:`medlab.evaluate.Segmentation`. A structure that is in neither truth nor prediction is a correct
        absence: it is counted and left out of the averages, which a Dice of 1 for each healthy case would flatter. A
        structure that was missed or hallucinated has Dice 0 and infinite distances in the table of cases; in the means
        of distances it counts with the diagonal of its image, the longest distance possible there, as in the BraTS
        challenges: dropped, it would flatter too.

    Raises:
        ValueError: no cases, other numbers of cases or shapes, fractions, labels outside the classes, a spacing that
            does not fit, a confidence outside 0 to 1.

    Source: the choice of measures follows Maier-Hein et al., Nat Methods 2024;21:195 (Metrics Reloaded).
    """
    interval.check_level(confidence, n)
    pairs = _pairs(truth, prediction)
    steps = _spacings(spacing, truth, pairs)
    names = _names(classes, pairs)
    limit = _tolerances(tolerance, list(names.values()), steps)
    group, patients = inputs.patients(groups, len(pairs))
    rows = []
    for index, ((real, guess), step) in enumerate(zip(pairs, steps, strict=True)):
        for label, name in names.items():
            rows.append({"case": index, "class": name} | _measure(real, guess, label, step, limit[name]))
    cases = pd.DataFrame(rows)
    diagonal = np.array([np.sqrt(((np.array(real.shape) * step) ** 2).sum())
                         for (real, _), step in zip(pairs, steps, strict=True)])  # fmt: skip
    per_class, table = _summary(cases, list(names.values()), diagonal, group, patients, confidence, n, seed)
    failures = _failures(cases, list(names.values()))
    rank = pairs[0][0].ndim
    return Segmentation(
        table=table,
        per_class=per_class,
        cases=cases,
        failures=failures,
        classes=list(names.values()),
        n=len(pairs),
        patients=patients,
        confidence=confidence,
        tolerance=limit,
        unit="ml" if rank == 3 else "cm²",
        notes=_notes(cases, failures, per_class, group, limit, len(pairs)),
    )


def _measure(
    truth: NDArray[np.int64], prediction: NDArray[np.int64], label: int, spacing: NDArray, tolerance: float
) -> dict[str, Any]:
    """Every measure of one structure in one case."""
    ignored = truth < 0
    real, guess = truth == label, (prediction == label) & ~ignored
    both, first, second = (int(np.count_nonzero(mask)) for mask in (real & guess, real, guess))
    lines = surface.measure(real, guess, spacing, ignored)
    voxel = float(np.prod(spacing)) / (1000 if truth.ndim == 3 else 100)  # mm3 to ml, mm2 to cm2
    if first and second:
        state = "found" if both else "misplaced"
    else:
        state = "missed" if first else "hallucinated" if second else "absent"
    return {
        "state": state,
        "dice": overlap.dice_of(both, first, second),
        "iou": overlap.iou_of(both, first, second),
        "hd": lines.hausdorff(),
        "hd95": lines.hausdorff(95),
        "assd": lines.assd(),
        "nsd": lines.nsd(tolerance),
        "volume_error": (second - first) * voxel,
        "volume_error_percent": 100 * (second - first) / first if first else np.nan,
        "volume_truth": first * voxel,
        "volume_prediction": second * voxel,
    }


def _summary(
    cases: pd.DataFrame, names: list[str], diagonal: NDArray, group: NDArray[np.int64], patients: int,
    confidence: float, n: int, seed: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """The averages of each class, and over the classes."""
    shape = (len(diagonal), len(names) * len(METRICS))
    values = cases[list(METRICS)].to_numpy(np.float64, copy=True)
    values[(cases["state"] == "absent").to_numpy()] = np.nan
    ranked = values.reshape(shape)
    bounded = np.where(np.isinf(values), diagonal[cases["case"].to_numpy()][:, None], values).reshape(shape)
    each, over = average.averages(
        bounded, [KINDS[name] for name in METRICS], group, patients, ranked=ranked, blocks=len(names),
        confidence=confidence, n=n, seed=seed,
    )  # fmt: skip
    index = pd.MultiIndex.from_product([names, METRICS], names=["class", "metric"])
    return _table(each, index), _table(over, pd.Index(METRICS, name="metric"))


def _table(found: average.Averages, index: pd.Index) -> pd.DataFrame:
    columns = {
        "value": found.mean, "low": found.mean_limits[:, 0], "high": found.mean_limits[:, 1], "median": found.median,
        "median_low": found.median_limits[:, 0], "median_high": found.median_limits[:, 1], "n": found.n,
    }  # fmt: skip
    return pd.DataFrame(columns, index=index)


def _failures(cases: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    counts = pd.crosstab(cases["class"], cases["state"]).reindex(index=names, columns=list(STATES), fill_value=0)
    return counts.rename_axis(columns=None)


def _pairs(truth: Any, prediction: Any) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Label maps of truth and prediction, case by case."""
    if len(truth) != len(prediction):
        raise ValueError(
            f"Expected a prediction for each case of truth. Received {len(truth)} and {len(prediction)} label maps."
        )
    if not len(truth):
        raise ValueError("Expected at least one case. Received none; is the split empty?")
    pairs = []
    for index, (real, guess) in enumerate(zip(truth, prediction, strict=True)):
        real, guess = (_labels(one, what, index) for one, what in ((real, "truth"), (guess, "prediction")))
        if real.shape != guess.shape:
            raise ValueError(
                f"Expected truth and prediction of one shape. In case {index} they have {real.shape} and "
                f"{guess.shape}; bring them to one grid first (standardize.match)."
            )
        if guess.size and guess.min() < 0:
            raise ValueError(
                f"Expected labels of 0 or more in the prediction. Case {index} has {guess.min()}; only truth may be "
                "unknown."
            )
        pairs.append((real, guess))
    if len({real.ndim for real, _ in pairs}) > 1:
        raise ValueError("Expected all cases to be pictures or all to be volumes. Received both; judge them apart.")
    return pairs


def _labels(values: Any, what: str, index: int) -> NDArray[np.int64]:
    array = np.asarray(getattr(values, "array", values))
    if array.ndim not in (2, 3) or not array.size:
        raise ValueError(
            f"Expected label maps (i, j) or (i, j, k), one a case. The {what} of case {index} has shape {array.shape}; "
            "a single case needs a list around it, probabilities an argmax over the classes."
        )
    if array.dtype.kind not in "biuf" or (array.dtype.kind == "f" and not np.array_equal(array, np.rint(array))):
        raise ValueError(
            f"Expected whole numbers in label maps. The {what} of case {index} has fractions, NaN or type "
            f"{array.dtype}; probabilities need an argmax over the classes or a threshold."
        )
    return array.astype(np.int64)


def _spacings(spacing: Any, truth: Any, pairs: list) -> NDArray[np.float64]:
    """(n, rank) mm of every case."""
    rank = pairs[0][0].ndim
    if spacing is None:
        spacing = [getattr(one, "spacing", None) for one in truth]
        if any(one is None for one in spacing):
            raise ValueError(
                f"Expected spacing=, {rank} numbers in mm (or 1 for voxels as the unit): arrays do not know theirs."
            )
    if np.ndim(spacing) < 2:
        return np.tile(surface.millimeters(spacing, rank), (len(pairs), 1))
    if len(spacing) != len(pairs):
        raise ValueError(f"Expected one spacing for each of the {len(pairs)} cases. Received {len(spacing)}.")
    return np.stack([surface.millimeters(one, rank) for one in spacing])


def _names(classes: Any, pairs: list) -> dict[int, str]:
    """The name of each label."""
    present = sorted(set().union(*(np.unique(one).tolist() for pair in pairs for one in pair)) - {0})
    present = [label for label in present if label > 0]
    if classes is None:
        if not present:
            raise ValueError("Expected a structure to judge. All label maps are background; name the classes=[...].")
        return {label: f"label {label}" for label in present}
    if isinstance(classes, Mapping):
        names = {int(label): str(name) for label, name in classes.items() if int(label) != 0}
    else:
        listed = [str(name) for name in classes]
        if listed and listed[0].lower() == "background":
            listed = listed[1:]
        names = dict(enumerate(listed, start=1))
    if not names or len(set(names.values())) < len(names) or min(names) < 0:
        raise ValueError(f"Expected a name of its own for each structure, labels from 1. Received {classes!r}.")
    outside = [label for label in present if label not in names]
    if outside:
        known = ", ".join(f"{label} {name}" for label, name in names.items())
        raise ValueError(f"Expected labels among the classes, 0 background, {known}. Found too: {outside}.")
    return names


def _tolerances(tolerance: Any, names: list[str], steps: NDArray[np.float64]) -> dict[str, float]:
    if isinstance(tolerance, Mapping):
        if set(tolerance) != set(names):
            raise ValueError(f"Expected a tolerance for each of {names}. Received {dict(tolerance)}.")
        found = {name: float(tolerance[name]) for name in names}
    else:
        found = dict.fromkeys(names, float(steps.max() if tolerance is None else tolerance))
    if not all(value >= 0 for value in found.values()):
        raise ValueError(f"Expected a tolerance of 0 mm or more. Received {tolerance!r}.")
    return found


def _notes(
    cases: pd.DataFrame, failures: pd.DataFrame, per_class: pd.DataFrame, group: NDArray[np.int64],
    tolerance: dict[str, float], n: int,
) -> list[str]:  # fmt: skip
    notes = []
    for name, row in failures.iterrows():
        wrong = [f"{row[state]} {state}" for state in ("missed", "hallucinated", "misplaced") if row[state]]
        if wrong:
            notes.append(f"{name}: {', '.join(wrong)} in {count(n, 'case')}; such cases have Dice 0.")
        if row["absent"]:
            notes.append(f"{name}: rightly absent in {count(int(row['absent']), 'case')}, left out of the averages.")
        people = len(np.unique(group[cases.loc[(cases["class"] == name) & (cases["state"] != "absent"), "case"]]))
        if 0 < people < FEW:
            notes.append(f"{name}: only {people} patient{'s' * (people > 1)} with it, the intervals are rough.")
        elif not wrong and people:
            # Were the share of failures s, none would be seen in so many patients with a probability of (1 - s)^people.
            most = 1 - 0.05 ** (1 / people)
            told = f"no failure in {count(people, 'patient')}; their share may still be up to {most:.0%} (95 % limit)"
            notes.append(f"{name}: {told}.")
    if failures[["missed", "hallucinated"]].to_numpy().any():
        notes.append("Distances of a missed or hallucinated structure count as the image's diagonal in the means.")
    texts = sorted({f"{value:.3g} mm" for value in tolerance.values()})
    notes.append(f"Tolerance of the surface Dice: {', '.join(texts)}.")
    undefined = per_class.index[per_class["value"].isna() & (per_class.index.get_level_values(1) == "dice")]
    notes += [f"{name}: in no case, neither in truth nor in prediction." for name, _ in undefined]
    return notes
