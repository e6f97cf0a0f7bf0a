"""Occlusion and RISE: closed forms of linear models, one place that decides, and memory that stays small."""

import tracemalloc

import keras
import numpy as np
import pytest

from medlab import explain
from medlab.explain.maps import perturb

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

L = keras.layers


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def linear(shape, *, scale=1.0, activation=None):
    """One logit, linear in the image, and its weights."""
    model = keras.Sequential([keras.Input(shape), L.Flatten(), L.Dense(1, activation)])
    w = scale * images(*shape, seed=1)
    model.layers[-1].set_weights([w.reshape(-1, 1), np.array([0.3])])
    return model, w


def window(shape, place):
    """A model that answers with the mean of one place."""
    x = keras.Input(shape)
    axes = tuple(range(1, len(shape) + 1))
    return keras.Model(x, keras.ops.mean(x[(slice(None), *place)], axis=axes)[:, None])


@pytest.mark.parametrize("shape", [(6, 5, 2), (3, 4, 5, 1)])
@pytest.mark.parametrize("baseline", [0.0, 1.5, "mean"])
def test_occlusion_of_a_linear_model_is_its_weights_times_what_was_covered(shape, baseline):
    model, w = linear(shape)
    x = images(3, *shape)
    cover = x.mean(axis=tuple(range(1, x.ndim - 1)), keepdims=True) if baseline == "mean" else baseline
    heat = explain.occlusion(model, x, target=1, patch=1, baseline=baseline, sign="both")
    np.testing.assert_allclose(heat, (w * (x - cover)).sum(-1), rtol=1e-4, atol=1e-4)


def test_overlapping_patches_in_3d_are_averaged():
    model, w = linear((4, 3, 5, 1))
    x = images(2, 4, 3, 5, 1)
    effect = (w * x)[..., 0]
    falls, times = np.zeros(effect.shape), np.zeros(effect.shape)
    for i in (0, 2):
        for j in (0, 1):
            for k in (0, 2, 3):  # the last patch ends at the edge
                place = (slice(None), slice(i, i + 2), slice(j, j + 2), slice(k, k + 2))
                falls[place] += effect[place].sum((1, 2, 3), keepdims=True)
                times[place] += 1
    heat = explain.occlusion(model, x, target=1, patch=2, stride=(2, 1, 2), sign="both")
    np.testing.assert_allclose(heat, falls / times, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("shape", "share"), [((4, 3, 1), 0.5), ((4, 3, 1), 0.2), ((2, 3, 2, 1), 0.5)])
def test_rise_of_a_linear_model_with_one_cell_a_voxel(shape, share):
    # Masks are independent from voxel to voxel, so E[f | visible] - E[f] = w (x - cover) (1 - share).
    model, w = linear(shape)
    x, n = images(2, *shape), 4000
    heat = explain.rise(
        model, x, target=1, n=n, cells=max(shape), share=share, baseline=0.5, probability=False, sign="both"
    )
    effect = (w * (x - 0.5))[..., 0]
    axes = tuple(range(1, effect.ndim))
    # Standard error of a mean over the n * share masks in which a voxel is visible.
    error = np.sqrt((effect**2).sum(axes, keepdims=True) * share * (1 - share) / (n * share))
    assert np.abs(heat - effect * (1 - share)).max() < 4.5 * error.max()
    assert np.abs(effect * (1 - share)).max() > 8 * error.max()


@pytest.mark.parametrize(
    ("shape", "place"),
    [((28, 21, 1), (slice(4, 8), slice(12, 15))), ((12, 10, 8, 1), (slice(0, 3), slice(6, 9), slice(5, 7)))],
)
@pytest.mark.parametrize("method", [explain.rise, explain.occlusion])
def test_the_one_place_that_decides_is_the_hottest(method, shape, place):
    model, x = window(shape, place), np.ones((2, *shape), "float32")
    options = {"n": 1500, "cells": 5} if method is explain.rise else {"patch": 1}
    heat = method(model, x, target=1, **options)
    for one in heat:
        peak = np.unravel_index(one.argmax(), one.shape)
        assert all(side.start <= at < side.stop for at, side in zip(peak, place, strict=True)), peak
    far = tuple(
        slice(-2, None) if side.start < size / 2 else slice(0, 2) for side, size in zip(place, shape, strict=False)
    )
    assert heat[0][far].mean() < 0.2 * heat[0][place].mean()


def test_masks_depend_on_seed_and_number_alone():
    draw = perturb.mask_maker((20, 13), (4, 3), 0.3, seed=5)
    masks = draw(np.arange(2000))
    np.testing.assert_array_equal(draw(np.array([1234, 7])), masks[[1234, 7]])
    assert np.abs(perturb.mask_maker((20, 13), (4, 3), 0.3, seed=6)(np.arange(9)) - masks[:9]).max() > 0.1
    assert masks.min() >= 0
    assert masks.max() <= 1
    # Every voxel is as often visible as every other, also at the edges.
    np.testing.assert_allclose(masks.mean(axis=0), 0.3, atol=5 * 0.46 / np.sqrt(2000))
    # Between centers of cells, 5 voxels apart, a mask changes by at most a fifth from voxel to voxel.
    assert np.abs(np.diff(masks, axis=1)).max() == pytest.approx(0.2, abs=1e-6)


