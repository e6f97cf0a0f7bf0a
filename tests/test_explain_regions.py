"""Regions: a segmentation that is linear at each position, whose gradients are known."""

import keras
import numpy as np
import pytest
from keras import layers

from medlab import explain, models

W = np.array([[2.0, -3.0, 0.5]], np.float32)  # one channel to three classes


def pointwise(shape=(4, 5, 1), activation=None):
    """A segmentation whose logit of class c is W[c] times the pixel."""
    image = keras.Input(shape)
    kind = layers.Conv2D if len(shape) == 3 else layers.Conv3D
    model = keras.Model(image, kind(3, 1, use_bias=False, activation=activation)(image))
    model.set_weights([W.reshape(*[1] * (len(shape) - 1), 1, 3)])
    return model


@pytest.mark.parametrize("shape", [(4, 5, 1), (3, 4, 5, 1)])
@pytest.mark.parametrize("activation", [None, "softmax"])
def test_the_gradient_is_the_weight_by_the_region(shape, activation):
    """The mean over a mask of m voxels: |w| / m within it, 0 outside; before a softmax as without one."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, *shape)).astype(np.float32)
    masks = rng.random(x.shape[:-1]) < 0.4
    masks[2] = False
    count = np.maximum(masks.reshape(5, -1).sum(axis=1), 1).reshape(-1, *[1] * (len(shape) - 1))
    for label in range(3):
        found = explain.saliency(pointwise(shape, activation), x, target=explain.region(label, masks), batch_size=2)
        np.testing.assert_allclose(found, np.abs(W[0, label]) * masks / count, rtol=1e-5, atol=1e-7)
    everywhere = explain.saliency(pointwise(shape, activation), x, target=explain.region(1))
    np.testing.assert_allclose(everywhere, np.full(x.shape[:-1], 3.0 / np.prod(shape)), rtol=1e-5)


def test_each_case_has_its_own_region_in_any_order():
    x = np.random.default_rng(1).normal(size=(4, 4, 5, 1)).astype(np.float32)
    masks = np.zeros((4, 4, 5))
    for case in range(4):
        masks[case, case, case] = 2
    target = explain.region(0, masks)
    model = pointwise()
    for method, options in ((explain.occlusion, {"patch": 1}), (explain.input_times_gradient, {"sign": "both"})):
        together = method(model, x, target=target, batch_size=3, **options)
        back = method(model, x[::-1], target=explain.region(0, masks[::-1]), batch_size=3, **options)[::-1]
        single = [method(model, x[[n]], target=target.of(np.array([n])), **options)[0] for n in range(4)]
        np.testing.assert_allclose(together, back, atol=1e-6)
        np.testing.assert_allclose(together, single, atol=1e-6)
        assert all((np.argwhere(heat) == case).all() for case, heat in enumerate(together))
    expected = 2 * x[..., 0] * (masks > 0)
    found = explain.integrated_gradients(model, x, target=target, sign="both")
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_one_channel_is_foreground_and_its_contrary():
    image = keras.Input((3, 3, 1))
    model = keras.Model(image, layers.Conv2D(1, 1, use_bias=False, activation="sigmoid")(image))
    model.set_weights([np.full((1, 1, 1, 1), 4.0, np.float32)])
    x = np.ones((1, 3, 3, 1), np.float32)
    for label, sign in ((1, 1), (0, -1)):
        found = explain.input_times_gradient(model, x, target=explain.region(label), sign="both")
        np.testing.assert_allclose(found, np.full((1, 3, 3), sign * 4 / 9), rtol=1e-5)
    with pytest.raises(ValueError, match=r"Expected a label from 0 to 1. Received 2"):
        explain.saliency(model, x, target=explain.region(2))


def test_every_class_where_the_model_found_it():
    """Input times gradient of the class that wins: its logit by the size of its region, 0 where it did not win."""
    x = np.array([[[1.0, -1.0], [2.0, -2.0]]], np.float32)[..., None]
    model = pointwise((2, 2, 1))
    maps = explain.class_maps(model, x, method=explain.input_times_gradient, sign="both")
    # bright pixels are class 0 (logits 2, 4), dark ones class 1 (3, 6), class 2 is nowhere
    expected = np.array([[[[1, 0], [2, 0]], [[0, 1.5], [0, 3]], [[0, 0], [0, 0]]]])
    np.testing.assert_allclose(maps, expected, rtol=1e-5)
    truth = np.full((1, 2, 2), 2)
    of_truth = explain.class_maps(model, x, labels=[2], masks=truth, method=explain.input_times_gradient, sign="both")
    np.testing.assert_allclose(of_truth[:, 0], 0.5 * x[..., 0] / 4, rtol=1e-5)
    assert explain.class_maps(model, x[:0]).shape == (0, 3, 2, 2)


def test_maps_of_a_unet_are_taken_at_a_layer():
    model = models.unet((16, 16, 1), 3, width=4, levels=2, seed=1)
    x = np.random.default_rng(2).normal(size=(3, 16, 16, 1)).astype(np.float32)
    maps = explain.class_maps(model, x, layer="decode1", batch_size=2)
    answer = model.predict(x, verbose=0).argmax(-1)
    for label in range(3):
        one = explain.grad_cam(model, x, target=explain.region(label, answer == label), layer="decode1")
        np.testing.assert_allclose(maps[:, label], one, atol=1e-6)
        nowhere = ~(answer == label).any(axis=(1, 2))
        assert (maps[nowhere, label] == 0).all()
    assert maps.max() > 0


def test_an_answer_a_slice():
    """A recurrent kind of output, (n, k, classes): the region is a slice."""
    volume = keras.Input((2, 3, 4, 1))
    model = keras.Model(volume, layers.Dense(2, use_bias=False)(keras.ops.mean(volume, axis=(1, 2))))
    model.set_weights([np.array([[1.0, -6.0]], np.float32)])
    x = np.ones((2, 2, 3, 4, 1), np.float32)
    slices = np.array([[0, 1, 0, 0], [0, 0, 0, 1]])
    found = explain.saliency(model, x, target=explain.region(1, slices))
    expected = np.zeros((2, 2, 3, 4))
    expected[0, :, :, 1] = expected[1, :, :, 3] = 1.0  # 6 by the 6 pixels of a slice
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_one_output_of_several():
    image = keras.Input((3, 3, 1))
    mask = layers.Conv2D(1, 1, use_bias=False, name="mask")(image)
    grade = layers.Dense(2, name="grade")(layers.GlobalAveragePooling2D()(image))
    model = keras.Model(image, {"mask": mask, "grade": grade})
    model.get_layer("mask").set_weights([np.full((1, 1, 1, 1), 5.0, np.float32)])
    x = np.ones((2, 3, 3, 1), np.float32)
    place = np.zeros((2, 3, 3))
    place[0, 0, 1] = place[1, 2, 2] = 1
    found = explain.saliency(model, x, target={"mask": explain.region(1, place)}, batch_size=1)
    np.testing.assert_allclose(found, 5 * place, rtol=1e-5)


def test_what_does_not_fit_is_told():
    x = np.zeros((2, 4, 5, 1), np.float32)
    model = pointwise()
    for label in (-1, 1.5, True, "liver"):
        with pytest.raises(ValueError, match=r"Expected as label a class, a whole number of 0 or above"):
            explain.region(label)
    with pytest.raises(ValueError, match=r"Expected a label from 0 to 2. Received 3"):
        explain.saliency(model, x, target=explain.region(3))
    with pytest.raises(ValueError, match=r"Expected a target for 2 cases. Received one for 3"):
        explain.saliency(model, x, target=explain.region(1, np.ones((3, 4, 5))))
    with pytest.raises(
        ValueError, match=r"Expected masks on the grid of the output, \(n, 4, 5\). Received \(n, 5, 4\)"
    ):
        explain.saliency(model, x, target=explain.region(1, np.ones((2, 5, 4))))
    with pytest.raises(ValueError, match=r"without NaN"):
        explain.region(1, np.full((2, 4, 5), np.nan))
    classifier = models.small_cnn((8, 8, 1), 3, width=4)
    with pytest.raises(ValueError, match=r"Expected an output \(n, ..., classes\) with positions"):
        explain.saliency(classifier, np.zeros((1, 8, 8, 1)), target=explain.region(1))
    with pytest.raises(ValueError, match=r"with positions"):
        explain.class_maps(classifier, np.zeros((1, 8, 8, 1)))
