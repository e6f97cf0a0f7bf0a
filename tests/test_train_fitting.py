"""Training: what it learns, what it keeps, that it repeats and resumes exactly, and what it refuses."""

import json
import os
import signal

import keras
import numpy as np
import pandas as pd
import pytest

from medlab import models, train

# On JAX Keras' get_weights hands variables to np.array, whose argument copy they do not know yet.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def blobs(n, seed, size=12):
    """Noise; the positive half has a bright spot somewhere."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, size, size, 1)).astype(np.float32)
    y = np.arange(n) % 2
    for case in np.flatnonzero(y):
        i, j = rng.integers(2, size - 2, 2)
        x[case, i - 1 : i + 2, j - 1 : j + 2] += 3
    return x, y


def network(outputs=1, seed=0):
    """All that a network has to remember: running statistics, dropout, weights. Small, so that it starts fast."""
    start = keras.initializers.GlorotUniform(seed)
    image = keras.Input((12, 12, 1))
    x = keras.layers.Conv2D(8, 3, kernel_initializer=start, name="stem")(image)
    x = keras.layers.BatchNormalization(momentum=0.9)(x)
    x = keras.layers.Activation("relu")(x)
    x = keras.layers.Dropout(0.1, seed=seed)(keras.layers.GlobalMaxPooling2D()(x))
    return keras.Model(image, keras.layers.Dense(outputs, kernel_initializer=start, name="logits")(x), name="tiny")


def shift(x, keys):
    """An augmentation that follows from its keys alone."""
    moved = [np.roll(image, key.sum() % 3, axis=0) for image, key in zip(x, keys, strict=True)]
    return np.stack(moved), None


def quiet(model, *data, **changes):
    return train.fit(model, *data, **{"epochs": 2, "batch_size": 16, "progress": False, **changes})


def numbers(history):
    return history.drop(columns="seconds")


def test_it_learns_a_spot_in_noise_and_the_run_folder_has_everything(tmp_path):
    fitted = quiet(network(), blobs(192, 0), blobs(64, 1), epochs=8, learning_rate=0.01, run=tmp_path / "run")
    assert fitted.history["val_auc"].max() > 0.9
    ranked = fitted.history.sort_values(["val_auc", "val_loss"], ascending=[False, True])
    assert fitted.best_epoch == ranked["epoch"].iloc[0]
    x, y = blobs(64, 1)
    best = fitted.history.iloc[fitted.best_epoch - 1]
    # The history was measured at the precision of training, the model predicts in float32.
    assert train.auc(y, fitted.model.predict(x, verbose=0)) == pytest.approx(best["val_auc"], abs=0.01)
    saved = keras.models.load_model(tmp_path / "run" / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(saved.predict(x, verbose=0), fitted.model.predict(x, verbose=0))
    assert {layer.dtype_policy.name for layer in saved.layers} == {"float32"}
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "run" / "history.csv"), fitted.history)
    facts = json.loads((tmp_path / "run" / "run.json").read_text())["train"]
    assert facts["best_epoch"] == fitted.best_epoch
    assert facts["weights"] == fitted.model.count_params()
    assert facts["finished"] is True
    assert facts["validation_auc"] == pytest.approx(best["val_auc"])


def test_a_resumed_training_notices_another_loss_or_network_of_the_same_shape(tmp_path):
    def loss(power):
        return lambda y, z: keras.ops.mean(keras.ops.abs(keras.ops.sigmoid(z) - y) ** power)

    data, wish = blobs(32, 0), {"run": tmp_path / "run", "resume": True, "epochs": 1}
    first = quiet(network(), data, loss=loss(2), **wish)
    assert len(quiet(network(), data, loss=loss(2), **wish).history) == len(first.history) == 1
    with pytest.raises(ValueError, match=r"had other settings .*loss: "):
        quiet(network(), data, loss=loss(3), **wish)
    other = network()
    next(one for one in other.layers if one.name.endswith("relu") or hasattr(one, "activation")).trainable = False
    with pytest.raises(ValueError, match=r"had other settings .*model: "):
        quiet(other, data, loss=loss(2), **wish)


def test_the_same_seed_gives_the_same_numbers():
    data, held_out = blobs(48, 0), blobs(16, 1)
    first = quiet(network(), data, held_out, augment=shift, seed=3)
    same = quiet(network(), data, held_out, augment=shift, seed=3)
    other = quiet(network(), data, held_out, augment=shift, seed=4)
    pd.testing.assert_frame_equal(numbers(first.history), numbers(same.history), check_exact=True)
    for a, b in zip(first.model.get_weights(), same.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert first.history["loss"][0] != other.history["loss"][0]


@pytest.fixture
def ctrl_c():
    """Ctrl-C interrupts, as in a terminal; a shell's background jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_training_that_was_interrupted_goes_on_as_if_it_had_not_been(tmp_path, optimizer, capsys, ctrl_c):
    data, held_out = blobs(48, 0), blobs(16, 1)
    wish = {"epochs": 4, "optimizer": optimizer}
    whole = quiet(network(), data, held_out, augment=shift, run=tmp_path / "whole", **wish)

    class Interrupted:
        """The same augmentation, until someone presses Ctrl-C in the third epoch."""

        pressed = False

        def __repr__(self):
            return "shift"

        def __call__(self, x, keys):
            if keys[0, 1] == 2 and not self.pressed:
                self.pressed = True
                os.kill(os.getpid(), signal.SIGINT)
            return shift(x, keys)

    class Same(Interrupted):
        def __call__(self, x, keys):
            return shift(x, keys)

    with pytest.raises(KeyboardInterrupt):
        quiet(network(), data, held_out, augment=Interrupted(), run=tmp_path / "run", progress=True, **wish)
    assert "2 whole epochs are in the run folder: call fit again with resume=True" in capsys.readouterr().err
    assert len(pd.read_csv(tmp_path / "run" / "history.csv")) == 2
    assert (tmp_path / "run" / "model.keras").is_file()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["train"]["finished"] is False
    # Weights, optimizer, dropout and running mean all come from the folder, not from the new model.
    resumed = quiet(network(seed=9), data, held_out, augment=Same(), run=tmp_path / "run", resume=True, **wish)
    pd.testing.assert_frame_equal(numbers(resumed.history), numbers(whole.history), check_exact=True)
    for a, b in zip(whole.model.get_weights(), resumed.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    again = quiet(network(), data, held_out, augment=Same(), run=tmp_path / "run", resume=True, **wish)
    pd.testing.assert_frame_equal(numbers(again.history), numbers(whole.history), check_exact=True)
    with pytest.raises(ValueError, match=r"had other settings .*epochs: 4 there, 5 now"):
        quiet(network(), data, held_out, augment=Same(), run=tmp_path / "run", resume=True, **{**wish, "epochs": 5})
    other = (data[0] + 1, data[1])
    with pytest.raises(ValueError, match=r"had other settings .*training cases"):
        quiet(network(), other, held_out, augment=Same(), run=tmp_path / "run", resume=True, **wish)
    (tmp_path / "run" / "last.npz").write_bytes(b"PK half a file")
    with pytest.raises(ValueError, match=r"cannot be read .* Delete it to start anew"):
        quiet(network(), data, held_out, augment=Same(), run=tmp_path / "run", resume=True, **wish)


def test_without_resume_nothing_of_an_earlier_training_stays(tmp_path):
    quiet(network(), blobs(32, 0), blobs(16, 1), epochs=3, run=tmp_path)
    quiet(network(), blobs(32, 0), blobs(16, 1), epochs=1, run=tmp_path)
    assert len(pd.read_csv(tmp_path / "history.csv")) == 1


def test_choices_are_said_once_and_an_epoch_is_a_line(capsys):
    fitted = train.fit(network(), blobs(32, 0), blobs(16, 1), epochs=2, batch_size=16, class_weight="balanced")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "training tiny (121 weights) on 16 + 16 cases"
    said = {line.split(maxsplit=1)[0] for line in lines[1:]}
    assert {"device", "precision", "arithmetic", "loss", "class", "learning", "optimizer", "best", "epoch"} == said
    assert sum(line.startswith("epoch ") for line in lines) == 2
    assert fitted.choices["loss"] == "binary cross-entropy: labels 0 and 1, one logit"
    assert fitted.choices["class weights"] == "balanced: 1, 1 for 16, 16 cases of the classes"
    assert fitted.choices["learning rate"].startswith("0.000707 (rule for adamw: 0.001 * sqrt(16 cases a step / 32)")
    assert fitted.precision in fitted.choices["precision"]


def test_several_classes_and_several_labels():
    x, y = blobs(48, 0)
    three = (np.arange(48) % 3).astype(np.int64)
    fitted = quiet(network(3), (x, three), (x, three), epochs=1, label_smoothing=0.1)
    assert "one of 3 classes" in fitted.choices["loss"]
    both = np.stack([y, 1 - y, three == 0], axis=1)
    fitted = quiet(network(3), (x, both), (x, both), epochs=1)
    p = 1 / (1 + np.exp(-fitted.model.predict(x, verbose=0)))
    assert train.auc(both, p) == pytest.approx(fitted.history["val_auc"][0], abs=0.02)


def test_volumes():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 8, 8, 10, 1)).astype(np.float32)
    fitted = quiet(models.small_cnn((8, 8, 10, 1), width=4), (x, np.arange(8) % 2), epochs=1)
    assert np.isfinite(fitted.history["loss"]).all()


