"""Curves: does the model's answer follow the heat of a map, when the hottest voxels are taken away or given.

In: any Keras model, images (n, i, j[, k], c), heat maps (n, i, j[, k]). Out: a curve a case, and the area below it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.backend import keras
from medlab.explain.asking.question import Question
from medlab.explain.asking.targets import Target
from medlab.explain.checks.localize import check_heat
from medlab.explain.maps import baselines
from medlab.explain.maps.baselines import Baseline
from medlab.explain.maps.copies import rounds
from medlab.explain.maps.draws import generator_of


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
        seed: voxels of equal heat go in random order; this and the case's own image say in which.
        batch_size: cases at a time; by default at most 64, fewer of large images.

    Returns:
        A :class:`Curve`.

    Raises:
        ValueError: images or heat maps of another shape or with NaN, a target out of range, or ``steps`` below 1.

    Source: Petsiuk et al., "RISE", BMVC 2018, section 4.1.
    """
    return curve_of(Question(model, x, target, batch_size=batch_size), heat, "deletion", steps, baseline, seed)


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
    return curve_of(Question(model, x, target, batch_size=batch_size), heat, "insertion", steps, baseline, seed)


def curve_of(
    question: Question,
    heat: ArrayLike,
    kind: Literal["deletion", "insertion"],
    steps: int,
    baseline: Baseline,
    seed: int,
) -> Curve:
    """The curve of a question that is asked already; see :func:`deletion` and :func:`insertion`."""
    images = question.images
    maps = check_heat(heat, images.shape[:-1])
    if steps < 1:
        raise ValueError(f"Expected at least 1 step. Received {steps}.")
    filled = baselines.one(images, baseline)
    before, after = (images, filled) if kind == "deletion" else (filled, images)
    ranks = np.zeros(maps.shape, np.int32)
    for case, heat_of_case in enumerate(maps):
        ranks[case] = rank_of(heat_of_case, generator_of(images[case], seed))
    fractions = np.linspace(0, 1, steps + 1)
    changes = np.array([round(fraction * math.prod(question.size)) for fraction in fractions])
    values = np.zeros((len(images), steps + 1))
    for cases, copies, count in rounds(question, steps + 1, what=kind, progress=False):
        changed = ranks[cases] < changes[copies].reshape(-1, *[1] * len(question.size))
        mixed = np.where(changed[..., None], after[cases], before[cases])
        answers = question.answers(mixed, cases, probability=True)
        values[cases[:count], copies[:count]] = answers[:count]
    return Curve(auc=np.trapezoid(values, fractions, axis=1), values=values, fractions=fractions)


def rank_of(heat: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.intp]:
    """The place of each voxel of one map in the order of heat, 0 for the hottest; equal heat is ordered by lot."""
    order = np.lexsort((generator.random(heat.size), -heat.ravel()))
    rank = np.empty_like(order)
    rank[order] = np.arange(heat.size)
    return rank.reshape(heat.shape)
