"""Artifacts of any modality: noise, blur, other contrast, lost pixels and slices.

All strengths are relative to the image's own deviation, range or size, so that they fit any unit and any recipe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medlab.augment.levels import NOISE, as_image, fraction_of, generator, level, positive

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What severity 0, 1, ..., 5 means; between whole numbers it is interpolated.
_BLUR = (0, 0.5, 0.8, 1.1, 1.6, 2.1)  # voxels where the shortest side has at most 32
_CONTRAST = (1, 0.75, 0.55, 0.4, 0.3, 0.2)  # factor on the distance from the mean
_BRIGHTNESS = (0, 0.25, 0.5, 0.75, 1.0, 1.5)  # standard deviations of the image
_GAMMA = (1, 1.25, 1.5, 2.0, 2.5, 3.5)  # exponent
_PIXELS = (0, 0.02, 0.05, 0.1, 0.2, 0.35)  # part of the pixels
_SLICES = (0, 0.05, 0.1, 0.2, 0.3, 0.4)  # part of the slices


def gaussian_noise(
    array: NDArray, *, severity: float = 3, std: float | None = None, rng: np.random.Generator | int
) -> NDArray[np.float32]:
    """The image with independent Gaussian noise.

    Args:
        array: (i, j[, k], c).
        severity: 0 to 5: 0, 0.1, 0.2, 0.35, 0.5, 0.75 standard deviations of the image.
        std: standard deviation of the noise in units of the image, in place of severity.
        rng: source of randomness; the same state gives the same noise at another strength.
    """
    image = as_image(array)
    rng = generator(rng)
    strength = level(severity, NOISE) * image.std(dtype=np.float64) if std is None else positive("std", std)
    return image + np.float32(strength) * rng.standard_normal(image.shape, np.float32)


def blur(
    array: NDArray, *, severity: float = 3, sigma: float | None = None, rng: np.random.Generator | None = None
) -> NDArray[np.float32]:
    """The image after a Gaussian filter; nothing about it is random.

    Args:
        array: (i, j[, k], c).
        severity: 0 to 5: a standard deviation of 0, 0.5, 0.8, 1.1, 1.6, 2.1 voxels up to 32 voxels a side, and growing
            with the root of the shortest side beyond (twice as much at 128).
        sigma: standard deviation in voxels, in place of severity.
        rng: not used.
    """
    from scipy import ndimage

    image = as_image(array)
    if sigma is None:
        width = level(severity, _BLUR) * (max(min(image.shape[:-1]), 32) / 32) ** 0.5
    else:
        width = positive("sigma", sigma)
    return ndimage.gaussian_filter(image, [width] * (image.ndim - 1) + [0], mode="nearest") if width else image


def contrast(
    array: NDArray, *, severity: float = 3, factor: float | None = None, rng: np.random.Generator | None = None
) -> NDArray[np.float32]:
    """The image with each value's distance from the mean multiplied; nothing about it is random.

    Args:
        array: (i, j[, k], c).
        severity: 0 to 5: factors 1, 0.75, 0.55, 0.4, 0.3, 0.2.
        factor: 0 or above, in place of severity.
        rng: not used.
    """
    image = as_image(array)
    part = level(severity, _CONTRAST) if factor is None else positive("factor", factor)
    if part == 1:
        return image
    mean = np.float32(image.mean(dtype=np.float64))
    return mean + np.float32(part) * (image - mean)


def brightness(
    array: NDArray, *, severity: float = 3, offset: float | None = None, rng: np.random.Generator | None = None
) -> NDArray[np.float32]:
    """The image with one number added; nothing about it is random.

    Args:
        array: (i, j[, k], c).
        severity: 0 to 5: 0, 0.25, 0.5, 0.75, 1, 1.5 standard deviations of the image.
        offset: in units of the image, in place of severity.
        rng: not used.
    """
    image = as_image(array)
    added = level(severity, _BRIGHTNESS) * image.std(dtype=np.float64) if offset is None else offset
    return image + np.float32(added)


def gamma(
    array: NDArray, *, severity: float = 3, exponent: float | None = None, rng: np.random.Generator | None = None
) -> NDArray[np.float32]:
    """The image with its values between smallest and largest raised to a power; nothing about it is random.

    Args:
        array: (i, j[, k], c).
        severity: 0 to 5: exponents 1, 1.25, 1.5, 2, 2.5, 3.5, which darken the middle.
        exponent: above 0, in place of severity.
        rng: not used.
    """
    image = as_image(array)
    power = level(severity, _GAMMA) if exponent is None else positive("exponent", exponent)
    low, high = image.min(), image.max()
    if low == high or power == 1:
        return image
    return low + (high - low) * ((image - low) / (high - low)) ** np.float32(power)


def dropped_pixels(
    array: NDArray, *, severity: float = 3, fraction: float | None = None, rng: np.random.Generator | int
) -> NDArray[np.float32]:
    """The image with single pixels lost: they take its smallest value, in all channels.

    Args:
        array: (i, j[, k], c).
        severity: 0 to 5: 0, 2, 5, 10, 20, 35 % of the pixels.
        fraction: in [0, 1], in place of severity.
        rng: source of randomness; with the same state, what a lower severity loses a higher one loses too.
    """
    image = as_image(array)
    rng = generator(rng)
    part = level(severity, _PIXELS) if fraction is None else fraction_of(fraction)
    lost = rng.random(image.shape[:-1]) < part
    return np.where(lost[..., None], image.min(), image)


def dropped_slices(
    array: NDArray,
    *,
    severity: float = 3,
    fraction: float | None = None,
    axis: int | None = None,
    rng: np.random.Generator | int,
) -> NDArray[np.float32]:
    """The image with whole slices (3-D) or rows (2-D) lost: they take its smallest value.

    Args:
        array: (i, j[, k], c).
        severity: 0 to 5: 0, 5, 10, 20, 30, 40 % of the slices, at least one from severity 1 on.
        fraction: in [0, 1], in place of severity, rounded to whole slices.
        axis: across which slices lie; by default the last spatial axis in 3-D, rows in 2-D.
        rng: source of randomness; with the same state, what a lower severity loses a higher one loses too.
    """
    image = as_image(array)
    rng = generator(rng)
    axis = (image.ndim - 2 if image.ndim == 4 else 0) if axis is None else axis
    if axis not in range(image.ndim - 1):
        raise ValueError(f"Expected an axis between 0 and {image.ndim - 2}. Received {axis!r}.")
    n = image.shape[axis]
    if fraction is None:
        part = level(severity, _SLICES)
        count = max(round(part * n), int(severity >= 1))
    else:
        count = round(fraction_of(fraction) * n)
    lost = rng.permutation(n)[: min(count, n)]
    out = image.copy()
    np.moveaxis(out, axis, 0)[lost] = image.min()
    return out
