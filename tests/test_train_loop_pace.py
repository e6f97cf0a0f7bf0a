"""The clock and the plateau: when training ends, and where the rate is by then; accumulation and clipping by hand."""

import time

import keras
import numpy as np
import pytest

from medlab import train
from medlab.train import pace

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def ones(n=4):
    return np.ones((n, 2, 2, 1), np.float32), np.arange(n) % 2


def linear():
    """A weight of 0 for each of four pixels, and none beside them."""
    image = keras.Input((2, 2, 1))
    dense = keras.layers.Dense(1, kernel_initializer="zeros", use_bias=False)
    return keras.Model(image, dense(keras.layers.Flatten()(image)))


def quiet(*given, **changes):
    wish = {"epochs": 1, "batch_size": 4, "progress": False, "precision": "float32", "ema": None, **changes}
    return train.fit(linear(), *given, **wish)


def test_time_ends_a_training_and_brings_the_rate_down(tmp_path):
    began = time.perf_counter()
    fitted = quiet(ones(512), ones(64), epochs=100_000, batch_size=8, max_seconds=6, run=tmp_path, patience=None)
    seconds = time.perf_counter() - began
    assert fitted.stopped == "the 6 seconds given are used up"
    assert 4 < fitted.history["seconds"].sum() < 12
    assert seconds < 20
    assert fitted.history["learning_rate"].max() > 3e-4
    assert fitted.history["learning_rate"].iloc[-1] < 0.05 * fitted.history["learning_rate"].max()
    assert "the schedule goes by the time" in fitted.choices["time"]
    # It is done: resuming finds nothing to do.
    again = quiet(
        ones(512), ones(64), epochs=100_000, batch_size=8, max_seconds=6, run=tmp_path, patience=None, resume=True
    )
    assert len(again.history) == len(fitted.history)
    assert again.stopped == fitted.stopped


def test_time_that_is_longer_than_the_epochs_changes_nothing():
    plain = quiet(ones(64), epochs=3, batch_size=8)
    timed = quiet(ones(64), epochs=3, batch_size=8, max_seconds=1000)
    assert timed.stopped is None
    np.testing.assert_allclose(timed.history["learning_rate"], plain.history["learning_rate"], atol=1e-4)
    constant = quiet(ones(64), epochs=3, batch_size=8, max_seconds=1000, schedule="constant")
    assert "cut there as it stands" in constant.choices["time"]


def test_the_rate_follows_the_larger_share_of_time_and_steps():
    budget = pace.Budget(100.0, used=0.0, steps=10, schedule=lambda step: 10 - step)
    assert budget.rate(1) == pytest.approx(9, abs=0.01)  # a tenth of the steps, hardly any time
    assert budget.rate(1) is None  # nothing new
    assert budget.rate(5) == pytest.approx(5, abs=0.01)
    budget.began -= 75
    assert budget.rate(6) == pytest.approx(2.5, abs=0.02)
    assert not budget.over()
    budget.closed(30.0)
    assert budget.over()
    with pytest.raises(ValueError, match="Expected max_seconds above 0"):
        quiet(ones(), max_seconds=0)


def rows(rates):
    return [{"learning_rate": rate, "loss": 1.0} for rate in rates]


def test_the_plateau_waits_from_the_best_epoch_and_from_the_last_change():
    assert not pace.lowered(rows([1, 1, 1]), best_epoch=1, wait=3)
    assert pace.lowered(rows([1, 1, 1, 1]), best_epoch=1, wait=3)
    assert not pace.lowered(rows([1, 1, 1, 1, 0.3, 0.3]), best_epoch=1, wait=3)
    assert pace.lowered(rows([1, 1, 1, 1, 0.3, 0.3, 0.3]), best_epoch=1, wait=3)
    assert not pace.lowered(rows([1, 1, 1, 1, 0.3, 0.3, 0.3]), best_epoch=6, wait=3)


def test_the_plateau_lowers_the_rate_where_nothing_gets_better(capsys):
    x, y = np.zeros((8, 2, 2, 1), np.float32), np.arange(8) % 2  # black images: the score never changes
    fitted = quiet((x, y), (x, y), epochs=9, schedule="plateau", learning_rate=0.1, patience=None, progress=True)
    np.testing.assert_allclose(fitted.history["learning_rate"], [0.1] * 4 + [0.03] * 3 + [0.009] * 2, rtol=1e-5)
    assert "learning rate 0.03 from here on: no better score for 3 epochs" in capsys.readouterr().err
    alone = quiet((x, y), epochs=6, schedule="plateau", learning_rate=0.1)
    np.testing.assert_allclose(alone.history["learning_rate"], [0.1] * 4 + [0.03] * 2, rtol=1e-5)


def test_accumulated_gradients_are_those_of_the_larger_batch():
    x = np.random.default_rng(0).normal(size=(16, 2, 2, 1)).astype(np.float32)
    y = np.arange(16) % 2
    wish = {"optimizer": "sgd", "learning_rate": 0.5, "schedule": "constant"}
    whole = quiet((x, y), batch_size=16, **wish)
    parts = quiet((x, y), batch_size=4, accumulate=4, **wish)
    np.testing.assert_allclose(parts.model.get_weights()[0], whole.model.get_weights()[0], rtol=1e-5)
    assert "gradients of 4 batches averaged" in parts.choices["optimizer"]
    # The rule for the rate looks at the cases that a step of the weights sees.
    assert quiet((x, y), epochs=2, batch_size=4, accumulate=8).choices["learning rate"].startswith("0.001 ")
    with pytest.raises(ValueError, match="accumulate to be a whole number"):
        quiet((x, y), accumulate=0)
    with pytest.raises(ValueError, match="by its own gradient_accumulation_steps"):
        quiet((x, y), optimizer=keras.optimizers.SGD(), accumulate=2)


def test_clipping_by_hand():
    """Logit 0 for label 1: the gradient of each of four pixels of value 1 is -1/2, their norm 1."""
    data = np.ones((4, 2, 2, 1), np.float32), np.array([1, 1, 1, 1])
    data[1][0] = 0  # three of four ones: the gradient is -1/4, the norm 1/2
    wish = {"optimizer": "sgd", "learning_rate": 1.0, "schedule": "constant"}
    free = quiet(data, clip=None, **wish).model.get_weights()[0]
    held = quiet(data, clip=0.1, **wish).model.get_weights()[0]
    np.testing.assert_allclose(free, 0.25, rtol=1e-5)
    np.testing.assert_allclose(held, 0.25 * 0.1 / 0.5, rtol=1e-5)


def test_a_rate_can_be_looked_for():
    x = np.random.default_rng(0).normal(size=(64, 2, 2, 1)).astype(np.float32)
    fitted = quiet((x, (x.mean((1, 2, 3)) > 0).astype(int)), learning_rate="find")
    assert "found by the range test" in fitted.choices["learning rate"]
