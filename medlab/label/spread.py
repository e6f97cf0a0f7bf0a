"""Spread: cases that together stand for all others.

In: features. Out: the numbers of cases, none far from which another one lies.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.label import received


def core_set(
    features: ArrayLike, *, count: int = 10, labeled: ArrayLike | None = None, seed: int = 0
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The cases that leave none far from a labeled one: k-center greedy, each time the case farthest from all chosen.

    Args:
        features: (n, d), such as :func:`medlab.explain.features` gives. Distances are Euclidean.
        count: how many.
        labeled: (m,) numbers of cases that have a label: the first centers.
        seed: where none are labeled, the first case is drawn by it.

    Returns:
        (count,) numbers in the order chosen, and (count,) the distance of each to the nearest center when it was
        chosen, which does not rise; NaN for a first case that was drawn. Equal distances: the case drawn first by
        ``seed``, so that constant features give random cases.

    Raises:
        ValueError: features that are not finite (n, d), or fewer unlabeled cases than ``count``.

    Source: Sener and Savarese, ICLR 2018, algorithm 1.
    """
    values = np.asarray(features)
    if values.ndim != 2 or values.dtype.kind not in "biuf" or not values.size or not np.isfinite(values).all():
        raise ValueError(f"Expected finite features (n, d). Received shape {values.shape}, {values.dtype}.")
    values = values.astype(np.float64)
    known = labeled_mask(labeled, len(values))
    count = at_most(count, known)
    generator = np.random.default_rng(received.whole_number(seed, 0, "seed"))
    order = generator.permutation(len(values))  # decides between equal distances
    # Squares neither overflow nor vanish near 1; a power of 2 leaves every digit of the distances.
    power = int(np.frexp(np.abs(values).max())[1])
    values, known = np.ldexp(values, -power)[order], known[order]
    nearest = np.full(len(values), np.inf)
    for center in np.flatnonzero(known):
        nearest = np.minimum(nearest, _distances(values, center))
    nearest[known] = -np.inf
    chosen, distances = np.empty(count, np.intp), np.empty(count)
    for number in range(count):
        new = int(np.argmax(nearest))
        chosen[number], distances[number] = order[new], nearest[new]
        nearest = np.minimum(nearest, _distances(values, new))
        nearest[new] = -np.inf
    return chosen, np.ldexp(np.where(np.isinf(distances), np.nan, distances), power)


def labeled_mask(labeled: ArrayLike | None, n: int) -> NDArray[np.bool_]:
    """(n,) whether a case has a label, from numbers of cases or from (n,) booleans.

    Raises:
        ValueError: numbers outside 0 to n - 1, one of them twice, booleans of another length, or n numbers that are all
            0 or 1, which look like booleans.
    """
    if labeled is None:
        return np.zeros(n, bool)
    given = np.asarray(labeled)
    if given.dtype == bool and given.shape == (n,):
        return given.copy()
    if not given.size:
        return np.zeros(n, bool)
    if given.ndim != 1 or given.dtype.kind not in "iu" or given.min() < 0 or given.max() >= n:
        raise ValueError(
            f"Expected labeled as numbers of cases from 0 to {n - 1}, or {n} booleans. Received "
            f"{given.dtype} of shape {given.shape}."
        )
    if len(given) == n > 1 and given.max() <= 1:
        raise ValueError(
            f"Expected numbers of cases, or {n} booleans. Received {n} numbers that are all 0 or 1: if they say which "
            "cases are meant, give them as booleans (values == 1)."
        )
    if len(np.unique(given)) < len(given):
        raise ValueError(
            f"Expected numbers of cases, each once. Received {len(given)}, of which {len(np.unique(given))} differ; if "
            f"there is one value a case, give {n} booleans."
        )
    mask = np.zeros(n, bool)
    mask[given] = True
    return mask


def at_most(count: int, known: NDArray[np.bool_]) -> int:
    """``count``, if so many cases have no label yet.

    Raises:
        ValueError: below 1, or more than there are.
    """
    count = received.whole_number(count, 1, "count")
    left = int((~known).sum())
    if count > left:
        raise ValueError(
            f"Expected to ask for at most {left} cases: {len(known)} there are, {len(known) - left} of them labeled. "
            f"Received count={count}."
        )
    return count


def _distances(values: NDArray[np.float64], center: int) -> NDArray[np.float64]:
    return np.linalg.norm(values - values[center], axis=1)
