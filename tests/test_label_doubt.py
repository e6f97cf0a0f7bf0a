"""Wrong labels: confident learning worked by hand and as cleanlab has it, errors planted, and how many are found."""

import numpy as np
import pytest
from scipy.stats import norm

from medlab import label

# A handful of cases worked by hand is too few to be above chance for certain.
few = pytest.mark.filterwarnings("ignore:The probabilities agree with the labels no more than chance does")


def example() -> tuple[np.ndarray, np.ndarray]:
    """Six cases of two classes: the third is labeled 0 and surely 1, the last is labeled 1 and surely 0.

    Mean probability of class 0 among those labeled 0: (0.9 + 0.8 + 0.1) / 3 = 0.6; of class 1 among those labeled 1:
    (0.7 + 0.9 + 0.2) / 3 = 0.6.
    """
    p = np.array([0.1, 0.2, 0.9, 0.7, 0.9, 0.2])
    return np.array([0, 0, 0, 1, 1, 1]), p


@few
def test_thresholds_joint_and_suspects_by_hand():
    found = label.suspects(*example())
    np.testing.assert_allclose(found.thresholds, [0.6, 0.6])
    assert found.joint.tolist() == [[2, 1], [1, 2]]
    assert found.indices.tolist() == [2, 5]
    assert found.suggested.tolist() == [1, 0]
    np.testing.assert_allclose(found.doubt, [-0.8, -0.6, 0.8, -0.4, -0.8, 0.6])
    assert found.share == pytest.approx(1 / 3)
    assert found.absent == ()
    assert found.table["label"].tolist() == [0, 1]
    np.testing.assert_allclose(found.table["p_suggested"], [0.9, 0.8])


@few
def test_a_case_that_is_sure_of_nothing_is_no_suspect():
    y, p = example()
    found = label.suspects(np.append(y, 0), np.append(p, 0.55))
    # It leans to class 1, whose threshold is 0.6; class 0's falls to (0.9 + 0.8 + 0.1 + 0.45) / 4.
    assert found.indices.tolist() == [2, 5]
    np.testing.assert_allclose(found.thresholds, [0.5625, 0.6])
    assert found.joint.sum() == 6


@few
def test_a_case_above_the_threshold_of_another_class_that_is_still_likelier_its_own_is_no_suspect():
    # Class 1 is rare and never sure: its threshold is 0.35, and case 0 reaches it with 0.4.
    p = np.array([0.4, 0.02, 0.05, 0.03, 0.04, 0.3, 0.4])
    found = label.suspects([0, 0, 0, 0, 0, 1, 1], p)
    np.testing.assert_allclose(found.thresholds[1], 0.35)
    assert found.joint[0].tolist() == [4, 1]
    assert 0 not in found.indices


@few
def test_a_class_that_no_label_names_is_said_and_takes_no_case():
    y, p = example()
    wide = np.stack([1 - p, p, np.zeros(6)], axis=1)
    wide[0] = [0.3, 0.1, 0.6]
    found = label.suspects(y, wide)
    assert found.absent == (2,)
    assert np.isnan(found.thresholds[2])
    assert found.joint[:, 2].tolist() == found.joint[2].tolist() == [0, 0, 0]
    assert 2 not in found.suggested


def drawn(n: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes, and probabilities of a model that is mostly right."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, classes, n)
    logits = generator.normal(size=(n, classes)) + 2.0 * np.eye(classes)[truth]
    p = np.exp(logits)
    return truth, p / p.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("n", "classes", "seed", "joint", "suspects"),
    [
        (200, 2, 0, [[56, 14], [13, 74]], 27),
        (300, 3, 1, [[51, 6, 9], [6, 58, 9], [8, 10, 65]], 48),
        (
            400, 5, 2,
            [[40, 4, 1, 4, 3], [2, 41, 5, 5, 4], [2, 3, 45, 4, 4], [2, 4, 1, 40, 1], [4, 3, 6, 7, 44]], 69,
        ),
    ],
)  # fmt: skip
def test_joint_and_number_of_suspects_are_those_of_cleanlab(n, classes, seed, joint, suspects):
    """Numbers from cleanlab 2.9.0: compute_confident_joint uncalibrated, find_label_issues by "confident_learning"."""
    truth, p = drawn(n, classes, seed)
    found = label.suspects(label.plant_errors(truth, 0.15, seed=seed).y, p)
    assert found.joint.tolist() == joint
    assert len(found.indices) == suspects
    assert (np.diff(found.doubt[found.indices]) <= 0).all()


def test_planted_errors_are_as_many_as_asked_for_and_all_wrong():
    truth = np.repeat([0, 1, 2], 100)
    planted = label.plant_errors(truth, 0.1, seed=3)
    assert planted.wrong.sum() == 30
    np.testing.assert_array_equal(planted.y != truth, planted.wrong)
    assert set(planted.y) == {0, 1, 2}
    np.testing.assert_array_equal(planted.truth, truth)
    np.testing.assert_array_equal(planted.y, label.plant_errors(truth, 0.1, seed=3).y)
    assert not np.array_equal(planted.wrong, label.plant_errors(truth, 0.1, seed=4).wrong)


