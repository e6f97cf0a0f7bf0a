"""Fingerprint and proposal: numbers of hand-made data sets, and the published rule for each decision."""

import json

import numpy as np
import pandas as pd
import pytest

from medlab import batches, geometry, standardize
from medlab.cases import Cases
from medlab.volume import Volume


def volume(shape, spacing, modality="CT", fill=40.0, codes="RAS"):
    """A box of tissue in air that fills the middle half along each axis, stored along RAS, then turned."""
    array = np.full(shape, -1000.0, np.float32)
    middle = tuple(slice(side // 4, side - side // 4) for side in shape)
    array[middle] = fill
    return standardize.orient(Volume(array, geometry.scaling(spacing), modality=modality), codes)


def table(volumes, masks=None, labels=None, splits=None, **info):
    """Cases that open what is given."""
    rows = {"id": [f"c{n}" for n in range(len(volumes))], "image": [str(n) for n in range(len(volumes))]}
    if masks is not None:
        rows["mask"] = rows["image"]
    if labels is not None:
        rows["label"] = labels
    if splits is not None:
        rows["split"] = splits
    opened = {"image": volumes, "labels": masks}
    classes = sorted(set(labels or []))
    return Cases(pd.DataFrame(rows), classes, info=info, open=lambda at, kind="image": opened[kind][int(at)])


def test_shapes_spacings_and_boxes_are_measured_along_ras():
    volumes = [volume((40, 24, 16), (1, 1, 3)), volume((44, 20, 12), (1, 2, 4), codes="SAL")]
    found = standardize.fingerprint(volumes)
    assert found.shapes == ((40, 24, 16), (44, 20, 12))
    assert found.spacings == ((1, 1, 3), (1, 2, 4))
    assert found.boxes == ((20, 12, 8), (22, 10, 6))
    assert (found.n, found.rank, found.turned, found.modality, found.geometry) == (2, 3, 1, "CT", True)
    assert found.table.loc["mm along S"].tolist() == [3, 3.5, 4]
    assert json.loads(json.dumps(found.to_dict()))["boxes"] == [[20, 12, 8], [22, 10, 6]]


def test_intensities_inside_the_masks_by_hand():
    image = Volume(np.arange(24.0).reshape(2, 3, 4), modality="CT")
    masks = [np.zeros((2, 3, 4), np.uint8) for _ in range(3)]
    masks[0].ravel()[[1, 2]] = 1
    masks[1].ravel()[[9, 20]] = 2
    cases = table([image] * 3, [Volume(mask, kind="labels") for mask in masks], modality="CT")
    found = standardize.fingerprint(cases)
    assert found.inside == "masks"
    values = np.array([1, 2, 9, 20])
    assert found.intensity[0]["mean"] == values.mean() == 8
    assert found.intensity[0]["deviation"] == pytest.approx(values.std(), rel=1e-5)
    assert found.intensity[0]["percentile_99.5"] == pytest.approx(np.percentile(values, 99.5), rel=1e-5)
    assert standardize.fingerprint(cases, inside="foreground").inside == "foreground"
    labeled = table([image] * 3, [Volume(mask, kind="labels") for mask in masks], ["a", "b", "a"])
    assert standardize.fingerprint(labeled).inside == "foreground", "a lesion's mask is not what is classified"
    empty = table([image], [Volume(masks[2], kind="labels")])
    assert standardize.fingerprint(empty).inside == "foreground"
    with pytest.raises(ValueError, match=r"at least one voxel above 0\. There is none"):
        standardize.fingerprint(empty, inside="masks")


def test_only_training_cases_teach():
    volumes = [volume((20, 20, 20), (1, 1, 1), fill=value) for value in (40, 60, 900, 900)]
    splits = ["train", "train", "validation", "test"]
    found = standardize.fingerprint(table(volumes, labels=list("abab"), splits=splits))
    assert (found.n, found.split, found.intensity[0]["mean"]) == (2, "train", 50)
    assert standardize.fingerprint(table(volumes, labels=list("abab"))).n == 4


def test_a_limit_is_spread_over_the_table_and_samples_are_always_the_same():
    rng = np.random.default_rng(0)
    volumes = [Volume(rng.normal(n, 1, (40, 40, 40)), modality="MR") for n in range(9)]
    cases = table(volumes)
    found = standardize.fingerprint(cases, limit=3)
    assert found.n == 3
    assert found == standardize.fingerprint([volumes[0], volumes[4], volumes[8]])
    # About half of 64,000 voxels lie above Otsu's threshold; 10,000 of them count. The mean of the upper half of a
    # normal distribution is sqrt(2 / pi) above its own.
    assert found.intensity[0]["mean"] == pytest.approx(4 + np.sqrt(2 / np.pi), abs=0.1)
    assert standardize.fingerprint(iter(volumes), limit=2).n == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: standardize.fingerprint([]), "at least one image"),
        (lambda: standardize.fingerprint("phantom:brain-tumor"), "Received str"),
        (lambda: standardize.fingerprint([Volume(np.ones((3, 3)))], limit=0), "limit of at least 1"),
        (lambda: standardize.fingerprint([Volume(np.ones((3, 3)))], inside="brain"), "one of auto, masks, foreground"),
        (lambda: standardize.fingerprint([Volume(np.ones((3, 3))), Volume(np.ones((3, 3, 3)))]), "images of one rank"),
        (lambda: standardize.fingerprint(table([Volume(np.full((3, 3), np.nan))])), "Case 'c0': .*clean.repair"),
        (lambda: standardize.recipe("auto"), r'recipe\("auto", cases\)'),
        (lambda: standardize.recipe("MR", [Volume(np.ones((3, 3)))]), "Received 'MR' with them"),
        (lambda: standardize.recipe("MR", first="time"), "'space' or 'intensity'"),
    ],
)
def test_errors_say_what_is_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_spacing_rule_of_nnu_net_by_hand():
    # Isotropic enough: the median along each axis.
    shapes, spacings = [(100, 100, 60)] * 3, [(1, 1, 2), (1, 1, 2.5), (0.8, 0.8, 3)]
    assert standardize.target_spacing(shapes, spacings)[0] == (1, 1, 2.5)
    # Five times as coarse, and less than a third of the voxels: the 10th percentile along that axis.
    shapes, spacings = [(256, 256, 20)] * 11, [(1, 1, 2 + 0.5 * n) for n in range(11)]
    spacing, why = standardize.target_spacing(shapes, spacings)
    assert spacing == (1, 1, 2.5)
    assert "10th percentile" in why
    # As coarse, but with as many voxels: not anisotropic in nnU-Net's sense.
    assert standardize.target_spacing([(60, 60, 60)] * 11, spacings)[0] == (1, 1, 4.5)
    # Never finer than the other axes.
    spacings = [(1, 1, 0.5)] * 3 + [(1, 1, 5)] * 8
    assert standardize.target_spacing(shapes, spacings)[0] == (1, 1, 1)


