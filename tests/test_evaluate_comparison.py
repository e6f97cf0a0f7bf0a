"""Paired comparisons against slow formulas, hand-worked tables and simulated worlds without a difference."""

import numpy as np
import pytest
import sklearn.metrics as sk
from scipy.stats import norm

from medlab import evaluate
from medlab.evaluate import comparison


def two_models(n, seed, gain_a=1.0, gain_b=1.0, decimals=8):
    rng = np.random.default_rng(seed)
    y = rng.random(n) < 0.4
    shared = rng.normal(size=n)
    a, b = (norm.cdf(gain * (y - 0.5) + 0.7 * shared + 0.7 * rng.normal(size=n)) for gain in (gain_a, gain_b))
    return y, np.round(a, decimals), np.round(b, decimals)


def slow_delong(y, a, b):
    """DeLong's test from all pairs of a positive and a negative case, as in the paper's equations 4 to 6."""
    wins = []
    for p in (a, b):
        difference = p[y][:, None] - p[~y][None, :]
        wins.append((difference > 0) + 0.5 * (difference == 0))
    areas = [one.mean() for one in wins]
    m, n = wins[0].shape
    s10 = np.cov([one.mean(axis=1) for one in wins])
    s01 = np.cov([one.mean(axis=0) for one in wins])
    s = s10 / m + s01 / n
    variance = s[0, 0] + s[1, 1] - 2 * s[0, 1]
    return areas, variance


@pytest.mark.parametrize("decimals", [8, 1])
def test_delong_equals_the_slow_formula(decimals):
    y, a, b = two_models(70, 0, 1.6, 0.9, decimals)
    areas, variance = slow_delong(y, a, b)
    found = evaluate.compare(y, a, b)
    difference = areas[0] - areas[1]
    assert (found.a, found.b) == pytest.approx((sk.roc_auc_score(y, a), sk.roc_auc_score(y, b)))
    assert (found.a, found.b) == pytest.approx(areas)
    assert found.difference == pytest.approx(difference)
    assert found.p_value == pytest.approx(2 * norm.sf(abs(difference) / np.sqrt(variance)))
    reach = norm.ppf(0.975) * np.sqrt(variance)
    assert (found.low, found.high) == pytest.approx((difference - reach, difference + reach))


def test_delong_is_antisymmetric():
    y, a, b = two_models(60, 1, 1.5, 0.8)
    one, other = evaluate.compare(y, a, b), evaluate.compare(y, b, a)
    assert other.difference == pytest.approx(-one.difference)
    assert (other.low, other.high) == pytest.approx((-one.high, -one.low))
    assert other.p_value == pytest.approx(one.p_value)


def test_delong_by_patient_ignores_copies():
    """Each case twice, as images of one patient: the same error as each case once, up to (n - 1) / n."""
    y, a, b = two_models(120, 2, 1.5, 0.8)
    once = evaluate.compare(y, a, b)
    twice = [np.repeat(values, 2) for values in (y, a, b)]
    by_patient = evaluate.compare(*twice, groups=np.repeat(np.arange(120), 2))
    by_image = evaluate.compare(*twice)
    width = once.high - once.low
    assert by_patient.high - by_patient.low == pytest.approx(width, rel=0.02)
    assert by_image.high - by_image.low == pytest.approx(width / np.sqrt(2), rel=0.02)


def test_delong_agrees_with_the_bootstrap():
    y, a, b = two_models(200, 3, 1.4, 0.9)
    closed, drawn = evaluate.compare(y, a, b), evaluate.compare(y, a, b, test="bootstrap", n=4000)
    assert drawn.difference == pytest.approx(closed.difference)
    assert (drawn.low, drawn.high) == pytest.approx((closed.low, closed.high), abs=0.008)
    assert drawn.p_value == pytest.approx(closed.p_value, abs=0.02)


@pytest.mark.parametrize("test", comparison.TESTS)
def test_equal_models_are_called_different_in_one_of_twenty(test):
    """300 samples without a difference: about 5 % have p below 0.05 (McNemar's exact test fewer)."""
    count = sum(
        evaluate.compare(*two_models(80, seed), test=test, n=200, seed=seed).p_value < 0.05 for seed in range(300)
    )
    low, high = (1, 22) if test == "mcnemar" else (5, 28)
    assert low <= count <= high


