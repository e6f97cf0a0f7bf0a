"""Slices: a Volume and where to cut it in, an RGB picture out; NumPy alone, nothing is drawn or changed.

Pictures follow the radiological convention: the patient's right is on the picture's left, front and head are up, and
a sagittal cut looks with the face to the left. Pictures of rank 2 are shown as they are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab import geometry
from medlab.view.colors import NAN_COLOR, heat_colors, heat_share, heat_top, label_colors, whole
from medlab.volume import Volume

PLANES = ("axial", "coronal", "sagittal")

# Where the rows and the columns of a picture run to, and where the numbers of its slices grow to.
_ROWS_AND_COLUMNS = {"axial": "PL", "coronal": "IL", "sagittal": "IP"}
_NORMAL = {"axial": "S", "coronal": "A", "sagittal": "R"}
_WORLD = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}
_OPPOSITE = dict(zip("RLAPSI", "LRPAIS", strict=True))
_SAMPLE = 2**20


def slice_image(
    volume: Volume | ArrayLike,
    *,
    axis: str | int = "axial",
    index: int | None = None,
    window: tuple[float, float] | None = None,
    mask: Volume | ArrayLike | None = None,
    heat: Volume | ArrayLike | None = None,
    alpha: float = 0.5,
    heat_max: float | None = None,
    scale: int = 1,
) -> NDArray[np.uint8]:
    """One slice as an RGB picture, radiological: the patient's right on the left, front or head up.

    Args:
        volume: an image or a label map of any orientation. A bare array is a picture (row, column[, 1, 3 or 4]) or a
            volume (i, j, k[, c]) without known sides. Three channels of a picture are its colors; of other channels
            the first is shown.
        axis: ``"axial"``, ``"coronal"`` or ``"sagittal"``; or 0, 1, 2 for an axis of the array. A picture has none.
        index: the slice, from 0. With a name it counts toward the head, the front or the patient's right, whatever the
            orientation of the array; with a number as the array does. None: the middle.
        window: (center, width) in the image's unit; gray grows linearly from center - width / 2 to center + width / 2
            (DICOM PS3.3 C.11.2.1.3.2, LINEAR_EXACT). None: :func:`auto_window`. Label maps need none.
        mask: whole numbers of the volume's shape, 0 is background: outlined, and filled where there is no heat map.
        heat: numbers >= 0 of the volume's shape, colored by their share of ``heat_max``.
        alpha: 0 to 1, opacity of the mask's inside, and of the heat map from half its maximum upwards; below, the
            opacity falls to 0 in proportion, so that the image stays visible where there is little heat.
        heat_max: the value that has the last color. None: the largest of the heat map.
        scale: each pixel becomes ``scale`` x ``scale`` pixels; outlines stay thin.

    Returns:
        (rows * scale, columns * scale, 3) uint8. NaN has :data:`NAN_COLOR`; a constant image is mid-gray (128).

    Raises:
        ValueError: an unknown axis, an index outside, a width that is not above 0, an alpha outside 0 to 1, or a mask
            or heat map that does not fit the volume.
    """
    volume = as_volume(volume)
    if not 0 <= alpha <= 1:
        raise ValueError(f"Expected alpha between 0 and 1. Received {alpha}.")
    values = _cut(volume, volume.array, axis, index)
    picture = _colors(volume, values, auto_window(volume) if window is None else window)
    if heat is not None:
        numbers = fitting(heat, volume, "heat map")
        top = heat_top(numbers) if heat_max is None else heat_max
        share = heat_share(_cut(volume, numbers, axis, index), top)
        opacity = (alpha * np.minimum(1, 2 * share))[..., None]
        picture = picture * (1 - opacity) + heat_colors(share) * opacity
    labels = None if mask is None else whole(_cut(volume, fitting(mask, volume, "mask"), axis, index))
    return _finish(picture, labels, alpha if heat is None else 0.0, scale)


def projection(
    volume: Volume | ArrayLike,
    *,
    axis: str | int = "coronal",
    window: tuple[float, float] | None = None,
    mask: Volume | ArrayLike | None = None,
    heat: Volume | ArrayLike | None = None,
    alpha: float = 0.5,
    scale: int = 1,
) -> NDArray[np.uint8]:
    """The largest value along ``axis`` as an RGB picture: a maximum intensity projection of image, mask and heat map.

    Args:
        volume: as :func:`slice_image`; a picture is returned as it is.
        axis: the direction of the look, as :func:`slice_image`.
        window: (center, width) in the image's unit.
        mask: as :func:`slice_image`.
        heat: as :func:`slice_image`.
        alpha: as :func:`slice_image`.
        scale: as :func:`slice_image`.

    Returns:
        (rows * scale, columns * scale, 3) uint8.

    Raises:
        ValueError: as :func:`slice_image`.
    """
    volume = as_volume(volume)
    if volume.rank == 2:
        return slice_image(volume, window=window, mask=mask, heat=heat, alpha=alpha, scale=scale)
    along = _own_axis(volume, axis)[1]

    def flat(array: np.ndarray) -> np.ndarray:
        return _flip(volume, np.expand_dims(np.fmax.reduce(array, axis=along), along), axis, 0)

    picture = _colors(volume, flat(volume.array), auto_window(volume) if window is None else window)
    if heat is not None:
        numbers = fitting(heat, volume, "heat map")
        share = heat_share(flat(numbers), heat_top(numbers))
        opacity = (alpha * np.minimum(1, 2 * share))[..., None]
        picture = picture * (1 - opacity) + heat_colors(share) * opacity
    labels = None if mask is None else whole(flat(fitting(mask, volume, "mask")))
    return _finish(picture, labels, alpha if heat is None else 0.0, scale)


def auto_window(volume: Volume | ArrayLike) -> tuple[float, float]:
    """The (center, width) that ``info["window"]`` names, else the 0.5th to the 99.5th percentile of the finite values.

    The named one, in HU, is for values as the scanner gave them, whole numbers: what was standardized has other values.
    Of large volumes an even sample of about a million values is taken. Where the percentiles coincide the extremes
    are used; a constant image has a width of 1 and becomes mid-gray. Pictures in 8-bit color are shown as they are.
    """
    volume = as_volume(volume)
    if _is_color(volume) and volume.array.dtype == np.uint8:
        return 127.5, 255.0
    if volume.kind == "labels":
        return 0.5, 1.0
    named = volume.info.get("window")
    if named is not None and volume.array.dtype.kind in "iu":
        return float(named[0]), float(named[1])
    array = volume.array if _is_color(volume) or volume.array.ndim == volume.rank else volume.array[..., 0]
    flat = array.reshape(-1)
    # A step that shares no factor with the row length, so that the sample does not follow a column.
    step = flat.size // _SAMPLE
    sample = flat[:: step + 1 - step % 2] if step > 1 else flat
    sample = sample[np.isfinite(sample)].astype(np.float64)
    if not sample.size:
        return 0.5, 1.0
    low, high = np.percentile(sample, [0.5, 99.5])
    if low == high:
        low, high = float(sample.min()), float(sample.max())
    if low == high:
        return float(low), 1.0
    return float((low + high) / 2), float(high - low)


def slice_count(volume: Volume, axis: str | int = "axial") -> int:
    """How many slices there are along ``axis``; 1 for a picture."""
    return 1 if volume.rank == 2 else volume.shape[_own_axis(volume, axis)[1]]


def picture_shape(volume: Volume, axis: str | int = "axial") -> tuple[int, int]:
    """Rows and columns of a slice's picture."""
    if volume.rank == 2:
        return volume.shape
    plane = _own_axis(volume, axis)[0]
    return tuple(volume.shape[_axis_of(volume, letter)] for letter in _ROWS_AND_COLUMNS[plane])


