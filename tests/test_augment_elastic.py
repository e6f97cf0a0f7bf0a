"""Elastic deformation, crop and bias field in a policy: closed forms, and images and masks that move together."""

import numpy as np
import pytest
from scipy.interpolate import BSpline

from medlab import augment
from medlab.augment import deformation, fields, spatial, threads

STILL = {
    "flip": (),
    "rotation": 0,
    "scale": 0,
    "translation": 0,
    "brightness": 0,
    "contrast": 0,
    "gamma": 0,
    "noise": 0,
}


def images(n=3, shape=(20, 22), seed=0):
    return np.random.default_rng(seed).random((n, *shape, 1)).astype(np.float32)


def identity(n, rank):
    return np.tile(np.eye(rank + 1), (n, 1, 1))


def test_weights_are_cubic_b_splines():
    ours = deformation.basis(31, 5)
    place = np.linspace(0, 5, 31)
    # Control point a lies at a - 1; SciPy's spline of four knot intervals begins two before it.
    for a in range(8):
        spline = BSpline.basis_element(np.arange(a - 3, a + 2), extrapolate=False)
        np.testing.assert_allclose(ours[:, a], np.nan_to_num(spline(place)), atol=1e-6)
    np.testing.assert_allclose(ours.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(deformation.basis(1, 4).sum(), 1)


@pytest.mark.parametrize("shape", [(20, 22), (9, 10, 11)])
def test_no_displacement_is_the_identity(shape):
    x = images(shape=shape)
    bend = np.zeros((3, len(shape), *(7,) * len(shape)))
    np.testing.assert_array_equal(spatial.warp(x, identity(3, len(shape)), bend=bend), x)
    mask = (x[..., 0] > 0.5).astype(np.int16)
    np.testing.assert_array_equal(spatial.warp_mask(mask, identity(3, len(shape)), bend=bend), mask)


@pytest.mark.parametrize("shape", [(20, 22), (9, 10, 11)])
def test_equal_displacements_are_a_shift(shape):
    x = images(shape=shape)
    rank = len(shape)
    bend = np.zeros((3, rank, *(5,) * rank))
    bend[:, 1] = 3.0  # every output voxel shows what lies 3 voxels further along the second axis
    out = spatial.warp(x, identity(3, rank), bend=bend)
    np.testing.assert_allclose(out[:, :, :-3], x[:, :, 3:], atol=1e-5)


@pytest.mark.parametrize("shape", [(31, 28), (15, 18, 13)])
def test_the_matrix_is_applied_to_place_and_displacement(shape):
    rank = len(shape)
    rng = np.random.default_rng(0)
    matrix = identity(1, rank)[0]
    matrix[:rank] += 0.2 * rng.standard_normal((rank, rank + 1))
    bend = rng.standard_normal((rank, *(6,) * rank))
    found = deformation.coordinates(matrix, bend, shape)
    weights = [deformation.basis(n, 3).astype(np.float64) for n in shape]
    letters = "abc"[:rank], "ijk"[:rank]
    moved = np.einsum(
        ",".join(i + a for a, i in zip(*letters, strict=True)) + f",z{letters[0]}->z{letters[1]}", *weights, bend
    )
    place = (np.indices(shape) + moved).reshape(rank, -1)
    truth = matrix[:rank, :rank] @ place + matrix[:rank, rank:]
    np.testing.assert_allclose(found.reshape(rank, -1), truth, atol=1e-4)
    part = deformation.coordinates(matrix, bend, shape, slice(4, 9))
    np.testing.assert_allclose(part, found[:, 4:9], atol=1e-5)


@pytest.mark.parametrize(("rank", "cells"), [(2, 4), (2, 7), (3, 4)])
def test_nothing_folds_below_the_limit(rank, cells):
    rng = np.random.default_rng(0)
    shape = (65,) * rank if rank == 2 else (33,) * rank
    for trial in range(20):
        draw = rng.uniform(-1, 1, (rank, *(cells + 3,) * rank))
        bend = (np.sign(draw) if trial % 2 else draw) * deformation.FOLD[rank] / cells * (shape[0] - 1)
        place = deformation.coordinates(np.eye(rank + 1), bend, shape).astype(np.float64)
        slopes = np.moveaxis(np.array([np.gradient(one) for one in place]), (0, 1), (-2, -1))
        assert np.linalg.det(slopes).min() > 0
    with pytest.raises(ValueError, match="where nothing folds"):
        augment.policy("none", rank=rank, seed=0, elastic=deformation.FOLD[rank] / cells, elastic_cells=cells)


@pytest.mark.parametrize("rank", [2, 3])
def test_a_bent_image_keeps_its_mask(rank):
    shape = (48, 50) if rank == 2 else (28, 30, 32)
    place = np.indices(shape) - np.reshape(np.array(shape) / 2 + 3, (rank, *(1,) * rank))
    ball = ((place**2).sum(0) < (shape[0] / 4) ** 2).astype(np.float32)
    x = np.repeat(ball[None, ..., None], 6, 0)
    policy = augment.policy("none", rank=rank, seed=0, elastic=0.09, rotation=20, scale=0.1, flip=(0,))
    out, mask = policy(x, x[..., 0].astype(np.uint8))
    assert ((out[..., 0] > 0.5) == (mask > 0)).mean() > 0.995
    only = augment.policy("none", rank=rank, seed=0, elastic=0.09)(x)[0]
    assert (np.abs(only - x).mean((*range(1, rank + 2),)) > 0.002).sum() >= 4


def test_elastic_is_the_same_in_any_batch_and_on_any_number_of_cores(monkeypatch):
    x = images(5, (64, 66, 64))
    mask = (x[..., 0] > 0.5).astype(np.uint8)
    policy = augment.policy(
        "MR", rank=3, seed=3, elastic=0.05, bias_field=0.3, space_probability=0.8, intensity_probability=0.8
    )
    keys = np.arange(5) + 10
    out, moved = policy(x, mask, keys=keys)
    order = [4, 1, 3]
    some, some_masks = policy(x[order], mask[order], keys=keys[order])
    np.testing.assert_array_equal(some, out[order])
    np.testing.assert_array_equal(some_masks, moved[order])
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 1)
    np.testing.assert_array_equal(policy(x, mask, keys=keys)[0], out)
    np.testing.assert_array_equal(policy(x[2:3], keys=keys[2:3])[0][0], out[2])


