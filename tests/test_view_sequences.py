"""Figures of sequences: every number drawn where it belongs."""

import numpy as np
import pytest

from medlab import view


def test_learning_curves_draw_scores_against_the_time_so_far():
    first = {"seconds": [4.0, 1.0, 1.0], "val_auc": [0.5, 0.7, 0.6]}
    second = {"seconds": [2.0], "val_auc": [0.9]}
    panel = view.learning_curves({"GRU": first, "3-D": second}).axes[0]
    one, two = panel.lines
    np.testing.assert_allclose(one.get_xydata(), [[4, 0.5], [5, 0.7], [6, 0.6]])
    np.testing.assert_allclose(two.get_xydata(), [[2, 0.9]])
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["GRU", "3-D"]
    assert panel.get_ylabel() == "validation AUC"


def test_slice_weights_stand_beside_the_lesions_share():
    weights = np.array([[0.1, 0.2, 0.7], [1.0, 0.0, 0.0]])
    masks = np.zeros((2, 4, 5, 3), int)
    masks[0, :2, :3, 1] = 2  # 6 voxels in slice 1, 2 in slice 2
    masks[0, 0, :2, 2] = 1
    figure = view.slice_weights(weights, masks, ["a", "b"])
    first, second = figure.axes
    np.testing.assert_allclose([bar.get_height() for bar in first.patches], weights[0])
    np.testing.assert_allclose(first.lines[0].get_ydata(), [0, 0.75, 0.25])
    np.testing.assert_allclose(second.lines[0].get_ydata(), [0, 0, 0])  # no lesion
    assert (first.get_title(), second.get_title()) == ("a", "b")
    assert not view.slice_weights(weights).axes[0].lines


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: view.learning_curves({}), "at least one training"),
        (lambda: view.learning_curves({"a": {"loss": [1.0]}}), "'a' lacks seconds and val_auc"),
        (lambda: view.slice_weights(np.zeros((0, 3))), r"n at least 1\. Received \(0, 3\)"),
        (
            lambda: view.slice_weights(np.ones((1, 3)), np.ones((1, 4, 4, 2))),
            r"Received \(1, 3\) and masks \(1, 4, 4, 2",
        ),
        (lambda: view.slice_weights(np.ones((2, 3)), titles=["a"]), "Expected 2 titles. Received 1"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
