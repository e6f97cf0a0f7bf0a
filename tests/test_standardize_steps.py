"""Recipes: the right steps in the right order, the same after JSON, the mask along with the image."""

import json

import numpy as np
import pytest

from medlab import geometry, standardize
from medlab.volume import Volume


def test_every_recipe_survives_json():
    for name in standardize.recipes()["name"]:
        recipe = standardize.recipe(name, resample=(1, 1.5, 2), resize=(8, 9, 7))
        again = standardize.Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
        assert again == recipe
        assert hash(again) == hash(recipe)


def test_every_modality_ends_in_a_range_that_networks_learn_in():
    rng = np.random.default_rng(0)
    hu = Volume(rng.normal(40, 300, (9, 10, 11)).astype(np.int16), modality="CT")
    bits = Volume(rng.integers(0, 255, (28, 29), np.uint8), modality="DX")
    for modality, volume in (
        ("CT", hu),
        ("CT-lung", hu),
        ("MR", hu),
        ("DX", bits),
        ("cr", bits),
        ("US", bits),
        ("OP", bits),
    ):
        out = standardize.recipe(modality)(volume)
        assert out.array.dtype == np.float32
        assert -5 <= out.array.min() < -0.5
        assert 0.5 < out.array.max() <= 5
        assert out.info["recipe"] == modality
        assert "recipe" not in volume.info


def test_a_window_by_hand():
    volume = Volume(np.array([[[-160.0, 40.0, 240.0, 3000.0]]]), modality="CT")
    np.testing.assert_allclose(standardize.recipe("CT")(volume).array, [[[-1, 0, 1, 1]]], atol=1e-6)
    lung = standardize.recipe("CT", window="lung", symmetric=None)
    np.testing.assert_allclose(lung(Volume(np.array([[[-600.0]]]))).array, [[[0.5]]])


def test_brightness_of_an_ultrasound_keeps_its_meaning_through_resampling():
    volume = Volume(np.full((8, 8), 51, np.uint8), modality="US")
    out = standardize.recipe("US", resize=4)(volume)
    np.testing.assert_allclose(out.array, np.full((4, 4), 2 * 0.2 - 1), atol=1e-5)


def test_steps_are_ordered_and_changed_by_name():
    recipe = standardize.recipe("MR", clip=None, resize=(8, 8, 8), resample=1)
    assert [step for step, _ in recipe.steps] == ["orient", "resample", "resize", "zscore"]
    assert recipe.change(percentile={"low": 1}, zscore=None).steps[-1] == ("percentile", (("low", 1),))
    assert recipe.spatial().steps == recipe.steps[:3]
    assert "3  resize    shape=(8, 8, 8)" in repr(recipe)
    assert "no step" in repr(standardize.recipe("none"))


def test_the_mask_goes_along():
    shape = (12, 10, 8)
    affine = geometry.from_parts((1, 2, 3), direction=np.diag([-1, 1, -1]))
    labels = np.zeros(shape, np.uint8)
    labels[2:6, 3:6, 1:4] = 2
    image = Volume(labels * 50.0 + 3, affine, modality="MR")
    mask = Volume(labels, affine, "labels")
    recipe = standardize.recipe("MR", resample=(1, 1, 1), crop_or_pad=(16, 24, 30))
    out, moved = recipe(image, mask)
    assert out.shape == moved.shape == (16, 24, 30)
    assert moved.array.dtype == np.uint8
    np.testing.assert_array_equal(out.affine, moved.affine)
    assert set(np.unique(moved.array)) == {0, 2}
    # Where linear interpolation is more than half way to the box, the nearest voxel is in the box.
    half = (out.array.max() + out.array.min()) / 2
    agree = ((out.array > half) == (moved.array > 0)).mean()
    assert agree > 0.97
    np.testing.assert_array_equal(recipe.on_labels(mask).array, moved.array)