def test_volumes_turned_by_either_library_are_the_same(monkeypatch):
    x = images(2, (64, 66, 60)) * 100
    policy = augment.policy("MR", rank=3, seed=0, shear=0.1)
    keys = np.arange(2)
    fast = policy(x, keys=keys)[0]
    monkeypatch.setattr(spatial, "ENOUGH", x.size)
    np.testing.assert_allclose(policy(x, keys=keys)[0], fast, atol=1e-3)


@pytest.mark.parametrize("shape", [(20, 22), (9, 10, 11)])
def test_a_crop_is_a_part_of_the_image(shape):
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(1, *shape, 1)
    size = tuple(n // 2 for n in shape)
    policy = augment.policy("none", rank=len(shape), seed=0, crop=size)
    starts = set()
    for key in range(60):
        out, mask = policy(x, x[..., 0], keys=[key])
        start = np.unravel_index(int(out.min()), shape)
        part = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
        np.testing.assert_array_equal(out[0], x[(0, *part)])
        np.testing.assert_array_equal(mask[0], out[0, ..., 0])
        starts.add(start)
    for axis, (n, m) in enumerate(zip(shape, size, strict=True)):
        assert {start[axis] for start in starts} == set(range(n - m + 1))


def test_a_crop_larger_than_the_image_is_filled_up():
    x = images(shape=(8, 30)) + 1
    out, mask = augment.policy("none", rank=2, seed=0, crop=16, fill="minimum")(x, np.ones(x.shape[:-1], np.uint8))
    assert out.shape == (3, 16, 16, 1)
    assert mask.sum() == 3 * 8 * 16
    assert (mask.any(2).sum(1) == 8).all()


def test_a_crop_is_turned_with_the_image():
    x = images(4, (40, 42))
    base = {**STILL, "rotation": 30, "scale": 0.1}
    whole = augment.policy("none", rank=2, seed=5, **base)(x, keys=np.arange(4))[0]
    part = augment.policy("none", rank=2, seed=5, crop=(12, 13), **base)(x, keys=np.arange(4))[0]
    for large, small in zip(whole[..., 0], part[..., 0], strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(large, (12, 13))
        assert np.abs(windows - small).max((2, 3)).min() < 1e-5


def test_the_field_has_its_deviation_and_degree():
    draw = np.random.default_rng(0).standard_normal
    for shape in ((40, 42), (15, 16, 17)):
        field = fields.smooth_field(shape, draw, 0.3)
        assert field.mean() == pytest.approx(0, abs=1e-5)
        assert field.std() == pytest.approx(0.3, rel=1e-4)
        for axis in range(len(shape)):
            assert np.abs(np.diff(field, 4, axis=axis)).max() < 1e-5  # a cubic's fourth differences are 0
            assert np.abs(np.diff(field, 3, axis=axis)).max() > 1e-5
    assert fields.smooth_field((1, 1), draw, 0.3) is None


def test_a_policys_bias_field_multiplies_what_lies_above_the_smallest_value():
    x = images(40) + 2
    out, _ = augment.policy("none", rank=2, seed=0, bias_field=0.5)(x)
    low = x.min((1, 2, 3), keepdims=True)
    inside = x > low
    log = np.log(np.where(inside, out - low, 1) / np.where(inside, x - low, 1))
    spread = log.std((1, 2, 3))
    assert spread.max() == pytest.approx(0.5, rel=0.1)
    assert spread.min() < 0.1
    np.testing.assert_allclose(np.where(inside, low, out), np.broadcast_to(low, x.shape), atol=1e-5)


def test_new_amounts_leave_the_old_draws_as_they_were():
    x = images(6, (30, 31))
    keys = np.arange(6)
    old = augment.policy("DX", rank=2, seed=2)(x, keys=keys)[0]
    tiny = augment.policy("DX", rank=2, seed=2, elastic=1e-9, bias_field=1e-9)(x, keys=keys)[0]
    np.testing.assert_allclose(tiny, old, atol=1e-4)


def test_groups_are_left_out_as_often_as_asked_for():
    x = images(400, (8, 8))
    moved, _ = augment.policy("none", rank=2, seed=0, rotation=90, elastic=0.1, space_probability=0.3)(x)
    same = (moved == x).all((1, 2, 3))
    assert same.mean() == pytest.approx(0.7, abs=0.07)
    noisy, _ = augment.policy("none", rank=2, seed=0, noise=1, bias_field=0.5, intensity_probability=0.6)(x)
    assert (noisy == x).all((1, 2, 3)).mean() == pytest.approx(0.4, abs=0.07)


def test_a_shape_keeps_its_values():
    table = augment.policies().set_index("name")
    assert table.loc["shape", "used_for"] == "SEG"
    policy = augment.policy("SEG", rank=3, seed=0)
    assert policy.elastic == policy.brightness == policy.contrast == policy.gamma == policy.noise == 0
    assert policy.flip == ()
    x = np.zeros((4, 28, 28, 28, 1), np.float32)
    x[:, 10:20, 8:20, 9:16] = 1
    out, _ = policy(x)
    assert not np.array_equal(out, x)
    assert (out.min(), out.max()) == (0, 1)
    # Moved by at most 2.8 voxels, it stays within the image: as much of it as before, but for rounding.
    np.testing.assert_allclose(out.sum((1, 2, 3, 4)), 10 * 12 * 7, rtol=1e-5)
    for name in ("radiograph", "CT", "MR", "mammography", "US", "microscopy", "picture", "gentle", "none"):
        older = augment.policy(name, rank=2, seed=0)
        assert older.elastic == older.bias_field == 0
        assert older.crop is None
        assert older.space_probability == older.intensity_probability == 1


def test_limbs_are_mirrored_and_hearts_are_not():
    assert augment.policy("knee", rank=2, seed=0).flip == (1,)
    assert augment.policy("heart", rank=3, seed=0).flip == ()
    assert augment.policy("eye", rank=2, seed=0).flip == (1,)
    assert augment.policy("chest", rank=2, seed=0).flip == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"elastic": -0.1}, "elastic of 0 or above"),
        ({"elastic": 0.01, "elastic_cells": 0}, "at least 1 cell"),
        ({"elastic": 0.01, "elastic_cells": 2.5}, "whole number"),
        ({"elastic": 0.2}, "below 0.48 / elastic_cells"),
        ({"crop": (4,)}, "2 numbers of voxels"),
        ({"crop": 0}, "1 or above"),
        ({"bias_field": np.inf}, "bias_field of 0 or above"),
        ({"space_probability": 1.5}, "space_probability between 0 and 1"),
        ({"intensity_probability": -0.5}, "intensity_probability between 0 and 1"),
    ],
)
def test_errors_say_what_is_wrong(changes, message):
    with pytest.raises(ValueError, match=message):
        augment.policy("none", rank=2, seed=0, **changes)
