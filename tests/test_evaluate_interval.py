"""Intervals: closed forms, coverage on simulated data, patients with several images, and the bounds."""

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics as sk
from scipy.stats import norm

from medlab import evaluate
from medlab.evaluate import boundary, interval


def normal_case(n, seed, prevalence=0.4, distance=1.5):
    """Two normal distributions ``distance`` apart: AUC is Phi(distance / sqrt 2), sensitivity Phi(distance / 2)."""
    rng = np.random.default_rng(seed)
    y = rng.random(n) < prevalence
    return y, norm.cdf(rng.normal(size=n) + distance * (y - 0.5))


def test_a_percentile_interval_is_that_of_the_naive_loop():
    y, p = normal_case(60, 0)

    def brier(y, p):
        return float(np.mean((y - p) ** 2))

    value, low, high = evaluate.bootstrap(brier, y, p, n=4000, seed=1)
    assert value == pytest.approx(sk.brier_score_loss(y, p))
    rng = np.random.default_rng(99)
    loop = []
    for _ in range(4000):
        chosen = rng.integers(0, 60, 60)
        loop.append(brier(y[chosen], p[chosen]))
    assert (low, high) == pytest.approx(np.quantile(loop, [0.025, 0.975]), abs=0.003)


def test_a_name_gives_the_row_of_the_table():
    y, p = normal_case(80, 2)
    groups = np.arange(80) // 2
    table = evaluate.classification(y, p, groups=groups, n=300, seed=4).table
    for name in table.index:
        found = evaluate.bootstrap(name, y, p, groups=groups, n=300, seed=4)
        assert found == tuple(table.loc[name, ["value", "low", "high"]]), name


def test_auc_error_is_delongs():
    """The bootstrap's standard error against the closed form, on the logit scale of the interval."""
    y, p = normal_case(400, 3)
    positive, negative = p[y], p[~y]
    wins = (positive[:, None] > negative).astype(float)
    area = wins.mean()
    variance = wins.mean(axis=1).var(ddof=1) / len(positive) + wins.mean(axis=0).var(ddof=1) / len(negative)
    reach = 1.96 * np.sqrt(variance) / (area * (1 - area))
    expected = 1 / (1 + np.exp(-(np.log(area / (1 - area)) + np.array([-reach, reach]))))
    row = evaluate.classification(y, p, n=4000).table.loc["auc"]
    assert (row["low"], row["high"]) == pytest.approx(expected, abs=0.003)


def test_every_interval_holds_its_value():
    for seed in range(5):
        y, p = normal_case(40, seed, distance=2.5)
        table = evaluate.classification(y, p, n=200).table.dropna()
        assert (table["low"] <= table["value"]).all()
        assert (table["value"] <= table["high"]).all()
        assert (table["low"] >= np.where(table.index == "mcc", -1, 0)).all()
        assert (table["high"] <= 1).all()


@pytest.mark.parametrize(("n", "distance"), [(60, 1.5), (150, 3.0)])
def test_coverage(n, distance):
    """Of 200 samples from a known world about 95 % hold the truth: 0.89 is four standard errors below."""
    truth = {"auc": norm.cdf(distance / np.sqrt(2)), "sensitivity": norm.cdf(distance / 2)}
    truth |= {"specificity": truth["sensitivity"], "accuracy": truth["sensitivity"]}
    held = dict.fromkeys(truth, 0)
    for seed in range(200):
        y, p = normal_case(n, seed, 0.3, distance)
        for name, value in truth.items():
            _, low, high = evaluate.bootstrap(name, y, p, n=200, seed=seed)
            held[name] += low <= value <= high
    assert all(178 <= count <= 199 for count in held.values()), held


def test_two_images_of_a_patient_widen_the_interval():
    """Each case twice carries nothing new: by patient the interval stays, by image it shrinks by about sqrt 2."""
    y, p = normal_case(100, 5)
    once = evaluate.classification(y, p, n=2000).table
    y2, p2, patient = np.repeat(y, 2), np.repeat(p, 2), np.repeat(np.arange(100), 2)
    by_patient = evaluate.classification(y2, p2, groups=patient, n=2000)
    by_image = evaluate.classification(y2, p2, n=2000).table
    assert (by_patient.n, by_patient.patients) == (200, 100)
    np.testing.assert_allclose(by_patient.table[["value", "low", "high"]], once[["value", "low", "high"]])
    for name in ("auc", "accuracy", "brier", "mcc"):
        ratio = np.ptp(once.loc[name, ["low", "high"]]) / np.ptp(by_image.loc[name, ["low", "high"]])
        assert ratio == pytest.approx(np.sqrt(2), rel=0.12), name


