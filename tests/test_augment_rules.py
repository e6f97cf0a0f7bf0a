"""Policies: anatomy keeps its sides, a case's fate depends on its key alone, arguments stay as they were."""

import numpy as np
import pytest

from medlab import augment


def batch(n=6, shape=(20, 22), channels=2, seed=0):
    return np.random.default_rng(seed).random((n, *shape, channels)).astype(np.float32)


@pytest.mark.parametrize("rank", [2, 3])
def test_a_case_does_not_depend_on_its_batch(rank):
    shape = (20, 22) if rank == 2 else (10, 11, 12)
    x = batch(shape=shape)
    mask = (x[..., 0] > 0.5).astype(np.int32)
    policy = augment.policy("MR", rank=rank, seed=3)
    keys = np.stack([np.arange(6), np.full(6, 2)], 1)
    out, moved = policy(x, mask, keys=keys)
    order = [4, 1, 5]
    some, some_masks = policy(x[order], mask[order], keys=keys[order])
    np.testing.assert_array_equal(some, out[order])
    np.testing.assert_array_equal(some_masks, moved[order])
    alone, nothing = policy(x[2:3], keys=keys[2:3])
    np.testing.assert_array_equal(alone[0], out[2])
    assert nothing is None
    assert not np.array_equal(policy(x, keys=keys + 1)[0], out)
    assert not np.array_equal(augment.policy("MR", rank=rank, seed=4)(x, keys=keys)[0], out)


def test_without_keys_each_call_is_another_and_a_new_policy_starts_over():
    x = batch()
    policy = augment.policy("US", rank=2, seed=0)
    first, second = policy(x)[0], policy(x)[0]
    assert not np.array_equal(first, second)
    again = augment.policy("US", rank=2, seed=0)
    np.testing.assert_array_equal(again(x)[0], first)
    np.testing.assert_array_equal(again(x)[0], second)


def test_the_heart_stays_left_and_a_breast_may_change_sides():
    x = np.zeros((200, 16, 16, 1), np.float32)
    x[:, :, 8:] = 1.0  # bright on the right of the picture
    still = {"rotation": 0, "translation": 0}
    for name, share in (("DX", 0), ("CT", 0), ("gentle", 0), ("MG", 0.5), ("MR", 0.5), ("US", 0.5), ("OP", 0.5)):
        out, _ = augment.policy(name, rank=2, seed=0, **still)(x)
        mirrored = (out[:, :, :8].mean((1, 2, 3)) > out[:, :, 8:].mean((1, 2, 3))).mean()
        assert mirrored == pytest.approx(share, abs=0.1), name
    x = x.transpose(0, 2, 1, 3)  # bright below: an ultrasound's depth is never turned over
    out, _ = augment.policy("US", rank=2, seed=0, **still)(x)
    assert (out[:, 8:].mean((1, 2, 3)) > out[:, :8].mean((1, 2, 3))).all()


def test_radiographs_vary_more_than_other_images():
    chest, other = augment.policy("DX", rank=2, seed=0), augment.policy("CT", rank=2, seed=0)
    for name in ("rotation", "scale", "translation", "brightness", "contrast", "gamma", "noise"):
        assert getattr(chest, name) > getattr(other, name) > 0, name
    assert augment.policy("chest", rank=2, seed=0, contrast=0.1).contrast == 0.1


def test_every_kind_states_its_reason():
    table = augment.policies().set_index("name")
    assert table["reason"].str.len().min() > 10
    assert table.loc["radiograph", "flip_2d"] == ()
    assert table.loc["MR", "flip_3d"] == (0,)
    assert augment.policy("chest", rank=2, seed=0).flip == ()
    assert augment.policy("DX", rank=2, seed=0, flip=1).flip == (1,)
    assert augment.policy("MR", rank=2, seed=0, flip=()).flip == ()


def test_whole_numbers_of_any_kind_are_seeds_keys_and_axes():
    x = batch(3)
    plain = augment.policy("MR", rank=2, seed=5, flip=(0,), crop=12)(x, keys=np.arange(3))[0]
    policy = augment.policy("MR", rank=2, seed=np.uint8(5), flip=np.int64(0), crop=np.array([12, 12]))
    for keys in ([0, 1, 2], np.arange(3, dtype=np.uint8), np.arange(3)[:, None]):
        np.testing.assert_array_equal(policy(x, keys=keys)[0], plain)


def test_nothing_changes_with_the_policy_none():
    x = batch()
    out, mask = augment.policy("none", rank=2, seed=0)(x, x[..., 0])
    np.testing.assert_array_equal(out, x)
    np.testing.assert_array_equal(mask, x[..., 0])
    assert not np.shares_memory(out, x)


def test_the_argument_stays_as_it_was():
    x = batch()
    mask = (x[..., 0] > 0.5).astype(np.uint8)
    before, mask_before = x.copy(), mask.copy()
    augment.policy("OP", rank=2, seed=0)(x, mask)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(mask, mask_before)


def test_the_mask_moves_with_the_image():
    axes = np.indices((32, 34))
    ball = (((axes - np.array([18, 12])[:, None, None]) ** 2).sum(0) < 60).astype(np.float32)
    x = np.repeat(ball[None, ..., None], 30, 0)
    policy = augment.policy("OP", rank=2, seed=0, noise=0, gamma=0, contrast=0, brightness=0)
    out, mask = policy(x, x[..., 0].astype(np.int16))
    assert ((out[..., 0] > 0.5) == (mask > 0)).mean() > 0.995
    assert (mask != x[..., 0]).any()


