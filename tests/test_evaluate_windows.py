"""Sliding windows: networks whose answer for the whole image is known, so that windows must not be seen in it."""

import keras
import numpy as np
import pytest
from keras import layers
from scipy.special import expit, softmax

from medlab import evaluate
from medlab.evaluate import windows
from medlab.volume import Volume

RNG = np.random.default_rng(0)


def network(shape, *stack):
    image = keras.Input(shape)
    output = image
    for layer in stack:
        output = layer(output)
    return keras.Model(image, output)


def whole(model, image):
    """The model's own answer for the whole image in one call."""
    return keras.ops.convert_to_numpy(model(image[None], training=False))[0]


@pytest.fixture(scope="module")
def voxelwise():
    """A network that looks at one voxel at a time: windows cannot change its answer."""
    return network((None, None, None, 2), layers.Conv3D(4, 1, activation="tanh"), layers.Conv3D(3, 1))


@pytest.fixture(scope="module")
def volume():
    return RNG.normal(size=(13, 10, 17, 2)).astype("float32")


@pytest.mark.parametrize(
    "settings",
    [
        {"window": 6},
        {"window": (6, 4, 9), "overlap": 0.25},
        {"window": 5, "overlap": 0},
        {"window": 4, "overlap": 0.9, "batch_size": 50},
        {"window": 7, "mode": "constant"},
        {"window": 6, "mirror": True},
        {"window": 6, "mirror": (0, 2), "batch_size": 5},
        {"window": (20, 6, 30)},
        {"window": 32},
        {"window": None},
    ],
    ids=str,
)
def test_a_voxelwise_network_gives_the_same_as_the_whole(voxelwise, volume, settings):
    expected = whole(voxelwise, volume)
    found = evaluate.sliding_window(voxelwise, volume, **settings, output="logits")
    assert (found.shape, found.dtype) == ((13, 10, 17, 3), np.float32)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    p = evaluate.sliding_window(voxelwise, volume, **settings)
    np.testing.assert_allclose(p, softmax(expected, axis=-1), atol=1e-5)
    labels = evaluate.sliding_window(voxelwise, volume, **settings, output="labels")
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, expected.argmax(axis=-1))


def test_one_window_is_a_single_forward():
    """A network with a wide view: where the image is the window, nothing is cut, weighted or padded."""
    model = network(
        (12, 16, 1), layers.Conv2D(4, 5, padding="same", activation="relu"), layers.Conv2D(2, 5, padding="same")
    )
    image = RNG.normal(size=(12, 16)).astype("float32")
    expected = whole(model, image[..., None])
    for settings in ({}, {"window": (12, 16)}, {"mode": "constant"}, {"overlap": 0}):
        found = evaluate.sliding_window(model, image, **settings, output="logits")
        np.testing.assert_allclose(found, expected, atol=1e-5)
    mirrored = [np.flip(whole(model, np.flip(image[..., None], axes)), axes) for axes in ((), (0,), (1,), (0, 1))]
    found = evaluate.sliding_window(model, image, mirror=True, output="logits")
    np.testing.assert_allclose(found, np.mean(mirrored, axis=0), atol=1e-5)
    found = evaluate.sliding_window(model, image, mirror=[1], output="logits")
    np.testing.assert_allclose(found, (mirrored[0] + mirrored[2]) / 2, atol=1e-5)


def constant(values):
    start = keras.initializers.Constant(np.array(values))
    return network((None, None, 1), layers.Conv2D(len(values), 1, kernel_initializer="zeros", bias_initializer=start))


@pytest.mark.parametrize("mode", ["gaussian", "constant"])
def test_a_constant_network_stays_constant(mode):
    for shape in ((40, 23), (5, 60)):
        found = evaluate.sliding_window(constant([1.5, -2.0]), np.zeros(shape), 8, 0.6, mode=mode, output="logits")
        np.testing.assert_allclose(found, np.broadcast_to([1.5, -2.0], (*shape, 2)), rtol=3e-7)


