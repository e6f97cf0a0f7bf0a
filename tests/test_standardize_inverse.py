"""Inverse: what was cut, turned or resampled lies where it lay, and predictions come back to the original voxels."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from medlab import geometry, standardize
from medlab.volume import Volume

SHAPE = (21, 26, 17)


def oblique(spacing=(1.5, 0.8, 3.0)):
    turn = Rotation.from_euler("xyz", [12, -20, 33], degrees=True).as_matrix()
    return geometry.from_parts(spacing, (-31.0, 17.5, 90.0), turn @ np.diag([-1, 1, 1]))


def head(shape=SHAPE, affine=None, modality="MR"):
    """A bright body in dark noise, and labels of three values inside it."""
    rng = np.random.default_rng(0)
    labels = np.zeros(shape, np.uint8)
    body = tuple(slice(side // 4, side - side // 4) for side in shape)
    labels[body] = rng.integers(0, 4, labels[body].shape)
    image = rng.normal(10, 2, shape).astype(np.float32)
    image[body] += 200
    affine = oblique() if affine is None else affine
    return Volume(image, affine, modality=modality), Volume(labels, affine, "labels")


def dice(a, b):
    return 2 * ((a > 0) & (b > 0)).sum() / ((a > 0).sum() + (b > 0).sum())


LOSSLESS = [
    {"orient": "RAS"},
    {"orient": "SPL"},
    {"orient": None, "crop_or_pad": (25, 30, 20)},
    {"orient": None, "crop_to_foreground": 0},
    {"orient": "LAS", "crop_to_foreground": 2.0, "crop_or_pad": (40, 40, 40)},
    {"orient": "RAS", "crop_to_foreground": 0, "resample": None, "crop_or_pad": (30, 31, 32)},
]


@pytest.mark.parametrize("first", ["space", "intensity"])
@pytest.mark.parametrize("changes", LOSSLESS)
def test_what_is_not_resampled_comes_back_voxel_by_voxel(changes, first):
    image, labels = head()
    recipe = standardize.recipe("MR", first=first, **changes)
    out, moved = recipe(image, labels)
    np.testing.assert_array_equal(out.affine, moved.affine)
    back = recipe.inverse(moved, image)
    np.testing.assert_array_equal(back.array, labels.array)
    np.testing.assert_array_equal(back.affine, image.affine)
    assert back.array.dtype == np.uint8
    np.testing.assert_array_equal(recipe.inverse(moved.array, image).array, labels.array)


def test_a_threefold_finer_grid_gives_each_voxel_back():
    image, labels = head(affine=geometry.scaling((3, 1.5, 6)))
    recipe = standardize.recipe("MR", resample=(1.0, 0.5, 2.0))
    _, moved = recipe(image, labels)
    assert moved.shape == tuple(3 * side for side in SHAPE)
    np.testing.assert_array_equal(recipe.inverse(moved, image).array, labels.array)


@pytest.mark.parametrize("crop", [None, 0])
def test_a_coarser_grid_loses_little_and_covers_the_rim(crop):
    image, _ = head()
    full = Volume(np.ones(SHAPE, np.uint8), image.affine, "labels")
    recipe = standardize.recipe("MR", resample=4.0, crop_to_foreground=crop)
    _, moved = recipe(image, full)
    back = recipe.inverse(moved, image).array
    if crop is None:
        assert back.all(), "21 * 1.5 mm are no whole number of 4 mm: the rim takes the outermost label"
    else:
        kept = np.zeros(SHAPE, bool)
        kept[5:16, 6:20, 4:13] = True
        np.testing.assert_array_equal(back > 0, kept)


def test_a_sphere_survives_resampling_to_voxels_of_half_its_size():
    shape, spacing = (60, 50, 24), np.array([1.0, 1.2, 2.5])
    axes = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)), indexing="ij")
    labels = Volume((sum(axis**2 for axis in axes) <= 20**2).astype(np.uint8), oblique(spacing), "labels")
    image = Volume(labels.array * 100.0, labels.affine, modality="MR")
    recipe = standardize.recipe("MR", resample=2.0, crop_or_pad=48)
    _, moved = recipe(image, labels)
    assert 0.95 < dice(recipe.inverse(moved, image).array, labels.array) < 1


def test_the_world_position_of_a_marked_voxel_after_each_step_and_all_of_them():
    index = np.array([9, 12, 8])
    image, _ = head()
    array = np.zeros(SHAPE, np.uint8)
    array[tuple(index)] = 7
    marked = Volume(array, image.affine, "labels")
    world = geometry.apply(image.affine, index)
    box = Volume((image.array > 100).astype(np.uint8), image.affine, "labels")
    steps = {
        "orient": lambda v: standardize.orient(v, "SAL"),
        "crop": lambda v: standardize.crop_to_foreground(v, box.array, margin=1.0),
        "crop_or_pad": lambda v: standardize.crop_or_pad(v, (30, 15, 19)),
        "finer": lambda v: standardize.resample(v, np.array(v.spacing) / 3),
        "resize": lambda v: standardize.resize(v, [5 * side for side in v.shape]),
    }
    for step in steps.values():
        moved = step(marked)
        places = geometry.apply(moved.affine, np.argwhere(moved.array == 7))
        assert len(places)
        np.testing.assert_allclose(places.mean(0), world, atol=1e-6)
    moved = marked
    for name in ("crop", "orient", "finer", "crop_or_pad"):
        shape = [side + 8 for side in moved.shape]
        moved = standardize.crop_or_pad(moved, shape) if name == "crop_or_pad" else steps[name](moved)
    np.testing.assert_allclose(geometry.apply(moved.affine, np.argwhere(moved.array == 7)).mean(0), world, atol=1e-6)


def test_probabilities_come_back_linear_and_background_is_certain_outside():
    image, _ = head(affine=geometry.from_parts((2, 2, 2), direction=np.diag([-1, 1, 1])))
    recipe = standardize.recipe("MR", orient="RAS", crop_to_foreground=0, resample=1.0)
    grid = recipe(image)
    ramp = np.broadcast_to(np.linspace(0.2, 0.8, grid.shape[1], dtype=np.float32)[:, None], grid.shape)
    p = np.stack([1 - ramp, ramp], -1)
    back = recipe.inverse(p, image)
    assert back.array.dtype == np.float32
    np.testing.assert_allclose(back.array.sum(-1), 1, atol=1e-5)
    np.testing.assert_array_equal(back.array[0, 0, 0], [1, 0])
    # Original voxel j of the box lies between the fine voxels 2 j and 2 j + 1.
    fine = ramp[0, :, 0].astype(float)
    np.testing.assert_allclose(back.array[8, 6:20, 8, 1], (fine[::2] + fine[1::2]) / 2, atol=1e-5)
    one = recipe.inverse(ramp, image)
    assert one.array[0, 0, 0] == 0
    assert recipe.inverse(ramp, image, fill=-1.0).array[0, 0, 0] == -1
    np.testing.assert_array_equal(recipe.inverse(p, image, fill=[0.25, 0.75]).array[0, 0, 0], np.float32([0.25, 0.75]))


def test_channels_that_are_no_shares_are_zero_outside():
    image, labels = head()
    moved = standardize.crop_to_foreground(image)
    several = moved.replace(array=np.full((*moved.shape, 3), 0.9, np.float32))
    np.testing.assert_array_equal(standardize.restore(several, image).array[0, 0, 0], [0, 0, 0])
    cut = standardize.crop_to_foreground(labels)
    np.testing.assert_array_equal(standardize.restore(cut, image).array, labels.array)


def test_pictures_come_back_too():
    rng = np.random.default_rng(1)
    for info in ({}, {"geometry": "assumed"}):
        picture = Volume(rng.integers(0, 255, (30, 41), np.uint8), modality="DX", info=info)
        labels = picture.replace(array=rng.integers(0, 3, (30, 41)).astype(np.uint8), kind="labels")
        recipe = standardize.recipe("DX", crop_or_pad=(64, 32), resize=(192, 96))
        _, moved = recipe(picture, labels)
        back = recipe.inverse(moved.array, picture).array
        np.testing.assert_array_equal(back[:, 4:36], labels.array[:, 4:36])
        assert not back[:, :4].any()


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        (np.zeros((1, 30, 41)), r"one case on the grid of the recipe, shape \(64, 64\).*Received \(1, 30, 41\)"),
        (np.full((64, 64), np.nan), r"medlab\.clean\.repair"),
    ],
)
def test_predictions_that_do_not_fit(prediction, message):
    recipe = standardize.recipe("DX", resize=(64, 64))
    with pytest.raises(ValueError, match=message):
        recipe.inverse(prediction, Volume(np.zeros((30, 41))))


def test_a_fill_of_another_length_is_an_error():
    with pytest.raises(ValueError, match="one fill or 2, one a channel"):
        standardize.restore(Volume(np.zeros((4, 4, 2)), rank=2), Volume(np.zeros((4, 4))), fill=[1, 0, 0])


def test_the_box_around_the_foreground_by_hand():
    array = np.zeros((12, 20), np.float32)
    array[3:6, 7:15] = 50
    volume = Volume(array, geometry.scaling((1, 2, 1)), modality="MR")
    assert standardize.crop_to_foreground(volume).shape == (3, 8)
    near = standardize.crop_to_foreground(volume, margin=2.5)
    assert near.shape == (3 + 2 * 3, 8 + 2 * 2), "2.5 mm are 3 voxels of 1 mm and 2 of 2 mm"
    np.testing.assert_allclose(near.affine[:2, 3], [0, 10])
    assert standardize.crop_to_foreground(volume, margin=1000).shape == (12, 20)
    assert standardize.crop_to_foreground(Volume(np.ones((4, 5)))).shape == (4, 5), "a constant image stays whole"
    assert standardize.crop_to_foreground(Volume(np.zeros((4, 5), int), kind="labels")).shape == (4, 5)
    one = np.zeros((12, 20))
    one[4, 9] = 1
    assert standardize.crop_to_foreground(volume, one).array.tolist() == [[50.0]]
    with pytest.raises(ValueError, match="at least one voxel above 0"):
        standardize.crop_to_foreground(volume, np.zeros((12, 20)))
    with pytest.raises(ValueError, match="margin of 0 mm or above"):
        standardize.crop_to_foreground(volume, margin=-1)


def test_a_mask_alone_needs_its_image_where_that_decides_the_crop():
    image, labels = head()
    recipe = standardize.recipe("MR", crop_to_foreground=0)
    assert recipe.looks_at_image
    np.testing.assert_array_equal(recipe.on_labels(labels, image).array, recipe(image, labels)[1].array)
    with pytest.raises(ValueError, match=r"recipe\.on_labels\(mask, image\)"):
        recipe.on_labels(labels)
    assert not standardize.recipe("MR", resample=1).looks_at_image
