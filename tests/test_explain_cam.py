"""Class activation maps: closed forms, every way to build a model, and a model that is left as it was."""

from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from scipy import ndimage, signal

from medlab import explain
from medlab.explain.maps import cam

# Keras itself reads its variables (get_weights, save) in a way that NumPy 2 calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

L = keras.layers
CAMS = (explain.grad_cam, explain.hires_cam, explain.layer_cam, explain.grad_cam_plus_plus)


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def filled(model, seed=1):
    """The model with known random weights; variances stay positive."""
    generator = np.random.default_rng(seed)
    model.set_weights([generator.uniform(0.1, 1, w.shape) - 0.5 * (w.ndim > 1) for w in model.get_weights()])
    return model


def small(shape, classes=3, *, activation=None, tail=()):
    rank = len(shape) - 1
    conv = L.Conv2D if rank == 2 else L.Conv3D
    mean = L.GlobalAveragePooling2D if rank == 2 else L.GlobalAveragePooling3D
    stack = [keras.Input(shape), conv(4, 3, padding="same", activation="relu", name="conv"), mean()]
    stack += [L.Dense(classes, activation=activation, name="head"), *tail]
    return filled(keras.Sequential(stack))


def features(model, x):
    """The output of the first convolution by SciPy: (n, i, j[, k], c), "same", ReLU."""
    kernel, bias = model.get_weights()[:2]
    out = np.zeros((*x.shape[:-1], kernel.shape[-1]))
    for case, channel in np.ndindex(len(x), kernel.shape[-1]):
        for source in range(x.shape[-1]):
            out[case, ..., channel] += signal.correlate(x[case, ..., source], kernel[..., source, channel], mode="same")
    return np.maximum(out + bias, 0)


@pytest.mark.parametrize("shape", [(9, 6, 2), (5, 6, 7, 2)])
@pytest.mark.parametrize("target", [0, 2])
def test_closed_form_of_convolution_mean_dense(shape, target):
    model, x = small(shape), images(3, *shape)
    a, w = features(model, x), model.get_weights()[2][:, target]
    positions = np.prod(shape[:-1])
    np.testing.assert_allclose(
        explain.grad_cam(model, x, target=target), np.maximum(a @ w, 0) / positions, rtol=0, atol=1e-6
    )


def test_closed_forms_of_the_relatives():
    shape = (6, 5, 1)
    model = filled(
        keras.Sequential(
            [keras.Input(shape), L.Conv2D(3, 3, padding="same", activation="relu"), L.Flatten(), L.Dense(2)]
        )
    )
    x = images(2, *shape)
    a, w = features(model, x), model.get_weights()[2][:, 1].reshape(6, 5, 3)
    close = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(explain.hires_cam(model, x, target=1), np.maximum((a * w).sum(-1), 0), **close)
    np.testing.assert_allclose(explain.layer_cam(model, x, target=1), (a * np.maximum(w, 0)).sum(-1), **close)

    model = small(shape)
    a, w = features(model, x), model.get_weights()[2][:, 1]
    slope = w / 30
    share = 1 / (2 + a.sum(axis=(1, 2)) * slope)
    weights = 30 * share * np.maximum(slope, 0)
    plus = np.maximum(np.einsum("nijc,nc->nij", a, weights), 0)
    np.testing.assert_allclose(explain.grad_cam_plus_plus(model, x, target=1), plus, **close)


def test_one_logit_speaks_for_class_1_and_against_class_0():
    model, x = small((8, 8, 1), 1), images(6, 8, 8, 1)
    signed = (features(model, x) @ model.get_weights()[2][:, 0]) / 64
    close = {"rtol": 1e-4, "atol": 1e-6}
    np.testing.assert_allclose(explain.grad_cam(model, x, target=1), np.maximum(signed, 0), **close)
    np.testing.assert_allclose(explain.grad_cam(model, x, target=0), np.maximum(-signed, 0), **close)
    positive = keras.ops.convert_to_numpy(model(x))[:, 0] >= 0
    expected = np.where(positive[:, None, None], np.maximum(signed, 0), np.maximum(-signed, 0))
    np.testing.assert_allclose(explain.grad_cam(model, x), expected, **close)


