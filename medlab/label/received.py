"""Received: labels and probabilities, checked and brought into one form.

In: what a user gives. Out: (n,) class indices and (n, classes) probabilities.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Probabilities = NDArray[np.float64]


def probabilities(p: ArrayLike, *, multi_label: bool = False, axes: int = 1) -> Probabilities:
    """``p`` as (..., n, classes) float64; (..., n) of a positive class becomes two columns.

    Args:
        p: (..., n) probability of the positive class, or (..., n, classes), rows summing to 1 unless ``multi_label``.
        multi_label: the columns are independent labels.
        axes: axes before those of the classes: 1 for (n, classes), 2 for (draws, n, classes).

    Raises:
        ValueError: another shape, no case, values that are no probabilities, or rows that do not sum to 1.
    """
    values = np.asarray(p)
    form = "(n,) or (n, classes)" if axes == 1 else "(draws, n) or (draws, n, classes)"
    if values.dtype.kind not in "biuf" or values.ndim not in (axes, axes + 1) or values.size == 0:
        raise ValueError(
            f"Expected probabilities {form}, at least one case. Received shape {values.shape}, {values.dtype}."
        )
    values = values.astype(np.float64)
    if not np.isfinite(values).all() or values.min() < -1e-6 or values.max() > 1 + 1e-6:
        what = f"{values.min():.3g} to {values.max():.3g}" if np.isfinite(values).all() else "with NaN or infinity"
        raise ValueError(
            f"Expected probabilities from 0 to 1. Received values {what}; evaluate.predict gives probabilities."
        )
    values = np.clip(values, 0, 1)
    if values.ndim == axes + 1 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim == axes:
        return np.stack([1 - values, values], axis=-1)
    if not multi_label and np.abs(values.sum(axis=-1) - 1).max() > 1e-3:
        raise ValueError(
            "Expected rows that sum to 1. Received one that sums to "
            f"{values.sum(axis=-1).flat[np.abs(values.sum(axis=-1) - 1).argmax()]:.4g}; for labels of which a case may "
            "have several pass multi_label=True."
        )
    return values


def class_indices(y: ArrayLike, classes: int | None = None) -> NDArray[np.int64]:
    """``y`` as (n,) int64.

    Raises:
        ValueError: another shape, not whole numbers from 0, no label, or a class beyond ``classes``.
    """
    labels = np.asarray(y)
    whole = labels.dtype.kind in "biu" or (labels.dtype.kind == "f" and np.array_equal(labels, np.floor(labels)))
    if labels.ndim != 1 or not len(labels) or not whole or labels.min() < 0:
        raise ValueError(
            "Expected class indices (n,), whole numbers from 0, at least one. Received "
            f"shape {labels.shape}, {labels.dtype}; leave out cases without a label."
        )
    labels = labels.astype(np.int64)
    if classes is not None and labels.max() >= classes:
        raise ValueError(f"Expected class indices below {classes}. Received {labels.max()}.")
    return labels


def whole_number(value: int, least: int, name: str) -> int:
    """``value`` as int.

    Raises:
        ValueError: not a whole number, or below ``least``.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < least:
        raise ValueError(f"Expected {name} to be a whole number of at least {least}. Received {value!r}.")
    return int(value)
