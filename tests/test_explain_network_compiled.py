"""Compiled answers: the same numbers as the model itself, traced once, and never out of date."""

import gc
import weakref

import keras
import numpy as np
import pytest

from medlab import explain
from medlab.explain.asking.question import Question

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

L = keras.layers


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@keras.saving.register_keras_serializable("medlab_tests")
class Counting(L.Layer):
    """Hands on what it gets and counts how often Python comes by."""

    def __init__(self, **options):
        super().__init__(**options)
        self._times = [0]

    def call(self, x):
        self._times[0] += 1
        return x


def counted():
    counting = Counting(name="counting")
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), L.Conv2D(3, 3, activation="relu", name="conv"), counting, L.Flatten(), L.Dense(3)]
    )
    return model, counting


def answers(model, x, target):
    """The logits of ``target`` by the model itself."""
    return keras.ops.convert_to_numpy(model(x, training=False))[np.arange(len(x)), target]


def test_a_second_call_runs_no_python_of_the_model():
    model, counting = counted()
    x = images(6, 8, 8, 1)
    first = explain.grad_cam(model, x)
    times = counting._times[0]
    np.testing.assert_array_equal(explain.grad_cam(model, x), first)
    np.testing.assert_allclose(explain.grad_cam(model, x, batch_size=6), first, atol=1e-6)
    assert counting._times[0] == times
    if keras.backend.backend() == "tensorflow":  # for any number of cases; JAX compiles a new number
        explain.grad_cam(model, x[:5])
        explain.grad_cam(model, x, batch_size=2)
        assert counting._times[0] == times
    model.predict(x, verbose=0)
    times = counting._times[0]
    np.testing.assert_array_equal(explain.grad_cam(model, x), first)
    assert counting._times[0] == times


def test_answers_and_slopes_are_those_of_the_model_in_batches_of_any_size():
    model, _ = counted()
    x, target = images(9, 8, 8, 1), np.array([0, 1, 2] * 3)
    question = Question(model, x, target)
    whole = answers(model, x, target)
    np.testing.assert_allclose(question.answers(x, slice(None)), whole, rtol=1e-5, atol=1e-6)
    for cases in (slice(2, 5), np.array([7]), np.array([3, 3, 0, 8, 1, 3, 2]), slice(0, 0)):
        found = question.answers(x[cases], cases)
        np.testing.assert_allclose(found, whole[cases], rtol=1e-5, atol=1e-6)
        assert question.slope(x[cases], cases).shape == x[cases].shape
    # The slope of one case by finite differences at one pixel, and no slope on the other cases' images.
    step = np.zeros_like(x)
    step[:, 3, 4, 0] = 1e-2
    rise = (answers(model, x + step, target) - answers(model, x - step, target)) / 2e-2
    np.testing.assert_allclose(question.slope(x, slice(None))[:, 3, 4, 0], rise, rtol=1e-2, atol=1e-4)


def test_probabilities_are_those_of_a_softmax():
    model, _ = counted()
    x = images(4, 8, 8, 1)
    logits = keras.ops.convert_to_numpy(model(x)).astype(np.float64)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = Question(model, x, 2).answers(x, slice(None), probability=True)
    np.testing.assert_allclose(found, softmax[:, 2], rtol=1e-5)


def test_no_target_is_settled_by_the_images_themselves_not_by_changed_ones():
    model, _ = counted()
    x = images(5, 8, 8, 1)
    winner = keras.ops.convert_to_numpy(model(x)).argmax(axis=1)
    question = Question(model, x)
    other = images(5, 8, 8, 1, seed=3) * 4
    assert (keras.ops.convert_to_numpy(model(other)).argmax(axis=1) != winner).any()
    expected = Question(model, x, winner)
    np.testing.assert_allclose(question.slope(question.images[1:3], slice(1, 3)), expected.slope(x[1:3], slice(1, 3)))
    np.testing.assert_allclose(question.slope(other, slice(0, 5)), expected.slope(other, slice(0, 5)))
    np.testing.assert_array_equal(question.target, winner)


def test_changed_weights_are_seen():
    model, _ = counted()
    x = images(3, 8, 8, 1)
    explain.grad_cam(model, x, target=1)
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([0 * kernel, bias])
    np.testing.assert_array_equal(explain.grad_cam(model, x, target=1), np.zeros((3, 8, 8)))
    model.layers[-1].set_weights([2 * kernel, bias])
    doubled = explain.saliency(model, x, target=1)
    model.layers[-1].set_weights([kernel, bias])
    np.testing.assert_allclose(doubled, 2 * explain.saliency(model, x, target=1), rtol=1e-5)


def test_changed_layers_are_seen():
    model, _ = counted()
    x = images(3, 8, 8, 1)
    explain.saliency(model, x, target=1)
    conv = model.get_layer("conv")
    conv.activation = keras.activations.linear
    kernel = keras.ops.convert_to_numpy(conv.kernel)
    dense = keras.ops.convert_to_numpy(model.layers[-1].kernel)[:, 1].reshape(6, 6, 3)
    # A linear network: its gradient is the filter laid at every position, whatever the image.
    linear = np.zeros((8, 8))
    for i, j in np.ndindex(6, 6):
        linear[i : i + 3, j : j + 3] += kernel[:, :, 0, :] @ dense[i, j]
    np.testing.assert_allclose(explain.saliency(model, x, target=1), np.abs([linear] * 3), rtol=1e-4, atol=1e-6)
    model.add(L.Dense(2, name="more"))
    with pytest.raises(ValueError, match=r"Expected targets from 0 to 1\. Received 2"):
        explain.saliency(model, x, target=2)
    model.pop()
    assert explain.saliency(model, x, target=2).shape == (3, 8, 8)