def test_the_spacing_rule_is_that_of_the_plan_of_a_segmentation():
    from medlab import train

    rng = np.random.default_rng(0)
    for coarse in (1.0, 2.0, 6.0):
        shapes = rng.integers(60, 90, (12, 3)) * [3, 3, 1]
        spacings = rng.uniform(0.8, 1.2, (12, 3)) * [1, 1, coarse]
        plan = train.plan_segmentation(shapes, spacings, 2)
        np.testing.assert_allclose(standardize.target_spacing(shapes, spacings)[0], plan.spacing, rtol=1e-4)


def test_a_ct_data_set_gets_one_scale_one_spacing_one_shape():
    rng = np.random.default_rng(0)
    volumes = []
    for n in range(5):
        one = volume((48 + 4 * n, 40, 30), (1, 1, 1.5 + 0.5 * (n > 2)))
        tissue = one.array > 0
        one.array[tissue] = rng.normal(50, 20, tissue.sum())
        volumes.append(one)
    recipe = standardize.recipe("auto", volumes)
    steps = recipe.plain_steps()
    assert list(steps) == ["orient", "crop_to_foreground", "fixed_zscore", "resample", "crop_or_pad"]
    assert steps["resample"] == {"spacing": (1, 1, 1.5)}
    scale = steps["fixed_zscore"]
    assert scale["mean"] == pytest.approx(50, abs=1)
    assert scale["deviation"] == pytest.approx(20, abs=1)
    assert scale["low"] == pytest.approx(50 - 2.576 * 20, abs=4), "0.5th percentile of a normal distribution"
    assert scale["high"] == pytest.approx(50 + 2.576 * 20, abs=4)
    # The widest body: 32 of 64 voxels, and 5 mm on each side; 16 slices of 2 mm with 3 on each side are 44 mm.
    assert steps["crop_or_pad"] == {"shape": (42, 30, 29)}
    for one in volumes:
        out = recipe(one)
        assert out.shape == (42, 30, 29)
        assert out.spacing == pytest.approx((1, 1, 1.5))
        assert out.array.min() == pytest.approx((scale["low"] - scale["mean"]) / scale["deviation"], abs=1e-4)
    assert dict(recipe.why).keys() >= steps.keys(), "each step has its reason"
    assert "crop_or_pad left out" not in repr(recipe)
    assert recipe.table["why"].str.len().min() > 10


