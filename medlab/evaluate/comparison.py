"""Which of two models is better on the same cases, and whether that may be chance.

In: one truth and two predictions. Out: their difference with an interval and a p-value.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.evaluate import inputs, interval, metrics
from medlab.evaluate.result import NAMES, number

TESTS = ("delong", "mcnemar", "bootstrap")


@dataclass(frozen=True, eq=False)
class Comparison:
    """The difference of two models on the same cases.

    Attributes:
        test: ``"delong"``, ``"mcnemar"`` or ``"bootstrap"``.
        metric: what was compared.
        a: its value for the first model.
        b: its value for the second.
        difference: a - b: above 0 the first has the higher value.
        low: lower limit of the difference.
        high: upper limit.
        p_value: chance of a difference this large (either way) if the models were equal.
        n: number of cases.
        notes: what a reader has to know.
    """

    test: str
    metric: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    p_value: float
    n: int
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, object]:
        """Plain JSON types; an undefined number is None."""
        shown = {name: number(getattr(self, name)) for name in ("a", "b", "difference", "low", "high", "p_value")}
        return {"test": self.test, "metric": self.metric, "n": self.n, **shown, "notes": list(self.notes)}

    def __str__(self) -> str:
        if np.isnan(self.p_value):
            chance = "p undefined"
        else:
            chance = "p < 0.001" if self.p_value < 0.001 else f"p = {self.p_value:.3f}"
        limits = "" if np.isnan(self.low) else f" ({self.low:+.3f} to {self.high:+.3f})"
        line = (
            f"{NAMES.get(self.metric, self.metric)} {self.a:.3f} against {self.b:.3f}: difference "
            f"{self.difference:+.3f}{limits}, {chance} ({self.test}, {self.n} cases)"
        )
        return "\n".join([line, *(f"  - {note}" for note in self.notes)])


def compare(
    y: ArrayLike,
    p_a: ArrayLike,
    p_b: ArrayLike,
    *,
    test: str = "delong",
    metric: str = "auc",
    groups: ArrayLike | None = None,
    threshold: float = 0.5,
    confidence: float = 0.95,
    n: int = 2000,
    seed: int = 0,
) -> Comparison:
    """The difference between two models on the same cases, tested as paired.

    Args:
        y: (n,) class indices, or (n, classes) of 0 and 1 for a multi-label task.
        p_a: the first model's probabilities, as :func:`medlab.evaluate.classification` takes them.
        p_b: the second model's, of the same shape.
        test: ``"delong"``: AUC of a binary task (DeLong et al., Biometrics 1988;44:837). ``"mcnemar"``: accuracy,
            exact on the cases that one calls rightly and the other wrongly (McNemar, Psychometrika 1947;12:153),
            interval after Agresti and Min (Stat Med 2005;24:729). ``"bootstrap"``: any ``metric``, patients drawn
            again, both models judged on the same draws.
        metric: for the bootstrap, a row of ``classification``.
        groups: (n,) the patient of each case. DeLong's variance then sums over patients (Obuchowski, Biometrics
            1997;53:567); McNemar's test needs one case a patient.
        threshold: a case is called positive from this probability.
        confidence: level of the interval.
        n: number of resamples of the bootstrap.
        seed: its seed.

    Returns:
        A Comparison; ``difference`` is the first model's value minus the second's.

    Raises:
        ValueError: an unknown test or metric, a task that the test does not know, several cases a patient with
            McNemar, or arguments as ``classification``.
    """
    interval.check_level(confidence, n)
    if test not in TESTS:
        raise ValueError(f"Expected a test among {', '.join(TESTS)}. Received {test!r}.")
    if metric not in metrics.METRICS:
        raise ValueError(f"Expected a metric among {', '.join(metrics.METRICS)}. Received {metric!r}.")
    if test == "delong" and metric != "auc":
        raise ValueError(f"Expected the metric auc for DeLong's test. Received {metric!r}; use test='bootstrap'.")
    a, b = inputs.check(y, p_a), inputs.check(y, p_b)
    if a.p.shape != b.p.shape:
        raise ValueError(f"Expected two predictions of one shape. Received {a.p.shape} and {b.p.shape}.")
    if test == "bootstrap":
        return _bootstrap(a, b, metric, groups, threshold, confidence, n, seed)
    group, patients = inputs.patients(groups, a.n)
    if test == "mcnemar":
        if patients < a.n:
            raise ValueError("Expected one case a patient for McNemar's test. Use test='bootstrap', metric='accuracy'.")
        return _mcnemar(a, b, threshold, confidence)
    if a.kind != "binary":
        raise ValueError(f"Expected a binary task for DeLong's test. Received a {a.kind} one; use test='bootstrap'.")
    return _delong(a, b, group, confidence)


def placements(y: NDArray[np.bool_], p: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) the share of cases of the other class that each case is ranked rightly against, ties counting half.

    DeLong's structural components, from midranks in O(n log n) (Sun and Xu, IEEE Signal Process Lett 2014;21:1389).
    The mean over the positive cases is the AUC, and so is the mean over the negative ones.
    """
    from scipy.stats import rankdata

    share = np.empty(len(p))
    among_all = rankdata(p)
    share[y] = (among_all[y] - rankdata(p[y])) / (~y).sum()
    share[~y] = 1 - (among_all[~y] - rankdata(p[~y])) / y.sum()
    return share


