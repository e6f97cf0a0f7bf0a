"""Slices: closed forms of models that are linear, or look at one slice, and the recurrent networks."""

import keras
import numpy as np
import pytest
from keras import layers

from medlab import explain, models


def linear(shape, seed=0):
    """logit = sum(w x); returns the model and w."""
    image = keras.Input(shape)
    model = keras.Model(image, layers.Dense(1)(layers.Flatten()(image)))
    w = np.random.default_rng(seed).normal(size=(int(np.prod(shape)), 1)).astype(np.float32)
    model.set_weights([w, np.array([0.3], np.float32)])
    return model, w.reshape(shape)


@pytest.mark.parametrize("by", ["occlusion", "gradient"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_of_a_linear_model_it_is_what_the_slice_adds(by, axis):
    model, w = linear((3, 4, 5, 2))
    x = np.random.default_rng(1).normal(size=(3, 3, 4, 5, 2)).astype(np.float32)
    other = tuple(number for number in range(1, 5) if number != axis + 1)
    found = explain.slice_importance(model, x, target=1, by=by, axis=axis, baseline=0.5, sign="both")
    np.testing.assert_allclose(found, ((x - 0.5) * w).sum(axis=other), rtol=1e-4, atol=1e-4)
    against = explain.slice_importance(model, x, target=0, by=by, axis=axis, baseline=0.5, sign="both")
    np.testing.assert_allclose(against, -found, rtol=1e-4, atol=1e-4)
    positive = explain.slice_importance(model, x, target=1, by=by, axis=axis, baseline=0.5)
    np.testing.assert_allclose(positive, np.maximum(found, 0), rtol=1e-4, atol=1e-4)


def test_a_stretch_of_slices_is_shared_by_those_it_covers():
    """Falls of the stretches 0-1, 1-2, 2-3: a slice has the mean of those that cover it."""
    model, w = linear((2, 2, 4, 1))
    x = np.random.default_rng(2).normal(size=(2, 2, 2, 4, 1)).astype(np.float32)
    alone = (x * w).sum(axis=(1, 2, 4))
    pair = alone[:, :-1] + alone[:, 1:]
    expected = np.stack([pair[:, 0], pair[:, :2].mean(1), pair[:, 1:].mean(1), pair[:, 2]], axis=1)
    found = explain.slice_importance(model, x, target=1, width=2, sign="both")
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_the_planted_slice_is_found():
    """A model that answers with its brightest slice: only covering that one lets it fall, to the second."""
    volume = keras.Input((4, 4, 6, 1))
    bright = keras.ops.mean(volume, axis=(1, 2, 4))
    model = keras.Model(volume, keras.ops.max(bright, axis=1, keepdims=True))
    x = np.full((3, 4, 4, 6, 1), 0.25, np.float32)
    planted = [4, 0, 2]
    for case, place in enumerate(planted):
        x[case, :, :, place] = 1
    found = explain.slice_importance(model, x, target=1)
    np.testing.assert_allclose(found, 0.75 * np.eye(6)[planted], atol=1e-6)
    assert explain.slice_importance(model, x, target=1, by="gradient").argmax(axis=1).tolist() == planted


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_recurrent_network_answers_as_if_the_slice_had_never_been_there(cell):
    model = models.slice_rnn((8, 8, 4, 1), width=4, cell=cell, seed=3)
    x = np.random.default_rng(3).normal(size=(3, 8, 8, 4, 1)).astype(np.float32)
    found = explain.slice_importance(model, x, target=1, sign="both", batch_size=2)
    whole = model.predict(x, verbose=0)[:, 0]
    for place in range(4):
        shorter = np.concatenate([np.delete(x, place, axis=3), np.zeros_like(x[:, :, :, :1])], axis=3)
        np.testing.assert_allclose(found[:, place], whole - model.predict(shorter, verbose=0)[:, 0], atol=1e-5)
    assert np.abs(found).max() > 1e-4


def test_attention_is_what_the_model_gave():
    model = models.slice_mean((8, 8, 5, 1), width=4, pool="attention", seed=1)
    x = np.random.default_rng(4).normal(size=(3, 8, 8, 5, 1)).astype(np.float32)
    x[1, :, :, 3:] = 0  # padding, not read
    found = explain.slice_importance(model, x, by="attention")
    np.testing.assert_allclose(found, models.slice_weights(model, x), atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert (found[1, 3:] == 0).all()
    with pytest.raises(ValueError, match=r'has none: take by="occlusion"'):
        explain.slice_importance(models.slice_mean((8, 8, 5, 1), width=4), x, by="attention")


def test_edges_of_what_is_possible():
    model, _ = linear((2, 2, 3, 1))
    x = np.ones((1, 2, 2, 3, 1), np.float32)
    assert explain.slice_importance(model, x[:0]).shape == (0, 3)
    np.testing.assert_array_equal(explain.slice_importance(model, x, baseline=x), np.zeros((1, 3), np.float32))
    for wrong, message in (
        ({"by": "chance"}, "Expected by one of occlusion, gradient, attention. Received 'chance'"),
        ({"axis": 3}, "Expected an axis from 0 to 2, or -1 for the last. Received 3"),
        ({"width": 4}, "Expected a width from 1 to 3 slices. Received 4"),
        ({"sign": "minus"}, 'Expected sign "positive", "absolute" or "both"'),
        ({"baseline": np.zeros((5, 5))}, "Expected a baseline that broadcasts"),
    ):
        with pytest.raises(ValueError, match=message):
            explain.slice_importance(model, x, **wrong)
    with pytest.raises(ValueError, match=r"images have no slices"):
        explain.slice_importance(models.small_cnn((8, 8, 1), width=4), np.zeros((1, 8, 8, 1)))
    with pytest.raises(ValueError, match=r"Expected finite images"):
        explain.slice_importance(model, x * np.nan)


def test_a_trained_network_shows_the_slice_that_holds_the_finding():
    """Noise with a bright square in one of six slices of each positive volume; found by all three ways."""
    rng = np.random.default_rng(0)

    def volumes(n):
        x, y, at = rng.normal(size=(n, 8, 8, 6, 1)).astype(np.float32), np.arange(n) % 2, rng.integers(6, size=n)
        for case in np.flatnonzero(y):
            i, j = rng.integers(5, size=2)
            x[case, i : i + 4, j : j + 4, at[case]] += 2.5
        return x, y.astype(np.float32), at

    x, y, _ = volumes(192)
    model = models.slice_mean((8, 8, 6, 1), width=4, dropout=0, pool="attention", seed=0)
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.BinaryCrossentropy(from_logits=True))
    model.fit(x, y, epochs=8, batch_size=32, verbose=0)
    x, y, at = volumes(48)
    x, at = x[y == 1], at[y == 1]
    for by in ("occlusion", "gradient", "attention"):
        found = explain.slice_importance(model, x, target=1, by=by).argmax(axis=1)
        assert (found == at).mean() > 0.9, by