def test_no_target_means_the_predicted_class():
    model, x = small((8, 8, 1)), images(5, 8, 8, 1)
    winner = keras.ops.convert_to_numpy(model(x)).argmax(axis=1)
    np.testing.assert_array_equal(explain.grad_cam(model, x), explain.grad_cam(model, x, target=winner))
    np.testing.assert_array_equal(
        explain.grad_cam(model, x, target=[0, 1, 2, 1, 0])[3], explain.grad_cam(model, x, target=1)[3]
    )


@pytest.mark.parametrize("size", [(12, 8), (6, 8, 12)])
def test_heat_lies_where_the_signal_is(size):
    conv = L.Conv2D if len(size) == 2 else L.Conv3D
    mean = L.GlobalAveragePooling2D if len(size) == 2 else L.GlobalAveragePooling3D
    model = keras.Sequential(
        [keras.Input((*size, 1)), conv(1, 2, strides=2, kernel_initializer="ones"), mean(), L.Dense(1, "linear")]
    )
    model.layers[-1].set_weights([np.ones((1, 1)), np.zeros(1)])
    x = np.zeros((1, *size, 1), "float32")
    corner = tuple(slice(0, 2) if axis % 2 else slice(length - 2, length) for axis, length in enumerate(size))
    x[(0, *corner, 0)] = 1
    heat = explain.grad_cam(model, x, target=1)[0]
    assert heat[corner].min() > 0
    hottest = np.argwhere(heat == heat.max())
    for axis, part in enumerate(corner):
        assert (hottest[:, axis] >= part.start).all()
        assert (hottest[:, axis] < part.stop).all()
    outside = heat.copy()
    outside[tuple(slice(None, 4) if part.start == 0 else slice(part.start - 2, None) for part in corner)] = 0
    assert not outside.any()


def test_upsampling_takes_pixels_as_areas():
    maps = np.array([[[0.0, 1.0], [2.0, 3.0]]], "float32")
    along = np.array([0, 0.25, 0.75, 1])
    np.testing.assert_allclose(cam.upsample(maps, (4, 4))[0], 2 * along[:, None] + along, atol=1e-6)
    maps = images(2, 3, 4, 5)
    up = cam.upsample(maps, (9, 8, 20))
    for one, big in zip(maps, up, strict=True):
        oracle = ndimage.zoom(one, (3, 2, 4), order=1, mode="nearest", grid_mode=True)
        np.testing.assert_allclose(big, oracle, atol=1e-5)
    np.testing.assert_array_equal(cam.upsample(maps, (3, 4, 5)), maps)