def test_each_other_class_is_planted_alike():
    planted = label.plant_errors(np.zeros(3000, int), 1.0, classes=4)
    np.testing.assert_allclose(np.bincount(planted.y, minlength=4) / 3000, [0, 1 / 3, 1 / 3, 1 / 3], atol=0.03)
    assert not label.plant_errors([0, 1], 0.0).wrong.any()


def test_precision_recall_and_wilsons_interval_by_hand():
    wrong = np.array([True] * 4 + [False] * 6)
    found = label.detection([0, 1, 2, 4], wrong)
    assert found.table.loc["precision", ["value", "n"]].tolist() == [0.75, 4]
    assert found.table.loc["recall", ["value", "n"]].tolist() == [0.75, 4]
    assert found.chance == 0.4
    assert found.found == 3
    z, n, p = norm.ppf(0.975), 4, 0.75
    middle, half = (
        (p + z**2 / (2 * n)) / (1 + z**2 / n),
        z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n),
    )
    np.testing.assert_allclose(
        found.table.loc["precision", ["low", "high"]].astype(float), [middle - half, middle + half]
    )
    sure = label.detection([0, 1, 2, 4], wrong, confidence=0.99)
    assert (sure.table["low"] < found.table["low"]).all()
    assert (sure.table["high"] > found.table["high"]).all()


def test_nothing_pointed_at_and_nothing_wrong_are_undefined():
    assert np.isnan(label.detection([], np.array([True, False])).table.loc["precision", "value"])
    assert np.isnan(label.detection([0], np.array([False, False])).table.loc["recall", "value"])
    assert label.detection([0], np.array([False, False])).table.loc["precision", "value"] == 0


def test_suspects_of_a_good_model_are_far_better_than_chance():
    truth, p = drawn(2000, 2, 7)
    planted = label.plant_errors(truth, 0.1, seed=1)
    found = label.detection(label.suspects(planted.y, p), planted.wrong)
    assert found.chance == 0.1
    assert found.table.loc["precision", "low"] > 0.5
    assert found.table.loc["recall", "low"] > 0.5


def test_all_labels_wrong_is_said_to_be_below_chance():
    truth, p = drawn(200, 2, 0)
    with pytest.raises(ValueError, match=r"contradict the labels more than chance does.*Most labels are wrong"):
        label.suspects(label.plant_errors(truth, 1.0).y, p)


def test_probabilities_that_know_nothing_are_said():
    truth, p = drawn(200, 2, 0)
    with pytest.warns(UserWarning, match=r"no more than chance does"):
        label.suspects(np.random.default_rng(6).permutation(truth), p)
    with pytest.raises(ValueError, match=r"All rows are alike: the model learned nothing"):
        label.suspects(truth, np.full(200, 0.5))


def test_errors():
    with pytest.raises(ValueError, match=r"at least as many labels as classes. Received 2 labels of 3 classes"):
        label.suspects([0, 1], [[0.5, 0.3, 0.2], [0.2, 0.5, 0.3]])
    with pytest.raises(ValueError, match=r"All 3 labels are 1"):
        label.suspects([1, 1, 1], [0.5, 0.6, 0.7])
    with pytest.raises(ValueError, match=r"Received 2 labels and 3 rows"):
        label.suspects([0, 1], [0.5, 0.6, 0.7])
    with pytest.raises(ValueError, match=r"class indices below 2. Received 2"):
        label.suspects([0, 1, 2], [0.5, 0.6, 0.7])
    with pytest.raises(ValueError, match=r"class indices \(n,\), whole numbers from 0"):
        label.suspects([0, -1, 1], [0.5, 0.6, 0.7])
    with pytest.raises(ValueError, match=r"share from 0 to 1. Received 10"):
        label.plant_errors([0, 1], 10)
    with pytest.raises(ValueError, match=r"two classes or more. All are 0"):
        label.plant_errors([0, 0], 0.5)
    with pytest.raises(ValueError, match=r"wrong as \(n,\) booleans"):
        label.detection([0], [0, 1])


def test_a_mask_of_zeros_and_ones_does_not_point_at_the_first_cases():
    wrong = np.array([False, False, True, True])
    with pytest.raises(ValueError, match=r"4 numbers that are all 0 or 1.*give them as booleans"):
        label.detection([0, 0, 1, 1], wrong)
    assert label.detection(np.array([0, 0, 1, 1]) == 1, wrong).found == 2
    assert label.detection([2, 3], wrong).found == 2


@pytest.mark.parametrize("seed", [-1, 1.5, None])
def test_a_seed_that_is_none_is_named(seed):
    with pytest.raises(ValueError, match=rf"Expected seed to be a whole number of at least 0. Received {seed}."):
        label.plant_errors([0, 1, 0, 1], 0.1, seed=seed)
