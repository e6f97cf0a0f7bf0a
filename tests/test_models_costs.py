"""What a network takes: parameters and memory counted by hand, a model left as it was, and networks of one size."""

import functools

import keras
import numpy as np
import pytest

from medlab import models

# On JAX Keras' get_weights hands variables to np.array, whose argument copy they do not know yet.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def test_cost_counts_what_can_be_counted_by_hand():
    image = keras.Input((8, 10, 2))
    x = keras.layers.Conv2D(3, 3, padding="same")(image)
    model = keras.Model(image, keras.layers.Dense(4)(keras.layers.Flatten()(x)))
    before = [np.array(one) for one in model.get_weights()]
    found = models.cost(model, np.zeros((2, 8, 10, 2), np.float32), steps=1)
    assert found["parameters"] == (9 * 2 * 3 + 3) + (240 * 4 + 4)
    assert found["map_mb"] == pytest.approx((240 + 240 + 4) * 4 / 1e6)
    assert found["train_ms"] > 0
    assert found["predict_ms"] > 0
    assert not model.compiled
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_slices_that_share_a_network_are_counted_each():
    def tiny(shape):
        image = keras.Input(shape)
        return keras.Model(image, keras.layers.Conv2D(3, 3)(image))

    one, five = (
        models.cost(models.slice_mean((8, 10, k, 1), encoder=tiny), np.ones((1, 8, 10, k, 1), np.float32), steps=1)
        for k in (1, 5)
    )
    assert five["parameters"] == one["parameters"]
    assert 4.5 < five["map_mb"] / one["map_mb"] <= 5


@pytest.mark.parametrize(("n", "steps"), [(0, 3), (1, 0)])
def test_errors(n, steps):
    with pytest.raises(ValueError, match=rf"at least one image and one step\. Received {n} and {steps}"):
        models.cost(models.small_cnn((8, 8, 1), width=1), np.zeros((n, 8, 8, 1), np.float32), steps=steps)


@pytest.mark.parametrize(("target", "width"), [(1, 1), (100, 10), (110, 10), (111, 11), (10_000, 100), (10**9, 300)])
def test_the_width_nearest_to_a_number_of_parameters(target, width):
    asked = []

    class Square:
        def __init__(self, width):
            asked.append(width)
            self.width = width

        def count_params(self):
            return self.width**2

    assert models.match_parameters(Square, target, widest=300) == width
    assert len(asked) <= 10


def test_networks_of_one_size():
    shape = (16, 16, 6, 1)
    for name in ("slice_mean", "conv_lstm"):
        make = getattr(models, name)
        width = models.match_parameters(functools.partial(make, shape), 20_000)
        count = make(shape, width=width).count_params()
        assert all(
            abs(make(shape, width=other).count_params() - 20_000) > abs(count - 20_000)
            for other in (width - 1, width + 1)
        )


def test_a_target_below_1():
    with pytest.raises(ValueError, match=r"at least 1 parameter\. Received 0"):
        models.match_parameters(None, 0)