@pytest.mark.parametrize("method", CAMS)
def test_a_batch_equals_its_single_maps(method):
    model, x = small((16, 12, 1)), images(7, 16, 12, 1)
    whole = method(model, x, target=1)
    assert whole.dtype == np.float32
    assert whole.min() == 0 < whole.max()
    single = np.concatenate([method(model, x[i : i + 1], target=1) for i in range(len(x))])
    np.testing.assert_allclose(whole, single, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(whole, method(model, x, target=1, batch_size=3), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("method", CAMS)
def test_no_gradient_gives_no_heat(method):
    model, x = small((8, 8, 1)), images(2, 8, 8, 1)
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([0 * kernel, bias])
    np.testing.assert_array_equal(method(model, x), np.zeros((2, 8, 8)))


@pytest.mark.parametrize("classes", [1, 3])
def test_the_score_is_taken_before_a_last_activation(classes):
    squash = "sigmoid" if classes == 1 else "softmax"
    x = images(4, 8, 8, 1)
    plain = small((8, 8, 1), classes)
    expected = explain.grad_cam(plain, x)
    assert expected.max() > 0
    large = L.Softmax() if classes == 3 else L.Activation("sigmoid")
    outside = keras.Model(plain.inputs[0], getattr(keras.ops, squash)(plain.outputs[0]))
    ways = [
        small((8, 8, 1), classes, activation=squash),
        small((8, 8, 1), classes, tail=(large,)),
        small((8, 8, 1), classes, tail=(L.Activation(squash), L.Activation("linear", dtype="float32"))),
        outside,
    ]
    for model in ways:
        before = keras.ops.convert_to_numpy(model(x))
        np.testing.assert_allclose(explain.grad_cam(model, x), expected, rtol=1e-4, atol=1e-7)
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(model(x)), before)
        assert before.max() <= 1


def backbone(shape=(16, 12, 2)):
    return keras.Sequential(
        [
            keras.Input(shape),
            L.Conv2D(4, 3, padding="same", name="conv1"),
            L.BatchNormalization(name="norm1"),
            L.ReLU(name="relu1"),
            L.MaxPooling2D(name="pool"),
            L.Conv2D(5, 3, padding="same", name="conv2"),
            L.BatchNormalization(name="norm2"),
            L.ReLU(name="relu2"),
        ],
        name="backbone",
    )


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__(name="subclassed")
        self.backbone = backbone()
        self.mean = L.GlobalAveragePooling2D()
        self.drop = L.Dropout(0.5)
        self.head = L.Dense(3, name="head")

    def call(self, x, training=False):
        return self.head(self.drop(self.mean(self.backbone(x)), training=training))


def nested():
    """The same network flat, functional, nested once and twice, and subclassed, with the same weights."""
    shape = (16, 12, 2)
    tail = lambda: [L.GlobalAveragePooling2D(), L.Dropout(0.5), L.Dense(3, name="head")]  # noqa: E731
    flat = keras.Sequential(
        [keras.Input(shape), *[type(a).from_config(a.get_config()) for a in backbone().layers], *tail()]
    )
    entry = keras.Input(shape)
    y = entry
    for layer in [type(a).from_config(a.get_config()) for a in backbone().layers] + tail():
        y = layer(y)
    entry2 = keras.Input(shape, name="image")
    y2 = backbone()(entry2)
    for layer in tail():
        y2 = layer(y2)
    inner = keras.Sequential([keras.Input(shape), backbone(), L.GlobalAveragePooling2D()], name="encoder")
    entry3 = keras.Input(shape)
    listed = keras.Model([entry3], tail()[2](inner(entry3)))
    subclassed = Subclassed()
    subclassed(np.zeros((1, *shape), "float32"))
    return {
        "flat": filled(flat),
        "functional": filled(keras.Model(entry, y)),
        "sequential in sequential": filled(keras.Sequential([keras.Input(shape), backbone(), *tail()])),
        "sequential in functional": filled(keras.Model(entry2, y2)),
        "by name": filled(keras.Model({"image": entry2}, y2)),
        "twice": filled(listed),
        "subclassed": filled(subclassed),
    }


def test_every_way_to_build_a_model_gives_the_same_map():
    x = images(4, 16, 12, 2)
    models = nested()
    expected = explain.grad_cam(models["flat"], x, target=1)
    inner = explain.grad_cam(models["flat"], x, target=1, layer="relu1")
    assert expected.max() > 0
    assert inner.max() > 0
    for name, model in models.items():
        way = {"flat": "", "functional": "", "twice": "encoder/backbone/"}.get(name, "backbone/")
        np.testing.assert_allclose(explain.grad_cam(model, x, target=1), expected, rtol=1e-3, atol=1e-7, err_msg=name)
        at = explain.grad_cam(model, x, target=1, layer=f"{way}relu1")
        np.testing.assert_allclose(at, inner, rtol=1e-3, atol=1e-7, err_msg=name)
        found = explain.layers(model, x if name == "subclassed" else None)
        kept = ("conv1", "norm1", "relu1", "conv2", "norm2", "relu2")
        assert found == [f"{way}{layer}" for layer in kept], name


def test_the_model_is_left_as_it_was():
    x = images(4, 16, 12, 2)
    for name, model in nested().items():
        fed = {"by name": {"image": x}, "twice": [x]}.get(name, x)
        before, answer = model.get_weights(), keras.ops.convert_to_numpy(model(fed))
        for method in CAMS:
            method(model, x)

        def fails(output):
            raise RuntimeError("on purpose")

        with pytest.raises(RuntimeError, match="on purpose"):
            explain.grad_cam(model, x, target=fails)
        for old, new in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new, err_msg=name)
        np.testing.assert_array_equal(answer, keras.ops.convert_to_numpy(model(fed)), err_msg=name)
        assert not any("call" in vars(layer) for layer in model._flatten_layers()), name


