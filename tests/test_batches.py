"""Batches: tensors hold what the cases hold, standardized one by one; errors name the case."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from medlab import augment, batches, geometry, load, standardize
from medlab.cases import Cases
from medlab.volume import Volume


def cases_of(images, masks=None, *, labels=None, splits=None, info=None, multi_label=False, classes=("a", "b")):
    """Cases whose Volumes lie in memory."""
    n = len(images)
    table = pd.DataFrame({"id": [f"c{i}" for i in range(n)], "image": [str(i) for i in range(n)]})
    table["label"] = list("ab" * n)[:n] if labels is None else labels
    if splits is not None:
        table["split"] = splits
    if masks is not None:
        table["mask"] = [None if mask is None else str(i) for i, mask in enumerate(masks)]

    def read(reference, kind="image"):
        return (images if kind == "image" else masks)[int(reference)]

    return Cases(table, list(classes), open=read, info=info or {}, multi_label=multi_label)


def pictures(n=10, shape=(8, 9), modality="DX"):
    rng = np.random.default_rng(0)
    return [Volume(rng.integers(0, 255, shape, np.uint8), modality=modality) for _ in range(n)]


def test_arrays_are_the_standardized_images_and_labels_in_table_order():
    images = pictures()
    cases = cases_of(images, splits=["train"] * 6 + ["test"] * 4)
    x, y = batches.arrays(cases, "test")
    assert x.shape == (4, 8, 9, 1)
    assert x.dtype == np.float32
    for n in range(4):
        np.testing.assert_array_equal(x[n, ..., 0], standardize.recipe("DX")(images[6 + n]).array)
    assert y.tolist() == [0, 1, 0, 1]
    whole, _ = batches.arrays(cases)
    np.testing.assert_array_equal(whole[6:], x)


def test_an_image_does_not_change_the_others():
    images = pictures(3)
    dark = batches.arrays(cases_of([images[0], images[1]]))[0]
    bright = batches.arrays(cases_of([images[0], Volume(images[1].array.astype(np.float32) * 1e5, modality="DX")]))[0]
    np.testing.assert_array_equal(dark[0], bright[0])


def test_raw_values_colors_and_volumes():
    colors = Volume(np.random.default_rng(0).random((5, 6, 3)), rank=2)
    x, _ = batches.arrays(cases_of([colors, colors]), recipe="none")
    np.testing.assert_array_equal(x[1], colors.array.astype(np.float32))
    volume = Volume(np.random.default_rng(0).random((5, 6, 7)), modality="MR")
    assert batches.arrays(cases_of([volume, volume]))[0].shape == (2, 5, 6, 7, 1)


def test_the_recipe_follows_the_modality():
    assert batches.recipe_for(cases_of(pictures(modality="US"))).name == "US"
    assert batches.recipe_for(cases_of(pictures(modality="US"), info={"modality": "MR"})).name == "MR"
    assert batches.recipe_for(cases_of(pictures(modality=None))).name == "percentile"
    assert batches.recipe_for(cases_of(pictures(modality="ZZ"))).name == "percentile"


@pytest.mark.parametrize(
    ("name", "options", "modality", "recipe"),
    [
        ("phantom:stroke", {}, "CT", "CT-brain"),
        ("phantom:lung-nodule", {"rank": 3, "size": 32}, "CT", "CT-lung"),
        ("phantom:lung-nodule", {"technique": "radiograph"}, "DX", "DX"),
        ("phantom:fracture", {"technique": "ct"}, "CT", "CT-bone"),
        ("phantom:stenosis", {}, "CT", "CT-angiography"),
        ("phantom:stenosis", {"technique": "mr"}, "MR", "MR"),
        ("phantom:cardiomegaly", {}, "DX", "DX"),
        ("phantom:hippocampus", {"sequence": "random"}, "MR", "MR"),
    ],
)
def test_a_phantom_is_standardized_as_what_it_was_taken_with(name, options, modality, recipe):
    cases = load.dataset(name, n=2, **options)
    assert cases.info["modality"] == cases.volume(cases.ids[0]).modality == modality
    assert batches.recipe_for(cases).name == recipe
    if modality == "CT":
        assert standardize.PRESETS[recipe.removeprefix("CT-")] == cases.volume(cases.ids[0]).info["window"]
    assert batches.recipe_for(cases_of(pictures(modality="CT"))).name == "scale", "8 bits are no HU"
    hu = Volume(np.zeros((3, 4), np.int16), modality="CT")
    assert batches.recipe_for(cases_of([hu])).name == "CT"
    own = standardize.recipe("CT", window="lung")
    cases = cases_of(pictures())
    assert batches.recipe_for(cases, own) is own
    assert batches.recipe_for(cases, own.to_dict()) == own
    assert batches.recipe_for(cases, "CT-lung").name == "CT-lung"
    assert batches.recipe_for(cases, None).name == "none"


def test_size_brings_images_of_all_shapes_together():
    images = [*pictures(2), *pictures(2, shape=(20, 31))]
    with pytest.raises(ValueError, match=r"Case 'c0' has \(8, 9, 1\), case 'c2' has \(20, 31, 1\); pass size"):
        batches.arrays(cases_of(images))
    x, _ = batches.arrays(cases_of(images), size=16)
    assert x.shape == (4, 16, 16, 1)
    assert batches.images(cases_of(images), size=(12, 10)).shape == (4, 12, 10, 1)


def test_masks_take_the_same_steps():
    shape = (6, 8, 10)
    rng = np.random.default_rng(0)
    affine = geometry.from_parts((1, 2, 1), direction=np.diag([-1, -1, 1]))
    images = [Volume(rng.random(shape), affine, modality="MR") for _ in range(3)]
    masks = [Volume((image.array > 0.8).astype(np.uint8) * 2, affine, "labels") for image in images]
    cases = cases_of(images, masks)
    y = batches.masks(cases)
    assert y.dtype == np.int32
    np.testing.assert_array_equal(y[1], masks[1].array[::-1, ::-1])
    small = batches.masks(cases, size=(3, 4, 5))
    assert small.shape == (3, 3, 4, 5)
    assert batches.arrays(cases, size=(3, 4, 5))[0].shape == (3, 3, 4, 5, 1)
    assert set(np.unique(small)) <= {0, 2}
    with pytest.raises(ValueError, match=r"1 case\(s\) have no mask: c2"):
        batches.masks(cases_of(images, [*masks[:2], None]))
    with pytest.raises(ValueError, match="no column mask"):
        batches.masks(cases_of(images))


def test_multi_label_sets():
    cases = cases_of(pictures(3), labels=["a|b", "none", "b"], multi_label=True)
    assert batches.arrays(cases)[1].tolist() == [[1, 1], [0, 0], [0, 1]]


def test_errors_name_the_case():
    array = np.ones((4, 5))
    array[0, 0] = np.nan
    with pytest.raises(ValueError, match=r"Case 'c1': .*NaN.*medlab\.clean\.repair"):
        batches.arrays(cases_of([Volume(np.ones((4, 5))), Volume(array)], labels=["a", "b"]))
    with pytest.raises(ValueError, match=r"1 case\(s\) have no label: c2"):
        batches.arrays(cases_of(pictures(3), labels=["a", "b", None]))
    with pytest.raises(ValueError, match=r"clean\.split"):
        batches.arrays(cases_of(pictures(3)), "train")
    with pytest.raises(ValueError, match="No recipe 'DXX'"):
        batches.arrays(cases_of(pictures(3)), recipe="DXX")
    with pytest.raises(ValueError, match=r"medlab\.load\.dataset"):
        batches.arrays(Cases(pd.DataFrame({"id": ["x"], "image": ["y"], "label": ["a"]}), ["a"]), recipe="none")


def test_importing_costs_no_framework():
    script = (
        "import sys, medlab.batches, medlab.clean, medlab.standardize, medlab.augment as a; a.policy; a.artifacts;"
        "print([m for m in ('keras', 'tensorflow', 'pandas', 'scipy', 'SimpleITK', 'tqdm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Batches


def test_batches_give_every_case_once_an_epoch_in_an_order_of_the_seed():
    cases = cases_of(pictures(10), splits=["train"] * 7 + ["test"] * 3)
    x, y = batches.arrays(cases, "train")
    feed = batches.Batches(cases, "train", batch_size=3, seed=1)
    assert len(feed) == 3
    orders = []
    for _ in range(2):
        parts = [feed[n] for n in range(3)]
        images, labels = np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
        order = [int(np.flatnonzero((x == image).all((1, 2, 3)))[0]) for image in images]
        assert sorted(order) == list(range(7))
        np.testing.assert_array_equal(labels, y[order])
        orders.append(order)
        feed.on_epoch_end()
    assert orders[0] != orders[1]
    again = batches.Batches(cases, "train", batch_size=3, seed=1)
    np.testing.assert_array_equal(again[0][1], y[orders[0][:3]])
    still = batches.Batches(cases, "test", batch_size=8, shuffle=False)
    np.testing.assert_array_equal(still[0][0], batches.arrays(cases, "test")[0])
    with pytest.raises(IndexError, match="below 1"):
        still[1]


def test_augmentation_depends_on_case_and_epoch_and_not_on_the_batch():
    cases = cases_of(pictures(6))
    policy = augment.policy("DX", rank=2, seed=4)
    one = batches.Batches(cases, augment=policy, batch_size=6, shuffle=False)
    two = batches.Batches(cases, augment=policy, batch_size=2, shuffle=False, cache_mb=0)
    np.testing.assert_array_equal(one[0][0], np.concatenate([two[n][0] for n in range(3)]))
    first = one[0][0]
    np.testing.assert_array_equal(one[0][0], first)
    one.on_epoch_end()
    assert not np.array_equal(one[0][0], first)


def test_masks_as_targets_move_with_their_images():
    rng = np.random.default_rng(0)
    images = [Volume(rng.random((9, 8)), modality="MR") for _ in range(4)]
    masks = [Volume((image.array > 0.5).astype(np.uint8), kind="labels") for image in images]
    policy = augment.policy("MR", rank=2, seed=0, rotation=0, scale=0, translation=0)
    feed = batches.Batches(cases_of(images, masks), recipe="none", augment=policy, batch_size=4, masks=True)
    x, y = feed[0]
    assert y.shape == (4, 9, 8)
    for image, mask in zip(x[..., 0], y, strict=True):
        assert image[mask == 1].min() > image[mask == 0].max() - 0.15
    with pytest.raises(ValueError, match="no column mask"):
        batches.Batches(cases_of(images), masks=True)


def test_a_keras_model_learns_from_batches():
    import keras

    bright = [Volume(np.full((4, 4), 200 if n % 2 else 20, np.uint8), modality="US") for n in range(40)]
    feed = batches.Batches(cases_of(bright), batch_size=8)
    assert isinstance(feed, keras.utils.PyDataset)
    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(1)])
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.1), loss, run_eagerly=False)
    history = model.fit(feed, epochs=3, verbose=0).history["loss"]
    assert history[-1] < 0.1


def test_batches_say_what_is_wrong():
    with pytest.raises(ValueError, match=r"at least 1\. Received 0"):
        batches.Batches(cases_of(pictures(2)), batch_size=0)
    feed = batches.Batches(cases_of([*pictures(1), *pictures(1, (5, 5))]), batch_size=2, shuffle=False)
    with pytest.raises(ValueError, match=r"Case 'c1' has \(5, 5, 1\), others \(8, 9, 1\)"):
        feed[0]
    with pytest.raises(AttributeError, match="no 'Batch'"):
        batches.Batch


@pytest.mark.data
def test_pneumoniamnist_whole(data_folder):
    with np.load(data_folder / "medmnist" / "pneumoniamnist.npz", allow_pickle=False) as file:
        images, labels = file["val_images"], file["val_labels"]
    cases = cases_of([Volume(image, modality="DX") for image in images], labels=["ab"[int(one[0])] for one in labels])
    x, y = batches.arrays(cases)
    assert x.shape == (524, 28, 28, 1)
    assert y.sum() == labels.sum() == 389
    assert x.min() == -1
    assert x.max() == 1
