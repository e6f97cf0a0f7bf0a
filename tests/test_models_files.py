"""Reading a model: what is read, and what is refused because it could run code or is no model."""

import pickle
import warnings
import zipfile

import keras
import numpy as np
import pytest

from medlab import models

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def saved(model, path):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="__array__ implementation", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message="The object being serialized includes a `lambda`")
        model.save(path)
    return path


def with_layer(layer):
    image = keras.Input((4, 4, 1))
    return keras.Model(image, keras.layers.Dense(1)(keras.layers.Flatten()(layer(image))))


def test_a_model_comes_back_as_it_was_and_not_compiled(tmp_path):
    model = models.small_cnn((8, 8, 1), width=4)
    model.compile("adam", lambda y, p: keras.ops.mean(p - y))  # this function is not read
    loaded = models.load(str(saved(model, tmp_path / "model.keras")))
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype(np.float32)
    np.testing.assert_array_equal(loaded(x), model(x))
    assert not loaded.compiled


@pytest.fixture
def unsafe():
    """A program that has allowed code in files for its own reasons."""
    keras.config.enable_unsafe_deserialization()
    yield
    from keras.src.backend.common import global_state

    global_state.set_global_attribute("safe_mode_saving", None)


@pytest.mark.parametrize("where", ["outside", "inside"])
def test_a_lambda_is_refused(where, tmp_path):
    model = with_layer(keras.layers.Lambda(lambda x: 2 * x, name="doubled"))
    if where == "inside":
        model = keras.Sequential([keras.Input((4, 4, 1)), model])
    with pytest.raises(ValueError, match=r"model.keras holds a Lambda 'doubled': Python code that would run here"):
        models.load(saved(model, tmp_path / "model.keras"))


def test_a_lambda_is_refused_even_where_keras_would_run_it(tmp_path, unsafe):
    path = saved(with_layer(keras.layers.Lambda(lambda x: 2 * x)), tmp_path / "model.keras")
    with pytest.raises(ValueError, match="holds a Lambda"):
        models.load(path)


def test_a_lambda_as_an_activation_is_refused(tmp_path):
    path = saved(with_layer(keras.layers.Activation(lambda x: 2 * x)), tmp_path / "model.keras")
    with pytest.raises(ValueError, match="holds a Lambda: Python code"):
        models.load(path)


class Marker:
    """Unpickled, it would leave a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_is_not_read_whatever_it_is_called(tmp_path):
    trace = tmp_path / "trace"
    for name, message in (("model.keras", "cannot be read as a Keras model"), ("model.pkl", "Expected a .keras file")):
        (tmp_path / name).write_bytes(pickle.dumps(Marker(trace)))
        with pytest.raises(ValueError, match=message):
            models.load(tmp_path / name)
    assert not trace.exists()


class Unregistered(keras.layers.Layer):
    def call(self, x):
        return x


def test_a_class_that_is_not_registered_is_named(tmp_path):
    path = saved(with_layer(Unregistered()), tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"model.keras needs class 'Unregistered', which is not here"):
        models.load(path)


def test_paths_that_are_no_models(tmp_path):
    with pytest.raises(ValueError, match=r"none.keras does not exist"):
        models.load(tmp_path / "none.keras")
    with pytest.raises(ValueError, match=r"Expected the path of a .keras file. Received None"):
        models.load(None)
    with pytest.raises(ValueError, match="is a folder"):
        models.load(tmp_path)
    (tmp_path / "old.h5").write_bytes(b"")
    with pytest.raises(ValueError, match=r"Received 'old.h5': old .h5 models"):
        models.load(tmp_path / "old.h5")


def test_damaged_files(tmp_path):
    whole = saved(models.small_cnn((8, 8, 1), width=4), tmp_path / "model.keras")
    content = whole.read_bytes()
    cut = tmp_path / "cut.keras"
    cut.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"cut.keras cannot be read as a Keras model .* damaged or incomplete"):
        models.load(cut)
    middle = tmp_path / "middle.keras"
    middle.write_bytes(content[:20_000] + bytes(2_000) + content[22_000:])
    with pytest.raises(ValueError, match=r"middle.keras cannot be read"):
        models.load(middle)
    with zipfile.ZipFile(whole) as full, zipfile.ZipFile(tmp_path / "part.keras", "w") as part:
        part.writestr("config.json", full.read("config.json"))
    with pytest.raises(ValueError, match=r"it lacks model.weights.h5"):
        models.load(tmp_path / "part.keras")
    with zipfile.ZipFile(whole) as full, zipfile.ZipFile(tmp_path / "other.keras", "w") as other:
        other.writestr("config.json", '{"module": "keras.layers", "class_name": "Nothing", "config": {}}')
        other.writestr("model.weights.h5", full.read("model.weights.h5"))
    with pytest.raises(ValueError, match=r"other.keras needs keras.layers.Nothing, which is not here"):
        models.load(tmp_path / "other.keras")


def test_layer_scale_of_convnext_is_saved_and_read(tmp_path):
    from keras.src.applications import convnext

    model = convnext.ConvNeXt([1, 1, 1, 1], [4, 4, 4, 4], include_top=False, weights=None, input_shape=(32, 32, 3))
    loaded = models.load(saved(model, tmp_path / "model.keras"))
    assert [type(one).__name__ for one in loaded.layers].count("LayerScale") == 4
    x = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(loaded(x), model(x))