def pixel_spacing(volume: Volume, axis: str | int = "axial") -> tuple[float, float]:
    """Millimeters from one row and from one column of the slice's picture to the next."""
    if volume.rank == 2:
        return volume.spacing
    plane = _own_axis(volume, axis)[0]
    return tuple(volume.spacing[_axis_of(volume, letter)] for letter in _ROWS_AND_COLUMNS[plane])


def sides(volume: Volume, axis: str | int = "axial") -> dict[str, str] | None:
    """What lies at the ``left``, ``right``, ``top`` and ``bottom`` of the slice's picture: R, L, A, P, S, I.

    Returns:
        The four letters, or None where the volume does not know its place.
    """
    if not volume.has_geometry:
        return None
    down, right = volume.orientation if volume.rank == 2 else _ROWS_AND_COLUMNS[_own_axis(volume, axis)[0]]
    return {"left": _OPPOSITE[right], "right": right, "top": _OPPOSITE[down], "bottom": down}


def position(volume: Volume, axis: str | int, index: int) -> str:
    """Where a slice lies in the world, such as ``"S 12.5 mm"``; empty where that is not known."""
    if not volume.has_geometry or volume.rank == 2:
        return ""
    plane, along, forward = _own_axis(volume, axis)
    center = [(n - 1) / 2 for n in volume.shape]
    center[along] = index if forward else volume.shape[along] - 1 - index
    letter = _NORMAL[plane]
    millimeters = geometry.apply(volume.affine, center)[_WORLD[letter]]
    return f"{letter if millimeters >= 0 else _OPPOSITE[letter]} {abs(millimeters):.1f} mm"


