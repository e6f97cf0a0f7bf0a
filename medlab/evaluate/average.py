"""Averages over cases with bootstrap intervals over patients, for measures that each case has on its own.

In: a table of values, cases by columns, NaN where a case says nothing. Out: means and medians with limits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medlab.evaluate import interval

SHARE, LENGTH, SIGNED = "share", "length", "signed"
"""What a value is: 0 to 1; 0 or more; any number."""


@dataclass(frozen=True, eq=False)
class Averages:
    """Means and medians of every column.

    Attributes:
        mean: (columns,) of the defined values; NaN where there is none.
        mean_limits: (columns, 2).
        median: (columns,); may be infinite where values are.
        median_limits: (columns, 2).
        n: (columns,) defined values.
    """

    mean: NDArray[np.float64]
    mean_limits: NDArray[np.float64]
    median: NDArray[np.float64]
    median_limits: NDArray[np.float64]
    n: NDArray[np.int64]


def averages(
    values: NDArray[np.float64],
    kinds: list[str],
    group: NDArray[np.int64],
    count: int,
    *,
    ranked: NDArray[np.float64] | None = None,
    blocks: int = 1,
    confidence: float = 0.95,
    n: int = 2000,
    seed: int = 0,
) -> tuple[Averages, Averages]:
    """Averages of each column, and of each measure over its blocks of columns.

    Args:
        values: (cases, blocks * measures): the measures of the first block, of the second, and so on; finite or NaN.
        kinds: what each of the measures is, ``SHARE``, ``LENGTH`` or ``SIGNED``.
        group: (cases,) the patient of each case as a number.
        count: number of patients.
        ranked: the values that medians are taken of, which may be infinite; by default ``values``.
        blocks: number of blocks, such as the classes.
        confidence: level of the limits.
        n: number of resamples.
        seed: the same seed gives the same limits.

    Returns:
        For each column; and for each measure the mean of its blocks' means (medians likewise), with limits of its own.

    The standard deviation of the resampled means, times sqrt(m / (m - 1)) for m patients, is the standard error; the
    limits are those of Student's t with m - 1 degrees of freedom on the logit scale of a share, the log scale of a
    length, or the plain scale, so that none leaves its range. Medians have percentile limits.

    In 400 simulated samples of 8, 20 and 60 patients these limits held the true mean of a Dice of 0.9 in 96, 94 and
    96 % (percentiles of the resamples: 90, 91 and 94 %), and that of log-normal distances in 92, 91 and 93 % (84, 89
    and 92 %). No resample knows of failures that the sample lacks: with one failure in twenty patients, which a sample
    of 20 misses in a third of all tries, the limits held the mean Dice in 74 %, with 60 patients in 91 %.
    """
    ranked = values if ranked is None else ranked
    defined = np.isfinite(values)
    filled = np.where(defined, values, 0.0)
    # Each resample weights the cases; a column's mean is over those with a value.
    means, medians = [], []
    for weights in interval.resamples(group, count, n, seed):
        with np.errstate(invalid="ignore"):
            means.append((weights @ filled) / (weights @ defined.astype(np.float64)))
        medians.append(np.stack([_medians(column, weights) for column in ranked.T], axis=1))
    mean_draws, median_draws = np.concatenate(means), np.concatenate(medians)
    mean = _mean(values, axis=0)
    median = np.array([np.median(column[~np.isnan(column)]) if (~np.isnan(column)).any() else np.nan
                       for column in ranked.T])  # fmt: skip
    people = np.array([len(np.unique(group[column])) for column in defined.T])
    each = _collect(mean, mean_draws, median, median_draws, defined.sum(axis=0), people, kinds * blocks, confidence)
    shape = (blocks, len(kinds))
    together = defined.reshape(len(values), *shape).any(axis=1)
    all_people = np.array([len(np.unique(group[column])) for column in together.T])
    over = _collect(
        _mean(mean.reshape(shape), axis=0), _mean(mean_draws.reshape(-1, *shape), axis=1),
        _mean(median.reshape(shape), axis=0), _mean(median_draws.reshape(-1, *shape), axis=1),
        together.sum(axis=0), all_people, kinds, confidence,
    )  # fmt: skip
    return each, over


def limits(value: float, draws: NDArray[np.float64], kind: str, people: int, confidence: float) -> tuple[float, float]:
    """The interval of a mean from its resamples; see :func:`averages`.

    A single patient shows no spread: NaN. A share at its bound in every case has an exact limit: were the true mean q,
    m patients would all have the value 1 with a probability of at most q^m.
    """
    from scipy.stats import t

    if np.isnan(value) or people < 2:
        return np.nan, np.nan
    tail = (1 - confidence) / 2
    error = np.nanstd(draws) * np.sqrt(people / (people - 1))
    if kind == SHARE and value in (0.0, 1.0):
        reach = 1 - tail ** (1 / people)
        return (1 - reach, 1.0) if value else (0.0, reach)
    if error < 1e-12 * max(1.0, abs(value)):
        # No two patients differ: the spread is unknown, unless nothing can differ.
        return np.nan, np.nan
    reach = t.ppf(1 - tail, people - 1) * error
    if kind == SHARE:
        center, reach = np.log(value / (1 - value)), reach / (value * (1 - value))
        low, high = (1 / (1 + np.exp(-np.clip(center + side * reach, -700, 700))) for side in (-1, 1))
    elif kind == LENGTH:
        low, high = (value * np.exp(np.clip(side * reach / value, -700, 700)) for side in (-1, 1))
    else:
        low, high = value - reach, value + reach
    return float(low), float(high)


def _collect(
    mean: NDArray, mean_draws: NDArray, median: NDArray, median_draws: NDArray, n: NDArray, people: NDArray,
    kinds: list[str], confidence: float,
) -> Averages:  # fmt: skip
    mean_limits = [
        limits(value, draws, kind, number, confidence)
        for value, draws, kind, number in zip(mean, mean_draws.T, kinds, people, strict=True)
    ]
    median_limits = [
        _percentiles(draws, confidence) if number > 1 else (np.nan, np.nan)
        for draws, number in zip(median_draws.T, people, strict=True)
    ]
    return Averages(mean, np.array(mean_limits), median, np.array(median_limits), n)


def _medians(column: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The lower median of the defined values under each row of weights; NaN where all weigh nothing."""
    there = np.flatnonzero(~np.isnan(column))
    if not len(there):
        return np.full(len(weights), np.nan)
    order = there[np.argsort(column[there], kind="stable")]
    total = np.cumsum(weights[:, order], axis=1)
    found = column[order][(total >= total[:, -1:] / 2).argmax(axis=1)]
    return np.where(total[:, -1] > 0, found, np.nan)


def _percentiles(draws: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """Percentile limits of values among which are infinities, between which nothing can be interpolated."""
    defined = draws[~np.isnan(draws)]
    if not len(defined):
        return np.nan, np.nan
    tail = (1 - confidence) / 2
    return tuple(float(np.quantile(defined, at, method="inverted_cdf")) for at in (tail, 1 - tail))


def _mean(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """The mean of what is not NaN; NaN where all is, without a warning."""
    there = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(there, values, 0).sum(axis=axis) / there.sum(axis=axis)
