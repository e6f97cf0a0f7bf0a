"""Optimizers by name, their rules, and schedules by hand."""

import keras
import numpy as np
import pytest

from medlab.train import optimize, schedules

# On JAX Keras' get_weights hands variables to np.array, whose argument copy they do not know yet.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def rates(choice, steps):
    return [float(choice.schedule(step)) for step in steps]


def test_cosine_with_warm_up_by_hand():
    choice = optimize.make("adamw", learning_rate=0.1, steps=110, warmup=10 / 110)
    np.testing.assert_allclose(rates(choice, [9, 10, 60, 110]), [0.091, 0.1, 0.05, 0], atol=1e-7)
    choice = optimize.make("sgd", learning_rate=0.1, steps=100, warmup=0)
    np.testing.assert_allclose(rates(choice, [0, 50, 100]), [0.1, 0.05, 0], atol=1e-7)


@pytest.mark.parametrize(
    ("schedule", "steps", "values"),
    [
        # Half of 100 steps with the peak, a quarter with a tenth, a quarter with a hundredth.
        ("step", [0, 49, 50, 74, 75, 99], [2, 2, 0.2, 0.2, 0.02, 0.02]),
        # From a tenth up in 45 steps, back in 45, then to a ten-thousandth in 10; 22.5 steps are half of the way up.
        ("onecycle", [0, 22.5, 45, 67.5, 90, 95, 100], [0.2, 1.1, 2, 1.1, 0.2, 0.1001, 2e-4]),
        # Ten steps from a tenth of the peak, then the peak.
        ("warmup", [0, 5, 10, 99, 1000], [0.2, 1.1, 2, 2, 2]),
    ],
)
def test_corners_of_the_schedules_by_hand(schedule, steps, values):
    choice = optimize.make("sgd", learning_rate=2.0, schedule=schedule, steps=100, warmup=0.1)
    np.testing.assert_allclose(rates(choice, steps), values, rtol=1e-5)


@pytest.mark.parametrize("schedule", ["constant", "plateau"])
def test_a_rate_that_the_schedule_does_not_move(schedule):
    choice = optimize.make("adam", learning_rate=0.25, schedule=schedule, steps=100)
    assert choice.schedule is None
    assert float(choice.optimizer.learning_rate) == 0.25


@pytest.mark.parametrize("schedule", schedules.SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_few_steps_give_rates_between_zero_and_the_peak(schedule, steps):
    rate, _ = schedules.build(schedule, 1.0, steps)
    values = [float(rate(step)) if callable(rate) else rate for step in range(steps)]
    assert all(0 < value <= 1 for value in values)
    assert values[0] == max(values) or schedule in ("cosine", "warmup", "onecycle")


def test_a_schedule_of_lines_survives_its_configuration():
    made = schedules.Lines([0, 10], [1.0, 0.5])
    again = schedules.Lines.from_config(made.get_config())
    assert [float(again(step)) for step in (0, 5, 10, 20)] == [1.0, 0.75, 0.5, 0.5]


def test_rule_by_hand():
    assert optimize.rule("adamw", 32)[0] == 1e-3
    assert optimize.rule("adam", 128)[0] == pytest.approx(2e-3)
    assert optimize.rule("nesterov", 64)[0] == pytest.approx(0.1)
    assert "1e-3" not in optimize.rule("nesterov", 64)[1]
    assert "0.001 * sqrt(128 cases a step / 32)" in optimize.rule("adam", 128)[1]
    # Chen et al. 2023: Lion wants a third to a tenth of AdamW's rate, and as much more decay.
    ratio = optimize.rule("lion", 64)[0] / optimize.rule("adamw", 64)[0]
    assert 1 / 10 <= ratio <= 1 / 3
    lion, adamw = (optimize.make(name, steps=10) for name in ("lion", "adamw"))
    product = [choice.learning_rate * choice.optimizer.weight_decay for choice in (lion, adamw)]
    assert product[0] == pytest.approx(product[1])


def one_step(name, gradient, start, **settings):
    """Kernel and bias after one step with the gradient given."""
    kernel, bias = keras.Variable(start, name="kernel"), keras.Variable(start[0], name="bias")
    made = optimize.make(name, steps=10, schedule="constant", clip_norm=None, **settings).optimizer
    made.build([kernel, bias])
    made.apply([keras.ops.convert_to_tensor(gradient), keras.ops.convert_to_tensor(gradient[0])])
    return keras.ops.convert_to_numpy(kernel), keras.ops.convert_to_numpy(bias)


START, GRADIENT = np.full((2, 2), 4.0, np.float32), np.full((2, 2), 0.5, np.float32)


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("sgd", 0.1 * 0.5),
        ("momentum", 0.1 * 0.5),
        # Nesterov looks ahead along 0.9 times the first step.
        ("nesterov", 0.1 * 0.5 * 1.9),
        # The first mean of squares is a tenth of the square: the step is the rate times the root of ten.
        ("rmsprop", 0.1 * np.sqrt(10)),
        ("adam", 0.1),
        ("adamw", 0.1),
        ("lion", 0.1),
    ],
)
def test_the_first_step_of_each_optimizer_by_hand(name, step):
    kernel, bias = one_step(name, GRADIENT, START, learning_rate=0.1, weight_decay=0)
    np.testing.assert_allclose(kernel, 4 - step, rtol=1e-5)
    np.testing.assert_allclose(bias, 4 - step, rtol=1e-5)


