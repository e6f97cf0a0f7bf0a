"""Localization: hand-worked numbers, scikit-learn's average precision; chance scores as chance, the truth best."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from medlab import explain

HEAT = np.array([[[0, 1, 2], [3, 9, 4]]], "float32")


@pytest.mark.parametrize(
    ("mask", "hit", "mass", "overlap"),
    [
        ([[0, 0, 0], [0, 1, 0]], 1, 9 / 19, 1),
        ([[0, 0, 0], [0, 0, 1]], 0, 4 / 19, 0),
        ([[0, 0, 0], [1, 2, 0]], 1, 12 / 19, 1 / 3),  # two voxels: 9 and 4 are taken, one of them inside
        ([[1, 1, 1], [1, 1, 1]], 1, 1, 5 / 6),  # the voxel without heat is never taken
        ([[1, 0, 0], [0, 0, 0]], 0, 0, 0),
        ([[0, 0, 0], [0, 0, 0]], np.nan, np.nan, np.nan),
    ],
)
def test_localization_by_hand(mask, hit, mass, overlap):
    np.testing.assert_allclose(explain.pointing_game(HEAT, [mask]), [hit])
    np.testing.assert_allclose(explain.mass_inside(HEAT, [mask]), [mass])
    np.testing.assert_allclose(explain.iou(HEAT, [mask]), [overlap])


def test_localization_without_heat_and_with_ties():
    mask = np.zeros((1, 4, 5, 2), bool)
    mask[0, :2] = True
    for score in (explain.pointing_game, explain.mass_inside, explain.iou):
        np.testing.assert_array_equal(score(np.zeros(mask.shape), mask), [0])
    even = np.ones(mask.shape)
    np.testing.assert_allclose(explain.pointing_game(even, mask), [0.5])
    np.testing.assert_allclose(explain.mass_inside(even, mask), [0.5])
    np.testing.assert_allclose(explain.iou(even, mask), [10 / 30])  # 20 of 40 taken, 10 of them inside the 20
    np.testing.assert_allclose(explain.iou(mask.astype(float), mask), [1])


def test_tolerance_is_a_distance_in_voxels():
    heat, mask = np.zeros((1, 9, 9)), np.zeros((1, 9, 9))
    heat[0, 4, 4] = 1
    mask[0, 7, 8] = 1  # 5 voxels away: 3 down, 4 right
    assert explain.pointing_game(heat, mask, tolerance=4.9) == [0]
    assert explain.pointing_game(heat, mask, tolerance=5) == [1]
    with pytest.raises(ValueError, match="tolerance of 0 voxels or more"):
        explain.pointing_game(heat, mask, tolerance=-1)


def test_localization_refuses_what_is_no_heat_map():
    mask = np.ones((1, 2, 3))
    with pytest.raises(ValueError, match=r"heat maps of shape \(1, 2, 3\)\. Received \(1, 3, 2\)"):
        explain.iou(np.ones((1, 3, 2)), mask)
    with pytest.raises(ValueError, match=r"masks of shape \(n, i, j\[, k\]\)\. Received \(2, 3\)"):
        explain.mass_inside(HEAT[0], mask[0])
    with pytest.raises(ValueError, match="below 0"):
        explain.pointing_game(-HEAT, mask)
    with pytest.raises(ValueError, match="Received NaN"):
        explain.pointing_game(HEAT, mask * np.nan)


def test_chance_points_into_the_mask_as_often_as_the_mask_is_large():
    n = 4000
    mask = np.zeros((n, 6, 5), bool)
    mask[:, 1:4, 2:4] = True  # 6 of 30
    hits = explain.pointing_game(np.random.default_rng(0).random(mask.shape), mask)
    assert abs(hits.mean() - 0.2) < 4 * np.sqrt(0.2 * 0.8 / n)


def test_pixel_auprc_by_hand():
    # In the order of heat: inside, outside, inside, outside. Precision 1 at recall 1/2, 2/3 at recall 1.
    heat, mask = np.array([[[4.0, 3, 2, 1]]]), np.array([[[1, 0, 1, 0]]])
    np.testing.assert_allclose(explain.pixel_auprc(heat, mask), [0.5 * 1 + 0.5 * 2 / 3])
    np.testing.assert_allclose(explain.pixel_auprc(heat, 1 - mask), [0.5 * 1 / 2 + 0.5 * 2 / 4])
    np.testing.assert_allclose(explain.pixel_auprc(mask * 3.0, mask), [1])
    np.testing.assert_array_equal(explain.pixel_auprc(heat, 0 * mask), [np.nan])
    np.testing.assert_array_equal(explain.pixel_auprc(0 * heat, mask), [0])
    np.testing.assert_allclose(explain.pixel_auprc(np.ones((1, 2, 5, 2)), np.eye(20)[7].reshape(1, 2, 5, 2)), [1 / 20])
    assert explain.pixel_auprc(np.ones((0, 3, 3)), np.ones((0, 3, 3))).shape == (0,)
    with pytest.raises(ValueError, match=r"heat maps of shape \(1, 1, 4\)\. Received \(1, 4, 1\)"):
        explain.pixel_auprc(heat.reshape(1, 4, 1), mask)


def test_pixel_auprc_is_the_average_precision_of_each_case_in_3d_with_ties():
    generator = np.random.default_rng(3)
    heat = generator.integers(0, 6, (3, 4, 5, 6)).astype(float)
    mask = generator.random(heat.shape) < 0.2
    expected = [average_precision_score(truth.ravel(), one.ravel()) for one, truth in zip(heat, mask, strict=True)]
    np.testing.assert_allclose(explain.pixel_auprc(heat, mask), expected)


def test_pixel_auprc_of_chance_is_the_share_of_the_mask():
    mask = np.zeros((200, 20, 20), bool)
    mask[:, 3:9, 4:14] = True  # 60 of 400
    found = explain.pixel_auprc(np.random.default_rng(0).random(mask.shape), mask)
    # A finite sample's average precision lies a little above the share: 1/60 of the way at most here.
    assert 0.15 < found.mean() < 0.15 + 0.02
