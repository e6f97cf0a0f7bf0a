"""Stripes: brain MR put on the scale of its white matter, found as a peak of the image's own histogram.

In: one brain MR Volume, best with a mask of the brain. Out: a new float32 Volume. It segments no tissue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medlab.standardize import masks
from medlab.standardize.values import channels, finite
from medlab.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

PEAKS = {"T1": "last", "T2": "highest", "FLAIR": "highest"}
"""Which peak of the histogram is white matter; FLAIR is treated as T2 (chosen)."""
_BINS = 1024
_RARE = 0.2  # a peak lower than this share of the highest is noise (chosen)


def white_stripe(
    volume: Volume, contrast: str = "T1", mask: Volume | NDArray | str | None = "foreground", *, width: float = 0.05
) -> Volume:
    """The image minus the mean of its white stripe, divided by the stripe's standard deviation, channel by channel.

    The stripe holds the values around the peak of normal-appearing white matter: the quantiles from ``width`` below to
    ``width`` above the peak's own. A lesion or atrophy hardly moves it, as it moves a z-score over the whole brain.

    Args:
        volume: brain MR, corrected for its bias field where that is strong.
        contrast: ``"T1"``: white matter is the last peak; ``"T2"`` or ``"FLAIR"``: the highest. Capitals do not
            matter.
        mask: where the histogram is taken: a label map or array of the brain, or ``"foreground"`` (then scalp and fat
            count too, and may be the last peak), or None for the whole image. The result covers the whole image.
        width: share of the values on each side of the peak, in (0, 0.5).

    Returns:
        float32 Volume: 0 in white matter, in units of its deviation. A channel that is constant inside the mask, as any
        is inside a mask of one voxel, becomes 0 everywhere; so does one whose stripe is empty or a single value.

    Raises:
        ValueError: another contrast, a width out of range, a mask that is empty or of another shape, a label map, NaN.

    Source: Shinohara et al. 2014, NeuroImage: Clinical 6, 9-19.
    """
    peak = _known(contrast)
    if not 0 < width < 0.5:
        raise ValueError(f"Expected a width above 0 and below 0.5. Received {width}.")
    array = finite(volume)
    inside = masks.inside(volume, mask)
    out = np.empty_like(array)
    for source, target in channels(array, out, volume.rank):
        values = np.sort((source if inside is None else source[inside]).ravel())
        if values[0] == values[-1]:
            target[...] = 0
            continue
        share = np.searchsorted(values, _peak(values, peak), "right") / len(values)
        low, high = np.quantile(values, [max(share - width, 0), min(share + width, 1)])
        stripe = values[(values >= low) & (values <= high)].astype(np.float64)
        deviation = stripe.std() if len(stripe) else 0  # few voxels may have none near the peak
        target[...] = 0 if deviation == 0 else (source - stripe.mean()) / deviation
    return volume.replace(array=out)


def tissue_peak(
    volume: Volume, contrast: str = "T1", mask: Volume | NDArray | str | None = "foreground"
) -> tuple[float, ...]:
    """The intensity of white matter in each channel: the peak of a kernel density estimate of the histogram.

    Divide an image by it for a scale that has white matter at 1.

    Args:
        volume: brain MR.
        contrast: as in :func:`white_stripe`.
        mask: as in :func:`white_stripe`.

    Returns:
        One number a channel, in the image's unit; the value itself where all are the same.

    Raises:
        ValueError: as :func:`white_stripe`.

    Source: the density is that of a Gaussian kernel with the bandwidth of Silverman 1986, "Density Estimation for
    Statistics and Data Analysis", equation 3.31, on 1024 bins between the 0.1th and the 99.9th percentile.
    """
    peak = _known(contrast)
    array = finite(volume)
    inside = masks.inside(volume, mask)
    found = []
    for source, _ in channels(array, array, volume.rank):
        values = np.sort((source if inside is None else source[inside]).ravel())
        found.append(float(values[0]) if values[0] == values[-1] else _peak(values, peak))
    return tuple(found)


def _known(contrast: str) -> str:
    """Which peak it is."""
    found = PEAKS.get(contrast.upper()) if isinstance(contrast, str) else None
    if found is None:
        raise ValueError(f"Expected a contrast of {', '.join(PEAKS)}. Received {contrast!r}.")
    return found


def _peak(values: NDArray, which: str) -> float:
    """The last or the highest peak of the smoothed histogram of sorted values that are not all the same."""
    from scipy.ndimage import gaussian_filter1d

    low, high, first, third = np.percentile(values, [0.1, 99.9, 25, 75])
    if low == high:
        low, high = values[0], values[-1]
    counts, edges = np.histogram(values, _BINS, (low, high))
    spread = min(values.std(dtype=np.float64), (third - first) / 1.34) or values.std(dtype=np.float64)
    bandwidth = 0.9 * spread * len(values) ** -0.2
    density = gaussian_filter1d(counts.astype(np.float64), max(bandwidth / (edges[1] - edges[0]), 1), mode="constant")
    middle = np.pad(density, 1)
    peaks = np.flatnonzero((density > middle[:-2]) & (density >= middle[2:]) & (density >= _RARE * density.max()))
    at = peaks[-1] if which == "last" else int(density.argmax())
    return float((edges[at] + edges[at + 1]) / 2)