def test_seams_by_hand():
    """A network that marks the first column of its window shows where windows lie and what they weigh."""
    mark = np.zeros((1, 1, 4, 1), np.float32)
    mark[..., 0, 0] = 1
    model = network((1, 4, 1), layers.Lambda(lambda x: x * 0 + mark))
    # Windows of 4 begin at 0, 2 and 4 of 8 columns. Two windows hold each of the columns 2 to 5.
    even = evaluate.sliding_window(model, np.zeros((1, 8)), mode="constant", output="logits")
    np.testing.assert_allclose(even[0, :, 0], [1, 0, 0.5, 0, 0.5, 0, 0, 0], atol=1e-7)
    # Weights exp(-d^2 / 2 s^2), s = 4 / 8, at d = 1.5 and 0.5 from the middle: column 2 is the first of the second
    # window (d = 1.5) and the third of the first one (d = 0.5).
    share = np.exp(-(1.5**2) * 2) / (np.exp(-(1.5**2) * 2) + np.exp(-(0.5**2) * 2))
    gauss = evaluate.sliding_window(model, np.zeros((1, 8)), output="logits")
    np.testing.assert_allclose(gauss[0, :, 0], [1, 0, share, 0, share, 0, 0, 0], atol=1e-6)


def test_gaussian_weights_hide_the_seams():
    """A network that is wrong near its window's border: in the middle of the image nothing is left of it."""
    mean = keras.initializers.Constant(1 / 25)
    model = network((16, 16, 1), layers.Conv2D(1, 5, padding="same", kernel_initializer=mean))
    image = np.ones((64, 64), np.float32)  # its mean is 1 but at the window's border, where zeros are padded
    inner = (slice(8, 56), slice(8, 56), 0)
    error = {
        mode: np.abs(evaluate.sliding_window(model, image, mode=mode, output="logits")[inner] - 1).max()
        for mode in ("gaussian", "constant")
    }
    assert error["gaussian"] < 0.02 < 0.2 < error["constant"]


@pytest.mark.parametrize(
    ("size", "window", "overlap", "expected"),
    [
        (10, 10, 0.5, [0]),
        (11, 10, 0.5, [0, 1]),
        (20, 10, 0.5, [0, 5, 10]),
        (21, 10, 0.5, [0, 4, 7, 11]),
        (20, 10, 0, [0, 10]),
        (25, 10, 0, [0, 8, 15]),
        (5, 1, 0.9, [0, 1, 2, 3, 4]),
    ],
)
def test_windows_lie_evenly_from_edge_to_edge(size, window, overlap, expected):
    assert windows._starts(size, window, overlap) == expected


@pytest.mark.parametrize("overlap", [0, 0.3, 0.5, 0.75])
@pytest.mark.parametrize("mode", ["gaussian", "constant"])
def test_weights_of_all_windows_sum_to_one_everywhere(mode, overlap):
    for size in range(9, 40):
        starts = windows._starts(size, 9, overlap)
        assert max(np.diff([*starts, starts[-1]])) <= max(1, 9 * (1 - overlap))
        total = np.zeros(size)
        for start, weight in zip(starts, windows._weights(starts, 9, size, mode), strict=True):
            total[start : start + 9] += weight
        np.testing.assert_allclose(total, 1, atol=1e-6)


def test_models_with_an_activation_of_their_own(volume):
    image = volume[:, :, 0, :]
    for activation, function in (("softmax", lambda x: softmax(x, axis=-1)), ("sigmoid", expit)):
        logits = network((None, None, 2), layers.Conv2D(3, 1))
        model = keras.Model(logits.input, layers.Activation(activation)(logits.output))
        found = evaluate.sliding_window(model, image, 4)
        np.testing.assert_allclose(found, function(whole(logits, image)), atol=1e-5)


