"""U-Net: sizes of its maps, weights counted by hand, cropping at odd sizes, one step that lowers the loss, errors."""

import keras
import numpy as np
import pytest

from medlab import models
from medlab.backend import keras as same

# On JAX and TensorFlow Keras hands variables to np.array, whose argument copy they do not know yet.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def size(model, name):
    return model.get_layer(name).output.shape[1:]


def test_maps_of_a_volume():
    model = models.unet((40, 56, 40, 1), 3, width=2)
    assert model.output_shape == (None, 40, 56, 40, 3)
    assert size(model, "encode1") == size(model, "decode1") == (40, 56, 40, 2)
    assert size(model, "encode2") == size(model, "decode2") == (20, 28, 20, 4)
    assert size(model, "encode3") == size(model, "decode3") == (10, 14, 10, 8)
    # A fourth halving would leave 2.5 voxels along the first axis.
    assert size(model, "bottom") == (5, 7, 5, 16)
    assert model.layers[-1].name == "logits"


def test_axes_are_halved_as_far_as_each_allows():
    model = models.unet((64, 48, 8, 1), 2, width=2)
    assert size(model, "encode2")[:-1] == (32, 24, 4)
    assert size(model, "encode3")[:-1] == (16, 12, 4)
    assert size(model, "bottom")[:-1] == (4, 6, 4)
    assert size(model, "decode2") == (32, 24, 4, 4)


def test_strides_and_kernels_of_each_axis():
    model = models.unet(
        (32, 32, 6, 1), 2, width=2, strides=[(2, 2, 1), 2], kernels=[(3, 3, 1), (3, 3, 1), 3], norm="batch"
    )
    assert size(model, "bottom")[:-1] == (8, 8, 3)
    assert model.get_layer("encode1_first_conv").kernel.shape == (3, 3, 1, 1, 2)
    assert model.get_layer("encode2_first_conv").strides == (2, 2, 1)
    assert model.get_layer("decode1_enlarge").kernel.shape == (2, 2, 1, 2, 4)
    assert model.get_layer("bottom_last_conv").kernel.shape == (3, 3, 3, 8, 8)


@pytest.mark.parametrize("residual", [True, False])
def test_weights_counted_by_hand(residual):
    """Two levels in 2-D without norms, c = 3 channels in, w = 4 and 8 channels, 5 classes."""
    w, c = 4, 3
    encode1 = (9 * c * w + w) + (9 * w * w + w) + (residual * (c * w + w))
    bottom = (9 * w * 2 * w + 2 * w) + (9 * 4 * w * w + 2 * w) + (residual * (2 * w * w + 2 * w))
    decode1 = 4 * 2 * w * w + (9 * 2 * w * w + w) + (9 * w * w + w)
    logits = w * 5 + 5
    model = models.unet((16, 12, c), 5, width=w, levels=2, residual=residual, norm=None)
    assert model.count_params() == encode1 + bottom + decode1 + logits


def test_channels_stop_growing():
    model = models.unet((64, 64, 1), 2, width=128, levels=5)
    assert [size(model, name)[-1] for name in ("encode1", "encode2", "encode3", "encode4", "bottom")] == [
        128, 256, 512, 512, 512,
    ]  # fmt: skip
    model = models.unet((32, 32, 32, 1), 2, width=128, levels=4)
    assert size(model, "encode3")[-1] == size(model, "bottom")[-1] == 320


