"""The end of an output: a sigmoid or softmax is left out where that changes nothing else, and never applied twice."""

import threading

import keras
import numpy as np
import pytest

from medlab import explain
from medlab.explain.asking.question import Question

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

L, ops = keras.layers, keras.ops
SHAPE = (8, 6, 1)


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def array(tensor):
    return ops.convert_to_numpy(tensor).astype(np.float64)


def features(image, channels=4):
    conv = L.Conv2D(channels, 3, padding="same", activation="relu", bias_initializer="ones")
    return conv(image)


def rises(score, x, at=(3, 2), step=2e-2):
    """(n,) the slope of ``score``, a function of images, at one pixel, by finite differences."""
    change = np.zeros_like(x)
    change[:, at[0], at[1]] = step
    return (score(x + change) - score(x - change)) / (2 * step)


def logit(p):
    return np.log(p) - np.log1p(-p)


def follows(question, score, rtol=2e-2):
    """The question's scores and their slopes are those of ``score``."""
    x = question.images
    truth = score(x)
    np.testing.assert_allclose(question.answers(x, slice(None)), truth, rtol=1e-3, atol=1e-4)
    slope = rises(score, x)
    assert np.abs(slope).max() > 1e-4
    np.testing.assert_allclose(
        question.slope(x, slice(None))[:, 3, 2, 0], slope, rtol=rtol, atol=1e-2 * abs(slope).max()
    )


def gated():
    image = keras.Input(SHAPE)
    maps = features(image)
    mask = L.Conv2D(1, 1, activation="sigmoid", name="mask")(maps)
    classes = L.Dense(3)(L.GlobalAveragePooling2D()(L.Multiply()([maps, mask])))
    return keras.Model(image, {"mask": mask, "classes": classes})


def test_an_output_that_the_model_uses_itself_stays_as_it_is():
    """A mask gates the classifier: its sigmoid belongs to the network of the classes."""
    model, x = gated(), images(4, *SHAPE)
    follows(Question(model, x, {"classes": 1}), lambda z: array(model(z)["classes"])[:, 1])
    follows(
        Question(model, x, {"mask": lambda y: ops.sum(y, axis=(1, 2, 3))}),
        lambda z: logit(array(model(z)["mask"])).sum(axis=(1, 2, 3)),
    )


class Gated(keras.Model):
    """The gate is plain arithmetic, which no layer shows."""

    def __init__(self):
        super().__init__()
        self.conv, self.mask = L.Conv2D(4, 3, padding="same"), L.Conv2D(1, 1, activation="sigmoid")
        self.mean, self.head = L.GlobalAveragePooling2D(), L.Dense(3, activation="softmax")

    def call(self, x):
        maps = self.conv(x)
        mask = self.mask(maps)
        return {"mask": mask, "classes": self.head(self.mean(maps) * ops.mean(mask, axis=(1, 2)))}


def test_a_use_that_no_layer_shows_is_seen_by_its_effect():
    model, x = Gated(), images(4, *SHAPE)
    model(x)
    follows(Question(model, x, {"classes": 1}), lambda z: np.log(array(model(z)["classes"])[:, 1]))


def test_a_shared_activation_is_not_opened():
    image, activation = keras.Input(SHAPE), L.Activation("sigmoid")
    mean = L.GlobalAveragePooling2D()(activation(L.Conv2D(4, 3)(image)))
    model, x = keras.Model(image, activation(L.Dense(1)(mean))), images(4, *SHAPE)
    question = Question(model, x, 1)
    follows(question, lambda z: logit(array(model(z))[:, 0]))
    np.testing.assert_allclose(question.answers(x, slice(None), probability=True), array(model(x))[:, 0], rtol=1e-4)


def test_heads_with_equal_values_on_the_first_case_are_told_apart():
    image = keras.Input(SHAPE)
    mean = L.GlobalAveragePooling2D()(L.Conv2D(4, 3, activation="relu")(image))
    heads = [L.Dense(1, activation="sigmoid", name=name) for name in "ab"]
    model = keras.Model(image, [head(mean) for head in heads])
    x = images(4, *SHAPE)
    x[0] = 0  # all features are 0, both heads say 1/2
    for place, head in enumerate(heads):
        inner = keras.Model(image, mean)
        expected = lambda z, inner=inner, head=head: array(inner(z)) @ array(head.kernel)[:, 0]  # noqa: E731
        question = Question(model, x, {head.name: 1})
        np.testing.assert_allclose(question.answers(x, slice(None)), expected(x), rtol=1e-4, atol=1e-6)
        probability = question.answers(x, slice(None), probability=True)
        np.testing.assert_allclose(probability, array(model(x)[place])[:, 0], rtol=1e-5)


class Plain(keras.Model):
    """A softmax in ``call``, seen as no layer."""

    def __init__(self):
        super().__init__()
        self.conv, self.mean, self.head = L.Conv2D(4, 3), L.GlobalAveragePooling2D(), L.Dense(3)

    def call(self, x):
        return ops.softmax(self.head(self.mean(self.conv(x))))


def probable(kind):
    if kind == "subclassed":
        model = Plain()
        model(images(1, *SHAPE))
        return model
    image = keras.Input(SHAPE)
    flat = L.Flatten()(features(image))
    three, one = L.Dense(3)(flat), L.Dense(1)(flat)
    ends = {
        "clipped": lambda: ops.clip(ops.softmax(three), 1e-7, 1 - 1e-7),
        "mean": lambda: L.Average()([L.Dense(3, activation="softmax")(flat) for _ in range(2)]),
        "function": lambda: L.Dense(3, activation=lambda z: keras.activations.softmax(z))(flat),
        "exponential": lambda: ops.exp(ops.log_softmax(three)),
        "Lambda": lambda: L.Lambda(lambda z: ops.softmax(z))(three),
        "squeezed": lambda: ops.squeeze(ops.sigmoid(one), -1),
        "labels": lambda: L.Average()([L.Dense(3, activation="sigmoid")(flat) for _ in range(2)]),
    }
    return keras.Model(image, ends[kind]())


