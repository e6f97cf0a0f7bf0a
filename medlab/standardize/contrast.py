"""Contrast: local equalization (CLAHE), and one image given the histogram of another; scikit-image does the work.

In: one image Volume. Out: a new float32 Volume on the same grid. Both bend intensities: do not measure on the result.
"""

from __future__ import annotations

import numpy as np

from medlab.standardize.values import channels, finite
from medlab.volume import Volume


def clahe(volume: Volume, clip_limit: float = 0.01, tiles: int = 8) -> Volume:
    """The image with contrast equalized place by place, so that faint structures show in dark and in bright regions.

    Args:
        volume: image; each channel by itself, from its smallest to its largest value.
        clip_limit: in (0, 1]; the higher, the stronger the contrast, and the noise.
        tiles: regions along each axis that get a histogram of their own, at least 1.

    Returns:
        float32 Volume, values in [0, 1]; a constant channel becomes 0.

    Raises:
        ValueError: a clip limit or tiles out of range, a label map, or NaN.

    Source: contrast-limited adaptive histogram equalization, Zuiderveld 1994, in Graphics Gems IV, 474-485, as in
    ``skimage.exposure.equalize_adapthist``.
    """
    if not 0 < clip_limit <= 1:
        raise ValueError(f"Expected a clip limit above 0 and at most 1. Received {clip_limit}.")
    if isinstance(tiles, bool) or not hasattr(tiles, "__index__") or tiles < 1:
        raise ValueError(f"Expected tiles as a whole number of at least 1. Received {tiles!r}.")
    from skimage.exposure import equalize_adapthist

    array = finite(volume)
    out = np.empty_like(array)
    kernel = [max(1, -(-side // tiles)) for side in volume.shape]
    for source, target in channels(array, out, volume.rank):
        low, high = float(source.min()), float(source.max())
        if low == high:
            target[...] = 0
            continue
        target[...] = equalize_adapthist((source - low) / (high - low), kernel_size=kernel, clip_limit=clip_limit)
    return volume.replace(array=np.clip(out, 0, 1, out=out))


def match_histogram(volume: Volume, reference: Volume) -> Volume:
    """The image with the values of ``reference``: their distribution becomes the same, the order of voxels stays.

    Args:
        volume: image.
        reference: an image with as many channels, of any shape.

    Returns:
        float32 Volume in the reference's unit. A constant channel becomes the reference's median.

    Raises:
        ValueError: another number of channels, a label map, or NaN.

    Source: ``skimage.exposure.match_histograms``.
    """
    from skimage.exposure import match_histograms

    if volume.channels != reference.channels:
        raise ValueError(f"Expected as many channels as the image's {volume.channels}. Received {reference.channels}.")
    array, wanted = finite(volume), finite(reference)
    out = np.empty_like(array)
    others = [one for one, _ in channels(wanted, wanted, reference.rank)]
    for (source, target), other in zip(channels(array, out, volume.rank), others, strict=True):
        if source.min() == source.max():
            target[...] = np.median(other)
            continue
        # One axis for both: the function asks for as many axes, not for one shape.
        target[...] = match_histograms(source.ravel(), other.ravel()).reshape(source.shape)
    return volume.replace(array=out)
