"""Artifacts of ultrasound: speckle and shadows in B-mode images.

B-mode shows the logarithm of the echo: between the smallest and the largest value lie ``decibels`` of it. The smallest
value means no echo, and stays. A constant image shows no echoes and stays as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medlab.augment.levels import as_image, axis_of, generator, level, positive

if TYPE_CHECKING:
    from numpy.typing import NDArray

DECIBELS = 60.0
"""Dynamic range of the image, as scanners often show it. Chosen."""
# What severity 0, 1, ..., 5 means; between whole numbers it is interpolated.
_SPECKLE = (0, 0.12, 0.25, 0.45, 0.8, 1.4)  # diffuse to coherent echo
_SHADOW = (0, 6, 12, 20, 30, 45)  # decibels behind the object


def speckle(
    array: NDArray,
    *,
    severity: float = 3,
    strength: float | None = None,
    decibels: float = DECIBELS,
    axis: int = 0,
    rng: np.random.Generator | int,
) -> NDArray[np.float32]:
    """The image with more speckle: the echoes of many small scatterers add up or cancel out.

    The echo's amplitude is multiplied by abs(1 + strength z) / sqrt(1 + strength^2), with z complex Gaussian noise of
    mean square 1, about one voxel wide along the beam and two across it. Its mean square is 1, so that the energy of
    the echo stays; its distribution is Rician, and Rayleigh's where strength is large.

    Args:
        array: (i, j[, k], c).
        severity: 0 to 5: strengths 0, 0.12, 0.25, 0.45, 0.8, 1.4.
        strength: 0 or above, in place of severity.
        decibels: dynamic range of the image.
        axis: along the beam: rows by default.
        rng: source of randomness; the same state gives the same pattern at another strength.

    Source: R. F. Wagner et al., IEEE Trans. Sonics Ultrason. 30(3), 1983, 156-163.
    """
    from scipy import ndimage

    image = as_image(array)
    rng = generator(rng)
    amount = level(severity, _SPECKLE) if strength is None else positive("strength", strength)
    axis = axis_of(axis, image, 0)
    low, high = image.min(), image.max()
    if amount == 0 or low == high:
        return image
    shape = image.shape[:-1]
    width = [0.5 if one == axis else 1.0 for one in range(len(shape))]
    parts = [ndimage.gaussian_filter(rng.standard_normal(shape, np.float32), width, mode="wrap") for _ in range(2)]
    power = sum(float((part**2).mean(dtype=np.float64)) for part in parts)
    real, imaginary = (part * np.float32(amount / np.sqrt(power)) for part in parts)
    square = ((1 + real) ** 2 + imaginary**2) / np.float32(1 + amount**2)
    change = 10 * np.log10(np.maximum(square, 1e-12)) * ((high - low) / np.float32(_range(decibels)))
    return np.where(image > low, np.maximum(image + change[..., None].astype(np.float32), low), low)


def shadow(
    array: NDArray,
    *,
    severity: float = 3,
    loss: float | None = None,
    width: float = 0.25,
    decibels: float = DECIBELS,
    axis: int = 0,
    rng: np.random.Generator | int,
) -> NDArray[np.float32]:
    """The image with an acoustic shadow: behind a stone, a rib or gas a band of echoes is weaker down to the bottom.

    Args:
        array: (i, j[, k], c).
        severity: 0 to 5: 0, 6, 12, 20, 30, 45 decibels are lost.
        loss: that loss, in place of severity.
        width: the band's width in parts of the image's, 0 to 1, at half of the loss; its margins are soft.
        decibels: dynamic range of the image.
        axis: along the beam, from the probe on: rows by default.
        rng: decides where the object lies, in the upper half; the same state gives the same place at another severity.

    Source: F. W. Kremkau, K. J. W. Taylor, J. Ultrasound Med. 5(4), 1986, 227-237.
    """
    image = as_image(array)
    rng = generator(rng)
    lost = level(severity, _SHADOW) if loss is None else positive("loss", loss)
    axis = axis_of(axis, image, 0)
    if not 0 <= width <= 1:
        raise ValueError(f"Expected a width between 0 and 1. Received {width!r}.")
    low, high = image.min(), image.max()
    weight = np.ones((1,) * image.ndim, np.float32)
    for one, n in enumerate(image.shape[:-1]):
        place = rng.uniform(0.1, 0.5) if one == axis else rng.uniform(width / 2, 1 - width / 2)
        at = (np.arange(n) + 0.5) / n
        # A soft edge of about 2 % of the length: logistic in depth, the product of two across the beam.
        sides = [at - place] if one == axis else [at - place + width / 2, place + width / 2 - at]
        part = np.prod([1 / (1 + np.exp(-side / 0.01)) for side in sides], axis=0)
        weight = weight * part.astype(np.float32).reshape(tuple(-1 if k == one else 1 for k in range(image.ndim)))
    return np.maximum(image - np.float32(lost / _range(decibels)) * (high - low) * weight, low)


def _range(decibels: float) -> float:
    if not decibels > 0:
        raise ValueError(f"Expected decibels above 0. Received {decibels!r}.")
    return float(decibels)