def test_intensities_by_their_closed_form():
    x = batch(n=200)
    only = {"flip": (), "rotation": 0, "scale": 0, "translation": 0}
    off = {"brightness": 0, "contrast": 0, "gamma": 0, "noise": 0}
    mean, std = x.mean((1, 2, 3)), x.std((1, 2, 3))
    out, _ = augment.policy("DX", rank=2, seed=0, **only, **(off | {"brightness": 0.5}))(x)
    shift = (out - x).mean((1, 2, 3)) / std
    np.testing.assert_allclose(out - x, (shift * std)[:, None, None, None] * np.ones_like(x), atol=1e-5)
    assert np.abs(shift).max() == pytest.approx(0.5, abs=0.02)
    out, _ = augment.policy("DX", rank=2, seed=0, **only, **(off | {"contrast": 1.0}))(x)
    np.testing.assert_allclose(out.mean((1, 2, 3)), mean, atol=1e-5)
    factor = out.std((1, 2, 3)) / std
    assert 0.5 <= factor.min() < 0.52
    assert 1.95 < factor.max() <= 2
    out, _ = augment.policy("DX", rank=2, seed=0, **only, **(off | {"gamma": 0.5}))(x)
    np.testing.assert_allclose(out.min((1, 2, 3)), x.min((1, 2, 3)), atol=1e-6)
    np.testing.assert_allclose(out.max((1, 2, 3)), x.max((1, 2, 3)), atol=1e-6)
    assert (np.argsort(out[0].ravel()) == np.argsort(x[0].ravel())).mean() > 0.99
    out, _ = augment.policy("DX", rank=2, seed=0, **only, **(off | {"noise": 0.4}))(x)
    level = (out - x).std((1, 2, 3)) / std
    assert level.max() == pytest.approx(0.4, abs=0.02)
    assert level.min() < 0.02


def test_scale_of_the_image_does_not_matter():
    x = batch(n=8)
    policy = augment.policy("MR", rank=2, seed=0)
    keys = np.arange(8)
    np.testing.assert_allclose(policy(100 * x, keys=keys)[0], 100 * policy(x, keys=keys)[0], rtol=1e-3, atol=1e-2)


def test_constant_images_and_empty_batches():
    x = np.full((3, 8, 8, 1), 4.0, np.float32)
    out, _ = augment.policy("MR", rank=2, seed=0)(x)
    np.testing.assert_allclose(out, 4.0, atol=1e-5)
    out, mask = augment.policy("MR", rank=2, seed=0)(x[:0], x[:0, ..., 0])
    assert out.shape == (0, 8, 8, 1)
    assert mask.shape == (0, 8, 8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: augment.policy("brian", rank=2, seed=0), "No policy 'brian'. There are radiograph"),
        (lambda: augment.policy("MR", rank=2, seed=0, rotate=5), r"No attribute \['rotate'\]"),
        (lambda: augment.policy("MR", rank=4, seed=0), "rank 2 or 3"),
        (lambda: augment.policy("MR", rank=2, seed=0, flip=(2,)), "between 0 and 1"),
        (lambda: augment.policy("MR", rank=2, seed=0, noise=-1), "noise of 0 or above"),
        (lambda: augment.policy("MR", rank=2, seed=0, fill="black"), "fill"),
        (lambda: augment.policy("MR", rank=3, seed=0, spacing=(1, 1)), "3 spacings"),
        (lambda: augment.policy("MR", rank=3, seed=0)(np.zeros((2, 8, 8, 1))), r"\(n, i, j, k, c\)"),
        (lambda: augment.policy("MR", rank=2, seed=0)(np.zeros((2, 8, 8, 1)), np.zeros((2, 8, 7))), "Expected masks"),
        (lambda: augment.policy("MR", rank=2, seed=0)(np.zeros((2, 8, 8, 1)), keys=np.zeros(3, int)), "2 integer keys"),
        (
            lambda: augment.policy("MR", rank=2, seed=0)(batch(2), keys=np.array([0.0, 1.0])),
            r"shape \(2,\) and dtype fl",
        ),
        (lambda: augment.policy("MR", rank=2, seed=0)(batch(2), keys=np.array([3, -4])), "keys of 0 or above. .* -4"),
        (lambda: augment.policy("MR", rank=2, seed=-1), "seed as a whole number of 0 or above. Received -1"),
        (lambda: augment.policy("MR", rank=2, seed=1.5), "seed as a whole number of 0 or above. Received 1.5"),
        (lambda: augment.policy("MR", rank=2, seed=None), "seed as a whole number of 0 or above. Received None"),
        (lambda: augment.Policy("own", 2, -1), "seed as a whole number of 0 or above. Received -1"),
        (
            lambda: augment.policy("MR", rank=2, seed=0, elastic=None),
            "elastic of 0 or above, 0 for none. Received None",
        ),
        (lambda: augment.policy("MR", rank=2, seed=0, rotation="10"), "rotation of 0 or above, 0 for none. .* '10'"),
        (lambda: augment.policy("MR", rank=2, seed=0, elastic_cells=None), "elastic_cells as a whole number. .* None"),
        (lambda: augment.policy("MR", rank=2, seed=0, space_probability=None), "space_probability between 0 and 1"),
        (lambda: augment.policy("MR", rank=2, seed=0, flip="lr"), r"flip as axes between 0 and 1, .* Received 'lr'"),
        (lambda: augment.policy("MR", rank=3, seed=0, flip=True), r"flip as axes between 0 and 2, .* Received True"),
        (lambda: augment.policy("MR", rank=2, seed=0, flip=(0.5,)), r"flip as axes between 0 and 1, .* \(0.5,\)"),
        (lambda: augment.policy("MR", rank=3, seed=0, crop="big"), "crop as 3 numbers of voxels, or one for all axes"),
        (lambda: augment.policy("MR", rank=3, seed=0, spacing=2.0), "spacing as 3 spacings in mm. Received 2.0"),
    ],
)
def test_errors_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
