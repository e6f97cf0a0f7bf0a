"""Changed copies of cases keep to their own case: its region, its other inputs, its class."""

import keras
import numpy as np
import pytest

from medlab import explain

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::medlab.explain.maps.guided.SanityWarning"),
]

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
OPTIONS = {"batch_size": 3}  # batches that end in the middle of a case
SIGNED = {
    "input_times_gradient": {},
    "integrated_gradients": {"steps": 4},
    "occlusion": {"patch": 1},
}
SIZES = {"saliency": {}, "smooth_grad": {"n": 4, "noise": 0.0}, "guided_backprop": {}}


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.mark.parametrize("name", [*SIGNED, *SIZES])
@pytest.mark.parametrize("shape", [(4, 3, 1), (3, 2, 2, 1)])
def test_each_case_answers_for_its_own_region(name, shape):
    # The logits of the two classes at a voxel are -x and w x; a region's score is the mean within.
    w, x = images(*shape, seed=1), keras.Input(shape)
    model = keras.Model(x, keras.ops.concatenate([-x, x * w], axis=-1))
    cases, masks = images(4, *shape), np.random.default_rng(2).random((4, *shape[:-1])) < 0.4
    masks[3] = False
    share = masks / np.maximum(masks.sum(tuple(range(1, masks.ndim)), keepdims=True), 1)
    method, target = getattr(explain, name), explain.region(1, masks)
    if name in SIGNED:
        heat = method(model, cases, target=target, sign="both", **SIGNED[name], **OPTIONS)
        expected = share * (w * cases)[..., 0]
    else:
        heat = method(model, cases, target=target, **SIZES[name], **OPTIONS)
        expected = share * np.abs(w)[..., 0]
    assert masks[:3].any(axis=tuple(range(1, masks.ndim))).all()
    np.testing.assert_allclose(heat, expected, **CLOSE)
    assert not heat[3].any()  # an empty region has no score to explain


@pytest.mark.parametrize("name", [*SIGNED, "rise"])
def test_each_case_keeps_its_other_inputs(name):
    # f = age * the sum of w x: what an image's voxel is worth depends on the age that belongs to it.
    w, x, age = images(4, 3, 1, seed=1), keras.Input((4, 3, 1), name="scan"), keras.Input((1,), name="age")
    score = keras.ops.sum(x * w, axis=(1, 2, 3))[:, None] * age
    model = keras.Model({"scan": x, "age": age}, score)
    cases, ages = images(3, 4, 3, 1), np.array([[1], [-3], [20]], "float32")
    given = {"scan": cases, "age": ages}
    effect = ages[:, :, None] * (w * cases)[..., 0]
    if name == "rise":
        heat = explain.rise(
            model, given, target=1, n=2000, cells=4, probability=False, sign="both", batch_size=64
        )  # one cell a voxel
        apart = np.abs(heat - effect / 2).max(axis=(1, 2)) / np.abs(effect).max(axis=(1, 2))
        assert apart.max() < 0.2
        # The same masks for all: cases of one image differ in nothing but their age.
        same = explain.rise(model, {**given, "scan": np.repeat(cases[:1], 3, axis=0)}, target=1, n=50,
                            probability=False, sign="both")  # fmt: skip
        np.testing.assert_allclose(same[2], 20 * same[0], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(same[1], -3 * same[0], rtol=1e-3, atol=1e-4)
        return
    heat = getattr(explain, name)(model, given, target=1, sign="both", **SIGNED[name], **OPTIONS)
    np.testing.assert_allclose(heat, effect, rtol=1e-4, atol=1e-4)


def test_the_predicted_class_is_that_of_the_whole_image():
    # The logits are the sums of x and of -x: covering never changes which of them is explained.
    x = keras.Input((2, 2, 1))
    total = keras.ops.sum(x, axis=(1, 2, 3))[:, None]
    model = keras.Model(x, keras.ops.concatenate([total, -total], axis=1))
    cases = np.array([[3, -2, -2, 2], [-3, 2, 2, -2]], "float32").reshape(2, 2, 2, 1)
    for name, options in SIGNED.items():
        heat = getattr(explain, name)(model, cases, sign="both", **options, **OPTIONS)
        np.testing.assert_allclose(heat[0], cases[0, ..., 0], **CLOSE)
        np.testing.assert_allclose(heat[1], -cases[1, ..., 0], **CLOSE)
