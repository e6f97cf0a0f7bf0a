"""Schedules by hand, the rules, and the learning-rate range test."""

import keras
import numpy as np
import pytest

from medlab import train
from medlab.train import optimize

# On JAX Keras' get_weights hands variables to np.array, whose argument copy they do not know yet.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def rates(choice, steps):
    return [float(choice.schedule(step)) for step in steps]


def test_cosine_with_warm_up_by_hand():
    choice = optimize.make("adamw", learning_rate=0.1, steps=110, warmup=10 / 110)
    np.testing.assert_allclose(rates(choice, [9, 10, 60, 110]), [0.091, 0.1, 0.05, 0], atol=1e-7)
    choice = optimize.make("sgd", learning_rate=0.1, steps=100, warmup=0)
    np.testing.assert_allclose(rates(choice, [0, 50, 100]), [0.1, 0.05, 0], atol=1e-7)


def test_rule_by_hand():
    assert optimize.rule("adamw", 32)[0] == 1e-3
    assert optimize.rule("adam", 128)[0] == pytest.approx(2e-3)
    assert optimize.rule("sgd", 64)[0] == pytest.approx(0.1)
    assert "1e-3 * sqrt(128 cases a step / 32)" in optimize.rule("adam", 128)[1]


def test_an_optimizer_that_is_given():
    given = keras.optimizers.SGD(0.25)
    choice = optimize.make(given, steps=10)
    assert choice.optimizer is given
    assert choice.learning_rate == 0.25
    given.build([keras.Variable(np.zeros(1))])
    with pytest.raises(ValueError, match="used before"):
        optimize.make(given, steps=10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"optimizer": "adamm"}, "no optimizer 'adamm'"),
        ({"optimizer": 3}, "name of an optimizer"),
        ({"learning_rate": 0}, "number above 0. Received 0"),
        ({"learning_rate": "fast"}, "Received 'fast'"),
        ({"schedule": "sawtooth"}, "Received 'sawtooth'"),
        ({"warmup": 1.0}, "warmup from 0"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        optimize.make(**{"optimizer": "adamw", "steps": 10, **arguments})


def test_range_test_on_a_line_and_the_weights_are_put_back():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 4, 4, 1)).astype(np.float32)
    y = (x.mean((1, 2, 3)) > 0).astype(int)
    image = keras.Input((4, 4, 1))
    model = keras.Model(image, keras.layers.Dense(1, kernel_initializer="zeros")(keras.layers.Flatten()(image)))
    before = model.get_weights()
    curve = train.find_learning_rate(model, (x, y), optimizer="sgd", low=1e-4, high=100, steps=40)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    # Nothing has been learned at the first, tiny rate: the loss is that of guessing.
    assert curve.losses[0] == pytest.approx(np.log(2), abs=0.02)
    assert curve.losses.min() < 0.5 * np.log(2)
    assert curve.suggestion == pytest.approx(curve.rates[curve.losses.argmin()] / 10)
    again = train.find_learning_rate(model, (x, y), optimizer="sgd", low=1e-4, high=100, steps=40)
    np.testing.assert_array_equal(curve.losses, again.losses)
    with pytest.raises(ValueError, match="0 < low < high"):
        train.find_learning_rate(model, (x, y), low=1, high=1)


def test_the_curve_is_drawn_over_the_logarithm_of_the_rate():
    curve = optimize.LearningRateCurve(np.array([1e-3, 1e-2, 1e-1]), np.array([1.0, 0.5, 2.0]), 1e-3)
    panel = curve.plot().axes[0]
    assert panel.get_xscale() == "log"
    np.testing.assert_array_equal(panel.lines[0].get_ydata(), curve.losses)
