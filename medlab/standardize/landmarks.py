"""Landmarks: a standard scale of intensities learned from training images, for MR that has no unit.

In: training Volumes; later any one Volume. Out: landmarks (percentile, standard value) as plain numbers; the image on
the standard scale. Source: Nyul, Udupa and Zhang 2000, IEEE Transactions on Medical Imaging 19(2), 143-150.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from medlab.standardize import masks
from medlab.standardize.values import channels, finite
from medlab.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

PERCENTILES = (1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 99)
SCALE = (0.0, 100.0)
"""Ends of the standard scale: the values of the first and the last landmark."""


def fit_landmarks(
    volumes: Iterable[Volume | tuple[Volume, Volume | NDArray]],
    *,
    percentiles: Sequence[float] = PERCENTILES,
    mask: str | None = "foreground",
) -> tuple[tuple[float, float], ...]:
    """Landmarks of a standard scale: the mean place of each percentile once every image spans 0 to 100.

    Fit them on training images alone, all of one sequence, and keep them with the model: they are JSON.

    Args:
        volumes: images of one channel, each alone or with a mask, (image, mask); gone through once, one at a time.
        percentiles: at least two, rising, in [0, 100]. The first and the last are the ends of the scale.
        mask: ``"foreground"`` or None, the whole image: where percentiles are taken for images without a mask.

    Returns:
        (percentile, standard value) pairs; values never fall, from 0 to 100. Images that are constant inside the mask
        have no landmarks and are left out.

    Raises:
        ValueError: percentiles that do not rise, no image that is not constant, an image of several channels, an empty
            mask, a label map, or NaN; the message says which image it was.
    """
    wanted = _percentiles(percentiles)
    total, used, number = np.zeros(len(wanted)), 0, -1
    for number, entry in enumerate(volumes):
        volume, own = entry if isinstance(entry, tuple) else (entry, mask)
        try:
            array = finite(volume)
            if array.ndim > volume.rank:
                raise ValueError(f"Expected one channel. Received {volume.channels}; fit landmarks for each alone.")
            inside = masks.inside(volume, own)
        except ValueError as error:
            raise ValueError(f"Image {number} of fit_landmarks: {error}") from error
        found = np.percentile(array if inside is None else array[inside], wanted)
        if found[0] < found[-1]:
            total += (found - found[0]) / (found[-1] - found[0])
            used += 1
    if not used:
        raise ValueError(
            f"Expected at least one training image that is not constant inside its mask. Received {number + 1}."
        )
    values = SCALE[0] + (SCALE[1] - SCALE[0]) * total / used
    return tuple((float(p), round(float(v), 6)) for p, v in zip(wanted, values, strict=True))


def histogram(
    volume: Volume, landmarks: Sequence[Sequence[float]], mask: Volume | NDArray | str | None = "foreground"
) -> Volume:
    """The image on a standard scale: its own percentiles are moved to the landmarks, straight lines between them.

    Args:
        volume: image; each channel by itself.
        landmarks: (percentile, standard value) pairs of :func:`fit_landmarks`.
        mask: where the image's percentiles are taken, as they were for the landmarks: a label map or array, or
            ``"foreground"``, or None for the whole image. The result covers the whole image.

    Returns:
        float32 Volume. Beyond the outer landmarks the nearest line goes on, nothing is clipped. Where several
        percentiles of the image are one value, it gets the mean of their standard values. A channel that is constant
        inside the mask, as any is inside a mask of one voxel, becomes the first standard value everywhere.

    Raises:
        ValueError: landmarks that are no pairs or do not rise, a mask that is empty or of another shape, a label map,
            or NaN.
    """
    pairs = np.asarray(landmarks, np.float64)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not np.isfinite(pairs).all():
        raise ValueError(f"Expected landmarks as (percentile, value) pairs of fit_landmarks. Received {landmarks!r}.")
    wanted, standard = _percentiles(pairs[:, 0]), pairs[:, 1]
    if (np.diff(standard) < 0).any() or standard[0] == standard[-1]:
        raise ValueError(f"Expected standard values that rise. Received {standard.tolist()}.")
    array = finite(volume)
    inside = masks.inside(volume, mask)
    out = np.empty_like(array)
    for source, target in channels(array, out, volume.rank):
        own = np.percentile(source if inside is None else source[inside], wanted)
        target[...] = standard[0] if own[0] == own[-1] else _lines(source, own, standard)
    return volume.replace(array=out)


def _lines(source: NDArray, own: NDArray, standard: NDArray) -> NDArray[np.float32]:
    """Values moved from ``own`` to ``standard``, along lines that go on beyond the ends."""
    places, first = np.unique(own, return_inverse=True)
    heights = np.bincount(first, standard) / np.bincount(first)
    moved = np.interp(source.ravel(), places, heights).reshape(source.shape)
    slopes = np.diff(heights) / np.diff(places)
    moved += slopes[0] * np.minimum(source - places[0], 0)
    moved += slopes[-1] * np.maximum(source - places[-1], 0)
    return moved.astype(np.float32)


def _percentiles(values: Sequence[float]) -> NDArray[np.float64]:
    numbers = np.asarray(values, np.float64)
    if numbers.ndim != 1 or len(numbers) < 2 or not (np.diff(numbers) > 0).all() or numbers[0] < 0 or numbers[-1] > 100:
        raise ValueError(f"Expected at least two rising percentiles from 0 to 100. Received {list(values)!r}.")
    return numbers
