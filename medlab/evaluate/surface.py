"""Surface: how far the outlines of two masks lie apart, in millimeters.

In: two masks of one structure and the spacing of their voxels. Out: a distance, or the share of the outline that lies
close enough. The outline is the mask's voxels that touch what is not the mask, face to face; what lies outside the
image is not the mask. Distances run between voxel centers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.evaluate.overlap import pair


def hausdorff(a: ArrayLike, b: ArrayLike, spacing: float | Sequence[float], percentile: float | None = None) -> float:
    """The Hausdorff distance of two masks: how far the outlines lie apart at their worst place.

    Args:
        a: (i, j[, k]) mask of one structure: True or 1 inside.
        b: mask of the same shape; the order of the two does not matter.
        spacing: millimeters between voxels along each axis, or one number for all.
        percentile: 0 to 100, such as 95 for HD95: that percentile of the distances in place of the largest. It is
            taken from a to b and from b to a, and the larger of the two is returned.

    Returns:
        Millimeters. Two empty masks: 0. One empty mask: infinity, for there is no outline to measure to.

    Raises:
        ValueError: as :func:`medlab.evaluate.dice`; a spacing that does not fit; a percentile outside 0 to 100.

    Source: Huttenlocher et al., IEEE TPAMI 1993;15:850; Maier-Hein et al., Nat Methods 2024;21:195.
    """
    return measure(*pair(a, b), spacing).hausdorff(percentile)


def assd(a: ArrayLike, b: ArrayLike, spacing: float | Sequence[float]) -> float:
    """The average symmetric surface distance: the mean over all outline voxels of both masks.

    Args:
        a: (i, j[, k]) mask of one structure: True or 1 inside.
        b: mask of the same shape.
        spacing: millimeters between voxels along each axis, or one number for all.

    Returns:
        Millimeters. Two empty masks: 0. One empty mask: infinity.

    Raises:
        ValueError: as :func:`hausdorff`.

    Source: Maier-Hein et al., Nat Methods 2024;21:195.
    """
    return measure(*pair(a, b), spacing).assd()


def nsd(a: ArrayLike, b: ArrayLike, spacing: float | Sequence[float], tolerance: float) -> float:
    """The normalized surface Dice: the share of both outlines that lies within a tolerance of the other one.

    Args:
        a: (i, j[, k]) mask of one structure: True or 1 inside.
        b: mask of the same shape.
        spacing: millimeters between voxels along each axis, or one number for all.
        tolerance: millimeters, 0 or more, that do not matter; two observers' usual difference is a good choice.

    Returns:
        0 to 1. Two empty masks: 1. One empty mask: 0.

    Raises:
        ValueError: as :func:`hausdorff`; a negative tolerance.

    Source: Nikolov et al., J Med Internet Res 2021;23:e26151. Each outline voxel counts the same here, as in MONAI;
    the authors weight it by the area of its surface.
    """
    return measure(*pair(a, b), spacing).nsd(tolerance)


@dataclass(frozen=True, eq=False)
class Surfaces:
    """The distances between two outlines.

    Attributes:
        forward: (m,) mm from each outline voxel of the first mask to the nearest one of the second; infinite where the
            second is empty, no entry where the first is.
        backward: (m,) mm the other way.
    """

    forward: NDArray[np.float64]
    backward: NDArray[np.float64]

    def hausdorff(self, percentile: float | None = None) -> float:
        """The largest distance, or a percentile of them; see :func:`hausdorff`."""
        if percentile is not None and not 0 <= percentile <= 100:
            raise ValueError(f"Expected a percentile from 0 to 100, such as 95. Received {percentile!r}.")
        at = 100 if percentile is None else percentile
        ways = [_percentile(one, at) for one in (self.forward, self.backward) if len(one)]
        return max(ways, default=0.0)

    def assd(self) -> float:
        """The mean of all distances; see :func:`assd`."""
        both = np.concatenate([self.forward, self.backward])
        return float(both.mean()) if len(both) else 0.0

    def nsd(self, tolerance: float) -> float:
        """The share of distances within ``tolerance`` mm; see :func:`nsd`."""
        if not tolerance >= 0:
            raise ValueError(f"Expected a tolerance of 0 mm or more. Received {tolerance!r}.")
        both = np.concatenate([self.forward, self.backward])
        # A distance that is the tolerance but for the last bit of its square root is within it.
        return float((both <= tolerance * (1 + 1e-9)).mean()) if len(both) else 1.0


def measure(
    a: NDArray[np.bool_],
    b: NDArray[np.bool_],
    spacing: float | Sequence[float],
    ignored: NDArray[np.bool_] | None = None,
) -> Surfaces:
    """The distances between the outlines of two masks.

    Args:
        a: (i, j[, k]) booleans.
        b: of the same shape.
        spacing: millimeters along each axis, or one number.
        ignored: voxels of unknown truth. Where a mask touches them alone it has no outline: nobody knows where it
            ends.
    """
    spacing = millimeters(spacing, a.ndim)
    box = _box(a | b)
    if box is None:
        return Surfaces(np.zeros(0), np.zeros(0))
    # Nothing outside the box that holds both masks can be an outline or lie between two of them.
    a, b = a[box], b[box]
    if ignored is not None:
        ignored = ignored[box]
    first, second = outline(a, ignored), outline(b, ignored)
    return Surfaces(_distances(first, second, spacing), _distances(second, first, spacing))


def outline(mask: NDArray[np.bool_], ignored: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """The voxels of a mask that touch what is not the mask by a face; the image's end is not the mask."""
    from scipy.ndimage import binary_erosion

    edge = mask & ~binary_erosion(mask)
    if ignored is None or not ignored.any():
        return edge
    open_edge = mask & ~binary_erosion(mask | ignored)
    return open_edge if open_edge.any() else edge


def millimeters(spacing: float | Sequence[float], rank: int) -> NDArray[np.float64]:
    """The spacing along each axis, (rank,) mm.

    Raises:
        ValueError: another number of values, or one that is not above 0 and finite.
    """
    values = np.asarray(spacing, np.float64)
    if values.ndim == 0:
        values = np.full(rank, values)
    if values.shape != (rank,):
        raise ValueError(
            f"Expected a spacing of {rank} numbers, mm along each axis, or one for all. Received {np.shape(spacing)}: "
            f"{spacing}."
        )
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise ValueError(f"Expected a spacing above 0 mm. Received {spacing}.")
    return values


def _box(mask: NDArray[np.bool_]) -> tuple[slice, ...] | None:
    """The smallest box around a mask and one voxel more on each side; None where the mask is empty."""
    box = []
    for axis in range(mask.ndim):
        there = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if not len(there):
            return None
        box.append(slice(max(0, there[0] - 1), there[-1] + 2))
    return tuple(box)


def _distances(start: NDArray[np.bool_], end: NDArray[np.bool_], spacing: NDArray[np.float64]) -> NDArray[np.float64]:
    """From each voxel of ``start`` the distance to the nearest of ``end``."""
    from scipy.ndimage import distance_transform_edt

    if not end.any():
        return np.full(np.count_nonzero(start), np.inf)
    if not start.any():
        return np.zeros(0)
    return distance_transform_edt(~end, sampling=spacing)[start]


def _percentile(distances: NDArray[np.float64], at: float) -> float:
    """A percentile; infinite distances, which come alone, stay infinite where interpolation would give NaN."""
    return float(np.percentile(distances, at)) if np.isfinite(distances).all() else float("inf")
