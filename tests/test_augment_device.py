"""Keras layers of a policy: the same changes within the same limits, in training only."""

import numpy as np
import pytest

from medlab import augment
from medlab.backend import keras

STILL = {"rotation": 0, "scale": 0, "translation": 0, "contrast": 0}


def numbers(tensor):
    return keras.ops.convert_to_numpy(tensor)


def spot(n=64, row=16, column=40, size=41):
    x = np.zeros((n, size, size + 20, 1), np.float32)
    x[:, row, column] = 1
    return x


def weight_of(images):
    """Where the brightness lies: row and column of its middle, each case."""
    total = images.sum((1, 2, 3))
    rows = (images.sum((2, 3)) * np.arange(images.shape[1])).sum(1) / total
    columns = (images.sum((1, 3)) * np.arange(images.shape[2])).sum(1) / total
    return rows, columns


def test_nothing_happens_outside_training_or_without_changes():
    x = np.random.default_rng(0).random((4, 20, 22, 1)).astype(np.float32)
    layers = augment.layers(augment.policy("US", rank=2, seed=0), value_range=(0, 1))
    np.testing.assert_array_equal(numbers(layers(x, training=False)), x)
    assert np.abs(numbers(layers(x, training=True)) - x).mean() > 0.02
    still = augment.layers(augment.policy("none", rank=2, seed=0))
    np.testing.assert_array_equal(numbers(still(x, training=True)), x)


def test_a_chest_is_not_mirrored_and_a_breast_only_sideways():
    names = [layer.name for layer in augment.layers(augment.policy("DX", rank=2, seed=0)).layers]
    assert not any("flip" in name for name in names)
    out = numbers(augment.layers(augment.policy("MG", rank=2, seed=0, **STILL))(spot(200), training=True))
    rows, columns = weight_of(out)
    np.testing.assert_allclose(rows, 16)
    assert set(np.round(columns)) == {40, 60 - 40}
    assert (columns == 20).mean() == pytest.approx(0.5, abs=0.12)
    below = numbers(augment.layers(augment.policy("none", rank=2, seed=0, flip=(0,)))(spot(50), training=True))
    assert set(np.round(weight_of(below)[0])) == {16, 40 - 16}


def test_shifts_and_turns_reach_their_limits_and_no_further():
    policy = augment.policy("none", rank=2, seed=0, translation=0.1)
    rows, columns = weight_of(numbers(augment.layers(policy)(spot(300), training=True)))
    assert 3.5 < np.abs(rows - 16).max() <= 4.11  # 0.1 of 41
    assert 5.2 < np.abs(columns - 40).max() <= 6.11  # 0.1 of 61
    policy = augment.policy("none", rank=2, seed=0, rotation=20)
    out = numbers(augment.layers(policy)(spot(300, row=20, column=50), training=True))
    rows, columns = weight_of(out)
    angle = np.degrees(np.arctan2(rows - 20, columns - 30))
    assert 18 < np.abs(angle).max() <= 20.5


def test_a_scale_of_a_tenth_is_a_tenth():
    x = np.zeros((300, 61, 61, 1), np.float32)
    x[:, 20:41, 20:41] = 1
    out = numbers(augment.layers(augment.policy("none", rank=2, seed=0, scale=0.25))(x, training=True))
    side = np.sqrt(out.sum((1, 2, 3))) / 21
    assert 1.2 < side.max() <= 1.27
    assert 0.79 <= side.min() < 0.83


def test_contrast_only_with_a_range():
    policy = augment.policy("none", rank=2, seed=0, contrast=0.5)
    x = np.random.default_rng(0).uniform(0.4, 0.6, (300, 16, 16, 1)).astype(np.float32)
    factor = numbers(augment.layers(policy, value_range=(0, 1))(x, training=True)).std((1, 2, 3)) / x.std((1, 2, 3))
    assert 1.45 < factor.max() <= 1.501
    assert 1 / 1.501 <= factor.min() < 0.69
    np.testing.assert_array_equal(numbers(augment.layers(policy)(x, training=True)), x)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_layers_train_and_are_saved_inside_a_model(tmp_path):
    inputs = keras.Input((16, 16, 1))
    y = keras.layers.Flatten()(augment.layers(augment.policy("MR", rank=2, seed=0))(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1)(y))
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).random((8, 16, 16, 1)).astype(np.float32)
    assert np.isfinite(model.train_on_batch(x, np.zeros(8)))
    before = model.predict(x, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.predict(x, verbose=0), before, atol=1e-6)


@pytest.mark.parametrize(
    ("rank", "changes", "message"),
    [
        (3, {}, "rank 2: Keras has no layers for volumes"),
        (2, {"crop": 8}, "without crop"),
        (2, {"space_probability": 0.5}, "both probabilities 1"),
        (2, {"fill": "minimum"}, r"value_range=\(low, high\)"),
    ],
)
def test_errors_say_what_is_wrong(rank, changes, message):
    with pytest.raises(ValueError, match=message):
        augment.layers(augment.policy("MR", rank=rank, seed=0, **changes))