@pytest.mark.parametrize(
    ("method", "options"), [(explain.rise, {"n": 50, "cells": 3}), (explain.occlusion, {"patch": 2, "stride": 1})]
)
def test_batches_order_and_one_case_change_nothing(method, options):
    model, _ = linear((6, 5, 2))
    x = images(5, 6, 5, 2)
    heat = method(model, x, **options)
    assert heat.dtype == np.float32
    assert heat.min() >= 0
    assert heat.max() > 0
    for size in (1, 7, 64):
        again = method(model, x[::-1], batch_size=size, **options)[::-1]
        np.testing.assert_allclose(again, heat, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(method(model, x[2:3], **options)[0], heat[2], rtol=1e-4, atol=1e-5)
    assert method(model, x[:0], **options).shape == (0, 6, 5)
    assert np.abs(explain.rise(model, x, n=50, cells=3, seed=1) - heat).max() > 1e-3


def test_a_model_that_looks_nowhere_and_a_saturated_one():
    nowhere, _ = linear((6, 5, 1), scale=0.0)
    x = images(2, 6, 5, 1)
    assert not explain.occlusion(nowhere, x, target=1, patch=2, sign="both").any()
    np.testing.assert_allclose(explain.rise(nowhere, x, target=1, n=20, sign="both"), 0, atol=1e-7)
    # Probabilities of 1 do not move; logits do.
    sure, w = linear((6, 5, 1), activation="sigmoid")
    sure.layers[-1].set_weights([w.reshape(-1, 1), np.array([1000.0])])
    assert not explain.rise(sure, x, target=1, n=20, sign="both").any()
    assert explain.rise(sure, x, target=1, n=20, probability=False, sign="absolute").max() > 0.1
    covered = explain.occlusion(sure, x, target=1, patch=1, sign="both")
    np.testing.assert_allclose(covered, (w * x)[..., 0], atol=1e-3)


def test_a_constant_image_and_its_own_color_show_nothing():
    model, _ = linear((6, 5, 1))
    x = np.full((1, 6, 5, 1), 3, "float32")
    for baseline in (3.0, "mean", "blur"):
        np.testing.assert_allclose(explain.occlusion(model, x, baseline=baseline, sign="both"), 0, atol=1e-5)
        np.testing.assert_allclose(explain.rise(model, x, n=9, baseline=baseline, sign="both"), 0, atol=1e-5)


@pytest.mark.parametrize(
    "method",
    [
        lambda *args, **options: explain.occlusion(*args, patch=1, **options),
        lambda *args, **options: explain.rise(*args, n=1024, **options),
        lambda *args, **options: explain.integrated_gradients(*args, steps=1024, **options),
        lambda *args, **options: explain.smooth_grad(*args, n=1024, **options),
    ],
)
def test_a_thousand_copies_are_never_held_at_once(method):
    model, _ = linear((32, 32, 1))
    x = images(1, 32, 32, 1)
    method(model, x[:, :, :], batch_size=16)  # what is compiled or imported once is not counted
    tracemalloc.start()
    try:
        method(model, x, batch_size=16)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1024 * x.nbytes / 4  # 1 MB; a batch is 64 KB


def test_progress_on_request(capsys):
    model, _ = linear((6, 5, 1))
    x = images(1, 6, 5, 1)
    for quiet in (None, False):
        explain.rise(model, x, n=8, progress=quiet)
        explain.occlusion(model, x, progress=quiet)
    assert capsys.readouterr().err == ""
    explain.rise(model, x, n=8, batch_size=4, progress=True)
    assert "RISE" in capsys.readouterr().err
    explain.occlusion(model, x, patch=2, batch_size=4, progress=True)
    assert "occlusion" in capsys.readouterr().err


def test_errors_say_what_to_do():
    model, _ = linear((6, 5, 1))
    x = images(2, 6, 5, 1)
    for wrong in (1, 10.5):
        with pytest.raises(ValueError, match=rf"number of masks, a whole number of at least 2\. Received {wrong}"):
            explain.rise(model, x, n=wrong)
    for wrong in (0, 1, 1.5, np.nan):
        with pytest.raises(ValueError, match=f"a share between 0 and 1. Received {wrong}"):
            explain.rise(model, x, share=wrong)
    with pytest.raises(ValueError, match="as cells a whole number of at least 1, or 2 of them"):
        explain.rise(model, x, cells=(3, 3, 3))
    with pytest.raises(ValueError, match='sign "positive", "absolute" or "both"'):
        explain.rise(model, x, sign="all")
    with pytest.raises(ValueError, match='baseline "mean", "blur", a number or an array'):
        explain.occlusion(model, x, baseline="black")
    with pytest.raises(ValueError, match=r"broadcasts to \(2, 6, 5, 1\)"):
        explain.rise(model, x, baseline=np.zeros((3, 1, 1, 1, 1)))
    with pytest.raises(ValueError, match="NaN or infinity"):
        explain.rise(model, x * np.nan)
