"""A table of many cases and structures: hand-worked masks, invariants, the stated answers to what is undefined."""

import json

import numpy as np
import pytest

from medlab import evaluate, view
from medlab.evaluate import average
from medlab.volume import Volume


def bar(start, stop, label=1, width=20):
    """A picture of 4 rows in which the columns ``start`` to ``stop`` of the inner two rows have the label."""
    picture = np.zeros((4, width), np.int16)
    picture[1:3, start:stop] = label
    return picture


@pytest.fixture(scope="module")
def hand():
    """Six pictures at 2 x 3 mm: shifted, perfect, missed, hallucinated, misplaced and healthy."""
    truth = [bar(2, 6), bar(2, 6), bar(2, 6), bar(0, 0), bar(2, 4), bar(0, 0)]
    prediction = [bar(4, 8), bar(2, 6), bar(0, 0), bar(2, 3), bar(10, 12), bar(0, 0)]
    return evaluate.segmentation(truth, prediction, spacing=(2, 3), classes=["lesion"])


def test_every_case_by_hand(hand):
    cases = hand.cases.set_index("case")
    assert cases["state"].tolist() == ["found", "found", "missed", "hallucinated", "misplaced", "absent"]
    np.testing.assert_allclose(cases["dice"], [0.5, 1, 0, 0, 0, 1])
    np.testing.assert_allclose(cases["iou"], [1 / 3, 1, 0, 0, 0, 1])
    # Two columns of 3 mm further right, all voxels being outline: 6 mm at most; the shift of case 4 is eight columns.
    np.testing.assert_allclose(cases["hd"], [6, 0, np.inf, np.inf, 24, 0])
    np.testing.assert_allclose(cases["assd"], [(2 * 6 + 2 * 3) / 8, 0, np.inf, np.inf, 22.5, 0])
    np.testing.assert_allclose(cases["nsd"], [12 / 16, 1, 0, 0, 0, 1])  # tolerance: the longest edge, 3 mm
    # A voxel is 6 mm2, 0.06 cm2.
    np.testing.assert_allclose(cases["volume_truth"], [0.48, 0.48, 0.48, 0, 0.24, 0])
    np.testing.assert_allclose(cases["volume_error"], [0, 0, -0.48, 0.12, 0, 0])
    np.testing.assert_allclose(cases["volume_error_percent"], [0, 0, -100, np.nan, 0, np.nan])
    assert hand.unit == "cm²"


def test_averages_by_hand(hand):
    """The healthy case counts nowhere; a failure counts with Dice 0 and the diagonal of its image."""
    diagonal = np.hypot(4 * 2, 20 * 3)
    assert hand["dice"] == pytest.approx((0.5 + 1) / 5)
    assert hand["assd"] == pytest.approx((2.25 + 0 + 2 * diagonal + 22.5) / 5)
    assert hand["volume_error"] == pytest.approx(-0.36 / 5)
    assert hand["volume_error_percent"] == pytest.approx(-25)
    assert hand.table.loc["dice", "median"] == 0
    assert hand.table.loc["hd", "median"] == 24
    assert hand.table.loc["dice", "n"] == 5
    assert hand.table.loc["volume_error_percent", "n"] == 4
    assert hand.failures.loc["lesion"].to_dict() == {
        "found": 2, "missed": 1, "hallucinated": 1, "misplaced": 1, "absent": 1,
    }  # fmt: skip
    assert "lesion: 1 missed, 1 hallucinated, 1 misplaced in 6 cases; such cases have Dice 0." in hand.notes
    assert "lesion: rightly absent in 1 case, left out of the averages." in hand.notes
    assert "lesion: only 5 patients with it, the intervals are rough." in hand.notes


def test_intervals_hold_the_value_and_keep_the_range(hand):
    table = hand.table.dropna(subset=["low"])
    assert set(table.index) == set(hand.table.index)
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()
    assert (table.loc[["dice", "iou", "nsd"], ["low", "high"]].to_numpy() > 0).all()
    assert (table.loc[["dice", "iou", "nsd"], "high"] < 1).all()
    assert (table.loc[["hd", "hd95", "assd"], "low"] > 0).all()


