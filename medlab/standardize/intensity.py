"""Intensities made comparable: CT windows, z-scores, percentiles, fixed ranges.

In: one image Volume. Out: a new float32 Volume on the same grid. Every statistic belongs to that one image and channel,
or is given as a number; nothing here looks at a batch or at other images.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

import numpy as np

from medlab.standardize import masks
from medlab.standardize.values import channels, finite, full_range, to_unit
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
            wanted = str(preset).lower().replace(" ", "-").replace("_", "-")
            near = [name for name in PRESETS if name.startswith(wanted)] or get_close_matches(wanted, PRESETS)
            hint = f" Did you mean {near[0]!r}?" if near and preset else ""
            raise ValueError(f"No window preset {preset!r}. There are {', '.join(PRESETS)}.{hint}")
        center, width = PRESETS[preset]
    if center is None or width is None or not (np.isfinite(center) and np.isfinite(width) and width > 0):
        raise ValueError(
            f"Expected a center and a width above 0, both finite. Received center={center}, width={width}."
        )
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
    array = finite(volume)
    if (low is None) != (high is None):
        raise ValueError(f"Expected both low and high, or neither. Received low={low}, high={high}.")
    if low is None:
        low, high = full_range(volume)
        if low == high:
            return volume.replace(array=np.zeros_like(array))
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(f"Expected finite bounds, low below high. Received low={low}, high={high}.")
    return volume.replace(array=to_unit(array, low, high))


def percentile(
    volume: Volume, low: float = 0.5, high: float = 99.5, mask: Volume | NDArray | str | None = None
) -> Volume:
    """The image between two of its own percentiles, mapped to 0 and 1 and clipped, channel by channel.

    Args:
        volume: image.
        low: percentile that becomes 0, in [0, 100).
        high: percentile that becomes 1, in (low, 100].
        mask: where the percentiles are taken, as in :func:`zscore`. The result covers the whole image.

    Returns:
        float32 Volume, values in [0, 1]. Where both percentiles are the same value (an image that is nearly all
        background), the smallest and the largest value inside the mask take their place; a channel that is constant
        there, a mask of one voxel among them, becomes 0 everywhere.

    Raises:
        ValueError: percentiles out of order or range, a mask as in :func:`zscore`, a label map, or NaN.
    """
    if not 0 <= low < high <= 100:
        raise ValueError(f"Expected 0 <= low < high <= 100. Received low={low}, high={high}.")
    array = finite(volume)
    inside = masks.inside(volume, mask)
    out = np.empty_like(array)
    for source, target in channels(array, out, volume.rank):
        values = source if inside is None else source[inside]
        bottom, top = (float(value) for value in np.percentile(values, (low, high)))
        if bottom == top:
            bottom, top = float(values.min()), float(values.max())
        target[...] = 0 if bottom == top else to_unit(source, bottom, top)
    return volume.replace(array=out)


def zscore(volume: Volume, mask: Volume | NDArray | str | None = None) -> Volume:
    """The image minus its mean, divided by its standard deviation, channel by channel.

    Args:
        volume: image.
        mask: where mean and deviation are taken: a label map or array of the image's spatial shape (above 0 counts),
            ``"foreground"`` for :func:`medlab.standardize.foreground`, or None for the whole image. The result covers
            the whole image.

    Returns:
        float32 Volume, without unit; 0 everywhere in a channel that is constant inside the mask, as any is inside a
        mask of one voxel.

    Raises:
        ValueError: a mask that is empty or of another shape, a label map as image, or NaN.
    """
    array = finite(volume)
    inside = masks.inside(volume, mask)
    out = np.empty_like(array)
    for source, target in channels(array, out, volume.rank):
        values = source if inside is None else source[inside]
        if values.min() == values.max():
            target[...] = 0
            continue
        mean, deviation = values.mean(dtype=np.float64), values.std(dtype=np.float64)
        target[...] = (source - np.float64(mean)) / np.float64(deviation)
    return volume.replace(array=out)


def fixed_zscore(
    volume: Volume, mean: float, deviation: float, *, low: float | None = None, high: float | None = None
) -> Volume:
    """The image clipped to ``low`` and ``high``, minus ``mean``, divided by ``deviation``: one scale for all images.

    The numbers are measured once, on the training cases; ``recipe("auto", cases)`` does so for CT, whose unit means
    the same in every image.

    Args:
        volume: image, in the unit of the numbers.
        mean: value that becomes 0.
        deviation: what becomes 1, above 0.
        low: lower values are set to it; None for no bound.
        high: higher values are set to it; None for no bound.

    Returns:
        float32 Volume, without unit. A constant image becomes a constant.

    Raises:
        ValueError: a deviation that is not above 0, bounds in the wrong order, a label map, or NaN.

    Source: Isensee et al. 2021, Nature Methods 18, 203-211 (nnU-Net's normalization of CT).
    """
    if not (np.isfinite(mean) and np.isfinite(deviation) and deviation > 0):
        raise ValueError(f"Expected a mean and a deviation above 0. Received {mean} and {deviation}.")
    bottom, top = -np.inf if low is None else low, np.inf if high is None else high
    if not bottom < top:
        raise ValueError(f"Expected low below high. Received low={low}, high={high}.")
    out = np.clip(finite(volume), np.float32(bottom), np.float32(top))
    out -= np.float32(mean)
    out /= np.float32(deviation)
    return volume.replace(array=out)


def clip(volume: Volume, low: float, high: float) -> Volume:
    """The image with values below ``low`` and above ``high`` set to these.

    Raises:
        ValueError: bounds in the wrong order, a label map, or NaN.
    """
    if not low < high:
        raise ValueError(f"Expected low below high. Received low={low}, high={high}.")
    return volume.replace(array=np.clip(finite(volume), np.float32(low), np.float32(high)))


def symmetric(volume: Volume) -> Volume:
    """An image in [0, 1] moved to [-1, 1], the range that networks start to learn in fastest: ``2 x - 1``."""
    return volume.replace(array=finite(volume) * np.float32(2) - np.float32(1))
