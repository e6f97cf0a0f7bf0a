"""Wishes that would train silently wrong: groups never filled, runaways in few steps, losses and labels that misfit."""

import keras
import numpy as np
import pytest

from medlab import train
from medlab.train import guards, losses

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def data(n=16, seed=0):
    x = np.random.default_rng(seed).normal(size=(n, 4, 4, 1)).astype(np.float32)
    return x, (x.mean((1, 2, 3)) > 0).astype(np.int64)


def linear(outputs=1, activation=None, name="m", start="zeros"):
    image = keras.Input((4, 4, 1))
    out = keras.layers.Dense(outputs, activation=activation, kernel_initializer=start)(keras.layers.Flatten()(image))
    return keras.Model(image, out, name=name)


def quiet(model, *given, **changes):
    wish = {"epochs": 2, "batch_size": 8, "progress": False, "precision": "float32", "devices": "cpu", **changes}
    return train.fit(model, *given, **wish)


def test_groups_of_batches_run_on_over_epochs_and_one_that_is_never_filled_is_refused():
    """Two batches of 8 an epoch: 4 of 8 in two epochs are one step of the mean gradient, as of one batch of 16."""
    settings = {"optimizer": "sgd", "learning_rate": 0.5, "schedule": "constant", "ema": None, "clip": None}
    fitted = quiet(linear(), data(), accumulate=4, **settings)
    one = quiet(linear(), data(), epochs=1, batch_size=16, **settings)
    for mine, wanted in zip(fitted.model.get_weights(), one.model.get_weights(), strict=True):
        np.testing.assert_allclose(mine, wanted, atol=1e-6)
    assert np.abs(one.model.get_weights()[0]).max() > 0.01
    with pytest.raises(ValueError, match=r"at most as many batches as the whole training has, 4. Received 5"):
        quiet(linear(), data(), accumulate=5)
    with pytest.raises(ValueError, match=r"whole training has, 4. Received 9"):
        quiet(linear(), data(), optimizer=keras.optimizers.SGD(0.1, gradient_accumulation_steps=9))
    said = quiet(linear(), data(), accumulate=3).choices["optimizer"]
    assert "(the last 1 of all 4 fill no group and are dropped)" in said


def test_the_rule_goes_by_the_batch_that_there_is():
    """Sixteen cases: sqrt(16 / 32) of 1e-3, however large a batch was asked for."""
    fitted = quiet(linear(), data(), batch_size=1000)
    assert fitted.choices["learning rate"].startswith("0.000707 (rule for adamw: 0.001 * sqrt(16 cases a step / 32)")


def test_a_runaway_of_one_step_an_epoch_is_seen():
    by_chance = data()[0], np.arange(16) % 2
    with pytest.raises(train.DivergedError, match=r"The loss grew from 0.693 to .* in step 1 of epoch 2"):
        quiet(
            linear(), by_chance, epochs=3, batch_size=16, optimizer="sgd", learning_rate=1e4, schedule="constant",
            ema=None, clip=None,
        )  # fmt: skip


def test_weights_that_ran_away_in_the_last_step_are_no_result():
    with pytest.raises(train.DivergedError, match=r"The weights became NaN.*learning rate is the likely cause.*No wei"):
        quiet(
            linear(), data(), epochs=1, batch_size=16, optimizer="sgd", learning_rate=1e30, schedule="constant",
            ema=None, clip=None,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("loss", "message"),
    [(np.nan, "validation loss became nan after epoch 3"), (np.inf, "became inf"), (2e4, "reached 2e[+]04 after")],
)
def test_the_validation_loss_is_judged(loss, message):
    guard = guards.LossGuard([None] * 2, "float32", known_scale=True)
    guard.start_epoch()
    assert guard.broken(0.7, epoch=1, rate=lambda: 0.1) is None
    assert guard.broken_in_validation(100.0, epoch=3, rate=lambda: 0.1) is None
    with pytest.raises(ValueError, match=message):
        raise ValueError(guard.broken_in_validation(loss, epoch=3, rate=lambda: 0.1))


@pytest.mark.parametrize("loss", ["mse", "mae", keras.losses.Huber(), keras.losses.mean_squared_error])
def test_a_loss_of_differences_needs_probabilities_for_classes(loss):
    _, y = data()
    with pytest.raises(ValueError, match=r'read as logits. Take loss="auto", or end the model in a sigmoid'):
        losses.choose(linear(), y, loss)
    assert losses.choose(linear(activation="sigmoid"), y, loss).task == "binary"