def test_worst_first(hand):
    worst = hand.worst(4)
    assert worst.index.tolist() == [2, 3, 4, 0]
    assert worst["dice"].tolist() == [0, 0, 0, 0.5]
    assert hand.worst(1, "volume_error").index.tolist() == [2]
    assert hand.worst(9, "hd").index.tolist() == [2, 3, 4, 0, 1]
    with pytest.raises(ValueError, match=r"a metric among dice, iou.* Received 'auc'"):
        hand.worst(metric="auc")


@pytest.fixture(scope="module")
def volumes():
    """Twelve volumes of six patients with two structures; predictions are the truth with some voxels changed."""
    rng = np.random.default_rng(0)
    truth, prediction = np.zeros((2, 12, 9, 8, 7), int)
    truth[:, 1:5, 1:7, 1:6], truth[:, 5:8, 2:6, 2:5] = 1, 2
    prediction[:] = truth
    wrong = rng.random(truth.shape) < rng.uniform(0, 0.3, (12, 1, 1, 1))
    prediction[wrong] = rng.integers(0, 3, wrong.sum())
    return truth, prediction


def test_many_cases_are_their_single_cases(volumes):
    truth, prediction = volumes
    spacing = (1.0, 0.5, 2.0)
    found = evaluate.segmentation(truth, prediction, spacing=spacing, classes=["a", "b"], tolerance={"a": 1, "b": 2})
    for row in found.cases.itertuples():
        label = 1 + found.classes.index(row[2])
        a, b = truth[row.case] == label, prediction[row.case] == label
        assert row.dice == evaluate.dice(a, b)
        assert row.iou == evaluate.iou(a, b)
        assert row.hd95 == evaluate.hausdorff(a, b, spacing, 95)
        assert row.assd == evaluate.assd(a, b, spacing)
        assert row.nsd == evaluate.nsd(a, b, spacing, label)
        assert row.volume_error == pytest.approx((b.sum() - a.sum()) / 1000)
    assert found.unit == "ml"
    per_class = found.cases.groupby("class")["dice"].mean()
    assert found.per_class.loc[("a", "dice"), "value"] == pytest.approx(per_class["a"])
    assert found["dice"] == pytest.approx(per_class.mean())


def test_neither_order_nor_names_nor_shape_of_input_matter(volumes):
    truth, prediction = volumes
    first = evaluate.segmentation(truth, prediction, spacing=2)
    listed = evaluate.segmentation(
        list(truth[::-1]), list(prediction[::-1].astype(np.uint8)), spacing=[(2, 2, 2)] * 12,
        classes={2: "label 2", 1: "label 1"},
    )  # fmt: skip
    assert first.classes == ["label 1", "label 2"]
    np.testing.assert_allclose(listed.table[["value", "median"]], first.table[["value", "median"]])
    named = evaluate.segmentation(truth, prediction, spacing=2, classes=["Background", "label 1", "label 2"])
    np.testing.assert_array_equal(named.table, first.table)
    affine = np.diag([2.0, 2, 2, 1])
    known = evaluate.segmentation([Volume(one, affine, "labels") for one in truth], prediction)
    np.testing.assert_array_equal(known.table, first.table)


def test_cases_may_differ_in_shape_and_spacing():
    truth = [bar(2, 6), bar(2, 6, width=9)]
    prediction = [bar(3, 6), bar(2, 7, width=9)]
    found = evaluate.segmentation(truth, prediction, spacing=[(1, 1), (1, 5)], tolerance=2)
    np.testing.assert_allclose(found.cases["hd"], [1, 5])
    np.testing.assert_allclose(found.cases["volume_error"], [-0.02, 0.1])


def test_patients_are_drawn_and_not_images(volumes):
    """Each case twice is no more evidence where both belong to one patient, and wrongly more where they do not."""
    truth, prediction = volumes
    once = evaluate.segmentation(truth, prediction, spacing=1)
    twice = [np.concatenate([one, one]) for one in (truth, prediction)]
    groups = np.tile(np.arange(12), 2)
    grouped, alone = (evaluate.segmentation(*twice, spacing=1, groups=of) for of in (groups, None))
    assert (grouped.patients, grouped.n) == (12, 24)
    np.testing.assert_allclose(grouped.table[["value", "low", "high"]], once.table[["value", "low", "high"]])

    def width(found):
        return found.table.loc["dice", "high"] - found.table.loc["dice", "low"]

    assert width(alone) < 0.8 * width(grouped)


