"""Limits where resampling has none: a perfect (or perfectly wrong) value stays the same in every resample.

In: a Task, its patients, a metric at its bound. Out: the limit on the open side. Ten right answers out of ten do not
prove a sensitivity of exactly 1, though every bootstrap resample says so.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medlab.evaluate import inputs, metrics

_CELLS = 4_000_000
"""Most numbers in one block of draws x cases (32 MB)."""

RATES = ("accuracy", "sensitivity", "specificity", "ppv", "npv")


def is_stuck(name: str, value: float, draws: NDArray[np.float64]) -> bool:
    """Whether ``value`` lies at a bound of its metric and no resample ever left it."""
    bounds = (-1.0, 1.0) if name == "mcc" else (0.0, 1.0)
    defined = draws[~np.isnan(draws)]
    return value in bounds and bool((defined == value).all())


def limits(
    name: str,
    value: float,
    task: inputs.Task,
    group: NDArray,
    *,
    threshold: float,
    confidence: float,
    n: int,
    seed: int,
) -> tuple[float, float]:
    """The interval of a metric over all classes that is stuck at its bound ``value``.

    Rates: Clopper and Pearson's exact limit with the patients that count (Biometrika 1934;26:404; for 95 % and m
    patients without an error about 1 - 3.7 / m, the "rule of three" of Hanley and Lippman-Hand, JAMA 1983;249:1743,
    on two sides). AUC: Newcombe's score interval, method 5 (Stat Med 2006;25:559). The rest: the Bayesian bootstrap
    (Rubin, Ann Stat 1981;9:130) with one more case of each class, whose answer is the opposite of all others seen;
    for a rate this is the limit of Clopper and Pearson again.
    """
    if name in RATES and (task.kind == "binary" or (task.kind == "multi-class" and name == "accuracy")):
        return rate(value, len(np.unique(group[_counted(name, task, threshold)])), confidence)
    if name == "auc":
        classes = range(len(task.classes)) if task.kind != "binary" else (1,)
        truths = [task.y == index if task.y.ndim == 1 else task.y[:, index] for index in classes]
        one = [
            area(value, len(np.unique(group[truth])), len(np.unique(group[~truth])), confidence)
            for truth in truths
            if truth.any() and not truth.all()
        ]
        return tuple(np.mean(one, axis=0).tolist())
    return _opposed(name, value, task, group, threshold=threshold, confidence=confidence, n=n, seed=seed)


def rate(value: float, m: int, confidence: float) -> tuple[float, float]:
    """Clopper and Pearson's limits of a rate that was 0 or 1 in all ``m`` patients."""
    if m == 0:
        return np.nan, np.nan
    open_side = ((1 - confidence) / 2) ** (1 / m)
    return (open_side, 1.0) if value == 1 else (0.0, 1 - open_side)


def area(value: float, positives: int, negatives: int, confidence: float) -> tuple[float, float]:
    """Newcombe's limits of an AUC: where ``value`` is z standard errors away, with the error *at the limit*.

    Args:
        value: observed AUC, 0 to 1.
        positives: number of independent positive cases, 1 or more.
        negatives: likewise of negative ones.
        confidence: level of the interval.

    Returns:
        low, high in 0 to 1, never of width 0.

    Source: Newcombe, Stat Med 2006;25:559, method 5: variance a (1 - a) (1 + s (1 - a)/(2 - a) + s a/(1 + a)) / mn,
    with s = (m + n)/2 - 1.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    z = norm.ppf((1 + confidence) / 2)
    half = (positives + negatives) / 2 - 1

    def excess(a: float) -> float:
        factor = 1 + half * (1 - a) / (2 - a) + half * a / (1 + a)
        return (value - a) ** 2 - z**2 * a * (1 - a) * factor / (positives * negatives)

    tiny = 1e-12
    low = brentq(excess, tiny, value - tiny) if value > 2 * tiny else 0.0
    high = brentq(excess, value + tiny, 1 - tiny) if value < 1 - 2 * tiny else 1.0
    return float(low), float(high)


def _counted(name: str, task: inputs.Task, threshold: float) -> NDArray[np.bool_]:
    """The cases in a rate's denominator."""
    if name == "accuracy":
        return np.ones(task.n, bool)
    called = task.p >= threshold
    return {"sensitivity": task.y, "specificity": ~task.y, "ppv": called, "npv": ~called}[name]


def _opposed(
    name: str,
    value: float,
    task: inputs.Task,
    group: NDArray,
    *,
    threshold: float,
    confidence: float,
    n: int,
    seed: int,
) -> tuple[float, float]:
    """Limits from random weights of the patients and of one more case of each class, opposed to what was seen."""
    perfect = (value == 0) if name in metrics.LOWER_IS_BETTER else (value == 1)
    extended = _with_one_more(task, wrong=perfect)
    count = int(group.max()) + 1
    index = np.r_[group, count + np.arange(extended.n - task.n)]
    # Fewer draws for many cases: the limit lies so near the bound that its error does not show.
    draws, block = min(n, max(400, _CELLS // extended.n)), max(1, _CELLS // extended.n)
    generator, values = np.random.default_rng(seed), []
    for start in range(0, draws, block):
        weights = generator.standard_exponential((min(block, draws - start), index.max() + 1))[:, index]
        values.append(metrics.scores(extended, weights, threshold=threshold, only=(name,))[0][name])
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(np.concatenate(values), [tail, 1 - tail])
    bounds = (min(value, low), value) if value > low else (value, max(value, high))
    return float(bounds[0]), float(bounds[1])


def _with_one_more(task: inputs.Task, *, wrong: bool) -> inputs.Task:
    """``task`` with one more case of each class that it has, called wrongly (or rightly) with full certainty."""
    present = np.flatnonzero(task.present())
    count = len(task.classes)
    if task.kind == "multi-class":
        called = (present + 1) % count if wrong else present
        return replace(task, y=np.r_[task.y, present], p=np.r_[task.p, np.eye(count)[called]])
    if task.kind == "multi-label":
        truth = np.array([np.zeros(count, bool), np.ones(count, bool)])
        return replace(task, y=np.r_[task.y, truth], p=np.r_[task.p, (truth ^ wrong).astype(np.float64)])
    truth = present.astype(bool)
    return replace(task, y=np.r_[task.y, truth], p=np.r_[task.p, (truth ^ wrong).astype(np.float64)])
