"""Score: how well validation outputs rank the cases, exact over the whole set; the best weights are chosen by it.

In: labels and model outputs as arrays. Out: one number. Intervals and all other metrics are in medlab.evaluate.
"""

from __future__ import annotations

import numpy as np
from scipy.special import softmax
from scipy.stats import rankdata

from medlab.train.labels import known


def auc(y: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve: the probability that a positive case scores higher than a negative one, ties half.

    Args:
        y: (n,) class indices, or (n, classes) 0/1 for a multi-label task, NaN or -1 where a label is missing.
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
    there = known(y) if y.ndim == 2 else np.ones(truth.shape, bool)
    areas = [_binary(truth[one, c], scores[one, c]) for c, one in enumerate(there.T)]
    defined = [area for area in areas if not np.isnan(area)]
    return float(np.mean(defined)) if defined else float("nan")


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
    y = y.reshape(p.shape)
    right = ((p > 0.5) == (y > 0))[known(y)]
    return float(right.mean()) if right.size else float("nan")


def dice(truth: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Overlap of the predicted and the true region of each case: 2 |A and B| / (|A| + |B|), Dice 1945.

    Args:
        truth: (n, i, j[, k]) class of each voxel, 0 for background, below 0 where it is unknown (not counted).
        outputs: (n, i, j[, k], classes) logits or probabilities; the largest decides.

    Returns:
        (n,) mean over the foreground classes that are in a case's truth or prediction; NaN where there is none.
    """
    truth, classes = np.asarray(truth), outputs.shape[-1]
    predicted = np.asarray(outputs).argmax(axis=-1)
    values = np.full(len(truth), np.nan)
    for case, (true, found) in enumerate(zip(truth, predicted, strict=True)):
        there = true >= 0
        pairs = np.bincount(classes * true[there].astype(np.int64) + found[there], minlength=classes**2)
        table = pairs.reshape(classes, classes)
        sizes = (table.sum(axis=0) + table.sum(axis=1))[1:]
        if sizes.any():
            values[case] = np.mean(2 * np.diag(table)[1:][sizes > 0] / sizes[sizes > 0])
    return values


def _binary(positive: np.ndarray, scores: np.ndarray) -> float:
    n_positive = int(positive.sum())
    n_negative = positive.size - n_positive
    if not n_positive or not n_negative or np.isnan(scores).any():
        return float("nan")
    u = rankdata(scores)[positive].sum() - n_positive * (n_positive + 1) / 2
    return float(u / (n_positive * n_negative))
