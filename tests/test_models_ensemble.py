"""Ensembles: the arithmetic of the average against NumPy, stability, saving, explaining, errors."""

import warnings

import keras
import numpy as np
import pytest
from scipy.special import expit, logit, softmax

from medlab import evaluate, explain, models

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def fixed(values, *, activation=None, name=None):
    """A model that gives the same logits for every image of one pixel."""
    image = keras.Input((1, 1, 1))
    x = keras.layers.Flatten()(image)
    dense = keras.layers.Dense(len(values), kernel_initializer="zeros", activation=activation)
    model = keras.Model(image, dense(x), **({"name": name} if name else {}))
    dense.bias.assign(np.asarray(values, np.float32))
    return model


def output(model, x=None):
    x = np.zeros((1, *model.input_shape[1:]), np.float32) if x is None else x
    return keras.ops.convert_to_numpy(model(x, training=False)).astype(float)


def test_one_logit_is_the_log_odds_of_the_mean_probability():
    values = [0.3, -1.2, 2.5]
    found = output(models.ensemble([fixed([value]) for value in values]))
    np.testing.assert_allclose(found, [[logit(expit(values).mean())]], rtol=1e-5)


def test_several_logits_are_the_logarithm_of_the_mean_softmax():
    values = np.array([[0.3, -1.2, 2.5], [3.0, 0.0, -2.0]])
    found = output(models.ensemble([fixed(value) for value in values]))
    np.testing.assert_allclose(found[0], np.log(softmax(values, axis=1).mean(axis=0)), rtol=1e-5)


def test_several_labels_are_averaged_each_by_itself():
    values = np.array([[0.3, -1.2], [3.0, 0.5]])
    made = models.ensemble([fixed(value, name=f"net{n}_multi_label") for n, value in enumerate(values)])
    assert made.name == "ensemble_multi_label"
    np.testing.assert_allclose(output(made)[0], logit(expit(values).mean(axis=0)), rtol=1e-5)
    said = models.ensemble([fixed(value) for value in values], multi_label=True)
    np.testing.assert_allclose(output(said), output(made))


def test_mean_logit():
    values = np.array([[0.3, -1.2, 2.5], [3.0, 0.0, -2.0]])
    found = output(models.ensemble([fixed(value) for value in values], average="logit"))
    np.testing.assert_allclose(found[0], values.mean(axis=0), rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((100.0, 90.0), 90 + np.log(2) - np.log1p(np.exp(-10))),
        ((-100.0, -90.0), -(90 + np.log(2) - np.log1p(np.exp(-10)))),
        ((1000.0, -1000.0), 0.0),
    ],
)
def test_sure_members_do_not_overflow(values, expected):
    """In probabilities, 1 - 1e-39 is 1 and its log-odds are infinite."""
    np.testing.assert_allclose(output(models.ensemble([fixed([v]) for v in values])), [[expected]], rtol=1e-6)
    two = models.ensemble([fixed([v, 0.0]) for v in values])  # a softmax over (v, 0) is the sigmoid of v
    found = output(two)[0]
    np.testing.assert_allclose(found[0] - found[1], expected, rtol=1e-5, atol=1e-3)


def test_members_may_end_in_an_activation():
    values = [0.3, -1.2]
    mixed = models.ensemble([fixed([values[0]]), fixed([values[1]], activation="sigmoid")])
    np.testing.assert_allclose(output(mixed), [[logit(expit(values).mean())]], rtol=1e-5)
    three = np.array([[0.3, -1.2, 2.5], [3.0, 0.0, -2.0]])
    mixed = models.ensemble([fixed(three[0]), fixed(three[1], activation="softmax")])
    np.testing.assert_allclose(output(mixed)[0], np.log(softmax(three, axis=1).mean(axis=0)), rtol=1e-5)


def trained(seed, classes=2):
    """A small network whose logits are not near 0."""
    model = models.small_cnn((12, 12, 1), classes, width=4, seed=seed)
    dense = model.get_layer("logits")
    dense.kernel.assign(4 * dense.kernel)
    return model


def test_probabilities_are_the_mean_of_the_members(tmp_path):
    x = np.random.default_rng(0).normal(size=(5, 12, 12, 1)).astype(np.float32)
    for classes in (2, 3):
        members = [trained(seed, classes) for seed in range(3)]
        made = models.ensemble(members)
        p = evaluate.predict(made, x)
        np.testing.assert_allclose(p, np.mean([evaluate.predict(one, x) for one in members], axis=0), atol=1e-6)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="__array__ implementation", category=DeprecationWarning)
            made.save(tmp_path / "ensemble.keras")
        np.testing.assert_array_equal(evaluate.predict(models.load(tmp_path / "ensemble.keras"), x), p)


def test_its_heat_map_adds_up_those_of_its_members():
    """The mean logit is linear: each member's Grad-CAM counts by its share."""
    x = np.random.default_rng(0).normal(size=(4, 12, 12, 1)).astype(np.float32)
    members = [trained(seed) for seed in range(3)]
    made = models.ensemble(members, average="logit")
    for target in (0, 1):
        single = np.mean([explain.grad_cam(one, x, target=target) for one in members], axis=0)
        assert single.max() > 0
        np.testing.assert_allclose(explain.grad_cam(made, x, target=target), single, rtol=1e-3, atol=1e-6)
    alone = explain.grad_cam(made, x, target=1, layer="member1/stage4")
    np.testing.assert_allclose(3 * alone, explain.grad_cam(members[0], x, target=1), rtol=1e-3, atol=1e-6)


ONE = {"one": None}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: models.ensemble([fixed([0.0])]), "two models or more. Received 1"),
        (lambda: models.ensemble([ONE["one"]] * 2), "the same one twice"),
        (lambda: models.ensemble([fixed([0.0]), fixed([0.0])], average="vote"), "average to be one of"),
        (lambda: models.ensemble([fixed([0.0]), fixed([0.0, 1.0])]), "1, 2 outputs"),
        (lambda: models.ensemble([fixed([0.0]), "model.keras"]), "Received 'model.keras'"),
        (
            lambda: models.ensemble([fixed([0.0] * 2), fixed([0.0] * 2, name="many_multi_label")]),
            "Some are for several labels",
        ),
        (
            lambda: models.ensemble([fixed([0.0] * 2), fixed([0.0] * 2, activation="sigmoid")]),
            "ends in a sigmoid, which gives independent labels",
        ),
    ],
)
def test_errors(make, message):
    ONE["one"] = fixed([0.0])
    with pytest.raises(ValueError, match=message):
        make()
