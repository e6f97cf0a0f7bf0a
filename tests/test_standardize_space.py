"""Space: a marked voxel keeps its world position, volumes keep their mm³, SimpleITK agrees."""

import nibabel
import numpy as np
import pytest
import SimpleITK
from scipy import ndimage
from scipy.spatial.transform import Rotation

from medlab import geometry, standardize
from medlab.volume import Volume, from_sitk

SHAPE = (20, 24, 16)
SPACING = (1.5, 0.8, 3.0)


def oblique():
    """An affine with unequal spacings, a turn about every axis, and an origin."""
    turn = Rotation.from_euler("xyz", [12, -20, 33], degrees=True).as_matrix()
    return geometry.from_parts(SPACING, (-31.0, 17.5, 90.0), turn)


def spot(index=(11, 7, 9), shape=SHAPE, width=2.0):
    """A smooth spot around a voxel index: its center of mass is where it was marked."""
    axes = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    distance = sum((axis - center) ** 2 for axis, center in zip(axes, index, strict=True))
    return np.exp(-distance / (2 * width**2)).astype(np.float32)


def place(volume):
    """Center of mass of the image, mm."""
    index = np.array([(axis * volume.array).sum() for axis in np.indices(volume.shape)]) / volume.array.sum()
    return geometry.apply(volume.affine, [*index, 0][:3])


def test_orient_moves_no_voxel_in_the_world():
    array = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    volume = Volume(array, oblique())
    for codes in ("RAS", "LPS", "SRA", "IPR", "ALI"):
        turned = standardize.orient(volume, codes)
        assert turned.orientation == codes
        for index in ((0, 0, 0), (3, 20, 11), (19, 23, 15)):
            value = array[index]
            new = np.argwhere(turned.array == value)[0]
            np.testing.assert_allclose(geometry.apply(turned.affine, new), geometry.apply(volume.affine, index))


def test_orient_agrees_with_nibabel():
    volume = Volume(np.random.default_rng(0).random(SHAPE), geometry.from_parts(SPACING) @ np.eye(4)[[2, 0, 1, 3]])
    turned = standardize.orient(volume, "RAS")
    truth = nibabel.as_closest_canonical(nibabel.Nifti1Image(volume.array, volume.affine))
    np.testing.assert_array_equal(turned.array, truth.get_fdata())
    np.testing.assert_allclose(turned.affine, truth.affine)


def test_orient_keeps_channels_and_turns_pictures_within_their_plane():
    # Row to the back, column to the left: as a radiologist sees an axial slice.
    affine = np.array([[0, -1, 0, 5], [-1, 0, 0, 7], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    picture = Volume(np.random.default_rng(0).random((4, 6, 3)), affine, rank=2)
    assert picture.orientation == "PL"
    turned = standardize.orient(picture, "RA")
    np.testing.assert_array_equal(turned.array, picture.array.transpose(1, 0, 2)[::-1, ::-1])
    np.testing.assert_allclose(geometry.apply(turned.affine, [0, 0, 0]), geometry.apply(affine, [3, 5, 0]))
    with pytest.raises(ValueError, match="shows the axes PL"):
        standardize.orient(picture, "SA")


def test_orient_leaves_an_unknown_geometry_alone_and_names_wrong_letters():
    volume = Volume(np.zeros((2, 3, 4)), np.diag([-1.0, 1, 1, 1]), info={"geometry": "assumed"})
    assert standardize.orient(volume, "RAS") is volume
    for codes in ("RA", "RAX", "RLS", ""):
        with pytest.raises(ValueError, match="Expected 3 letters"):
            standardize.orient(Volume(np.zeros((2, 3, 4))), codes)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 2.1, 1.3), 2.5])
def test_a_spot_keeps_its_world_position(spacing):
    volume = Volume(spot(width=2.5), oblique())
    moved = standardize.orient(volume, "RAS")
    moved = standardize.resample(moved, spacing)
    moved = standardize.crop_or_pad(moved, [n + 5 for n in moved.shape])
    np.testing.assert_allclose(place(moved), place(volume), atol=0.05)
    assert moved.spacing == pytest.approx(np.broadcast_to(spacing, 3))


def test_resample_and_resize_keep_the_center_of_the_field_of_view():
    volume = Volume(np.zeros(SHAPE), oblique())
    for moved in (standardize.resample(volume, (2, 2, 2)), standardize.resize(volume, (7, 30, 16))):
        for one in (volume, moved):
            one_center = geometry.apply(one.affine, (np.array(one.shape) - 1) / 2)
            np.testing.assert_allclose(one_center, geometry.apply(volume.affine, (np.array(SHAPE) - 1) / 2))
    assert np.multiply(moved.shape, moved.spacing) == pytest.approx(np.multiply(SHAPE, SPACING))