@pytest.mark.parametrize("shape", [(37, 51, 1), (33, 18, 41, 2)])
def test_any_fixed_size_fits(shape):
    model = models.unet(shape, 2, width=2)
    assert model.output_shape == (None, *shape[:-1], 2)
    assert size(model, "decode2")[:-1] == tuple(-(-side // 2) for side in shape[:-1])
    assert np.isfinite(model.predict_on_batch(np.ones((1, *shape), np.float32))).all()


def test_a_size_that_is_not_fixed():
    """With the same seed the network of open size is that of fixed size, also on a larger image."""
    fixed, free = models.unet((16, 24, 1), 2, width=2, levels=3), models.unet((None, None, 1), 2, width=2, levels=3)
    x = np.random.default_rng(0).normal(size=(2, 16, 24, 1)).astype(np.float32)
    np.testing.assert_allclose(fixed.predict_on_batch(x), free.predict_on_batch(x), atol=1e-5)
    assert free.predict_on_batch(np.ones((1, 32, 8, 1), np.float32)).shape == (1, 32, 8, 2)


def test_how_far_a_voxel_reaches():
    """By hand: two convolutions before and two after the halving reach 2 + 2 voxels. Between
    them half-size voxel o looks at 2 o to 2 o + 2, and with its neighbors at 2 o - 2 to 2 o + 4. So an odd voxel looks
    7 back and an even one 8 on.
    """
    model = models.unet((40, 16, 1), 2, width=4, levels=2, norm=None)
    x = np.random.default_rng(1).normal(size=(3, 40, 16, 1)).astype(np.float32)
    x[1:] = x[0]
    x[1, 36, 8] += 10
    x[2, 4, 8] += 10
    out = model.predict_on_batch(x)
    assert np.flatnonzero((out[1] != out[0]).any(axis=(1, 2))).min() == 36 - 8
    assert np.flatnonzero((out[2] != out[0]).any(axis=(1, 2))).max() == 4 + 7


def test_instance_norm_does_not_see_brightness_and_contrast():
    """Each channel of each case has mean 0 and variance 1 after the first norm, whatever the image's scale."""
    model = models.unet((16, 16, 1), 2, width=4, levels=2, dropout=0.0)
    x = np.random.default_rng(2).normal(size=(1, 16, 16, 1)).astype(np.float32)
    first = same.Model(model.input, model.get_layer("encode1_first_norm").output)
    both = first.predict_on_batch(np.concatenate([x, 100 * x]))
    np.testing.assert_allclose(both[0], both[1], atol=1e-3)
    np.testing.assert_allclose(both.mean(axis=(1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(both.var(axis=(1, 2)), 1, atol=1e-3)


def test_a_case_does_not_depend_on_its_batch():
    model = models.unet((16, 16, 1), 3, width=4)
    x = np.random.default_rng(3).normal(size=(3, 16, 16, 1)).astype(np.float32)
    np.testing.assert_allclose(model.predict_on_batch(x)[1:2], model.predict_on_batch(x[1:2]), atol=1e-5)


def test_the_seed_decides_the_start():
    one, two, other = (models.unet((16, 16, 1), 2, width=2, seed=seed) for seed in (5, 5, 6))
    for a, b, c in zip(one.weights, two.weights, other.weights, strict=True):
        assert np.array_equal(keras.ops.convert_to_numpy(a), keras.ops.convert_to_numpy(b))
        if a.name == "kernel":
            assert not np.array_equal(keras.ops.convert_to_numpy(a), keras.ops.convert_to_numpy(c))


@pytest.mark.parametrize(
    ("norm", "shape"),
    [("instance", (8, 12, 8, 2)), ("instance", (16, 24, 1)), ("batch", (16, 24, 1)), (None, (16, 24, 1))],
)
def test_it_learns_a_threshold(norm, shape):
    """The class of a voxel is the sign of the image's first channel: a few steps nearly solve it."""
    x = np.random.default_rng(4).normal(size=(4, *shape)).astype(np.float32)
    y = (x[..., 0] > 0).astype(np.int32)
    model = models.unet(shape, 2, width=4, levels=2, norm=norm)
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = [float(model.train_on_batch(x, y)) for _ in range(30)]
    assert losses[-1] < 0.6 * losses[0]
    p = keras.ops.convert_to_numpy(model(x, training=True))
    assert (p.argmax(-1) == y).mean() > 0.8


def test_saved_and_loaded(tmp_path):
    model = models.unet((18, 24, 10, 1), 3, width=2, dropout=0.1)
    model.save(tmp_path / "unet.keras")
    again = keras.models.load_model(tmp_path / "unet.keras", compile=False, safe_mode=True)
    x = np.random.default_rng(5).normal(size=(1, 18, 24, 10, 1)).astype(np.float32)
    assert np.array_equal(model.predict_on_batch(x), again.predict_on_batch(x))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"input_shape": (16, 1), "classes": 2}, r"Expected input_shape \(i, j, c\).*Received \(16, 1\)"),
        ({"input_shape": (16, 16, None), "classes": 2}, r"a side \(not c\) may be None"),
        ({"input_shape": (16, 16, 1), "classes": 1}, "at least 2 classes. Received 1; the background counts"),
        ({"input_shape": (16, 16, 1), "classes": 2, "norm": "layer"}, "Expected norm to be one of"),
        ({"input_shape": (16, 16, 1), "classes": 2, "width": 0}, "Expected width to be a positive whole number"),
        ({"input_shape": (16, 16, 1), "classes": 2, "dropout": 1.0}, "Expected dropout from 0 to below 1"),
        ({"input_shape": (7, 7, 1), "classes": 2}, r"7 x 7 have room for 1 level\(s\)"),
        ({"input_shape": (16, 16, 1), "classes": 2, "levels": 4}, r"16 x 16 have room for 3 level\(s\)"),
        ({"input_shape": (16, 16, 1), "classes": 2, "levels": 1}, "Expected at least two levels. Received 1"),
        ({"input_shape": (16, 16, 1), "classes": 2, "strides": []}, "at least one entries"),
        ({"input_shape": (16, 16, 1), "classes": 2, "strides": [2], "levels": 3}, "to hold 2 entries.*Received 1"),
        ({"input_shape": (16, 16, 1), "classes": 2, "strides": [(2, 2, 2)]}, "one or 2 a level"),
        ({"input_shape": (16, 16, 1), "classes": 2, "kernels": [3]}, "one kernel for each of 3 levels. Received 1"),
        ({"input_shape": (16, 16, 1), "classes": 2, "levels": 2, "kernels": [3, 2]}, "odd sides"),
        ({"input_shape": (4, 4, 1), "classes": 2, "strides": [2, 4]}, r"Stride \(4, 4\) of level 3 is longer"),
        ({"input_shape": (4, 4, 1), "classes": 2, "strides": [2, 2]}, "a single voxel"),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(arguments, text):
    with pytest.raises(ValueError, match=text):
        models.unet(**arguments)


def test_shortcuts_pick_pixels_before_the_convolution():
    """TensorFlow 2.21 crashes in the gradient of a 2-D convolution of kernel 1 and stride 2 on large maps."""
    for model in (models.unet((64, 64, 1), 2, width=4), models.resnet((64, 64, 1), 2)):
        shapes = [
            (layer.kernel_size, layer.strides) for layer in model.layers if isinstance(layer, keras.layers.Conv2D)
        ]
        assert not [strides for kernel, strides in shapes if max(kernel) == 1 and max(strides) > 1]
        assert any(layer.name.endswith("shortcut_pick") for layer in model.layers)
