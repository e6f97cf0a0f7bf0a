"""One pass of intensity over one image: bias field, gamma, contrast and brightness, noise.

In: an image (i, j[, k], c), float32 and contiguous, which is changed in place, and how strongly. Out: nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medlab.augment.fields import smooth_field

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def apply_field(image: NDArray[np.float32], deviation: float, draw: Callable[[int], NDArray]) -> None:
    """Multiplies the distance from the smallest value by a smooth field whose logarithm has this deviation."""
    field = smooth_field(image.shape[:-1], draw, deviation)
    if field is None:
        return
    low = image.min()
    np.exp(field, out=field)
    image -= low
    image *= field[..., None]
    image += low


def apply_gamma(image: NDArray[np.float32], exponent: float) -> None:
    """Raises the values between the smallest and the largest to a power; a constant image stays."""
    low = image.min()
    extent = image.max() - low
    if not extent > 0:
        return
    image -= low
    image /= extent
    np.power(image, np.float32(exponent), out=image)
    image *= extent
    image += low


def apply_linear(image: NDArray[np.float32], factor: float, offset: float) -> None:
    """Multiplies the distance from the mean by ``factor`` and adds ``offset``."""
    shift = float(image.mean(dtype=np.float64)) * (1 - factor) + offset
    image *= np.float32(factor)
    image += np.float32(shift)


def apply_noise(image: NDArray[np.float32], deviation: float, rng: np.random.Generator) -> None:
    """Adds Gaussian noise of this standard deviation, in units of the image."""
    noise = rng.standard_normal(image.shape, np.float32)
    noise *= np.float32(deviation)
    image += noise