def test_a_network_with_one_output(volume):
    image = volume[:, :, 0, :]
    model = network((None, None, 2), layers.Conv2D(1, 1))
    logits = whole(model, image)
    np.testing.assert_allclose(evaluate.sliding_window(model, image, 4), expit(logits), atol=1e-5)
    labels = evaluate.sliding_window(model, image, 4, output="labels")
    np.testing.assert_array_equal(labels, logits[..., 0] >= 0)


def test_a_volume_and_whole_numbers_are_taken(voxelwise, volume):
    integers = (100 * volume).astype(np.int16)
    expected = whole(voxelwise, integers.astype(np.float32))
    found = evaluate.sliding_window(voxelwise, Volume(integers, rank=3), 8, output="logits")
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_padding_takes_the_smallest_value_of_each_channel():
    """A network that adds up its window: what is padded around a constant image shows in the sum."""
    model = network((4, 4, 1), layers.Conv2D(1, 7, padding="same", kernel_initializer="ones"))
    image = np.array([[5.0, 7.0]], np.float32)
    found = evaluate.sliding_window(model, image, output="logits")
    # The sum over the window of 16: 5 and 7, and 14 times 5; at the middle rows the kernel reaches all of it.
    np.testing.assert_allclose(found[..., 0], [[5 * 15 + 7] * 2])


