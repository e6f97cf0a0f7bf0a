"""AUC of the validation set against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from medlab.train import score


def test_auc_by_hand():
    # Pairs (positive, negative): 3 > 2, 3 > 1, 2 = 2 counts half, 2 > 1: 3.5 of 4.
    assert score.auc(np.array([1, 1, 0, 0]), np.array([3, 2, 2, 1])) == 3.5 / 4
    assert score.auc(np.array([0, 1]), np.array([[0.1], [0.9]])) == 1
    assert score.auc(np.array([0, 1, 0, 1]), np.zeros(4)) == 0.5


def test_auc_as_scikit_learn():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 300)
    s = np.round(rng.normal(y, 2), 1)
    assert score.auc(y, s) == pytest.approx(roc_auc_score(y, s), abs=1e-12)
    y = rng.integers(0, 4, 300)
    p = score.probabilities(rng.normal(size=(300, 4)) + np.eye(4)[y], "multiclass", logits=True)
    assert score.auc(y, p) == pytest.approx(roc_auc_score(y, p, multi_class="ovr", average="macro"), abs=1e-12)
    y = rng.integers(0, 2, (300, 3))
    s = rng.normal(y, 1)
    assert score.auc(y, s) == pytest.approx(roc_auc_score(y, s, average="macro"), abs=1e-12)


def test_auc_where_it_is_undefined():
    assert np.isnan(score.auc(np.ones(3), np.arange(3)))
    assert np.isnan(score.auc(np.zeros(1), np.arange(1)))
    assert np.isnan(score.auc(np.array([0, 1]), np.array([np.nan, 1])))
    # The second label is in no case: the mean is over the first alone.
    assert score.auc(np.array([[0, 0], [1, 0]]), np.array([[0.1, 0.5], [0.2, 0.4]])) == 1


def test_probabilities_and_accuracy():
    np.testing.assert_allclose(
        score.probabilities([[0.0], [1000.0], [-1000.0]], "binary", logits=True)[:, 0], [0.5, 1, 0]
    )
    np.testing.assert_allclose(score.probabilities([[0.0, np.log(3)]], "multiclass", logits=True), [[0.25, 0.75]])
    assert score.probabilities([[0.3]], "binary", logits=False) == 0.3
    assert score.accuracy(np.array([0, 1, 1]), np.array([[0.2], [0.7], [0.4]])) == pytest.approx(2 / 3)
    assert score.accuracy(np.array([2, 0]), np.array([[0, 0.3, 0.7], [0.2, 0.5, 0.3]])) == 0.5
    assert score.accuracy(np.array([[1, 0]]), np.array([[0.9, 0.8]])) == 0.5
