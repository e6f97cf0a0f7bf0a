"""Repeats and cross-validation: what is judged, that no patient is in two folds, and that nothing is trained twice."""

import keras
import numpy as np
import pandas as pd
import pytest

from medlab import train
from medlab.train import folds

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


def never(seed):
    raise AssertionError("a finished training was begun again")


def test_what_is_finished_is_read_and_one_seed_more_is_trained(repeated, capsys):
    folder, sets, found = repeated
    again = train.repeat(never, *sets, seeds=(0, 3), run=folder, **WISH)
    pd.testing.assert_frame_equal(again.table, found.table)
    np.testing.assert_array_equal(again.validation, found.validation)
    made = []
    more = train.repeat(lambda seed: made.append(seed) or linear(seed), *sets, seeds=(0, 3, 7), run=folder,
                        **WISH | {"progress": True})  # fmt: skip
    assert made == [7]
    assert list(more.table["seed"]) == [0, 3, 7]
    assert "seed 7 (3 of 3): validation AUC" in capsys.readouterr().err


def test_a_folder_of_other_settings_or_data_is_not_taken_for_these(repeated):
    folder, sets, _ = repeated
    with pytest.raises(ValueError, match="had other learning_rate"):
        train.repeat(never, *sets, seeds=(0,), run=folder, **WISH | {"learning_rate": 0.2})
    with pytest.raises(ValueError, match="had other data"):
        train.repeat(never, sets[1], *sets[1:], seeds=(0,), run=folder, **WISH)


def test_errors_of_repeat():
    data = line(8, 0)
    with pytest.raises(ValueError, match=r"at least one seed, each once. Received \[1, 1\]"):
        train.repeat(linear, data, data, seeds=(1, 1), **WISH)
    with pytest.raises(ValueError, match="seed cannot be given here"):
        train.repeat(linear, data, data, seed=1, **WISH)
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
    again = train.cross_validate(never, x, y, groups=patients, folds=3, **wish)
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
