"""Integrated gradients: hand-worked functions, paths, baselines, and how complete the maps are."""

import keras
import numpy as np
import pytest
from scipy import ndimage

from medlab import explain

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

L = keras.layers


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def squares(shape):
    """f(x) = the sum of w x^2, one logit, and w."""
    w = images(*shape, seed=1)
    x = keras.Input(shape)
    return keras.Model(x, keras.ops.sum(x * x * w, axis=tuple(range(1, len(shape) + 1)))[:, None]), w


def product():
    """f(x) = a * b of an image with the two voxels a and b."""
    x = keras.Input((1, 2, 1))
    return keras.Model(x, x[:, 0, 0] * x[:, 0, 1])


def corner(start, image, share):
    """Voxel a moves in the first half of the way, voxel b in the second."""
    moved = start.copy()
    moved[0, 0] += min(1, 2 * share) * (image - start)[0, 0]
    moved[0, 1] += max(0, 2 * share - 1) * (image - start)[0, 1]
    return moved


@pytest.mark.parametrize("shape", [(4, 3, 2), (3, 4, 2, 1)])
def test_a_sum_of_squares_is_exact_for_any_baseline(shape):
    model, w = squares(shape)
    x = images(3, *shape)
    reference = images(*shape, seed=2)
    both = {"target": 1, "steps": 1, "sign": "both"}  # the midpoint rule is exact for a gradient that is linear
    close = {"rtol": 1e-4, "atol": 1e-5}
    heat = explain.integrated_gradients(model, x, baseline=reference, **both)
    np.testing.assert_allclose(heat, (w * (x**2 - reference**2)).sum(-1), **close)
    heat = explain.integrated_gradients(model, x, baseline="mean", **both)
    mean = x.mean(axis=tuple(range(1, x.ndim - 1)), keepdims=True)
    np.testing.assert_allclose(heat, (w * (x**2 - mean**2)).sum(-1), **close)
    heat = explain.integrated_gradients(model, x, baseline="blur", **both)
    sigma = [side / 16 for side in shape[:-1]]
    blurred = np.zeros_like(x)
    for case, channel in np.ndindex(len(x), shape[-1]):
        blurred[case, ..., channel] = ndimage.gaussian_filter(x[case, ..., channel], sigma, mode="nearest")
    np.testing.assert_allclose(heat, (w * (x**2 - blurred**2)).sum(-1), **close)


def test_several_baselines_are_averaged():
    model, w = squares((4, 3, 2))
    x, healthy = images(3, 4, 3, 2), images(5, 1, 4, 3, 2, seed=3)
    heat = explain.integrated_gradients(model, x, target=1, steps=2, baseline=healthy, sign="both", batch_size=4)
    expected = (w * (x**2 - (healthy[:, 0] ** 2).mean(axis=0))).sum(-1)
    np.testing.assert_allclose(heat, expected, rtol=1e-4, atol=1e-5)
    assert explain.completeness(model, x, heat, target=1, baseline=healthy).max() < 1e-4
    own = np.stack([x, np.zeros_like(x)])  # a baseline for each case: the image itself explains nothing
    half = explain.integrated_gradients(model, x, target=1, steps=2, baseline=own, sign="both")
    np.testing.assert_allclose(half, (w * x**2).sum(-1) / 2, rtol=1e-4, atol=1e-5)


def test_the_path_decides_who_is_paid_for_what_both_did():
    model, x = product(), np.array([3, 5], "float32").reshape(1, 1, 2, 1)
    straight = explain.integrated_gradients(model, x, target=1, sign="both")
    np.testing.assert_allclose(straight.ravel(), [7.5, 7.5], rtol=1e-5)
    # While a moves b is 0, so a earns nothing; while b moves a is 3.
    around = explain.integrated_gradients(model, x, target=1, path=corner, sign="both")
    np.testing.assert_allclose(around.ravel(), [0, 15], atol=1e-4)
    own_way = explain.integrated_gradients(
        model, x, target=1, path=lambda start, image, share: start + share**2 * (image - start), sign="both"
    )
    np.testing.assert_allclose(own_way.ravel(), [7.5, 7.5], rtol=2e-3)


def test_completeness_is_the_share_that_a_map_misses():
    model, x = product(), np.array([[3, 5], [0, 0], [2, 0]], "float32").reshape(3, 1, 2, 1)
    heat = np.array([[9, 3], [0, 0], [1, 0]], "float32").reshape(3, 1, 2)
    # 12 of 15; nothing of nothing; something of nothing.
    np.testing.assert_allclose(explain.completeness(model, x, heat, target=1), [0.2, 0, np.inf])
    np.testing.assert_allclose(explain.completeness(model, x[:1], 0 * heat[:1], target=1), [1])
    # From (1, 1) the rise is 14 for the finding, and -14 against it.
    for target, miss in ((1, 2 / 14), (0, 26 / 14)):
        gap = explain.completeness(model, x[:1], heat[:1], target=target, baseline=1.0)
        np.testing.assert_allclose(gap, [miss], rtol=1e-6)
    assert explain.completeness(model, x[:0], heat[:0]).shape == (0,)


