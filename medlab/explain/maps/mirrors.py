"""Mirrors: a method's maps averaged over mirrored copies of the image.

In: a function that makes heat maps. Out: another one, whose maps lie where they belong.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medlab.backend import keras
from medlab.explain.asking.inputs import Inputs, given
from medlab.explain.asking.question import Question
from medlab.explain.asking.targets import OneOutput, Target

Array = NDArray[np.float32]


def mirrored(method: Callable[..., Array], axes: tuple[int, ...] | None = None) -> Callable[..., Array]:
    """The method whose map is the mean of the maps of the image and its mirror images, each mirrored back.

    A layer with stride looks at its cell from one side: the maps of a network that halves an image three times may lie
    several voxels off, always to the same side. In a mirror image they lie off to the other side, and the mean is
    centered. On small lesions that decides: the hottest voxel of LayerCAM lay in the nodule of ``phantom:lung-nodule``
    in 80 of 100 cases, mirrored in 94 (a nodule has 24 pixels there). It takes two maps for each axis, multiplied.

    What belongs to a place is mirrored with the image: every other input of the model that is an image of the same
    spatial shape, and the masks of a target made by :func:`medlab.explain.region`, for one output among several too. A
    target that is a function of your own stays as it is: if it looks at places of the output, such as
    ``lambda y: y[:, :8, :, 1]``, it looks at the wrong ones in mirror images. Give it masks with ``region``, or as an
    object with a method ``mirrored(axes, rank)`` that returns the target for mirrored images. Inputs of another
    spatial shape stay as well.

    Args:
        method: a function (model, x, *, target, ...) that returns heat maps.
        axes: along which images are mirrored: 0 for i, 1 for j, 2 for k; None takes all.

    Returns:
        A function with the arguments and result of ``method``. The predicted class is that of the image itself, in all
        of its mirror images.

    Raises:
        ValueError: when it is called: an axis that the images do not have, or a target whose masks have other
            axes than the images.

    Source: as test-time augmentation of maps in the package pytorch-grad-cam, ``aug_smooth``.
    """

    @functools.wraps(method)
    def averaged(model: keras.Model, x: Any, *, target: Target = None, **options: Any) -> Array:
        question = Question(model, x, target, batch_size=options.get("batch_size"))
        rank = len(question.size)
        chosen = tuple(range(rank)) if axes is None else tuple(axes)
        if not set(chosen) <= set(range(rank)):
            raise ValueError(f"Expected axes from 0 to {rank - 1}. Received {chosen}.")
        total = np.zeros(question.images.shape[:-1], np.float32)
        ways = [way for count in range(len(chosen) + 1) for way in itertools.combinations(chosen, count)]
        for way in ways:
            flipped = tuple(axis + 1 for axis in way)
            heat = method(model, _flipped(model, x, flipped), target=_turned(question.target, way, rank), **options)
            total += np.flip(heat, flipped)
        return total / np.float32(len(ways))

    return averaged


def _flipped(model: keras.Model, x: Any, axes: tuple[int, ...]) -> Any:
    """``x`` with its images, and all others of their spatial shape, mirrored along these axes of the arrays."""
    cases = given(model, x)
    shape = cases.images.shape

    def flip(one: NDArray) -> NDArray:
        same = one.ndim == len(shape) and one.shape[:-1] == shape[:-1]
        return np.ascontiguousarray(np.flip(one, axes)) if same else one

    images, others = flip(cases.images), tuple(flip(one) for one in cases.others)
    return Inputs(cases.arranged(images, others), cases.place) if others else images


def _turned(target: Any, axes: tuple[int, ...], rank: int) -> Any:
    """``target`` for mirrored images; what cannot be mirrored stays."""
    if isinstance(target, OneOutput):
        return OneOutput(target.place, _turned(target.target, axes, rank))
    return target.mirrored(axes, rank) if hasattr(target, "mirrored") else target
