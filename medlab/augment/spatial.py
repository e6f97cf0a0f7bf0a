"""One fused resampling for flip, rotation, scale, shear and translation.

In: batches of arrays (n, i, j[, k], c) and one matrix a case. Out: new batches, each value interpolated once: images
linearly, masks by the nearest voxel.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

FILLS = ("edge", "minimum")


def matrices(
    shape: Sequence[int],
    *,
    flip: NDArray[np.bool_],
    angles: NDArray,
    scale: NDArray,
    shear: NDArray,
    shift: NDArray,
    spacing: Sequence[float] | None = None,
) -> NDArray[np.float64]:
    """The matrices that take an output voxel to the input voxel it shows, about the middle of the image.

    Args:
        shape: voxels along the 2 or 3 spatial axes.
        flip: (n, rank) which axes are mirrored.
        angles: (n, 1) in 2-D or (n, 3) in 3-D, radians: about k in 2-D; about i, then j, then k in 3-D. A positive
            angle about k turns what lies on axis i towards axis j.
        scale: (n, rank) above 0: 2 makes everything twice as large.
        shear: (n, rank * (rank - 1)): how far axis a moves with axis b, by pairs (a, b) in row order.
        shift: (n, rank) in voxels: 3 moves everything by 3 voxels along that axis.
        spacing: mm between voxels, so that a rotation of long voxels stays one; None for cubes.

    Returns:
        (n, rank + 1, rank + 1) float64.
    """
    rank, n = len(shape), len(scale)
    linear = _rotation(angles, rank)
    skew = np.tile(np.eye(rank), (n, 1, 1))
    skew[:, ~np.eye(rank, dtype=bool)] = shear
    linear = linear @ skew @ (np.eye(rank) * (scale * np.where(flip, -1.0, 1.0))[:, None, :])
    size = np.ones(rank) if spacing is None else np.asarray(spacing, np.float64)
    linear = linear * size / size[:, None]  # voxels to mm, turn, and back
    center = (np.asarray(shape) - 1) / 2
    result = np.tile(np.eye(rank + 1), (n, 1, 1))
    inverse = np.linalg.inv(linear)
    result[:, :rank, :rank] = inverse
    result[:, :rank, rank] = center - np.einsum("nab,nb->na", inverse, center + shift)
    return result


def warp(x: NDArray, matrix: NDArray, *, fill: str = "edge") -> NDArray[np.float32]:
    """Images seen through ``matrix``, interpolated linearly.

    Args:
        x: (n, i, j[, k], c).
        matrix: (n, rank + 1, rank + 1), output voxel to input voxel.
        fill: what lies outside: ``"edge"`` repeats the outermost voxels, ``"minimum"`` is the channel's smallest value.

    Returns:
        float32 of the same shape.
    """
    from scipy import ndimage

    out = np.empty(x.shape, np.float32)

    def one(number: int) -> None:
        for channel in range(x.shape[-1]):
            source = np.ascontiguousarray(x[number, ..., channel], np.float32)
            plane = np.empty(source.shape, np.float32)
            mode = {"mode": "nearest"} if fill == "edge" else {"mode": "constant", "cval": float(source.min())}
            ndimage.affine_transform(source, matrix[number], output=plane, order=1, prefilter=False, **mode)
            out[number, ..., channel] = plane

    _each(one, len(x), x.size)
    return out


def warp_mask(mask: NDArray, matrix: NDArray, *, fill: str = "edge") -> NDArray:
    """Masks (n, i, j[, k]) seen through ``matrix``, nearest voxel, in their own type; ``"minimum"`` fills with 0."""
    from scipy import ndimage

    out = np.empty_like(mask)
    mode = {"mode": "nearest"} if fill == "edge" else {"mode": "constant", "cval": 0}
    source = mask.astype(np.uint8) if mask.dtype == bool else mask

    def one(number: int) -> None:
        out[number] = ndimage.affine_transform(source[number], matrix[number], order=0, prefilter=False, **mode)

    _each(one, len(mask), mask.size)
    return out


def _each(work: Callable[[int], None], n: int, voxels: int) -> None:
    """Calls ``work`` for each case, in threads where that pays: SciPy's loops leave the interpreter free meanwhile."""
    cores = min(os.cpu_count() or 1, n, 8)
    if voxels < 200_000 or cores < 2:
        for number in range(n):
            work(number)
        return
    with ThreadPoolExecutor(cores) as pool:
        parts = [range(first, n, cores) for first in range(cores)]
        list(pool.map(lambda part: [work(number) for number in part], parts))


def _rotation(angles: NDArray, rank: int) -> NDArray[np.float64]:
    """(n, rank, rank) rotation matrices."""
    if rank == 2:
        return _turn(angles[:, 0], 2, 0, 1)
    about_i, about_j, about_k = _turn(angles[:, 0], 3, 1, 2), _turn(angles[:, 1], 3, 2, 0), _turn(angles[:, 2], 3, 0, 1)
    return about_k @ about_j @ about_i


def _turn(angle: NDArray, rank: int, a: int, b: int) -> NDArray[np.float64]:
    """Rotations that turn axis ``a`` towards axis ``b``."""
    matrix = np.tile(np.eye(rank), (len(angle), 1, 1))
    matrix[:, a, a] = matrix[:, b, b] = np.cos(angle)
    matrix[:, b, a] = np.sin(angle)
    matrix[:, a, b] = -np.sin(angle)
    return matrix
