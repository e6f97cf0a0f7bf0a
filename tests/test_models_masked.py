"""The masked autoencoder: what it hides, and that each cell fills in its own pixels."""

import warnings

import keras
import numpy as np
import pytest

from medlab import models
from medlab.models.masked import _unfolded


@pytest.mark.parametrize("shape", [(28, 28, 1), (17, 22, 3), (9, 12, 16, 1)])
def test_it_hides_whole_patches_in_training_and_nothing_in_prediction(shape):
    model = models.masked_autoencoder(shape, patch=4, hidden=0.5)
    x = np.random.default_rng(0).normal(size=(24, *shape)).astype(np.float32)
    away = np.asarray(model(x, training=True))[..., -1]
    assert np.asarray(model(x)).shape == (24, *shape[:-1], shape[-1] + 1)
    assert set(np.unique(away)) == {0.0, 1.0}
    assert abs(away.mean() - 0.5) < 0.05
    whole = away[(slice(None), *(slice(0, 4),) * (len(shape) - 1))].reshape(24, -1)
    assert np.all(whole == whole[:, :1])  # a patch is hidden whole
    assert 0 < whole[:, 0].mean() < 1
    assert not np.asarray(model(x))[..., -1].any()


def test_the_encoder_sees_zeros_where_it_is_hidden_and_the_image_elsewhere():
    model = models.masked_autoencoder((16, 16, 2), patch=4, hidden=0.6)
    look = keras.Model(model.input, [model.get_layer("seen").output, model.get_layer("hidden").output])
    x = np.random.default_rng(1).normal(size=(8, 16, 16, 2)).astype(np.float32)
    seen, away = (np.asarray(one) for one in look(x, training=True))
    np.testing.assert_array_equal(seen, x * (1 - away))


@pytest.mark.parametrize("sides", [(6, 9), (4, 6, 8)])
def test_a_cell_fills_its_own_pixels(sides):
    factors = [2, 3, 4][: len(sides)]
    cells = [side // factor for side, factor in zip(sides, factors, strict=True)]
    image = np.arange(np.prod(sides) * 2, dtype=np.float32).reshape(1, *sides, 2)
    values = np.empty((1, *cells, int(np.prod(factors)) * 2), np.float32)
    for cell in np.ndindex(*cells):
        part = tuple(slice(n * factor, (n + 1) * factor) for n, factor in zip(cell, factors, strict=True))
        values[(0, *cell)] = image[(0, *part)].ravel()
    made = _unfolded(keras.ops.convert_to_tensor(values), factors, sides, 2)
    np.testing.assert_array_equal(np.asarray(made), image)


def test_a_transformer_can_be_the_encoder_and_a_file_needs_nothing_of_medlab(tmp_path):
    vit = models.vit((16, 24, 1), 2, patch=4, width=16, depth=1, heads=2)
    tokens = keras.Model(vit.input, vit.get_layer("tokens").output)
    model = models.masked_autoencoder((16, 24, 1), encoder=tokens)
    x = np.random.default_rng(2).normal(size=(3, 16, 24, 1)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="__array__", category=DeprecationWarning)
        model.save(tmp_path / "masked.keras")
    again = keras.models.load_model(tmp_path / "masked.keras")
    np.testing.assert_allclose(np.asarray(again(x)), np.asarray(model(x)), atol=1e-5)
    assert model.get_layer("decoder").output.shape[1:3] == (4, 6)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"hidden": 0.0}, "hidden as a share above 0"),
        ({"hidden": 1}, "hidden as a share above 0"),
        ({"patch": 16}, "at least 4 patches"),
        ({"patch": 2.5}, "patch as a whole number"),
    ],
)
def test_what_cannot_be_hidden_is_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        models.masked_autoencoder((16, 16, 1), **wrong)


def test_an_encoder_without_places_is_refused():
    whole = models.small_cnn((16, 16, 1), 2, width=4)
    with pytest.raises(ValueError, match="without a class token"):
        models.masked_autoencoder((16, 16, 1), encoder=whole)
