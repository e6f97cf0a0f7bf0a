"""SmoothGrad and VarGrad: functions whose smoothed gradients are known, and noise that belongs to no batch."""

import keras
import numpy as np
import pytest

from medlab import explain

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

L = keras.layers
SHAPE = (3, 2, 2)


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def polynomial(shape, *powers):
    """f(x) = the sum over voxels of c_0 x + c_1 x^2 + ..., one logit."""
    x = keras.Input(shape)
    value = sum(weight * x ** (power + 1) for power, weight in enumerate(powers))
    return keras.Model(x, keras.ops.sum(value, axis=tuple(range(1, len(shape) + 1)))[:, None])


@pytest.mark.parametrize("shape", [(5, 4, 2), (3, 4, 5, 1)])
def test_a_linear_model_has_its_saliency_and_no_variance(shape):
    model = keras.Sequential([keras.Input(shape), L.Flatten(), L.Dense(3)])
    x = images(3, *shape)
    for target in (0, 2):
        smooth = explain.smooth_grad(model, x, target=target, n=4)
        np.testing.assert_allclose(smooth, explain.saliency(model, x, target=target), rtol=1e-5)
        np.testing.assert_allclose(explain.var_grad(model, x, target=target, n=4), 0, atol=1e-12)


def test_noise_adds_its_variance_to_a_squared_gradient():
    # The gradient of x^3 / 3 is x^2; its mean over noise of standard deviation s is x^2 + s^2.
    x = images(2, *SHAPE)
    s = 0.5 * np.ptp(x, axis=(1, 2, 3))
    heat = explain.smooth_grad(polynomial(SHAPE, 0, 0, 1 / 3), x, target=1, n=4096, noise=0.5)
    expected = x**2 + s[:, None, None, None] ** 2
    # Standard error of the mean of (x + s e)^2: sqrt(4 x^2 s^2 + 2 s^4) / sqrt(4096).
    error = np.sqrt(4 * x**2 + 2 * s[:, None, None, None] ** 2) * s[:, None, None, None] / 64
    np.testing.assert_array_less(np.abs(heat - expected.max(-1)), 4 * error.max(-1))


def test_the_variance_of_a_linear_gradient_is_that_of_the_noise():
    # The gradient of 3 x^2 / 2 is 3 x; noise of standard deviation s gives it the variance 9 s^2.
    x = images(2, 3, 2, 1)
    s = 0.2 * np.ptp(x, axis=(1, 2, 3))
    heat = explain.var_grad(polynomial((3, 2, 1), 0, 1.5), x, target=1, n=4096, noise=0.2)
    np.testing.assert_allclose(heat, np.broadcast_to(9 * s[:, None, None] ** 2, heat.shape), rtol=4 * np.sqrt(2) / 64)


def test_the_variance_of_two_copies_is_half_their_distance_squared():
    # Gradients 100 + 2 x are positive, so that smooth_grad is the mean itself: of the first copy, and of both.
    x, model = images(4, 3, 2, 1), polynomial((3, 2, 1), 100, 1)
    first, both = (explain.smooth_grad(model, x, target=1, n=n) for n in (1, 2))
    expected = (first - both) ** 2
    assert expected.min() > 0
    np.testing.assert_allclose(explain.var_grad(model, x, target=1, n=2), expected, rtol=0.02, atol=1e-4)


@pytest.mark.parametrize("method", [explain.smooth_grad, explain.var_grad])
def test_noise_belongs_to_a_seed_and_to_no_batch(method):
    model, x = polynomial(SHAPE, 1, 1, 1), images(5, *SHAPE)
    heat = method(model, x, n=6)
    for size in (1, 4, 64):
        again = method(model, x[::-1], n=6, batch_size=size)[::-1]
        np.testing.assert_allclose(again, heat, rtol=1e-5)
    np.testing.assert_allclose(method(model, x[2:3], n=6)[0], heat[2], rtol=1e-5)
    assert np.abs(method(model, x, n=6, seed=1) - heat).min() > 0
    assert method(model, x[:0], n=6).shape == (0, 3, 2)
    before = x.copy()
    method(model, x, n=2)
    np.testing.assert_array_equal(x, before)


def test_without_noise_or_range_nothing_is_smoothed():
    model, x = polynomial(SHAPE, 1, 1, 1), images(2, *SHAPE)
    flat = np.full_like(x, 0.7)
    for still, noise in ((x, 0), (flat, 0.15)):
        heat = explain.smooth_grad(model, still, n=3, noise=noise)
        np.testing.assert_allclose(heat, explain.saliency(model, still), rtol=1e-5)
        np.testing.assert_allclose(explain.var_grad(model, still, n=3, noise=noise), 0, atol=1e-10)


def test_errors_say_what_to_do():
    model, x = polynomial(SHAPE, 1), images(1, *SHAPE)
    for method, least, wrong in ((explain.smooth_grad, 1, 0), (explain.var_grad, 2, 1), (explain.smooth_grad, 1, 2.5)):
        with pytest.raises(ValueError, match=rf"noisy copies, a whole number of at least {least}\. Received {wrong}"):
            method(model, x, n=wrong)
    for wrong in (-0.1, np.nan):
        with pytest.raises(ValueError, match=f"a share of the image's range, 0 or above. Received {wrong}"):
            explain.smooth_grad(model, x, noise=wrong)
    with pytest.raises(ValueError, match="NaN or infinity"):
        explain.var_grad(model, x * np.inf)
