"""Where and how precisely: the reasons, the gradient check, and that a model comes back as it was."""

import random

import keras
import numpy as np
import pytest

from medlab import models, train
from medlab.train import devices, precision


@pytest.fixture
def with_bfloat16(monkeypatch):
    """A CPU with bfloat16 units, whatever this one has: TensorFlow computes it everywhere."""
    monkeypatch.setattr(precision, "has_bfloat16", lambda: True)
    monkeypatch.setattr(precision, "_known", {})


def machine(monkeypatch, gpus=(), capability=None, cpus=1):
    found = {"gpu": list(gpus), "cpu": ["logical CPU device"] * cpus}
    monkeypatch.setattr(devices, "_found", lambda backend: found)
    monkeypatch.setattr(devices, "_capability", lambda backend, names: capability)


def network():
    return models.small_cnn((16, 16, 1), width=4)


def four_strides():
    """A 3-D network on 28-cubes whose last convolution sees 2 x 2 x 2 voxels, as a residual network's would."""
    x = image = keras.Input((28, 28, 28, 1))
    for stage in range(1, 5):
        x = keras.layers.Conv3D(8, 3, strides=2, padding="same", activation="relu", name=f"halve{stage}")(x)
        y = keras.layers.Conv3D(8, 3, padding="same", name=f"keep{stage}")(x)
        x = keras.layers.Activation("relu")(keras.layers.Add()([x, y]))
    return keras.Model(image, keras.layers.Dense(1, name="logits")(keras.layers.GlobalAveragePooling3D()(x)))


def policies(model):
    return [layer.dtype_policy.name for layer in precision.leaves(model)]


def test_bfloat16_is_read_from_the_flags(tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text("processor : 0\nflags : fpu avx2 avx512f\n")
    assert not precision.has_bfloat16(file)
    file.write_text("processor : 0\nflags : fpu avx512_bf16 avx2\n")
    assert precision.has_bfloat16(file)
    assert not precision.has_bfloat16(tmp_path / "missing")


def test_inside_all_but_the_output_compute_in_bfloat16_and_afterwards_none():
    model = network()
    with precision.precision(model, "mixed_bfloat16") as own:
        inside = {layer.name: layer.compute_dtype for layer in model.layers}
        assert inside.pop("logits") == "float32"
        assert set(inside.values()) == {"bfloat16"}
        assert {weight.dtype for weight in model.weights} == {"float32"}
        with own():
            assert set(policies(model)) == {"float32"}
        assert "mixed_bfloat16" in policies(model)
    assert set(policies(model)) == {"float32"}


def test_layers_inside_models_and_wrappers_are_reached():
    inner = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 3, name="inner"), keras.layers.Flatten()])
    frames = keras.Input((3, 4, 4, 1))
    x = keras.layers.TimeDistributed(inner)(frames)
    x = keras.layers.Bidirectional(keras.layers.GRU(2))(x)
    model = keras.Model(frames, keras.layers.Dense(1)(x))
    with precision.precision(model, "mixed_bfloat16"):
        assert inner.get_layer("inner").compute_dtype == "bfloat16"
        assert np.isfinite(model.predict(np.ones((2, 3, 4, 4, 1), "float32"), verbose=0)).all()
    assert inner.get_layer("inner").compute_dtype == "float32"
    assert np.isfinite(model.predict(np.ones((2, 3, 4, 4, 1), "float32"), verbose=0)).all()


def test_predictions_before_inside_and_after():
    model = network()
    x = np.random.default_rng(0).normal(size=(4, 16, 16, 1)).astype(np.float32)
    before = model.predict(x, verbose=0)
    with precision.precision(model, "mixed_bfloat16"):
        inside = np.asarray(model(x))
    np.testing.assert_allclose(inside, before, atol=0.05)
    assert not np.array_equal(inside, before)
    np.testing.assert_array_equal(model.predict(x, verbose=0), before)


