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
    assert heat.max() > 0
    flipped = explain.mirrored(explain.grad_cam)(model, [x[0][:, ::-1], x[1]], target=1)
    np.testing.assert_allclose(flipped, heat[:, ::-1], rtol=1e-4, atol=1e-7)


def segmenting():
    image = keras.Input((16, 12, 1))
    features = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(image)
    mask = keras.layers.Conv2D(2, 3, padding="same", name="mask")(features)
    return keras.Model(image, mask), keras.Model(
        image, [mask, keras.layers.Dense(1)(keras.layers.GlobalAveragePooling2D()(features))]
    )


@pytest.mark.parametrize("axes", [(0,), None])
def test_the_masks_of_a_target_are_mirrored_too(axes):
    """Two convolutions see 2 pixels far: the heat of a region lies in it and 2 pixels around it, nowhere else."""
    one, several = segmenting()
    x = np.random.default_rng(0).normal(size=(3, 16, 12, 1)).astype("float32")
    masks = np.zeros((3, 16, 12), bool)
    masks[:, 3:5, 2:4] = True
    target = explain.region(1, masks)
    heat = explain.mirrored(explain.saliency, axes=axes)(one, x, target=target)
    assert (heat[:, 1:7, :6] > 0).mean() > 0.9
    heat[:, 1:7, :6] = 0
    np.testing.assert_array_equal(heat, 0)
    name = several.output_names[0]
    of_output = explain.mirrored(explain.saliency, axes=axes)(several, x, target={name: target})
    assert of_output.max() > 0
    of_output[:, 1:7, :6] = 0
    np.testing.assert_array_equal(of_output, 0)


def test_masks_that_do_not_lie_like_the_image_are_refused():
    image = keras.Input((8, 8, 1))
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.Reshape((8, 8))(image)))
    x = np.ones((1, 8, 8, 1), np.float32)
    with pytest.raises(ValueError, match=r"masks with the 2 axes of the image.* \(n, 8\)"):
        explain.mirrored(explain.saliency)(model, x, target=explain.region(1, np.ones((1, 8))))


def test_another_image_of_the_same_shape_is_mirrored_too():
    images = [keras.Input((8, 6, 1), name=name) for name in ("t1", "t2")]
    features = keras.layers.Conv2D(3, 3, padding="same", activation="relu")(keras.layers.Concatenate()(images))
    model = keras.Model(images, keras.layers.Dense(2)(keras.layers.Flatten()(features)))
    t1, t2 = np.random.default_rng(0).normal(size=(2, 3, 8, 6, 1)).astype("float32")
    found = explain.mirrored(explain.saliency, axes=(0,))(model, explain.Inputs([t1, t2], "t2"), target=1)
    plain = explain.saliency(model, explain.Inputs([t1, t2], "t2"), target=1)
    turned = explain.saliency(model, explain.Inputs([t1[:, ::-1], t2[:, ::-1]], "t2"), target=1)
    np.testing.assert_allclose(found, (plain + turned[:, ::-1]) / 2, rtol=1e-4, atol=1e-7)


def test_an_axis_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"axes from 0 to 1\. Received \(2,\)"):
        explain.mirrored(explain.grad_cam, axes=(2,))(halving(2), np.zeros((1, 16, 16, 1)))