def delong_covariance(y: NDArray[np.bool_], shares: NDArray[np.float64], group: NDArray[np.int64]) -> NDArray:
    """Covariance of several AUCs on the same cases.

    Args:
        y: (n,) truth with both classes.
        shares: (k, n) each model's :func:`placements`.
        group: (n,) patient of each case.

    Returns:
        (k, k). DeLong's where every case is a patient of its own; otherwise the sum over patients of what each adds.
        NaN where a class has a single independent case: no spread can be estimated.
    """
    areas = shares[:, y].mean(axis=1, keepdims=True)
    m, k = int(y.sum()), int((~y).sum())
    count = int(group.max()) + 1
    if count == len(y):
        if min(m, k) < 2:
            return np.full((len(shares), len(shares)), np.nan)
        return np.cov(shares[:, y]).reshape(len(shares), -1) / m + np.cov(shares[:, ~y]).reshape(len(shares), -1) / k
    if count < 2:
        return np.full((len(shares), len(shares)), np.nan)
    pull = (shares - areas) / np.where(y, m, k)
    of_patient = np.stack([np.bincount(group, weights=row, minlength=count) for row in pull])
    return of_patient @ of_patient.T * count / (count - 1)


def _delong(a: inputs.Task, b: inputs.Task, group: NDArray[np.int64], confidence: float) -> Comparison:
    from scipy.stats import norm

    if a.y.all() or not a.y.any():
        note = "The truth has one class: no AUC is defined."
        return Comparison("delong", "auc", *[np.nan] * 6, a.n, [note])
    shares = np.stack([placements(a.y, a.p), placements(b.y, b.p)])
    first, second = shares[:, a.y].mean(axis=1).tolist()
    covariance = delong_covariance(a.y, shares, group)
    difference = first - second
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    if np.array_equal(shares[0], shares[1]):
        note = "Both rank every case alike: there is no difference to test."
        return Comparison("delong", "auc", first, second, 0.0, 0.0, 0.0, 1.0, a.n, [note])
    if not variance > 1e-18:
        note = "No spread can be estimated (a single case in a class, or perfect ranks): neither interval nor p-value."
        return Comparison("delong", "auc", first, second, difference, np.nan, np.nan, np.nan, a.n, [note])
    error = np.sqrt(variance)
    reach = norm.ppf((1 + confidence) / 2) * error
    chance = float(2 * norm.sf(abs(difference) / error))
    return Comparison("delong", "auc", first, second, difference, difference - reach, difference + reach, chance, a.n)


def _mcnemar(a: inputs.Task, b: inputs.Task, threshold: float, confidence: float) -> Comparison:
    from scipy.stats import binomtest, norm

    if a.kind == "multi-label":
        raise ValueError("Expected one answer a case for McNemar's test. Received a multi-label task; test one label.")
    right = [
        (task.p.argmax(axis=1) == task.y) if task.kind == "multi-class" else ((task.p >= threshold) == task.y)
        for task in (a, b)
    ]
    only_a, only_b = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    chance = float(binomtest(only_a, only_a + only_b, 0.5).pvalue) if only_a + only_b else 1.0
    # Agresti and Min: half a case more in each of the four cells.
    cases, up, down = a.n + 2, only_a + 0.5, only_b + 0.5
    center = (up - down) / cases
    reach = norm.ppf((1 + confidence) / 2) * np.sqrt(up + down - (up - down) ** 2 / cases) / cases
    note = f"Right only by the first: {only_a}; only by the second: {only_b}."
    low, high = max(-1.0, center - reach), min(1.0, center + reach)
    values = float(right[0].mean()), float(right[1].mean())
    difference = (only_a - only_b) / a.n
    return Comparison("mcnemar", "accuracy", *values, difference, float(low), float(high), chance, a.n, [note])


def _bootstrap(
    a: inputs.Task,
    b: inputs.Task,
    metric: str,
    groups: ArrayLike | None,
    threshold: float,
    confidence: float,
    n: int,
    seed: int,
) -> Comparison:
    one, two = (interval.draw(task, groups, n=n, seed=seed, threshold=threshold, only=(metric,)) for task in (a, b))
    values = one.values[0][metric], two.values[0][metric]
    differences = one.draws[0][metric] - two.draws[0][metric]
    differences = differences[~np.isnan(differences)]
    if np.isnan(values[0] - values[1]) or not len(differences):
        note = f"{NAMES[metric]} is undefined for these cases."
        return Comparison("bootstrap", metric, *values, *[np.nan] * 4, a.n, [note])
    low, high = interval.percentiles(differences, confidence)
    # One is added above and below, so that no finite number of draws proves a chance of 0 (Davison and Hinkley 1997).
    tails = [(1 + int((side * differences <= 0).sum())) / (1 + len(differences)) for side in (1, -1)]
    chance = min(1.0, 2 * min(tails))
    return Comparison("bootstrap", metric, *values, values[0] - values[1], low, high, chance, a.n)
