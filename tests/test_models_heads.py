"""A new head on trained layers: what it computes, what it shares, where it cuts."""

import numpy as np
import pytest

from medlab import models
from medlab.backend import keras

layers = keras.layers

# On JAX Keras' get_weights hands variables to np.array, whose argument copy they do not know yet.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def array(tensor) -> np.ndarray:
    return keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(tensor))


def images(shape: tuple[int, ...] = (3, 16, 16, 1)) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def nested() -> tuple[keras.Model, keras.Model]:
    """A backbone of 1x1 convolutions in a model of its own, inside a classifier."""
    start = keras.Input((4, 4, 2))
    x = layers.Conv2D(3, 1, name="first")(start)
    backbone = keras.Model(start, layers.Conv2D(5, 1, name="second")(x), name="backbone")
    image = keras.Input((4, 4, 2))
    pooled = layers.GlobalAveragePooling2D(name="pooled")(backbone(image))
    return keras.Model(image, layers.Dense(2, name="old")(pooled), name="whole"), backbone


def test_logits_are_the_features_times_the_new_weights():
    trained = models.small_cnn((16, 16, 1), 3, width=4)
    model = models.with_head(trained, 4, seed=1)
    features = array(keras.Model(trained.inputs[0], trained.get_layer("features").output)(images()))
    weights, bias = (array(one) for one in model.get_layer("logits").weights)
    np.testing.assert_allclose(array(model(images())), features @ weights + bias, rtol=1e-5, atol=1e-6)
    assert np.abs(features).max() > 0.01
    assert model.output_shape == (None, 4)


def test_layers_are_shared_and_a_copy_shares_none():
    trained = models.small_cnn((16, 16, 1), width=4)
    shared, copied = models.with_head(trained, 2), models.with_head(trained, 2, copy=True)
    np.testing.assert_array_equal(array(shared(images())), array(copied(images())))
    kernel = trained.get_layer("stem_conv").weights[0]
    before = array(copied(images()))
    kernel.assign(array(kernel) * 0)
    np.testing.assert_array_equal(array(copied(images())), before)
    assert not np.array_equal(array(shared(images())), before)


def test_a_frozen_trunk_stays_and_the_head_moves():
    model = models.with_head(models.small_cnn((16, 16, 1), width=4), 2, freeze=True, copy=True)
    assert [one.path.split("/")[0] for one in model.trainable_variables] == ["logits", "logits"]
    before = [array(one).copy() for one in model.variables]
    model.compile("sgd", "mean_squared_error")
    model.fit(images(), np.ones((3, 1)), epochs=1, verbose=0)
    changed = [not np.array_equal(array(one), old) for one, old in zip(model.variables, before, strict=False)]
    # The batch statistics too stay as they were.
    assert sum(changed) == 2
    assert changed[-2:] == [True, True]


def test_dropout_lies_between_the_features_and_the_logits():
    """Of one image many times: each feature's part of the logit is there twice or not at all."""
    whole, backbone = nested()
    model = models.with_head(whole, 2, dropout=0.5)
    x = np.repeat(images((1, 4, 4, 2)), 4000, axis=0)
    pooled = array(backbone(x[:1])).mean(axis=(1, 2))[0]
    weights, bias = (array(one) for one in model.get_layer("logits").weights)
    parts = pooled * weights[:, 0]
    drawn = array(model(x, training=True))
    deviation = float(np.sqrt((parts**2).sum()))
    assert drawn.std() == pytest.approx(deviation, rel=0.1)
    assert drawn.mean() == pytest.approx(parts.sum() + bias[0], abs=0.1 * deviation)
    np.testing.assert_allclose(array(model(x[:2])), parts.sum() + bias[0], rtol=1e-5, atol=1e-6)


def test_a_layer_inside_another_model_by_its_path_or_its_name():
    whole, backbone = nested()
    x = images((3, 4, 4, 2))
    maps = array(backbone.get_layer("first")(x)).mean(axis=(1, 2))
    for name in ("backbone/first", "first"):
        model = models.with_head(whole, 3, layer=name)
        weights, bias = (array(one) for one in model.get_layer("logits").weights)
        np.testing.assert_allclose(array(model(x)), maps @ weights + bias, rtol=1e-5, atol=1e-6)


def test_without_features_the_last_vector_before_the_last_weights():
    whole, backbone = nested()
    x = images((3, 4, 4, 2))
    model = models.with_head(whole, 3)
    weights, bias = (array(one) for one in model.get_layer("logits").weights)
    pooled = array(backbone(x)).mean(axis=(1, 2))
    np.testing.assert_allclose(array(model(x)), pooled @ weights + bias, rtol=1e-5, atol=1e-6)
    assert "old" not in [one.name for one in model.layers]


@pytest.mark.parametrize(
    "make",
    [
        lambda: models.small_cnn((8, 8, 8, 1), width=2),
        lambda: models.vit((16, 16, 1), patch=8, width=8, depth=1, heads=2, dropout=0.1),
        lambda: models.slice_mean((8, 8, 3, 1), width=2),
    ],
)
def test_saved_and_loaded_without_medlab_it_answers_the_same(make, tmp_path):
    model = models.with_head(make(), 3, dropout=0.1, copy=True)
    x = images((2, *model.input_shape[1:]))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_allclose(array(again(x)), array(model(x)), rtol=1e-5, atol=1e-6)
    assert [one.name for one in model.layers][-1] == "logits"


def test_names_of_the_task_and_of_taken_layers():
    trained = models.small_cnn((16, 16, 1), 3, width=2, multi_label=True)
    assert models.with_head(trained, 2).name == "small_cnn"
    assert models.with_head(trained, 5, multi_label=True).name == "small_cnn_multi_label"
    assert models.with_head(trained, 2).output_shape == (None, 1)
    assert models.with_head(trained, 2, layer="logits").layers[-1].name == "new_logits"


def test_errors():
    trained = models.small_cnn((16, 16, 1), width=2)
    pair = models.ensemble([trained, models.small_cnn((16, 16, 1), width=2, seed=1)])
    with pytest.raises(ValueError, match=r"There is no layer 'nothing'. There are: stem_conv, stem_norm"):
        models.with_head(trained, 2, layer="nothing")
    with pytest.raises(ValueError, match=r"There are: member1/features, member2/features; give one"):
        models.with_head(pair, 2)
    with pytest.raises(ValueError, match=r"at least 2 classes. Received 1"):
        models.with_head(trained, 1)
    with pytest.raises(ValueError, match=r"dropout from 0 to below 1. Received 1"):
        models.with_head(trained, 2, dropout=1)
    with pytest.raises(ValueError, match=r"functional or Sequential Keras model, built"):
        models.with_head(keras.Sequential([layers.Dense(2)]), 2)
    image = keras.Input((3,))
    with pytest.raises(ValueError, match=r"features before its last layer with weights"):
        models.with_head(keras.Model(image, layers.Dense(1)(image)), 2)


@pytest.mark.parametrize("slip", [{"dropout": 1.5}, {"dropout": np.nan}, {"layer": "nothing"}, {"classes": 1}])
def test_a_refusal_leaves_the_model_as_it_was(slip):
    model = models.small_cnn((8, 8, 1), 2, width=2)
    before = len(model.trainable_weights)
    with pytest.raises(ValueError, match=r"Expected|There is no layer"):
        models.with_head(model, **{"classes": 2, "freeze": True, **slip})
    assert len(model.trainable_weights) == before > 0
