"""Robust: sparseness and likeness by hand, sensitivity of a quadratic model in closed form."""

import keras
import numpy as np
import pytest
from scipy import stats
from skimage.metrics import structural_similarity

from medlab import explain

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

L = keras.layers


def test_sparseness_by_hand():
    # Gini index of 0, 0, 1, 3: sum of (2 i - 5) * a_i for i = 1..4 is 1 * 1 + 3 * 3 = 10, over 4 * 4.
    np.testing.assert_allclose(explain.sparseness([[[3, 0], [1, 0]]]), [10 / 16])
    one = np.zeros((1, 4, 5, 5))
    one[0, 1, 2, 3] = 7
    np.testing.assert_allclose(explain.sparseness(one), [0.99])
    np.testing.assert_allclose(explain.sparseness(np.full((1, 3, 3), 0.2)), [0], atol=1e-9)
    np.testing.assert_array_equal(explain.sparseness(np.zeros((2, 3, 3))), [0, 0])
    heat = np.random.default_rng(0).random((1, 30, 40)) ** 4
    pairs = np.abs(heat.reshape(-1, 1) - heat.reshape(1, -1)).mean()  # the Gini index as mean difference of pairs
    np.testing.assert_allclose(explain.sparseness(heat), [pairs / (2 * heat.mean())], rtol=1e-5)
    assert explain.sparseness(np.zeros((0, 3, 3))).shape == (0,)
    with pytest.raises(ValueError, match="below 0"):
        explain.sparseness(-one)
    with pytest.raises(ValueError, match=r"shape \(n, i, j\[, k\]\)\. Received \(3, 3\)"):
        explain.sparseness(np.ones((3, 3)))


@pytest.mark.parametrize("size", [(20, 24), (9, 8, 10)])
def test_likeness_of_two_models(size):
    generator = np.random.default_rng(0)
    a, b = generator.random((2, 3, *size)).astype("float32")
    for measure in ("ssim", "rank"):
        np.testing.assert_allclose(explain.repeatability(a, a, measure=measure), 1, rtol=1e-6)
        # Neither sees the unit of the heat.
        np.testing.assert_allclose(explain.repeatability(a, 5 * a, measure=measure), 1, rtol=1e-5)
        assert np.abs(explain.repeatability(a, b, measure=measure)).max() < 0.15
    rank = [stats.spearmanr(one.ravel(), other.ravel()).statistic for one, other in zip(a, a * b, strict=True)]
    np.testing.assert_allclose(explain.repeatability(a, a * b, measure="rank"), rank, rtol=1e-6)
    pairs = [(one / one.max(), other / other.max()) for one, other in zip(a, a * b, strict=True)]
    similar = [structural_similarity(*pair, data_range=1, win_size=7, use_sample_covariance=False) for pair in pairs]
    np.testing.assert_allclose(explain.repeatability(a, a * b), similar, rtol=1e-6)


def test_likeness_of_maps_without_heat():
    some, none = np.random.default_rng(0).random((1, 8, 8)), np.zeros((1, 8, 8))
    for measure in ("ssim", "rank"):
        for pair in ((some, none), (none, some)):
            np.testing.assert_array_equal(explain.repeatability(*pair, measure=measure), [0])
        np.testing.assert_array_equal(explain.repeatability(none, none, measure=measure), [np.nan])
        assert explain.repeatability(none[:0], none[:0], measure=measure).shape == (0,)
    with pytest.raises(ValueError, match=r"heat maps of shape \(1, 8, 8\)\. Received \(1, 8, 7\)"):
        explain.repeatability(some, some[..., 1:])
    with pytest.raises(ValueError, match='measure "ssim" or "rank"'):
        explain.repeatability(some, some, measure="dice")


def linear(size):
    model = keras.Sequential([keras.Input(size), L.Flatten(), L.Dense(1)])
    model.layers[-1].set_weights([np.random.default_rng(0).normal(size=(np.prod(size), 1)), np.zeros(1)])
    return model


def test_max_sensitivity_of_maps_that_are_known():
    model, x = linear((6, 5, 2)), np.random.default_rng(1).normal(size=(3, 6, 5, 2)).astype("float32")

    def image(model, x, *, target, batch_size):
        return np.abs(x).sum(axis=-1)

    def even(model, x, *, target, batch_size):
        return np.ones(x.shape[:-1], "float32")

    def nothing(model, x, *, target, batch_size):
        return np.zeros(x.shape[:-1], "float32")

    np.testing.assert_array_equal(explain.max_sensitivity(model, x, even), [0, 0, 0])
    np.testing.assert_allclose(explain.max_sensitivity(model, x, "saliency"), 0, atol=1e-6)
    np.testing.assert_array_equal(explain.max_sensitivity(model, x, nothing), [np.nan] * 3)
    np.testing.assert_array_equal(explain.max_sensitivity(model, np.ones_like(x), image), [0, 0, 0])
    # Uniform noise of half width r has the standard deviation r / sqrt(3); the map of each channel adds up.
    big = (100 + x).astype("float32")
    one = explain.max_sensitivity(model, big, image, n=1, radius=0.3)
    spread = 0.3 * big.std(axis=(1, 2))  # (n, channels)
    expected = np.sqrt((spread**2).sum(axis=1) / 3) * np.sqrt(30) / np.linalg.norm(big.sum(-1).reshape(3, -1), axis=1)
    np.testing.assert_allclose(one, expected, rtol=0.35)
    many = explain.max_sensitivity(model, big, image, n=16, radius=0.3)
    assert (many >= one).all()
    assert many.sum() > one.sum()
    np.testing.assert_allclose(explain.max_sensitivity(model, big, image, n=1, radius=0.6), 2 * one, rtol=1e-3)


def test_noise_belongs_to_the_case():
    model = keras.Sequential([keras.Input((8, 8, 1)), L.Conv2D(4, 3, activation="tanh"), L.Flatten(), L.Dense(2)])
    x = np.random.default_rng(1).normal(size=(4, 8, 8, 1)).astype("float32")
    whole = explain.max_sensitivity(model, x, "saliency", n=3)
    assert (whole > 1e-3).all()
    np.testing.assert_allclose(explain.max_sensitivity(model, x[2:3], "saliency", n=3), whole[2:3], rtol=1e-3)
    np.testing.assert_allclose(explain.max_sensitivity(model, x, "saliency", n=3, batch_size=3), whole, rtol=1e-3)
    assert explain.max_sensitivity(model, x[:0], "saliency").shape == (0,)
    with pytest.raises(ValueError, match="n of at least 1 and a radius"):
        explain.max_sensitivity(model, x, "saliency", n=0)
    with pytest.raises(ValueError, match="no method 'salience'"):
        explain.max_sensitivity(model, x, "salience")


def test_max_sensitivity_of_a_model_with_two_inputs():
    image, age = keras.Input((6, 6, 1), name="image"), keras.Input((1,), name="age")
    features = L.Flatten()(L.Conv2D(3, 3, activation="tanh")(image))
    model = keras.Model([image, age], L.Dense(2)(L.Concatenate()([features, age])))
    generator = np.random.default_rng(0)
    x = [generator.normal(size=(3, 6, 6, 1)).astype("float32"), generator.normal(size=(3, 1)).astype("float32")]
    found = explain.max_sensitivity(model, x, "saliency", n=2, target=1)
    assert found.shape == (3,)
    assert ((found > 0) & (found < 1)).all()