def test_numbers_that_are_no_classes_are_a_regression():
    """A linear model of a linear target: least squares leaves nothing."""
    x, _ = data(64)
    target = 30 + 5 * x.mean((1, 2, 3))
    fitted = quiet(linear(), (x, target), (x, target), loss="mse", epochs=300, batch_size=64, optimizer="momentum",
                   learning_rate=0.05, clip=None, ema=None, patience=None)  # fmt: skip
    assert "val_auc" not in fitted.history.dropna(axis=1)
    np.testing.assert_allclose(fitted.model.predict(x, verbose=0)[:, 0], target, atol=0.1)
    assert losses.choose(linear(), np.array([23, 67]), "mse").task == "other"  # ages
    own = losses.choose(linear(), target, lambda y, out: (y - out) ** 2)
    assert own.task == "other"
    assert own.encode(target).shape == (64, 1)


def test_rows_with_a_single_one_are_one_class_a_case():
    x, _ = data(24)
    three = np.arange(24) % 3
    rows = np.eye(3)[three]
    wish = {"class_weight": {1: 2.0}, "ema": None}
    by_rows = quiet(linear(3), (x, rows), (x, rows), **wish)
    by_index = quiet(linear(3), (x, three), (x, three), **wish)
    assert "one of 3 classes a case" in by_rows.choices["loss"]
    assert "each row of the labels has a single 1" in by_rows.choices["loss"]
    for column in ("loss", "val_loss", "val_auc", "val_accuracy"):
        np.testing.assert_array_equal(by_rows.history[column], by_index.history[column])
    assert losses.choose(linear(3, name="m_multi_label"), rows).task == "multilabel"
    assert losses.choose(linear(3, "sigmoid"), rows).task == "multilabel"
    assert losses.choose(linear(3, "softmax"), rows).task == "multiclass"
    assert losses.choose(linear(3), rows, "masked_bce").task == "multilabel"
    with pytest.raises(ValueError, match=r"single 1 in each row of the validation labels"):
        quiet(linear(3), (x, rows), (x, np.ones((24, 3))))


def test_validation_labels_have_the_form_of_the_trainings():
    x, _ = data(24)
    three = np.arange(24) % 3
    rows = np.eye(3)[three]
    for train_y, held_out in ((three, rows), (rows, three), (three, np.zeros((24, 4, 4), int))):
        with pytest.raises(ValueError, match=r"validation labels in the form of the training's"):
            quiet(linear(3), (x, train_y), (x, held_out))


@pytest.mark.parametrize("gap", [np.nan, -1])
def test_validation_alone_may_miss_labels(gap):
    """Logits of 0: each known label costs log 2, and the missing ones nothing."""
    x, y = data(24)
    both = np.stack([y, y, np.arange(24) % 2], axis=1).astype(float)
    missing = both.copy()
    missing[:5, 0] = gap
    fitted = quiet(linear(3), (x, both), (x, missing), learning_rate=1e-30, schedule="constant", ema=None, epochs=1)
    assert fitted.history["val_loss"][0] == pytest.approx(np.log(2), abs=1e-6)


class Softly:
    def __call__(self, x, keys):
        return x


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"loss": None}, "Expected loss to be .* Received None"),
        ({"loss": 3}, "Expected loss to be .* Received 3"),
        ({"loss": keras.losses.SparseCategoricalCrossentropy(True)}, "needs an output for each class"),
        ({"class_weight": [1, 2]}, "or a dict such as {0: 1.0, 1: 3.0}. Received \\[1, 2\\]"),
        ({"class_weight": {0: "1"}}, "class weights above 0. Received '1'"),
        ({"max_seconds": "5"}, "Expected max_seconds as a number. Received '5'"),
        ({"warmup": "x"}, "Expected warmup as a number. Received 'x'"),
        ({"augment": 1}, "Expected augment as a function"),
        ({"augment": Softly()}, "Expected augment to give a pair.*return x, None"),
        ({"clip": 0}, "Expected clip above 0, or None. Received 0"),
        ({"learning_rate": "find", "optimizer": keras.optimizers.Adam()}, '"find" is for an optimizer by name'),
    ],
)
def test_wishes_that_are_refused_say_what_was_meant(wish, message):
    with pytest.raises(ValueError, match=message):
        quiet(linear(), data(), **wish)


def test_what_is_no_model_is_said():
    with pytest.raises(ValueError, match=r"Expected a Keras model. Received 'resnet'; medlab.models.make"):
        quiet("resnet", data())
    with pytest.raises(ValueError, match=r"Expected a Keras model.*call the function"):
        quiet(linear, data())
    image = keras.Input((4, 4, 1))
    flat = keras.layers.Dense(1)(keras.layers.Flatten()(image))
    with pytest.raises(ValueError, match=r"softmax of one output, which is 1 for every image"):
        quiet(keras.Model(image, keras.layers.Softmax()(flat)), data())


def test_a_run_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"The run folder .* cannot be made"):
        quiet(linear(), data(), run=tmp_path / "file" / "run")


def test_a_schedule_beside_an_optimizer_is_said_not_to_be_used():
    said = quiet(linear(), data(), optimizer=keras.optimizers.Adam(0.01), schedule="step").choices["learning rate"]
    assert said == "0.01 (that of the adam given; schedule='step' is not used: the optimizer has its own rate)"
