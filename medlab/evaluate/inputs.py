"""Truth and probabilities, checked once and brought into one form.

In: whatever came as ``y``, ``p``, ``groups`` and ``classes``. Out: a Task, and patients as numbers; or a ValueError
that says what came, what was expected and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class Task:
    """What is judged.

    Attributes:
        kind: ``"binary"``, ``"multi-class"`` (one class a case) or ``"multi-label"``.
        y: binary (n,) bool; multi-class (n,) int64; multi-label (n, classes) bool.
        p: float64, binary (n,); else (n, classes).
        classes: the class names.
    """

    kind: str
    y: NDArray
    p: NDArray[np.float64]
    classes: list[str]

    @property
    def n(self) -> int:
        """Number of cases."""
        return len(self.p)

    def present(self) -> NDArray[np.int64]:
        """(classes,) how many cases show each class."""
        if self.kind == "multi-label":
            return self.y.sum(axis=0)
        return np.bincount(self.y.astype(np.int64), minlength=len(self.classes))


def check(y: ArrayLike, p: ArrayLike, classes: Sequence[str] | None = None) -> Task:
    """The task that ``y`` and ``p`` describe.

    Args:
        y: (n,) class indices, or (n, classes) of 0 and 1 for a multi-label task.
        p: (n,) or (n, 1) probability of the positive class; (n, 2) of both; (n, classes) otherwise.
        classes: the names; by default the indices as text.

    Raises:
        ValueError: no cases, lengths that differ, NaN, labels outside the classes, values that are no probabilities.
    """
    y, p = _numbers(y, "y"), _numbers(p, "p").astype(np.float64)
    if p.ndim == 2 and p.shape[1] == 1:
        p = p[:, 0]
    if y.ndim == 2 and y.shape[1] == 1 and p.ndim == 1:
        y = y[:, 0]
    if y.ndim not in (1, 2) or p.ndim not in (1, 2) or (y.ndim == 2 and y.shape != p.shape):
        raise ValueError(
            "Expected y (n,) of class indices with p (n,) or (n, classes), or y (n, classes) of 0 and 1 with p of the "
            f"same shape. Received y {y.shape} and p {p.shape}."
        )
    if len(y) != len(p):
        raise ValueError(f"Expected one row of p for each y. Received {len(y)} labels and {len(p)} predictions.")
    if not len(y):
        raise ValueError("Expected at least one case. Received none; is the split empty?")
    if not np.array_equal(y, np.rint(y)):
        raise ValueError("Expected whole numbers in y, the class indices. Received fractions.")
    _check_probabilities(p)
    if y.ndim == 2:
        return _finish("multi-label", y, p, y.shape[1], classes, top=1)
    if p.ndim == 2:
        off = np.abs(p.sum(axis=1) - 1)
        if off.max() > 0.01:
            raise ValueError(
                f"Expected the classes' probabilities to sum to 1 in each case. Case {off.argmax()} sums to "
                f"{p[off.argmax()].sum():.3g}. Are they independent labels? Then give y as (n, classes) of 0 and 1."
            )
        if p.shape[1] > 2:
            return _finish("multi-class", y, p, p.shape[1], classes, top=p.shape[1] - 1)
        p = p[:, 1]
    return _finish("binary", y, p, 2, classes, top=1)


def patients(groups: ArrayLike | None, n: int) -> tuple[NDArray[np.int64], int]:
    """The patient of each case as a number, (n,) from 0, and how many patients there are; by default one a case.

    Raises:
        ValueError: not one entry a case, or a missing one.
    """
    if groups is None:
        return np.arange(n), n
    groups = np.asarray(groups)
    if groups.shape != (n,):
        raise ValueError(f"Expected one group for each of the {n} cases. Received shape {groups.shape}.")
    missing = np.array([entry is None or entry != entry for entry in groups.tolist()])
    if missing.any():
        raise ValueError(f"Expected a patient for every case. {missing.sum()} of {n} have none.")
    names, number = np.unique(groups.astype(str) if groups.dtype == object else groups, return_inverse=True)
    return number, len(names)


def floats(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """``values`` as float64, NaN and infinity too.

    Raises:
        ValueError: text, dates or complex numbers, or lists of unlike lengths.
    """
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "cSUMm":
            return array.astype(np.float64, copy=False)
    except (TypeError, ValueError):
        raise ValueError(
            f"Expected {name} as numbers. Received {type(values).__name__} with entries of unlike lengths, "
            "or that are no numbers."
        ) from None
    what = {"c": "complex numbers", "S": "text", "U": "text"}.get(array.dtype.kind, "dates or times")
    raise ValueError(f"Expected {name} as numbers. Received {what}.")


def _numbers(values: ArrayLike, name: str) -> NDArray:
    values = np.asarray(values)
    if values.dtype.kind not in "biuf":
        hint = "turn class names into indices (cases.y())" if name == "y" else "give probabilities"
        raise ValueError(f"Expected numbers in {name}. Received type {values.dtype}; {hint}.")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise ValueError(f"Expected finite numbers in {name}. {bad} of {values.size} are NaN or infinite.")
    return values


def _check_probabilities(p: NDArray[np.float64]) -> None:
    if p.size and (p.min() < -1e-6 or p.max() > 1 + 1e-6):
        raise ValueError(
            f"Expected probabilities from 0 to 1 in p. Received {p.min():.3g} to {p.max():.3g}. "
            "Are they logits? evaluate.predict gives probabilities."
        )


def _finish(kind: str, y: NDArray, p: NDArray, count: int, classes: Sequence[str] | None, *, top: int) -> Task:
    if y.min() < 0 or y.max() > top:
        what = "0 or 1" if top == 1 else f"0 to {top}"
        raise ValueError(f"Expected labels {what} in y for this p. Received {int(y.min())} to {int(y.max())}.")
    names = [str(index) for index in range(count)] if classes is None else [str(name) for name in classes]
    if len(names) != count:
        raise ValueError(f"Expected {count} class names for these predictions. Received {len(names)}: {names}.")
    truth = y.astype(np.int64) if kind == "multi-class" else y.astype(bool)
    return Task(kind, truth, np.clip(p, 0, 1), names)
