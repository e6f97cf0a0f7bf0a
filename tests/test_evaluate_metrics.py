"""Every metric against scikit-learn, with whole-number weights too, and against tables worked out by hand."""

import numpy as np
import pytest
import sklearn.metrics as sk

from medlab import evaluate
from medlab.evaluate import inputs, metrics


def binary_case(n=83, seed=0, ties=False):
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.4).astype(int)
    p = 1 / (1 + np.exp(-(rng.normal(size=n) + 1.5 * y - 1)))
    return y, np.round(p, 1) if ties else p


def by_sklearn(y, p, weight=None):
    """The table's rows as scikit-learn has them; ppv and npv from its precision of either class."""
    call = (p >= 0.5).astype(int)
    one = {"sample_weight": weight}
    return {
        "auc": sk.roc_auc_score(y, p, **one),
        "accuracy": sk.accuracy_score(y, call, **one),
        "balanced_accuracy": sk.balanced_accuracy_score(y, call, **one),
        "sensitivity": sk.recall_score(y, call, **one),
        "specificity": sk.recall_score(y, call, pos_label=0, **one),
        "ppv": sk.precision_score(y, call, **one),
        "npv": sk.precision_score(y, call, pos_label=0, **one),
        "f1": sk.f1_score(y, call, **one),
        "mcc": sk.matthews_corrcoef(y, call, **one),
        "brier": sk.brier_score_loss(y, p, **one),
        "average_precision": sk.average_precision_score(y, p, **one),
    }


@pytest.mark.parametrize("ties", [False, True])
def test_binary_metrics_equal_scikit_learns(ties):
    y, p = binary_case(ties=ties)
    table = evaluate.classification(y, p, n=2).table
    assert set(table["n"]) == {83}
    for name, value in by_sklearn(y, p).items():
        assert table.loc[name, "value"] == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize("ties", [False, True])
def test_a_weight_counts_as_so_many_copies(ties):
    y, p = binary_case(n=40, seed=3, ties=ties)
    weights = np.random.default_rng(1).integers(0, 4, size=(6, 40)).astype(float)
    found, _ = metrics.scores(inputs.check(y, p), weights)
    for row, weight in enumerate(weights):
        for name, value in by_sklearn(y, p, weight).items():
            assert found[name][row] == pytest.approx(value, abs=1e-12), name
        copies = np.repeat(np.arange(40), weight.astype(int))
        assert found["ece"][row] == pytest.approx(evaluate.ece(y[copies], p[copies]), abs=1e-12)


def test_multi_class_metrics_equal_scikit_learns():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 120)
    hint = np.where(rng.random(120) < 0.6, y, rng.integers(0, 4, 120))
    p = 0.6 * rng.dirichlet(np.ones(4), 120) + 0.4 * np.eye(4)[hint]
    call = p.argmax(axis=1)
    result = evaluate.classification(y, p, n=2, classes=["a", "b", "c", "d"])
    one_hot = np.eye(4)[y]
    expected = {
        "auc": sk.roc_auc_score(y, p, multi_class="ovr", average="macro"),
        "accuracy": sk.accuracy_score(y, call),
        "balanced_accuracy": np.mean([sk.balanced_accuracy_score(y == k, call == k) for k in range(4)]),
        "sensitivity": sk.recall_score(y, call, average="macro"),
        "specificity": np.mean([sk.recall_score(y != k, call != k) for k in range(4)]),
        "ppv": sk.precision_score(y, call, average="macro"),
        "npv": np.mean([sk.precision_score(y != k, call != k) for k in range(4)]),
        "f1": sk.f1_score(y, call, average="macro"),
        "mcc": sk.matthews_corrcoef(y, call),
        "brier": sk.brier_score_loss(y, p, labels=range(4)),
        "average_precision": sk.average_precision_score(one_hot, p, average="macro"),
    }
    for name, value in expected.items():
        assert result[name] == pytest.approx(value, abs=1e-12), name
    np.testing.assert_array_equal(result.curves["confusion"], sk.confusion_matrix(y, call))
    for k, name in enumerate("abcd"):
        one = result.per_class.loc[name, "value"]
        assert one["auc"] == pytest.approx(sk.roc_auc_score(y == k, p[:, k]))
        assert one["sensitivity"] == pytest.approx(sk.recall_score(y == k, call == k))


