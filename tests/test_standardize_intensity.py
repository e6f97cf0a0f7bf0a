"""Intensity: hand-worked values, invariance to scale, undefined cases defined."""

import numpy as np
import pytest

from medlab import standardize
from medlab.volume import Volume


def test_two_images_of_scale_1_and_100_come_out_alike():
    array = np.random.default_rng(0).gamma(2.0, size=(12, 13, 14))
    for function in (standardize.zscore, standardize.percentile, standardize.scale):
        small, large = function(Volume(array)), function(Volume(100 * array + 7))
        np.testing.assert_allclose(small.array, large.array, atol=1e-5)
        assert small.array.dtype == np.float32
    inside = [standardize.foreground(Volume(a)).array for a in (array, 100 * array + 7)]
    assert (inside[0] == inside[1]).mean() > 0.999


def test_hu_windows():
    volume = Volume(np.array([[-1350.0, -600.0], [150.0, 900.0]]), modality="CT")
    np.testing.assert_allclose(standardize.window(volume, preset="lung").array, [[0, 0.5], [1, 1]])
    np.testing.assert_allclose(standardize.window(volume, 0, 3000).array, [[0.05, 0.3], [0.55, 0.8]], atol=1e-6)
    for name, (center, width) in standardize.PRESETS.items():
        seen = standardize.window(Volume(np.array([[center - width, center, center + width]])), preset=name)
        np.testing.assert_allclose(seen.array, [[0, 0.5, 1]], atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either preset"),
        ({"preset": "lung", "center": 40}, "either preset"),
        ({"preset": "lungs"}, "No window preset 'lungs'. There are abdomen"),
        ({"center": 40}, "center and a width above 0"),
        ({"center": 40, "width": 0}, "width above 0"),
        ({"center": 0, "width": np.inf}, "both finite. Received center=0, width=inf"),
        ({"center": np.nan, "width": 10}, "both finite"),
    ],
)
def test_windows_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        standardize.window(Volume(np.zeros((2, 2))), **arguments)


def test_zscore_by_hand_and_within_a_mask():
    volume = Volume(np.array([[1.0, 3.0], [5.0, 100.0]]))
    mask = np.array([[1, 1], [0, 0]])
    np.testing.assert_allclose(standardize.zscore(volume, mask).array, [[-1, 1], [3, 98]])
    whole = standardize.zscore(volume).array
    assert whole.mean() == pytest.approx(0, abs=1e-6)
    assert whole.std() == pytest.approx(1)


def test_zscore_of_channels_is_their_own():
    array = np.random.default_rng(0).random((6, 7, 2)) * [1, 50] + [0, 9]
    out = standardize.zscore(Volume(array, rank=2)).array
    np.testing.assert_allclose(out.mean((0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(out.std((0, 1)), 1, atol=1e-5)


def test_large_offsets_do_not_eat_the_digits():
    array = 1e6 + np.random.default_rng(0).normal(0, 50, (50, 50))
    out = standardize.zscore(Volume(array)).array
    assert out.mean() == pytest.approx(0, abs=1e-4)
    assert out.std() == pytest.approx(1, abs=1e-3)


def test_a_constant_image_becomes_zero():
    volume = Volume(np.full((3, 4), 7.3))
    for function in (standardize.zscore, standardize.percentile, standardize.scale):
        assert (function(volume).array == 0).all()
    assert (standardize.zscore(volume, "foreground").array == 0).all()


def test_percentile_by_hand():
    volume = Volume(np.arange(101.0).reshape(1, 101))
    out = standardize.percentile(volume, 10, 90).array[0]
    np.testing.assert_allclose(out[[0, 10, 50, 90, 100]], [0, 0, 0.5, 1, 1], atol=1e-6)
    sparse = np.zeros((40, 40))
    sparse[3, 4] = 8.0
    out = standardize.percentile(Volume(sparse)).array
    assert out[3, 4] == 1
    assert out.sum() == 1
    with pytest.raises(ValueError, match="0 <= low < high <= 100"):
        standardize.percentile(volume, 90, 10)


def test_scale_knows_the_range_of_8_bits():
    volume = Volume(np.array([[51, 102]], np.uint8))
    np.testing.assert_allclose(standardize.scale(volume).array, [[0.2, 0.4]], atol=1e-6)
    np.testing.assert_allclose(standardize.scale(volume, 51, 102).array, [[0, 1]])
    np.testing.assert_allclose(standardize.scale(Volume(np.array([[0, 1000, 4000]], np.uint16))).array, [[0, 0.25, 1]])
    np.testing.assert_array_equal(standardize.scale(Volume(np.array([[True, False]]))).array, [[1, 0]])
    with pytest.raises(ValueError, match="both low and high"):
        standardize.scale(volume, low=3)
    with pytest.raises(ValueError, match="low below high"):
        standardize.scale(volume, 3, 3)


def test_symmetric_and_clip():
    volume = Volume(np.array([[0.0, 0.25, 1.0]]))
    np.testing.assert_array_equal(standardize.symmetric(volume).array, [[-1, -0.5, 1]])
    np.testing.assert_array_equal(standardize.clip(volume, 0.1, 0.5).array, np.float32([[0.1, 0.25, 0.5]]))


def test_foreground_separates_tissue_from_air():
    rng = np.random.default_rng(0)
    array = np.abs(rng.normal(0, 10, (40, 41)))
    array[10:30, 12:30] = rng.normal(300, 30, (20, 18))
    mask = standardize.foreground(Volume(array))
    truth = np.zeros((40, 41))
    truth[10:30, 12:30] = 1
    np.testing.assert_array_equal(mask.array, truth)
    assert mask.kind == "labels"


def test_otsu_agrees_with_scikit_image():
    from skimage.filters import threshold_otsu

    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(50, 10, 4000), rng.normal(140, 20, 2500)]).clip(0, 255).reshape(65, 100)
    array = np.rint(values).astype(np.uint8)
    array[0, :2] = [0, 255]
    ours = standardize.foreground(Volume(array)).array
    assert (ours != (array > threshold_otsu(array))).mean() < 0.002


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_name_the_repair(bad):
    array = np.ones((3, 4))
    array[1, 1] = bad
    for function in (standardize.zscore, standardize.percentile, standardize.scale, standardize.symmetric):
        with pytest.raises(ValueError, match=r"medlab\.clean\.repair"):
            function(Volume(array))


def test_masks_that_do_not_fit():
    volume = Volume(np.arange(12.0).reshape(3, 4))
    with pytest.raises(ValueError, match="at least one voxel above 0"):
        standardize.zscore(volume, np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"shape \(3, 4\). Received \(4, 3\)"):
        standardize.zscore(volume, np.ones((4, 3)))
    with pytest.raises(ValueError, match="'foreground' or None"):
        standardize.zscore(volume, "brain")
    with pytest.raises(ValueError, match="label map"):
        standardize.zscore(Volume(np.ones((3, 4), int), kind="labels"))


def test_the_argument_stays_as_it_was():
    for kind in (np.float32, np.float64, np.uint8):
        array = np.arange(12).reshape(3, 4).astype(kind)
        before = array.copy()
        volume = Volume(array)
        for name in ("none", "scale", "percentile", "zscore", "MR", "CT", "US"):
            out = standardize.recipe(name)(volume).array
            assert not (np.shares_memory(out, array) and out.flags.writeable and name != "none")
            np.testing.assert_array_equal(array, before)
