"""Perturbation: how much the target's score falls when a part of the image is taken away.

In: any Keras model and images (n, i, j[, k], c). Out: heat maps (n, i, j[, k]). It needs no gradient, only the model's
answers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.backend import keras
from medlab.explain.attribution import Sign, fill_like, sign_rule
from medlab.explain.network import Network, check_images, parts_of
from medlab.explain.targets import Target, of_part, scores

Array = NDArray[np.float32]


def occlusion(
    model: keras.Model,
    x: ArrayLike,
    *,
    target: Target = None,
    patch: int | tuple[int, ...] = 8,
    stride: int | tuple[int, ...] | None = None,
    baseline: ArrayLike = 0.0,
    sign: Sign = "positive",
    batch_size: int | None = None,
) -> Array:
    """How much the score falls when a patch is covered, averaged over the patches that cover a voxel.

    Patches lie on a grid; the last of an axis ends at the image's edge, so that every voxel is covered. It takes one
    forward pass a patch.

    Args:
        model: a built Keras model; not changed.
        x: (n, i, j[, k], c) images, standardized as the model expects.
        target: class index, (n,) of them, None for the class predicted for ``x``, or a function of the output.
        patch: side of the patch in voxels, one number or one an axis; larger than the image means the whole image.
        stride: from one patch to the next in voxels, at most ``patch``; by default the patch, side by side.
        baseline: what covers, a number or an array that broadcasts to ``x``.
        sign: as :func:`medlab.explain.attribution.input_times_gradient`.
        batch_size: cases at a time; by default at most 64, fewer of large images.

    Returns:
        (n, i, j[, k]) float32 in units of the score; 0 or above unless ``sign="both"``.

    Raises:
        ValueError: images of another shape or with NaN, a target out of range, an unknown ``sign``, or a patch or
            stride that is not whole or below 1, or a stride above the patch.

    Source: Zeiler and Fergus, "Visualizing and understanding convolutional networks", ECCV 2014, section 4.2.
    """
    keep = sign_rule(sign)
    images = check_images(model, x)
    size = images.shape[1:-1]
    sides = _per_axis(patch, len(size), "patch")
    strides = sides if stride is None else _per_axis(stride, len(size), "stride")
    if any(step > side for step, side in zip(strides, sides, strict=True)):
        raise ValueError(f"Expected a stride of at most the patch {sides}: some voxels would never be covered. "
                         f"Received {strides}.")  # fmt: skip
    cover = fill_like(images, baseline)
    heat = np.zeros(images.shape[:-1], np.float32)
    if len(images) == 0:
        return heat
    network = Network(model, images)
    target = network.settle(images, target, batch_size)
    times = np.zeros(size, np.float32)
    patches = list(_patches(size, sides, strides))
    for place in patches:
        times[place] += 1
    for part in parts_of(images, batch_size):
        whole = _answers(network, scores, images[part], of_part(target, part))
        covered = images[part].copy()
        for place in patches:
            index = (slice(None), *place)
            covered[index] = cover[part][index]
            fall = whole - _answers(network, scores, covered, of_part(target, part))
            covered[index] = images[part][index]
            heat[part][index] += fall.reshape(-1, *[1] * len(size))
    return keep(heat / times)


def _answers(network: Network, score: Callable[[Any, Target], Any], images: Array, target: Target) -> Array:
    return keras.ops.convert_to_numpy(score(network(keras.ops.convert_to_tensor(images)), target))


def _per_axis(value: int | tuple[int, ...], rank: int, name: str) -> tuple[int, ...]:
    values = (value,) * rank if np.ndim(value) == 0 else tuple(value)
    if len(values) != rank or not all(isinstance(entry, int | np.integer) and entry >= 1 for entry in values):
        raise ValueError(f"Expected as {name} a whole number of at least 1, or {rank} of them. Received {value!r}.")
    return values


def _patches(size: tuple[int, ...], sides: tuple[int, ...], strides: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """The places of all patches; the last of an axis ends at its edge."""
    axes = []
    for length, side, stride in zip(size, sides, strides, strict=True):
        last = max(length - side, 0)
        axes.append([slice(start, start + side) for start in sorted({*range(0, last, stride), last})])
    return itertools.product(*axes)
