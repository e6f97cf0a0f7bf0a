"""The arithmetic of every classification metric, for many weightings of the same cases at once.

In: truth, probabilities, decisions and a (b, n) matrix that says how often each case counts in each of b resamples.
Out: (b,) values; NaN where a metric is undefined. It knows nothing of patients, intervals or tables.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.evaluate import inputs

METRICS = (
    "auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "ppv", "npv", "f1", "mcc", "brier", "ece",
    "average_precision",
)  # fmt: skip
"""The rows of a table, in order."""

LOWER_IS_BETTER = ("brier", "ece")

BINS = 10

Array = NDArray[np.float64]


def auc(y: ArrayLike, p: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a positive case is ranked above a negative one, ties counting half.

    Args:
        y: (n,) class indices, or (n, classes) of 0 and 1 for a multi-label task.
        p: (n,) probability of the positive class, or (n, classes).

    Returns:
        0 to 1; the macro mean of one class against the rest where there are several. NaN where ``y`` has one class.

    Raises:
        ValueError: as :func:`medlab.evaluate.classification`.

    Source: Bamber, J Math Psychol 1975;12:387; Hanley and McNeil, Radiology 1982;143:29.
    """
    task = inputs.check(y, p)
    overall, _ = scores(task, np.ones((1, task.n)), threshold=0.5, only=("auc",))
    return float(overall["auc"][0])


def scores(
    task: inputs.Task, weights: Array, *, threshold: float = 0.5, only: tuple[str, ...] = METRICS
) -> tuple[dict[str, Array], list[dict[str, Array]]]:
    """Every metric under every weighting, over all classes and for each class.

    Args:
        task: the checked truth and probabilities of n cases.
        weights: (b, n), 0 or above; ``ones((1, n))`` gives the plain values.
        threshold: a case is called positive where p is at least this (binary and multi-label); with several
            exclusive classes the most probable is called.
        only: the metrics that are wanted.

    Returns:
        The values over all classes, name -> (b,), and a list of the same for each class (empty for a binary task).
        Several classes: the mean over the classes for which a metric is defined (macro, one against the rest),
        except accuracy (share of right calls), mcc (Gorodkin's R_K), brier (squared error summed over the classes, 0
        to 2) and ece (of the called class) of exclusive classes, which have forms of their own.
    """
    if task.kind == "binary":
        return binary(task.y, task.p, task.p >= threshold, weights, only), []
    exclusive = task.kind == "multi-class"
    called = task.p.argmax(axis=1) if exclusive else None
    each = []
    for index in range(len(task.classes)):
        truth = (task.y == index) if exclusive else task.y[:, index]
        decision = (called == index) if exclusive else task.p[:, index] >= threshold
        each.append(binary(truth, task.p[:, index], decision, weights, only))
    overall = {name: _mean_defined(np.stack([one[name] for one in each])) for name in only}
    if exclusive:
        total = weights.sum(axis=1)
        special = {
            "accuracy": lambda: ratio(weights @ (called == task.y), total),
            "mcc": lambda: _mcc_of_confusion(confusion(task.y, called, len(task.classes), weights)),
            "brier": lambda: ratio(weights @ ((task.p - np.eye(len(task.classes))[task.y]) ** 2).sum(axis=1), total),
            "ece": lambda: _ece(called == task.y, task.p.max(axis=1), weights),
        }
        overall |= {name: form() for name, form in special.items() if name in only}
    return overall, each


def binary(
    y: NDArray, p: Array, decision: NDArray, weights: Array, only: tuple[str, ...] = METRICS
) -> dict[str, Array]:
    """The metrics of one positive class: y (n,) truth, p (n,) probability, decision (n,) bool, weights (b, n)."""
    y = np.asarray(y, bool)
    values: dict[str, Array] = {}
    if "auc" in only or "average_precision" in only:
        values["auc"], values["average_precision"] = _ranking(y, p, weights)
    cells = np.stack([y & decision, ~y & decision, ~y & ~decision, y & ~decision], axis=1).astype(np.float64)
    tp, fp, tn, fn = (weights @ cells).T
    total = tp + fp + tn + fn
    values["accuracy"] = ratio(tp + tn, total)
    values["sensitivity"] = ratio(tp, tp + fn)
    values["specificity"] = ratio(tn, tn + fp)
    values["balanced_accuracy"] = _mean_defined(np.stack([values["sensitivity"], values["specificity"]]))
    values["ppv"] = ratio(tp, tp + fp)
    values["npv"] = ratio(tn, tn + fn)
    values["f1"] = ratio(2 * tp, 2 * tp + fp + fn)
    values["mcc"] = _mcc(tp, fp, tn, fn)
    if "brier" in only:
        values["brier"] = ratio(weights @ (p - y) ** 2, total)
    if "ece" in only:
        values["ece"] = _ece(y, p, weights)
    return {name: values[name] for name in only}


