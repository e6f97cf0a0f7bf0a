"""Removal: voxels taken away so that they leave no trace, and what the model says without the hottest or the coldest.

In: any Keras model, images (n, i, j[, k], c), heat maps (n, i, j[, k]). Out: curves and one number a case.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.backend import keras
from medlab.explain.asking.question import Question
from medlab.explain.asking.targets import Target
from medlab.explain.checks.curves import rank_of
from medlab.explain.checks.localize import check_heat
from medlab.explain.maps.draws import generator_of

FRACTIONS = (0.1, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class Removal:
    """How the probability of the target changes when the hottest, or the coldest, voxels are removed.

    Attributes:
        gap: (n,) ``least`` - ``most``, averaged over the fractions: -1 to 1, high is good, chance is near 0.
        most: (n, fractions) probability of the target without the hottest voxels.
        least: (n, fractions) without the coldest.
        fractions: share of the voxels that were removed.
    """

    gap: NDArray[np.float64]
    most: NDArray[np.float64]
    least: NDArray[np.float64]
    fractions: NDArray[np.float64]


def road(
    model: keras.Model,
    x: ArrayLike,
    heat: ArrayLike,
    *,
    target: Target = None,
    fractions: Sequence[float] = FRACTIONS,
    noise: float = 0.01,
    seed: int = 0,
    batch_size: int | None = None,
) -> Removal:
    """How much more the probability falls without the hottest voxels than without the coldest: high is good.

    A removed voxel gets the weighted mean of its neighbors, removed ones included (a linear system), plus a little
    noise: a hole of one gray value would itself be something that a model can see. It takes two such systems a
    fraction: on one core 0.01 to 0.1 s each for 128 x 128 pixels, 1 to 2 s for 64 x 64 x 64 voxels.

    Args:
        model: a built Keras model; not changed.
        x: (n, i, j[, k], c) images, standardized as the model expects.
        heat: (n, i, j[, k]), 0 or above.
        target: class index, (n,) of them, None for the class predicted for ``x``, or a function of the output.
        fractions: of the voxels to remove, each between 0 and 1.
        noise: standard deviation of the noise on removed voxels, in standard deviations of the image (chosen).
        seed: of the noise, and of the order of voxels of equal heat.
        batch_size: cases at a time; by default at most 64, fewer of large images.

    Returns:
        A :class:`Removal`.

    Raises:
        ValueError: images or heat maps of another shape or with NaN, a target out of range, or a fraction out of
            range.

    Source: Rong et al., "A consistent and efficient evaluation strategy for attribution methods", ICML 2022:
    noisy linear imputation, in the plane with weights 1/6 for neighbors that share a side and 1/12 for the
    diagonal ones; in 3-D the weight halves with each further axis that is crossed (chosen, the same rule).
    """
    return road_of(Question(model, x, target, batch_size=batch_size), heat, fractions, noise, seed)


def road_of(
    question: Question, heat: ArrayLike, fractions: Sequence[float] = FRACTIONS, noise: float = 0.01, seed: int = 0
) -> Removal:
    """See :func:`road`."""
    images = question.images
    maps = check_heat(heat, images.shape[:-1])
    shares = np.asarray(fractions, np.float64)
    if shares.ndim != 1 or not len(shares) or not ((shares > 0) & (shares < 1)).all():
        raise ValueError(f"Expected fractions between 0 and 1. Received {fractions!r}.")
    voxels = int(np.prod(question.size))
    counts = np.clip(np.rint(shares * voxels).astype(int), 0, voxels - 1)
    most, least = np.zeros((2, len(images), len(shares)))
    neighbors = _neighbors(question.size) if len(images) else None
    for part in question.parts():
        cases = np.arange(part.start, part.start + len(images[part]))
        ranks = [rank_of(maps[case], generator_of(images[case], seed)) for case in cases]
        for number, count in enumerate(counts):
            for result, gone in ((most, lambda rank: rank < count), (least, lambda rank: rank >= voxels - count)):  # noqa: B023
                changed = np.empty_like(images[part])
                for place, (case, rank) in enumerate(zip(cases, ranks, strict=True)):
                    filled = impute(images[case], gone(rank), neighbors)
                    grain = generator_of(images[case], seed, number).normal(size=filled.shape)
                    spread = noise * images[case].std(axis=tuple(range(images[case].ndim - 1)))
                    changed[place] = filled + gone(rank)[..., None] * (grain * spread)
                result[part, number] = question.answers(changed, part, probability=True)
    return Removal(gap=(least - most).mean(axis=1), most=most, least=least, fractions=shares)


def impute(image: NDArray[np.float32], gone: NDArray[np.bool_], neighbors: Any = None) -> NDArray[np.float32]:
    """``image`` with each voxel that is gone replaced by the weighted mean of its neighbors; see :func:`road`.

    Args:
        image: (i, j[, k], c) float32.
        gone: (i, j[, k]) the voxels to replace; not all of them.
        neighbors: the matrix of weights, where it was made before.

    Raises:
        ValueError: all voxels are gone.
    """
    from scipy.sparse import diags
    from scipy.sparse.linalg import cg, splu

    lost = np.flatnonzero(gone)
    if len(lost) == gone.size:
        raise ValueError("Expected a voxel that stays, to fill the others from. All are to be removed.")
    if not len(lost):
        return image
    kept = np.flatnonzero(~gone)
    weights = (_neighbors(gone.shape) if neighbors is None else neighbors)[lost]
    degree = np.asarray(weights.sum(axis=1)).ravel()
    system = diags(degree) - weights[:, lost]
    filled = image.reshape(gone.size, -1).astype(np.float64)
    known = weights[:, kept] @ filled[kept]
    # The matrix is symmetric, and positive definite because every voxel has a way to one that stays.
    if gone.ndim == 2:
        filled[lost] = splu(system.tocsc()).solve(known)
    else:  # the factors of a volume's matrix would fill the memory
        for channel, right in enumerate(known.T):
            start = np.full(len(lost), filled[kept, channel].mean())
            if np.abs(right - system @ start).max() > 1e-9 * max(1.0, np.abs(right).max()):
                start, _ = cg(system, right, x0=start, rtol=1e-4, maxiter=2000, M=diags(1 / degree))
            filled[lost, channel] = start
    return filled.reshape(image.shape).astype(np.float32)


def _neighbors(size: tuple[int, ...]) -> Any:
    """The symmetric sparse matrix of weights between voxels that touch: 1 for a side, halved for each further axis."""
    from scipy.sparse import coo_array

    number = np.arange(int(np.prod(size))).reshape(size)
    rows, columns, values = [], [], []
    for step in itertools.product((-1, 0, 1), repeat=len(size)):
        if not any(step):
            continue
        here = tuple(slice(max(0, -one), length - max(0, one)) for one, length in zip(step, size, strict=True))
        there = tuple(slice(max(0, one), length - max(0, -one)) for one, length in zip(step, size, strict=True))
        rows.append(number[here].ravel())
        columns.append(number[there].ravel())
        values.append(np.full(rows[-1].size, 2.0 ** (1 - np.abs(step).sum())))
    pairs = (np.concatenate(rows), np.concatenate(columns))
    return coo_array((np.concatenate(values), pairs), shape=(number.size, number.size)).tocsr()
