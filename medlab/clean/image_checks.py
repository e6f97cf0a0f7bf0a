"""Faults of one image: values, slices, contrast, noise, range.

In: one image Volume. Out: tuples (fault, severity, where, what to do). Each threshold is stated here with its reason.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from medlab.clean.repairs import few_levels, lost_slices, repeated_slices
from medlab.volume import Volume

Fault = tuple[str, str, str, str]

CLIPPED = 0.02
"""Part of the voxels at the largest value from which an image counts as clipped. Scanners use the full range for a few
voxels; skin markers and annotations of a radiograph stay near 1 %; overexposure burns whole regions."""

FLAT = 0.05
"""Part of the full range that the middle 98 % of the values must span; scikit-image's is_low_contrast uses the same."""

ROSE = 5.0
"""Smallest ratio of the middle 98 % of the values to the noise. A. Rose (J. Opt. Soc. Am. 38, 1948, 196-208) found that
a difference must be about five times the noise to be seen for certain."""

AIR = -1024.0
"""Smallest value of CT numbers stored with 12 bits (DICOM PS3.3, C.11.1.1.2); below it lies padding, not tissue."""

DENSEST = 32767.0
"""Largest CT number of an extended scale of 16 bits (metal); above it, the values are no HU."""


def image_faults(volume: Volume) -> Iterator[Fault]:
    """Every fault of one image; none for a label map."""
    if volume.kind == "labels":
        return
    yield from not_finite(volume)
    yield from recorded(volume)
    if volume.rank == 3 and not few_levels(volume.array):
        yield from slices(volume)
    finite = np.isfinite(volume.array)
    if not finite.any():
        return
    if not finite.all():
        volume = volume.replace(array=np.where(finite, volume.array, np.nan))
    flat = list(constant(volume))
    yield from flat
    if not flat:
        yield from wrong_range(volume)
        if not few_levels(volume.array):  # a drawing or a mask has neither contrast nor noise
            yield from clipped(volume)
            yield from low_contrast(volume)
            yield from low_snr(volume)


def not_finite(volume: Volume) -> Iterator[Fault]:
    """``nan``: values that are NaN or infinite."""
    array = volume.array
    if array.dtype.kind == "f":
        count = int(array.size - np.count_nonzero(np.isfinite(array)))
        if count:
            yield "nan", "error", f"{count} of {array.size} values", "Mend with clean.repair."


def recorded(volume: Volume) -> Iterator[Fault]:
    """What the reader of the file noted in ``info["repairs"]``: slices that were missing or unevenly spaced."""
    for note in volume.info.get("repairs", ()):
        text = str(note).lower()
        if "unevenly spaced" in text:
            yield "uneven-spacing", "warning", str(note), "The file has slices at uneven steps: look for lost slices."
        elif "(missing slices)" in text:
            yield "missing-slice", "warning", str(note), "Look for the lost files; the filled slices are guesses."


def slices(volume: Volume) -> Iterator[Fault]:
    """``missing-slice`` and ``duplicate-slice`` along each axis."""
    for axis, letter in enumerate("ijk"):
        lost = lost_slices(volume.array, axis)
        if lost:
            yield "missing-slice", "error", f"{letter} = {_some(lost)}", "Interpolate with clean.repair."
        twice = repeated_slices(volume.array, axis)
        if twice:
            advice = "One of the two was lost or read twice: look at the source, or interpolate with clean.repair."
            yield "duplicate-slice", "error", f"{letter} = {_some(twice)} (as the slice before)", advice


def constant(volume: Volume) -> Iterator[Fault]:
    """``constant``: one value everywhere (values that are not finite left aside)."""
    array = volume.array
    if array.dtype.kind == "f":
        array = array[np.isfinite(array)]
    if array.size and array.min() == array.max():
        yield "constant", "error", f"all values are {array.min():g}", "Find the source again: the image shows nothing."