@pytest.mark.parametrize("shape", [(16, 16, 1), (8, 8, 8, 1)])
def test_a_convolutional_network_is_complete_within_one_percent(shape):
    conv, pool = (L.Conv2D, L.MaxPooling2D) if len(shape) == 3 else (L.Conv3D, L.MaxPooling3D)
    stack = [keras.Input(shape), conv(6, 3, activation="relu"), pool(), conv(8, 2, activation="relu")]
    model = keras.Sequential([*stack, L.Flatten(), L.Dense(3, "softmax")])
    x, generator = images(4, *shape), np.random.default_rng(4)
    model.set_weights([generator.normal(0, 0.3, w.shape) for w in model.get_weights()])
    heat = explain.integrated_gradients(model, x, steps=1024, sign="both")
    assert explain.completeness(model, x, heat).max() < 0.01
    assert explain.completeness(model, x, explain.input_times_gradient(model, x, sign="both")).max() > 0.01


def test_a_tolerance_takes_more_steps_where_they_are_needed():
    # f = |x|^5 needs steps: by the midpoint rule 2 points give 5 (0.25^4 + 0.75^4) / 2 = 0.8008 of the rise of 1.
    x = keras.Input((1, 1, 1))
    model = keras.Model(x, keras.ops.reshape(x, (-1, 1)) ** 5)
    one, far = np.ones((1, 1, 1, 1), "float32"), np.array([1, 0], "float32").reshape(2, 1, 1, 1)
    rough = explain.integrated_gradients(model, one, target=1, steps=2)
    assert rough.item() == pytest.approx(0.80078125, rel=1e-5)
    # 8 points miss 1.3 percent, 32 points 0.08 percent: the error falls with the square of the steps.
    fine = explain.integrated_gradients(model, far, target=1, steps=2, tolerance=0.02)
    np.testing.assert_allclose(fine.ravel(), [1 - 0.013, 0], atol=5e-4)
    finer = explain.integrated_gradients(model, far, target=1, steps=2, tolerance=0.01)
    np.testing.assert_allclose(finer.ravel(), [1 - 0.00081, 0], atol=5e-5)
    with pytest.warns(
        explain.CompletenessWarning, match="1 of 2 maps miss more than 0.0001 .* after 32 steps"
    ) as caught:
        last = explain.integrated_gradients(model, far, target=1, steps=2, tolerance=1e-4)
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(last, finer)


def test_an_image_that_is_its_own_baseline_has_no_map():
    model, x = product(), np.array([3, 5], "float32").reshape(1, 1, 2, 1)
    assert not explain.integrated_gradients(model, x, target=1, baseline=x, sign="both").any()
    assert not explain.integrated_gradients(model, 0 * x + 4, target=1, baseline="mean", sign="both").any()


def test_steps_and_batches_do_not_change_a_case():
    model, _ = squares((4, 3, 2))
    x = images(5, 4, 3, 2)
    heat = explain.integrated_gradients(model, x, steps=7, baseline=0.5, sign="both")
    for size in (1, 3, 64):
        again = explain.integrated_gradients(model, x[::-1], steps=7, baseline=0.5, sign="both", batch_size=size)
        np.testing.assert_allclose(again[::-1], heat, rtol=1e-5, atol=1e-6)


def test_errors_say_what_to_do():
    model, x = product(), np.array([3, 5], "float32").reshape(1, 1, 2, 1)
    with pytest.raises(ValueError, match=r"\"straight\" or a function \(start, image, share\)\. Received 'curved'"):
        explain.integrated_gradients(model, x, path="curved")
    with pytest.raises(ValueError, match="a path that is the baseline at share 0"):
        explain.integrated_gradients(model, x, path=lambda start, image, share: image)
    with pytest.raises(ValueError, match="a path that is the image at share 1"):
        explain.integrated_gradients(model, x, path=lambda start, image, share: start)
    with pytest.raises(ValueError, match=r'baseline "mean", "blur", a number or an array\. Received \'black\''):
        explain.integrated_gradients(model, x, baseline="black")
    with pytest.raises(ValueError, match="at least one baseline"):
        explain.integrated_gradients(model, x, baseline=np.zeros((0, 1, 1, 2, 1)))
    with pytest.raises(ValueError, match="finite baseline"):
        explain.integrated_gradients(model, x, baseline=np.full((2, 1, 1, 2, 1), np.nan))
    for wrong in (0, -1, 2.5):
        with pytest.raises(ValueError, match=rf"at least 1 step, a whole number of at least 1\. Received {wrong}"):
            explain.integrated_gradients(model, x, steps=wrong)
    with pytest.raises(ValueError, match=r"a tolerance above 0 or None\. Received 0"):
        explain.integrated_gradients(model, x, tolerance=0)
    with pytest.raises(ValueError, match=r"heat of shape \(1, 1, 2\)\. Received \(1, 2, 1\)"):
        explain.completeness(model, x, np.zeros((1, 2, 1)))
    with pytest.raises(ValueError, match="finite heat"):
        explain.completeness(model, x, np.full((1, 1, 2), np.nan))
