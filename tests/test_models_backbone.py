"""Networks of keras.applications: what reaches them, where weights come from, that they lie flat, and errors."""

import socket
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

from medlab import models
from medlab.models import applications, photographs

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

SMALL = "MobileNetV3Small"
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def numbers(tensor):
    return keras.ops.convert_to_numpy(tensor).astype(float)


def up_to(model, layer, x):
    return numbers(keras.Model(model.input, model.get_layer(layer).output)(x))


def saved(model, path):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="__array__ implementation", category=DeprecationWarning)
        (model.save_weights if path.name.endswith(".weights.h5") else model.save)(path)
    return path


# ------------------------------------------------------------------------------------------ what the weights expect


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("DenseNet121", "densenet"),
        ("InceptionV3", "inception_v3"),
        ("InceptionResNetV2", "inception_resnet_v2"),
        ("MobileNet", "mobilenet"),
        ("MobileNetV2", "mobilenet_v2"),
        ("NASNetMobile", "nasnet"),
        ("ResNet50", "resnet"),
        ("ResNet152V2", "resnet_v2"),
        ("VGG16", "vgg16"),
        ("Xception", "xception"),
    ],
)
def test_pixels_are_as_keras_prepares_them(name, family):
    """Keras' own function, on the photograph from 0 to 255 that an image from -1 to 1 stands for."""
    image = np.random.default_rng(0).uniform(-1, 1, (2, 3, 4, 3)).astype(np.float32)
    start = keras.Input((3, 4, 3))
    made = keras.Model(start, photographs.photograph(start, name, (-1.0, 1.0)))
    expected = getattr(keras.applications, family).preprocess_input((image + 1) * 127.5)
    np.testing.assert_allclose(
        numbers(made(image)), expected, rtol=1e-4, atol=1e-3 if family in ("resnet", "vgg16") else 1e-5
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("MobileNetV3Large", lambda v: 2 * v - 1),
        ("EfficientNetV2S", lambda v: v * 255 / 128 - 1),
        ("EfficientNetV2B0", lambda v: (v - MEAN) / DEVIATION),
        ("ConvNeXtTiny", lambda v: (v - MEAN) / DEVIATION),
        ("EfficientNetB0", lambda v: 255 * v),
    ],
)
def test_pixels_where_keras_prepares_them_inside(name, expected):
    """By hand, a gray image whose black is 10 and white 30; EfficientNetB0 divides by 255 itself."""
    share = np.random.default_rng(0).uniform(0, 1, (2, 3, 4, 1))
    start = keras.Input((3, 4, 1))
    made = keras.Model(start, photographs.photograph(start, name, (10.0, 30.0)))
    found = numbers(made((10 + 20 * share).astype(np.float32)))
    np.testing.assert_allclose(found, expected(np.repeat(share, 3, axis=-1)), rtol=1e-4, atol=1e-4)


def test_every_network_of_keras_is_known():
    families = (photographs._INTERVAL, photographs._NEARLY, photographs._DEVIATIONS, photographs._BLUE_FIRST)
    for name in applications.names():
        found = [family.pattern for family in (*families, photographs.INSIDE) if family.match(name)]
        assert found, f"what {name} expects is not known"
    assert {"EfficientNetB0", "ConvNeXtTiny", "ResNet50", "DenseNet121", SMALL} <= set(applications.names())


# ----------------------------------------------------------------------------------------------------------- wiring


def test_without_weights_images_reach_the_first_convolution_as_they_are():
    x = np.random.default_rng(0).normal(size=(2, 32, 40, 5)).astype(np.float32)
    model = models.backbone(SMALL, (32, 40, 5), 3)
    stem = model.get_layer("conv")
    assert stem.kernel.shape == (3, 3, 5, 16)
    direct = keras.ops.conv(x, stem.kernel, strides=2, padding="same")
    np.testing.assert_allclose(up_to(model, "conv", x), numbers(direct), rtol=1e-4, atol=1e-5)


def test_its_layers_lie_flat_and_have_their_starts_from_the_seed():
    model = models.backbone(SMALL, (32, 32, 1), 2, seed=3)
    assert not [layer for layer in model.layers if isinstance(layer, keras.Model)]
    assert [layer.name for layer in model.layers[-3:]] == ["features", "dropout", "logits"]
    assert model.output_shape == (None, 1)
    assert {layer.momentum for layer in model.layers if type(layer).__name__ == "BatchNormalization"} == {0.9}
    # Glorot's uniform start of the stem: 3 * 3 * (1 + 16) connections.
    kernel = numbers(model.get_layer("conv").kernel)
    limit = np.sqrt(6 / (9 * 17))
    assert 0.8 * limit < np.abs(kernel).max() <= limit
    assert abs(kernel.mean()) < 0.1 * limit * 3


def test_a_frozen_network_trains_its_head_alone():
    model = models.backbone(SMALL, (32, 32, 1), 3, trainable=False)
    assert [one.path for one in model.trainable_weights] == ["logits/kernel", "logits/bias"]
    before = [numbers(one) for one in model.non_trainable_weights]
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True)
    model.train_on_batch(
        np.random.default_rng(0).normal(size=(4, 32, 32, 1)).astype(np.float32), np.array([0, 1, 2, 0])
    )
    after = [numbers(one) for one in model.non_trainable_weights]
    changed = [
        one.path
        for one, a, b in zip(model.non_trainable_weights, before, after, strict=True)
        if not np.array_equal(a, b)
    ]
    assert [path for path in changed if "seed" not in path] == []


# ---------------------------------------------------------------------------------------------------- weights, local


