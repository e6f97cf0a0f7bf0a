"""Models with several inputs or outputs: one image is explained, the rest of a case stays as it is."""

import keras
import numpy as np
import pytest

from medlab import explain
from medlab.explain.asking.question import Question

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

L = keras.layers


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def clinic(style="dictionary"):
    """score = (1 + age) * <w, image> + <v, second>: the weights w and v are the truth."""
    image, age = keras.Input((6, 5, 1), name="image"), keras.Input((1,), name="age")
    second = keras.Input((6, 5, 1), name="second")
    one = L.Dense(1, use_bias=False, name="w")(L.Flatten()(image))
    two = L.Dense(1, use_bias=False, name="v")(L.Flatten()(second))
    score = one * (1 + age) + two
    flat = {"image": image, "age": age, "second": second}
    model = keras.Model(flat if style == "dictionary" else list(flat.values()), score)
    w, v = images(30, 1, seed=1), images(30, 1, seed=2)
    model.get_layer("w").set_weights([w])
    model.get_layer("v").set_weights([v])
    x = {"image": images(4, 6, 5, 1), "age": np.arange(4.0).reshape(4, 1), "second": images(4, 6, 5, 1, seed=9)}
    return model, x, w.reshape(6, 5), v.reshape(6, 5)


@pytest.mark.parametrize("style", ["dictionary", "list"])
def test_the_named_image_is_explained_and_each_case_keeps_its_other_inputs(style):
    model, x, w, v = clinic(style)
    given = x if style == "dictionary" else list(x.values())
    expected = np.abs(w) * (1 + np.arange(4.0)).reshape(4, 1, 1)
    for name in ("image", {"dictionary": "image", "list": 0}[style]):
        inputs = explain.Inputs(given, explain=name)
        np.testing.assert_allclose(explain.saliency(model, inputs, target=1), expected, rtol=1e-5)
        np.testing.assert_allclose(explain.saliency(model, inputs, target=1, batch_size=1), expected, rtol=1e-5)
    found = explain.saliency(model, explain.Inputs(given, explain="second"), target=1)
    np.testing.assert_allclose(found, np.abs([v] * 4), rtol=1e-5)
    question = Question(model, explain.Inputs(given, explain="image"), 1)
    cases = np.array([3, 0, 3])
    truth = (1 + x["age"][cases, 0]) * np.sum(w * x["image"][cases, ..., 0], axis=(1, 2))
    truth += np.sum(v * x["second"][cases, ..., 0], axis=(1, 2))
    np.testing.assert_allclose(question.answers(question.images[cases], cases), truth, rtol=1e-4, atol=1e-5)


def test_one_image_beside_numbers_needs_no_name():
    image, age = keras.Input((6, 5, 1), name="image"), keras.Input((1,), name="age")
    features = L.Conv2D(2, 3, padding="same", name="conv")(image)
    both = L.Concatenate()([L.GlobalAveragePooling2D()(features), age])
    model = keras.Model([image, age], L.Dense(2, name="head")(both))
    x = [images(3, 6, 5, 1), np.ones((3, 1))]
    maps = keras.ops.convert_to_numpy(keras.Model(image, features)(x[0]))
    w = keras.ops.convert_to_numpy(model.get_layer("head").kernel)[:2, 1]
    np.testing.assert_allclose(explain.grad_cam(model, x, target=1), np.maximum(maps @ w, 0) / 30, atol=1e-6)
    named = {"image": x[0], "age": x[1]}
    np.testing.assert_allclose(explain.grad_cam(model, named, target=1), np.maximum(maps @ w, 0) / 30, atol=1e-6)
    assert explain.layers(model, x) == ["conv"]


