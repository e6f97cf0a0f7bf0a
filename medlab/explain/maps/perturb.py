"""Perturbation: how much the target's score falls when a part of the image is taken away.

In: any Keras model and images (n, i, j[, k], c). Out: heat maps (n, i, j[, k]). It needs no gradient, only the model's
answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.backend import keras
from medlab.explain.asking import waiting
from medlab.explain.asking.question import Question
from medlab.explain.asking.targets import Target
from medlab.explain.maps import baselines, copies
from medlab.explain.maps.attribution import Sign, sign_rule
from medlab.explain.maps.baselines import Baseline

Array = NDArray[np.float32]


def occlusion(
    model: keras.Model,
    x: ArrayLike,
    *,
    target: Target = None,
    patch: int | tuple[int, ...] = 8,
    stride: int | tuple[int, ...] | None = None,
    baseline: Baseline = 0.0,
    sign: Sign = "positive",
    batch_size: int | None = None,
    progress: bool | None = None,
) -> Array:
    """How much the score falls when a patch is covered, averaged over the patches that cover a voxel.

    Patches lie on a grid; the last of an axis ends at the image's edge, so that every voxel is covered. It takes one
    forward pass a patch; many patches of a case run in one batch, and memory does not grow with their number.

    Args:
        model: a built Keras model; not changed.
        x: (n, i, j[, k], c) images, standardized as the model expects; several inputs: :class:`medlab.explain.Inputs`.
        target: class index, (n,) of them, None for the class predicted for ``x``, or a function of the output.
        patch: side of the patch in voxels, one number or one an axis; larger than the image means the whole image.
        stride: from one patch to the next in voxels, at most ``patch``; by default the patch, side by side.
        baseline: what covers: a number or an array that broadcasts to ``x``; ``"mean"``, the image's own mean;
            ``"blur"``, the image blurred by a 16th of its sides.
        sign: as :func:`medlab.explain.maps.attribution.input_times_gradient`.
        batch_size: images at a time; by default at most 64, fewer of large images.
        progress: shows a progress bar; None does so when it takes long and a person looks on.

    Returns:
        (n, i, j[, k]) float32 in units of the score; 0 or above unless ``sign="both"``. An image that equals its
        cover, and a model that looks nowhere, have a map of 0.

    Raises:
        ValueError: images of another shape or with NaN, a target out of range, an unknown ``sign``, or a patch or
            stride that is not whole or below 1, or a stride above the patch.

    Source: Zeiler and Fergus, "Visualizing and understanding convolutional networks", ECCV 2014, section 4.2.
    """
    keep = sign_rule(sign)
    question = Question(model, x, target, batch_size=batch_size)
    images, rank = question.images, len(question.size)
    sides = per_axis(patch, rank, "patch")
    strides = sides if stride is None else per_axis(stride, rank, "stride")
    if any(step > side for step, side in zip(strides, sides, strict=True)):
        raise ValueError(f"Expected a stride of at most the patch {sides}: some voxels would never be covered. "
                         f"Received {strides}.")  # fmt: skip
    cover = baselines.one(images, baseline)
    heat = np.zeros((len(question), *question.size), np.float32)
    axes = [_places(*axis) for axis in zip(question.size, sides, strides, strict=True)]
    counts = tuple(len(places) for places in axes)
    whole = np.zeros(len(question), np.float32)
    for part in question.parts():
        whole[part] = question.answers(images[part], part)
    for cases, copy, count in copies.rounds(question, math.prod(counts), what="occlusion", progress=progress):
        places = [_place(axes, np.unravel_index(number, counts)) for number in copy]
        covered = images[cases]
        for row, (case, place) in enumerate(zip(cases, places, strict=True)):
            covered[row][place] = cover[case][place]
        falls = whole[cases] - question.answers(covered, cases)
        for case, place, fall in zip(cases[:count], places, falls, strict=False):
            heat[case][place] += fall
    times = [sum(_inside(place, size) for place in places) for places, size in zip(axes, question.size, strict=True)]
    return keep(heat / reduce(np.multiply.outer, times).astype(np.float32))


def rise(
    model: keras.Model,
    x: ArrayLike,
    *,
    target: Target = None,
    n: int = 1000,
    cells: int | tuple[int, ...] = 7,
    share: float = 0.5,
    baseline: Baseline = 0.0,
    probability: bool = True,
    sign: Sign = "positive",
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool | None = None,
) -> Array:
    """How much higher the score is than on average when a voxel stays visible, over random soft masks.

    The map is sum(score * mask) / sum(mask) at each voxel, minus the mean score: the paper's map with the masks' own
    sum instead of its expected value, and moved so that a model that looks nowhere has a map of 0.

    Args:
        model: a built Keras model; not changed.
        x: (n, i, j[, k], c) images, standardized as the model expects; several inputs: :class:`medlab.explain.Inputs`.
        target: class index, (n,) of them, None for the class predicted for ``x``, or a function of the output.
        n: masks a case, at least 2. The error falls with the square root of it; the paper takes 4000 to 8000.
        cells: cells of the random grid that makes a mask, one number or one an axis; at most the axis' length.
        share: probability that a cell stays visible, between 0 and 1.
        baseline: as :func:`occlusion`, what stands where the mask hides.
        probability: masks are judged by the probability of the target's class, as in the paper; False takes its
            logit, which still moves where a probability is saturated.
        sign: as :func:`medlab.explain.maps.attribution.input_times_gradient`.
        seed: of the masks. Every case meets the same masks, whatever its place in ``x``.
        batch_size: images at a time; by default at most 64, fewer of large images.
        progress: shows a progress bar; None does so when it takes long and a person looks on.

    Returns:
        (n, i, j[, k]) float32 in units of the score; 0 or above unless ``sign="both"``.

    Raises:
        ValueError: as :func:`occlusion`, ``n`` below 2, cells that are not whole or below 1, or a share that is not
            between 0 and 1.

    Source: Petsiuk et al., "RISE: randomized input sampling for explanation of black-box models", BMVC 2018, section 3.
    """
    keep = sign_rule(sign)
    copies.check_count(n, 2, "as n the number of masks")
    if not 0 < share < 1:
        raise ValueError(f"Expected a share between 0 and 1. Received {share}.")
    question = Question(model, x, target, batch_size=batch_size)
    grid = per_axis(cells, len(question.size), "cells")
    cover = baselines.one(question.images, baseline)
    heat = np.zeros((len(question), *question.size), np.float32)
    if len(question) == 0:
        return heat
    score, anchor = np.zeros(len(question)), np.zeros(len(question))
    visible = np.zeros(question.size, np.float32)
    draw = mask_maker(question.size, grid, share, seed)
    size = copies.batch_of(question, n)
    starts = range(0, n, size)
    work = ((start, case) for start in starts for case in range(len(question)))
    for start, case in waiting.bar(work, "RISE", "batch", progress, len(starts) * len(question)):
        count = min(size, n - start)
        if case == 0:
            masks = draw(np.minimum(np.arange(start, start + size), n - 1))
            visible += masks[:count].sum(axis=0)
        image = cover[case] + masks[..., None] * (question.images[case] - cover[case])
        answers = question.answers(image, np.full(size, case), probability=probability)[:count].astype(np.float64)
        if start == 0:
            anchor[case] = answers[0]
        answers -= anchor[case]  # moves all scores alike, so no digits are lost where they hardly differ
        heat[case] += np.tensordot(answers.astype(np.float32), masks[:count], axes=1)
        score[case] += answers.sum()
    heat = np.divide(heat, visible, out=np.zeros_like(heat), where=visible > 0)
    mean = (score / n).astype(np.float32).reshape(-1, *[1] * len(question.size))
    return keep(np.where(visible > 0, heat - mean, np.float32(0)))


def mask_maker(
    size: tuple[int, ...], cells: tuple[int, ...], share: float, seed: int
) -> Callable[[NDArray[np.intp]], Array]:
    """A function that draws the masks with given numbers: (m,) -> (m, i, j[, k]) float32, 0 hidden to 1 visible.

    A mask is a grid of cells that are visible or not, one cell larger than the image, moved by a random part of a
    cell and interpolated linearly between the cells' centers. It depends on ``seed`` and its own number alone.

    Args:
        size: (i, j[, k]).
        cells: a cell's number along each axis; at most the axis' length.
        share: probability that a cell is visible.
        seed: of all masks.
    """
    cells = tuple(min(number, length) for number, length in zip(cells, size, strict=True))
    sides = [math.ceil(length / number) for length, number in zip(size, cells, strict=True)]

    def draw(numbers: NDArray[np.intp]) -> Array:
        masks = []
        for number in numbers:
            generator = np.random.default_rng((seed, number))
            mask = (generator.random([number + 1 for number in cells]) < share).astype(np.float32)
            for axis, (length, side, old) in enumerate(zip(size, sides, mask.shape, strict=True)):
                position = (np.arange(length) + generator.integers(side) + 0.5) / side - 0.5
                position = np.clip(position, 0, old - 1)
                weights = np.maximum(0, 1 - np.abs(position[:, None] - np.arange(old))).astype(np.float32)
                mask = np.moveaxis(np.tensordot(weights, mask, axes=(1, axis)), 0, axis)
            masks.append(mask)
        return np.stack(masks)

    return draw


def per_axis(value: int | tuple[int, ...], rank: int, name: str) -> tuple[int, ...]:
    """``value`` as one whole number for each of ``rank`` axes.

    Raises:
        ValueError: another number of them, one that is not whole, or one below 1.
    """
    values = (value,) * rank if np.ndim(value) == 0 else tuple(value)
    if len(values) != rank or not all(isinstance(entry, int | np.integer) and entry >= 1 for entry in values):
        raise ValueError(f"Expected as {name} a whole number of at least 1, or {rank} of them. Received {value!r}.")
    return values


def _places(length: int, side: int, stride: int) -> list[slice]:
    """The places of the patches along one axis; the last ends at its edge."""
    last = max(length - side, 0)
    return [slice(start, start + side) for start in sorted({*range(0, last, stride), last})]


def _place(axes: list[list[slice]], index: tuple[np.intp, ...]) -> tuple[slice, ...]:
    return tuple(places[number] for places, number in zip(axes, index, strict=True))


def _inside(place: slice, length: int) -> NDArray[np.int64]:
    """(length,) 1 within ``place``, else 0."""
    inside = np.zeros(length, np.int64)
    inside[place] = 1
    return inside
