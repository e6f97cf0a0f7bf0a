"""Variants: the same images mirrored or moved, for test-time augmentation.

In: axes or pixels. Out: functions from a batch (n, i, j[, k], c) to another of its shape. They are what
:func:`medlab.evaluate.predict` takes as ``tta``, added to each other as lists: ``flips(1) + shifts(2)``.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, combinations

import numpy as np
from numpy.typing import NDArray

Variant = Callable[[NDArray], NDArray]


def flips(*axes: int) -> list[Variant]:
    """Every way to mirror some of ``axes``, but for none of them: 1 function for one axis, 3 for two, 7 for three.

    Which mirror images can be a case of the data is for you to say: a body has a left and a right (axis 1 of a
    radiograph, axis 0 of a volume in RAS+), and the heart lies on one side of it.

    Args:
        axes: spatial axes from 0, such as ``flips(1)`` for the columns of a picture.

    Raises:
        ValueError: no axis, one that is not 0, 1 or 2, or twice the same; when called, images without it.
    """
    _check_axes(axes)
    if not axes:
        raise ValueError("Expected axes to mirror, such as flips(1) for the columns of a picture. Received none.")
    chosen = chain.from_iterable(combinations(axes, size) for size in range(1, len(axes) + 1))
    return [_flip(some) for some in chosen]


def shifts(pixels: int = 1, *axes: int) -> list[Variant]:
    """Moves of ``pixels`` to and fro along each of ``axes``, the edge repeated: two functions an axis.

    Args:
        pixels: how far, at least 1.
        axes: spatial axes from 0; by default the first two.

    Raises:
        ValueError: as :func:`flips`, or pixels that are not a whole number of at least 1.
    """
    if isinstance(pixels, bool) or not hasattr(pixels, "__index__") or pixels < 1:
        raise ValueError(f"Expected a shift by a whole number of pixels, at least 1. Received {pixels!r}.")
    _check_axes(axes)
    return [_shift(axis, step) for axis in axes or (0, 1) for step in (-int(pixels), int(pixels))]


def _flip(axes: tuple[int, ...]) -> Variant:
    def flip(batch: NDArray) -> NDArray:
        _check_rank(batch, axes)
        return np.flip(batch, [axis + 1 for axis in axes])

    return flip


def _shift(axis: int, step: int) -> Variant:
    def shift(batch: NDArray) -> NDArray:
        _check_rank(batch, (axis,))
        side = batch.shape[axis + 1]
        return np.take(batch, np.clip(np.arange(side) - step, 0, side - 1), axis=axis + 1)

    return shift


def _check_axes(axes: tuple[int, ...]) -> None:
    whole = all(not isinstance(axis, bool) and hasattr(axis, "__index__") and 0 <= axis <= 2 for axis in axes)
    if not whole or len(set(axes)) < len(axes):
        raise ValueError(f"Expected different spatial axes of 0, 1 and 2. Received {axes!r}.")


def _check_rank(batch: NDArray, axes: tuple[int, ...]) -> None:
    if max(axes) >= batch.ndim - 2:
        raise ValueError(f"Expected images with a spatial axis {max(axes)}. Received a batch of shape {batch.shape}.")
