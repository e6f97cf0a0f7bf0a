"""Attribution by the gradient of the input: how the target's score answers to each voxel.

In: any Keras model and images (n, i, j[, k], c). Out: heat maps (n, i, j[, k]) float32, of the images' own size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.backend import keras
from medlab.explain.asking.question import Question
from medlab.explain.asking.targets import Target

Array = NDArray[np.float32]
Sign = Literal["positive", "absolute", "both"]


def saliency(model: keras.Model, x: ArrayLike, *, target: Target = None, batch_size: int | None = None) -> Array:
    """The size of the score's gradient at each voxel, the largest over the channels.

    Args:
        model: a built Keras model; not changed.
        x: (n, i, j[, k], c) images, standardized as the model expects; several inputs: :class:`medlab.explain.Inputs`.
        target: class index, (n,) of them, None for the class predicted for ``x``, or a function of the output.
        batch_size: cases at a time; by default at most 64, fewer of large images.

    Returns:
        (n, i, j[, k]) float32, 0 or above, not normalized; 0 everywhere where the score does not depend on the image.

    Raises:
        ValueError: images of another shape or with NaN, or a target out of range.

    Source: Simonyan et al., "Deep inside convolutional networks", 2014, section 3.1.
    """
    question = Question(model, x, target, batch_size=batch_size)
    heat = np.zeros((len(question), *question.size), np.float32)
    for part in question.parts():
        heat[part] = np.abs(question.slope(question.images[part], part)).max(axis=-1)
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
        x: (n, i, j[, k], c) images, standardized as the model expects; several inputs: :class:`medlab.explain.Inputs`.
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
    question = Question(model, x, target, batch_size=batch_size)
    heat = np.zeros((len(question), *question.size), np.float32)
    for part in question.parts():
        heat[part] = (question.images[part] * question.slope(question.images[part], part)).sum(axis=-1)
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
