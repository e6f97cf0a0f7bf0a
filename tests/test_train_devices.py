"""Where and how precisely: the reasons, and that a model comes back as it was."""

import keras
import numpy as np
import pytest

from medlab import models
from medlab.train import devices


def policies(model):
    return [layer.dtype_policy.name for layer in devices._leaves(model)]


def test_bfloat16_is_read_from_the_flags(tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text("processor : 0\nflags : fpu avx2 avx512f\n")
    assert not devices.has_bfloat16(file)
    file.write_text("processor : 0\nflags : fpu avx512_bf16 avx2\n")
    assert devices.has_bfloat16(file)
    assert not devices.has_bfloat16(tmp_path / "missing")


def test_inside_all_but_the_output_compute_in_bfloat16_and_afterwards_none():
    model = models.small_cnn((16, 16, 1), width=4)
    with devices.precision(model, "mixed_bfloat16") as own:
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
    with devices.precision(model, "mixed_bfloat16"):
        assert inner.get_layer("inner").compute_dtype == "bfloat16"
        assert np.isfinite(model.predict(np.ones((2, 3, 4, 4, 1), "float32"), verbose=0)).all()
    assert inner.get_layer("inner").compute_dtype == "float32"
    assert np.isfinite(model.predict(np.ones((2, 3, 4, 4, 1), "float32"), verbose=0)).all()


def test_predictions_before_inside_and_after():
    model = models.small_cnn((16, 16, 1), width=4)
    x = np.random.default_rng(0).normal(size=(4, 16, 16, 1)).astype(np.float32)
    before = model.predict(x, verbose=0)
    with devices.precision(model, "mixed_bfloat16"):
        inside = np.asarray(model(x))
    np.testing.assert_allclose(inside, before, atol=0.05)
    assert not np.array_equal(inside, before)
    np.testing.assert_array_equal(model.predict(x, verbose=0), before)


def test_a_model_with_its_own_precision_is_left_alone():
    image = keras.Input((4,))
    model = keras.Model(image, keras.layers.Dense(1, dtype="mixed_bfloat16")(image))
    setup = devices.choose(model, devices="cpu")
    assert (setup.precision, setup.reason) == ("float32", "the model brings its own mixed precision")
    with devices.precision(model, "mixed_float16"):
        assert model.layers[-1].compute_dtype == "bfloat16"


def test_choices_on_a_cpu(monkeypatch):
    flat, deep = models.small_cnn((16, 16, 1), width=4), models.small_cnn((8, 8, 8, 1), width=4)
    monkeypatch.setattr(devices.keras.backend, "backend", lambda: "tensorflow")
    monkeypatch.setattr(devices, "_accelerators", lambda backend: ([], None))
    monkeypatch.setattr(devices, "has_bfloat16", lambda: True)
    assert devices.choose(flat, devices="cpu").precision == "mixed_bfloat16"
    assert devices.choose(deep, devices="cpu").precision == "float32"
    assert "3-D" in devices.choose(deep, devices="cpu").reason
    monkeypatch.setattr(devices, "has_bfloat16", lambda: False)
    setup = devices.choose(flat, devices="cpu")
    assert (setup.precision, setup.kind, setup.reason) == ("float32", "cpu", "this CPU has no bfloat16 units")
    assert devices.choose(flat, devices="cpu", precision="mixed_bfloat16").precision == "mixed_bfloat16"


def test_choices_on_gpus(monkeypatch):
    model = models.small_cnn((16, 16, 1), width=4)
    for capability, wanted in (((8, 0), "mixed_bfloat16"), ((7, 5), "mixed_float16"), ((6, 1), "float32")):
        monkeypatch.setattr(devices, "_accelerators", lambda backend, c=capability: (["GPU A", "GPU B"], c))
        setup = devices.choose(model)
        assert (setup.kind, setup.precision) == ("gpu", wanted)
        assert setup.device == "GPU A (the first of 2)"


def test_errors(monkeypatch):
    model = models.small_cnn((16, 16, 1), width=4)
    with pytest.raises(ValueError, match="Expected devices"):
        devices.choose(model, devices="tpu9")
    with pytest.raises(ValueError, match="Expected precision"):
        devices.choose(model, precision="half")
    monkeypatch.setattr(devices, "_accelerators", lambda backend: ([], None))
    with pytest.raises(ValueError, match="finds no GPU"):
        devices.choose(model, devices="gpu")
