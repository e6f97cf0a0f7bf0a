"""The learning-rate range test: what it reads off known curves, and that it leaves everything as it was."""

import random

import keras
import numpy as np
import pytest

from medlab import train
from medlab.train import rates

# On JAX Keras' get_weights hands variables to np.array, whose argument copy they do not know yet.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

GRID = np.geomspace(1e-6, 1, 100)
RULE = (1e-3, "the rule")


def test_a_loss_that_falls_and_runs_away():
    """The loss falls by one half of itself around 1e-3 and explodes from 1e-1 on."""
    place = np.log10(GRID)
    raw = 1 - 0.5 / (1 + np.exp(-4 * (place + 3))) + np.where(place > -1, 10 ** (place + 1) - 1, 0)
    curve = rates.read(GRID, raw, fallback=RULE)
    # The smoothed loss trails by about ten steps, 0.6 decades.
    assert 1e-3 <= curve.steepest <= 1e-2
    assert 1e-2 <= curve.minimum <= 0.3
    assert curve.suggestion == pytest.approx(curve.minimum / 10)
    assert "least" in curve.reason
    assert curve.suggestion < 0.1, "the suggestion lies below the rate at which the loss runs away"


def test_a_loss_that_never_rises():
    curve = rates.read(GRID, np.linspace(1, 0.2, 100), fallback=RULE)
    assert curve.minimum == 1
    assert curve.suggestion == pytest.approx(0.1)
    assert "still falling at the highest rate" in curve.reason


def test_a_loss_that_neither_falls_nor_rises():
    noise = np.random.default_rng(0).normal(0.7, 0.02, 100)
    curve = rates.read(GRID, noise, fallback=RULE)
    assert curve.suggestion == RULE[0]
    assert "neither fell nor rose" in curve.reason
    assert np.isnan(curve.minimum)


def test_a_loss_that_only_rises():
    """It begins to rise at 1e-4, so that a rule of 1e-3 is too high and one of 1e-6 is not."""
    raw = 0.7 + np.maximum(np.log10(GRID) + 4, 0)
    high = rates.read(GRID, raw, fallback=RULE)
    assert 1e-5 <= high.suggestion <= 5e-5
    assert "only rose" in high.reason
    low = rates.read(GRID, raw, fallback=(1e-6, "the rule"))
    assert low.suggestion == 1e-6


@pytest.mark.parametrize("second", [np.nan, np.inf, 1e9])
def test_a_loss_that_runs_away_at_once(second):
    curve = rates.read(GRID[:2], np.array([0.7, second]), fallback=RULE)
    assert curve.suggestion < GRID[0]
    assert "ran away" in curve.reason


def test_a_loss_that_is_broken_before_anything_was_learned():
    with pytest.raises(ValueError, match=r"nan before anything was learned.*standardized"):
        rates.read(GRID, np.full(100, np.nan), fallback=RULE)


def line(rng, cases=64):
    """Images whose class is the sign of their mean, and a linear model with a dropout layer."""
    x = rng.normal(size=(cases, 4, 4, 1)).astype(np.float32)
    y = (x.mean((1, 2, 3)) > 0).astype(int)
    image = keras.Input((4, 4, 1))
    flat = keras.layers.Dropout(0.01, seed=1)(keras.layers.Flatten()(image))
    return (x, y), keras.Model(image, keras.layers.Dense(1, kernel_initializer="zeros", name="logits")(flat))


def test_on_a_line_and_all_is_put_back():
    data, model = line(np.random.default_rng(0))
    model.compile(keras.optimizers.Adam(0.125), "mse")
    given = keras.optimizers.SGD(0.5, momentum=0.9)
    before = [np.asarray(one) for one in model.variables]
    states = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    curve = train.find_learning_rate(model, data, optimizer=given, low=1e-4, high=100, steps=40)
    assert all(np.array_equal(a, np.asarray(b)) for a, b in zip(before, model.variables, strict=True))
    assert random.getstate() == states[0]
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert not given.built
    assert float(given.learning_rate) == 0.5
    assert float(model.optimizer.learning_rate) == 0.125
    assert int(model.optimizer.iterations) == 0
    # Nothing has been learned at the first, tiny rate: the loss is that of guessing.
    assert curve.losses[0] == pytest.approx(np.log(2), abs=0.02)
    assert curve.losses.min() < 0.5 * np.log(2)
    assert curve.suggestion == pytest.approx(curve.rates[np.nanargmin(curve.losses)] / 10)
    again = train.find_learning_rate(model, data, optimizer=given, low=1e-4, high=100, steps=40)
    np.testing.assert_array_equal(curve.losses, again.losses)


def test_fit_takes_the_rate_that_is_found():
    data, model = line(np.random.default_rng(0))
    curve = train.find_learning_rate(model, data, optimizer="nesterov")
    fitted = train.fit(model, data, epochs=1, optimizer="nesterov", learning_rate="find", progress=False)
    assert fitted.choices["learning rate"].startswith(f"{curve.suggestion:.3g} (")
    assert curve.reason in fitted.choices["learning rate"]


def test_one_batch_in_all_is_gone_through_again_and_again():
    data, model = line(np.random.default_rng(1), cases=10)

    class Data(keras.utils.PyDataset):
        def __init__(self):
            super().__init__()

        def __len__(self):
            return 1

        def __getitem__(self, index):
            return data

    curve = train.find_learning_rate(model, Data(), optimizer="sgd", low=1e-3, high=10, steps=12)
    assert len(curve.rates) == 12
    assert curve.raw[-1] < curve.raw[0]


def test_a_model_of_masks():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 8, 8, 1)).astype(np.float32)
    image = keras.Input((8, 8, 1))
    model = keras.Model(image, keras.layers.Conv2D(2, 3, padding="same", name="logits")(image))
    curve = train.find_learning_rate(model, (x, (x[..., 0] > 0).astype(int)), low=1e-4, high=1, steps=12, batch_size=4)
    assert curve.raw[-1] < curve.raw[0]


def test_errors():
    data, model = line(np.random.default_rng(0))
    with pytest.raises(ValueError, match="0 < low < high"):
        train.find_learning_rate(model, data, low=1, high=1)
    for steps in (9, 20.5, True, "20"):
        with pytest.raises(ValueError, match=r"Expected steps to be a whole number of at least 10. Received"):
            train.find_learning_rate(model, data, steps=steps)
    for size in (0, 2.5, None):
        with pytest.raises(ValueError, match=r"Expected batch_size to be a whole number of at least 1. Received"):
            train.find_learning_rate(model, data, batch_size=size)
    with pytest.raises(ValueError, match="Did you mean 'adam"):
        train.find_learning_rate(model, data, optimizer="adan")


def test_the_curve_is_drawn_over_the_logarithm_of_the_rate():
    curve = rates.LearningRateCurve(np.array([1e-3, 1e-2, 1e-1]), np.array([1.0, 0.5, 2.0]), 1e-3, "", 1e-2)
    panel = curve.plot().axes[0]
    assert panel.get_xscale() == "log"
    np.testing.assert_array_equal(panel.lines[0].get_ydata(), curve.losses)
    words = [text.get_text() for text in panel.get_legend().get_texts()]
    assert "suggestion, 1.0e-03" in words
    assert "least loss, 1.0e-02" in words
    assert not any("steepest" in one for one in words), "what was not found is not drawn"
