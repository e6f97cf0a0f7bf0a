"""Repeats and cross-validation: what is judged, that no patient is in two folds, and that nothing is trained twice."""

import keras
import numpy as np
import pandas as pd
import pytest

from medlab import train
from medlab.train import folds, identity, progress

# On JAX Keras' get_weights hands variables to np.array, whose argument copy they do not know yet.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def line(n, seed, classes=2):
    """Images whose class is written in their first pixel, under some noise."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    x = rng.normal(0, 0.3, size=(n, 2, 2, 1)).astype(np.float32)
    x[:, 0, 0, 0] += y
    return x, y


def linear(seed, outputs=1):
    image = keras.Input((2, 2, 1))
    start = keras.initializers.GlorotUniform(seed)
    flat = keras.layers.Flatten()(image)
    return keras.Model(image, keras.layers.Dense(outputs, kernel_initializer=start, name="logits")(flat), name="linear")


WISH = {"epochs": 2, "learning_rate": 0.1, "progress": False, "precision": "float32"}


@pytest.fixture(scope="module")
def repeated(tmp_path_factory):
    """Two seeds in a run folder, with a test set."""
    folder = tmp_path_factory.mktemp("repeats")
    sets = line(32, 0), line(16, 1), line(16, 2)
    return folder, sets, train.repeat(linear, *sets, seeds=(0, 3), run=folder, **WISH)


def test_each_row_is_the_training_with_that_seed(repeated):
    _, (data, held_out, test), found = repeated
    alone = train.fit(linear(3), data, held_out, seed=3, **WISH)
    row = found.table.set_index("seed").loc[3]
    best = alone.history.iloc[alone.best_epoch - 1]
    assert row["val_auc"] == best["val_auc"]
    assert row["val_loss"] == pytest.approx(best["val_loss"], rel=1e-6)
    logits = np.asarray(alone.model(test[0])).reshape(-1)
    np.testing.assert_allclose(found.test[1], 1 / (1 + np.exp(-logits)), rtol=1e-5)
    assert row["test_auc"] == train.auc(test[1], logits)


def test_the_spread_and_the_ensemble_by_hand(repeated):
    _, (_, _, test), found = repeated
    areas = found.table["test_auc"].to_numpy()
    summary = found.summary.loc["test_auc"]
    assert summary["mean"] == pytest.approx(areas.mean())
    assert summary["sd"] == pytest.approx(abs(areas[0] - areas[1]) / np.sqrt(2))
    assert (summary["lowest"], summary["highest"]) == (areas.min(), areas.max())
    assert found.ensemble["test_auc"] == train.auc(test[1], found.test.mean(axis=0))
    np.testing.assert_allclose([np.asarray(one(test[0])).reshape(-1) > 0 for one in found.models()], found.test > 0.5)


def test_what_is_finished_is_read_and_one_seed_more_is_trained(repeated, capsys):
    folder, sets, found = repeated
    again = train.repeat(linear, *sets, seeds=(0, 3), run=folder, **WISH)
    pd.testing.assert_frame_equal(again.table, found.table)  # with its seconds: nothing was trained
    np.testing.assert_array_equal(again.validation, found.validation)
    more = train.repeat(linear, *sets, seeds=(0, 3, 7), run=folder, **WISH | {"progress": True})
    pd.testing.assert_frame_equal(more.table[:2], found.table)
    assert list(more.table["seed"]) == [0, 3, 7]
    assert "seed 7 (3 of 3): validation AUC" in capsys.readouterr().err


def test_a_folder_of_other_settings_or_data_is_not_taken_for_these(repeated):
    folder, sets, _ = repeated
    with pytest.raises(ValueError, match="had other learning_rate"):
        train.repeat(linear, *sets, seeds=(0,), run=folder, **WISH | {"learning_rate": 0.2})
    with pytest.raises(ValueError, match="had other data"):
        train.repeat(linear, sets[1], *sets[1:], seeds=(0,), run=folder, **WISH)


def deeper(seed):
    """As many weights of the same shapes as ``linear`` and a dropout."""
    image = keras.Input((2, 2, 1))
    start = keras.initializers.GlorotUniform(seed)
    flat = keras.layers.Dropout(0.5)(keras.layers.Flatten()(image))
    return keras.Model(image, keras.layers.Dense(1, kernel_initializer=start, name="logits")(flat), name="linear")


def moved(seed):
    model = linear(seed)
    model.set_weights([weight + 0.01 for weight in model.get_weights()])
    return model


def unseeded(seed):
    model = linear(seed)
    model.set_weights([np.random.default_rng().normal(size=one.shape) for one in model.get_weights()])
    return model


@pytest.mark.parametrize(
    ("other", "message"),
    [(deeper, r"finished training in .* had other model\. Give"), (moved, r"had other model \(its start weights\)")],
)
def test_a_folder_of_another_network_is_not_taken_for_this_one(repeated, tmp_path, other, message):
    folder, sets, _ = repeated
    with pytest.raises(ValueError, match=message):
        train.repeat(other, *sets, seeds=(0,), run=folder, **WISH)
    x, y = sets[0]
    train.cross_validate(linear, x, y, folds=2, run=tmp_path, **WISH)
    with pytest.raises(ValueError, match=message):
        train.cross_validate(other, x, y, folds=2, run=tmp_path, **WISH)


def test_start_weights_without_a_seed_are_not_compared(tmp_path):
    data = line(16, 0)
    first = train.repeat(unseeded, data, data, seeds=(0,), run=tmp_path, **WISH)
    pd.testing.assert_frame_equal(
        train.repeat(unseeded, data, data, seeds=(0,), run=tmp_path, **WISH).table, first.table
    )


def test_functions_are_told_apart_by_what_they_do(tmp_path):
    data = line(16, 0)

    def times(factor):
        return lambda x, keys: (x * factor, None)

    def squares(factor):
        return lambda truth, outputs: keras.ops.mean((truth - outputs) ** 2) * factor

    wish = WISH | {"seeds": (0,), "run": tmp_path, "augment": times(2), "loss": squares(1)}
    found = train.repeat(linear, data, data, **wish)
    again = train.repeat(linear, data, data, **wish | {"augment": times(2), "loss": squares(1)})
    pd.testing.assert_frame_equal(again.table, found.table)
    with pytest.raises(ValueError, match="had other augment"):
        train.repeat(linear, data, data, **wish | {"augment": times(3)})
    with pytest.raises(ValueError, match="had other loss"):
        train.repeat(linear, data, data, **wish | {"loss": squares(2)})
    with pytest.raises(ValueError, match="had other loss"):
        train.repeat(linear, data, data, **wish | {"loss": lambda truth, outputs: keras.ops.mean(abs(truth - outputs))})


def test_a_network_is_the_same_whatever_keras_numbered_it():
    def network(rate):
        image = keras.Input((4, 4, 1))
        x = keras.layers.Conv2D(2, 3, kernel_initializer=keras.initializers.GlorotUniform(1))(image)
        x = keras.layers.Lambda(lambda one: one * rate, output_shape=(2, 2, 2))(keras.layers.ReLU()(x))
        return keras.Model(image, keras.layers.Dense(1, kernel_initializer="ones")(keras.layers.Flatten()(x)))

    one, two, other = identity.of_model(network(2)), identity.of_model(network(2)), identity.of_model(network(3))
    assert one == two
    assert one["model"] != other["model"]
    assert one["start weights"] == other["start weights"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x, y + 1), r"Expected test labels 0 to 1.*Received \[2\]"),
        (lambda x, y: (x, np.where(y > 0, np.nan, 0)), "4 test case.* have NaN"),
        (lambda x, y: (x, y.astype(str)), "Expected test labels of numbers"),
        (lambda x, y: (x[:, :1], y), "Received test images of shape"),
        (lambda x, y: (x * np.nan, y), "8 of 8 test images hold NaN"),
        (lambda x, y: (x[:0], y[:0]), "at least one test case"),
        (lambda x, y: (x, np.stack([y, y], axis=1)), "Expected test labels of shape"),
        (lambda x, y: (x, y[:3]), "as many test labels"),
    ],
)
def test_test_cases_are_checked_before_the_first_training(tmp_path, change, message):
    data = line(8, 0)
    with pytest.raises(ValueError, match=message):
        train.repeat(linear, data, data, change(*data), seeds=(0,), run=tmp_path, **WISH)
    assert not any(tmp_path.rglob("model.keras"))


def test_a_model_in_place_of_a_function_and_the_same_model_for_all_seeds():
    data, one = line(8, 0), linear(0)
    before = one.get_weights()
    with pytest.raises(ValueError, match=r"Expected make_model, a function .* Received Functional"):
        train.repeat(one, data, data, **WISH)
    with pytest.raises(ValueError, match="gave the same model 'linear' twice"):
        train.repeat(lambda seed: one, data, data, **WISH)
    with pytest.raises(ValueError, match="gave the same model 'linear' twice"):
        train.cross_validate(lambda seed: one, *data, folds=2, **WISH)
    assert all(np.array_equal(a, b) for a, b in zip(before, one.get_weights(), strict=True))


class Button:
    """A finger on the button Stop while the seed of this number is trained."""

    def __init__(self, monkeypatch, press):
        self.trainings, self.press = 0, press
        monkeypatch.setattr(progress.Progress, "begin", self.begin)
        monkeypatch.setattr(progress.Progress, "stop_asked", self.asked)

    def begin(self, rows):
        self.trainings += 1

    def asked(self, done):
        return self.trainings == self.press and done >= 1


def test_after_stop_no_further_seed_or_fold_begins(monkeypatch, tmp_path, capsys):
    data = line(32, 0)
    button = Button(monkeypatch, press=2)
    found = train.repeat(linear, data, data, seeds=4, run=tmp_path, **WISH | {"epochs": 4})
    assert button.trainings == 2
    assert found.table["seed"].tolist() == [0, 1]
    assert found.table["epochs"].tolist()[0] == 4
    assert found.table["epochs"].tolist()[1] < 4
    assert len(found.validation) == len(found.folders) == 2
    assert "stopped by hand in seed 1: 2 of 4 seeds were not trained" in capsys.readouterr().err
    button.press = 0
    whole = train.repeat(linear, data, data, seeds=4, run=tmp_path, **WISH | {"epochs": 4})
    assert button.trainings == 5, "what was stopped goes on, what was finished does not"
    assert whole.table["epochs"].tolist() == [4] * 4
    button.press = 6
    found = train.cross_validate(linear, *data, folds=3, **WISH)
    assert button.trainings == 6
    assert np.isnan(found.probabilities[found.fold > 0]).all()
    assert not np.isnan(found.probabilities[found.fold == 0]).any()
    assert found.notes[-1].startswith("Stopped by hand in fold 1 of 3")


@pytest.mark.parametrize("seeds", [3.5, True, "012", (-1, 0), (0.5,), 0, None])
def test_seeds_that_are_none(seeds):
    data = line(8, 0)
    with pytest.raises(ValueError, match="Expected at least one seed, each once, whole numbers"):
        train.repeat(linear, data, data, seeds=seeds, **WISH)


def test_errors_of_repeat():
    data = line(8, 0)
    with pytest.raises(ValueError, match=r"at least one seed, each once, .* Received \(1, 1\)"):
        train.repeat(linear, data, data, seeds=(1, 1), **WISH)
    with pytest.raises(ValueError, match="seed cannot be given here"):
        train.repeat(linear, data, data, seed=1, **WISH)
    with pytest.raises(ValueError, match=r"'epoch' is no setting of medlab.train.fit.*Did you mean 'epochs'"):
        train.repeat(linear, data, data, epoch=2, **WISH)
    with pytest.raises(ValueError, match="Expected epochs"):
        train.repeat(linear, data, data)
    with pytest.raises(ValueError, match=r"Keras model. It gave str"):
        train.repeat(lambda: "resnet", data, data, **WISH)
    with pytest.raises(ValueError, match="not kept"):
        train.repeat(linear, data, data, seeds=(0,), **WISH).models()


def test_no_patient_is_in_two_folds_for_fifty_seeds():
    rng = np.random.default_rng(0)
    for seed in range(50):
        patients = rng.integers(0, 40, size=120)
        fold, _ = folds.divide(rng.integers(0, 2, 120), patients, folds=4, seed=seed)
        assert set(fold) == {0, 1, 2, 3}
        for one in np.unique(patients):
            assert len(set(fold[patients == one])) == 1


def test_stratified_folds_have_the_same_share_of_each_class():
    y = np.repeat([0, 1], [80, 20])
    fold, notes = folds.divide(y, np.arange(100), folds=5, seed=1)
    assert [int(y[fold == number].sum()) for number in range(5)] == [4] * 5
    assert notes == []
    labels = np.stack([y, np.arange(100) % 2], axis=1)
    fold, _ = folds.divide(labels, np.arange(100), folds=5, seed=1)
    assert [labels[fold == number].sum(axis=0).tolist() for number in range(5)] == [[4, 10]] * 5


def test_a_class_with_fewer_patients_than_folds_is_said():
    y = np.array([0] * 20 + [1] * 2)
    _, notes = folds.divide(y, np.arange(22), folds=4)
    assert notes == ["Class 1 has 2 patients, fewer than the 4 folds: it is missing from some of them."]


@pytest.mark.parametrize(
    ("groups", "wish", "message"),
    [
        ([0, 0, 1, 1], {"folds": 3}, "2 patients, 3 folds"),
        ([0, 1, 2, 3], {"folds": 1}, "at least 2. Received 1"),
        ([0, 1], {"folds": 2}, "4 labels and 2 patients"),
    ],
)
def test_errors_of_folds(groups, wish, message):
    with pytest.raises(ValueError, match=message):
        folds.divide(np.array([0, 1, 0, 1]), np.array(groups), **wish)


def test_out_of_fold_predictions_come_from_models_that_have_not_seen_the_patient(tmp_path):
    """Every patient has its own pixel and a random label: only who has seen it can do better than chance."""
    patients = np.repeat(np.arange(24), 2)
    y = np.random.default_rng(0).permutation(np.arange(24) % 2)[patients]
    x = np.eye(24, dtype=np.float32)[patients].reshape(48, 24, 1, 1)

    def lookup(seed):
        image = keras.Input((24, 1, 1))
        flat = keras.layers.Flatten()(image)
        return keras.Model(image, keras.layers.Dense(1, kernel_initializer="zeros", name="logits")(flat))

    wish = {"epochs": 5, "learning_rate": 1.0, "precision": "float32", "progress": False, "inner": 0, "run": tmp_path}
    found = train.cross_validate(lookup, x, y, groups=patients, folds=3, **wish)
    seen = train.fit(lookup(0), (x, y), epochs=5, learning_rate=1.0, precision="float32", progress=False).model
    assert train.auc(y, np.asarray(seen(x))) == 1.0
    # All it knows of a patient that it has not seen is the bias: within a fold there is nothing to rank by.
    assert found.table["auc"].tolist() == pytest.approx([0.5] * 3)
    assert not np.isnan(found.probabilities).any()
    assert found.table["cases"].sum() == 48
    assert found.table["patients"].sum() == 24
    again = train.cross_validate(lookup, x, y, groups=patients, folds=3, **wish)
    pd.testing.assert_frame_equal(again.table, found.table)  # with its seconds: nothing was trained
    np.testing.assert_array_equal(again.probabilities, found.probabilities)


def test_three_classes_and_an_inner_part_by_patient():
    x, y = line(36, 0, classes=3)
    wish = {"epochs": 6, "learning_rate": 0.3, "precision": "float32", "progress": False}
    found = train.cross_validate(lambda seed: linear(seed, 3), x, y, groups=np.arange(36) // 3, folds=2, **wish)
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, rtol=1e-6)
    assert found.pooled["auc"] == train.auc(y, found.probabilities)
    assert found.pooled["auc"] > 0.8
    assert found.summary.loc["auc", "mean"] == pytest.approx(found.table["auc"].mean())


def test_errors_of_cross_validation():
    x, y = line(8, 0)
    with pytest.raises(ValueError, match="8 images and 7 labels"):
        train.cross_validate(linear, x, y[:7], epochs=1)
    with pytest.raises(ValueError, match="inner from 0 to below"):
        train.cross_validate(linear, x, y, epochs=1, inner=0.9)
    with pytest.raises(ValueError, match="not masks"):
        train.cross_validate(linear, x, (x[..., 0] > 0).astype(int), epochs=1)
    with pytest.raises(ValueError, match="Fold 0: All 4 training cases have the same label 0"):
        train.cross_validate(linear, x, 1 * (np.arange(8) == 3), groups=np.arange(8), folds=2, inner=0, epochs=1)


@pytest.mark.parametrize(
    "groups",
    [
        [np.nan, np.nan, 1, 2, 3, 4],
        ["a", None, "b", float("nan"), "c", "d"],
        np.array([None, None, 1, 2, 3, 4], object),
    ],
)
def test_cases_without_a_patient_are_refused(groups):
    x, y = line(6, 0)
    with pytest.raises(ValueError, match="2 of 6 cases lack a patient"):
        train.cross_validate(linear, x, y, groups=groups, folds=2, epochs=1)
    with pytest.raises(ValueError, match="2 of 6 cases lack a patient"):
        folds.divide(y, groups, folds=2)


def test_patients_of_names_and_numbers():
    groups = np.array(["a", 1, "a", 1, 2, "b"], object)
    assert folds.numbers(groups).tolist() == [0, 1, 0, 1, 2, 3]
