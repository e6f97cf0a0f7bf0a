"""Pictures of slices: the color at a known voxel, and left is left."""

import nibabel
import numpy as np
import pytest
from skimage.color import rgb2lab

from medlab.view import auto_window, colors, projection, slice_image, slices
from medlab.volume import Volume

SHAPE = (4, 5, 6)
ORIENTATIONS = ["RAS", "LPS", "LAS", "PIR", "SRA", "AIL"]


def marked(code: str = "RAS", kind: str = "image") -> Volume:
    """Voxels of 4 x 5 x 6 mm (R, A, S), 100 in the patient's right, front, head corner, stored as ``code``."""
    array = np.zeros(SHAPE, np.int16)
    array[-1, -1, -1] = 100
    array[1, 2, 3] = 60
    image = nibabel.Nifti1Image(array, np.diag([4.0, 5, 6, 1]))
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(image.affine), nibabel.orientations.axcodes2ornt(tuple(code))
    )
    image = image.as_reoriented(turn)
    return Volume(np.asarray(image.dataobj), image.affine, kind)


@pytest.mark.parametrize("code", ORIENTATIONS)
def test_left_is_left_whatever_the_orientation(code):
    volume = marked(code)
    assert volume.orientation == code
    axial = slice_image(volume, axis="axial", index=5, window=(50, 100))
    assert axial.shape == (5, 4, 3)
    # The patient's right and front: the upper left corner of the picture.
    assert axial[0, 0].tolist() == [255, 255, 255]
    assert (axial.sum(axis=2) > 0).sum() == 1
    coronal = slice_image(volume, axis="coronal", index=4, window=(50, 100))
    assert coronal.shape == (6, 4, 3)
    assert coronal[0, 0].tolist() == [255, 255, 255]
    sagittal = slice_image(volume, axis="sagittal", index=3, window=(50, 100))
    assert sagittal.shape == (6, 5, 3)
    assert sagittal[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("code", ORIENTATIONS)
def test_the_picture_does_not_depend_on_the_orientation_of_the_array(code):
    one, other = marked("RAS"), marked(code)
    mask = [volume.replace(array=(volume.array > 50).astype(np.uint8), kind="labels") for volume in (one, other)]
    for axis in slices.PLANES:
        for index in range(slices.slice_count(one, axis)):
            pictures = [slice_image(v, axis=axis, index=index, mask=m) for v, m in zip((one, other), mask, strict=True)]
            assert np.array_equal(*pictures)
        assert np.array_equal(projection(one, axis=axis), projection(other, axis=axis))
        assert slices.pixel_spacing(one, axis) == slices.pixel_spacing(other, axis)
        assert slices.position(one, axis, 1) == slices.position(other, axis, 1)
        assert slices.telling_index(one, axis, mask=mask[0]) == slices.telling_index(other, axis, mask=mask[1])


def test_inner_voxel_by_hand():
    # Voxel (1, 2, 3) of 4 x 5 x 6: from the right it is column 4 - 1 - 1 = 2, from the front row 5 - 1 - 2 = 2.
    axial = slice_image(marked(), axis="axial", index=3, window=(50, 100))
    assert axial[2, 2].tolist() == [153, 153, 153]  # 60 of 0..100 of 255
    # From the head row 6 - 1 - 3 = 2.
    assert slice_image(marked(), axis="coronal", index=2, window=(50, 100))[2, 2].tolist() == [153, 153, 153]
    assert slice_image(marked(), axis="sagittal", index=1, window=(50, 100))[2, 2].tolist() == [153, 153, 153]


def test_a_number_is_an_axis_of_the_array():
    volume = marked("LPS")
    # Axis 0 runs to the left: index 0 is the rightmost slice, sagittal 3.
    assert np.array_equal(slice_image(volume, axis=0, index=0), slice_image(volume, axis="sagittal", index=3))
    assert np.array_equal(slice_image(volume, axis=2, index=5), slice_image(volume, axis="axial", index=5))


def test_spacing_position_and_sides():
    volume = marked("LPS")
    assert slices.pixel_spacing(volume, "axial") == pytest.approx((5, 4))
    assert slices.pixel_spacing(volume, "coronal") == pytest.approx((6, 4))
    assert slices.pixel_spacing(volume, "sagittal") == pytest.approx((6, 5))
    assert slices.position(volume, "axial", 2) == "S 12.0 mm"
    assert slices.sides(volume, "axial") == {"left": "R", "right": "L", "top": "A", "bottom": "P"}
    assert slices.sides(volume, "coronal") == {"left": "R", "right": "L", "top": "S", "bottom": "I"}
    assert slices.sides(volume, "sagittal") == {"left": "A", "right": "P", "top": "S", "bottom": "I"}
    shifted = volume.replace(affine=np.diag([4.0, 5, 6, 1]) + np.pad([[-50.0]], ((2, 1), (3, 0))))
    assert slices.position(shifted, "axial", 2) == "I 38.0 mm"


def test_pictures_are_shown_as_they_are():
    array = np.array([[0, 51, 102], [153, 204, 255]], np.uint8)
    picture = slice_image(Volume(array), window=(127.5, 255))
    assert picture[..., 0].tolist() == array.tolist()
    # A phantom's axial picture: rows to the back, columns to the left.
    affine = np.array([[0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    assert Volume(array, affine).orientation == "PL"
    assert slices.sides(Volume(array, affine)) == {"left": "R", "right": "L", "top": "A", "bottom": "P"}
    color = np.random.default_rng(0).integers(0, 256, (3, 5, 3), np.uint8)
    assert np.array_equal(slice_image(color), color)
    assert np.array_equal(slice_image(np.concatenate([color, color[..., :1]], axis=-1)), color)


def test_unknown_sides_are_not_claimed():
    volume = Volume(np.zeros(SHAPE), info={"geometry": "assumed"})
    assert slices.sides(volume, "axial") is None
    assert slices.position(volume, "axial", 0) == ""
    assert slices.as_volume(np.zeros(SHAPE)).has_geometry is False


def test_window_by_hand():
    # Center 40, width 400: -160 is black, 240 white, 40 half of 255 rounded to even, 140 three quarters.
    values = np.array([[-1000, -160, 40, 140, 240, 3000]], np.int16)
    assert slice_image(values, window=(40, 400))[0, :, 0].tolist() == [0, 0, 128, 191, 255, 255]


def test_window_of_percentiles():
    values = np.arange(1001.0).reshape(7, 11, 13)
    center, width = auto_window(values)
    assert (center, width) == pytest.approx((500, 990))  # 5 to 995
    spiky = np.zeros((50, 50))
    spiky[3, 4] = 8
    assert auto_window(spiky) == (4, 8)
    holes = values.copy()
    holes[0, 0, 0] = np.nan
    holes[0, 0, 1] = np.inf
    assert auto_window(holes) == pytest.approx(np.add((501, 989), (0, 0)), abs=1.5)


@pytest.mark.parametrize("value", [-3, 0, 7.5, 1e9])
def test_a_constant_image_is_mid_gray(value):
    assert np.unique(slice_image(np.full((4, 4), value))).tolist() == [128]


def test_nan_has_its_own_color():
    values = np.array([[0.0, np.nan], [1.0, np.inf]])
    picture = slice_image(values, window=(0.5, 1))
    assert picture[0, 1].tolist() == list(colors.NAN_COLOR)
    assert picture[1, 1].tolist() == [255, 255, 255]
    assert picture[0, 0].tolist() == [0, 0, 0]
    nothing = slice_image(np.full((2, 2), np.nan))
    assert (nothing == colors.NAN_COLOR).all()


def test_mask_is_outlined_and_filled():
    image, mask = np.zeros((7, 7)), np.zeros((7, 7), np.uint8)
    mask[1:6, 1:6] = 1
    picture = slice_image(image, window=(50, 100), mask=mask, alpha=0.5)
    first = colors.LABEL_COLORS[0]
    assert picture[1, 1].tolist() == first.tolist()  # outline
    assert picture[3, 3].tolist() == np.rint(first / 2).tolist()  # half of the color on black
    assert picture[0, 0].tolist() == [0, 0, 0]
    hollow = slice_image(image, window=(50, 100), mask=mask, alpha=0)
    assert hollow[3, 3].tolist() == [0, 0, 0]
    assert hollow[5, 3].tolist() == first.tolist()


def test_heat_by_hand():
    heat = np.array([[0.0, 1.0, 2.0, 4.0, np.nan]])
    picture = slice_image(np.full((1, 5), 100.0), window=(50, 100), heat=heat, alpha=0.5).astype(float)
    white, last = 255.0, colors.HEAT_COLORS[-1].astype(float)
    assert picture[0, 0].tolist() == [white] * 3
    assert picture[0, 3] == pytest.approx(0.5 * white + 0.5 * last, abs=0.5)
    # A quarter of the maximum has half the opacity, half of it the whole.
    assert picture[0, 1] == pytest.approx(0.75 * white + 0.25 * colors.HEAT_COLORS[64].astype(float), abs=0.5)
    assert picture[0, 2] == pytest.approx(0.5 * white + 0.5 * colors.HEAT_COLORS[128].astype(float), abs=0.5)
    assert picture[0, 4].tolist() == [white] * 3
    cold = slice_image(np.full((1, 5), 100.0), window=(50, 100), heat=np.zeros((1, 5)))
    assert (cold == 255).all()


def test_heat_colors_are_perceptually_uniform():
    lab = rgb2lab(colors.HEAT_COLORS[None] / 255.0)[0]
    assert np.diff(lab[:, 0]).min() > -0.1  # lightness only grows, but for rounding to 8 bits
    steps = np.linalg.norm(lab[8::8] - lab[:-8:8], axis=1)
    # The way has corners, where eight steps reach less far.
    assert steps.max() / steps.min() < 1.35


def test_label_maps_show_their_labels():
    volume = marked(kind="labels")
    labels = volume.replace(array=(volume.array > 50).astype(np.int16) * 2)
    picture = slice_image(labels, axis="axial", index=5)
    assert picture[0, 0].tolist() == colors.LABEL_COLORS[1].tolist()
    assert picture[1, 1].tolist() == [0, 0, 0]


def test_projection_shows_the_largest_value():
    volume = marked()
    picture = projection(volume, axis="axial", window=(50, 100))
    assert picture[0, 0, 0] == 255
    assert picture[2, 2, 0] == 153
    assert (picture[..., 0] > 0).sum() == 2


def test_scale_repeats_pixels():
    small = slice_image(marked(), axis="axial", index=3)
    assert np.array_equal(slice_image(marked(), axis="axial", index=3, scale=3)[1::3, 1::3], small)


def test_telling_slice():
    volume = marked("LPS")
    mask = (volume.array == 60).astype(np.uint8)
    assert [slices.telling_index(volume, axis, mask=mask) for axis in slices.PLANES] == [3, 2, 1]
    assert [slices.telling_index(volume, axis, heat=mask * 0.5) for axis in slices.PLANES] == [3, 2, 1]
    assert slices.telling_index(volume, "axial", mask=mask * 0) == 3
    assert slices.telling_index(Volume(np.zeros((3, 3))), "axial") == 0


def test_pure():
    rng = np.random.default_rng(0)
    arrays = [rng.random(SHAPE), rng.integers(0, 3, SHAPE), rng.random(SHAPE)]
    before = [array.copy() for array in arrays]
    for array in arrays:
        array.setflags(write=False)
    slice_image(arrays[0], axis="coronal", index=1, mask=arrays[1], heat=arrays[2], scale=2)
    projection(arrays[0], mask=arrays[1], heat=arrays[2])
    assert all(np.array_equal(*pair) for pair in zip(arrays, before, strict=True))


def test_channels_after_the_first_are_left_out():
    array = np.random.default_rng(0).random((*SHAPE, 2))
    assert np.array_equal(slice_image(array, index=1), slice_image(array[..., 0], index=1))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"axis": "frontal"}, r"Expected an axis of .*axial.* or 0, 1, 2. Received 'frontal'"),
        ({"axis": 3}, "Received 3"),
        ({"axis": True}, "Received True"),
        ({"index": 6}, "Expected a slice from 0 to 5 along 'axial'. Received 6"),
        ({"index": -1}, "Received -1"),
        ({"window": (40, 0)}, "width above 0"),
        ({"alpha": 1.5}, "alpha between 0 and 1"),
        ({"mask": np.zeros((4, 5, 7))}, r"mask of shape \(4, 5, 6\). Received shape \(4, 5, 7\)"),
        ({"heat": np.zeros((4, 5))}, r"heat map of shape \(4, 5, 6\)"),
    ],
)
def test_bad_arguments(changes, text):
    with pytest.raises(ValueError, match=text):
        slice_image(marked(), **({"axis": "axial", "index": 0} | changes))


def test_a_mask_from_another_place_is_refused():
    volume = marked()
    moved = marked("LPS").replace(kind="labels")
    assert moved.shape == volume.shape
    with pytest.raises(ValueError, match=r"mask in the same place.*standardize.match"):
        slice_image(volume, index=0, mask=moved)


def test_values_as_the_scanner_gave_them_are_shown_in_the_window_that_is_named():
    array = np.array([[-1000, 0], [40, 1000]], np.int16)
    volume = Volume(array, np.eye(4), modality="CT", info={"window": (40, 80)}, rank=2)
    assert auto_window(volume) == (40.0, 80.0)
    picture = slice_image(volume)
    # 0 HU and 1000 HU are the ends of the window 0 to 80 or beyond, 40 HU its middle.
    assert sorted(picture[..., 0].ravel()) == [0, 0, pytest.approx(127.5, abs=1), 255]
    assert auto_window(volume.replace(array=(array / 1000).astype(np.float32)))[1] < 2.1
