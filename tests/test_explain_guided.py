"""Guided backpropagation: closed forms wherever a ReLU may stand, the warning, and a model that is left as it was."""

import keras
import numpy as np
import pytest

from medlab import explain

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::medlab.explain.maps.guided.SanityWarning"),
]

L = keras.layers
CLOSE = {"rtol": 1e-4, "atol": 1e-6}


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def filled(model, seed=1):
    generator = np.random.default_rng(seed)
    model.set_weights([generator.normal(size=w.shape) for w in model.get_weights()])
    return model


def after(activation):
    """Layers that make ReLU in one of many ways."""
    return {
        "argument": lambda x: L.Conv2D(6, 1, activation="relu")(x),
        "function as argument": lambda x: L.Conv2D(6, 1, activation=keras.activations.relu)(x),
        "layer": lambda x: L.ReLU()(L.Conv2D(6, 1)(x)),
        "activation layer": lambda x: L.Activation("relu")(L.Conv2D(6, 1)(x)),
        "layer as argument": lambda x: L.Conv2D(6, 1, activation=L.ReLU())(x),
        "operation": lambda x: keras.ops.relu(L.Conv2D(6, 1)(x)),
        "function": lambda x: keras.activations.relu(L.Conv2D(6, 1)(x)),
        "nested": lambda x: keras.Sequential([L.Conv2D(6, 1, activation="relu")])(x),
        "wrapped": lambda x: L.TimeDistributed(L.Dense(6, activation="relu"))(x),
    }[activation]


WAYS = ("argument", "function as argument", "layer", "activation layer", "layer as argument", "operation", "function",
        "nested", "wrapped")  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_only_positive_gradients_pass_a_relu_wherever_it_stands(way):
    x = keras.Input((3, 2, 2))
    hidden = after(way)(x)
    model = filled(keras.Model(x, L.Dense(2)(L.Flatten()(hidden))))
    kernel, bias, last = (np.asarray(w) for w in model.get_weights()[:3])
    kernel = kernel.reshape(2, 6)
    cases = images(4, 3, 2, 2)
    on = cases @ kernel + bias > 0
    upstream = last[:, 1].reshape(3, 2, 6)
    plain = np.abs((on * upstream) @ kernel.T).max(-1)
    guided = np.abs((on * np.maximum(upstream, 0)) @ kernel.T).max(-1)
    np.testing.assert_allclose(explain.saliency(model, cases, target=1), plain, **CLOSE)
    np.testing.assert_allclose(explain.guided_backprop(model, cases, target=1), guided, **CLOSE)
    # What was compiled or changed for one method is not met by the other.
    np.testing.assert_allclose(explain.saliency(model, cases, target=1), plain, **CLOSE)
    np.testing.assert_allclose(explain.guided_backprop(model, cases, target=1, batch_size=1), guided, **CLOSE)


def test_every_relu_on_the_way_is_a_gate_in_3d_too():
    stack = [keras.Input((3, 2, 2, 1)), L.Conv3D(5, 1, activation="relu"), L.Conv3D(4, 1), L.ReLU(max_value=6)]
    model = filled(keras.Sequential([*stack, L.Flatten(), L.Dense(1, "sigmoid")]))
    first, b1, second, b2, last, _ = (np.asarray(w) for w in model.get_weights())
    first, second = first.reshape(1, 5), second.reshape(5, 4)
    x = images(3, 3, 2, 2, 1)
    inner = np.maximum(x @ first + b1, 0)
    outer = inner @ second + b2
    slope = np.maximum(last.reshape(3, 2, 2, 4), 0) * ((outer > 0) & (outer < 6))
    slope = np.maximum(slope @ second.T, 0) * (inner > 0)
    assert (slope > 0).any()
    np.testing.assert_allclose(
        explain.guided_backprop(model, x, target=1), np.abs(slope @ first.T).max(-1), rtol=1e-4, atol=1e-5
    )


def test_guided_grad_cam_is_zero_outside_of_the_class_activation_map():
    x = keras.Input((4, 3, 2))
    features = L.Conv2D(6, 1, activation="relu", name="last")(x)
    model = filled(keras.Model(x, L.Dense(3)(L.GlobalAveragePooling2D()(features))))
    kernel, bias, last, _ = (np.asarray(w) for w in model.get_weights())
    cases = images(4, 4, 3, 2)
    maps = np.maximum(cases @ kernel.reshape(2, 6) + bias, 0)
    fine = np.abs(((maps > 0) * np.maximum(last[:, 2], 0) / 12) @ kernel.reshape(2, 6).T).max(-1)
    coarse = np.maximum(maps @ last[:, 2], 0) / 12
    heat = explain.guided_grad_cam(model, cases, target=2)
    assert (heat == 0).any()
    np.testing.assert_allclose(heat, coarse * fine, **CLOSE)
    np.testing.assert_allclose(explain.guided_grad_cam(model, cases, target=2, layer="last"), heat, **CLOSE)


def test_other_activations_keep_their_gradient():
    model = filled(
        keras.Sequential([keras.Input((3, 2, 1)), L.Conv2D(4, 1, activation="gelu"), L.Flatten(), L.Dense(2)])
    )
    x = images(3, 3, 2, 1)
    np.testing.assert_allclose(explain.guided_backprop(model, x), explain.saliency(model, x), **CLOSE)


@pytest.mark.parametrize("method", [explain.guided_backprop, explain.guided_grad_cam])
def test_batches_one_case_and_none(method):
    model = filled(
        keras.Sequential(
            [keras.Input((4, 3, 1)), L.Conv2D(4, 3, padding="same", activation="relu"), L.Flatten(), L.Dense(3)]
        )
    )
    x = images(5, 4, 3, 1)
    before, p = model.get_weights(), keras.ops.convert_to_numpy(model(x))
    heat = method(model, x)
    assert heat.dtype == np.float32
    assert heat.min() >= 0
    assert heat.max() > 0
    np.testing.assert_allclose(method(model, x, target=p.argmax(1), batch_size=2), heat, **CLOSE)
    np.testing.assert_allclose(method(model, x[3:4])[0], heat[3], **CLOSE)
    assert method(model, x[:0]).shape == (0, 4, 3)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model(x)), p)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_model_that_looks_nowhere_has_a_map_of_zero():
    model = filled(
        keras.Sequential([keras.Input((4, 3, 1)), L.Conv2D(2, 1, activation="relu"), L.Flatten(), L.Dense(2)])
    )
    model.layers[-1].set_weights([np.zeros((24, 2)), np.array([0, 9.0])])
    assert not explain.guided_backprop(model, images(2, 4, 3, 1)).any()


@pytest.mark.parametrize("name", ["guided_backprop", "guided_grad_cam"])
def test_it_warns_and_names_the_check(name):
    model = keras.Sequential([keras.Input((4, 3, 1)), L.Conv2D(2, 1, activation="relu"), L.Flatten(), L.Dense(2)])
    with pytest.warns(explain.SanityWarning, match=f"{name} fails the sanity check") as caught:
        getattr(explain, name)(model, images(1, 4, 3, 1))
    assert caught[0].filename == __file__
    with pytest.warns(explain.SanityWarning), pytest.raises(ValueError, match="Expected targets from 0 to 1"):
        getattr(explain, name)(model, images(1, 4, 3, 1), target=2)
