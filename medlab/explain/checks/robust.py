"""Robust: does a map stay when the image changes by less than anyone can see, and how much of the image it names.

In: a Keras model, images (n, i, j[, k], c) and a method, or heat maps. Out: one number a case.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.backend import keras
from medlab.explain.asking.inputs import replaced
from medlab.explain.asking.question import Question
from medlab.explain.asking.targets import Target
from medlab.explain.checks.localize import check_heat
from medlab.explain.maps.draws import generator_of
from medlab.explain.maps.methods import Method, find


def max_sensitivity(
    model: keras.Model,
    x: ArrayLike,
    method: str | Method = "grad_cam",
    *,
    target: Target = None,
    n: int = 8,
    radius: float = 0.05,
    seed: int = 0,
    batch_size: int | None = None,
    **options: Any,
) -> NDArray[np.float64]:
    """The largest relative change of a map under a little noise on the image: low is good.

    Args:
        model: a built Keras model; not changed.
        x: (n, i, j[, k], c) images, standardized as the model expects.
        method: the name of a method of this room, or a function (model, x, *, target, batch_size, ...).
        target: class index, (n,) of them, None for the class predicted for ``x`` without noise, or a function of the
            output.
        n: noisy images a case, at least 1.
        radius: the noise is uniform between minus and plus this many standard deviations of the image and channel
            (chosen: 0.05).
        seed: of the noise; each case has its own, the same alone and among others.
        batch_size: cases at a time; by default at most 64, fewer of large images.
        options: handed to ``method``, such as ``layer``.

    Returns:
        (n,) the maximum over the noisy images of |map - map without noise| / |map without noise|, as Euclidean
        lengths, 0 or above; NaN where the map without noise has no heat. 0 for a constant image, whose noise is 0.

    Raises:
        ValueError: as ``method``, ``n`` below 1, or a negative radius.

    Source: Yeh et al., "On the (in)fidelity and sensitivity of explanations", NeurIPS 2019, over the length of the
    map (as Captum's ``sensitivity_max``).
    """
    if n < 1 or not radius >= 0:
        raise ValueError(f"Expected n of at least 1 and a radius of 0 or above. Received {n} and {radius}.")
    method = find(method)
    question = Question(model, x, target, batch_size=batch_size)
    if len(question) == 0:
        return np.zeros(0)
    options = {"target": question.target, "batch_size": batch_size, **options}
    return sensitivity_of(question, x, method, method(model, x, **options), n, radius, seed, options)


def sensitivity_of(
    question: Question,
    x: Any,
    method: Method,
    heat: ArrayLike,
    n: int = 8,
    radius: float = 0.05,
    seed: int = 0,
    options: dict[str, Any] | None = None,
) -> NDArray[np.float64]:
    """See :func:`max_sensitivity`; ``heat`` is the map without noise."""
    images = question.images
    first = np.asarray(heat, np.float64).reshape(len(images), -1)
    reach = radius * images.std(axis=tuple(range(1, images.ndim - 1)), keepdims=True)
    generators = [generator_of(image, seed) for image in images]
    largest = np.zeros(len(images))
    for _ in range(n):
        noise = np.stack([generator.uniform(-1, 1, images.shape[1:]) for generator in generators])
        noisy = images + (noise * reach).astype(np.float32)
        changed = method(question.model, replaced(question.model, x, noisy), **(options or {}))
        changed = np.asarray(changed, np.float64).reshape(first.shape)
        largest = np.maximum(largest, np.linalg.norm(changed - first, axis=1))
    length = np.linalg.norm(first, axis=1)
    return np.where(length > 0, np.divide(largest, length, out=np.zeros_like(length), where=length > 0), np.nan)


def sparseness(heat: ArrayLike) -> NDArray[np.float64]:
    """How few voxels hold the heat, as Gini index: 0 where all have the same, near 1 where one has all.

    Args:
        heat: (n, i, j[, k]), 0 or above.

    Returns:
        (n,) float64 from 0 to 1 - 1/voxels; 0 for a map without heat.

    Raises:
        ValueError: NaN or negative heat, or no map.

    Source: Chalasani et al., "Concise explanations of neural networks using adversarial training", ICML 2020.
    """
    maps = check_heat(heat, np.shape(heat))
    if maps.ndim not in (3, 4) or 0 in maps.shape[1:]:
        raise ValueError(f"Expected heat maps of shape (n, i, j[, k]). Received {maps.shape}.")
    result = np.zeros(len(maps))
    for case, one in enumerate(maps):
        ordered = np.sort(one, axis=None).astype(np.float64)
        total = ordered.sum()
        if total > 0:
            voxels = ordered.size
            result[case] = (ordered * (2 * np.arange(1, voxels + 1) - voxels - 1)).sum() / (voxels * total)
    return np.clip(result, 0, 1)
