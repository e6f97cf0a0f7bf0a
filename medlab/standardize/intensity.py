"""Intensities made comparable: CT windows, z-scores, percentiles, fixed ranges.

In: one image Volume. Out: a new float32 Volume on the same grid. Every statistic belongs to that one image and channel;
nothing here looks at a batch or at other images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medlab.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

PRESETS: dict[str, tuple[float, float]] = {
    "abdomen": (50, 400),
    "angiography": (300, 600),
    "bone": (400, 1800),
    "brain": (40, 80),
    "liver": (30, 150),
    "lung": (-600, 1500),
    "mediastinum": (50, 350),
    "soft-tissue": (40, 400),
    "spine": (50, 250),
    "stroke": (40, 40),
    "subdural": (75, 200),
    "temporal-bone": (600, 2800),
}
"""CT windows as (center, width) in HU, the values in common clinical use (Radiopaedia, "Windowing (CT)")."""


def window(
    volume: Volume, center: float | None = None, width: float | None = None, *, preset: str | None = None
) -> Volume:
    """A CT image seen through a window: ``center - width / 2`` becomes 0, ``center + width / 2`` becomes 1.

    Args:
        volume: image in HU (or any unit that center and width share).
        center: middle of the window, HU.
        width: extent of the window, HU, above 0.
        preset: a name of :data:`PRESETS` in place of center and width.

    Returns:
        float32 Volume, values in [0, 1]: what lies outside the window is clipped.

    Raises:
        ValueError: neither or both of preset and center with width, an unknown preset, a width that is not above 0, a
            label map, or NaN.

    Source: DICOM PS3.3, C.11.2.1.3.2 (LINEAR_EXACT).
    """
    if (preset is None) == (center is None and width is None):
        raise ValueError("Expected either preset=... or center and width. Give one of the two.")
    if preset is not None:
        if preset not in PRESETS:
            raise ValueError(f"No window preset {preset!r}. There are {', '.join(PRESETS)}.")
        center, width = PRESETS[preset]
    if center is None or width is None or not width > 0:
        raise ValueError(f"Expected a center and a width above 0. Received center={center}, width={width}.")
    return scale(volume, center - width / 2, center + width / 2)


def scale(volume: Volume, low: float | None = None, high: float | None = None) -> Volume:
    """The image with ``low`` mapped to 0 and ``high`` to 1, clipped.

    Args:
        volume: image.
        low: value that becomes 0.
        high: value that becomes 1. With neither, the full range: 0 to 255 for 8-bit images, 0 to 1 for booleans, and
            the image's own smallest and largest value (over all channels, which keeps colors) for other types.

    Returns:
        float32 Volume, values in [0, 1]; a constant image without given bounds becomes 0.

    Raises:
        ValueError: one bound without the other, bounds in the wrong order, a label map, or NaN.
    """
    array = _image(volume)
    if (low is None) != (high is None):
        raise ValueError(f"Expected both low and high, or neither. Received low={low}, high={high}.")
    if low is None:
        low, high = full_range(volume)
        if low == high:
            return volume.replace(array=np.zeros_like(array))
    if not low < high:
        raise ValueError(f"Expected low below high. Received low={low}, high={high}.")
    return volume.replace(array=_to_unit(array, low, high))


def full_range(volume: Volume) -> tuple[float, float]:
    """The values between which an image can lie: (0, 255) for 8 bits, (0, 1) for booleans, else its own extremes."""
    known = {np.dtype(np.uint8): (0.0, 255.0), np.dtype(bool): (0.0, 1.0)}.get(volume.array.dtype)
    return known or (float(volume.array.min()), float(volume.array.max()))


def percentile(volume: Volume, low: float = 0.5, high: float = 99.5) -> Volume:
    """The image between two of its own percentiles, mapped to 0 and 1 and clipped, channel by channel.

    Args:
        volume: image.
        low: percentile that becomes 0, in [0, 100).
        high: percentile that becomes 1, in (low, 100].

    Returns:
        float32 Volume, values in [0, 1]. Where both percentiles are the same value (an image that is nearly all
        background), the smallest and the largest value take their place; a constant channel becomes 0.

    Raises:
        ValueError: percentiles out of order or range, a label map, or NaN.
    """
    if not 0 <= low < high <= 100:
        raise ValueError(f"Expected 0 <= low < high <= 100. Received low={low}, high={high}.")
    array = _image(volume)
    out = np.empty_like(array)
    for source, target in _channels(array, out, volume.rank):
        bottom, top = (float(value) for value in np.percentile(source, (low, high)))
        if bottom == top:
            bottom, top = float(source.min()), float(source.max())
        target[...] = 0 if bottom == top else _to_unit(source, bottom, top)
    return volume.replace(array=out)


def zscore(volume: Volume, mask: Volume | NDArray | str | None = None) -> Volume:
    """The image minus its mean, divided by its standard deviation, channel by channel.

    Args:
        volume: image.
        mask: where mean and deviation are taken: a label map or array of the image's spatial shape (above 0 counts),
            ``"foreground"`` for :func:`foreground`, or None for the whole image. The result covers the whole image.

    Returns:
        float32 Volume, without unit; 0 everywhere in a channel that is constant inside the mask.

    Raises:
        ValueError: a mask that is empty or of another shape, a label map as image, or NaN.
    """
    array = _image(volume)
    inside = _inside(volume, mask)
    out = np.empty_like(array)
    for source, target in _channels(array, out, volume.rank):
        values = source if inside is None else source[inside]
        if values.min() == values.max():
            target[...] = 0
            continue
        mean, deviation = values.mean(dtype=np.float64), values.std(dtype=np.float64)
        target[...] = (source - np.float64(mean)) / np.float64(deviation)
    return volume.replace(array=out)


def clip(volume: Volume, low: float, high: float) -> Volume:
    """The image with values below ``low`` and above ``high`` set to these.

    Raises:
        ValueError: bounds in the wrong order, a label map, or NaN.
    """
    if not low < high:
        raise ValueError(f"Expected low below high. Received low={low}, high={high}.")
    return volume.replace(array=np.clip(_image(volume), np.float32(low), np.float32(high)))


def symmetric(volume: Volume) -> Volume:
    """An image in [0, 1] moved to [-1, 1], the range that networks start to learn in fastest: ``2 x - 1``."""
    return volume.replace(array=_image(volume) * np.float32(2) - np.float32(1))


def foreground(volume: Volume) -> Volume:
    """The mask of what is not background: above Otsu's threshold of the first channel's values.

    In MR the background is air and holds noise alone, so that statistics over the whole image depend on how much air
    the field of view shows. The threshold follows any change of scale and offset.

    Returns:
        uint8 labels on the same grid: 1 in the foreground. A constant image is all foreground.

    Raises:
        ValueError: a label map, or NaN.

    Source: N. Otsu, IEEE Trans. Syst. Man Cybern. 9(1), 1979, 62-66; 256 bins between the smallest and largest value.
    """
    array = _image(volume)
    first = array[..., 0] if array.ndim > volume.rank else array
    low, high = float(first.min()), float(first.max())
    if low == high:
        inside = np.ones(first.shape, np.uint8)
    else:
        inside = (first > low + otsu(_to_unit(first, low, high)) * (high - low)).astype(np.uint8)
    return volume.replace(array=inside, kind="labels")


def otsu(unit: NDArray) -> float:
    """Otsu's threshold of values in [0, 1], in (0, 1): the middle of the plateau that separates two classes best."""
    bins = (unit * np.float32(255)).astype(np.uint8).ravel()
    counts = np.zeros(256)
    for start in range(0, len(bins), 2**20):  # bincount widens to 8 bytes a voxel: piece by piece
        counts += np.bincount(bins[start : start + 2**20], minlength=256)
    levels = np.arange(256)
    below = counts.cumsum()[:-1]
    above = below[-1] + counts[-1] - below
    sum_below = (counts * levels).cumsum()[:-1]
    total = (counts * levels).sum()
    both = (below > 0) & (above > 0)
    gap = np.zeros(255)
    gap[both] = sum_below[both] / below[both] - (total - sum_below[both]) / above[both]
    between = below * above * gap**2
    best = np.flatnonzero(between >= between.max() * (1 - 1e-12))
    return float((best.mean() + 1) / 255)


