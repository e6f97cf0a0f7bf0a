"""Faithful: does a heat map say what the model does when regions of the image are taken away.

In: any Keras model, images (n, i, j[, k], c), heat maps (n, i, j[, k]). Out: one number a case. What is taken away is
drawn from the seed and the case's own image, so that a case scores the same alone and among others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.backend import keras
from medlab.explain.asking.question import Question
from medlab.explain.asking.targets import Target
from medlab.explain.maps import baselines
from medlab.explain.maps.baselines import Baseline
from medlab.explain.maps.copies import rounds
from medlab.explain.maps.draws import generator_of

Scores = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.bool_]]


def infidelity(
    model: keras.Model,
    x: ArrayLike,
    heat: ArrayLike,
    *,
    target: Target = None,
    n: int = 64,
    patch: int | tuple[int, ...] | None = None,
    baseline: Baseline = "mean",
    normalize: bool = True,
    seed: int = 0,
    batch_size: int | None = None,
) -> Scores:
    """How far the heat in random patches is from the fall of the score when they are covered: low is good.

    The mean over patches of (b * heat in the patch - fall of the score)^2. With ``normalize``, b is the factor of 0 or
    above that fits best, because most methods' heat has a unit of its own, and the error is a share of the mean
    squared fall: 0 where the heat is proportional to the fall, 1 where it says nothing about it.

    Args:
        model: a built Keras model; not changed.
        x: (n, i, j[, k], c) images, standardized as the model expects.
        heat: (n, i, j[, k]) finite; with a sign where a method gives one.
        target: class index, (n,) of them, None for the class predicted for ``x``, or a function of the output.
        n: patches a case, at least 1.
        patch: side of the patch in voxels, one number or one an axis; None for a 16th of the image (chosen): a
            quarter of each axis of a picture, two fifths of a volume's.
        baseline: what covers, as :func:`medlab.explain.deletion`.
        normalize: False leaves b at 1 and the error in units of the score, squared: for heat that claims to be
            contributions to the score, such as integrated gradients with ``sign="both"``.
        seed: of the patches.
        batch_size: images at a time; by default at most 64, fewer of large images.

    Returns:
        (n,) float64, 0 or above; normalized 0 to 1, NaN where no patch changes the score, 1 for a map without heat.

    Raises:
        ValueError: images or heat of another shape or not finite, a target out of range, or ``n`` or ``patch`` below 1.

    Source: Yeh et al., "On the (in)fidelity and sensitivity of explanations", NeurIPS 2019, with squares
    that are removed as perturbation; the best factor as Captum's ``normalize``, but never below 0.
    """
    question = Question(model, x, target, batch_size=batch_size)
    return infidelity_of(patches(question, n, patch, baseline, seed), heat, normalize)


def infidelity_of(regions: Regions, heat: ArrayLike, normalize: bool = True) -> Scores:
    """See :func:`infidelity`."""
    claimed = regions.claimed(heat)
    fallen = regions.fallen
    if not normalize:
        return ((claimed - fallen) ** 2).mean(axis=1)
    of_claims, of_falls = (claimed**2).sum(axis=1), (fallen**2).sum(axis=1)
    together = np.maximum((claimed * fallen).sum(axis=1), 0)
    explained = np.divide(together**2, of_claims * of_falls, out=np.zeros(len(claimed)), where=of_claims * of_falls > 0)
    return np.where(of_falls > 0, np.clip(1 - explained, 0, 1), np.nan)


def mu_fidelity(
    model: keras.Model,
    x: ArrayLike,
    heat: ArrayLike,
    *,
    target: Target = None,
    n: int = 64,
    cells: int = 8,
    share: float = 0.2,
    baseline: Baseline = "mean",
    seed: int = 0,
    batch_size: int | None = None,
) -> Scores:
    """Correlation of the heat in random subsets of the image with the fall of the score without them: 1 is best.

    Args:
        model: a built Keras model; not changed.
        x: (n, i, j[, k], c) images, standardized as the model expects.
        heat: (n, i, j[, k]) finite; with a sign where a method gives one.
        target: class index, (n,) of them, None for the class predicted for ``x``, or a function of the output.
        n: subsets a case, at least 2.
        cells: a subset is made of cells of a grid with that many along each axis, at most one a voxel.
        share: of the cells that a subset has, between 0 and 1.
        baseline: what covers, as :func:`medlab.explain.deletion`.
        seed: of the subsets.
        batch_size: images at a time; by default at most 64, fewer of large images.

    Returns:
        (n,) Pearson correlation from -1 to 1; NaN where no subset changes the score, 0 where all have the same heat.

    Raises:
        ValueError: images or heat of another shape or not finite, a target out of range, or ``n``, ``cells`` or
            ``share`` out of range.

    Source: Bhatt et al., "Evaluating and aggregating feature-based model explanations", IJCAI 2020.
    """
    question = Question(model, x, target, batch_size=batch_size)
    return mu_fidelity_of(subsets(question, n, cells, share, baseline, seed), heat)


def mu_fidelity_of(regions: Regions, heat: ArrayLike) -> Scores:
    """See :func:`mu_fidelity`."""
    claimed, fallen = regions.claimed(heat), regions.fallen
    one, other = (values - values.mean(axis=1, keepdims=True) for values in (claimed, fallen))
    # Differences at the level of rounding are none: a sum of the same numbers in another order differs by as much.
    for part, whole in ((one, claimed), (other, fallen)):
        part[np.abs(part).max(axis=1, initial=0) <= 1e-6 * np.abs(whole).max(axis=1, initial=0)] = 0
    length = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    result = np.divide((one * other).sum(axis=1), length, out=np.zeros(len(one)), where=length > 0)
    return np.where((other**2).sum(axis=1) > 0, result, np.nan)


@dataclass
class Regions:
    """Random regions of each case, and what the model says without them: drawn and asked once for many heat maps."""

    question: Question
    n: int
    baseline: Baseline
    seed: int
    draw: Draw

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"Expected n of at least 1. Received {self.n}.")

    def of(self, case: int) -> NDArray[np.bool_]:
        """(n, i, j[, k]) the regions of one case."""
        return self.draw(generator_of(self.question.images[case], self.seed), self.question.size)

    def claimed(self, heat: ArrayLike) -> Scores:
        """(cases, n) the sum of the heat in each region."""
        maps = check_finite(heat, self.question.images.shape[:-1]).astype(np.float64)
        return np.array([self.of(case).reshape(self.n, -1) @ one.ravel() for case, one in enumerate(maps)]).reshape(
            len(maps), self.n
        )

    @cached_property
    def fallen(self) -> Scores:
        """(cases, n) how much lower the score is when the region is covered."""
        question, images = self.question, self.question.images
        cover = baselines.one(images, self.baseline)
        fallen = np.zeros((len(images), self.n))
        for part in question.parts():
            fallen[part] = question.answers(images[part], part)[:, None]
        drawn: dict[int, NDArray[np.bool_]] = {}
        for cases, copies, count in rounds(question, self.n, what="regions covered", progress=False):
            drawn = {case: drawn[case] if case in drawn else self.of(case) for case in np.unique(cases).tolist()}
            gone = np.stack([drawn[case][copy] for case, copy in zip(cases.tolist(), copies.tolist(), strict=True)])
            answers = question.answers(np.where(gone[..., None], cover[cases], images[cases]), cases)
            fallen[cases[:count], copies[:count]] -= answers[:count]
        return fallen


def patches(
    question: Question,
    n: int = 64,
    patch: int | tuple[int, ...] | None = None,
    baseline: Baseline = "mean",
    seed: int = 0,
) -> Regions:
    """Rectangles at random places; see :func:`infidelity`."""
    size = question.size
    sides = tuple(max(1, round(length / 16 ** (1 / len(size)))) for length in size) if patch is None else patch
    sides = (sides,) * len(size) if np.ndim(sides) == 0 else tuple(sides)
    if len(sides) != len(size) or min(sides, default=1) < 1:
        raise ValueError(f"Expected as patch a number of at least 1, or {len(size)} of them. Received {patch!r}.")

    def draw(generator: np.random.Generator, size: tuple[int, ...]) -> NDArray[np.bool_]:
        regions = np.zeros((n, *size), bool)
        room = [max(1, length - side + 1) for length, side in zip(size, sides, strict=True)]
        for region, start in zip(regions, generator.integers(room, size=(n, len(size))), strict=True):
            region[tuple(slice(one, one + side) for one, side in zip(start, sides, strict=True))] = True
        return regions

    return Regions(question, n, baseline, seed, draw)


def subsets(
    question: Question, n: int = 64, cells: int = 8, share: float = 0.2, baseline: Baseline = "mean", seed: int = 0
) -> Regions:
    """Random cells of a grid; see :func:`mu_fidelity`."""
    if n < 2 or cells < 1 or not 0 < share < 1:
        raise ValueError(
            "Expected n of at least 2, cells of at least 1 and a share between 0 and 1. Received "
            f"{n}, {cells} and {share}."
        )

    def draw(generator: np.random.Generator, size: tuple[int, ...]) -> NDArray[np.bool_]:
        grid = tuple(min(cells, length) for length in size)
        number = math.prod(grid)
        taken = min(max(1, round(share * number)), max(1, number - 1))
        chosen = generator.random((n, number)).argsort(axis=1) < taken
        places = [np.arange(length) * count // length for length, count in zip(size, grid, strict=True)]
        return chosen.reshape(n, *grid)[(slice(None), *np.ix_(*places))]

    return Regions(question, n, baseline, seed, draw)


def check_finite(heat: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """``heat`` as float32, with or without a sign.

    Raises:
        ValueError: it has another shape, or it holds NaN or infinity.
    """
    maps = np.asarray(heat, np.float32)
    if maps.shape != tuple(shape):
        raise ValueError(f"Expected heat maps of shape {tuple(shape)}. Received {maps.shape}.")
    if not np.isfinite(maps).all():
        raise ValueError("Expected finite heat. Received NaN or infinity.")
    return maps