def test_a_ct_data_set_that_names_its_window_gets_it():
    rng = np.random.default_rng(0)
    volumes = [volume((20, 20, 20), (1, 1, 1)) for _ in range(3)]
    for one in volumes:
        one.array[one.array > 0] = rng.normal(40, 20, 1000)
    cases = table(volumes, labels=list("aba"), modality="CT", window="brain")
    assert standardize.fingerprint(cases).window == "brain"
    recipe = standardize.recipe("auto", cases, crop_to_foreground=None)
    steps = recipe.plain_steps()
    assert steps["window"] == {"preset": "brain"}
    assert "fixed_zscore" not in steps
    assert "40 HU, 80 wide" in dict(recipe.why)["window"]
    np.testing.assert_array_equal(recipe(volumes[0]).array, standardize.recipe("CT-brain")(volumes[0]).array)
    again = standardize.Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert again == recipe
    for unknown in ("kidney", None, (40, 80)):
        cases = table(volumes, labels=list("aba"), modality="CT", window=unknown)
        assert "fixed_zscore" in standardize.recipe("auto", cases).plain_steps()


def test_the_proposal_is_json_with_its_reasons_and_repeats_itself():
    volumes = [volume((40, 30, 20), (1, 1, 3), codes="LPS"), volume((44, 36, 22), (1, 1, 2.5))]
    recipe = standardize.recipe("auto", volumes)
    again = standardize.Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert again == recipe
    assert again.first == "intensity"
    np.testing.assert_array_equal(again(volumes[0]).array, recipe(volumes[0]).array)
    changed = recipe.change(resample=2.0, crop_or_pad=None)
    assert [step for step, _ in changed.steps][-1] == "resample"
    assert "resample" not in dict(changed.why), "the reason was for another spacing"


@pytest.mark.parametrize(
    ("volumes", "steps"),
    [
        ([Volume(np.random.default_rng(n).gamma(2, 50, (20, 20, 20)), modality="MR") for n in range(2)],
         ["orient", "zscore", "clip"]),
        ([Volume(np.random.default_rng(n).integers(0, 255, (20, 30 + n), np.uint8), modality="DX",
                 info={"geometry": "assumed"}) for n in range(3)], ["zscore", "resize"]),
        ([Volume(np.random.default_rng(0).integers(0, 255, (20, 30), np.uint8), modality="US")],
         ["scale", "symmetric"]),
        ([Volume(np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8), modality="OP", rank=2)],
         ["scale", "symmetric"]),
        ([Volume(np.eye(20, dtype=np.uint8) * 255, modality="OT")], ["scale", "symmetric"]),
        ([Volume(np.random.default_rng(0).integers(0, 255, (20, 30), np.uint8), modality="CT")],
         ["scale", "symmetric"]),
        ([Volume(np.random.default_rng(0).normal(9, 2, (20, 30)))], ["zscore"]),
    ],
)  # fmt: skip
def test_other_modalities(volumes, steps):
    recipe = standardize.recipe("auto", volumes)
    assert [step for step, _ in recipe.steps] == steps
    shapes = {recipe(one).shape for one in volumes}
    assert len(shapes) == 1