def test_multi_label_values_are_means_over_the_labels():
    rng = np.random.default_rng(5)
    y = (rng.random((90, 3)) < [0.5, 0.2, 0.7]).astype(int)
    p = np.clip(0.3 * y + 0.6 * rng.random((90, 3)), 0, 1)
    result = evaluate.classification(y, p, n=2, classes=["effusion", "mass", "edema"])
    assert result.kind == "multi-label"
    single = [by_sklearn(y[:, k], p[:, k]) for k in range(3)]
    for name in single[0]:
        assert result[name] == pytest.approx(np.mean([one[name] for one in single]), abs=1e-12), name
        assert result.per_class.loc[("mass", name), "value"] == pytest.approx(single[1][name], abs=1e-12), name
    counts = result.curves["confusion"].loc["mass"]
    assert sk.confusion_matrix(y[:, 1], p[:, 1] >= 0.5).ravel().tolist() == counts[["tn", "fp", "fn", "tp"]].tolist()


def test_hand_worked_confusion():
    # 10 sick of whom 8 are found, 20 healthy of whom 5 are called sick.
    y = [1] * 10 + [0] * 20
    p = [0.9] * 8 + [0.1] * 2 + [0.8] * 5 + [0.2] * 15
    result = evaluate.classification(y, p, classes=["healthy", "sick"], n=2)
    assert result.curves["confusion"].to_numpy().tolist() == [[15, 5], [2, 8]]
    assert result["sensitivity"] == pytest.approx(8 / 10)
    assert result["specificity"] == pytest.approx(15 / 20)
    assert result["ppv"] == pytest.approx(8 / 13)
    assert result["npv"] == pytest.approx(15 / 17)
    assert result["accuracy"] == pytest.approx(23 / 30)
    assert result["balanced_accuracy"] == pytest.approx(0.775)
    assert result["f1"] == pytest.approx(16 / 23)
    assert result["mcc"] == pytest.approx((8 * 15 - 5 * 2) / np.sqrt(13 * 17 * 10 * 20))
    # Pairs of sick and healthy: 0.9 beats all 20; 0.1 beats none.
    assert result["auc"] == pytest.approx(8 * 20 / 200)
    assert result["brier"] == pytest.approx((8 * 0.01 + 2 * 0.81 + 5 * 0.64 + 15 * 0.04) / 30)


def test_auc_counts_ties_half():
    assert evaluate.auc([0, 1, 0, 1], [0.1, 0.9, 0.5, 0.5]) == pytest.approx((1 + 1 + 1 + 0.5) / 4)
    assert evaluate.auc([0, 1], [0.3, 0.3]) == 0.5
    assert evaluate.auc([1, 0], [0.2, 0.7]) == 0


def test_curves_equal_scikit_learns():
    y, p = binary_case(ties=True)
    curves = evaluate.classification(y, p, n=2).curves
    fpr, tpr, threshold = sk.roc_curve(y, p, drop_intermediate=False)
    for name, values in {"fpr": fpr, "tpr": tpr, "threshold": threshold}.items():
        np.testing.assert_allclose(curves["roc"][name], values)
    precision, recall, threshold = sk.precision_recall_curve(y, p)
    np.testing.assert_allclose(curves["precision_recall"]["precision"][::-1], precision)
    np.testing.assert_allclose(curves["precision_recall"]["recall"][::-1], recall)
    np.testing.assert_allclose(curves["precision_recall"]["threshold"][:0:-1], threshold)


def test_undefined_is_nan_and_said():
    result = evaluate.classification([1, 1, 1], [0.9, 0.8, 0.3], classes=["healthy", "sick"])
    undefined = {"auc", "specificity", "mcc", "average_precision"}
    assert set(result.table.index[result.table["value"].isna()]) == undefined
    assert set(result.table["n"]) == {3}
    assert result["sensitivity"] == pytest.approx(2 / 3)
    assert result["npv"] == 0
    assert result["brier"] == pytest.approx((0.01 + 0.04 + 0.49) / 3)
    assert any("No case of healthy" in note for note in result.notes)
    assert any(note.startswith("Undefined here: AUC, Specificity") for note in result.notes)


