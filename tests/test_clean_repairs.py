"""Repair: lost values come back where the truth is a straight line."""

import numpy as np
import pytest

from medlab import clean
from medlab.volume import Volume


def ramp(shape=(6, 7, 8)):
    """An image that is linear in all coordinates: interpolation must give it back exactly."""
    i, j, k = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    return (100.0 + 3 * i + 5 * j - 2 * k).astype(np.float32)


def test_nan_slices_inside_the_stack_are_interpolated():
    truth = ramp()
    array = truth.copy()
    array[:, :, 3:5] = np.nan
    mended = clean.repair(Volume(array))
    np.testing.assert_allclose(mended.array, truth, rtol=1e-6)
    assert mended.info["repairs"] == ["missing-slice: interpolated 2 along k (3, 4)"]
    assert np.isnan(array).any(), "the argument must stay as it was"


def test_empty_slices_of_whole_numbers_are_interpolated_along_the_axis_they_lie_on():
    truth = ramp().astype(np.int16)
    array = truth.copy()
    array[2] = 0
    mended = clean.repair(Volume(array))
    np.testing.assert_array_equal(mended.array, truth)
    assert mended.array.dtype == np.int16


def test_the_second_of_two_equal_slices_is_interpolated():
    truth = ramp()
    array = truth.copy()
    array[:, :, 4] = array[:, :, 3]
    np.testing.assert_allclose(clean.repair(Volume(array)).array, truth, rtol=1e-6)


def test_single_nans_take_the_nearest_value_of_their_channel():
    array = np.stack([np.arange(25.0).reshape(5, 5), np.full((5, 5), 7.0)], -1)
    array[0, 0, 0] = np.nan
    array[2, 2, 1] = np.inf
    mended = clean.repair(Volume(array, rank=2))
    assert mended.array[0, 0, 0] in (1.0, 5.0)
    assert mended.array[2, 2, 1] == 7.0
    assert np.isfinite(mended.array).all()
    assert mended.array[4, 4, 0] == 24.0


def test_empty_slices_at_the_ends_stay():
    array = ramp()
    array[:, :, 0] = 0
    array[:, :, -1] = 0
    volume = Volume(array)
    assert clean.repair(volume) is volume


def test_masks_stored_as_images_keep_their_empty_and_equal_slices():
    array = np.zeros((8, 8, 9), np.uint8)
    array[2:6, 2:6, 1:4] = 255
    array[3:5, 3:5, 6:8] = 255
    assert len(clean.faults(Volume(array)).query("fault in ('missing-slice', 'duplicate-slice')")) == 0
    volume = Volume(array)
    assert clean.repair(volume) is volume


def test_only_the_faults_of_the_table_are_mended():
    array = ramp()
    array[:, :, 3] = array[:, :, 2]
    array[0, 0, 0] = np.nan
    volume = Volume(array)
    table = clean.faults(volume)
    mended = clean.repair(volume, table[table["fault"] == "nan"])
    assert np.isfinite(mended.array).all()
    np.testing.assert_array_equal(mended.array[1:, :, 3], array[1:, :, 2])
    again = clean.repair(mended)
    assert len(again.info["repairs"]) == 2
    assert not len(clean.faults(again).query("fault in ('nan', 'duplicate-slice', 'missing-slice')"))


def test_an_image_without_any_finite_value_is_an_error():
    with pytest.raises(ValueError, match="at least one finite value"):
        clean.repair(Volume(np.full((4, 4), np.nan)))


def test_labels_come_back_as_they_are():
    labels = Volume(np.zeros((3, 3, 3), np.uint8), kind="labels")
    assert clean.repair(labels) is labels