@pytest.mark.parametrize("name", optimize.OPTIMIZERS)
def test_weights_decay_and_biases_do_not(name):
    """Without a gradient only the decay is left: rate times decay of the weight."""
    kernel, bias = one_step(name, 0 * GRADIENT, START, learning_rate=0.1, weight_decay=0.5)
    np.testing.assert_allclose(kernel, 4 * (1 - 0.05), rtol=1e-5)
    np.testing.assert_allclose(bias, 4, rtol=1e-6)


@pytest.mark.skipif("muon" not in optimize.OPTIMIZERS, reason="this Keras has no Muon")
def test_muon_turns_hidden_matrices_and_leaves_the_last_layer_to_adamw():
    image = keras.Input((8,))
    hidden = keras.layers.Dense(8, name="hidden")(image)
    model = keras.Model(image, keras.layers.Dense(2, name="head")(hidden))
    made = optimize.make(
        "muon", learning_rate=0.1, schedule="constant", steps=10, weight_decay=0, model=model
    ).optimizer
    made.build(model.trainable_variables)
    rng = np.random.default_rng(0)
    before = [np.asarray(one) for one in model.get_weights()]
    gradients = [keras.ops.convert_to_tensor(rng.normal(size=w.shape).astype("float32")) for w in before]
    made.apply(gradients)
    change = [after - start for after, start in zip(model.get_weights(), before, strict=True)]
    # AdamW's first step is the rate, whatever the gradient; Muon's is nearly orthogonal: singular values are alike.
    np.testing.assert_allclose(np.abs(change[2]), 0.1, rtol=1e-2)
    singular = np.linalg.svd(change[0], compute_uv=False)
    assert singular.max() / singular.min() < 3
    assert np.abs(change[0]).std() > 1e-3


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
        (
            {"optimizer": "adamm"},
            "no optimizer 'adamm'.*sgd, momentum, nesterov, rmsprop, adam, adamw, lion.*mean 'adam",
        ),
        ({"optimizer": "nestrov"}, "Did you mean 'nesterov'"),
        ({"optimizer": 3}, "name of an optimizer"),
        ({"learning_rate": 0}, "number above 0. Received 0"),
        ({"learning_rate": True}, "number above 0. Received True"),
        ({"learning_rate": float("nan")}, "number above 0. Received nan"),
        ({"learning_rate": "fast"}, "Received 'fast'"),
        ({"schedule": "sawtooth"}, "Received 'sawtooth'"),
        ({"schedule": "one_cycle"}, "Did you mean 'onecycle'"),
        ({"warmup": 1.0}, "warmup from 0"),
        ({"weight_decay": -0.1}, "weight_decay to be 0 or above"),
        ({"clip_norm": 0}, "clip_norm to be above 0"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        optimize.make(**{"optimizer": "adamw", "steps": 10, **arguments})
