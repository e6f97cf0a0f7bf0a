"""Intervals: the mean of a score over cases, and how far it may be off.

In: one number a case, NaN where the score is undefined. Out: mean, low, high and the number of cases.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def mean_with_interval(
    values: NDArray[np.float64],
    *,
    seed: int = 0,
    n_boot: int = 1000,
    confidence: float = 0.95,
    groups: ArrayLike | None = None,
) -> tuple[float, float, float, int]:
    """Mean, low and high of the defined values by the percentile bootstrap over cases, and their number.

    Args:
        values: (n,), NaN where undefined.
        seed: of the resampling.
        n_boot: resamples.
        confidence: of the interval, between 0 and 1.
        groups: (n,) such as patients: resampled whole, because cases of one patient resemble each other.

    Returns:
        The interval is NaN where fewer than 2 cases (or groups) have a value; all is NaN where none has.

    Raises:
        ValueError: ``confidence`` or ``n_boot`` out of range, or not one group a case.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"Expected a confidence between 0 and 1. Received {confidence}.")
    if n_boot < 1:
        raise ValueError(f"Expected n_boot, the number of resamples, of at least 1. Received {n_boot}.")
    values = np.asarray(values, np.float64)
    if groups is not None and np.shape(groups) != values.shape:
        raise ValueError(f"Expected one group for each of {len(values)} cases. Received shape {np.shape(groups)}.")
    defined = ~np.isnan(values)
    known = values[defined]
    if len(known) == 0:
        return np.nan, np.nan, np.nan, 0
    members = None
    if groups is not None:
        _, members = np.unique(np.asarray(groups)[defined], return_inverse=True)
    count = len(known) if members is None else members.max() + 1
    if count == 1:
        return float(known.mean()), np.nan, np.nan, len(known)
    generator = np.random.default_rng(seed)
    if members is None:
        means = [known[generator.integers(count, size=count)].mean() for _ in range(n_boot)]
    else:
        total, size = np.bincount(members, known), np.bincount(members)
        drawn = generator.integers(count, size=(n_boot, count))
        means = total[drawn].sum(axis=1) / size[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(known.mean()), float(low), float(high), len(known)
