"""Maps of mirrored copies: centered where a layer with stride looks from one side."""

from functools import partial

import keras
import numpy as np
import pytest

from medlab import explain


def halving(rank):
    """A network that keeps the first voxel of each pair, twice, and answers with their sum."""
    image = keras.Input((16,) * rank + (1,))
    convolution = (keras.layers.Conv2D, keras.layers.Conv3D)[rank - 2]
    pool = (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalAveragePooling3D)[rank - 2]
    x = convolution(1, 1, strides=2, kernel_initializer="ones", name="one")(image)
    x = convolution(1, 1, strides=2, kernel_initializer="ones", name="two")(x)
    return keras.Model(image, keras.layers.Dense(1, kernel_initializer="ones")(pool()(x)))


@pytest.mark.parametrize("rank", [2, 3])
def test_a_mirrored_map_is_the_mean_over_all_flips(rank):
    model = halving(rank)
    x = np.random.default_rng(0).random((2,) + (16,) * rank + (1,), np.float32)
    method = partial(explain.layer_cam, layer="two")
    one = explain.mirrored(partial(explain.layer_cam, layer="two"), axes=(0,))(model, x, target=1)
    wanted = (method(model, x, target=1) + np.flip(method(model, np.flip(x, 1), target=1), 1)) / 2
    np.testing.assert_allclose(one, wanted, rtol=1e-5)
    both = explain.mirrored(method)(model, x, target=1)
    np.testing.assert_allclose(explain.mirrored(method)(model, np.flip(x, 1), target=1), np.flip(both, 1), rtol=1e-5)


def test_what_lies_off_to_one_side_is_centered():
    """Over all four places within a cell a square is seen 1.5 voxels too far to one side, and mirrored where it is."""
    x = np.zeros((4, 16, 16, 1), np.float32)
    for case in range(4):
        x[case, 4 + case : 8 + case, 4:8] = 1
    middle = 5.5 + np.arange(4)
    off = {}
    for name, method in (("plain", explain.grad_cam), ("mirrored", explain.mirrored(explain.grad_cam))):
        mass = method(halving(2), x, target=1).sum(axis=2)
        off[name] = np.mean((mass * np.arange(16)).sum(1) / mass.sum(1) - middle)
    assert off["plain"] == pytest.approx(1.5, abs=1e-3)
    assert off["mirrored"] == pytest.approx(0, abs=1e-3)


def test_the_class_is_that_of_the_image_itself():
    image = keras.Input((4, 4, 1))
    x = keras.layers.Conv2D(1, 1, kernel_initializer="ones")(image)
    model = keras.Model(image, keras.layers.Dense(1)(keras.layers.Flatten()(x)))
    weights = np.zeros((16, 1), np.float32)
    weights[0], weights[12] = 1, -1  # the first corner speaks for class 1, the one below it against
    model.layers[-1].set_weights([weights, np.zeros(1, np.float32)])
    x = np.zeros((1, 4, 4, 1), np.float32)
    x[0, 0, 0] = 1  # mirrored along i it lies in the other corner, and the predicted class turns
    seen = []

    def noting(model, x, *, target):
        seen.append(np.asarray(target).tolist())
        return explain.saliency(model, x, target=target)

    explain.mirrored(noting, axes=(0,))(model, x)
    assert seen == [[1], [1]]


def test_other_inputs_stay():
    image, age = keras.Input((8, 8, 1), name="image"), keras.Input((1,), name="age")
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 3, padding="same")(image))
    model = keras.Model([image, age], keras.layers.Dense(2)(keras.layers.Concatenate()([pooled, age])))
    x = [np.random.default_rng(0).random((2, 8, 8, 1), np.float32), np.ones((2, 1), np.float32)]
    heat = explain.mirrored(explain.grad_cam)(model, x, target=1)
    flipped = explain.mirrored(explain.grad_cam)(model, [x[0][:, ::-1], x[1]], target=1)
    np.testing.assert_allclose(flipped, heat[:, ::-1], rtol=1e-4, atol=1e-7)


def test_an_axis_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"axes from 0 to 1\. Received \(2,\)"):
        explain.mirrored(explain.grad_cam, axes=(2,))(halving(2), np.zeros((1, 16, 16, 1)))