def test_the_interval_is_students_for_a_plain_mean():
    """On the plain scale and without groups the limits are nearly those of the t-test."""
    values = np.random.default_rng(3).normal(size=(30, 1))
    found, _ = average.averages(values, [average.SIGNED], np.arange(30), 30, n=20_000)
    reach = 2.0452296 * values.std(ddof=1) / np.sqrt(30)  # the 97.5th percentile of t with 29 degrees of freedom
    np.testing.assert_allclose(found.mean_limits[0], values.mean() + np.array([-reach, reach]), atol=0.02 * reach)


def test_perfect_cases_have_an_exact_limit():
    """Were the mean Dice q, ten patients would all have 1 with a probability of at most q^10."""
    found = evaluate.segmentation([bar(2, 6)] * 10, [bar(2, 6)] * 10, spacing=1)
    assert found.table.loc["dice", ["value", "high"]].tolist() == [1, 1]
    assert found.table.loc["dice", "low"] == pytest.approx(0.025 ** (1 / 10))
    assert found.table.loc["hd", "value"] == 0
    assert np.isnan(found.table.loc["hd", "high"])
    one = evaluate.segmentation([bar(2, 6)], [bar(3, 6)], spacing=1)
    assert np.isnan(one.table[["low", "high", "median_low", "median_high"]]).all(axis=None)


def test_unknown_voxels_are_left_out():
    """A prediction that is wrong only where the truth is unknown is perfect."""
    truth, prediction = bar(2, 6), bar(2, 6)
    truth[0:2, :], prediction[0, :], prediction[1, 10:] = -1, 1, 1
    row = evaluate.segmentation([truth], [prediction], spacing=1).cases.iloc[0]
    assert (row["dice"], row["hd"], row["nsd"], row["volume_error"]) == (1, 0, 1, 0)
    assert row["volume_truth"] == pytest.approx(0.04)
    prediction[2, 6] = 1
    assert evaluate.segmentation([truth], [prediction], spacing=1)["dice"] == pytest.approx(8 / 9)


def test_a_structure_in_no_case_is_undefined():
    found = evaluate.segmentation([bar(2, 6)] * 3, [bar(2, 7)] * 3, spacing=1, classes=["a", "b"])
    assert found.per_class.loc["b", ["value", "low", "median"]].isna().all(axis=None)
    assert (found.per_class.loc["b", "n"] == 0).all()
    assert found["dice"] == pytest.approx(8 / 9)
    assert "b: in no case, neither in truth nor in prediction." in found.notes
    assert found.failures.loc["b", "absent"] == 3
    empty = evaluate.segmentation([bar(0, 0)], [bar(0, 0)], spacing=1, classes=["a"])
    assert np.isnan(empty["dice"])
    assert not len(empty.worst())


def test_text_html_and_json(hand):
    text, page = str(hand), hand._repr_html_()
    for part in ("6 cases", "Dice", "0.300 (", "missed", "Area error (cm²)", "rightly absent in 1 case"):
        assert part in text
        assert part in page
    found = json.loads(json.dumps(hand.to_dict(), allow_nan=False))
    assert found["metrics"]["dice"]["value"] == pytest.approx(0.3)
    assert set(found["metrics"]["dice"]) == {"value", "low", "high", "median", "n"}
    assert found["failures"]["lesion"]["missed"] == 1
    named = evaluate.segmentation([bar(2, 6)], [bar(2, 6)], spacing=1, classes=["<b>"])
    assert "<b>" not in named._repr_html_()


def test_figures_draw_every_case(hand, volumes):
    figure = hand.plot()
    points = sum(len(dots.get_offsets()) for dots in figure.axes[0].collections)
    assert points == 5
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert "case 2" in texts
    assert figure.axes[1].get_title() == "Area of lesion"
    bias = figure.axes[1].lines[1].get_ydata()[0]
    assert bias == pytest.approx(hand["volume_error"])
    distances = view.segment_scores(hand, "hd95").axes[0]
    assert "infinite" in [text.get_text() for text in distances.texts]
    assert len(evaluate.segmentation(*volumes, spacing=1).plot("nsd").axes) == 3
    with pytest.raises(ValueError, match=r"a metric among dice.* Received 'auc'"):
        hand.plot("auc")


