"""Attribution and occlusion: exact for linear models, complete for others."""

import keras
import numpy as np
import pytest

from medlab import explain

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

L = keras.layers


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def linear(shape, classes=3):
    """A linear model and its weights as (i, j[, k], c, classes)."""
    model = keras.Sequential([keras.Input(shape), L.Flatten(), L.Dense(classes)])
    weights = images(*shape, classes, seed=1)
    model.layers[-1].set_weights([weights.reshape(-1, classes), np.arange(classes)])
    return model, weights


def bent(shape=(6, 5, 2)):
    model = keras.Sequential(
        [keras.Input(shape), L.Conv2D(4, 3, activation="tanh"), L.GlobalAveragePooling2D(), L.Dense(1, "sigmoid")]
    )
    generator = np.random.default_rng(2)
    model.set_weights([generator.normal(size=w.shape) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("shape", [(5, 4, 2), (3, 4, 5, 1)])
def test_a_linear_model_is_explained_by_its_weights(shape):
    model, w = linear(shape)
    x = images(4, *shape)
    product = (x * w[..., 2]).sum(-1)
    close = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(
        explain.saliency(model, x, target=2), np.broadcast_to(np.abs(w[..., 2]).max(-1), x.shape[:-1]), **close
    )
    np.testing.assert_allclose(explain.input_times_gradient(model, x, target=2, sign="both"), product, **close)
    np.testing.assert_allclose(explain.input_times_gradient(model, x, target=2), np.maximum(product, 0), **close)
    np.testing.assert_allclose(
        explain.integrated_gradients(model, x, target=2, steps=3, sign="absolute"), np.abs(product), **close
    )
    one = explain.occlusion(model, x, target=2, patch=1, sign="both")
    np.testing.assert_allclose(one, product, rtol=1e-4, atol=1e-4)


def test_occlusion_gives_each_patch_its_fall_and_overlaps_their_mean():
    model, w = linear((4, 5, 1))
    x = images(2, 4, 5, 1)
    product = (x * w[..., 0]).sum(-1)
    heat = explain.occlusion(model, x, target=0, patch=(2, 2), sign="both")
    np.testing.assert_allclose(heat[:, 0, 0], product[:, :2, :2].sum((1, 2)), atol=1e-4)
    # Along the 5 columns patches start at 0, 2 and 3: column 3 lies in two of them.
    pair = (product[:, :2, 2:4].sum((1, 2)) + product[:, :2, 3:5].sum((1, 2))) / 2
    np.testing.assert_allclose(heat[:, 1, 3], pair, atol=1e-4)
    whole = explain.occlusion(model, x, target=0, patch=99, sign="both")
    np.testing.assert_allclose(whole, np.broadcast_to(product.sum((1, 2))[:, None, None], whole.shape), atol=1e-4)
    half = explain.occlusion(model, x, target=0, patch=1, baseline=x / 2, sign="both")
    np.testing.assert_allclose(half, product / 2, atol=1e-4)


def test_integrated_gradients_are_complete():
    model, x = bent(), images(5, 6, 5, 2)
    reference = images(6, 5, 2, seed=3)
    logit = keras.Model(model.inputs[0], model.layers[-2].output)
    w, b = model.layers[-1].get_weights()
    score = lambda a: (keras.ops.convert_to_numpy(logit(a)) @ w + b)[:, 0]  # noqa: E731
    heat = explain.integrated_gradients(model, x, target=1, baseline=reference, steps=64, sign="both")
    np.testing.assert_allclose(heat.sum((1, 2)), score(x) - score(reference[None]), atol=2e-3)
    against = explain.integrated_gradients(model, x, target=0, baseline=reference, steps=64, sign="both")
    np.testing.assert_allclose(against, -heat, atol=1e-6)


@pytest.mark.parametrize(
    "method", [explain.saliency, explain.input_times_gradient, explain.integrated_gradients, explain.occlusion]
)
def test_batches_predicted_class_and_an_untouched_model(method):
    model, x = bent(), images(5, 6, 5, 2)
    before = model.get_weights()
    p = keras.ops.convert_to_numpy(model(x))[:, 0]
    heat = method(model, x)
    assert heat.shape == (5, 6, 5)
    assert heat.dtype == np.float32
    assert heat.min() >= 0
    np.testing.assert_allclose(heat, method(model, x, target=(p >= 0.5).astype(int), batch_size=2), atol=1e-6)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(p, keras.ops.convert_to_numpy(model(x))[:, 0])
    assert method(model, x[:0]).shape == (0, 6, 5)


def test_errors_say_what_to_do():
    model, x = bent(), images(2, 6, 5, 2)
    with pytest.raises(ValueError, match=r'sign "positive", "absolute" or "both". Received \'all\''):
        explain.input_times_gradient(model, x, sign="all")
    with pytest.raises(ValueError, match="at least 1 step"):
        explain.integrated_gradients(model, x, steps=0)
    with pytest.raises(ValueError, match=r"broadcasts to \(2, 6, 5, 2\)\. Received shape \(3,\)"):
        explain.integrated_gradients(model, x, baseline=np.zeros(3))
    with pytest.raises(ValueError, match="finite baseline"):
        explain.occlusion(model, x, baseline=np.nan)
    for wrong in (0, (2, 2, 2), 1.5, (2, 0.5)):
        with pytest.raises(ValueError, match="as patch a whole number of at least 1, or 2 of them"):
            explain.occlusion(model, x, patch=wrong)
    with pytest.raises(ValueError, match="never be covered"):
        explain.occlusion(model, x, patch=2, stride=3)
    with pytest.raises(ValueError, match="NaN or infinity"):
        explain.saliency(model, x * np.nan)