def confusion(y: NDArray, called: NDArray, classes: int, weights: Array) -> Array:
    """(b, classes, classes): how often truth (row) was called (column) under each weighting."""
    cell = y * classes + called
    return (weights @ np.eye(classes * classes)[cell]).reshape(len(weights), classes, classes)


def bin_index(p: Array, bins: int = BINS) -> NDArray[np.int64]:
    """The bin of each probability: ``bins`` of equal width, each open below and closed above, 0 in the first."""
    return np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], p, side="left")


def ratio(above: Array, below: Array) -> Array:
    """``above / below``, NaN where that is 0 / 0: a rate without cases is undefined, not 0."""
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below != 0)


def _ranking(y: NDArray, p: Array, weights: Array) -> tuple[Array, Array]:
    """AUC and average precision from one sorting; positive cases of the same probability are one step.

    Both need sums over the cases below each step alone, so that the work after the running sum of the negative cases
    grows with the number of steps and not with that of all cases.
    """
    positives, negatives = np.flatnonzero(y), np.flatnonzero(~y)
    positives, negatives = positives[np.argsort(p[positives])], negatives[np.argsort(p[negatives])]
    step = np.take(weights, positives, axis=1)
    starts = np.flatnonzero(np.diff(p[positives], prepend=-1))
    if len(starts) < len(positives):
        step = np.add.reduceat(step, starts, axis=1)
    running = np.zeros((len(weights), len(negatives) + 1))
    np.cumsum(np.take(weights, negatives, axis=1), axis=1, out=running[:, 1:])
    score, against = p[positives][starts], p[negatives]
    below = np.take(running, np.searchsorted(against, score, side="left"), axis=1)
    below_or_tied = np.take(running, np.searchsorted(against, score, side="right"), axis=1)
    all_positive, all_negative = step.sum(axis=1), running[:, -1]
    concordant = (np.einsum("bg,bg->b", step, below) + np.einsum("bg,bg->b", step, below_or_tied)) / 2
    area = ratio(concordant, all_positive * all_negative)
    # At the threshold of a step everything from there upward is called positive.
    true = all_positive[:, None] - step.cumsum(axis=1) + step
    called = all_negative[:, None] - below + true
    called[called == 0] = 1  # where nothing is called, nothing is counted either
    average = ratio(np.einsum("bg,bg,bg->b", step, true, 1 / called), all_positive)
    # With positives alone every order has precision 1, which says nothing.
    return area, np.where(all_negative > 0, average, np.nan)


def _mcc(tp: Array, fp: Array, tn: Array, fn: Array) -> Array:
    """Matthews correlation; 0 where all calls are alike (they carry nothing), NaN where the truth has one class."""
    covariance = tp * tn - fp * fn
    spread = (tp + fp) * (tn + fn) * (tp + fn) * (tn + fp)
    value = np.divide(covariance, np.sqrt(spread), out=np.zeros_like(covariance), where=spread > 0)
    return np.where((tp + fn == 0) | (tn + fp == 0), np.nan, value)


def _mcc_of_confusion(matrix: Array) -> Array:
    """R_K, the correlation of several classes (Gorodkin, Comput Biol Chem 2004;28:367); undefined cases as above."""
    truth, called = matrix.sum(axis=2), matrix.sum(axis=1)
    total = truth.sum(axis=1)
    covariance = np.trace(matrix, axis1=1, axis2=2) * total - (truth * called).sum(axis=1)
    of_truth = total**2 - (truth**2).sum(axis=1)
    spread = of_truth * (total**2 - (called**2).sum(axis=1))
    value = np.divide(covariance, np.sqrt(spread), out=np.zeros_like(covariance), where=spread > 0)
    return np.where(of_truth == 0, np.nan, value)


def _ece(hit: NDArray, p: Array, weights: Array, bins: int = BINS) -> Array:
    """Sum over the bins of |sum of (hit - p)|, divided by the number of cases."""
    gap = np.zeros((len(p), bins))
    gap[np.arange(len(p)), bin_index(p, bins)] = hit - p
    return ratio(np.abs(weights @ gap).sum(axis=1), weights.sum(axis=1))


def _mean_defined(values: Array) -> Array:
    """Mean over the first axis of what is not NaN; NaN where nothing is left."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0).sum(axis=0), defined.sum(axis=0).astype(np.float64))
