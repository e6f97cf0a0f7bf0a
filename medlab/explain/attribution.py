"""Attribution by the gradient of the input: how the target's score answers to each voxel.

In: any Keras model and images (n, i, j[, k], c). Out: heat maps (n, i, j[, k]) float32, of the images' own size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.backend import keras
from medlab.explain import gradient
from medlab.explain.network import Network, check_images, parts_of
from medlab.explain.targets import Target, of_part, scores

Array = NDArray[np.float32]
Sign = Literal["positive", "absolute", "both"]


def saliency(model: keras.Model, x: ArrayLike, *, target: Target = None, batch_size: int | None = None) -> Array:
    """The size of the score's gradient at each voxel, the largest over the channels.

    Args:
        model: a built Keras model; not changed.
        x: (n, i, j[, k], c) images, standardized as the model expects.
        target: class index, (n,) of them, None for the class predicted for ``x``, or a function of the output.

        batch_size: cases at a time; by default at most 64, fewer of large images.

    Returns:
        (n, i, j[, k]) float32, 0 or above, not normalized.

    Raises:
        ValueError: images of another shape or with NaN, or a target out of range.

    Source: Simonyan et al., "Deep inside convolutional networks", 2014, section 3.1.
    """
    images = check_images(model, x)
    heat = np.zeros(images.shape[:-1], np.float32)
    if len(images) == 0:
        return heat
    network = Network(model, images)
    target = network.check(target, len(images))
    for part in parts_of(images, batch_size):
        heat[part] = np.abs(_slope(network, images[part], of_part(target, part))).max(axis=-1)
    return heat


def input_times_gradient(
    model: keras.Model,
    x: ArrayLike,
    *,
    target: Target = None,
    sign: Sign = "positive",
    batch_size: int | None = None,
) -> Array:
    """The input times the score's gradient, summed over the channels: exact for a linear model.

    Args:
        model: a built Keras model; not changed.
        x: (n, i, j[, k], c) images, standardized as the model expects.
        target: class index, (n,) of them, None for the class predicted for ``x``, or a function of the output.
        sign: ``"positive"`` keeps what speaks for the target, ``"absolute"`` the size of what speaks for or against
            it, ``"both"`` everything with its sign.
        batch_size: cases at a time; by default at most 64, fewer of large images.

    Returns:
        (n, i, j[, k]) float32 in units of the score; 0 or above unless ``sign="both"``.

    Raises:
        ValueError: as :func:`saliency`, or an unknown ``sign``.

    Source: Shrikumar et al., "Not just a black box", 2016.
    """
    keep = sign_rule(sign)
    images = check_images(model, x)
    heat = np.zeros(images.shape[:-1], np.float32)
    if len(images) == 0:
        return heat
    network = Network(model, images)
    target = network.check(target, len(images))
    for part in parts_of(images, batch_size):
        heat[part] = (images[part] * _slope(network, images[part], of_part(target, part))).sum(axis=-1)
    return keep(heat)


def integrated_gradients(
    model: keras.Model,
    x: ArrayLike,
    *,
    target: Target = None,
    steps: int = 32,
    baseline: ArrayLike = 0.0,
    sign: Sign = "positive",
    batch_size: int | None = None,
) -> Array:
    """The score's gradient averaged on the straight way from a baseline to the image, times the way.

    With ``sign="both"`` a map sums to score(x) - score(baseline), up to the error of ``steps``.

    Args:
        model: a built Keras model; not changed.
        x: (n, i, j[, k], c) images, standardized as the model expects.
        target: class index, (n,) of them, None for the class predicted for ``x``, or a function of the output.
        steps: points on the way, by the midpoint rule; at least 1.
        baseline: what stands for "nothing there", a number or an array that broadcasts to ``x``.
        sign: as :func:`input_times_gradient`.
        batch_size: cases at a time; by default at most 64, fewer of large images.

    Returns:
        (n, i, j[, k]) float32 in units of the score; 0 or above unless ``sign="both"``.

    Raises:
        ValueError: as :func:`saliency`, an unknown ``sign``, ``steps`` below 1, or a baseline that does not fit.

    Source: Sundararajan et al., "Axiomatic attribution for deep networks", ICML 2017, eq. 3.
    """
    keep = sign_rule(sign)
    images = check_images(model, x)
    if steps < 1:
        raise ValueError(f"Expected at least 1 step. Received {steps}.")
    start = fill_like(images, baseline)
    heat = np.zeros(images.shape[:-1], np.float32)
    if len(images) == 0:
        return heat
    network = Network(model, images)
    target = network.settle(images, target, batch_size)
    for part in parts_of(images, batch_size):
        way = images[part] - start[part]
        total = np.zeros_like(way)
        for step in range(steps):
            total += _slope(network, start[part] + np.float32((step + 0.5) / steps) * way, of_part(target, part))
        heat[part] = (way * total / steps).sum(axis=-1)
    return keep(heat)


def sign_rule(sign: Sign) -> Callable[[Array], Array]:
    """The function that keeps the positive part of a map, its size, or all of it.

    Raises:
        ValueError: ``sign`` is none of the three.
    """
    rules = {"positive": lambda heat: np.maximum(heat, 0), "absolute": np.abs, "both": lambda heat: heat}
    if sign not in rules:
        raise ValueError(f'Expected sign "positive", "absolute" or "both". Received {sign!r}.')
    return rules[sign]


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


def _slope(network: Network, images: Array, target: Target) -> Array:
    """The gradient of the scores with respect to ``images``, of their shape."""

    def score(x):
        return keras.ops.sum(scores(network(x), target)), 0

    return keras.ops.convert_to_numpy(gradient.of(score, images)[2])