def test_a_sphere_keeps_its_volume_in_cubic_millimeters():
    radius, spacing = 12.0, np.array([1.0, 1.5, 2.0])
    shape = (40, 30, 22)
    axes = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)), indexing="ij")
    sphere = (sum(axis**2 for axis in axes) <= radius**2).astype(np.uint8)
    labels = Volume(sphere, geometry.scaling(spacing), "labels")
    truth = 4 / 3 * np.pi * radius**3
    for moved in (standardize.resample(labels, 1.0), standardize.resize(labels, 44), standardize.orient(labels, "SPL")):
        assert moved.array.dtype == np.uint8
        assert set(np.unique(moved.array)) == {0, 1}
        assert moved.array.sum() * np.prod(moved.spacing) == pytest.approx(truth, rel=0.02)
    image = standardize.resample(Volume(sphere.astype(np.float32), labels.affine), 3.0)
    assert image.array.sum() * np.prod(image.spacing) == pytest.approx(truth, rel=0.02)


def test_a_plane_is_interpolated_exactly():
    i, j, k = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    volume = Volume((2.0 * i - 3.0 * j + 0.5 * k).astype(np.float32), geometry.scaling(SPACING))
    fine = standardize.resample(volume, np.array(SPACING) / 2)
    index = np.indices(fine.shape).reshape(3, -1).T
    old = geometry.apply(geometry.invert(volume.affine) @ fine.affine, index)
    inside = ((old >= 0) & (old <= np.array(SHAPE) - 1)).all(1)
    truth = old @ [2.0, -3.0, 0.5]
    np.testing.assert_allclose(fine.array.reshape(-1)[inside], truth[inside], atol=1e-4)
    # Half a voxel at the border lies between no two voxels: it repeats the outermost value.
    assert fine.array[0, 0, 0] == volume.array[0, 0, 0]


def test_match_agrees_with_simpleitk():
    rng = np.random.default_rng(3)
    volume = Volume(rng.random(SHAPE).astype(np.float32), oblique(), "image", "CT")
    # Steps of at most one voxel: no smoothing, so that the interpolation alone is compared.
    reference = Volume(np.zeros((17, 19, 23)), geometry.from_parts((0.7, 0.7, 0.7), (-25, 20, 95)))
    moved = standardize.match(volume, reference, fill=-7.0)
    truth = SimpleITK.Resample(volume.to_sitk(), reference.to_sitk(), SimpleITK.Transform(), SimpleITK.sitkLinear, -7.0)
    np.testing.assert_allclose(moved.array, from_sitk(truth).array, atol=1e-4)
    np.testing.assert_array_equal(moved.affine, reference.affine)
    assert moved.modality == "CT"
    labels = Volume(rng.integers(0, 5, SHAPE), oblique(), "labels")
    moved = standardize.match(labels, reference)
    truth = SimpleITK.Resample(
        labels.to_sitk(), reference.to_sitk(), SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor
    )
    assert (moved.array == from_sitk(truth, kind="labels").array).mean() > 0.999


@pytest.mark.parametrize("target", [(0.7, 0.5, 2.2), (2.4, 0.8, 4.1), (40.0, 1.0, 1.0)])
def test_resample_agrees_with_a_gaussian_and_simpleitk(target):
    """The product of sparse matrices is scipy's Gaussian, then SimpleITK's linear filter."""
    volume = Volume(np.random.default_rng(5).normal(30, 900, SHAPE).astype(np.float32), oblique())
    moved = standardize.resample(volume, target)
    growth = np.maximum(np.array(target) / SPACING, 1)
    sigmas = np.sqrt((growth**2 - 1) / (8 * np.log(2)))
    smooth = volume.replace(array=ndimage.gaussian_filter(volume.array, sigmas, mode="nearest", truncate=3))
    truth = SimpleITK.Resample(smooth.to_sitk(), moved.to_sitk(), SimpleITK.Transform(), SimpleITK.sitkLinear, np.nan)
    np.testing.assert_allclose(moved.array, from_sitk(truth).array, atol=1e-2)
    picture = Volume(volume.array[:, :, 4], geometry.scaling((1.5, 0.8, 1)))
    several = Volume(np.stack([picture.array, -picture.array], -1), picture.affine, rank=2)
    one, two = np.moveaxis(standardize.resample(several, target[:2]).array, -1, 0)
    np.testing.assert_array_equal(one, standardize.resample(picture, target[:2]).array)
    np.testing.assert_array_equal(one, -two)


