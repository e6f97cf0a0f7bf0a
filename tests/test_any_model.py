"""Any Keras model is trained, judged and explained: flat, nested, Sequential, with its own head, of another package.

What medlab says of a model is held against the model itself: its own outputs, and differences of outputs.
"""

import subprocess

import keras
import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.metrics import roc_auc_score

from medlab import evaluate, explain, models, train
from tests.environments import environment, interpreter

layers = keras.layers

# Keras hands variables to np.array, whose argument copy they do not know yet.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def flat():
    return models.backbone("MobileNetV3Small", (32, 32, 1), 2)


def nested():
    """A network of keras.applications as one layer of another model, gray made color by a convolution."""
    inner = keras.applications.MobileNet(input_shape=(32, 32, 3), alpha=0.25, include_top=False, weights=None)
    image = keras.Input((32, 32, 1))
    x = inner(layers.Conv2D(3, 1, name="color")(image))
    return keras.Model(image, layers.Dense(1, activation="sigmoid")(layers.GlobalAveragePooling2D()(x)))


def sequential():
    return keras.Sequential([
        keras.Input((32, 32, 1)),
        layers.Conv2D(4, 3, activation="relu", name="conv"),
        layers.MaxPooling2D(4),
        layers.Flatten(),
        layers.Dense(2, activation="softmax"),
    ])  # fmt: skip


def functional():
    image = keras.Input((12, 14, 10, 1))
    x = layers.Conv3D(4, 3, padding="same", activation="gelu")(image)
    x = layers.Add()([x, layers.Conv3D(4, 3, padding="same", name="second")(x)])
    x = layers.Dense(3)(layers.GlobalAveragePooling3D()(x))
    return keras.Model(image, layers.Softmax()(x), name="mine")


def cases_of(model, n=16):
    """Images and labels, every class several times; a bright block in those of class 1 or above."""
    classes = max(2, model.output_shape[-1])
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, *model.input_shape[1:])).astype(np.float32)
    y = np.arange(n) % classes
    for case in np.flatnonzero(y):
        x[case, 2:8, 2:8] += y[case]
    return x, y


def own_probabilities(model, x):
    """What the model itself answers, as probabilities (n, classes)."""
    out = keras.ops.convert_to_numpy(model(x, training=False)).astype(float)
    name = getattr(getattr(model.layers[-1], "activation", None), "__name__", type(model.layers[-1]).__name__.lower())
    if name == "linear":
        out = expit(out) if out.shape[1] == 1 else softmax(out, axis=1)
    return np.hstack([1 - out, out]) if out.shape[1] == 1 else out


@pytest.mark.parametrize("make", [flat, nested, sequential, functional])
def test_a_model_is_trained_judged_and_explained(make):
    model = make()
    x, y = cases_of(model)
    before = [keras.ops.convert_to_numpy(one) for one in model.trainable_weights]
    fitted = train.fit(model, (x, y), (x, y), epochs=1, batch_size=8, precision="float32", progress=False)
    after = [keras.ops.convert_to_numpy(one) for one in model.trainable_weights]
    assert np.isfinite(fitted.history["loss"]).all()
    assert all(np.abs(a - b).max() > 0 for a, b in zip(after[-2:], before[-2:], strict=True))

    truth = own_probabilities(model, x)
    p = evaluate.predict(model, x)
    np.testing.assert_allclose(p, truth[:, 1] if p.ndim == 1 else truth, atol=1e-5)
    table = evaluate.classification(y, p).table
    expected = roc_auc_score(y, truth[:, 1]) if truth.shape[1] == 2 else roc_auc_score(y, truth, multi_class="ovr")
    assert table.loc["auc", "value"] == pytest.approx(expected, abs=1e-6)

    check_explanations(model, x[:2], truth[:2])


def check_explanations(model, x, truth):
    """Occlusion and saliency against differences of the model's own log-odds, and maps of the right kind."""
    classes = truth.shape[1]

    def score(images):
        p = own_probabilities(model, images)
        return np.log(p[:, 1]) - np.log(p[:, 0]) if classes == 2 else np.log(p[:, 1])

    one_output = model.output_shape[-1] == 1
    spots = (slice(None), *(slice(0, 4),) * (x.ndim - 2))
    covered = x.copy()
    covered[spots] = 0
    heat = explain.occlusion(model, x, target=1, patch=4, sign="both")
    if one_output:
        np.testing.assert_allclose(
            heat[spots].reshape(len(x), -1)[:, 0], score(x) - score(covered), rtol=0.02, atol=2e-4
        )
    assert heat.shape == x.shape[:-1]

    heat = explain.saliency(model, x, target=1)
    voxel = np.unravel_index(heat[0].argmax(), heat[0].shape)
    if one_output:
        step = np.zeros_like(x[:1])
        step[(0, *voxel)] = 1e-2
        slope = (score(x[:1] + step) - score(x[:1] - step)) / 2e-2
        np.testing.assert_allclose(heat[0][voxel], abs(slope[0]), rtol=0.05, atol=1e-4)

    heats = [explain.grad_cam(model, x, target=target) for target in range(classes)]
    assert all(one.shape == x.shape[:-1] and one.min() >= 0 and np.isfinite(one).all() for one in heats)
    assert max(one.max() for one in heats) > 0


def test_layers_within_a_nested_network_are_reached_by_their_way():
    model = nested()
    found = explain.layers(model)
    assert found[0] == "color"
    assert all(path.startswith("mobilenet") for path in found[1:])
    x, _ = cases_of(model, 2)
    heat = explain.grad_cam(model, x, target=1, layer=next(path for path in found if path.endswith("conv_pw_1_relu")))
    assert heat.shape == (2, 32, 32)


# ------------------------------------------------------------------------------------------------- another package

PACKAGES = ("medicai==0.0.4", "jax", "keras", "numpy", "scipy", "scikit-learn", "pandas", "tqdm", "psutil", "pytest")

STORY = """
import os
os.environ["MPLBACKEND"] = "agg"
import numpy as np
from medicai.models import DenseNet121, ResNet18
from tests.test_any_model import cases_of, check_explanations, own_probabilities
from medlab import evaluate, models, train

resnet = ResNet18(input_shape=(32, 32, 1), num_classes=1, classifier_activation=None)
volumes = ResNet18(input_shape=(16, 16, 16, 1), num_classes=3, classifier_activation="softmax")
for model in (resnet, volumes):
    x, y = cases_of(model)
    fitted = train.fit(model, (x, y), (x, y), epochs=1, batch_size=8, precision="float32", progress=False)
    assert np.isfinite(fitted.history["loss"]).all()
    truth = own_probabilities(model, x)
    p = evaluate.predict(model, x)
    assert np.allclose(p, truth[:, 1] if p.ndim == 1 else truth, atol=1e-5)
    assert 0 <= evaluate.classification(y, p).table.loc["auc", "value"] <= 1
    check_explanations(model, x[:2], truth[:2])
    print(model.name, "DONE")
"""


@pytest.fixture(scope="session")
def medicai_python():
    """The interpreter of an environment with medic-ai, JAX and Keras; ``MEDLAB_MEDICAI_VENV`` names one to use."""
    return interpreter(".venv-medicai", "MEDLAB_MEDICAI_VENV", PACKAGES)


@pytest.mark.jax
def test_networks_of_medic_ai_are_trained_judged_and_explained(medicai_python):
    done = subprocess.run(
        [medicai_python, "-c", STORY], env=environment(), capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split().count("DONE") == 2
