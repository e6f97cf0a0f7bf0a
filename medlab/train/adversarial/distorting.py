"""Distorting: random changes of real and generated images alike, through which the generator's gradient flows.

In: images and random numbers from 0 to 1. Out: images. Everything is ``keras.ops``, so that it runs on any backend.
"""

from __future__ import annotations

from typing import Any

from medlab.backend import keras

ops = keras.ops

CHANGES = ("shift", "brightness", "contrast", "cutout")


def count_numbers(rank: int) -> int:
    """Random numbers that one image with ``rank`` axes needs."""
    return 2 * rank + 2


def distort(x: Any, numbers: Any, changes: tuple[str, ...], limits: tuple[float, float]) -> Any:
    """Images shifted, brighter or darker, with more or less contrast, and with a box cut out.

    The shift is by up to an eighth of each side, in whole pixels, the border repeated; the brightness by up to a
    quarter of the range either way; the contrast by a factor from 0.5 to 1.5 about each image's mean; the box has half
    of each side and the middle of the range. These are the amounts of DiffAugment (Zhao et al. 2020, NeurIPS; for
    images from -1 to 1), where a shift fills with zeros; its change of color is left out.

    Args:
        x: (n, i, j[, k], c).
        numbers: (n, 2 * rank + 2) from 0 to below 1.
        changes: which of ``CHANGES``.
        limits: lowest and highest value of the images.
    """
    rank = len(x.shape) - 2
    low, high = limits
    if "brightness" in changes:
        x = x + _each(numbers[:, 0] - 0.5, rank) * (high - low) / 2
    if "contrast" in changes:
        mean = ops.mean(x, axis=tuple(range(1, rank + 2)), keepdims=True)
        x = (x - mean) * _each(numbers[:, 1] + 0.5, rank) + mean
    if "shift" in changes:
        for axis in range(rank):
            x = _shifted(x, axis + 1, numbers[:, 2 + axis])
    if "cutout" in changes:
        outside = _outside_box(x, numbers[:, 2 + rank :], rank)
        x = x * outside + (1 - outside) * (low + high) / 2
    return x


def _each(values: Any, rank: int) -> Any:
    """(n,) as (n, 1, ..., 1), to be multiplied with images."""
    return ops.reshape(values, (-1, *(1,) * (rank + 1)))


def _shifted(x: Any, axis: int, numbers: Any) -> Any:
    """Each image moved along one axis: a product with a matrix of zeros and ones, whose gradient is exact."""
    side = x.shape[axis]
    most = side // 8
    step = ops.floor(numbers * (2 * most + 1)) - most
    places = ops.arange(side, dtype="float32")
    source = ops.clip(places[None, :] + step[:, None], 0.0, side - 1.0)
    matrix = ops.cast(ops.equal(source[:, :, None], places[None, None, :]), x.dtype)
    moved = ops.moveaxis(x, axis, 1)
    shape = ops.shape(moved)
    flat = ops.matmul(matrix, ops.reshape(moved, (-1, side, _rest(x, axis))))
    return ops.moveaxis(ops.reshape(flat, shape), 1, axis)


def _rest(x: Any, axis: int) -> int:
    count = 1
    for number, side in enumerate(x.shape):
        if number not in (0, axis):
            count *= side
    return count


def _outside_box(x: Any, numbers: Any, rank: int) -> Any:
    """1 outside a box of half of each side whose middle lies anywhere in the image, 0 within."""
    inside = 1.0
    for axis in range(rank):
        side = x.shape[axis + 1]
        half = max(side // 4, 1)
        middle = ops.floor(numbers[:, axis] * side)
        places = ops.arange(side, dtype="float32")
        within = ops.logical_and(places[None, :] >= middle[:, None] - half, places[None, :] < middle[:, None] + half)
        form = [-1, *(side if one == axis else 1 for one in range(rank)), 1]
        inside = inside * ops.reshape(ops.cast(within, x.dtype), form)
    return 1 - inside
