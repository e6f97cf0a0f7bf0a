"""Images and label maps brought to one orientation, spacing, size or grid.

In: a Volume. Out: a new Volume whose affine tells where each new voxel lies. Images are interpolated linearly (and
smoothed first where voxels grow), labels take the nearest voxel, halfway between voxels by vote. In 2-D and 3-D.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from medlab import geometry
from medlab.standardize import separable, values, voting
from medlab.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FWHM = 8 * np.log(2)  # squared full width at half maximum of a Gaussian of variance 1


def orient(volume: Volume, axcodes: str = "RAS") -> Volume:
    """The same voxels with the axes in another order and direction; no value is interpolated.

    Args:
        volume: image or labels. One whose geometry is only assumed comes back as it is: nobody knows its sides.
        axcodes: where each axis shall point, one letter of R/L, A/P, S/I each: three for a volume; two for a
            picture, of the two world axes that it already shows.

    Returns:
        A Volume with ``orientation == axcodes``, each voxel at its old world position.

    Raises:
        ValueError: letters that name no three (two) different axes, or that a picture does not show.
    """
    wanted = [_world_axis(letter) for letter in axcodes.upper()] if isinstance(axcodes, str) else []
    axes = {axis for axis, _ in wanted}
    if len(wanted) != volume.rank or len(axes) != len(wanted) or -1 in axes:
        raise ValueError(
            f"Expected {volume.rank} letters of R/L, A/P, S/I, each world axis once. Received {axcodes!r}."
        )
    if not volume.has_geometry:
        return volume
    present = [_world_axis(letter) for letter in volume.orientation]
    if axes != {axis for axis, _ in present}:
        raise ValueError(f"This picture shows the axes {volume.orientation}. It cannot be turned to {axcodes!r}.")
    order = [next(v for v, (axis, _) in enumerate(present) if axis == world) for world, _ in wanted]
    # Columns of the step from new voxel indices to old ones.
    step = np.eye(4)
    step[: volume.rank, : volume.rank] = 0
    array = volume.array.transpose([*order, *range(volume.rank, volume.array.ndim)])
    for new, old in enumerate(order):
        same = wanted[new][1] == present[old][1]
        step[old, new] = 1 if same else -1
        if not same:
            step[old, 3] = volume.shape[old] - 1
            array = np.flip(array, new)
    return volume.replace(array=np.ascontiguousarray(array), affine=volume.affine @ step)


def resample(volume: Volume, spacing: float | Sequence[float]) -> Volume:
    """The image with another distance between voxels, over the same field of view around the same center.

    Args:
        volume: image or labels.
        spacing: mm, one number or one for each axis, above 0.

    Returns:
        A Volume of exactly that spacing; its shape is the field of view divided by the spacing, rounded, at least 1.
        Images become float32. Along axes whose voxels grow, images are first smoothed; labels stay labels (see
        :func:`match`).

    Raises:
        ValueError: a spacing of the wrong length or not above 0, or NaN in an image.
    """
    target = per_axis(spacing, values.require_volume(volume).rank, "a spacing in mm")
    factors = target / np.asarray(volume.spacing)
    shape = np.maximum(1, np.rint(np.asarray(volume.shape) / factors)).astype(int)
    return _regrid(volume, tuple(shape.tolist()), factors)


def resize(volume: Volume, shape: int | Sequence[int]) -> Volume:
    """The image with another number of voxels over exactly the same field of view; its spacing follows.

    Args:
        volume: image or labels.
        shape: voxels along each spatial axis, one number or one for each axis, at least 1.

    Returns:
        A Volume of that shape; images become float32 and are smoothed first where voxels grow (see :func:`match`).

    Raises:
        ValueError: a shape of the wrong length or below 1, or NaN in an image.
    """
    target = whole_shape(shape, values.require_volume(volume).rank)
    return _regrid(volume, target, np.asarray(volume.shape) / np.asarray(target))


def match(volume: Volume, reference: Volume, *, fill: float | None = None) -> Volume:
    """``volume`` on the grid of ``reference``: voxel by voxel at the same world positions.

    Args:
        volume: image or labels.
        reference: the Volume whose shape and affine the result gets.
        fill: value where the volume does not reach; by default its smallest value, and 0 for labels.

    Returns:
        A Volume on the reference's grid. Images become float32, interpolated linearly; along axes where the step grows
        from 1 to f voxels they are first smoothed by a Gaussian of variance (f^2 - 1) / (8 ln 2) voxels^2, which takes
        the point spread of the small voxels to that of the large ones (Cardoso et al., MICCAI 2015, "Scale factor
        point spread function matching"). Labels take the nearest voxel. Where a center lies exactly halfway between
        voxels, as all do when voxels double, the 2, 4 or 8 nearest vote, and tied labels win by turns: no structure
        is moved to one side. One that fills half of a new voxel or less can vanish.

    Raises:
        ValueError: a picture and a volume, two pictures that do not lie in one plane, a geometry that is only assumed
            on one side, or NaN in an image.
    """
    step = steps_between(volume, reference)
    if fill is None:
        fill = 0 if volume.kind == "labels" else float(np.min(volume.array))
    array = interpolate(volume, step, reference.shape, fill)
    return volume.replace(array=array, affine=reference.affine)


def steps_between(volume: Volume, reference: Volume) -> NDArray[np.float64]:
    """The affine from voxel indices of ``reference`` to those of ``volume``.

    Raises:
        ValueError: a picture and a volume, two pictures that do not lie in one plane, or a geometry that is only
            assumed on one side.
    """
    if volume.rank != reference.rank:
        raise ValueError(f"Expected two pictures or two volumes. Received rank {volume.rank} and {reference.rank}.")
    if volume.has_geometry != reference.has_geometry:
        raise ValueError(
            "Expected both with a known place in the patient, or both without. One of them is only assumed."
        )
    step = geometry.invert(volume.affine) @ reference.affine
    if volume.rank == 2:
        corners = np.array([[i, j, 0] for i in (0, reference.shape[0] - 1) for j in (0, reference.shape[1] - 1)])
        if np.abs(geometry.apply(step, corners)[:, 2] * geometry.spacing(volume.affine)[2]).max() > 1e-3:
            raise ValueError("Expected two pictures in one plane. Their affines place them in different planes.")
    return step


def same_grid(volume: Volume, mask: Volume) -> None:
    """Makes sure that image and mask share shape and place.

    Raises:
        ValueError: they do not.
    """
    if mask.shape != volume.shape:
        raise ValueError(
            f"Expected a mask of the image's shape {volume.shape}. Received {mask.shape}; "
            "bring it there with medlab.standardize.match(mask, volume)."
        )
    both = volume.has_geometry and mask.has_geometry
    if both and not np.allclose(mask.affine, volume.affine, rtol=0, atol=0.1 * min(volume.spacing)):
        raise ValueError(
            "Expected image and mask at the same place. Their affines differ by more than a tenth of a voxel; "
            "bring the mask there with medlab.standardize.match(mask, volume)."
        )


def _regrid(volume: Volume, shape: tuple[int, ...], factors: NDArray) -> Volume:
    """``volume`` with steps of ``factors`` old voxels and its center kept."""
    step = np.eye(4)
    for axis, factor in enumerate(factors):
        step[axis, axis] = factor
        step[axis, 3] = ((volume.shape[axis] - 1) - factor * (shape[axis] - 1)) / 2
    if shape == volume.shape and np.allclose(factors, 1, rtol=0, atol=1e-9):
        return volume
    array = interpolate(volume, step, shape, 0)
    return volume.replace(array=array, affine=volume.affine @ step)


def interpolate(
    volume: Volume, step: NDArray, shape: tuple[int, ...], fill: float | Sequence[float], *, smooth: bool = True
) -> NDArray:
    """Values at ``step @ index`` (old voxel indices) for each index of the new shape.

    Images on a grid along their own axes and within them are computed axis by axis, all else by SimpleITK. ``fill`` is
    one number, or one a channel; ``smooth`` is whether images are smoothed along steps that grow.
    """
    rank, array, labels = volume.rank, volume.array, volume.kind == "labels"
    old_type = array.dtype
    if labels:
        array = array.astype(np.uint8) if array.dtype == bool else array
    else:
        array = values.as_float32(array)
        sigmas = _widths(step[:rank, :rank]) if smooth else np.zeros(rank)
        factors, starts = np.diagonal(step)[:rank], step[:rank, 3]
        if _within(array.shape[:rank], shape, step[:rank, :rank], starts):
            return separable.along_axes(array, factors, starts, shape, sigmas)
        array = _smooth(array, sigmas)
    import SimpleITK

    # Unit spacing and identity direction: physical points are voxel indices, in SimpleITK's reversed axis order.
    backwards = slice(rank - 1, None, -1) if rank == 3 else slice(1, None, -1)
    matrix = step[:rank, :rank][backwards, backwards]
    transform = SimpleITK.AffineTransform(rank)
    transform.SetMatrix(matrix.ravel().tolist())
    resampler = SimpleITK.ResampleImageFilter()
    if np.prod(shape) < 1e5:
        resampler.SetNumberOfThreads(1)  # starting threads costs more than a picture's arithmetic
    resampler.SetSize([int(n) for n in shape[::-1]])
    resampler.SetInterpolator(SimpleITK.sitkNearestNeighbor if labels else SimpleITK.sitkLinear)

    def grid(channel: NDArray, value: float) -> NDArray:
        resampler.SetDefaultPixelValue(float(value))
        image = SimpleITK.GetImageFromArray(np.ascontiguousarray(channel))
        found = []
        for side in voting.sides(ties):
            transform.SetTranslation((step[:rank, 3] + side)[backwards].tolist())
            resampler.SetTransform(transform)
            found.append(SimpleITK.GetArrayFromImage(resampler.Execute(image)))
        return voting.decide(found, ties)

    # Nearest voxels: rounding a center that lies halfway between two would always choose the same side.
    ties = voting.halfway(step, shape) if labels else [None] * rank

    # Channel by channel: SimpleITK is several times slower on vectors than on numbers.
    channels = array.shape[rank:]
    fills = np.broadcast_to(fill, channels or (1,))
    parts = [grid(array[..., c] if channels else array, value) for c, value in enumerate(fills)]
    out = np.stack(parts, -1) if channels else parts[0]
    return out.astype(old_type if labels else np.float32, copy=False)


def _widths(step: NDArray) -> NDArray[np.float64]:
    """Standard deviation, in old voxels along each axis, of the Gaussian that suits steps that grow."""
    factors = np.linalg.norm(step, axis=1)
    sigmas = np.sqrt(np.maximum(factors**2 - 1, 0) / _FWHM)
    return np.where(sigmas < 0.05, 0, sigmas)


def _within(old: tuple[int, ...], new: tuple[int, ...], step: NDArray, starts: NDArray) -> bool:
    """Whether a grid lies along the old axes, forward, and at most half a voxel beyond the outermost old ones."""
    factors = np.diagonal(step)
    ends = starts + factors * (np.array(new) - 1)
    forward = np.array_equal(step, np.diag(factors)) and (factors > 0).all()
    return bool(forward and (starts >= -0.5).all() and (ends <= np.array(old) - 0.5).all())


def _smooth(array: NDArray[np.float32], sigmas: NDArray) -> NDArray[np.float32]:
    """The array after the Gaussian that keeps high frequencies from folding into coarser voxels."""
    if not sigmas.any():
        return array
    from scipy import ndimage

    return ndimage.gaussian_filter(array, [*sigmas, *[0] * (array.ndim - len(sigmas))], mode="nearest", truncate=3)


def _world_axis(letter: str) -> tuple[int, int]:
    for number, pair in enumerate(("RL", "AP", "SI")):
        if letter in pair:
            return number, pair.index(letter)
    return -1, 0


def per_axis(wanted: float | Sequence[float], rank: int, what: str) -> NDArray[np.float64]:
    """One number a spatial axis, after making sure that all are above 0."""
    try:
        numbers = np.asarray(wanted, np.float64)
    except (TypeError, ValueError):
        numbers = np.zeros(0)
    if isinstance(wanted, str | bytes | bool):
        numbers = np.zeros(0)
    if numbers.ndim == 0:
        numbers = np.repeat(numbers, rank)
    if numbers.shape != (rank,) or not (np.isfinite(numbers).all() and (numbers > 0).all()):
        raise ValueError(f"Expected {what} above 0, one number or {rank}. Received {wanted!r}.")
    return numbers


def whole_shape(wanted: int | Sequence[int], rank: int) -> tuple[int, ...]:
    """Voxels along each spatial axis, after making sure that they are whole numbers."""
    numbers = per_axis(wanted, rank, "a shape in voxels")
    if not np.array_equal(numbers, np.rint(numbers)):
        raise ValueError(f"Expected whole numbers of voxels. Received {wanted!r}.")
    return tuple(int(n) for n in numbers)
