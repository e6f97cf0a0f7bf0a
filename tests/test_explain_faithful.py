"""Faithful: linear models have exact answers; the formulas are worked out anew from the model's own outputs."""

import keras
import numpy as np
import pytest

from medlab import explain

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

L = keras.layers


def linear(size, seed=0):
    """A model with one logit, and the weights (i, j[, k], c) it is the sum of."""
    weights = np.random.default_rng(seed).normal(size=size).astype("float32")
    model = keras.Sequential([keras.Input(size), L.Flatten(), L.Dense(1)])
    model.layers[-1].set_weights([weights.reshape(-1, 1), np.array([0.3])])
    return model, weights


def curved(size=(8, 8, 1)):
    model = keras.Sequential([keras.Input(size), L.Conv2D(4, 3, activation="relu"), L.Flatten(), L.Dense(1)])
    generator = np.random.default_rng(2)
    model.set_weights([generator.normal(size=w.shape) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("size", [(8, 9, 2), (6, 5, 4, 1)])
def test_contributions_of_a_linear_model_are_faithful(size):
    model, weights = linear(size)
    x = np.random.default_rng(1).normal(size=(3, *size)).astype("float32")
    contributions = (weights * x).sum(axis=-1)
    exact = {"target": 1, "baseline": 0.0}
    np.testing.assert_allclose(explain.infidelity(model, x, contributions, **exact), 0, atol=1e-6)
    np.testing.assert_allclose(explain.infidelity(model, x, contributions, normalize=False, **exact), 0, atol=1e-6)
    np.testing.assert_allclose(explain.mu_fidelity(model, x, contributions, **exact), 1, atol=1e-5)
    # The unit of the heat does not matter, its sign does.
    np.testing.assert_allclose(explain.infidelity(model, x, 7 * contributions, **exact), 0, atol=1e-6)
    np.testing.assert_allclose(explain.mu_fidelity(model, x, 7 * contributions, **exact), 1, atol=1e-5)
    np.testing.assert_allclose(explain.infidelity(model, x, -contributions, **exact), 1)
    np.testing.assert_allclose(explain.mu_fidelity(model, x, -contributions, **exact), -1, atol=1e-5)
    # Of the other class, the negative is true.
    np.testing.assert_allclose(explain.mu_fidelity(model, x, -contributions, target=0, baseline=0.0), 1, atol=1e-5)


def test_a_patch_of_the_whole_image_is_the_difference_to_the_baseline():
    model = curved()
    x = np.random.default_rng(1).normal(size=(2, 8, 8, 1)).astype("float32")
    fall = keras.ops.convert_to_numpy(model(x) - model(np.full_like(x, 0.5)))[:, 0]
    heat = np.ones((2, 8, 8)) / 64  # 1 in all
    found = explain.infidelity(model, x, heat, target=1, patch=8, n=3, baseline=0.5, normalize=False)
    np.testing.assert_allclose(found, (1 - fall) ** 2, rtol=1e-4)
    # Without heat the error is the fall's own square, and 1 as a share of it.
    found = explain.infidelity(model, x, 0 * heat, target=1, patch=(9, 8), n=3, baseline=0.5, normalize=False)
    np.testing.assert_allclose(found, fall**2, rtol=1e-4)
    np.testing.assert_array_equal(explain.infidelity(model, x, 0 * heat, target=1), [1, 1])


def test_one_voxel_at_a_time_gives_the_least_squares_residual():
    """Patches of one voxel: the heat and the fall are known voxel by voxel, up to which ones are drawn."""
    size = (5, 4, 1)
    model, weights = linear(size)
    x = np.ones((1, *size), "float32")
    heat = np.random.default_rng(4).random((1, 5, 4))
    found = explain.infidelity(model, x, heat, target=1, patch=1, n=20_000, baseline=0.0)
    a, f = heat.ravel(), weights.ravel()
    expected = 1 - max(a @ f, 0) ** 2 / (a @ a * (f @ f))
    np.testing.assert_allclose(found, [expected], atol=0.02)


def test_subsets_are_made_of_equal_cells():
    """Of a model that counts, the fall is the number of voxels covered: it is the same for each subset."""
    model, _ = linear((12, 8, 1))
    model.set_weights([np.ones((96, 1)), np.zeros(1)])
    x = np.ones((1, 12, 8, 1), "float32")
    even = {"target": 1, "share": 0.25, "baseline": 0.0}
    np.testing.assert_array_equal(explain.mu_fidelity(model, x, np.ones((1, 12, 8)), cells=4, **even), [np.nan])
    # Cells of a grid of 5 are unlike, so the fall varies, and even heat foretells it exactly.
    np.testing.assert_allclose(explain.mu_fidelity(model, x, np.ones((1, 12, 8)), cells=5, **even), [1], atol=1e-6)


def test_undefined_and_refused():
    model, _ = linear((6, 6, 1))
    x = np.random.default_rng(1).normal(size=(2, 6, 6, 1)).astype("float32")
    heat = np.ones((2, 6, 6))
    blind = keras.Sequential([keras.Input((6, 6, 1)), L.Flatten(), L.Dense(1, kernel_initializer="zeros")])
    assert np.isnan(explain.infidelity(blind, x, heat)).all()
    assert np.isnan(explain.mu_fidelity(blind, x, heat)).all()
    constant = np.ones_like(x)  # covered by its own mean it does not change
    assert np.isnan(explain.mu_fidelity(model, constant, heat)).all()
    np.testing.assert_array_equal(explain.mu_fidelity(model, x, 0 * heat), [0, 0])
    for rule in (explain.infidelity, explain.mu_fidelity):
        assert rule(model, x[:0], heat[:0]).shape == (0,)
        with pytest.raises(ValueError, match=r"heat maps of shape \(2, 6, 6\)\. Received \(6, 6\)"):
            rule(model, x, heat[0])
        with pytest.raises(ValueError, match="finite heat"):
            rule(model, x, heat * np.nan)
    with pytest.raises(ValueError, match="n of at least 1"):
        explain.infidelity(model, x, heat, n=0)
    with pytest.raises(ValueError, match="patch a number of at least 1, or 2"):
        explain.infidelity(model, x, heat, patch=(1, 2, 3))
    with pytest.raises(ValueError, match="a share between 0 and 1"):
        explain.mu_fidelity(model, x, heat, share=1.0)


def test_the_target_is_a_function_or_a_class():
    model = keras.Sequential([keras.Input((6, 6, 1)), L.Flatten(), L.Dense(3)])
    x = np.random.default_rng(1).normal(size=(2, 6, 6, 1)).astype("float32")
    heat = np.random.default_rng(2).random((2, 6, 6))
    by_class = explain.infidelity(model, x, heat, target=[2, 0])
    by_function = explain.infidelity(model, x, heat, target=lambda y: y[:, 2])
    np.testing.assert_allclose(by_function[0], by_class[0], rtol=1e-5)
    assert abs(by_function[1] - by_class[1]) > 1e-3