def test_a_failing_model_is_left_as_it_was():
    class Breaks(L.Layer):
        broken = False

        def call(self, x):
            if self.broken:
                raise RuntimeError("broken layer")
            return x

    breaks = Breaks()
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), L.Conv2D(2, 3), breaks, L.Flatten(), L.Dense(2, activation="softmax", name="head")]
    )
    breaks.broken = True
    with pytest.raises(RuntimeError, match="broken layer"):
        explain.grad_cam(model, images(1, 8, 8, 1))
    assert not any("call" in vars(layer) for layer in model.layers)
    assert model.get_layer("head").activation is keras.activations.softmax


def test_a_saved_and_loaded_model_after_explaining(tmp_path):
    model, x = small((8, 8, 1), activation="softmax"), images(2, 8, 8, 1)
    heat = explain.grad_cam(model, x)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_allclose(explain.grad_cam(loaded, x), heat, rtol=1e-6)


def test_a_target_function_explains_a_segmentation():
    i = keras.Input((8, 6, 1))
    features_at = L.Conv2D(3, 3, padding="same", activation="relu", name="features")(i)
    model = filled(keras.Model(i, L.Conv2D(2, 1, activation="softmax", name="mask")(features_at)))
    x = images(2, 8, 6, 1)
    expected = np.maximum(features(model, x) @ model.get_weights()[2][0, 0, :, 1], 0)
    heat = explain.grad_cam(model, x, target=lambda y: y[..., 1])
    np.testing.assert_allclose(heat, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"give `target` as a function"):
        explain.grad_cam(model, x)
    with pytest.raises(ValueError, match=r"keeps the axis of cases"):
        explain.grad_cam(model, x, target=lambda y: keras.ops.sum(y))


def test_mixed_precision_comes_close():
    x = images(2, 16, 16, 1)
    full, half = (
        filled(
            keras.Sequential(
                [keras.Input((16, 16, 1)), L.Conv2D(8, 3, activation="relu", dtype=dtype), L.GlobalAveragePooling2D(),
                 L.Dense(2, dtype="float32")]
            )
        )
        for dtype in ("float32", "mixed_bfloat16")
    )  # fmt: skip
    heat = explain.grad_cam(half, x, target=1)
    assert heat.dtype == np.float32
    expected = explain.grad_cam(full, x, target=1)
    np.testing.assert_allclose(heat, expected, atol=0.02 * expected.max())


def test_layers_leaves_out_what_has_no_map_of_the_image():
    shared = L.Conv2D(2, 3, padding="same", name="shared")
    i = keras.Input((8, 8, 2))
    y = L.Rescaling(0.5)(i)
    y = shared(shared(y))
    y = L.Conv2D(4, 3, name="only")(y)
    y = L.SpatialDropout2D(0.5)(L.ZeroPadding2D()(y))
    squeeze = L.Dense(4, name="squeeze")(L.GlobalAveragePooling2D(keepdims=True)(y))
    y = L.Multiply(name="gate")([y, squeeze])
    turned = L.Conv2D(4, 3, name="turned")(L.Permute((2, 1, 3))(y))
    model = keras.Model(i, L.Dense(1)(L.Flatten()(turned)))
    assert explain.layers(model) == ["only", "gate"]
    i = keras.Input((8, 8, 1))
    tokens = L.Reshape((16, 4))(L.Conv2D(4, 2, 2, name="patches")(i))
    mixed = L.GlobalAveragePooling1D()(L.MultiHeadAttention(2, 4)(tokens, tokens))
    assert explain.layers(keras.Model(i, L.Dense(2)(mixed))) == ["patches"]
    anysize = keras.Sequential([keras.Input((None, None, 1)), L.Conv2D(2, 3, name="c"), L.GlobalMaxPooling2D()])
    assert explain.layers(anysize) == ["c"]