def test_a_class_that_is_absent_is_left_out_of_the_means():
    y = np.array([0, 1, 0, 1, 0, 1])
    p = np.array([[7, 2, 1], [2, 7, 1], [6, 3, 1], [5, 4, 1], [2, 1, 7], [1, 8, 1]]) / 10
    result = evaluate.classification(y, p, classes=["a", "b", "c"], n=50)
    assert np.isnan(result.per_class.loc[("c", "auc"), "value"])
    assert np.isnan(result.per_class.loc[("c", "sensitivity"), "value"])
    assert result["sensitivity"] == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert result["auc"] == pytest.approx(np.mean([sk.roc_auc_score(y == k, p[:, k]) for k in (0, 1)]))
    assert result["accuracy"] == pytest.approx(4 / 6)


def test_calling_all_alike_has_mcc_0_and_no_ppv():
    result = evaluate.classification([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4], n=20)
    assert result["mcc"] == 0
    assert np.isnan(result["ppv"])
    assert result["f1"] == 0
    assert "Every case is called 0." in result.notes


def test_probabilities_come_in_four_shapes():
    y, p = binary_case()
    one = evaluate.classification(y, p, n=20).table
    for shape in (p[:, None], np.stack([1 - p, p], axis=1), p.astype(np.float64).tolist()):
        np.testing.assert_array_equal(evaluate.classification(y, shape, n=20).table, one)
    np.testing.assert_array_equal(evaluate.classification(y[:, None].astype(bool), p, n=20).table, one)


@pytest.mark.parametrize(
    ("y", "p", "message"),
    [
        ([0, 1], [0.2, np.nan], "Expected finite numbers in p. 1 of 2"),
        ([0, np.nan], [0.2, 0.3], "Expected finite numbers in y"),
        ([0, 1, 1], [0.2, 0.3], "Received 3 labels and 2 predictions"),
        ([], [], "Expected at least one case"),
        ([0, 2], [0.2, 0.3], "Expected labels 0 or 1 in y for this p. Received 0 to 2"),
        ([0, -1], [0.2, 0.3], "Received -1 to 0"),
        ([0, 3], [[0.2, 0.3, 0.5], [0.2, 0.3, 0.5]], "Expected labels 0 to 2"),
        ([0, 0.5], [0.2, 0.3], "Expected whole numbers in y"),
        ([0, 1], [-2.5, 3.5], "Are they logits?"),
        ([0, 1], [[0.9, 0.9, 0.9], [0.1, 0.1, 0.1]], "sum to 1 in each case. Case 0 sums to 2.7"),
        (["sick", "healthy"], [0.2, 0.3], r"cases.y\(\)"),
        ([[0, 1], [1, 1]], [[0.1, 0.2, 0.3], [0.1, 0.2, 0.3]], r"Received y \(2, 2\) and p \(2, 3\)"),
    ],
)
def test_unusable_input_is_refused(y, p, message):
    with pytest.raises(ValueError, match=message):
        evaluate.classification(y, p)
    with pytest.raises(ValueError, match=message):
        evaluate.auc(y, p)


def test_options_are_checked():
    with pytest.raises(ValueError, match=r"Expected 2 class names for these predictions. Received 3"):
        evaluate.classification([0, 1], [0.2, 0.3], classes=["a", "b", "c"])
    with pytest.raises(ValueError, match="Expected one group for each of the 2 cases"):
        evaluate.classification([0, 1], [0.2, 0.3], groups=["a"])
    with pytest.raises(ValueError, match=r"Expected a patient for every case. 1 of 2 have none"):
        evaluate.classification([0, 1], [0.2, 0.3], groups=["a", None])
    with pytest.raises(ValueError, match="Expected a confidence between 0 and 1"):
        evaluate.classification([0, 1], [0.2, 0.3], confidence=95)
    with pytest.raises(ValueError, match="Expected a threshold from 0 to 1"):
        evaluate.classification([0, 1], [0.2, 0.3], threshold=-1)
    with pytest.raises(ValueError, match="Expected at least one resample"):
        evaluate.classification([0, 1], [0.2, 0.3], n=0)


def test_inputs_are_left_alone():
    y, p = binary_case()
    before = y.copy(), p.copy()
    result = evaluate.classification(y, p, n=5)
    np.testing.assert_array_equal(before, (y, p))
    result.p[:] = 0
    np.testing.assert_array_equal(before[1], p)
