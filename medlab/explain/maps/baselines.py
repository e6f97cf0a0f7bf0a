"""Baselines: what stands for "nothing to see here" when parts of an image are taken away.

In: images (n, i, j[, k], c) and a number, an array or a word. Out: images of the same shape.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float32]
Baseline = ArrayLike | Literal["mean", "blur"]


def several(images: Array, baseline: Baseline) -> Array:
    """The baselines of each image: (b, n, i, j[, k], c) float32, b = 1 unless several are given.

    Args:
        images: (n, i, j[, k], c).
        baseline: a number or an array that broadcasts to ``images``; ``"mean"``, each image's own mean a channel;
            ``"blur"``, each image itself after a Gaussian of one 16th of each side (a width chosen here); or an array
            with one more axis in front, such as (b, 1, i, j[, k], c): b baselines for all images.

    Raises:
        ValueError: it does not broadcast, it is not finite, or it is another word.
    """
    if isinstance(baseline, str):
        return _by_name(images, baseline)[None]
    filled = np.asarray(baseline, np.float32)
    if filled.ndim != images.ndim + 1:
        return fill_like(images, filled)[None]
    if len(filled) == 0:
        raise ValueError(f"Expected at least one baseline. Received an array of shape {filled.shape}.")
    shared = images[:1] if filled.shape[1] == 1 else images  # baselines for all images are held once
    return np.broadcast_to(np.stack([fill_like(shared, array) for array in filled]), (len(filled), *images.shape))


def one(images: Array, baseline: Baseline) -> Array:
    """The baseline of each image, of the shape of ``images``; see :func:`several`, without its last choice.

    Raises:
        ValueError: as :func:`several`.
    """
    return _by_name(images, baseline) if isinstance(baseline, str) else fill_like(images, baseline)


def fill_like(images: Array, value: ArrayLike) -> Array:
    """``value`` brought to the shape of ``images``, float32.

    Raises:
        ValueError: it does not broadcast, or it is not finite.
    """
    filled = np.asarray(value, np.float32)
    if not np.isfinite(filled).all():
        raise ValueError("Expected a finite baseline. Received one with NaN or infinity.")
    try:
        return np.broadcast_to(filled, images.shape)
    except ValueError:
        raise ValueError(
            f"Expected a baseline that broadcasts to {images.shape}. Received shape {filled.shape}."
        ) from None


def _by_name(images: Array, name: str) -> Array:
    if name == "mean":
        return fill_like(images, images.mean(axis=tuple(range(1, images.ndim - 1)), keepdims=True))
    if name == "blur":
        from scipy import ndimage

        sigma = (0, *(size / 16 for size in images.shape[1:-1]), 0)
        return ndimage.gaussian_filter(images, sigma, mode="nearest")
    raise ValueError(f'Expected baseline "mean", "blur", a number or an array. Received {name!r}.')