def test_weights_without_a_head_from_a_file(tmp_path):
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 1)).astype(np.float32)
    source = models.backbone(SMALL, (32, 32, 1), 3, seed=1)
    trunk = keras.Model(source.input, source.layers[-4].output)
    path = saved(trunk, tmp_path / "trunk.weights.h5")
    copy = models.backbone(SMALL, (32, 32, 1), 5, weights=path, values=None, seed=2)
    np.testing.assert_array_equal(up_to(copy, "features", x), up_to(source, "features", x))
    with pytest.raises(ValueError, match=r"trunk.weights.h5 do not fit MobileNetV3Small on \(32, 32, 1\)"):
        models.backbone(SMALL, (32, 32, 1), 5, weights=path)  # values="auto" makes colors of gray: another stem


def test_a_model_file_gives_weights_and_the_values_it_took(tmp_path):
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 1)).astype(np.float32)
    source = models.backbone(SMALL, (32, 32, 1), 3, values=(-2.0, 2.0), seed=1)
    path = saved(source, tmp_path / "model.keras")
    same = models.backbone(SMALL, (32, 32, 1), 3, weights=path, seed=2)
    np.testing.assert_allclose(numbers(same(x)), numbers(source(x)), rtol=1e-5, atol=1e-6)
    other = models.backbone(SMALL, (32, 32, 1), 4, weights=path, seed=2)
    np.testing.assert_allclose(up_to(other, "features", x), up_to(source, "features", x), rtol=1e-5, atol=1e-6)
    assert other.output_shape == (None, 4)
    with pytest.raises(ValueError, match="is not a backbone like MobileNetV3Small"):
        models.backbone(SMALL, (32, 32, 1), 3, weights=saved(models.small_cnn((32, 32, 1)), tmp_path / "cnn.keras"))


def test_efficientnet_from_an_old_file_is_scaled_as_its_training_was(tmp_path):
    """(v - mean) / deviation, of which the file's "variance" is the deviation, and its root is taken once."""
    import h5py
    from keras.src.legacy.saving import legacy_h5_format

    trunk = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(32, 32, 3))
    inside = next(layer for layer in trunk.layers if type(layer).__name__ == "Normalization")
    inside.set_weights([MEAN, DEVIATION, np.int32(0)])
    with h5py.File(tmp_path / "efficientnetb0_notop.h5", "w") as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="__array__ implementation", category=DeprecationWarning)
        legacy_h5_format.save_weights_to_hdf5_group(file, trunk)
    model = models.backbone("EfficientNetB0", (32, 32, 1), 2, weights=tmp_path / "efficientnetb0_notop.h5")
    share = np.random.default_rng(0).uniform(0, 1, (1, 32, 32, 1))
    name = next(layer.name for layer in model.layers if type(layer).__name__ == "Normalization")
    found = up_to(model, name, (2 * share - 1).astype(np.float32))
    np.testing.assert_allclose(found, (share - MEAN) / DEVIATION, rtol=1e-3, atol=1e-4)
    ours, theirs = model.get_layer("block2a_expand_conv"), trunk.get_layer("block2a_expand_conv")
    np.testing.assert_array_equal(numbers(ours.kernel), numbers(theirs.kernel))


# ------------------------------------------------------------------------------------------------------------ errors


def test_imagenet_without_a_connection_says_what_to_do(monkeypatch, tmp_path):
    if (Path("~/.keras/models").expanduser() / "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5").is_file():
        pytest.skip("the weights are on this machine")

    def nowhere(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    with pytest.raises(
        ValueError, match=r"not on this machine .* download https://\S+/(\S+) under the name \1, put it"
    ):
        models.backbone(SMALL, (32, 32, 1), weights="imagenet")
    assert socket.getdefaulttimeout() is None


def test_a_server_that_does_not_answer_is_given_up(monkeypatch):
    """It accepts the connection and is silent; Keras' own download would wait for ever."""
    monkeypatch.setattr(applications, "_WAIT", 0.2)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        applications._patience(),
        socket.create_connection(silent.getsockname()) as ours,
        pytest.raises(TimeoutError),
    ):
        ours.recv(1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: models.backbone("ResNet18", (32, 32, 3)), "network of keras.applications: ConvNeXtBase, .*'ResNet18'"),
        (lambda: models.backbone(SMALL, (32, 32, 32, 1)), r"Expected input_shape \(i, j, c\) in"),
        (lambda: models.backbone(SMALL, (28, 28, 1)), r"at least 32 pixels a side. Received input_shape \(28, 28, 1\)"),
        (lambda: models.backbone("Xception", (64, 64, 1)), "at least 71 pixels"),
        (lambda: models.backbone(SMALL, (32, 32, 1), 1), "at least 2 classes"),
        (lambda: models.backbone(SMALL, (32, 32, 2), values=(0, 1)), "one channel or three. Received 2"),
        (lambda: models.backbone(SMALL, (32, 32, 1), values=(1, 0)), r"\(black, white\) in rising order"),
        (lambda: models.backbone(SMALL, (32, 32, 1), values="zscore"), "Received 'zscore'"),
        (lambda: models.backbone(SMALL, (32, 32, 1), weights="nowhere.h5"), "no weights file 'nowhere.h5'"),
        (lambda: models.backbone(SMALL, (32, 32, 1), weights="nowhere.keras"), "nowhere.keras does not exist"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_weights_file_of_another_kind_or_broken(tmp_path):
    (tmp_path / "weights.pkl").write_bytes(b"")
    with pytest.raises(ValueError, match=r"in a .h5, .weights.h5 or .keras file. Received 'weights.pkl'"):
        models.backbone(SMALL, (32, 32, 1), weights=tmp_path / "weights.pkl")
    (tmp_path / "broken.h5").write_bytes(b"not a file of weights")
    with pytest.raises(ValueError, match=r"The weights in broken.h5 do not fit"):
        models.backbone(SMALL, (32, 32, 1), weights=tmp_path / "broken.h5")