def test_names_and_order_of_patients_do_not_matter():
    y, p = normal_case(50, 6)
    numbers = np.arange(50) // 2
    names = np.array([f"patient {k:02d}" for k in numbers], dtype=object)
    one = evaluate.classification(y, p, groups=numbers, n=100).table
    np.testing.assert_array_equal(evaluate.classification(y, p, groups=names, n=100).table, one)
    np.testing.assert_array_equal(evaluate.classification(y, p, groups=names.tolist(), n=100).table, one)


def test_same_seed_same_limits_whatever_the_block(monkeypatch):
    y, p = normal_case(50, 7)
    one = evaluate.classification(y, p, n=100, seed=3).table
    np.testing.assert_array_equal(evaluate.classification(y, p, n=100, seed=3).table, one)
    assert not evaluate.classification(y, p, n=100, seed=4).table.equals(one)
    monkeypatch.setattr(interval, "_CELLS", 130)
    np.testing.assert_allclose(evaluate.classification(y, p, n=100, seed=3).table, one)


def test_resamples_draw_patients_with_all_their_images():
    group = np.array([0, 0, 1, 2, 2, 2])
    weights = np.concatenate(list(interval.resamples(group, 3, 500, seed=0)))
    assert weights.shape == (500, 6)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 3] == weights[:, 5]).all()
    of_patient = weights[:, [0, 2, 3]]
    assert (of_patient.sum(axis=1) == 3).all()
    # Multinomial(3; 1/3, 1/3, 1/3): variance 3 * 1/3 * 2/3.
    assert of_patient.var(axis=0) == pytest.approx([2 / 3] * 3, abs=0.12)


def test_perfect_rates_get_clopper_and_pearsons_limit():
    y = np.array([0] * 30 + [1] * 20)
    result = evaluate.classification(y, y.astype(float), n=500)
    for name, m in {"accuracy": 50, "sensitivity": 20, "specificity": 30, "ppv": 20, "npv": 30}.items():
        exact = scipy.stats.binomtest(m, m).proportion_ci(0.95, method="exact")
        row = result.table.loc[name]
        assert (row["low"], row["high"]) == pytest.approx((exact.low, exact.high)), name
    zero = evaluate.classification(1 - y, y.astype(float), n=500).table.loc["accuracy"]
    exact = scipy.stats.binomtest(0, 50).proportion_ci(0.95, method="exact")
    assert (zero["value"], zero["low"], zero["high"]) == pytest.approx((0, 0, exact.high))
    assert any("exact one" in note for note in result.notes)
    table = result.table
    better_low = table.index.isin(["brier", "ece"])
    assert (table.loc[better_low, ["value", "low"]] == 0).all(axis=None)
    assert (table.loc[~better_low, ["value", "high"]] == 1).all(axis=None)
    assert ((table["high"] - table["low"]) > 0.01).all()


def test_a_perfect_rate_counts_patients_and_not_images():
    y = np.array([0] * 30 + [1] * 20)
    patients = np.r_[np.arange(10).repeat(3), 10 + np.arange(5).repeat(4)]
    table = evaluate.classification(y, y.astype(float), groups=patients, n=100).table
    assert table.loc["sensitivity", "low"] == pytest.approx(0.025 ** (1 / 5))
    assert table.loc["specificity", "low"] == pytest.approx(0.025 ** (1 / 10))