def clipped(volume: Volume) -> Iterator[Fault]:
    """``clipped``: too many voxels at the largest value."""
    array = volume.array
    top = np.nanmax(array)
    part = np.count_nonzero(array == top) / array.size
    if part > CLIPPED:
        where = f"{part:.1%} of the values are {top:g}, the largest"
        yield "clipped", "warning", where, "Export it again with a wider window, or keep it apart."


def low_contrast(volume: Volume) -> Iterator[Fault]:
    """``low-contrast``: nearly all values lie in a small part of the range."""
    array = volume.array
    low, high = np.nanpercentile(array, (1, 99))
    full = 255.0 if array.dtype == np.uint8 else float(np.nanmax(array)) - float(np.nanmin(array))
    if high - low < FLAT * full:
        where = f"98 % of the values lie between {low:g} and {high:g}, {(high - low) / full:.1%} of the range"
        yield "low-contrast", "warning", where, "Standardize by percentile, not by range; look for extreme voxels."


def low_snr(volume: Volume) -> Iterator[Fault]:
    """``low-snr``: the values span less than five times the noise of the image."""
    low, high = np.nanpercentile(volume.array, (1, 99))
    noise = noise_level(volume)
    if noise > 0 and high - low < ROSE * noise:
        where = f"98 % of the values span {(high - low) / noise:.1f} times the noise"
        yield "low-snr", "warning", where, "Little can be seen in it: acquire again, average, or keep it apart."


def noise_level(volume: Volume) -> float:
    """Standard deviation of the noise, in units of the image.

    The response to a mask that ignores constants and slopes is noise alone in most places; its median absolute value
    over at most nine planes (i, j) is turned into a deviation.

    Source: J. Immerkaer, Comput. Vis. Image Underst. 64(2), 1996, 300-302, with the median (MAD / 0.6745) in place of
    the mean, which edges would raise.
    """
    array = volume.array[..., 0] if volume.array.ndim > volume.rank else volume.array
    if min(array.shape[:2]) < 3:
        return 0.0
    if volume.rank == 3:
        picked = np.unique(np.linspace(0, array.shape[2] - 1, min(9, array.shape[2])).round().astype(int))
        array = array[:, :, picked]
    plane = array.astype(np.float64)
    across = plane[2:] - 2 * plane[1:-1] + plane[:-2]
    response = np.abs(across[:, 2:] - 2 * across[:, 1:-1] + across[:, :-2])
    # Air that was set to one value, the smallest, has no noise to measure.
    measured = np.isfinite(response) & (plane[1:-1, 1:-1] != np.nanmin(plane))
    response = response[measured]
    return float(np.median(response) / (0.6745 * 6)) if response.size else 0.0


def wrong_range(volume: Volume) -> Iterator[Fault]:
    """``wrong-range``: values that the modality cannot have. Standardized images (``info["recipe"]``) are left out."""
    if "recipe" in volume.info or volume.modality is None:
        return
    modality = volume.modality.upper()
    low, high = float(np.nanmin(volume.array)), float(np.nanmax(volume.array))
    span = f"values from {low:g} to {high:g}"
    if modality == "CT":
        if volume.array.dtype in (np.uint8, bool):
            advice = "These 8 bits are a windowed picture, not HU: read the original, or use the recipe 'scale'."
            yield "wrong-range", "warning", span, advice
        elif low < AIR:
            advice = "Below -1024 HU lies padding, not tissue: clip with standardize.clip(volume, -1024, ...)."
            yield "wrong-range", "warning", span, advice
        elif high > DENSEST:
            yield "wrong-range", "error", span, "No HU are that high: was the rescale slope applied twice?"
        elif low >= 0 and high > 1000:
            advice = "CT shows air near -1000 HU: was the rescale intercept left out when it was written?"
            yield "wrong-range", "warning", span, advice
    elif modality in ("MR", "DX", "CR", "MG", "US", "OP", "PT", "NM", "XC", "SM") and low < 0:
        advice = f"{modality} has no negative values: read as signed, or standardized before?"
        yield "wrong-range", "warning", span, advice


def _some(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:8])) + (f" and {len(numbers) - 8} more" if len(numbers) > 8 else "")