def test_limits_of_agreement_by_hand():
    """Differences -1, 0, 1 have mean 0 and standard deviation 1: limits at 1.96 on both sides."""
    panel = view.agreement([1, 2, 3], [0, 2, 4], unit="ml").axes[0]
    assert [line.get_ydata()[0] for line in panel.lines] == pytest.approx([0, 0, 1.96, -1.96])
    assert panel.get_xlabel() == "mean of prediction and truth (ml)"
    np.testing.assert_allclose(panel.collections[0].get_offsets(), [[0.5, -1], [2, 0], [3.5, 1]])
    with pytest.raises(ValueError, match=r"two measurements of each case.*\(2,\) and \(3,\)"):
        view.agreement([1, 2], [1, 2, 3])


def test_masks_side_by_side_have_names_and_colors():
    image = np.zeros((4, 20), np.float32)
    truth, prediction = bar(2, 6), bar(4, 8)
    prediction[1, 4], truth[3, 19] = 2, -1
    figure = view.compare_masks([image], [truth], [prediction], ["background", "lesion", "cyst"], ["case 1"])
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["lesion", "cyst", "missed", "too much", "another structure"]
    assert [panel.get_title() for panel in figure.axes] == ["Image", "Truth", "Prediction", "Difference"]
    blue, orange = (86, 180, 233), (230, 159, 0)
    vermilion, dark, purple = (213, 94, 0), (0, 114, 178), (204, 121, 167)

    def color(panel, row, column):
        picture = figure.axes[panel].images[0].get_array()
        scale = picture.shape[0] // 4
        return tuple(int(value) for value in picture[row * scale, column * scale])

    assert (color(1, 1, 2), color(2, 1, 4), color(2, 1, 5)) == (blue, orange, blue)
    assert (color(3, 1, 2), color(3, 1, 4), color(3, 1, 7)) == (vermilion, purple, dark)
    assert color(1, 3, 19) == (128, 128, 128)  # unknown truth is not shown; a constant image is mid-gray


def test_the_legend_of_an_overlay_names_the_structures():
    mask = Volume(bar(2, 6), kind="labels", rank=2)
    figure = view.overlay(np.eye(4, 20), mask, classes=["hippocampus"])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["hippocampus"]


GOOD = [bar(2, 6)]


@pytest.mark.parametrize(
    ("truth", "prediction", "changes", "message"),
    [
        (GOOD, GOOD * 2, {}, "a prediction for each case of truth. Received 1 and 2"),
        ([], [], {}, "at least one case. Received none"),
        (GOOD, [bar(2, 6, width=9)], {}, r"In case 0 they have \(4, 20\) and \(4, 9\)"),
        (bar(2, 6), bar(2, 6), {}, r"truth of case 0 has shape \(20,\); a single case needs a list around it"),
        (GOOD, [np.full((4, 20), 0.3)], {}, "prediction of case 0 has fractions.*argmax over the classes"),
        (GOOD, [np.full((4, 20), np.nan)], {}, "prediction of case 0 has fractions, NaN"),
        (GOOD, [bar(2, 6, 7)], {"classes": ["a", "b"]}, r"among the classes, 0 background, 1 a, 2 b. Found too: \[7\]"),
        (GOOD, [-bar(2, 6)], {}, "labels of 0 or more in the prediction. Case 0 has -1"),
        ([bar(0, 0)], [bar(0, 0)], {}, "All label maps are background"),
        (GOOD, GOOD, {"classes": ["a", "a"]}, "a name of its own for each structure"),
        (GOOD, GOOD, {"spacing": (1, 1, 1)}, r"a spacing of 2 numbers.*Received \(3,\)"),
        (GOOD, GOOD, {"spacing": [(1, 1), (1, 1)]}, "one spacing for each of the 1 cases. Received 2"),
        (GOOD, GOOD, {"spacing": None}, "Expected spacing=, 2 numbers in mm"),
        (GOOD, GOOD, {"tolerance": -1}, "a tolerance of 0 mm or more. Received -1"),
        (GOOD, GOOD, {"tolerance": {"x": 1}}, r"a tolerance for each of \['label 1'\]"),
        (GOOD, GOOD, {"confidence": 95}, "a confidence between 0 and 1"),
        (GOOD, GOOD, {"groups": ["a", "b"]}, "one group for each of the 1 cases"),
        ([bar(2, 6), np.ones((3, 3, 3), int)], [bar(2, 6), np.ones((3, 3, 3), int)], {}, "Received both; judge them"),
    ],
)
def test_bad_input(truth, prediction, changes, message):
    with pytest.raises(ValueError, match=message):
        evaluate.segmentation(truth, prediction, **{"spacing": 1} | changes)