@pytest.mark.parametrize("value", [7.3, -1000.0, 1e-5, 123456.7])
def test_a_constant_image_stays_exactly_constant(value):
    volume = Volume(np.full((19, 20, 21), value, np.float32))
    for spacing in (0.77, 1.3, 2.9):
        assert set(np.unique(standardize.resample(volume, spacing).array)) == {np.float32(value)}


def test_match_of_channels_and_pictures():
    rng = np.random.default_rng(4)
    volume = Volume(rng.random((*SHAPE, 2)).astype(np.float32), geometry.scaling(SPACING))
    reference = Volume(np.zeros((9, 9, 9)), geometry.from_parts((1, 0.5, 2), (3, 2, 4)))
    both = standardize.match(volume, reference).array
    for c in range(2):
        alone = standardize.match(volume.replace(array=volume.array[..., c]), reference).array
        np.testing.assert_allclose(both[..., c], alone, atol=1e-6)
    picture = Volume(rng.random((8, 9)), geometry.translation((1, 2, 5)))
    moved = standardize.match(picture, Volume(np.zeros((4, 5)), geometry.translation((3, 3, 5))))
    np.testing.assert_allclose(moved.array, picture.array[2:6, 1:6], atol=1e-6)
    with pytest.raises(ValueError, match="one plane"):
        standardize.match(picture, Volume(np.zeros((4, 5))))
    with pytest.raises(ValueError, match="two pictures or two volumes"):
        standardize.match(picture, reference)
    with pytest.raises(ValueError, match="only assumed"):
        standardize.match(picture, picture.replace(info={"geometry": "assumed"}))


def test_stripes_finer_than_the_new_voxels_become_gray():
    stripes = Volume(np.tile([0.0, 1.0], (64, 32)).astype(np.float32))
    small = standardize.resize(stripes, (16, 16)).array
    assert np.abs(small[:, 1:-1] - 0.5).max() < 1e-4
    assert standardize.resize(stripes, 64) is stripes


def test_a_coarse_step_is_smoothed_to_the_stated_width():
    line = np.zeros((201, 3), np.float32)
    line[100] = 1.0
    reference = Volume(np.zeros((201, 3)), geometry.scaling((4.0, 1, 1)) @ geometry.translation((-75, 0, 0)))
    # Sampling every fourth voxel at all four offsets gives the smoothed line at every voxel.
    profile = np.zeros(201)
    for shift in range(4):
        moved = standardize.match(
            Volume(line), reference.replace(affine=geometry.translation((shift, 0, 0)) @ reference.affine)
        )
        for n in range(201):
            at = 4 * (n - 75) + shift
            if 0 <= at < 201:
                profile[at] = moved.array[n, 1]
    position = np.arange(201) - 100
    assert profile.sum() == pytest.approx(1, abs=1e-4)
    assert (profile * position**2).sum() == pytest.approx((4**2 - 1) / (8 * np.log(2)), rel=0.03)


def test_crop_or_pad_keeps_each_voxel_where_it_was():
    array = np.arange(1, 6 * 7 + 1, dtype=np.int16).reshape(6, 7)
    volume = Volume(array, geometry.from_parts((2, 3, 1), (10, 20, 0)))
    moved = standardize.crop_or_pad(volume, (9, 4))
    np.testing.assert_array_equal(moved.array[2:8], array[:, 1:5])
    assert (moved.array[[0, 1, 8]] == 1).all(), "the added voxels take the smallest value"
    assert moved.array.dtype == np.int16
    np.testing.assert_allclose(geometry.apply(moved.affine, [2, 0, 0]), geometry.apply(volume.affine, [0, 1, 0]))
    assert standardize.crop_or_pad(volume, 8, fill=-5).array[0, 0] == -5
    labels = Volume(array, kind="labels")
    assert standardize.crop_or_pad(labels, 9).array[0, 0] == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v: standardize.resample(v, (1, 1)), "spacing in mm above 0, one number or 3"),
        (lambda v: standardize.resample(v, 0), "above 0"),
        (lambda v: standardize.resample(v, "1mm"), "a spacing in mm above 0, one number or 3. Received '1mm'"),
        (lambda v: standardize.resample(v.array, 1.0), "Expected a Volume. Received ndarray"),
        (lambda v: standardize.resample(v.replace(array=v.array + 1e300), 2.0), "the largest of float32"),
        (lambda v: standardize.orient(v, 5), "Expected 3 letters"),
        (lambda v: standardize.resize(v, (4, 4, 2.5)), "whole numbers"),
        (lambda v: standardize.crop_or_pad(v, (4, 0, 4)), "above 0"),
        (lambda v: standardize.resize(v.replace(array=v.array * np.nan), 4), "medlab.clean.repair"),
    ],
)
def test_errors_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call(Volume(np.zeros((5, 6, 7))))


