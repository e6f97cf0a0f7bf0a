"""Overlap: how much of two masks is the same.

In: two masks of one structure, equal in shape. Out: a share from 0 to 1. Millimeters play no part here; see
:mod:`medlab.evaluate.surface`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def dice(a: ArrayLike, b: ArrayLike) -> float:
    """The Dice similarity of two masks: 2 |a and b| / (|a| + |b|).

    Args:
        a: (i, j[, k]) mask of one structure: True or 1 inside.
        b: mask of the same shape; the order of the two does not matter.

    Returns:
        0 to 1. Two empty masks agree: 1. One empty mask: 0.

    Raises:
        ValueError: masks of different shapes, or values other than 0 and 1.

    Source: Dice, Ecology 1945;26:297.
    """
    a, b = pair(a, b)
    return dice_of(int(np.count_nonzero(a & b)), int(np.count_nonzero(a)), int(np.count_nonzero(b)))


def iou(a: ArrayLike, b: ArrayLike) -> float:
    """The intersection over the union of two masks, the Jaccard index: |a and b| / |a or b| = dice / (2 - dice).

    Args:
        a: (i, j[, k]) mask of one structure: True or 1 inside.
        b: mask of the same shape.

    Returns:
        0 to 1. Two empty masks agree: 1. One empty mask: 0.

    Raises:
        ValueError: as :func:`dice`.

    Source: Jaccard, New Phytologist 1912;11:37.
    """
    a, b = pair(a, b)
    return iou_of(int(np.count_nonzero(a & b)), int(np.count_nonzero(a)), int(np.count_nonzero(b)))


def dice_of(both: int, first: int, second: int) -> float:
    """Dice from counts: voxels in both masks, in the first and in the second."""
    return 2 * both / (first + second) if first + second else 1.0


def iou_of(both: int, first: int, second: int) -> float:
    """Intersection over union from counts: voxels in both masks, in the first and in the second."""
    return both / (first + second - both) if first + second else 1.0


def pair(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Two masks as booleans of one shape with two or three axes.

    Raises:
        ValueError: shapes that differ, another number of axes, values other than 0 and 1.
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        raise ValueError(
            f"Expected two masks of one shape. Received {a.shape} and {b.shape}; bring them to one grid first "
            "(standardize.match)."
        )
    if a.ndim not in (2, 3):
        raise ValueError(
            f"Expected masks (i, j) or (i, j, k) of one case. Received shape {a.shape}; evaluate.segmentation judges "
            "many cases."
        )
    return _mask(a, "first"), _mask(b, "second")


def _mask(array: NDArray, name: str) -> NDArray[np.bool_]:
    if array.dtype == bool:
        return array
    if array.dtype.kind not in "iuf":
        raise ValueError(f"Expected a mask of 0 and 1. The {name} one is of type {array.dtype}.")
    inside = array == 1
    if not np.array_equal(inside, array != 0):
        other = array[(array != 0) & ~inside]
        raise ValueError(
            f"Expected a mask of 0 and 1. The {name} one has {other.flat[0]:g} among its values: choose one label "
            "(mask == 2), or a threshold for probabilities (p >= 0.5)."
        )
    return inside
