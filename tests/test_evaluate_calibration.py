"""Calibration error, temperature and threshold: hand-worked tables and closed forms."""

import numpy as np
import pytest
from scipy.special import expit, softmax

from medlab import evaluate


def test_ece_by_hand():
    # Bins of 0.2: (0.6, 0.8] holds 0.7, 0.7, 0.8 with 1 of 3 true; (0, 0.2] holds 0.1, 0.2 with none true.
    y, p = [1, 0, 0, 0, 0], [0.7, 0.7, 0.8, 0.1, 0.2]
    expected = 3 / 5 * abs(1 / 3 - 2.2 / 3) + 2 / 5 * abs(0 - 0.15)
    assert evaluate.ece(y, p, bins=5) == pytest.approx(expected)


def test_edges_belong_to_the_bin_below_and_zero_to_the_first():
    table = evaluate.classification([0, 0, 1, 1], [0.0, 0.1, 0.3, 1.0], n=2).curves["reliability"]
    assert table["count"].tolist() == [2, 0, 1, 0, 0, 0, 0, 0, 0, 1]
    assert table["confidence"].dropna().tolist() == pytest.approx([0.05, 0.3, 1])
    assert table["accuracy"].dropna().tolist() == [0, 1, 1]


def test_ece_of_several_classes_is_that_of_the_called_one():
    p = np.array([[0.6, 0.3, 0.1], [0.1, 0.65, 0.25], [0.2, 0.2, 0.6], [0.9, 0.05, 0.05]])
    y = [0, 2, 2, 0]
    # (0.5, 0.6]: 0.6, 0.6 both right; (0.6, 0.7]: 0.65 wrong; (0.8, 0.9]: 0.9 right.
    assert evaluate.ece(y, p) == pytest.approx(2 / 4 * 0.4 + 1 / 4 * 0.65 + 1 / 4 * 0.1)
    assert evaluate.classification(y, p, n=2)["ece"] == pytest.approx(evaluate.ece(y, p))


def test_ece_of_labels_is_their_mean():
    y, p = np.array([[0, 1], [1, 1]]), np.array([[0.2, 0.9], [0.7, 0.6]])
    assert evaluate.ece(y, p) == pytest.approx(((0.2 + 0.3) / 2 + (0.1 + 0.4) / 2) / 2)


def test_perfect_and_inverted_calibration():
    assert evaluate.ece([0, 1], [0.0, 1.0]) == 0
    assert evaluate.ece([1, 0], [0.0, 1.0]) == 1
    with pytest.raises(ValueError, match="Expected at least one bin"):
        evaluate.ece([0, 1], [0.0, 1.0], bins=0)


def test_temperature_in_closed_form():
    """Logits of +-L, right in a share r of cases: the likelihood is best at L / T = log(r / (1 - r))."""
    y = np.array([1] * 80 + [0] * 20)
    logits = np.full(100, 6.0)
    assert evaluate.temperature(logits, y) == pytest.approx(6 / np.log(4), rel=1e-4)
    assert evaluate.temperature(logits[:, None], y) == pytest.approx(6 / np.log(4), rel=1e-4)
    # One class at +L among three, right in 80 %: softmax(L/T, 0, 0) = 0.8.
    three = np.tile([6.0, 0, 0], (100, 1))
    labels = np.array([0] * 80 + [1] * 10 + [2] * 10)
    assert evaluate.temperature(three, labels) == pytest.approx(6 / np.log(8), rel=1e-4)


def test_temperature_undoes_a_known_scaling():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 4)) * 2
    y = (softmax(logits, axis=1).cumsum(axis=1) < rng.random((20_000, 1))).sum(axis=1)
    assert evaluate.temperature(3 * logits, y) == pytest.approx(3, rel=0.05)
    labels = (rng.random(logits.shape) < expit(logits)).astype(int)
    assert evaluate.temperature(0.5 * logits, labels) == pytest.approx(0.5, rel=0.05)
    assert evaluate.ece(y, softmax(logits, axis=1)) < 0.02 < evaluate.ece(y, softmax(3 * logits, axis=1))


def test_temperature_has_ends():
    assert evaluate.temperature([-2.0, 3.0], [0, 1]) == pytest.approx(0.01, rel=1e-3)
    assert evaluate.temperature([2.0, -3.0], [0, 1]) == pytest.approx(100, rel=1e-3)
    with pytest.raises(ValueError, match="Expected finite logits"):
        evaluate.temperature([np.nan, 1.0], [0, 1])
    with pytest.raises(ValueError, match="Expected labels 0 to 2"):
        evaluate.temperature(np.zeros((2, 3)), [0, 3])


def test_best_threshold_separates():
    assert evaluate.best_threshold([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.9]) == pytest.approx(0.25)
    # Youden by hand: cut at 0.35 finds 2 of 3 and no healthy (0.667), at 0.15 all and 2 of 3 healthy (0.333).
    assert evaluate.best_threshold([0, 1, 0, 0, 1, 1], [0.1, 0.2, 0.25, 0.3, 0.4, 0.8]) == pytest.approx(0.35)


def test_best_threshold_is_the_best_of_all():
    rng = np.random.default_rng(1)
    y = rng.random(200) < 0.3
    p = np.round(np.clip(0.3 * y + 0.7 * rng.random(200), 0, 1), 2)
    chosen = evaluate.best_threshold(y, p)

    def youden(cut):
        return (p[y] >= cut).mean() - (p[~y] >= cut).mean()

    assert youden(chosen) == pytest.approx(max(youden(cut) for cut in np.linspace(0, 1, 2001)))


def test_best_threshold_undefined_cases():
    assert evaluate.best_threshold([0, 1], [0.7, 0.7]) == 0.5
    with pytest.raises(ValueError, match="The truth has one class"):
        evaluate.best_threshold([1, 1], [0.2, 0.7])
    with pytest.raises(ValueError, match=r"Expected a binary task. Received a multi-class one"):
        evaluate.best_threshold([1, 2], [[0.2, 0.3, 0.5], [0.2, 0.3, 0.5]])
