"""Score: how well validation outputs rank the cases, exact over the whole set; the best weights are chosen by it.

In: labels and model outputs as arrays. Out: one number. Intervals and all other metrics are in medlab.evaluate.
"""

from __future__ import annotations

import numpy as np
from scipy.special import softmax
from scipy.stats import rankdata


def auc(y: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve: the probability that a positive case scores higher than a negative one, ties half.

    Args:
        y: (n,) class indices, or (n, classes) 0/1 for a multi-label task.
        scores: (n,) or (n, 1) for a binary task, where any increasing function of the probability will do; else
            (n, classes): probabilities of the classes (multi-class) or any scores (multi-label).

    Returns:
        The mean over classes (one against the rest) for more than one. Classes that all or none of the cases have
        are left out; NaN where no class remains.

    Source:
        Hanley and McNeil 1982: the area equals the Mann-Whitney statistic U / (positives * negatives).
    """
    y, scores = np.asarray(y), np.asarray(scores, np.float64)
    if scores.ndim == 1 or scores.shape[1] == 1:
        return _binary(y.reshape(-1) > 0, scores.reshape(-1))
    truth = y > 0 if y.ndim == 2 else y[:, None] == np.arange(scores.shape[1])
    areas = [_binary(truth[:, one], scores[:, one]) for one in range(scores.shape[1])]
    known = [area for area in areas if not np.isnan(area)]
    return float(np.mean(known)) if known else float("nan")


def probabilities(outputs: np.ndarray, task: str, *, logits: bool) -> np.ndarray:
    """Model outputs as probabilities: sigmoid for binary and multi-label, softmax for multi-class.

    Args:
        outputs: (n, classes) or (n, 1).
        task: ``"binary"``, ``"multiclass"`` or ``"multilabel"``.
        logits: whether ``outputs`` are logits; otherwise they are returned as they are.
    """
    outputs = np.asarray(outputs, np.float64)
    if not logits:
        return outputs
    return softmax(outputs, axis=-1) if task == "multiclass" else 0.5 * (1 + np.tanh(outputs / 2))


def accuracy(y: np.ndarray, p: np.ndarray) -> float:
    """Share of right decisions: largest probability for several classes, 0.5 for one probability or multi-label."""
    if p.ndim == 2 and p.shape[1] > 1 and y.ndim == 1:
        return float(np.mean(p.argmax(axis=1) == y))
    return float(np.mean((p > 0.5) == (y.reshape(p.shape) > 0)))


def _binary(positive: np.ndarray, scores: np.ndarray) -> float:
    n_positive = int(positive.sum())
    n_negative = positive.size - n_positive
    if not n_positive or not n_negative or np.isnan(scores).any():
        return float("nan")
    u = rankdata(scores)[positive].sum() - n_positive * (n_positive + 1) / 2
    return float(u / (n_positive * n_negative))
