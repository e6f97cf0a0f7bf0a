"""Artifacts that images suffer, at severities 0 (unharmed) to 5 (hardly usable).

In: one image (i, j[, k], c) with a channel axis, and a Generator. Out: a new float32 array of the same shape. All
strengths are relative to the image's own deviation, range or size, so that they fit any unit and any recipe.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Artifact = Callable[..., "NDArray[np.float32]"]

# What severity 0, 1, ..., 5 means; between whole numbers it is interpolated.
_NOISE = (0, 0.1, 0.2, 0.35, 0.5, 0.75)  # standard deviations of the image
_BLUR = (0, 0.5, 0.8, 1.1, 1.6, 2.1)  # voxels where the shortest side has at most 32
_CONTRAST = (1, 0.75, 0.55, 0.4, 0.3, 0.2)  # factor on the distance from the mean
_BRIGHTNESS = (0, 0.25, 0.5, 0.75, 1.0, 1.5)  # standard deviations of the image
_GAMMA = (1, 1.25, 1.5, 2.0, 2.5, 3.5)  # exponent
_PIXELS = (0, 0.02, 0.05, 0.1, 0.2, 0.35)  # part of the pixels
_SLICES = (0, 0.05, 0.1, 0.2, 0.3, 0.4)  # part of the slices
_BIAS = (0, 0.15, 0.3, 0.45, 0.6, 0.8)  # deviation of the field's logarithm


def gaussian_noise(
    array: NDArray, *, severity: float = 3, std: float | None = None, rng: np.random.Generator
) -> NDArray[np.float32]:
    """The image with independent Gaussian noise.

    Args:
        array: (i, j[, k], c).
        severity: 0 to 5: 0, 0.1, 0.2, 0.35, 0.5, 0.75 standard deviations of the image.
        std: standard deviation of the noise in units of the image, in place of severity.
        rng: source of randomness; the same state gives the same noise at another strength.
    """
    image = _image(array)
    strength = _level(severity, _NOISE) * image.std(dtype=np.float64) if std is None else _positive("std", std)
    return image + np.float32(strength) * rng.standard_normal(image.shape, np.float32)


def rician_noise(
    array: NDArray, *, severity: float = 3, std: float | None = None, rng: np.random.Generator
) -> NDArray[np.float32]:
    """The image as a magnitude of a complex signal with Gaussian noise in both parts, as MR scanners deliver it.

    The image's smallest value is taken for no signal; noise lifts it.

    Args:
        array: (i, j[, k], c).
        severity: as in :func:`gaussian_noise`.
        std: standard deviation of each part's noise in units of the image, in place of severity.
        rng: source of randomness.

    Source: H. Gudbjartsson, S. Patz, Magn. Reson. Med. 34(6), 1995, 910-914.
    """
    image = _image(array)
    strength = _level(severity, _NOISE) * image.std(dtype=np.float64) if std is None else _positive("std", std)
    if strength == 0:
        return image
    low = image.min()
    real = image - low + np.float32(strength) * rng.standard_normal(image.shape, np.float32)
    imaginary = np.float32(strength) * rng.standard_normal(image.shape, np.float32)
    return np.hypot(real, imaginary) + low


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

    image = _image(array)
    if sigma is None:
        width = _level(severity, _BLUR) * (max(min(image.shape[:-1]), 32) / 32) ** 0.5
    else:
        width = _positive("sigma", sigma)
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
    image = _image(array)
    part = _level(severity, _CONTRAST) if factor is None else _positive("factor", factor)
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
    image = _image(array)
    added = _level(severity, _BRIGHTNESS) * image.std(dtype=np.float64) if offset is None else offset
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
    image = _image(array)
    power = _level(severity, _GAMMA) if exponent is None else _positive("exponent", exponent)
    low, high = image.min(), image.max()
    if low == high or power == 1:
        return image
    return low + (high - low) * ((image - low) / (high - low)) ** np.float32(power)


def dropped_pixels(
    array: NDArray, *, severity: float = 3, fraction: float | None = None, rng: np.random.Generator
) -> NDArray[np.float32]:
    """The image with single pixels lost: they take its smallest value, in all channels.

    Args:
        array: (i, j[, k], c).
        severity: 0 to 5: 0, 2, 5, 10, 20, 35 % of the pixels.
        fraction: in [0, 1], in place of severity.
        rng: source of randomness; with the same state, what a lower severity loses a higher one loses too.
    """
    image = _image(array)
    part = _level(severity, _PIXELS) if fraction is None else _fraction(fraction)
    lost = rng.random(image.shape[:-1]) < part
    return np.where(lost[..., None], image.min(), image)


def dropped_slices(
    array: NDArray,
    *,
    severity: float = 3,
    fraction: float | None = None,
    axis: int | None = None,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """The image with whole slices (3-D) or rows (2-D) lost: they take its smallest value.

    Args:
        array: (i, j[, k], c).
        severity: 0 to 5: 0, 5, 10, 20, 30, 40 % of the slices, at least one from severity 1 on.
        fraction: in [0, 1], in place of severity, rounded to whole slices.
        axis: across which slices lie; by default the last spatial axis in 3-D, rows in 2-D.
        rng: source of randomness; with the same state, what a lower severity loses a higher one loses too.
    """
    image = _image(array)
    axis = (image.ndim - 2 if image.ndim == 4 else 0) if axis is None else axis
    if axis not in range(image.ndim - 1):
        raise ValueError(f"Expected an axis between 0 and {image.ndim - 2}. Received {axis!r}.")
    n = image.shape[axis]
    if fraction is None:
        part = _level(severity, _SLICES)
        count = max(round(part * n), int(severity >= 1))
    else:
        count = round(_fraction(fraction) * n)
    lost = rng.permutation(n)[: min(count, n)]
    out = image.copy()
    np.moveaxis(out, axis, 0)[lost] = image.min()
    return out


def bias_field(
    array: NDArray, *, severity: float = 3, strength: float | None = None, rng: np.random.Generator
) -> NDArray[np.float32]:
    """The image, counted from its smallest value, times a smooth field: the uneven sensitivity of MR coils.

    The field's logarithm is a random polynomial of degree 3 in the coordinates, with mean 0.

    Args:
        array: (i, j[, k], c).
        severity: 0 to 5: deviation of the field's logarithm 0, 0.15, 0.3, 0.45, 0.6, 0.8.
        strength: that deviation, in place of severity.
        rng: source of randomness; the same state gives the same field at another strength.

    Source: K. Van Leemput et al., IEEE Trans. Med. Imaging 18(10), 1999, 885-896 (polynomial model).
    """
    image = _image(array)
    deviation = _level(severity, _BIAS) if strength is None else _positive("strength", strength)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in image.shape[:-1]), indexing="ij")
    field = np.zeros(image.shape[:-1])
    for powers in np.ndindex(*(4,) * len(axes)):
        if 1 <= sum(powers) <= 3:
            term = np.ones_like(field)
            for coordinate, power in zip(axes, powers, strict=True):
                term = term * coordinate**power
            field += rng.standard_normal() * term
    field -= field.mean()
    spread = field.std()
    if deviation == 0 or spread == 0:
        return image
    low = image.min()
    return low + (image - low) * np.exp(deviation * field / spread).astype(np.float32)[..., None]


def standard(modality: str | None, rank: int) -> dict[str, Artifact]:
    """The artifacts under which a model for this modality is judged: name -> ``(array, *, severity, rng) -> array``.

    Args:
        modality: a DICOM code; MR gets Rician noise and a bias field, others Gaussian noise and gamma.
        rank: 2 or 3: lost rows or lost slices.

    Raises:
        ValueError: another rank.
    """
    if rank not in (2, 3):
        raise ValueError(f"Expected rank 2 or 3. Received {rank!r}.")
    magnetic = str(modality).upper() == "MR"
    chosen: dict[str, Artifact] = {"noise": rician_noise if magnetic else gaussian_noise, "blur": blur}
    chosen |= {"contrast": contrast, "dropped pixels": dropped_pixels}
    chosen["dropped slices" if rank == 3 else "dropped rows"] = dropped_slices
    return chosen | ({"bias field": bias_field} if magnetic else {"gamma": gamma})


def _image(array: NDArray) -> NDArray[np.float32]:
    """A float32 copy, after making sure that it is one image with a channel axis."""
    image = np.array(array, np.float32)
    if image.ndim not in (3, 4) or image.size == 0:
        raise ValueError(f"Expected one image (i, j[, k], c) with a channel axis. Received shape {image.shape}.")
    if not np.isfinite(image).all():
        raise ValueError("Expected finite values. The image holds NaN or infinity.")
    return image


def _level(severity: float, levels: tuple[float, ...]) -> float:
    if not 0 <= severity <= 5:
        raise ValueError(f"Expected a severity between 0 (unharmed) and 5. Received {severity!r}.")
    return float(np.interp(severity, range(6), levels))


def _positive(name: str, value: float) -> float:
    if not (np.isfinite(value) and value >= 0):
        raise ValueError(f"Expected {name} of 0 or above. Received {value!r}.")
    return float(value)


def _fraction(value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"Expected a fraction between 0 and 1. Received {value!r}.")
    return float(value)
