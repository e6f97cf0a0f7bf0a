"""Patches: image and mask are cut at one place, small structures are seen, and a seed decides all of it."""

import numpy as np
import pandas as pd
import pytest

from medlab import batches
from medlab.cases import Cases
from medlab.volume import Volume


def ramp(shape, offset):
    """An image whose every voxel has a value of its own."""
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + offset


@pytest.fixture
def cases():
    """Three volumes of different shapes; the mask is 1 in one voxel, and 2 where the image's value is odd otherwise."""
    images, masks = [], []
    for number, shape in enumerate([(12, 10, 8), (9, 14, 7), (20, 5, 11)]):
        image = ramp(shape, 1 + 10_000 * number)
        mask = np.zeros(shape, np.uint8)
        mask[1, 2, 3] = 1
        images.append(Volume(image, np.eye(4)))
        masks.append(Volume(mask, np.eye(4), kind="labels"))
    table = pd.DataFrame({"id": list("abc"), "image": list("012"), "mask": list("012")})
    return Cases(table, [], open=lambda reference, kind: (images if kind == "image" else masks)[int(reference)])


def test_image_and_mask_are_cut_at_one_place(cases):
    patches = batches.Patches(cases, patch=(4, 5, 3), recipe=None, batch_size=3, foreground=1)
    values = {
        10_000 * n + 1 + np.ravel_multi_index((1, 2, 3), s)
        for n, s in enumerate([(12, 10, 8), (9, 14, 7), (20, 5, 11)])
    }
    x, mask = patches[0]
    assert x.shape == (3, 4, 5, 3, 1)
    assert mask.shape == (3, 4, 5, 3)
    assert set(x[mask == 1][:, 0].tolist()) == values


def test_every_patch_on_the_structure_holds_it_and_without_preference_few_do(cases):
    def share(foreground):
        patches = batches.Patches(cases, patch=(2, 2, 2), recipe=None, batch_size=3, per_case=40, foreground=foreground)
        return np.mean([(patches[n][1] == 1).any((1, 2, 3)).mean() for n in range(len(patches))])

    assert share(1) == 1
    assert share(0) < 0.1
    assert 0.35 < share(0.5) < 0.65


def test_seed_epoch_and_case_decide_alone(cases):
    def patches(**settings):
        return batches.Patches(cases, patch=(3, 3, 3), recipe=None, **{"batch_size": 1, "seed": 5, **settings})

    def by_case(one, epoch):
        one.start_epoch(epoch)
        cut = np.concatenate([one[n][0] for n in range(len(one))])
        return cut[np.argsort(cut[:, 0, 0, 0, 0])]

    np.testing.assert_array_equal(by_case(patches(), 3), by_case(patches(batch_size=3, cache_mb=0), 3))
    assert not np.array_equal(by_case(patches(), 3), by_case(patches(), 4))
    assert not np.array_equal(by_case(patches(), 3), by_case(patches(seed=6), 3))
    fixed = patches(fixed=True)
    np.testing.assert_array_equal(by_case(fixed, 3), by_case(fixed, 4))


def test_a_case_smaller_than_the_patch_lies_in_its_middle(cases):
    patches = batches.Patches(cases, patch=(20, 16, 12), recipe=None, batch_size=1, fixed=True)
    x, mask = patches[0]
    np.testing.assert_array_equal(x[0, 4:16, 3:13, 2:10, 0], ramp((12, 10, 8), 1))
    assert x[0, 0, 0, 0, 0] == 1
    assert mask.sum() == 1
    assert mask[0, 5, 5, 5] == 1


def test_all_batches_are_full(cases):
    patches = batches.Patches(cases, patch=(3, 3, 3), recipe=None, batch_size=4, per_case=2)
    assert [len(patches[n][0]) for n in range(len(patches))] == [4, 4]
    assert len(batches.Patches(cases, patch=(3, 3, 3), recipe=None, batch_size=50)[0][0]) == 3


def test_the_augmentation_sees_image_mask_and_keys(cases):
    def flip(x, mask, *, keys):
        assert keys.shape == (3, 3)
        assert (keys[:, 0] == 7).all()
        return x[:, ::-1], mask[:, ::-1]

    plain = batches.Patches(cases, patch=(4, 4, 4), recipe=None, batch_size=3, seed=7)
    flipped = batches.Patches(cases, patch=(4, 4, 4), recipe=None, batch_size=3, seed=7, augment=flip)
    np.testing.assert_array_equal(plain[0][0][:, ::-1], flipped[0][0])
    np.testing.assert_array_equal(plain[0][1][:, ::-1], flipped[0][1])


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"patch": (4, 4)}, "a patch of 3 whole numbers"),
        ({"patch": (4, 4, 0)}, "a patch of 3 whole numbers"),
        ({"patch": (4, 4, 4), "foreground": 2}, "share from 0 to 1"),
        ({"patch": (4, 4, 4), "batch_size": 0}, "batch_size to be a whole number of at least 1"),
    ],
)
def test_unusable_settings(cases, settings, text):
    with pytest.raises(ValueError, match=text):
        batches.Patches(cases, recipe=None, **settings)


def test_pairs_come_as_volumes_on_one_grid_with_their_spacing(cases):
    found = list(batches.pairs(cases, recipe={"name": "half", "steps": [{"step": "resample", "spacing": 2.0}]}))
    assert [name for name, _, _ in found] == list("abc")
    for (_, image, mask), shape in zip(found, [(6, 5, 4), (4, 7, 4), (10, 2, 6)], strict=True):
        assert image.spacing == mask.spacing == (2.0, 2.0, 2.0)
        assert image.shape == mask.shape == shape
        assert mask.kind == "labels"
