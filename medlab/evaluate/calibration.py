"""Calibration: whether a probability of 0.8 comes true in 8 of 10 cases, and what mends it.

In: truth with probabilities or logits. Out: an error, a curve, a temperature, a threshold.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from medlab.evaluate import inputs, metrics


def ece(y: ArrayLike, p: ArrayLike, bins: int = metrics.BINS) -> float:
    """Expected calibration error: the mean distance between stated probability and observed frequency, over bins.

    Args:
        y: (n,) class indices, or (n, classes) of 0 and 1 for a multi-label task.
        p: (n,) probability of the positive class, or (n, classes).
        bins: number of bins of equal width from 0 to 1, each open below and closed above.

    Returns:
        0 (calibrated) to 1. Binary: probability of the positive class against the share of positives (Naeini et al.,
        AAAI 2015). Several exclusive classes: probability of the called class against the share of right calls (Guo
        et al., ICML 2017). Multi-label: the mean over the labels. It depends on the bins and is biased upward in
        small sets: compare only values of the same ``bins`` and about the same n.

    Raises:
        ValueError: fewer than one bin, or arguments as :func:`medlab.evaluate.classification`.
    """
    if bins < 1:
        raise ValueError(f"Expected at least one bin. Received {bins!r}.")
    task = inputs.check(y, p)
    if task.kind == "multi-class":
        tables = [reliability(task.p.argmax(axis=1) == task.y, task.p.max(axis=1), bins)]
    elif task.kind == "multi-label":
        tables = [reliability(task.y[:, k], task.p[:, k], bins) for k in range(len(task.classes))]
    else:
        tables = [reliability(task.y, task.p, bins)]
    gaps = [np.nansum(np.abs(one["accuracy"] - one["confidence"]) * one["count"]) / task.n for one in tables]
    return float(np.mean(gaps))


def reliability(hit: NDArray[np.bool_], p: NDArray[np.float64], bins: int = metrics.BINS) -> pd.DataFrame:
    """The reliability curve, one row a bin.

    Args:
        hit: (n,) whether the event came true.
        p: (n,) its stated probability.
        bins: number of bins of equal width.

    Returns:
        low and high (edges), confidence (mean probability), accuracy (share that came true) and count; NaN where a
        bin is empty.
    """
    edges = np.linspace(0, 1, bins + 1)
    which = metrics.bin_index(np.asarray(p, np.float64), bins)
    cases = np.bincount(which, minlength=bins)
    weight = cases.astype(np.float64)
    return pd.DataFrame(
        {
            "low": edges[:-1],
            "high": edges[1:],
            "confidence": metrics.ratio(np.bincount(which, weights=p, minlength=bins), weight),
            "accuracy": metrics.ratio(np.bincount(which, weights=np.asarray(hit, float), minlength=bins), weight),
            "count": cases,
        }
    )


def temperature(logits: ArrayLike, y: ArrayLike) -> float:
    """The temperature T that calibrates ``logits / T`` best; fit it on validation cases, never on test cases.

    Args:
        logits: (n,) or (n, 1) binary, (n, classes) exclusive classes; (n, classes) with ``y`` of the same shape for
            independent labels.
        y: (n,) class indices, or (n, classes) of 0 and 1.

    Returns:
        0.01 to 100: above 1 the model was overconfident, below 1 too hesitant. It minimizes the negative log
        likelihood, which has one minimum in 1/T. Where all cases are called rightly it falls to 0.01, where the
        logits are worse than chance it rises to 100: neither is a calibration.

    Raises:
        ValueError: lengths that differ, no cases, NaN, labels outside the classes.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import expit, softmax

    logits = np.asarray(logits, np.float64)
    if not np.isfinite(logits).all():
        raise ValueError(f"Expected finite logits. {(~np.isfinite(logits)).sum()} are NaN or infinite.")
    if logits.ndim == 2 and logits.shape[1] == 1:
        logits = logits[:, 0]
    exclusive = logits.ndim == 2 and np.ndim(y) == 1
    # The shared checks of labels and shapes, on the probabilities at T = 1.
    task = inputs.check(y, softmax(logits, axis=1) if exclusive else expit(logits))
    truth = np.eye(logits.shape[1])[task.y.astype(np.int64)] if exclusive else task.y.astype(np.float64)

    def loss(log_temperature: float) -> float:
        scaled = logits * np.exp(-log_temperature)
        if exclusive:
            return float(np.mean(np.logaddexp.reduce(scaled, axis=1) - (scaled * truth).sum(axis=1)))
        return float(np.mean(np.logaddexp(0, scaled) - scaled * truth))

    found = minimize_scalar(loss, bounds=(np.log(0.01), np.log(100)), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def best_threshold(y: ArrayLike, p: ArrayLike) -> float:
    """The probability from which to call a case positive, so that sensitivity + specificity is largest (Youden).

    Choose it on validation cases and pass it to ``classification(..., threshold=...)`` for the test cases.

    Args:
        y: (n,) of 0 and 1.
        p: (n,) probability of the positive class.

    Returns:
        The middle between the two neighboring probabilities that it separates; of several equally good ones that
        nearest to 0.5. 0.5 where all probabilities are the same.

    Raises:
        ValueError: the truth has one class, there are more than two classes, or arguments as ``classification``.

    Source: Youden, Cancer 1950;3:32.
    """
    task = inputs.check(y, p)
    if task.kind != "binary":
        raise ValueError(f"Expected a binary task. Received a {task.kind} one; give one class's column.")
    if task.y.all() or not task.y.any():
        raise ValueError("Expected positive and negative cases. The truth has one class; take a larger validation set.")
    values, index = np.unique(task.p, return_inverse=True)
    if len(values) == 1:
        return 0.5
    positive = np.bincount(index, weights=task.y)[::-1].cumsum()[::-1]
    negative = np.bincount(index, weights=~task.y)[::-1].cumsum()[::-1]
    youden = positive[1:] / positive[0] - negative[1:] / negative[0]
    middle = (values[1:] + values[:-1]) / 2
    best = middle[np.isclose(youden, youden.max(), rtol=0, atol=1e-12)]
    return float(best[np.argmin(np.abs(best - 0.5))])
