"""Planting: labels made wrong on purpose, and how many of them were found.

In: true labels. Out: labels of which a known share is wrong; precision and recall of a search for them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.label import received
from medlab.label.spread import labeled_mask

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Planted:
    """Labels with errors.

    Attributes:
        y: (n,) labels, some of them wrong.
        wrong: (n,) which.
        truth: (n,) the labels as they were.
    """

    y: NDArray[np.int64]
    wrong: NDArray[np.bool_]
    truth: NDArray[np.int64] = field(repr=False)


@dataclass(frozen=True, eq=False)
class Detection:
    """How well wrong labels were found.

    Attributes:
        table: rows precision and recall; columns value, low, high (Wilson's interval), n.
        chance: the precision of pointing at cases at random: the share of wrong labels.
        found: wrong labels among those pointed at.
    """

    table: pd.DataFrame
    chance: float
    found: int


def plant_errors(y: ArrayLike, share: float = 0.1, *, classes: int | None = None, seed: int = 0) -> Planted:
    """Labels of which ``round(share * n)`` are wrong, each another class drawn with equal chance.

    Args:
        y: (n,) true class indices.
        share: of wrong labels, 0 to 1.
        classes: number of classes; None: the largest index and those below.
        seed: which labels, and what they become.

    Raises:
        ValueError: a share outside 0 to 1, no class indices, fewer than two classes, or a seed that is no whole number
            of at least 0.
    """
    truth = received.class_indices(y, classes)
    if isinstance(share, bool) or not isinstance(share, int | float | np.number) or not 0 <= share <= 1:
        raise ValueError(f"Expected share from 0 to 1. Received {share!r}.")
    classes = int(truth.max()) + 1 if classes is None else received.whole_number(classes, 2, "classes")
    if classes < 2:
        raise ValueError("Expected labels of two classes or more. All are 0; pass classes=2 if there is another one.")
    generator = np.random.default_rng(received.whole_number(seed, 0, "seed"))
    wrong = np.zeros(len(truth), bool)
    wrong[generator.permutation(len(truth))[: round(share * len(truth))]] = True
    labels = truth.copy()
    labels[wrong] = (truth[wrong] + generator.integers(1, classes, wrong.sum())) % classes
    return Planted(labels, wrong, truth)


def detection(pointed: Any, wrong: ArrayLike, *, confidence: float = 0.95) -> Detection:
    """Precision and recall of finding wrong labels.

    Args:
        pointed: what :func:`medlab.label.suspects` gives, or numbers of cases, or (n,) booleans.
        wrong: (n,) which labels are wrong, such as ``planted.wrong``.
        confidence: level of the intervals (Wilson 1927), between 0 and 1.

    Returns:
        Precision is NaN where nothing was pointed at, recall where nothing is wrong.

    Raises:
        ValueError: ``wrong`` not (n,) booleans, numbers outside it, or a level outside 0 to 1.
    """
    import pandas as pd

    truth = np.asarray(wrong)
    if truth.dtype != bool or truth.ndim != 1 or not len(truth):
        raise ValueError(f"Expected wrong as (n,) booleans. Received {truth.dtype} of shape {truth.shape}.")
    if not 0 < confidence < 1:
        raise ValueError(f"Expected confidence between 0 and 1. Received {confidence!r}.")
    mask = labeled_mask(getattr(pointed, "indices", pointed), len(truth))
    hits = int((mask & truth).sum())
    rows = [_proportion(hits, int(total), confidence) for total in (mask.sum(), truth.sum())]
    table = pd.DataFrame(rows, index=["precision", "recall"], columns=["value", "low", "high", "n"])
    return Detection(table, float(truth.mean()), hits)


def _proportion(hits: int, total: int, confidence: float) -> tuple[float, float, float, int]:
    from scipy.stats import binomtest

    if not total:
        return np.nan, np.nan, np.nan, 0
    interval = binomtest(hits, total).proportion_ci(confidence, method="wilson")
    return hits / total, float(interval.low), float(interval.high), total