def test_perfect_auc_by_newcombes_quartic():
    """His method 5 as a polynomial in the AUC, solved by other means."""
    for m, n in ((20, 30), (3, 200), (1, 1)):
        low, high = boundary.area(1.0, m, n, 0.95)
        half, z2 = (m + n) / 2 - 1, norm.ppf(0.975) ** 2
        # (1 - a)^2 mn (2 - a)(1 + a) = z^2 a (1 - a) [(2 - a)(1 + a) + half (1 - a)(1 + a) + half a (2 - a)]
        a = np.polynomial.Polynomial([0, 1])
        left = (1 - a) * m * n * (2 - a) * (1 + a)
        right = z2 * a * ((2 - a) * (1 + a) + half * (1 - a) * (1 + a) + half * a * (2 - a))
        roots = (left - right).roots()
        real = roots.real[np.abs(roots.imag) < 1e-9]
        assert low == pytest.approx(real[(real > 0) & (real < 1)].max())
        assert high == 1
        mirrored = boundary.area(0.0, m, n, 0.95)
        assert mirrored == pytest.approx((0, 1 - low))


def test_one_more_error_never_narrows_the_interval():
    """From perfect to one and two errors the lower limit falls, whichever formula gave it."""
    y = np.array([0] * 30 + [1] * 30)
    lows = []
    for errors in range(3):
        p = y.astype(float)
        p[30 : 30 + errors] = 0.2
        lows.append(evaluate.classification(y, p, n=1000).table["low"])
    for name in ("accuracy", "sensitivity", "balanced_accuracy", "f1", "mcc"):
        assert lows[0][name] > lows[1][name] > lows[2][name], name


def test_a_perfect_answer_of_several_classes():
    y = np.arange(60) % 3
    result = evaluate.classification(y, np.eye(3)[y], n=500)
    assert result.table.loc["accuracy", "low"] == pytest.approx(0.025 ** (1 / 60))
    assert result.per_class.loc[("1", "sensitivity"), "low"] == pytest.approx(0.025 ** (1 / 20))
    assert result.table.loc["auc", "low"] == pytest.approx(boundary.area(1.0, 20, 40, 0.95)[0])
    assert (result.table["high"] - result.table["low"] > 0.005).all()
    labels = np.eye(3, dtype=int)[y]
    labeled = evaluate.classification(labels, labels.astype(float), n=500)
    assert labeled.per_class.loc[("1", "sensitivity"), "low"] == pytest.approx(0.025 ** (1 / 20))
    assert (labeled.table["high"] - labeled.table["low"] > 0.005).all()


def test_one_case():
    result = evaluate.classification([1], [0.9])
    row = result.table.loc["accuracy"]
    assert (row["value"], row["low"], row["high"]) == pytest.approx((1, 0.025, 1))
    assert np.isnan(result["auc"])
    assert result["brier"] == pytest.approx(0.01)
    assert np.isnan(result.table.loc["brier", "low"])


def test_many_images_of_one_patient_show_no_spread():
    y, p = normal_case(20, 8)
    table = evaluate.classification(y, p, groups=np.zeros(20), n=50).table
    assert table["value"].notna().all()
    assert table["low"].isna().all()


def test_a_constant_probability_has_auc_one_half_for_certain():
    result = evaluate.classification([0, 1, 1, 0, 1], [0.3] * 5, n=200)
    assert tuple(result.table.loc["auc", ["value", "low", "high"]]) == (0.5, 0.5, 0.5)
    assert any("same probability" in note for note in result.notes)


def test_calibrated_by_chance_is_no_proof():
    """ece is 0 here, but resamples differ: the interval reaches above."""
    value, low, high = evaluate.bootstrap("ece", [0, 1] * 10, [0.5] * 20, n=500)
    assert (value, low) == (0, 0)
    assert high > 0.1


def test_unknown_metric_and_lengths():
    with pytest.raises(ValueError, match=r"Expected a metric among auc, accuracy.*Received 'dice'"):
        evaluate.bootstrap("dice", [0, 1], [0.2, 0.3])
    with pytest.raises(ValueError, match="Received 2 and 3"):
        evaluate.bootstrap(lambda y, p: 0.0, np.zeros(2), np.zeros(3))


def test_a_value_at_the_edge_of_its_range_with_a_wide_spread():
    """Probabilities of 0.500001 for half positives have an ece of 0.000001; that of a resample is 0.1 and more."""
    y, p = np.arange(16) % 2, np.full(16, 0.500001)
    value, low, high = evaluate.classification(y, p).table.loc["ece", ["value", "low", "high"]]
    assert value == pytest.approx(1e-6)
    assert (low, high) == (0, 1)
