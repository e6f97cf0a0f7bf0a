"""Curves: does the model's answer follow the heat of a map, when the hottest voxels are taken away or given.

In: any Keras model, images (n, i, j[, k], c), heat maps (n, i, j[, k]). Out: a curve a case, and the area below it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from medlab.backend import keras
from medlab.explain.attribution import fill_like
from medlab.explain.localize import check_heat
from medlab.explain.network import Network, check_images, parts_of
from medlab.explain.targets import Target, of_part

Array = NDArray[np.float32]
Baseline = ArrayLike | Literal["mean", "blur"]


@dataclass(frozen=True)
class Curve:
    """How the probability of the target changes while voxels are deleted or inserted.

    Attributes:
        auc: (n,) area below each curve, 0 to 1 for probabilities.
        values: (n, steps + 1) probability of the target class, or a target function's value.
        fractions: (steps + 1,) share of the voxels that were changed, 0 to 1.
    """

    auc: NDArray[np.float64]
    values: NDArray[np.float64]
    fractions: NDArray[np.float64]


def deletion(
    model: keras.Model,
    x: ArrayLike,
    heat: ArrayLike,
    *,
    target: Target = None,
    steps: int = 16,
    baseline: Baseline = "mean",
    seed: int = 0,
    batch_size: int | None = None,
) -> Curve:
    """The target's probability while the hottest voxels are taken away first: low is good.

    Args:
        model: a built Keras model; not changed.
        x: (n, i, j[, k], c) images, standardized as the model expects.
        target: class index, (n,) of them, None for the class predicted for ``x``, or a function of the output.
        heat: (n, i, j[, k]), 0 or above.
        steps: equal shares of the voxels; at least 1.
        baseline: what a deleted voxel becomes: ``"mean"`` (of its image and channel), ``"blur"`` (Gaussian, sigma
            1/16 of the image's size), a number, or an array that broadcasts to ``x``.
        seed: voxels of equal heat go in random order; this says which.
        batch_size: cases at a time; by default at most 64, fewer of large images.

    Returns:
        A :class:`Curve`.

    Raises:
        ValueError: images or heat maps of another shape or with NaN, a target out of range, or ``steps`` below 1.

    Source: Petsiuk et al., "RISE", BMVC 2018, section 4.1.
    """
    images = check_images(model, x)
    return _curve(model, images, _filler(images, baseline), images, heat, target, steps, seed, batch_size)


def insertion(
    model: keras.Model,
    x: ArrayLike,
    heat: ArrayLike,
    *,
    target: Target = None,
    steps: int = 16,
    baseline: Baseline = "blur",
    seed: int = 0,
    batch_size: int | None = None,
) -> Curve:
    """The target's probability while the hottest voxels are given first, on an image without detail: high is good.

    Arguments, result, errors and source as :func:`deletion`.
    """
    images = check_images(model, x)
    return _curve(model, _filler(images, baseline), images, images, heat, target, steps, seed, batch_size)


def _curve(
    model: keras.Model,
    before: Array,
    after: Array,
    images: Array,
    heat: ArrayLike,
    target: Target,
    steps: int,
    seed: int,
    batch_size: int | None,
) -> Curve:
    """The curve of probabilities while ``before`` becomes ``after``, the hottest voxels first."""
    maps = check_heat(heat, images.shape[:-1])
    if steps < 1:
        raise ValueError(f"Expected at least 1 step. Received {steps}.")
    fractions = np.linspace(0, 1, steps + 1)
    values = np.zeros((len(images), steps + 1))
    if len(images):
        network = Network(model, images)
        target = network.settle(images, target, batch_size)
    generator = np.random.default_rng(seed)
    for part in parts_of(images, batch_size):
        flat = maps[part].reshape(len(maps[part]), -1)
        order = np.lexsort((generator.random(flat.shape), -flat), axis=-1)
        rank = np.empty_like(order)
        np.put_along_axis(rank, order, np.arange(flat.shape[1])[None], axis=1)
        rank = rank.reshape(*maps[part].shape, 1)
        for step, fraction in enumerate(fractions):
            changed = np.where(rank < round(fraction * flat.shape[1]), after[part], before[part])
            values[part, step] = _answers(network, network.probabilities, changed, of_part(target, part))
    return Curve(auc=np.trapezoid(values, fractions, axis=1), values=values, fractions=fractions)


def _answers(network: Network, score: Callable[[Any, Target], Any], images: Array, target: Target) -> Array:
    return keras.ops.convert_to_numpy(score(network(keras.ops.convert_to_tensor(images)), target))


def _filler(images: Array, baseline: Baseline) -> Array:
    """What takes the place of deleted voxels, of the shape of ``images``."""
    if not isinstance(baseline, str):
        return fill_like(images, baseline)
    if baseline == "mean":
        return fill_like(images, images.mean(axis=tuple(range(1, images.ndim - 1)), keepdims=True))
    if baseline == "blur":
        sigma = (0, *(size / 16 for size in images.shape[1:-1]), 0)
        return ndimage.gaussian_filter(images, sigma, mode="nearest")
    raise ValueError(f'Expected baseline "mean", "blur", a number or an array. Received {baseline!r}.')