def test_errors_say_what_to_do():
    model, x = small((8, 8, 1)), images(2, 8, 8, 1)
    with pytest.raises(ValueError, match=r"There is no layer 'cnov' .* There are: conv\."):
        explain.grad_cam(model, x, layer="cnov")
    with pytest.raises(ValueError, match=r"Expected x of shape \(n, 8, 8, 1\)\. Received \(8, 8, 1\)"):
        explain.grad_cam(model, x[0])
    with pytest.raises(ValueError, match=r"Expected an array of numbers. Received dtype object"):
        explain.grad_cam(model, np.array([None]))
    spoilt = x.copy()
    spoilt[0, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity"):
        explain.grad_cam(model, spoilt)
    for wrong in (3, -1, [0, 5]):
        with pytest.raises(ValueError, match="Expected targets from 0 to 2"):
            explain.grad_cam(model, x, target=wrong)
    for wrong in (0.5, [0, 1, 2], "conv"):
        with pytest.raises(ValueError, match=r"Expected as target a class index, an array of 2 of them"):
            explain.grad_cam(model, x, target=wrong)
    with pytest.raises(ValueError, match="batch size of at least 1"):
        explain.grad_cam(model, x, batch_size=0)
    flat = keras.Sequential([keras.Input((8, 8, 1)), L.Flatten(), L.Dense(2)])
    with pytest.raises(ValueError, match=r"a feature map over the 2 axes .* use saliency"):
        explain.grad_cam(flat, x)
    assert explain.layers(flat) == []
    with pytest.raises(ValueError, match="has no weights yet"):
        explain.grad_cam(keras.Sequential([L.Conv2D(2, 3), L.Flatten(), L.Dense(1)]), x)
    a, b = keras.Input((8, 8, 1)), keras.Input((8, 8, 1))
    with pytest.raises(ValueError, match="one input"):
        explain.layers(keras.Model([a, b], L.Dense(1)(L.Flatten()(L.Add()([a, b])))))
    two = keras.Model(a, [L.Flatten()(a), a])
    with pytest.raises(ValueError, match=r"The model has 2 outputs\. Name the one to explain"):
        explain.grad_cam(two, x)
    assert explain.grad_cam(model, x[:0]).shape == (0, 8, 8)


def test_the_images_are_not_changed():
    model, x = small((8, 8, 1)), images(2, 8, 8, 1)
    before = x.copy()
    x.setflags(write=False)
    explain.grad_cam(model, x)
    np.testing.assert_array_equal(x, before)
    whole = np.random.default_rng(0).integers(0, 255, (2, 8, 8, 1), np.uint8)
    np.testing.assert_array_equal(explain.grad_cam(model, whole), explain.grad_cam(model, whole.astype("float32")))


def test_threads_that_share_a_model_do_not_disturb_each_other():
    model, x = small((32, 32, 1), activation="softmax"), images(3, 32, 32, 1)
    expected = explain.grad_cam(model, x)
    with ThreadPoolExecutor(6) as pool:
        for heat in pool.map(lambda _: explain.grad_cam(model, x), range(24)):
            np.testing.assert_array_equal(heat, expected)
    assert model.layers[-1].activation is keras.activations.softmax


@pytest.mark.parametrize("layer", [3, "", ["conv", 3]])
def test_a_layer_is_a_name(layer):
    with pytest.raises(ValueError, match=r"Expected as layer a name, a list of names, or None for the last"):
        explain.grad_cam(small((8, 8, 1)), images(2, 8, 8, 1), layer=layer)
