"""A Volume keeps array and place together, in medlab, nibabel and SimpleITK alike."""

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its own documentation's name

from medlab import geometry, volume
from medlab.volume import Volume
from tests.test_geometry import oblique


@pytest.fixture
def marked() -> Volume:
    """Unequal sizes, an oblique affine and one bright voxel, so that a swapped axis shows."""
    array = np.zeros((4, 5, 6), np.int16)
    array[1, 2, 3] = 7
    return Volume(array, oblique(1), modality="CT", info={"kvp": 120})


def test_derived_geometry():
    one = Volume(np.zeros((2, 3, 4, 5)), geometry.from_parts((1, 2, 3), (4, 5, 6)))
    assert (one.shape, one.channels, one.rank) == ((2, 3, 4), 5, 3)
    assert (one.spacing, one.origin, one.orientation) == ((1, 2, 3), (4, 5, 6), "RAS")


def test_three_axes_are_a_volume_unless_said_otherwise():
    assert Volume(np.zeros((8, 9, 3))).shape == (8, 9, 3)
    picture = Volume(np.zeros((8, 9, 3)), rank=2)
    assert (picture.shape, picture.channels, len(picture.spacing)) == ((8, 9), 3, 2)


def test_sitk_sees_the_marked_voxel_at_the_same_place(marked):
    image = marked.to_sitk()
    assert image.GetPixel(1, 2, 3) == 7
    lps = np.array(image.TransformIndexToPhysicalPoint((1, 2, 3)))
    np.testing.assert_allclose(lps * (-1, -1, 1), geometry.apply(marked.affine, (1, 2, 3)), atol=1e-9)


def test_sitk_and_back(marked):
    back = volume.from_sitk(marked.to_sitk(), modality="CT")
    np.testing.assert_array_equal(back.array, marked.array)
    np.testing.assert_allclose(back.affine, marked.affine, atol=1e-9)


def test_sitk_channels_and_back():
    array = np.arange(2 * 3 * 4 * 2, dtype=np.float32).reshape(2, 3, 4, 2)
    image = Volume(array).to_sitk()
    assert image.GetPixel(1, 2, 3) == tuple(array[1, 2, 3])
    np.testing.assert_array_equal(volume.from_sitk(image).array, array)


def test_sitk_picture_and_back():
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    image = Volume(array, geometry.scaling((0.5, 0.25, 1))).to_sitk()
    assert image.GetPixel(3, 1) == array[1, 3]  # ITK's index is (column, row)
    assert image.GetSpacing() == (0.25, 0.5)
    back = volume.from_sitk(image)
    assert back.spacing == (0.5, 0.25)
    assert not back.has_geometry


def test_sitk_time_series_becomes_channels():
    image = sitk.GetImageFromArray(np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5), isVector=False)
    assert volume.from_sitk(image).array.shape == (5, 4, 3, 2)
    assert volume.from_sitk(image).array[4, 3, 2, 1] == 119


def test_nibabel_and_back(marked):
    image = marked.to_nibabel()
    np.testing.assert_allclose(image.affine, marked.affine)
    back = volume.from_nibabel(image, modality="CT", info={"kvp": 120})
    np.testing.assert_array_equal(back.array, marked.array)
    assert back.array.dtype == np.int16
    assert back.info == {"kvp": 120}


def test_nibabel_picture_has_one_slice():
    assert Volume(np.ones((3, 4), bool)).to_nibabel().shape == (3, 4, 1)


def test_unknown_place_stays_unknown_through_nibabel():
    image = Volume(np.zeros((2, 3, 4), np.float32), info={"geometry": "assumed"}).to_nibabel()
    assert not volume.from_nibabel(image).has_geometry
    assert volume.from_nibabel(Volume(np.zeros((2, 3, 4), np.float32)).to_nibabel()).has_geometry


def test_the_affine_is_copied_and_the_info_too():
    affine, info = np.eye(4), {}
    one = Volume(np.zeros((2, 2)), affine, info=info)
    affine[0, 0] = 9
    info["x"] = 1
    assert one.spacing == (1, 1)
    assert one.info == {}


def test_repr_says_what_it_is(marked):
    assert repr(Volume(np.zeros((2, 3)), info={"geometry": "assumed"})) == (
        "Volume(2 x 3 float64, image, None, 1 x 1 mm, geometry unknown)"
    )
    assert "4 x 5 x 6 int16, image, CT" in repr(marked)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"array": np.zeros(3)}, r"shape \(3,\)"),
        ({"array": np.zeros((2, 2, 2, 2, 2))}, "picture .* or a volume"),
        ({"array": np.zeros((2, 2)), "rank": 3}, "rank 3"),
        ({"array": np.zeros((0, 2))}, "at least one voxel"),
        ({"array": np.array([["a"]])}, "Expected numbers"),
        ({"array": np.zeros((2, 2)), "kind": "mask"}, "'image' or 'labels'"),
        ({"array": np.zeros((2, 2)), "kind": "labels"}, "whole numbers"),
        ({"array": np.zeros((2, 2)), "affine": np.eye(3)}, "4 x 4"),
    ],
)
def test_wrong_volume(arguments, message):
    with pytest.raises(ValueError, match=message):
        Volume(**arguments)


def test_labels_with_fractions_are_refused():
    with pytest.raises(ValueError, match="whole numbers"):
        volume.from_sitk(sitk.GetImageFromArray(np.full((2, 2, 2), 0.5)), kind="labels")