@pytest.mark.parametrize(
    "kind", ["clipped", "mean", "function", "exponential", "Lambda", "squeezed", "labels", "subclassed"]
)
def test_a_probability_is_never_squashed_again(kind):
    model, x = probable(kind), images(4, *SHAPE)
    chosen = lambda z: (lambda p: p if p.ndim == 1 else p[:, 1])(array(model(z)))  # noqa: E731
    question = Question(model, x, 1)
    np.testing.assert_allclose(question.answers(x, slice(None), probability=True), chosen(x), rtol=1e-3)
    follows(question, (lambda z: logit(chosen(z))) if kind in ("squeezed", "labels") else lambda z: np.log(chosen(z)))


@pytest.mark.parametrize("end", [L.Reshape((1, 3)), L.Activation("linear", dtype="float32"), L.Dropout(0.5)])
def test_a_saturated_softmax_is_opened_behind_what_only_passes_it_on(end):
    """At a probability of exactly 1 there is no gradient; the logit is a weighted sum and has one."""
    flat = keras.Sequential([keras.Input(SHAPE), L.Flatten(), L.Dense(3, activation="softmax"), end])
    kernel = images(48, 3, seed=5)
    flat.set_weights([kernel, np.array([100.0, 0, 0])])
    target = (lambda y: y[:, 0, 0]) if isinstance(end, L.Reshape) else 0
    found = explain.saliency(flat, images(2, *SHAPE), target=target)
    np.testing.assert_allclose(found, [np.abs(kernel[:, 0]).reshape(8, 6)] * 2, rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-4, 1])
def test_a_logit_between_0_and_1_stays_a_logit(scale):
    """One case whose logit happens to lie there, by a layer or by arithmetic, is no probability."""
    image = keras.Input(SHAPE)
    head = L.Dense(1, name="head", kernel_initializer=keras.initializers.Constant(0.5 * scale))
    y = head(L.GlobalAveragePooling2D()(features(image, 1)))
    for output in (y, y * 0.5, L.Reshape((1,))(y), L.Activation("tanh")(y * 1e-3)):
        model, x = keras.Model(image, output), np.ones((1, *SHAPE), "float32")
        model.layers[1].set_weights([np.full((3, 3, 1, 1), 0.1), np.zeros(1)])
        value = float(array(model(x)).item())
        assert 0 < value < 1
        np.testing.assert_allclose(Question(model, x, 1).answers(x, slice(None)), [value], rtol=1e-5)


def test_who_runs_the_model_meanwhile_runs_it_as_it_is():
    image = keras.Input(SHAPE)
    maps = image
    for _ in range(6):
        maps = features(maps, 3)
    head = L.Dense(3, activation="softmax", name="head")
    model, x = keras.Model(image, head(L.GlobalAveragePooling2D()(maps))), images(2, *SHAPE)
    calm = keras.models.clone_model(model)
    calm.set_weights(model.get_weights())
    truth, wrong, runs, done = array(model(x)), [], [], threading.Event()

    def use():
        while not done.is_set():
            runs.append(1)
            wrong.extend([] if np.allclose(array(model(x)), truth, atol=1e-5) else [1])

    thread = threading.Thread(target=use)
    thread.start()
    try:
        found = [method(model, x, target=1) for method in (explain.grad_cam, explain.saliency, explain.hires_cam)]
    finally:
        done.set()
        thread.join()
    assert runs
    assert not wrong
    assert explain.layers(model, x) == explain.layers(calm, x)
    for one, method in zip(found, (explain.grad_cam, explain.saliency, explain.hires_cam), strict=True):
        np.testing.assert_allclose(one, method(calm, x, target=1), rtol=1e-4, atol=1e-6)


def test_small_slopes_are_kept_in_half_precision():
    """The slope of a mean over 128 x 128 positions is below what float16 holds: the weights times 1 / 16384."""
    weights = images(5, 2, seed=2) * 0.01

    def model_of(policy):
        image = keras.Input((None, None, 1), dtype="float32")
        maps = L.Conv2D(5, 3, padding="same", activation="relu", name="conv", dtype=policy)(image)
        model = keras.Model(image, L.Dense(2, dtype="float32")(L.GlobalAveragePooling2D(dtype=policy)(maps)))
        model.set_weights([images(3, 3, 1, 5), np.zeros(5), weights, np.zeros(2)])
        return model

    x = images(1, 128, 128, 1)
    for method in (explain.saliency, explain.grad_cam):
        whole, half = (method(model_of(policy), x, target=1) for policy in ("float32", "mixed_float16"))
        assert np.corrcoef(whole.ravel(), half.ravel())[0, 1] > 0.99
        np.testing.assert_allclose(half.sum(), whole.sum(), rtol=1e-2)


def test_large_slopes_do_not_overflow_in_half_precision():
    image = keras.Input((4, 4, 1))
    model = keras.Model(image, L.Dense(1, dtype="float32")(L.Flatten()(L.Conv2D(1, 1, dtype="mixed_float16")(image))))
    model.set_weights([np.full((1, 1, 1, 1), 64.0), np.zeros(1), np.full((16, 1), 100.0), np.zeros(1)])
    np.testing.assert_allclose(explain.saliency(model, images(2, 4, 4, 1), target=1), np.full((2, 4, 4), 6400.0))
