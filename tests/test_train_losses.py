"""Which loss is chosen, class weights by hand, and labels that are refused."""

import keras
import numpy as np
import pytest

from medlab.train import losses


def linear(outputs, activation=None):
    image = keras.Input((2, 2, 1))
    return keras.Model(image, keras.layers.Dense(outputs, activation=activation)(keras.layers.Flatten()(image)))


def value(objective, y, out):
    return float(np.mean(objective.plain_loss(objective.encode(np.asarray(y)), np.asarray(out, np.float32))))


def test_binary_loss_by_hand():
    chosen = losses.choose(linear(1), np.array([0, 1]))
    assert (chosen.task, chosen.logits) == ("binary", True)
    # Logit log 3 is a probability of 3/4.
    assert value(chosen, [1, 0], [[np.log(3)], [np.log(3)]]) == pytest.approx(
        -(np.log(0.75) + np.log(0.25)) / 2, abs=1e-6
    )
    chosen = losses.choose(linear(1, "sigmoid"), np.array([0, 1]))
    assert not chosen.logits
    assert value(chosen, [1], [[0.75]]) == pytest.approx(-np.log(0.75), abs=1e-6)


def test_probabilities_are_recognized_wherever_they_are_made():
    image = keras.Input((2, 2, 1))
    flat = keras.layers.Flatten()(image)
    by_layer = keras.Model(image, keras.layers.Softmax()(keras.layers.Dense(3)(flat)))
    by_activation = keras.Model(image, keras.layers.Activation("sigmoid")(keras.layers.Dense(1)(flat)))
    by_operation = keras.Model(image, keras.ops.sigmoid(keras.layers.Dense(1)(flat)))
    nested = keras.Sequential([keras.Input((2, 2, 1)), linear(1, "sigmoid")])
    for model in (by_layer, by_activation, by_operation, nested):
        assert not losses.choose(model, np.array([0, 1])).logits
    assert losses.choose(keras.Sequential([keras.Input((2, 2, 1)), linear(1)]), np.array([0, 1])).logits


def test_multiclass_and_multilabel_loss_by_hand():
    chosen = losses.choose(linear(3), np.array([0, 2]))
    assert chosen.task == "multiclass"
    assert value(chosen, [1], [[0, np.log(2), 0]]) == pytest.approx(-np.log(0.5), abs=1e-6)
    chosen = losses.choose(linear(3), np.array([[0, 1, 1]]))
    assert chosen.task == "multilabel"
    assert value(chosen, [[0, 1, 1]], [[0, 0, np.log(3)]]) == pytest.approx(
        -(2 * np.log(0.5) + np.log(0.75)) / 3, abs=1e-6
    )
    # One column of labels is one class a case.
    assert losses.choose(linear(2), np.array([[0], [1]])).task == "multiclass"


def test_label_smoothing_is_for_training_alone():
    chosen = losses.choose(linear(1), np.array([0, 1]), label_smoothing=0.2)
    y, out = chosen.encode(np.array([1])), np.array([[np.log(3)]], np.float32)
    assert float(chosen.plain_loss(y, out)) == pytest.approx(-np.log(0.75), abs=1e-6)
    assert float(chosen.loss(y, out)) == pytest.approx(-0.9 * np.log(0.75) - 0.1 * np.log(0.25), abs=1e-6)
    assert "smoothed by 0.2" in chosen.reason


def test_a_loss_that_is_given_is_used_as_it_is():
    chosen = losses.choose(linear(4), np.zeros((2, 4), np.float32) + 0.5, "mean_squared_error")
    assert value(chosen, [[0, 0, 0, 0]], [[1, 1, 1, 3]]) == 3
    assert "as given" in chosen.reason


def test_balanced_class_weights_by_hand():
    chosen = losses.choose(linear(3), np.array([0]))
    y = np.array([0, 0, 0, 0, 0, 0, 1, 1, 2])
    weights, reason = losses.class_weights(y, "balanced", chosen)
    np.testing.assert_allclose(weights, [9 / 18, 9 / 6, 9 / 3])
    assert weights[y].mean() == pytest.approx(1)
    assert "6, 2, 1 cases" in reason
    weights, _ = losses.class_weights(y, {1: 5.0}, chosen)
    np.testing.assert_array_equal(weights, [1, 5, 1])
    assert losses.class_weights(y, None, chosen)[0] is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("even", 'Expected class_weight None, "balanced"'),
        ({3: 1.0}, "indices 0 to 2"),
        ({0: 0.0}, "above 0"),
        ({0: np.nan}, "above 0"),
    ],
)
def test_class_weights_that_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        losses.class_weights(np.array([0, 1, 2]), given, losses.choose(linear(3), np.array([0])))
    with pytest.raises(ValueError, match="one class a case"):
        losses.class_weights(np.ones((2, 3)), "balanced", losses.choose(linear(3), np.ones((2, 3))))


@pytest.mark.parametrize(
    ("outputs", "y", "message"),
    [
        (1, [1, 1, 1], "same label 1"),
        (3, [2], "same label 2"),
        (3, [[0, 1, 1], [0, 1, 1]], "same label"),
        (1, [0, 2], r"labels 0 to 1 for a model with 1 output.* Received \[2\]"),
        (3, [0, -1], r"Received \[-1\]"),
        (3, [0, 0.5], r"Received \[0.5\]"),
        (1, [0, np.nan], "NaN as label"),
    ],
)
def test_labels_that_are_refused(outputs, y, message):
    y = np.array(y)
    with pytest.raises(ValueError, match=message):
        losses.check_labels(y, losses.choose(linear(outputs), y))


def test_one_label_that_never_changes_is_no_error_among_several():
    y = np.array([[0, 1, 0], [0, 0, 0]])
    losses.check_labels(y, losses.choose(linear(3), y))


def test_labels_without_a_loss():
    with pytest.raises(ValueError, match="No loss follows from labels of shape"):
        losses.choose(linear(3), np.zeros((5, 4)))
    with pytest.raises(ValueError, match="label_smoothing from 0"):
        losses.choose(linear(1), np.array([0, 1]), label_smoothing=1)