def test_without_validation_the_last_weights_are_kept():
    fitted = quiet(network(), blobs(32, 0))
    assert fitted.best_epoch == 2
    assert fitted.history["val_auc"].isna().all()
    assert "no validation set" in fitted.choices["best weights"]


def test_one_class_in_validation_falls_back_to_the_loss():
    x, y = blobs(32, 1)
    fitted = quiet(network(), blobs(32, 0), (x[y == 1], y[y == 1]))
    assert fitted.history["val_auc"].isna().all()
    assert fitted.best_epoch == fitted.history["epoch"][fitted.history["val_loss"].argmin()]


def test_patience_ends_a_training_that_learns_nothing():
    x = np.zeros((16, 12, 12, 1), np.float32)
    data = x, np.arange(16) % 2
    fitted = quiet(network(), data, data, epochs=9, patience=2, learning_rate=1e-30, schedule="constant", ema=None)
    assert len(fitted.history) < 9
    assert fitted.stopped == "no better validation score for 2 epochs"


def test_the_running_mean_is_what_is_kept():
    """With momentum m the mean is m * mean + (1 - m) * weights a step; the first step starts it."""
    image = keras.Input((2, 2, 1))
    model = keras.Model(image, keras.layers.Dense(1, kernel_initializer="zeros")(keras.layers.Flatten()(image)))
    x, y = np.ones((4, 2, 2, 1), np.float32), np.array([1, 1, 1, 0])
    plain = [
        quiet(keras.models.clone_model(model), (x, y), epochs=n, batch_size=4, ema=None, schedule="constant",
              optimizer="sgd").model.get_weights()[1][0]
        for n in (1, 2, 3)
    ]  # fmt: skip
    fitted = quiet(model, (x, y), epochs=3, batch_size=4, ema=0.75, schedule="constant", optimizer="sgd")
    wanted = 0.75 * (0.75 * plain[0] + 0.25 * plain[1]) + 0.25 * plain[2]
    assert fitted.model.get_weights()[1][0] == pytest.approx(wanted, rel=1e-5)