def test_a_model_with_its_own_precision_is_left_alone():
    image = keras.Input((4,))
    model = keras.Model(image, keras.layers.Dense(1, dtype="mixed_bfloat16")(image))
    setup = devices.choose(model, devices="cpu")
    assert (setup.precision, setup.reason) == ("float32", "the model brings its own mixed precision")
    with precision.precision(model, "mixed_float16"):
        assert model.layers[-1].compute_dtype == "bfloat16"


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a fault of TensorFlow's kernels on a CPU")
def test_the_infinite_gradient_of_a_conv3d_is_found(with_bfloat16):
    import tensorflow as tf

    model = four_strides()
    setup = devices.choose(model, devices="cpu")
    assert [precision.leaves(model)[one].name for one in setup.spared] == ["keep4"]
    assert setup.precision == "mixed_bfloat16"
    assert "1 of 8 convolutions have wrong bfloat16 gradients here and stay in float32" in setup.reason

    x = np.random.default_rng(0).normal(size=(2, 28, 28, 28, 1)).astype(np.float32)
    kernel = model.get_layer("keep4").kernel

    def gradient(policy, spared=()):
        with precision.precision(model, policy, spared=spared), tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(x))
        return tape.gradient(loss, kernel.value).numpy().astype(np.float64)

    true = gradient("float32")
    # What the check is for: were the layer not spared, its gradient would be garbage, such as infinity.
    assert not np.linalg.norm(gradient("mixed_bfloat16") - true) < 0.1 * np.linalg.norm(true)
    assert np.linalg.norm(gradient("mixed_bfloat16", setup.spared) - true) < 0.1 * np.linalg.norm(true)
    # And were most layers at fault, the whole model would stay in float32.
    small = keras.Sequential([keras.Input((2, 2, 2, 1)), keras.layers.Conv3D(4, 3, padding="same")])
    alone = devices.choose(small, devices="cpu")
    assert (alone.precision, alone.reason) == ("float32", "1 of 1 convolutions have wrong bfloat16 gradients here")


def test_a_network_without_the_fault_passes_and_nothing_is_disturbed(with_bfloat16):
    model = models.resnet((28, 28, 1), width=8)
    weights = [np.array(np.asarray(one)) for one in model.variables]
    keras.utils.set_random_seed(3)
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002 - what users' code may draw from
    wrong, shapes = precision.wrong_in_bfloat16(model)
    assert wrong == []
    # 3x3 at 28 (1 and 8 channels; stride 2 out of it), 14, 7, 4 and the shortcuts' 1x1 of stride 2.
    assert shapes == 11
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002
    first = keras.random.normal((3,))
    keras.utils.set_random_seed(3)
    np.testing.assert_array_equal(np.asarray(first), np.asarray(keras.random.normal((3,))))
    for now, then in zip(model.variables, weights, strict=True):
        np.testing.assert_array_equal(np.asarray(now), then)
    assert set(policies(model)) == {"float32"}


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.Conv2DTranspose(4, 2, strides=2),
        keras.layers.DepthwiseConv2D(3, padding="same"),
        keras.layers.SeparableConv2D(4, 3, strides=2),
        keras.layers.Conv2D(40, 5, dilation_rate=2, padding="same"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_every_kind_of_convolution_can_be_tried(layer, with_bfloat16):
    image = keras.Input((12, 12, 40))
    assert precision.wrong_in_bfloat16(keras.Model(image, layer(image))) == ([], 1)


def test_open_sides_and_layers_in_wrappers_are_tried(with_bfloat16):
    frames = keras.Input((3, None, None, 1))
    x = keras.layers.TimeDistributed(keras.layers.Conv2D(4, 3, padding="same"))(frames)
    # Sizes 1, 2, 3, 4 and 8.
    assert precision.wrong_in_bfloat16(keras.Model(frames, x)) == ([], 5)
    frames = keras.Input((3, 6, 6, 1))
    model = keras.Model(frames, keras.layers.ConvLSTM2D(2, 3, padding="same")(frames))
    assert precision.wrong_in_bfloat16(model) == ([], 1)


def test_choices_on_a_cpu(monkeypatch, with_bfloat16):
    machine(monkeypatch)
    setup = devices.choose(network(), devices="cpu")
    assert setup.precision == ("mixed_bfloat16" if keras.backend.backend() == "tensorflow" else "float32")
    monkeypatch.setattr(precision, "has_bfloat16", lambda: False)
    monkeypatch.setattr(precision, "wrong_in_bfloat16", None)  # not asked where there are no units
    monkeypatch.setattr(precision.keras.backend, "backend", lambda: "tensorflow")
    setup = devices.choose(network(), devices="cpu")
    assert (setup.precision, setup.kind, setup.reason) == ("float32", "cpu", "this CPU has no bfloat16 units")
    assert setup.arithmetic == "TensorFlow's own kernels: XLA was slower on a CPU"
    assert devices.choose(network(), devices="cpu", precision="mixed_bfloat16").precision == "mixed_bfloat16"


@pytest.mark.parametrize(
    ("capability", "wanted"), [((8, 0), "mixed_bfloat16"), ((7, 5), "mixed_float16"), ((6, 1), "float32")]
)
def test_precision_follows_from_the_gpu(capability, wanted):
    flat = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    assert precision.pick(flat, "gpu", capability)[0] == wanted


@pytest.mark.parametrize(
    ("wish", "names"),
    [
        ("auto", ("gpu:0", "gpu:1", "gpu:2")), ("gpu", ("gpu:0", "gpu:1", "gpu:2")), (2, ("gpu:0", "gpu:1")),
        ("gpu:1", ("gpu:1",)), (["gpu:2", "gpu:0"], ("gpu:2", "gpu:0")), ("cpu", ("cpu:0",)), ("cpu:1", ("cpu:1",)),
    ],
)  # fmt: skip
def test_wishes_for_devices(wish, names):
    found = {"gpu": ["A", "B", "B"], "cpu": ["logical CPU device"] * 2}
    assert devices._wanted(wish, found, "torch", 1) == names  # a backend without devices of its own to count


def test_devices_are_named():
    found = {"gpu": ["A", "B", "B"], "cpu": ["logical CPU device"] * 2}
    assert devices._say(("gpu:0", "gpu:1", "gpu:2"), found, 1) == "A, 2 x B"
    assert devices._say(("gpu:1",), found, 1) == "B (gpu:1 of 3)"
    assert devices._say(("gpu:0", "gpu:1", "gpu:2"), found, 3) == "A, 2 x B in 3 processes"
    assert devices._say(("cpu:0", "cpu:1"), found, 1) == "2 x logical CPU device"


def test_a_batch_is_shared_alike():
    three = ("gpu:0", "gpu:1", "gpu:2")
    assert devices._fitting(three, 12, 1, whole=True) == (three, "")
    names, said = devices._fitting(three, 16, 1, whole=True)
    assert names == three[:2]
    assert said == " (not all 3: they cannot share 16 cases a batch alike)"
    with pytest.raises(ValueError, match=r"3 devices can share alike. Received 16 cases a batch; take batch_size=18"):
        devices._fitting(three, 16, 1, whole=False)


def test_errors(monkeypatch):
    model = network()
    for wish in ("tpu9", True, [], ["cpu:0", 1], None):
        with pytest.raises(ValueError, match="Expected devices"):
            devices.choose(model, devices=wish)
    with pytest.raises(ValueError, match="Expected precision"):
        devices.choose(model, precision="half")
    machine(monkeypatch)
    for wish in ("gpu", "gpu:0", ["gpu:0", "gpu:1"]):
        with pytest.raises(ValueError, match="finds none"):
            devices.choose(model, devices=wish)
    for wish in ("cpu:7", ["cpu:0", "cpu:0"]):
        with pytest.raises(ValueError, match="Expected different devices of one kind out of cpu:0, which are here"):
            devices.choose(model, devices=wish)
    with pytest.raises(ValueError, match=r"Expected 1 to 1 devices, which are here. Received 3"):
        devices.choose(model, devices=3)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="of TensorFlow alone")