def test_masks_that_reach_out_of_the_foreground_forbid_the_crop():
    one = volume((40, 40, 40), (1, 1, 1))
    mask = np.zeros((40, 40, 40), np.uint8)
    mask[20, 20, 20] = 1
    inside = one.replace(array=mask, kind="labels")
    mask = mask.copy()
    mask[1, 1, 1] = 1
    outside = one.replace(array=mask, kind="labels")
    assert "crop_to_foreground" in standardize.recipe("auto", [(one, inside)]).plain_steps()
    recipe = standardize.recipe("auto", [(one, outside), (one, inside)])
    assert "crop_to_foreground" not in recipe.plain_steps()
    assert "1 of 2 masks reach out" in dict(recipe.why)["crop_to_foreground"]


def test_few_large_images_do_not_make_all_others_padding():
    volumes = [volume((20, 20, 20), (1, 1, 1), "PT", 5)] * 4 + [volume((80, 80, 80), (1, 1, 1), "PT", 5)]
    recipe = standardize.recipe("auto", volumes)
    assert recipe.plain_steps()["crop_or_pad"]["shape"] == (20, 20, 20), "the box and 5 mm on each side"
    assert "1 of 5 are cut" in dict(recipe.why)["crop_or_pad"]


def test_numbers_of_an_image_do_not_follow_the_padding_when_normalized_first():
    rng = np.random.default_rng(0)
    image = Volume(rng.gamma(4, 30, (20, 21, 22)), geometry.scaling((1, 1.3, 2)), modality="MR")
    wide = {"orient": None, "clip": None, "zscore": True, "resample": 1.5}
    one = standardize.recipe("MR", first="intensity", crop_or_pad=40, **wide)
    other = standardize.recipe("MR", first="intensity", crop_or_pad=80, **wide)
    inner = (slice(20, 60),) * 3
    np.testing.assert_array_equal(one(image).array, other(image).array[inner])
    space = [standardize.recipe("MR", crop_or_pad=size, **wide)(image).array for size in (40, 80)]
    assert np.abs(space[0] - space[1][inner]).mean() > 0.3
    assert [step for step, _ in one.steps] == ["zscore", "resample", "crop_or_pad"]
    assert standardize.Recipe.from_dict(json.loads(json.dumps(one.to_dict()))) == one
    assert "first" not in standardize.recipe("MR", **wide).to_dict()


def test_tensors_by_a_measured_recipe_with_masks_cut_like_their_images():
    volumes = [volume((24 + 4 * n, 20, 16), (1, 1, 1), "MR", 100 + n) for n in range(3)]
    masks = [one.replace(array=(one.array > 0).astype(np.uint8), kind="labels") for one in volumes]
    cases = table(volumes, masks, list("aba"), modality="MR")
    recipe = batches.recipe_for(cases, "measured")
    assert recipe == standardize.recipe("auto", cases)
    assert recipe.looks_at_image
    x, y = batches.arrays(cases, recipe=recipe)
    truth = batches.masks(cases, recipe=recipe)
    assert x.shape[:-1] == truth.shape
    assert y.tolist() == [0, 1, 0]
    for n in range(3):
        assert truth[n].sum() == (masks[n].array > 0).sum()
        assert x[n, ..., 0][truth[n] > 0].min() > x[n, ..., 0][truth[n] == 0].max()