def test_labels_of_all_types_keep_them():
    for kind in (bool, np.uint8, np.int16, np.uint16, np.int32, np.int64):
        labels = Volume(np.ones((4, 5), kind), kind="labels")
        moved = standardize.resize(labels, (9, 3))
        assert moved.array.dtype == kind
        assert (moved.array == 1).all()
    assert standardize.resize(Volume(np.ones((1, 1, 3))), 2).array.tolist() == np.ones((2, 2, 2)).tolist()


def middle(labels):
    """Center of all labeled voxels, mm."""
    return geometry.apply(labels.affine, np.argwhere(labels.array > 0)).mean(0)


def test_labels_of_doubled_voxels_stay_where_they_are_by_hand():
    array = np.zeros((8, 8, 8), np.uint8)
    array[3:7, 3:7, 3:7] = 1
    coarse = standardize.resample(Volume(array, kind="labels"), 2.0)
    np.testing.assert_allclose(middle(coarse), [4.5, 4.5, 4.5])
    # New centers at 0.5, 2.5, 4.5, 6.5 mm. A cube from 2 to 5 fills whole new voxels: no vote is tied.
    whole = standardize.resample(Volume(np.roll(array, -1, (0, 1, 2)), kind="labels"), 2.0)
    truth = np.zeros((4, 4, 4))
    truth[1:3, 1:3, 1:3] = 1
    np.testing.assert_array_equal(whole.array, truth)


@pytest.mark.parametrize("factor", [2.0, 4.0, 1.5, 2 / 3, 3.0])
def test_balls_of_labels_keep_their_place_and_volume_on_average(factor):
    """At each of these steps centers lie halfway between voxels; rounding shifted all balls to one side."""
    rng, grid = np.random.default_rng(0), np.indices((40, 40, 40))
    shifts, sizes = [], []
    for _ in range(8):
        center = rng.uniform(17, 22, (3, 1, 1, 1))
        ball = Volume((((grid - center) ** 2).sum(0) <= 100).astype(np.uint8), kind="labels")
        moved = standardize.resample(ball, factor)
        shifts.append(middle(moved) - middle(ball))
        sizes.append(moved.array.sum() * factor**3 / ball.array.sum())
    assert np.abs(np.mean(shifts)) < 0.05 * factor, "24 shifts; rounding gives 0.5 at factor 2"
    assert np.mean(sizes) == pytest.approx(1, abs=0.03)


def test_flat_faces_of_labels_stay_flat_and_move_to_both_sides():
    """Slabs four voxels thick at every odd place: their faces run through new centers, out and in by turns."""
    centers, sizes = [], []
    for first in range(1, 57, 2):
        array = np.zeros((62, 6), np.int16)
        array[first : first + 4] = 300
        moved = standardize.resample(Volume(array, kind="labels"), 2.0)
        assert set(np.unique(moved.array)) <= {0, 300}
        assert (moved.array == moved.array[:, :1]).all(), "no ragged face"
        # New voxel n lies at 2 n + 0.5 mm.
        centers.append(2 * np.flatnonzero(moved.array[:, 0]).mean() + 0.5 - (first + 1.5))
        sizes.append((moved.array[:, 0] > 0).sum() * 2)
    np.testing.assert_allclose(centers, 0, atol=1e-9)
    assert np.mean(sizes) == 4


def test_the_majority_of_halfway_neighbors_wins():
    array = np.array([[1, 1, 2, 0], [3, 1, 2, 2]], np.uint8)
    assert standardize.resample(Volume(array, kind="labels"), 2.0).array.tolist() == [[1, 2]]
    mirrored = standardize.resample(Volume(array[::-1, ::-1].copy(), kind="labels"), 2.0)
    assert mirrored.array.tolist() == [[2, 1]], "rounding would take another corner"


def test_labels_without_halfway_centers_are_those_of_the_nearest_voxel():
    labels = Volume(np.random.default_rng(0).integers(0, 9, (7, 9, 5)), kind="labels")
    finer = standardize.resample(labels, 0.5).array
    np.testing.assert_array_equal(finer, labels.array.repeat(2, 0).repeat(2, 1).repeat(2, 2))
    thirds = standardize.resize(labels, (7, 3, 5)).array
    np.testing.assert_array_equal(thirds, labels.array[:, 1::3])
    np.testing.assert_array_equal(standardize.match(labels, labels).array, labels.array)
