"""Anomaly maps and what they are worth, against numbers worked out by hand and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from medlab import evaluate


def test_the_residual_of_each_side():
    x = np.zeros((1, 4, 5, 2))
    made = np.zeros_like(x)
    made[0, 0, 0] = [1, 3]  # darker than its reconstruction by 2 on average
    made[0, 2, 3] = [-1, 0]  # brighter by 1/2
    maps = {side: evaluate.anomaly_maps(x, made, side=side, smooth=0)[0] for side in ("both", "bright", "dark")}
    assert maps["both"][0, 0] == 2
    assert maps["both"][2, 3] == 0.5
    assert (maps["bright"][0, 0], maps["bright"][2, 3]) == (0, 0.5)
    assert (maps["dark"][0, 0], maps["dark"][2, 3]) == (2, 0)
    assert maps["both"].sum() == 2.5


def test_smoothing_keeps_the_sum_and_the_body_cuts():
    x = np.zeros((2, 31, 31, 1))
    x[:, 15, 15] = 10
    maps = evaluate.anomaly_maps(x, np.zeros_like(x), smooth=2.0)
    np.testing.assert_allclose(maps.sum(axis=(1, 2)), 10, rtol=1e-4)
    assert maps[0, 15, 15] == pytest.approx(10 / (2 * np.pi * 4), rel=0.02)  # the density of a Gaussian at its middle
    inside = np.zeros((2, 31, 31), bool)
    inside[:, :16] = True
    cut = evaluate.anomaly_maps(x, np.zeros_like(x), smooth=2.0, inside=inside)
    assert (cut[:, 16:] == 0).all()
    np.testing.assert_array_equal(cut[:, :16], maps[:, :16])


def test_cases_do_not_blur_into_each_other():
    x = np.zeros((3, 8, 8, 8, 1))
    x[1, 4, 4, 4] = 1
    maps = evaluate.anomaly_maps(x, np.zeros_like(x), smooth=3.0)
    assert (maps[[0, 2]] == 0).all()
    assert maps[1].max() > 0


def test_intensity_is_the_image_itself():
    x = np.array([[[1.0, 2.0], [5.0, -3.0]]])[..., None]
    bright = evaluate.intensity_maps(x, smooth=0)[0]
    np.testing.assert_allclose(bright, [[4, 5], [8, 0]])
    np.testing.assert_allclose(evaluate.intensity_maps(x, side="dark", smooth=0)[0], [[4, 3], [0, 8]])
    # The median is 1.5.
    np.testing.assert_allclose(evaluate.intensity_maps(x, side="both", smooth=0)[0], [[0.5, 0.5], [3.5, 4.5]])
    # Of the body alone, 1, 5 and -3, it is 1; outside the body the map is 0.
    body = np.array([[[True, False], [True, True]]])
    np.testing.assert_allclose(evaluate.intensity_maps(x, side="both", smooth=0, inside=body)[0], [[0, 0], [4, 4]])


def test_the_body_is_the_largest_part_with_its_holes():
    x = np.zeros((2, 20, 20, 1))
    x[0, 3:14, 3:14] = 1
    x[0, 7:9, 7:9] = 0  # a ventricle
    x[0, 17:19, 17:19] = 1  # a marker beside it
    masks = evaluate.body_masks(x)
    expected = np.zeros((20, 20), bool)
    expected[3:14, 3:14] = True
    np.testing.assert_array_equal(masks[0], expected)
    assert masks[1].all()  # a constant image is all body


def test_principal_components_reconstruct_their_own_plane_and_nothing_else():
    rng = np.random.default_rng(0)
    base = rng.normal(size=(2, 6, 5, 1))
    train = 3 + np.einsum("nd,dijc->nijc", rng.normal(size=(20, 2)), base)
    inside = 3 + np.einsum("nd,dijc->nijc", rng.normal(size=(4, 2)), base)
    np.testing.assert_allclose(evaluate.pca_reconstruction(train, inside, components=2), inside, atol=1e-4)
    lesion = np.zeros((4, 6, 5, 1))
    lesion[:, 2, 2] = 5
    made = evaluate.pca_reconstruction(train, inside + lesion, components=2)
    # What comes out lies in the plane: the residual is orthogonal to both directions and keeps most of the lesion.
    residual = (inside + lesion - made)[..., 0].reshape(4, -1)
    centered = train - train.mean(axis=0)
    assert np.abs(residual @ centered.reshape(20, -1).T).max() < 1e-3
    assert (np.abs(residual).argmax(axis=1) == 2 * 5 + 2).all()


def test_constant_training_images_are_reconstructed_as_they_are():
    train = np.full((5, 4, 4, 1), 2.0)
    made = evaluate.pca_reconstruction(train, np.zeros((2, 4, 4, 1)), components=64)
    np.testing.assert_array_equal(made, np.full((2, 4, 4, 1), 2.0))


def test_the_score_is_the_mean_of_the_highest_share():
    maps = np.arange(100.0).reshape(1, 10, 10)
    assert evaluate.image_scores(maps, share=0.04)[0] == (99 + 98 + 97 + 96) / 4
    assert evaluate.image_scores(maps, share=1e-9)[0] == 99
    assert evaluate.image_scores(maps, share=1)[0] == 49.5


def planted(count=60, side=12, seed=0, strength=1.5):
    """Noise, and in every second image a square that is brighter."""
    rng = np.random.default_rng(seed)
    maps, masks = rng.normal(5, 1, (count, side, side)), np.zeros((count, side, side), np.int32)
    masks[::2, 4:7, 4:7] = 1
    return np.maximum(maps + strength * masks, 0), masks


def test_values_are_those_of_scikit_learn():
    maps, masks = planted()
    found = evaluate.anomalies(maps, masks, planted(seed=1), n=200)
    scores = evaluate.image_scores(maps)
    assert found["auc"] == pytest.approx(roc_auc_score(masks.any(axis=(1, 2)), scores))
    assert found["average_precision"] == pytest.approx(average_precision_score(masks.ravel(), maps.ravel()))
    assert found.table.loc["average_precision", "chance"] == pytest.approx(9 / 144 / 2)
    called = maps >= found.threshold
    both = (called & (masks > 0)).sum()
    assert found["dice"] == pytest.approx(2 * both / (called.sum() + masks.sum()))
    assert found.false_pixels == pytest.approx(called[1::2].sum() / 30)
    for _, row in found.table.iterrows():
        assert row["low"] < row["value"] < row["high"]


def test_share_and_level_are_those_asked_for():
    maps, masks = planted(count=30)
    known = planted(seed=1)
    usual, other = (
        evaluate.anomalies(maps, masks, known, n=200, **options) for options in ({}, {"share": 0.5, "confidence": 0.5})
    )
    np.testing.assert_allclose(other.scores, evaluate.image_scores(maps, share=0.5))
    assert other["auc"] == pytest.approx(roc_auc_score(masks.any(axis=(1, 2)), other.scores))
    width = [one.table["high"] - one.table["low"] for one in (usual, other)]
    for metric in ("average_precision", "dice"):  # half of a normal distribution: 0.674 in place of 1.96 deviations
        assert width[1][metric] / width[0][metric] == pytest.approx(0.674 / 1.96, rel=0.3)


def test_the_threshold_is_that_of_the_validation_cases():
    # One image of 4 pixels: calling the two highest has Dice 1, at 0.6; the test's own best threshold would be 0.2.
    known = np.array([[[0.9, 0.6], [0.5, 0.1]]]), np.array([[[1, 1], [0, 0]]])
    maps = np.array([[[0.3, 0.2], [0.1, 0.0]], [[0.7, 0.0], [0.0, 0.0]]])
    masks = np.array([[[1, 1], [0, 0]], [[0, 0], [0, 0]]])
    found = evaluate.anomalies(maps, masks, known, n=50)
    assert found.threshold == 0.6
    assert found.validation_dice == 1
    assert found["dice"] == 0  # nothing is found, one pixel of the healthy image is called
    assert found.false_pixels == 1


def test_intervals_are_those_of_redrawn_patients():
    maps, masks = planted(count=30, strength=1.0)
    found = evaluate.anomalies(maps, masks, planted(seed=1), n=400, seed=3)
    rng = np.random.default_rng(9)
    draws = []
    for _ in range(150):
        rows = rng.integers(0, 30, 30)
        draws.append(average_precision_score(masks[rows].ravel(), maps[rows].ravel()))
    low, high = np.quantile(draws, [0.025, 0.975])
    row = found.table.loc["average_precision"]
    assert row["low"] == pytest.approx(low, abs=0.03)
    assert row["high"] == pytest.approx(high, abs=0.03)
    again = evaluate.anomalies(maps, masks, planted(seed=1), n=400, seed=3)
    assert again.table.equals(found.table)


def test_images_of_one_patient_widen_the_interval():
    maps, masks = planted(count=40)
    twice = np.repeat(maps, 2, axis=0), np.repeat(masks, 2, axis=0)
    options = {"validation": planted(seed=1), "n": 300}
    alone = evaluate.anomalies(*twice, **options)
    grouped = evaluate.anomalies(*twice, groups=np.repeat(np.arange(40), 2), **options)
    width = [one.table["high"] - one.table["low"] for one in (alone, grouped)]
    assert grouped.patients == 40
    for metric in ("auc", "average_precision", "dice"):
        assert width[1][metric] / width[0][metric] == pytest.approx(2**0.5, rel=0.25)


def test_a_map_that_says_nothing_has_the_values_of_chance():
    _, masks = planted()
    found = evaluate.anomalies(np.zeros(masks.shape), masks, (np.zeros(masks.shape), masks), n=100)
    assert found["auc"] == 0.5
    assert found["average_precision"] == pytest.approx(masks.mean())


def test_a_perfect_map_is_perfect():
    _, masks = planted()
    found = evaluate.anomalies(masks.astype(float), masks, (masks, masks), n=100)
    assert found.table["value"].tolist() == [1, 1, 1]
    assert found.false_pixels == 0


def test_the_better_map_is_told_from_the_worse_and_not_from_itself():
    good, masks = planted(strength=3.0)
    poor, _ = planted(strength=0.5)
    known = planted(seed=1)
    a, b = (evaluate.anomalies(one, masks, known, n=200) for one in (good, poor))
    for metric in ("auc", "average_precision", "dice"):
        found = evaluate.compare_anomalies(a, b, metric, n=200)
        assert found.difference == pytest.approx(a[metric] - b[metric])
        assert found.low > 0
        assert found.p_value < 0.05
        same = evaluate.compare_anomalies(a, a, metric, n=200)
        assert same.difference == same.low == same.high == 0
        assert same.p_value == 1


def test_without_masks_the_images_alone_are_judged():
    maps, masks = planted()
    y = masks.any(axis=(1, 2)).astype(int)
    found = evaluate.anomalies(maps, y, n=50)
    assert found["auc"] == pytest.approx(roc_auc_score(y, evaluate.image_scores(maps)))
    assert found.table.loc[["average_precision", "dice"]].isna().all(axis=None)
    assert evaluate.compare_anomalies(found, found).difference == 0
    with pytest.raises(ValueError, match="results with masks for dice"):
        evaluate.compare_anomalies(found, found, "dice")


def test_results_are_plain_numbers_and_words():
    maps, masks = planted()
    found = evaluate.anomalies(maps, masks, planted(seed=1), n=50)
    plain = found.to_dict()
    assert plain["metrics"]["auc"]["value"] == found["auc"]
    assert plain["metrics"]["dice"]["chance"] is None
    assert "60 images, 30 of them abnormal" in str(found)


def test_healthy_images_alone():
    x, y = np.arange(4.0).reshape(4, 1, 1, 1), np.array([0, 2, 0, 1])
    assert evaluate.healthy_only(x, y).ravel().tolist() == [0, 2]
    assert evaluate.healthy_only(x, y, healthy=2).ravel().tolist() == [1]
    with pytest.raises(ValueError, match="There is no healthy image: none of 2 has class 0"):
        evaluate.healthy_only(x[[1, 3]], y[[1, 3]])


ZEROS, ONES = np.zeros((2, 4, 4)), np.ones((2, 4, 4))
MIXED = np.stack([ZEROS[0], ONES[0]])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: evaluate.anomaly_maps(np.zeros((2, 4, 4, 1)), np.zeros((2, 4, 5, 1))), "of the shape of the images"),
        (lambda: evaluate.anomaly_maps(ZEROS, ZEROS), r"Expected images \(n, i, j"),
        (lambda: evaluate.anomaly_maps(ZEROS[..., None], ZEROS[..., None], side="left"), "Expected side"),
        (lambda: evaluate.anomaly_maps(ZEROS[..., None], ZEROS[..., None], smooth=-1), "Expected smooth"),
        (lambda: evaluate.anomaly_maps(ZEROS[..., None], np.full((2, 4, 4, 1), np.nan)), "NaN or infinite"),
        (lambda: evaluate.anomaly_maps(ZEROS[..., None], ZEROS[..., None], inside=ONES[0]), "Expected inside"),
        (lambda: evaluate.pca_reconstruction(np.zeros((0, 4, 4, 1)), ZEROS[..., None]), "no healthy image"),
        (lambda: evaluate.pca_reconstruction(np.zeros((3, 5, 4, 1)), ZEROS[..., None]), "training images' shape"),
        (lambda: evaluate.pca_reconstruction(ZEROS[..., None], ZEROS[..., None], components=0), "components"),
        (lambda: evaluate.image_scores(ZEROS, share=0), "Expected share"),
        (lambda: evaluate.image_scores(np.zeros((0, 4, 4))), "at least one map"),
        (lambda: evaluate.anomalies(ONES, ONES, (ONES, ONES)), "All 2 are abnormal"),
        (lambda: evaluate.anomalies(ONES, ZEROS, (ONES, ONES)), "All 2 are healthy"),
        (lambda: evaluate.anomalies(ONES, MIXED, (ONES, ZEROS)), "validation case with a mask"),
        (lambda: evaluate.anomalies(ONES, MIXED), "threshold of the Dice is chosen there"),
        (lambda: evaluate.anomalies(ONES, np.array([0, 1, 1])), "test masks of the maps' shape"),
        (lambda: evaluate.anomalies(ONES, MIXED[:1], (ONES, ONES)), "test masks of the maps' shape"),
        (lambda: evaluate.healthy_only(ZEROS[..., None], np.zeros((2, 3))), "one class index"),
    ],
)
def test_what_cannot_be_judged_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_results_of_other_cases_are_not_compared():
    a = evaluate.anomalies(MIXED, MIXED, (ONES, ONES), n=20)
    b = evaluate.anomalies(MIXED[::-1], MIXED[::-1], (ONES, ONES), n=20)
    with pytest.raises(ValueError, match="of the same cases"):
        evaluate.compare_anomalies(a, b)
    with pytest.raises(ValueError, match="Expected a metric"):
        evaluate.compare_anomalies(a, a, "iou")


def test_intensity_does_not_depend_on_what_else_is_in_the_call():
    x = np.array([[[1.0, 2.0], [5.0, -3.0]], [[9.0, -40.0], [5.0, 4.0]]])[..., None]
    for settings in ({}, {"side": "dark"}, {"side": "both"}, {"reference": 1.0}):
        alone = evaluate.intensity_maps(x[:1], smooth=0, **settings)[0]
        np.testing.assert_array_equal(evaluate.intensity_maps(x, smooth=0, **settings)[0], alone)
    np.testing.assert_allclose(evaluate.intensity_maps(x, smooth=0, reference=1.0)[0], [[0, 1], [4, 0]])
    np.testing.assert_allclose(evaluate.intensity_maps(x, smooth=0, reference=1.0, side="dark")[0], [[0, 0], [0, 4]])
    with pytest.raises(ValueError, match="Expected reference"):
        evaluate.intensity_maps(x, reference=np.nan)


@pytest.mark.parametrize("y", [[np.nan, 1], [-1, 1], ["a", "b"], [0, 2]])
def test_labels_of_images_are_0_and_1(y):
    with pytest.raises(ValueError, match="Expected 0 or 1 for each image"):
        evaluate.anomalies(MIXED, y)


def test_bad_validation_and_bad_comparisons_are_refused():
    with pytest.raises(ValueError, match=r"validation as a pair \(maps, masks\)"):
        evaluate.anomalies(MIXED, MIXED, ONES)
    a = evaluate.anomalies(MIXED, MIXED, (ONES, ONES), n=20)
    other = np.where(np.arange(4) < 2, MIXED, 0)  # the same sick images, another lesion
    b = evaluate.anomalies(MIXED, other, (ONES, ONES), n=20)
    with pytest.raises(ValueError, match="Their masks differ"):
        evaluate.compare_anomalies(a, b, "dice")
    with pytest.raises(ValueError, match="Received NoneType"):
        evaluate.compare_anomalies(a, None)
    for bad in ({"n": 0}, {"confidence": 2}):
        with pytest.raises(ValueError, match="Expected"):
            evaluate.compare_anomalies(a, a, "dice", **bad)


def marked() -> tuple[np.ndarray, np.ndarray]:
    """Maps of 4 x 5 pixels, and masks of which two have a pixel."""
    masks = np.zeros((4, 4, 5), bool)
    masks[:2, 1, 2] = True
    return np.random.default_rng(0).random((4, 4, 5)), masks


def test_a_channel_axis_is_not_taken_for_depth():
    maps, masks = marked()
    with pytest.raises(ValueError, match=r"Expected test maps .* shape \(4, 4, 5, 1\): leave the channel axis away"):
        evaluate.anomalies(maps[..., None], masks[..., None], (maps, masks))
    with pytest.raises(ValueError, match=r"Expected validation maps .* leave the channel axis away"):
        evaluate.anomalies(maps, masks, (maps[..., None], masks[..., None]))
    with pytest.raises(ValueError, match="leave the channel axis away"):
        evaluate.anomalies(maps[..., None], masks.any(axis=(1, 2)))


@pytest.mark.parametrize("perfect", [0, 1])
def test_one_patient_gives_no_interval(perfect):
    maps, masks = marked()
    maps = maps + perfect * masks  # an AUC of 1 has limits of its own
    for found in (
        evaluate.anomalies(maps, masks, (maps, masks), groups=["p"] * 4, n=20),
        evaluate.anomalies(maps, masks.any(axis=(1, 2)), groups=["p"] * 4, n=20),
    ):
        assert found.table[["low", "high"]].isna().all(axis=None)
        assert found["auc"] == roc_auc_score(found.y, found.scores)
        assert (found["auc"] == 1) == perfect


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_healthy_images_without_a_value_are_refused(value):
    x = np.zeros((4, 3, 3, 1))
    x[2, 1, 1] = value
    with pytest.raises(ValueError, match=r"1 of 2 with NaN or infinity, the first is image 2; medlab.clean.faults"):
        evaluate.healthy_only(x, [0, 1, 0, 1])
    np.testing.assert_array_equal(evaluate.healthy_only(x, [0, 1, 1, 0]), np.zeros((2, 3, 3, 1)))