def test_errors_of_several_inputs_say_what_to_do():
    model, x, _, _ = clinic()
    with pytest.raises(ValueError, match=r"Expected one input of images.*explain\.Inputs\(x, explain="):
        explain.saliency(model, x, target=1)
    with pytest.raises(ValueError, match=r"There is no input 'left' to explain. There are: age, image, second"):
        explain.saliency(model, explain.Inputs(x, explain="left"), target=1)
    with pytest.raises(ValueError, match=r"has 3 inputs .* Received one array"):
        explain.saliency(model, x["image"], target=1)
    with pytest.raises(ValueError, match=r"Expected x with the inputs image, age, second. Received image, age"):
        explain.saliency(model, {"image": x["image"], "age": x["age"]}, target=1)
    with pytest.raises(ValueError, match=r"Expected x with 3 inputs .* Received 2"):
        explain.saliency(model, [x["image"], x["age"]], target=1)
    with pytest.raises(ValueError, match=r"Expected x of shape \(n, 6, 5, 1\)\. Received \(4, 1\)"):
        explain.saliency(model, explain.Inputs({**x, "image": x["age"]}, explain="image"), target=1)
    with pytest.raises(ValueError, match=r"Expected 4 cases in each input"):
        explain.saliency(model, explain.Inputs({**x, "age": x["age"][:2]}, explain="image"), target=1)
    with pytest.raises(ValueError, match=r"Expected input 'age' of shape \(n, 1\)\. Received \(4, 2\)"):
        explain.saliency(model, explain.Inputs({**x, "age": np.ones((4, 2))}, explain="image"), target=1)
    with pytest.raises(ValueError, match=r"Received \[4, 'a number', 4\]|Received \['a number', 4, 4\]"):
        explain.saliency(model, explain.Inputs({**x, "age": 3.0}, explain="image"), target=1)
    with pytest.raises(ValueError, match="NaN or infinity"):
        explain.saliency(model, explain.Inputs({**x, "age": x["age"] * np.nan}, explain="image"), target=1)


def test_a_list_of_images_is_to_be_stacked():
    model = keras.Sequential([keras.Input((6, 5, 1)), L.Flatten(), L.Dense(2)])
    with pytest.raises(ValueError, match=r"Received 3\. Are these the cases\? Stack them: np\.stack\(x\)"):
        explain.saliency(model, list(images(3, 6, 5, 1)))


def two_outputs():
    image = keras.Input((6, 5, 1))
    features = L.Conv2D(3, 3, padding="same", activation="relu", name="conv")(image)
    mean = L.GlobalAveragePooling2D()(features)
    grade = L.Dense(4, activation="softmax", name="grade")(mean)
    sick = L.Dense(1, activation="sigmoid", name="sick")(mean)
    return keras.Model(image, {"grade": grade, "sick": sick}), keras.Model(image, features)


def test_one_output_is_named_and_its_own_activation_left_out():
    model, inner = two_outputs()
    x = images(5, 6, 5, 1)
    maps = keras.ops.convert_to_numpy(inner(x))
    for name, target, sign in (("grade", 2, 1), ("sick", 1, 1), ("sick", 0, -1)):
        w = keras.ops.convert_to_numpy(model.get_layer(name).kernel)[:, target if name == "grade" else 0]
        expected = np.maximum(sign * (maps @ w), 0) / 30
        found = explain.grad_cam(model, x, target={name: target}, batch_size=2)
        np.testing.assert_allclose(found, expected, atol=1e-6)
    plain = model(x)
    winner = keras.ops.convert_to_numpy(plain["grade"]).argmax(axis=1)
    question = Question(model, x, {"grade": None})
    np.testing.assert_array_equal(question.target.target, winner)
    np.testing.assert_allclose(
        question.answers(x, slice(None), probability=True),
        keras.ops.convert_to_numpy(plain["grade"])[np.arange(5), winner],
        rtol=1e-5,
    )
    sick = Question(model, x, {"sick": 1}).answers(x[2:4], slice(2, 4), probability=True)
    np.testing.assert_allclose(sick, keras.ops.convert_to_numpy(plain["sick"])[2:4, 0], rtol=1e-5)
    both = explain.grad_cam(model, x, target=lambda y: y["grade"][:, 2] - y["sick"][:, 0])
    w = keras.ops.convert_to_numpy(model.get_layer("grade").kernel)[:, 2]
    w = w - keras.ops.convert_to_numpy(model.get_layer("sick").kernel)[:, 0]
    np.testing.assert_allclose(both, np.maximum(maps @ w, 0) / 30, atol=1e-6)


def test_errors_of_several_outputs_say_what_to_do():
    model, _ = two_outputs()
    x = images(2, 6, 5, 1)
    with pytest.raises(ValueError, match=r"2 outputs. Name the one to explain, such as target=\{'grade': 1\}"):
        explain.grad_cam(model, x)
    with pytest.raises(ValueError, match=r"one of the outputs grade, sick, .* Received one for stage"):
        explain.grad_cam(model, x, target={"stage": 1})
    with pytest.raises(ValueError, match=r"Expected targets from 0 to 3\. Received 4"):
        explain.grad_cam(model, x, target={"grade": 4})


@pytest.mark.parametrize("model", ["model.keras", None, np.zeros((2, 8, 8, 1))])
def test_what_is_no_model_is_named(model):
    with pytest.raises(ValueError, match=f"Expected a keras.Model, then x. Received {type(model).__name__}"):
        explain.saliency(model, np.zeros((2, 8, 8, 1)))