def _image(volume: Volume) -> NDArray[np.float32]:
    """The array as float32, after making sure that it is an image without NaN."""
    if volume.kind != "image":
        raise ValueError("Expected an image. Received a label map, whose numbers are names and must stay as they are.")
    array = volume.array
    if array.dtype.kind != "f":
        return array.astype(np.float32)
    if not np.isfinite(array).all():
        raise ValueError("Expected finite values. The image holds NaN or infinity; mend it with medlab.clean.repair.")
    return array.astype(np.float32, copy=False)


def _to_unit(array: NDArray, low: float, high: float) -> NDArray[np.float32]:
    out = array - np.float32(low)
    out *= np.float32(1 / (high - low))
    return np.clip(out, 0, 1, out=out)


def _channels(array: NDArray, out: NDArray, rank: int) -> list[tuple[NDArray, NDArray]]:
    """Views of each channel of an array and of its result."""
    if array.ndim == rank:
        return [(array, out)]
    return [(array[..., c], out[..., c]) for c in range(array.shape[-1])]


def _inside(volume: Volume, mask: Volume | NDArray | str | None) -> NDArray[np.bool_] | None:
    if mask is None:
        return None
    if isinstance(mask, str):
        if mask != "foreground":
            raise ValueError(f"Expected a mask, 'foreground' or None. Received {mask!r}.")
        mask = foreground(volume)
    inside = np.asarray(mask.array if isinstance(mask, Volume) else mask) > 0
    if inside.shape != volume.shape:
        raise ValueError(f"Expected a mask of the image's shape {volume.shape}. Received {inside.shape}.")
    if not inside.any():
        raise ValueError("Expected a mask with at least one voxel above 0. It is empty; leave it out or draw it anew.")
    return inside
