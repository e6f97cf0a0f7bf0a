"""Images and label maps cut or extended by whole voxels: to a shape, or to what they show.

In: a Volume. Out: a new Volume whose affine tells where each voxel lies; no value is interpolated, so that
``medlab.standardize.restore`` brings every kept voxel back exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from medlab import geometry
from medlab.standardize import masks
from medlab.standardize.space import whole_shape
from medlab.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

Box = tuple[tuple[int, int], ...]


def crop_or_pad(volume: Volume, shape: int | Sequence[int], *, fill: float | None = None) -> Volume:
    """The middle of the image, cut or extended to ``shape``; no value is interpolated.

    Args:
        volume: image or labels.
        shape: voxels along each spatial axis, one number or one for each axis.
        fill: value of the added voxels: by default the image's smallest value, which is background in CT, MR,
            ultrasound and radiographs, and 0 in labels.

    Returns:
        A Volume of that shape and the old type. Where an odd number of voxels is cut or added, the odd one is cut
        at the far end or added at the near end.

    Raises:
        ValueError: a shape of the wrong length or below 1.
    """
    target = whole_shape(shape, volume.rank)
    array = volume.array
    if fill is None:
        fill = 0 if volume.kind == "labels" else array.min()
    offset = [(old - new) // 2 for old, new in zip(volume.shape, target, strict=True)]
    out = np.full((*target, *array.shape[volume.rank :]), fill, array.dtype)
    part = array[tuple(slice(max(o, 0), max(o, 0) + m) for o, m in zip(offset, target, strict=True))]
    out[tuple(slice(max(-o, 0), max(-o, 0) + n) for o, n in zip(offset, part.shape, strict=False))] = part
    affine = volume.affine @ geometry.translation([*offset, 0][:3])
    return volume.replace(array=out, affine=affine)


def crop_to_foreground(
    volume: Volume, mask: Volume | NDArray | str | None = "foreground", *, margin: float = 0
) -> Volume:
    """The smallest box around the foreground, and a margin; no value is interpolated.

    A recipe with this step cuts a mask by the box of its image. By hand: ``crop_to_foreground(labels, image_mask)``.

    Args:
        volume: image or labels.
        mask: what the box is drawn around: a label map or array of the volume's spatial shape (above 0 counts), or
            ``"foreground"``: :func:`medlab.standardize.foreground` of an image, and of labels their voxels above 0.
        margin: mm to keep on each side, 0 or above, rounded up to whole voxels and limited to the image. Where the
            geometry is only assumed, a voxel counts as the millimeters its affine says, mostly 1.

    Returns:
        A Volume of the old type. A constant image, and labels without any voxel above 0, come back as they are.

    Raises:
        ValueError: a mask that is empty or of another shape, a margin below 0, or NaN in an image.
    """
    return cut(volume, foreground_box(volume, mask, margin=margin))


def foreground_box(volume: Volume, mask: Volume | NDArray | str | None = "foreground", *, margin: float = 0) -> Box:
    """First voxel and the one after the last along each axis, of the box that :func:`crop_to_foreground` cuts."""
    if not (np.isfinite(margin) and margin >= 0):
        raise ValueError(f"Expected a margin of 0 mm or above. Received {margin}.")
    if isinstance(mask, str) and mask == "foreground" and volume.kind == "labels":
        inside = volume.array > 0
        inside = inside.any(-1) if inside.ndim > volume.rank else inside
        inside = inside if inside.any() else None
    else:
        inside = masks.inside(volume, mask)
    if inside is None:
        return tuple((0, side) for side in volume.shape)
    box = []
    for axis, (side, step) in enumerate(zip(volume.shape, volume.spacing, strict=True)):
        held = np.flatnonzero(inside.any(tuple(other for other in range(volume.rank) if other != axis)))
        more = int(np.ceil(margin / step - 1e-6))
        box.append((max(int(held[0]) - more, 0), min(int(held[-1]) + 1 + more, side)))
    return tuple(box)


def cut(volume: Volume, box: Box) -> Volume:
    """The voxels of a box, at their old world positions."""
    array = np.ascontiguousarray(volume.array[tuple(slice(*ends) for ends in box)])
    corner = [first for first, _ in box]
    return volume.replace(array=array, affine=volume.affine @ geometry.translation([*corner, 0][:3]))