class Branching(keras.Model):
    """Its way depends on a number that is known only while it runs: it cannot be traced."""

    def __init__(self):
        super().__init__()
        self.conv = L.Conv2D(2, 3, name="conv")
        self.flat, self.head = L.Flatten(), L.Dense(2, name="head")

    def call(self, x):
        if float(keras.ops.convert_to_numpy(keras.ops.mean(keras.ops.stop_gradient(x)))) > 100:
            x = -x
        return self.head(self.flat(self.conv(x)))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX differentiates what it can trace")
def test_a_model_that_cannot_be_traced_is_run_as_it_is():
    model, x = Branching(), images(3, 8, 8, 1)
    model(x)
    for sign, shift in ((1, 0), (-1, 1000)):
        question = Question(model, x + shift, 1)
        np.testing.assert_allclose(
            question.answers(question.images, slice(None)), answers(model, x + shift, [1] * 3), rtol=1e-5
        )
        np.testing.assert_allclose(
            sign * question.slope(question.images, slice(None)), Question(model, x, 1).slope(x, slice(None)), rtol=1e-5
        )
    assert explain.grad_cam(model, x, target=1).max() > 0


def test_a_target_function_is_asked_anew_each_time():
    model, _ = counted()
    x, chosen = images(3, 8, 8, 1), {"class": 0}
    target = lambda y: y[:, chosen["class"]]  # noqa: E731
    zero, two = (explain.layer_cam(model, x, target=index) for index in (0, 2))
    assert np.abs(zero - two).max() > 0.1
    np.testing.assert_allclose(explain.layer_cam(model, x, target=target), zero, rtol=1e-5, atol=1e-6)
    chosen["class"] = 2
    np.testing.assert_allclose(explain.layer_cam(model, x, target=target), two, rtol=1e-5, atol=1e-6)
    # Written with the functions of the framework or not, squared: the slope is twice the score times its slope.
    squared = Question(model, x, lambda y: y[:, 1] ** 2).slope(x, slice(None))
    score = answers(model, x, [1, 1, 1]).reshape(3, 1, 1, 1)
    np.testing.assert_allclose(squared, 2 * score * Question(model, x, 1).slope(x, slice(None)), rtol=1e-4, atol=1e-6)


def test_what_is_kept_goes_with_the_model_and_is_not_saved(tmp_path):
    model, _ = counted()
    x = images(2, 8, 8, 1)
    model.save(tmp_path / "before.keras")
    heat = explain.grad_cam(model, x)
    model.save(tmp_path / "after.keras")
    loaded = keras.models.load_model(tmp_path / "after.keras")
    np.testing.assert_allclose(explain.grad_cam(loaded, x), heat, rtol=1e-6)
    copy = keras.models.clone_model(model)
    assert "_medlab_explain" not in vars(copy)
    seen = weakref.ref(model)
    del model, loaded, copy
    keras.backend.clear_session()
    gc.collect()
    assert seen() is None


def test_a_large_image_is_looked_at_compiled():
    """Volumes of 2**17 voxels: the same layers, head and map as a smaller one, whose closed form is known."""
    model = keras.Sequential(
        [keras.Input((None, None, None, 1)), L.Conv3D(2, 1, activation="relu", name="conv"), L.GlobalAveragePooling3D(),
         L.Dense(2, activation="softmax", name="head")]
    )  # fmt: skip
    for x in (images(1, 4, 4, 4, 1), images(1, 64, 64, 32, 1)):
        kernel, bias, head, _ = (keras.ops.convert_to_numpy(one) for one in model.weights)
        maps = np.maximum(x * kernel[0, 0, 0] + bias, 0)
        found = explain.hires_cam(model, x, target=1) * (x.size)
        np.testing.assert_allclose(found, np.maximum(maps @ head[:, 1], 0), rtol=1e-4, atol=1e-5)
        assert explain.layers(model, x) == ["conv"]


def test_only_a_few_forms_of_a_model_are_kept():
    model = keras.Sequential([keras.Input((None, None, 1)), L.Lambda(lambda x: x), L.GlobalMaxPooling2D(), L.Dense(2)])
    store = lambda: vars(model)["_medlab_explain"].networks  # noqa: E731
    for _ in range(2):  # the second time nothing is made anew
        for side in range(6, 20):
            explain.layers(model, np.ones((1, side, side, 1), "float32"))
        assert len(store()) == 14
    for side in range(20, 80):
        explain.layers(model, np.ones((1, side, side, 1), "float32"))
    assert len(store()) == 64
    for number in range(12):  # other layers: what was made for the old ones goes
        model.layers[0].number = number
        explain.layers(model, np.ones((1, 6, 6, 1), "float32"))
    assert len(store()) == 8


class Windowed(L.Layer):
    """Multiplies with a private number, which nobody sees change."""

    def __init__(self):
        super().__init__()
        self._window = 1.0

    def call(self, x):
        return x * self._window


def test_a_model_is_looked_at_anew_after_it_is_forgotten():
    window = Windowed()
    model, x = keras.Sequential([keras.Input((4, 4, 1)), window, L.Flatten(), L.Dense(1)]), images(2, 4, 4, 1)
    explain.forget(model)  # never explained: nothing happens
    once = explain.saliency(model, x, target=1)
    window._window = 3.0
    explain.forget(model)
    np.testing.assert_allclose(explain.saliency(model, x, target=1), 3 * once, rtol=1e-6)