def test_one_shape_is_compiled_whatever_the_number_of_windows(voxelwise, volume):
    shapes = []
    seen = voxelwise.predict_on_batch
    voxelwise.predict_on_batch = lambda batch: shapes.append(batch.shape) or seen(batch)
    try:
        evaluate.sliding_window(voxelwise, volume, 6, batch_size=7, mirror=[1])
    finally:
        del voxelwise.predict_on_batch
    assert set(shapes) == {(7, 6, 6, 6, 2)}
    assert len(shapes) == 2 * -(-(4 * 3 * 5) // 7)


def test_the_image_and_the_model_are_left_as_they_were(voxelwise, volume):
    before, weights = volume.copy(), [keras.ops.convert_to_numpy(one + 0) for one in voxelwise.weights]
    volume.flags.writeable = False
    evaluate.sliding_window(voxelwise, volume, 8, mirror=True)
    np.testing.assert_array_equal(volume, before)
    for one, other in zip(voxelwise.weights, weights, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(one + 0), other)


@pytest.mark.parametrize(
    ("image", "settings", "message"),
    [
        ((13, 10, 17), {"window": 6}, r"an image of 2 channel\(s\) for this model. Received 1"),
        ((13, 10, 17, 3), {"window": 6}, r"an image of 2 channel\(s\) for this model. Received 3"),
        ((1, 13, 10, 17, 2), {"window": 6}, r"one image of 3 axes.*Received shape \(1, 13, 10, 17, 2\)"),
        ((13, 10), {"window": 6}, r"one image of 3 axes.*Received shape \(13, 10\)"),
        ((0, 10, 17, 2), {"window": 6}, "at least one voxel"),
        ((13, 10, 17, 2), {"window": (6, 6)}, r"a window of 3 whole numbers above 0.*Received \(6, 6\)"),
        ((13, 10, 17, 2), {"window": 0}, "a window of 3 whole numbers above 0.*Received 0"),
        ((13, 10, 17, 2), {"window": 2.5}, "a window of 3 whole numbers above 0.*Received 2.5"),
        ((13, 10, 17, 2), {"window": 6, "overlap": 1}, "an overlap from 0 to below 1, such as 0.5. Received 1"),
        ((13, 10, 17, 2), {"window": 6, "overlap": -0.1}, "an overlap from 0 to below 1"),
        ((13, 10, 17, 2), {"window": 6, "mode": "linear"}, "mode among gaussian, constant. Received 'linear'"),
        ((13, 10, 17, 2), {"window": 6, "output": "mask"}, "output among probabilities, labels, logits"),
        ((13, 10, 17, 2), {"window": 6, "mirror": [3]}, r"mirror True, False or axes among \(0, 1, 2\)"),
        ((13, 10, 17, 2), {"window": 6, "batch_size": 0}, "a batch size of at least 1. Received 0"),
    ],
)
def test_bad_arguments(voxelwise, image, settings, message):
    with pytest.raises(ValueError, match=message):
        evaluate.sliding_window(voxelwise, np.zeros(image), **settings)


def test_bad_images_and_models(voxelwise, volume):
    broken = volume.copy()
    broken[3, 3, 3, 0] = np.nan
    with pytest.raises(ValueError, match=r"a finite image. It has NaN or infinity; clean.repair"):
        evaluate.sliding_window(voxelwise, broken, 6)
    with pytest.raises(ValueError, match=r"an image as numbers\. Received type <U"):
        evaluate.sliding_window(voxelwise, np.full((3, 3, 3), "a"), 6)
    classifier = network((8, 8, 1), layers.GlobalAveragePooling2D(), layers.Dense(2))
    with pytest.raises(ValueError, match=r"gives every voxel its classes.*This one gives \(2,\); is it a classifier"):
        evaluate.sliding_window(classifier, np.zeros((9, 9)))
    with pytest.raises(ValueError, match=r"the window that this model takes, \(8, 8\). Received \(6, 6\)"):
        evaluate.sliding_window(classifier, np.zeros((9, 9)), 6)
    half = network((8, 8, 1), layers.Conv2D(2, 1, strides=2))
    with pytest.raises(ValueError, match=r"This one gives \(4, 4, 2\)"):
        evaluate.sliding_window(half, np.zeros((9, 9)))
    failed = constant([np.nan, 1.0])
    with pytest.raises(ValueError, match=r"finite outputs\. The model gives NaN"):
        evaluate.sliding_window(failed, np.zeros((9, 9)), 8)
    flat = network((4,), layers.Dense(2))
    with pytest.raises(ValueError, match=r"pictures \(n, i, j, c\) or volumes.*Its input is \(None, 4\)"):
        evaluate.sliding_window(flat, np.zeros((9, 9)), 8)


def test_a_network_with_strides_and_open_sides_takes_any_image():
    """Halved and doubled again: sides of 4 n alone can be joined. Padded by hand to them it says the same."""
    from medlab import models

    model = models.unet((None, None, 1), 2, width=2, levels=3)
    image = RNG.normal(size=(21, 18, 1)).astype("float32")
    found = evaluate.sliding_window(model, image, output="logits")
    padded = np.full((24, 20, 1), image.min())
    padded[2:23, 1:19] = image
    np.testing.assert_allclose(found, whole(model, padded)[2:23, 1:19], atol=1e-5)


def test_overlapping_classes_have_a_sigmoid_each():
    inputs = keras.Input((None, None, 1))
    model = keras.Model(inputs, layers.Conv2D(3, 1)(inputs), name="lesions_multi_label")
    image = RNG.normal(size=(9, 8, 1)).astype("float32")
    np.testing.assert_allclose(evaluate.sliding_window(model, image, 4), expit(whole(model, image)), atol=1e-6)
    with pytest.raises(ValueError, match=r"overlapping classes .* Take sliding_window\(...\) >= 0.5"):
        evaluate.sliding_window(model, image, 4, output="labels")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mirror": 1}, r"mirror True, False or axes among \(0, 1, 2\). Received 1"),
        ({"mirror": "ij"}, "Received 'ij'"),
        ({"overlap": "half"}, "an overlap from 0 to below 1, such as 0.5. Received 'half'"),
        ({"batch_size": 2.5}, "a batch size of at least 1. Received 2.5"),
    ],
)
def test_arguments_of_another_kind(voxelwise, settings, message):
    with pytest.raises(ValueError, match=message):
        evaluate.sliding_window(voxelwise, np.zeros((8, 8, 8, 2)), 6, **settings)