def test_class_weights_count_in_the_loss():
    image = keras.Input((2, 2, 1))
    model = keras.Model(image, keras.layers.Dense(1, kernel_initializer="zeros")(keras.layers.Flatten()(image)))
    x = np.ones((4, 2, 2, 1), np.float32)
    fitted = quiet(model, (x, np.array([1, 1, 1, 0])), epochs=1, batch_size=4, class_weight={0: 5.0})
    assert fitted.history["loss"][0] == pytest.approx(np.log(2) * (3 + 5) / 4, rel=1e-5)


def test_sequential_and_nested_models_and_a_given_optimizer():
    inner = keras.Sequential([keras.Input((12, 12, 1)), keras.layers.Conv2D(4, 3), keras.layers.GlobalMaxPooling2D()])
    model = keras.Sequential([inner, keras.layers.Dense(1, activation="sigmoid")])
    model.build((None, 12, 12, 1))
    fitted = quiet(model, blobs(32, 0), blobs(16, 1), optimizer=keras.optimizers.Adam(0.01), epochs=1)
    assert fitted.choices["learning rate"] == "0.01 (that of the adam given)"
    assert "sigmoid" in fitted.choices["loss"]
    assert fitted.model is model


def test_a_pydataset(tmp_path):
    class Data(keras.utils.PyDataset):
        def __init__(self, n, seed):
            super().__init__()
            self.x, self.y = blobs(n, seed)

        def __len__(self):
            return len(self.x) // 8

        def __getitem__(self, index):
            part = slice(8 * index, 8 * index + 8)
            return self.x[part], self.y[part]

    fitted = quiet(network(), Data(32, 0), Data(16, 1), run=tmp_path)
    assert len(fitted.history) == 2
    arrays = quiet(network(), Data(32, 0), blobs(16, 1))
    np.testing.assert_allclose(arrays.history["val_auc"], fitted.history["val_auc"], atol=1e-6)
    with pytest.raises(ValueError, match="A PyDataset augments by itself"):
        quiet(network(), Data(32, 0), augment=shift)


