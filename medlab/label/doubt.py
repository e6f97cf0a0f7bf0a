"""Doubt: labels that are probably wrong, by confident learning.

In: labels and probabilities that were made without them (out of fold). Out: the cases to look at again, the most
doubtful first. No label is changed.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.label import received

if TYPE_CHECKING:
    import pandas as pd

_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Suspects:
    """Labels to look at again.

    Attributes:
        indices: (m,) numbers of cases, the most doubtful first.
        suggested: (m,) the class that each of them probably belongs to.
        doubt: (n,) of every case: the largest probability of another class less that of its label, -1 to 1.
        thresholds: (classes,) mean probability of a class among the cases with that label, above which a case counts as
            surely of it; NaN for a class that no case has.
        joint: (classes, classes) number of cases labeled i (row) that are surely of class j (column).
        share: estimated share of wrong labels: the joint, each row scaled to the number of cases with that label, off
            its diagonal.
        absent: classes that no label names. No case can be suspected to belong to one.
        labels: (n,) the labels given.
        probabilities: (n, classes) those given.
    """

    indices: NDArray[np.intp]
    suggested: NDArray[np.int64]
    doubt: NDArray[np.float64] = field(repr=False)
    thresholds: NDArray[np.float64]
    joint: NDArray[np.int64]
    share: float
    absent: tuple[int, ...]
    labels: NDArray[np.int64] = field(repr=False)
    probabilities: NDArray[np.float64] = field(repr=False)

    @property
    def table(self) -> pd.DataFrame:
        """One row a suspect: case, label, suggested, doubt, and the probability of both classes."""
        import pandas as pd

        given = self.labels[self.indices]
        return pd.DataFrame(
            {
                "case": self.indices,
                "label": given,
                "suggested": self.suggested,
                "doubt": self.doubt[self.indices],
                "p_label": self.probabilities[self.indices, given],
                "p_suggested": self.probabilities[self.indices, self.suggested],
            }
        )


def suspects(y: ArrayLike, p: ArrayLike) -> Suspects:
    """The cases whose label is probably wrong.

    A case counts as surely of class j where its probability of j reaches the mean probability of j among the cases
    labeled j, and j is the most likely of the classes for which this holds. It is a suspect where j is not its label
    and the model finds some other class more likely than the label.

    Args:
        y: (n,) class indices, some of them wrong.
        p: (n,) or (n, classes) probabilities of models that have not seen the case's label: out of fold, such as
            :func:`medlab.train.cross_validate` gives. A model that was trained on the wrong label repeats it.

    Returns:
        A :class:`Suspects`. Where labels are wrong at random, nothing tells them from hard cases but the model: a
        suspect is a question to a reader.

    Raises:
        ValueError: lengths that differ, fewer labels than classes, labels of one class only, values that are no
            probabilities, probabilities that are alike for all cases, or probabilities that contradict the labels
            (below chance by three standard errors): then most labels are wrong, or the classes are swapped, and
            confident learning, which takes most labels of each class for right, would point at the right ones.

    Warns:
        UserWarning: probabilities that agree with the labels by less than two standard errors more than chance does.

    Source: Northcutt, Jiang and Chuang, J Artif Intell Res 2021;70:1373, sections 3.1 and 3.2.
    """
    values = received.probabilities(p)
    classes = values.shape[1]
    labels = received.class_indices(y, classes)
    _check(labels, values)
    at_home = np.arange(len(labels)), labels
    counts = np.bincount(labels, minlength=classes)
    sums = np.bincount(labels, weights=values[at_home], minlength=classes)
    thresholds = np.divide(sums, counts, out=np.full(classes, np.nan), where=counts > 0)
    sure = values >= np.where(counts > 0, thresholds, np.inf) - _ROUNDING
    surely = np.where(sure.any(axis=1), np.where(sure, values, -1).argmax(axis=1), -1)
    joint = np.zeros((classes, classes), np.int64)
    np.add.at(joint, (labels[surely >= 0], surely[surely >= 0]), 1)
    others = values.copy()
    others[at_home] = -np.inf
    doubt = others.max(axis=1) - values[at_home]
    found = np.flatnonzero((surely >= 0) & (surely != labels) & (doubt > 0))
    found = found[np.argsort(-doubt[found], kind="stable")]
    return Suspects(
        found,
        surely[found],
        doubt,
        thresholds,
        joint,
        _share(joint, counts),
        tuple(int(one) for one in np.flatnonzero(counts == 0)),
        labels,
        values,
    )


def _share(joint: NDArray[np.int64], counts: NDArray[np.int64]) -> float:
    """The share of wrong labels (the paper's equation 3, summed off the diagonal)."""
    joint = joint.astype(np.float64)
    rows = joint.sum(axis=1, keepdims=True)
    # A label of which no case is sure: nothing is known, and all its cases count as right.
    joint = np.divide(joint, rows, out=np.eye(len(joint)), where=rows > 0) * counts[:, None]
    return float(1 - np.trace(joint) / counts.sum())


def _check(labels: NDArray[np.int64], values: NDArray[np.float64]) -> None:
    n, classes = values.shape
    if len(labels) != n:
        raise ValueError(f"Expected one row of probabilities a label. Received {len(labels)} labels and {n} rows.")
    if n < classes:
        raise ValueError(f"Expected at least as many labels as classes. Received {n} labels of {classes} classes.")
    if len(np.unique(labels)) < 2:
        raise ValueError(f"Expected labels of two classes or more. All {n} labels are {labels[0]}.")
    if np.ptp(values, axis=0).max() < _ROUNDING:
        raise ValueError(
            "Expected probabilities that differ between cases. All rows are alike: the model learned nothing."
        )
    shares = np.bincount(labels, minlength=classes) / n
    # How much likelier each case's label is than a label drawn from all: 0 on average where p knows nothing of y.
    above = values[np.arange(n), labels] - values @ shares
    mean, error = above.mean(), above.std(ddof=1) / np.sqrt(n)
    if mean < -3 * error:
        raise ValueError(
            f"The probabilities contradict the labels more than chance does: a label is on average {-mean:.3f} less "
            f"likely than one drawn at random (standard error {error:.3f}). Most labels are wrong, or the order of "
            "the classes is swapped; look at some cases by hand before trusting either."
        )
    if mean <= 2 * error:
        warnings.warn(
            f"The probabilities agree with the labels no more than chance does (by {mean:.3f}, standard error "
            f"{error:.3f}): suspects found by them mean little.",
            stacklevel=3,
        )
