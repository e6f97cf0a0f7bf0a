"""Elastic deformation: control points on a coarse grid, moved at random and joined by cubic B-splines.

In: how far each control point moves. Out: the place in the input image that each output voxel shows. It draws nothing
at random and interpolates no image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

FOLD = {2: 0.48, 3: 0.40}
"""Control points that move less than this part of their distance along each axis, in 2-D and 3-D, fold nothing.

Source: Y. Choi, S. Lee, Graphical Models 62(6), 2000, 411-427 (injectivity of uniform cubic B-spline functions).
"""


def basis(n: int, cells: int) -> NDArray[np.float32]:
    """The weight of each control point in each voxel of one axis.

    Args:
        n: voxels along the axis.
        cells: distances between control points along the axis; one control point more lies beyond each end.

    Returns:
        (n, cells + 3) float32; each row sums to 1.
    """
    place = np.linspace(0, cells, n) if n > 1 else np.full(1, cells / 2)
    cell = np.minimum(place.astype(int), cells - 1)
    t = place - cell
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], 1) / 6
    result = np.zeros((n, cells + 3), np.float32)
    np.put_along_axis(result, cell[:, None] + np.arange(4), weights.astype(np.float32), 1)
    return result


def coordinates(matrix: NDArray, bend: NDArray, shape: Sequence[int], rows: slice = slice(None)) -> NDArray[np.float32]:
    """Where the output voxels lie in the input: ``matrix`` applied to each voxel's own place plus its displacement.

    Args:
        matrix: (rank + 1, rank + 1), output voxel to input voxel.
        bend: (rank, cells + 3, ...) displacement of each control point in voxels of the output.
        shape: (rank,) voxels of the output.
        rows: part of the output's first axis.

    Returns:
        (rank, rows, ...) float32 in voxels of the input.
    """
    rank, cells = len(shape), bend.shape[1] - 3
    linear = matrix[:rank, :rank]
    # The matrix is applied to the few control points in place of all voxels.
    control = np.tensordot(linear, bend, 1).astype(np.float32)
    weights = [basis(n, cells) for n in shape]
    weights[0] = weights[0][rows]
    along = [np.arange(n, dtype=np.float64) for n in shape]
    along[0] = along[0][rows]
    result = np.empty((rank, *(len(one) for one in along)), np.float32)
    for axis in range(rank):
        part = np.tensordot(weights[0], control[axis], 1)
        if rank == 3:
            part = np.matmul(weights[1], part)
        np.matmul(part, weights[-1].T, out=result[axis])
        plane = linear[axis, -1] * along[-1] + matrix[axis, rank]
        if rank == 3:
            plane = linear[axis, 1] * along[1][:, None] + plane
            result[axis] += (linear[axis, 0] * along[0])[:, None, None].astype(np.float32)
        else:
            plane = linear[axis, 0] * along[0][:, None] + plane
        result[axis] += plane.astype(np.float32)
    return result
