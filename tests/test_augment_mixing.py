"""Mixup and CutMix: convexity, labels in proportion, and a partner that depends on the keys alone."""

import numpy as np
import pytest
from scipy import stats

from medlab import augment

BOTH = [augment.mixup, augment.cutmix]


def batch(n=8, shape=(16, 18), seed=0):
    return np.random.default_rng(seed).random((n, *shape, 1)).astype(np.float32)


@pytest.mark.parametrize("shape", [(16, 18), (6, 7, 8)])
def test_mixup_is_on_the_line_between_two_cases_and_so_is_its_label(shape):
    x = batch(6, shape)
    out, y = augment.mixup(x, np.arange(6), classes=6, alpha=1.0, seed=1)
    np.testing.assert_allclose(y.sum(1), 1, atol=1e-6)
    # Labels that are all different name both parents and their shares: the image must be just that sum.
    np.testing.assert_allclose(out.reshape(6, -1), y @ x.reshape(6, -1), atol=1e-5)
    assert ((y > 0).sum(1) == 2).all()
    assert (np.diag(y) > 0).all()
    assert ((y > 0).sum(0) == 2).all()  # everyone gives to one and takes from another


@pytest.mark.parametrize("shape", [(16, 18), (6, 7, 8)])
def test_cutmix_labels_are_the_shares_of_the_voxels(shape):
    x = np.arange(6, dtype=np.float32).reshape(6, *(1,) * (len(shape) + 1)) + np.zeros((6, *shape, 1), np.float32)
    out, y = augment.cutmix(x, np.arange(6), classes=6, seed=2)
    counts = np.stack([(out == k).mean((*range(1, len(shape) + 2),)) for k in range(6)], 1)
    np.testing.assert_allclose(y, counts, atol=1e-6)
    for case in range(6):
        foreign = np.argwhere(out[case, ..., 0] != case)
        if len(foreign):  # one full box
            assert np.prod(foreign.max(0) - foreign.min(0) + 1) == len(foreign)
    assert ((y > 0).sum(1) == 2).sum() >= 4


def test_shares_follow_a_beta_distribution():
    x = np.zeros((3000, 1, 1, 1))
    x[:, 0, 0, 0] = np.arange(3000)
    for alpha in (0.4, 1.0, 3.0):
        share = np.diag(augment.mixup(x, np.arange(3000), classes=3000, alpha=alpha)[1])
        assert stats.kstest(share, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


@pytest.mark.parametrize("mix", BOTH)
def test_the_order_of_the_batch_does_not_matter_but_keys_and_seed_do(mix):
    x, y, keys = batch(), np.eye(8)[np.arange(8)], np.stack([np.arange(8), np.full(8, 3)], 1)
    out, soft = mix(x, y, keys=keys, seed=4)
    order = np.random.default_rng(0).permutation(8)
    again, soft_again = mix(x[order], y[order], keys=keys[order], seed=4)
    np.testing.assert_array_equal(again, out[order])
    np.testing.assert_array_equal(soft_again, soft[order])
    assert not np.array_equal(mix(x, y, keys=keys + 1, seed=4)[0], out)
    assert not np.array_equal(mix(x, y, keys=keys, seed=5)[0], out)


@pytest.mark.parametrize("mix", BOTH)
def test_labels_of_one_class_and_of_several_at_once(mix):
    x = batch()
    y = np.array([0, 1, 1, 0, 1, 0, 0, 1])
    out, soft = mix(x, y)
    table = mix(x, np.stack([y, 1 - y], 1))[1]
    assert soft.shape == (8,)
    assert soft.dtype == out.dtype == np.float32
    np.testing.assert_allclose(table[:, 0], soft)
    np.testing.assert_allclose(table[:, 1], 1 - soft, atol=1e-6)
    assert ((soft > 0) & (soft < 1)).any()


@pytest.mark.parametrize("mix", BOTH)
def test_arguments_stay_and_one_case_stays_itself(mix):
    x, y = batch(), np.arange(8) % 2
    before = x.copy()
    mix(x, y)
    np.testing.assert_array_equal(x, before)
    out, soft = mix(x[:1], y[:1])
    np.testing.assert_allclose(out, x[:1], atol=1e-6)
    np.testing.assert_allclose(soft, y[:1])
    empty, none = mix(x[:0], y[:0])
    assert empty.shape == (0, 16, 18, 1)
    assert none.shape == (0,)
    same = mix(np.full((4, 5, 5, 1), 7.0), y[:4])[0]
    np.testing.assert_allclose(same, 7, atol=1e-5)


@pytest.mark.parametrize("mix", BOTH)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y": np.arange(8)}, "give classes="),
        ({"y": np.arange(8), "classes": 5}, "from 0 to 4"),
        ({"y": np.zeros((8, 16, 18))}, "masks of voxels"),
        ({"y": np.zeros(7)}, r"for 8 images. Received shape \(7,\)"),
        ({"x": np.zeros((8, 16))}, r"\(n, i, j\[, k\], c\)"),
        ({"alpha": 0}, "alpha above 0"),
        ({"keys": np.zeros(8)}, r"8 integer keys, .* shape \(8,\) and dtype float64"),
        ({"keys": np.arange(-1, 7)}, "keys of 0 or above. Received -1"),
        ({"seed": -1}, "seed as a whole number of 0 or above. Received -1"),
        ({"seed": 0.5}, "seed as a whole number of 0 or above. Received 0.5"),
    ],
)
def test_errors_say_what_is_wrong(mix, changes, message):
    with pytest.raises(ValueError, match=message):
        mix(**{"x": batch(), "y": np.zeros(8)} | changes)