def test_a_loss_that_is_not_finite_is_an_error_and_the_best_weights_stay(tmp_path):
    with pytest.raises(train.DivergedError, match=r"loss became nan in step 1 of epoch 1 .*from the first step"):
        quiet(network(), blobs(32, 0), loss=lambda y, out: keras.ops.log(-1 - out * out), run=tmp_path)
    assert json.loads((tmp_path / "run.json").read_text())["train"]["finished"] is False


def test_an_error_in_the_augmentation_is_raised_as_it_is():
    def broken(x, keys):
        raise LookupError("no such artifact")

    with pytest.raises(LookupError, match="no such artifact"):
        quiet(network(), blobs(32, 0), augment=broken)
    with pytest.raises(ValueError, match=r"augment to keep the shape \(16, 12, 12, 1\). It gave \(16, 12, 6, 1\)"):
        quiet(network(), blobs(32, 0), augment=lambda x, keys: (x[:, :, ::2], None))


def test_tensorboard_writes_its_files_or_says_what_is_missing(tmp_path):
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        with pytest.raises(ValueError, match="pip install tensorboard"):
            quiet(network(), blobs(32, 0), run=tmp_path, tensorboard=True)
    else:
        quiet(network(), blobs(32, 0), run=tmp_path, tensorboard=True)
        assert list((tmp_path / "tensorboard").rglob("events.out*"))


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"epochs": 0}, "epochs to be a whole number of at least 1. Received 0"),
        ({"epochs": 1.5}, "epochs to be a whole number"),
        ({"batch_size": 0}, "batch_size to be"),
        ({"seed": -1}, "seed to be"),
        ({"ema": 1.0}, "Expected ema"),
        ({"patience": 0}, "Expected patience"),
        ({"resume": True}, "need a run folder"),
        ({"precision": "float8"}, "Expected precision"),
        ({"class_weight": "even"}, "Expected class_weight"),
    ],
)
def test_wishes_that_are_refused(wish, message):
    data = blobs(16, 0)
    with pytest.raises(ValueError, match=message):
        quiet(network(), data, data, **wish)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x, np.zeros_like(y)), "All 16 training cases have the same label 0"),
        (lambda x, y: (x, y[:-1]), "as many training labels as images"),
        (lambda x, y: (x * np.nan, y), "16 of 16 training images hold NaN"),
        (lambda x, y: (x, y + 1), r"training labels 0 to 1 .* Received \[2\]"),
        (lambda x, y: (x[:, :8], y), "The model takes images of shape"),
        (lambda x, y: (x[:0], y[:0]), "at least one training case"),
    ],
)
def test_data_that_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        quiet(network(), change(*blobs(16, 0)))


def test_models_that_are_refused():
    data = blobs(16, 0)
    unbuilt = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match="Expected a model that knows its input"):
        quiet(unbuilt, data)
    frozen = network()
    frozen.trainable = False
    with pytest.raises(ValueError, match="'tiny' are frozen"):
        quiet(frozen, data)
    image = keras.Input((12, 12, 1))
    flat = keras.layers.Flatten()(image)
    several = keras.Model(image, [keras.layers.Dense(1)(flat), keras.layers.Dense(1)(flat)])
    with pytest.raises(ValueError, match="model with one output"):
        quiet(several, data)


def test_frozen_layers_stay_as_they_are():
    model = network()
    model.get_layer("stem").trainable = False
    frozen, moving = (model.get_layer(name).get_weights()[0].copy() for name in ("stem", "logits"))
    quiet(model, blobs(32, 0), blobs(16, 1))
    np.testing.assert_array_equal(model.get_layer("stem").get_weights()[0], frozen)
    assert not np.array_equal(model.get_layer("logits").get_weights()[0], moving)


def test_the_model_given_is_not_compiled_and_can_be_trained_on():
    model = network()
    first = quiet(model, blobs(32, 0))
    assert not model.compiled
    again = quiet(model, blobs(32, 0))
    assert again.history["loss"][0] < first.history["loss"][0]