def test_a_mask_on_another_grid_is_an_error():
    image = Volume(np.zeros((4, 5, 6)), modality="MR")
    recipe = standardize.recipe("MR")
    with pytest.raises(ValueError, match=r"standardize\.match\(mask, volume\)"):
        recipe(image, Volume(np.zeros((4, 5, 5), int), kind="labels"))
    with pytest.raises(ValueError, match="tenth of a voxel"):
        recipe(image, Volume(np.zeros((4, 5, 6), int), geometry.translation((1, 0, 0)), "labels"))
    recipe(image, Volume(np.zeros((4, 5, 6), int), geometry.translation((0.01, 0, 0)), "labels"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: standardize.recipe("CT-lungs"), "No recipe 'CT-lungs'. There are none, scale"),
        (
            lambda: standardize.recipe("CT", blur=3),
            "No step 'blur' in a recipe. There are orient, crop_to_foreground, resample",
        ),
        (lambda: standardize.recipe("CT", window={"presets": "lung"}), "'window' has no argument 'presets'"),
        (lambda: standardize.recipe("CT", clip=3), "Expected a dict of arguments"),
        (lambda: standardize.recipe("ct-lungs"), "Did you mean 'CT-lung'"),
        (lambda: standardize.recipe("MR", resample=-1), "Step 'resample' cannot be done with spacing=-1.*above 0"),
        (lambda: standardize.recipe("MR", resize="big"), "Step 'resize'.*a shape in voxels above 0"),
        (lambda: standardize.recipe("MR", crop_or_pad=(8, 8, 2.5)), "whole numbers of voxels"),
        (lambda: standardize.recipe("MR", orient="XXX"), "Expected 3 letters of R/L"),
        (lambda: standardize.recipe("CT", window="lungs"), "No window preset 'lungs'.*Did you mean 'lung'"),
        (lambda: standardize.recipe("MR", histogram=True), "'histogram' needs landmarks"),
        (lambda: standardize.recipe("MR", clip={"low": 3}), "'clip' needs high"),
        (lambda: standardize.recipe("MR", clip={"low": "a", "high": 2}), "Step 'clip' cannot be done with low='a'"),
        (lambda: standardize.recipe("MR", zscore={"mask": "brain"}), "a mask, 'foreground' or None. Received 'brain'"),
        (lambda: standardize.recipe("MR")(np.ones((3, 3, 3))), "Expected a Volume. Received ndarray"),
        (lambda: standardize.Recipe.from_dict({"name": "x", "steps": ["a"]}), "Expected each step as {.*Received 'a'"),
        (lambda: standardize.Recipe.from_dict({"name": "x", "steps": 5}), "steps as a list. Received 5"),
        (lambda: standardize.Recipe.from_dict({"steps": []}), "name and steps"),
        (lambda: standardize.Recipe.from_dict({"name": "x", "steps": [{"step": "melt"}]}), "No step 'melt'"),
        (lambda: standardize.Recipe.from_dict({"name": "x", "steps": [{"step": "scale"}] * 2}), "comes twice"),
    ],
)
def test_errors_say_what_there_is(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_pictures_are_not_turned():
    picture = Volume(np.random.default_rng(0).random((5, 6)), np.diag([-1.0, -1, 1, 1]), modality="MR")
    out = standardize.recipe("MR")(picture)
    assert out.shape == (5, 6)
    assert out.orientation == picture.orientation


def test_an_unknown_modality_is_judged_by_its_own_percentiles():
    assert [step for step, _ in standardize.recipe(None).steps] == ["percentile", "symmetric"]


def test_arguments_that_suit_pictures_or_large_volumes_are_taken_when_a_recipe_is_made():
    picture = Volume(np.random.default_rng(0).random((9, 12)), modality="DX")
    assert standardize.recipe("DX", resize=(64, 32))(picture).shape == (64, 32)
    assert standardize.recipe("MR", resample=(0.5, 0.5))(picture).shape == (18, 24)
    assert standardize.recipe("CT", crop_or_pad=(4000, 4000, 4000)).plain_steps()["crop_or_pad"]["shape"][0] == 4000
    drawn = np.zeros((9, 12))
    drawn[:3] = 1
    out = standardize.recipe("DX", percentile=None, symmetric=None, zscore=drawn)(picture)
    assert out.array[:3].mean() == pytest.approx(0, abs=1e-6)
    for step in ("scale", "percentile", "clahe", "white_stripe", "zscore", "symmetric", "crop_to_foreground"):
        assert step in standardize.recipe("none", **{step: True}).plain_steps()


def test_capitals_in_names_do_not_matter():
    volume = Volume(np.random.default_rng(0).normal(-600, 300, (5, 6, 7)), modality="CT")
    for name, same in (
        ("ct-lung", "CT-lung"),
        ("ct", "CT"),
        ("Percentile", "percentile"),
        ("RADIOGRAPH", "radiograph"),
    ):
        np.testing.assert_array_equal(standardize.recipe(name)(volume).array, standardize.recipe(same)(volume).array)


def test_a_value_beyond_float32_is_named_as_such():
    huge = Volume(np.full((3, 3, 3), 1e300))
    for name in ("none", "scale"):
        with pytest.raises(ValueError, match=r"within 3\.4e38.*Received 1e\+300"):
            standardize.recipe(name)(huge)
    largest = Volume(np.full((3, 3, 3), np.finfo(np.float32).max, np.float64))
    assert (standardize.recipe("none")(largest).array == np.finfo(np.float32).max).all()