def telling_index(
    volume: Volume, axis: str | int, *, mask: Volume | ArrayLike | None = None, heat: Volume | ArrayLike | None = None
) -> int:
    """The slice with the most of the mask, else the hottest voxel, else the middle one; of equals the middle one."""
    if volume.rank == 2:
        return 0
    _, along, forward = _own_axis(volume, axis)
    others = tuple(other for other in range(3) if other != along)
    score = np.zeros(volume.shape[along])
    if mask is not None:
        score = (whole(fitting(mask, volume, "mask")) != 0).sum(axis=others)
    if not score.any() and heat is not None:
        numbers = fitting(heat, volume, "heat map")
        score = np.nan_to_num(np.fmax.reduce(np.fmax.reduce(numbers, axis=others[1]), axis=others[0]))
    if not score.any():
        return volume.shape[along] // 2
    best = np.flatnonzero((score if forward else score[::-1]) == score.max())
    return int(best[len(best) // 2])


def as_volume(volume: Volume | ArrayLike) -> Volume:
    """``volume`` itself, or a bare array as a Volume of unknown place.

    Three axes of which the last is 1, 3 or 4 long are a picture with channels.
    """
    if isinstance(volume, Volume):
        return volume
    array = np.asarray(volume)
    picture = array.ndim == 2 or (array.ndim == 3 and array.shape[-1] in (1, 3, 4))
    return Volume(array, info={"geometry": "assumed"}, rank=2 if picture else 3)


def fitting(overlay: Volume | ArrayLike, volume: Volume, what: str) -> np.ndarray:
    """The array of a mask or heat map, after making sure that it lies where the volume lies.

    Raises:
        ValueError: another shape, or another place in the patient.
    """
    if isinstance(overlay, Volume):
        known = overlay.has_geometry and volume.has_geometry
        tolerance = 0.01 * min(volume.spacing)
        if known and not np.allclose(overlay.affine, volume.affine, atol=tolerance, rtol=1e-3):
            raise ValueError(
                f"Expected a {what} in the same place as the volume. Their affines differ; "
                "bring it there with medlab.standardize.match(overlay, volume)."
            )
        overlay = overlay.array
    array = np.asarray(overlay)
    if array.ndim == volume.rank + 1 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.shape != volume.shape:
        raise ValueError(f"Expected a {what} of shape {volume.shape}. Received shape {array.shape}.")
    return array


def _is_color(volume: Volume) -> bool:
    return volume.rank == 2 and volume.kind == "image" and volume.channels in (3, 4)


def _axis_of(volume: Volume, letter: str) -> int:
    """The array's axis that runs along the world axis of ``letter``, either way."""
    return next(i for i, code in enumerate(volume.orientation) if _WORLD[code] == _WORLD[letter])


def _own_axis(volume: Volume, axis: str | int) -> tuple[str, int, bool]:
    """The name of the plane, the array's axis across it, and whether an index counts as the array does."""
    if isinstance(axis, str) and axis in PLANES:
        along = _axis_of(volume, _NORMAL[axis])
        return axis, along, volume.orientation[along] == _NORMAL[axis]
    if not isinstance(axis, str | bool) and axis in (0, 1, 2):
        code = volume.orientation[axis]
        return next(plane for plane in PLANES if _WORLD[_NORMAL[plane]] == _WORLD[code]), int(axis), True
    raise ValueError(f"Expected an axis of {PLANES} or 0, 1, 2. Received {axis!r}.")


def _cut(volume: Volume, array: np.ndarray, axis: str | int, index: int | None) -> np.ndarray:
    """The slice of an array that lies like the volume's, arranged for the picture: (row, column[, c])."""
    if volume.rank == 2:
        return array
    count = slice_count(volume, axis)
    index = count // 2 if index is None else index
    if not 0 <= index < count:
        raise ValueError(f"Expected a slice from 0 to {count - 1} along {axis!r}. Received {index}.")
    return _flip(volume, array, axis, index)


def _flip(volume: Volume, array: np.ndarray, axis: str | int, index: int) -> np.ndarray:
    plane, along, forward = _own_axis(volume, axis)
    part = array.take(index if forward or array.shape[along] == 1 else array.shape[along] - 1 - index, axis=along)
    down, right = _ROWS_AND_COLUMNS[plane]
    row, column = _axis_of(volume, down), _axis_of(volume, right)
    if row > column:
        part = part.swapaxes(0, 1)
    if volume.orientation[row] != down:
        part = part[::-1]
    return part if volume.orientation[column] == right else part[:, ::-1]


def _colors(volume: Volume, values: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """The slice's values as colors, (rows, columns, 3), 0 to 255."""
    color = _is_color(volume)
    if values.ndim == 3:
        values = values[..., :3] if color else values[..., 0]
    if volume.kind == "labels":
        return label_colors(whole(values))
    center, width = window
    if not width > 0:
        raise ValueError(f"Expected a window (center, width) with a width above 0. Received {tuple(window)}.")
    share = np.clip((values.astype(np.float64) - center) / width + 0.5, 0, 1)
    unknown = np.isnan(share)
    gray = np.rint(np.where(unknown, 0, share) * 255)
    if not color:
        gray, unknown = np.repeat(gray[..., None], 3, axis=-1), unknown[..., None]
    return np.where(unknown.any(axis=-1, keepdims=True), np.float64(NAN_COLOR), gray)


def _finish(picture: np.ndarray, labels: NDArray[np.int64] | None, alpha: float, scale: int) -> NDArray[np.uint8]:
    """The picture enlarged, with the mask filled and outlined, as uint8."""
    if labels is not None:
        opacity = (alpha * (labels != 0))[..., None]
        picture = picture * (1 - opacity) + label_colors(labels) * opacity
    picture = np.rint(picture).astype(np.uint8)
    if scale > 1:
        picture = picture.repeat(scale, axis=0).repeat(scale, axis=1)
    if labels is None:
        return picture
    if scale > 1:
        labels = labels.repeat(scale, axis=0).repeat(scale, axis=1)
    thickness = max(1, min(labels.shape) // 150)
    near = _near_another(labels, thickness)
    if thickness > 1:
        # A dark line outside, without which a bright outline is lost on bright tissue and on heat.
        picture[near & (labels == 0)] = 0
    edge = near & (labels != 0)
    picture[edge] = label_colors(labels[edge])
    return picture


def _near_another(labels: NDArray[np.int64], thickness: int) -> NDArray[np.bool_]:
    """Where a pixel has one of another label at most ``thickness`` rows or columns away."""
    edge = np.zeros(labels.shape, bool)
    for distance in range(1, min(thickness, min(labels.shape) - 1) + 1):
        rows = labels[distance:] != labels[:-distance]
        edge[distance:] |= rows
        edge[:-distance] |= rows
        columns = labels[:, distance:] != labels[:, :-distance]
        edge[:, distance:] |= columns
        edge[:, :-distance] |= columns
    return edge
