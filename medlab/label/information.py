"""Information: how unsure a model is of each case, and how much its draws disagree.

In: probabilities. Out: (n,) scores, the higher the sooner a case should be labeled.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.label import received

Scores = NDArray[np.float64]


def entropy(p: ArrayLike, *, multi_label: bool = False) -> Scores:
    """(n,) entropy of the predicted classes in nats: 0 where the model is sure, log(classes) where it knows nothing.

    Args:
        p: (n,) probability of the positive class, or (n, classes).
        multi_label: the columns are independent labels, whose entropies are added.

    Raises:
        ValueError: values that are no probabilities.

    Source: Shannon 1948; for asking: Settles, Active Learning Literature Survey, 2009, section 3.1.
    """
    return _entropy(received.probabilities(p, multi_label=multi_label), multi_label)


def margin(p: ArrayLike, *, multi_label: bool = False) -> Scores:
    """(n,) 1 minus the distance of the two most likely classes: 1 where they are alike, 0 where the model is sure.

    Args:
        p: (n,) probability of the positive class, or (n, classes).
        multi_label: the columns are independent labels, of which the least sure counts.

    Raises:
        ValueError: values that are no probabilities.

    Source: Scheffer, Decomain and Wrobel 2001; Settles 2009, section 3.1.
    """
    values = received.probabilities(p, multi_label=multi_label)
    if multi_label:
        return 1 - np.abs(2 * values - 1).min(axis=1)
    first_two = np.sort(values, axis=1)[:, -2:]
    return 1 - (first_two[:, 1] - first_two[:, 0])


def bald(p: ArrayLike, *, multi_label: bool = False) -> Scores:
    """(n,) what the label would tell about the model, in nats: the entropy of the mean less the mean entropy.

    It is high where the draws are each sure but contradict each other; a case that is ambiguous to all of them has 0.

    Args:
        p: (draws, n) or (draws, n, classes) probabilities of several draws of the model, such as
            :func:`medlab.label.dropout_draws` or the members of an ensemble give.
        multi_label: the columns are independent labels.

    Raises:
        ValueError: a single draw, or values that are no probabilities.

    Source: Houlsby et al. 2011 (arXiv 1112.5745); with dropout: Gal, Islam and Ghahramani, ICML 2017.
    """
    values = received.probabilities(p, multi_label=multi_label, axes=2)
    if len(values) < 2:
        raise ValueError("Expected two draws or more along the first axis. Received 1; they are compared.")
    mutual = _entropy(values.mean(axis=0), multi_label) - _entropy(values, multi_label).mean(axis=0)
    return np.maximum(mutual, 0)  # below 0 by rounding alone


def _entropy(p: NDArray[np.float64], multi_label: bool) -> Scores:
    from scipy.special import entr

    return (entr(p) + entr(1 - p) if multi_label else entr(p)).sum(axis=-1)