def test_several_machines_with_tensorflow_point_to_jax(monkeypatch):
    with pytest.raises(ValueError, match=r"MultiWorkerMirroredStrategy fails in Keras 3.15.*with JAX alone"):
        train.connect("127.0.0.1:1234", 2, 0)
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}')
    x, y = np.zeros((4, 16, 16, 1), np.float32), np.arange(4) % 2
    with pytest.raises(ValueError, match=r"MultiWorkerMirroredStrategy fails.*unset TF_CONFIG"):
        train.fit(network(), (x, y), epochs=1, progress=False)
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1"]}}')
    assert devices.choose(network(), precision="float32").precision == "float32"


def test_float16_scales_its_loss_and_learns():
    rng = np.random.default_rng(0)
    y = np.arange(64) % 2
    x = (rng.normal(size=(64, 8, 8, 1)) + 2 * y[:, None, None, None]).astype(np.float32)
    image = keras.Input((8, 8, 1))
    head = keras.layers.Dense(1)(keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(image)))
    # Gradients of 1e-5 of a loss that small would be 0 in float16, whose least number is 6e-8, were they not scaled.
    fitted = train.fit(
        keras.Model(image, head), (x, y), epochs=8, batch_size=16, learning_rate=0.05, precision="mixed_float16",
        progress=False,
    )  # fmt: skip
    assert fitted.precision == "mixed_float16"
    assert fitted.history["loss"].iloc[-1] < 0.5 * fitted.history["loss"].iloc[0]