def test_mcnemar_by_hand():
    # Both right 20, only the first 10, only the second 2, both wrong 8.
    y = np.ones(40, int)
    a = np.r_[[0.9] * 20, [0.9] * 10, [0.1] * 2, [0.1] * 8]
    b = np.r_[[0.8] * 20, [0.2] * 10, [0.8] * 2, [0.2] * 8]
    found = evaluate.compare(y, a, b, test="mcnemar")
    assert found.metric == "accuracy"
    assert (found.a, found.b, found.difference) == pytest.approx((30 / 40, 22 / 40, 8 / 40))
    assert found.p_value == pytest.approx(2 * (1 + 12 + 66) / 2**12)
    center, spread = 8 / 42, np.sqrt((10.5 + 2.5) - 8**2 / 42) / 42
    assert (found.low, found.high) == pytest.approx((center - 1.959964 * spread, center + 1.959964 * spread))
    assert found.notes == ["Right only by the first: 10; only by the second: 2."]


def test_mcnemar_of_several_classes():
    y = np.array([0, 1, 2, 2])
    a = np.eye(3)[[0, 1, 2, 2]]
    b = np.eye(3)[[0, 1, 2, 0]]
    found = evaluate.compare(y, a, b, test="mcnemar")
    assert (found.a, found.b, found.p_value) == (1, 0.75, 1)


def test_the_same_model_twice():
    y, a, _ = two_models(30, 4)
    for test in comparison.TESTS:
        found = evaluate.compare(y, a, a, test=test, n=100)
        assert (found.difference, found.p_value) == (0, 1), test
    found = evaluate.compare(y, a, a**3)  # another scale, the same order
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_undefined_comparisons_say_so():
    one_class = evaluate.compare([1, 1], [0.2, 0.3], [0.4, 0.1])
    assert np.isnan([one_class.a, one_class.difference, one_class.p_value]).all()
    assert "one class" in one_class.notes[0]
    extremes = evaluate.compare([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], [0.9, 0.8, 0.2, 0.1])
    assert extremes.difference == 1
    assert np.isnan(extremes.p_value)
    assert "No spread" in extremes.notes[0]
    assert extremes.to_dict()["p_value"] is None
    drawn = evaluate.compare([1, 1], [0.2, 0.3], [0.4, 0.1], test="bootstrap", n=50)
    assert "AUC is undefined" in drawn.notes[0]
    lonely = evaluate.compare([0, 0, 1], [0.1, 0.9, 0.8], [0.9, 0.8, 0.2])
    assert np.isnan(lonely.p_value)


def test_bootstrap_of_any_metric_by_patient():
    y, a, b = two_models(60, 5, 2.5, 0.5)
    found = evaluate.compare(y, a, b, test="bootstrap", metric="brier", groups=np.arange(60) // 2, n=400)
    expected = sk.brier_score_loss(y, a) - sk.brier_score_loss(y, b)
    assert found.difference == pytest.approx(expected)
    assert found.low < expected < found.high
    assert 0 < found.p_value <= 1


def test_text():
    y, a, b = two_models(60, 6, 2.5, 0.5)
    found = evaluate.compare(y, a, b)
    text = str(found)
    assert f"AUC {found.a:.3f} against {found.b:.3f}" in text
    assert "delong, 60 cases" in text
    assert set(found.to_dict()) == {
        "test", "metric", "n", "a", "b", "difference", "low", "high", "p_value", "notes",
    }  # fmt: skip


def test_unusable_arguments():
    y, a, b = two_models(20, 7)
    with pytest.raises(ValueError, match=r"Expected a test among delong, mcnemar, bootstrap. Received 'wilcoxon'"):
        evaluate.compare(y, a, b, test="wilcoxon")
    with pytest.raises(ValueError, match=r"Expected the metric auc for DeLong's test. Received 'f1'"):
        evaluate.compare(y, a, b, metric="f1")
    with pytest.raises(ValueError, match="Expected one case a patient for McNemar's test"):
        evaluate.compare(y, a, b, test="mcnemar", groups=np.zeros(20))
    with pytest.raises(ValueError, match=r"Received \(20,\) and \(20, 3\)"):
        evaluate.compare(y, a, np.full((20, 3), 1 / 3))
    with pytest.raises(ValueError, match="Received a multi-class one; use test='bootstrap'"):
        evaluate.compare(y, np.full((20, 3), 1 / 3), np.full((20, 3), 1 / 3))
    labels = np.zeros((20, 2), int)
    with pytest.raises(ValueError, match="Received a multi-label task; test one label"):
        evaluate.compare(labels, np.zeros((20, 2)), np.zeros((20, 2)), test="mcnemar")
