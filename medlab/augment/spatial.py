"""One fused resampling for flip, rotation, scale, shear, translation, elastic deformation and crop.

In: batches of arrays (n, i, j[, k], c), one matrix and perhaps one deformation a case. Out: new batches, each value
interpolated once: images linearly, masks by the nearest voxel.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from medlab.augment import deformation
from medlab.augment.threads import ENOUGH, each

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


def warp(
    x: NDArray,
    matrix: NDArray,
    *,
    bend: NDArray | None = None,
    shape: Sequence[int] | None = None,
    fill: str = "edge",
) -> NDArray[np.float32]:
    """Images seen through ``matrix``, and bent where ``bend`` says so, interpolated linearly and once.

    Args:
        x: (n, i, j[, k], c).
        matrix: (n, rank + 1, rank + 1), output voxel to input voxel.
        bend: (n, rank, cells + 3, ...) displacement in voxels of the control points of an elastic deformation, which
            comes before the matrix: an output voxel p shows the input at ``matrix (p + displacement(p))``.
        shape: (rank,) voxels of the output; those of the input by default.
        fill: what lies outside: ``"edge"`` repeats the outermost voxels, ``"minimum"`` is the channel's smallest value.

    Returns:
        (n, *shape, c) float32.
    """
    shape = x.shape[1:-1] if shape is None else tuple(shape)
    out = np.empty((len(x), *shape, x.shape[-1]), np.float32)
    if x.shape[-1] == 1:
        planes = [[np.ascontiguousarray(image[..., 0], np.float32)] for image in x]
    else:
        planes = [[np.ascontiguousarray(image[..., c], np.float32) for c in range(x.shape[-1])] for image in x]
    cases = list(range(len(x)))
    if bend is None and fill == "edge" and len(shape) == 3 and np.prod(shape) >= ENOUGH:
        for number in range(len(x)):
            before, after = _margins(x.shape[1:-1], shape, matrix[number])
            if np.prod(before + x.shape[1:-1] + after) <= 4 * planes[number][0].size:
                for channel, source in enumerate(planes[number]):
                    _resample(source, out[number, ..., channel], matrix[number], before, after)
                cases.remove(number)
    lows = [[float(plane.min()) for plane in case] if fill == "minimum" else [0.0] * len(case) for case in planes]

    def one(task: tuple[int, slice]) -> None:
        number, rows = task
        where = _where(matrix[number], None if bend is None else bend[number], shape, rows)
        for channel, source in enumerate(planes[number]):
            view = out[number, rows, ..., channel]
            _interpolate(source, view, where, order=1, fill=fill, outside=lows[number][channel])

    each(one, itertools.product(cases, _parts(shape)), out.size)
    return out


def warp_mask(
    mask: NDArray,
    matrix: NDArray,
    *,
    bend: NDArray | None = None,
    shape: Sequence[int] | None = None,
    fill: str = "edge",
) -> NDArray:
    """Masks (n, i, j[, k]) as in :func:`warp`, but nearest voxel, in their own type; ``"minimum"`` fills with 0."""
    shape = mask.shape[1:] if shape is None else tuple(shape)
    out = np.empty((len(mask), *shape), mask.dtype)
    source = mask.view(np.uint8) if mask.dtype == bool else mask
    target = out.view(np.uint8) if mask.dtype == bool else out

    def one(task: tuple[int, slice]) -> None:
        number, rows = task
        where = _where(matrix[number], None if bend is None else bend[number], shape, rows)
        _interpolate(source[number], target[number, rows], where, order=0, fill=fill, outside=0)

    each(one, itertools.product(range(len(mask)), _parts(shape)), out.size)
    return out


def _where(
    matrix: NDArray, bend: NDArray | None, shape: tuple[int, ...], rows: slice
) -> tuple[NDArray, NDArray] | NDArray[np.float32]:
    """For some rows of the output a matrix with its offset, or, where it is bent, coordinates."""
    if bend is not None:
        return deformation.coordinates(matrix, bend, shape, rows)
    rank = len(shape)
    return matrix[:rank, :rank], matrix[:rank, rank] + rows.start * matrix[:rank, 0]


def _interpolate(source: NDArray, out: NDArray, where: Any, *, order: int, fill: str, outside: float) -> None:
    from scipy import ndimage

    options = {"order": order, "prefilter": False, "mode": "nearest" if fill == "edge" else "constant", "cval": outside}
    if isinstance(where, tuple):
        ndimage.affine_transform(source, *where, output_shape=out.shape, output=out, **options)
    else:
        ndimage.map_coordinates(source, where, output=out, **options)


def _margins(source: Sequence[int], out: Sequence[int], matrix: NDArray) -> tuple[NDArray, NDArray]:
    """How many voxels the output looks beyond the source before the first and after the last, and one more."""
    corners = np.array(list(itertools.product(*((0, n - 1) for n in out))))
    seen = corners @ matrix[:3, :3].T + matrix[:3, 3]
    first, last = np.ceil(-seen.min(0)), np.ceil(seen.max(0) - source + 1)
    return np.maximum(first, 0).astype(int) + 1, np.maximum(last, 0).astype(int) + 1


def _resample(
    source: NDArray[np.float32], out: NDArray[np.float32], matrix: NDArray, before: NDArray, after: NDArray
) -> None:
    """As :func:`_interpolate` with a matrix, order 1 and repeated edges, by SimpleITK: twice as fast for a volume."""
    import SimpleITK as sitk  # noqa: N813

    image = sitk.GetImageFromArray(np.pad(source, list(zip(before, after, strict=True)), mode="edge"))
    image.SetOrigin((-before[::-1]).astype(float).tolist())  # SimpleITK counts axes from the last one
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(matrix[2::-1, 2::-1].ravel().tolist())
    transform.SetTranslation(matrix[2::-1, 3].tolist())
    made = sitk.Resample(
        image, out.shape[::-1], transform, sitk.sitkLinear, (0.0,) * 3, (1.0,) * 3, np.eye(3).ravel().tolist(), 0.0,
        sitk.sitkFloat32,
    )  # fmt: skip
    out[...] = sitk.GetArrayViewFromImage(made)


def _parts(shape: tuple[int, ...]) -> list[slice]:
    """Slices of the first axis with about 2**18 voxels each: they depend on the shape alone, not on the machine."""
    rows = max(1, 2**18 // max(1, int(np.prod(shape[1:]))))
    return [slice(start, min(start + rows, shape[0])) for start in range(0, shape[0], rows)]


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
