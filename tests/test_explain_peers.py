"""The same weights and images in tf-keras-vis and in pytorch-grad-cam give the same maps.

Both run in an environment of their own, ``.venv-peers`` or the one that ``MEDLAB_PEERS_VENV`` names, which borrows all
but the two and PyTorch from the environment of these tests.
"""

import os
import subprocess
import sysconfig

import keras
import numpy as np
import pytest

from medlab import explain
from medlab.explain.maps.cam import upsample
from tests import environments

pytestmark = [
    pytest.mark.peer,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

L = keras.layers
# grad-cam asks for torchvision, which it needs for pictures alone; ttach and the small ones are theirs.
PACKAGES = (
    "--no-deps", "tf-keras-vis==0.8.7", "deprecated", "imageio", "wrapt", "grad-cam==1.5.7", "ttach", "torch==2.13.0",
    "opencv-python-headless", "filelock", "sympy", "mpmath", "networkx", "fsspec", "jinja2", "markupsafe",
    "typing-extensions",
)  # fmt: skip

TF_KERAS_VIS = """
import sys
import keras, numpy as np
from tf_keras_vis.gradcam import Gradcam
from tf_keras_vis.layercam import Layercam
from tf_keras_vis.saliency import Saliency
from tf_keras_vis.scorecam import Scorecam
from tf_keras_vis.utils.scores import CategoricalScore

folder = sys.argv[1]
given = np.load(folder + "/given.npz")
model, x, score = keras.models.load_model(folder + "/model.keras"), given["x"], CategoricalScore(list(given["target"]))
found = {"saliency": Saliency(model)(score, x, keepdims=False, normalize_map=False)}
cams = {"grad_cam": Gradcam, "layer_cam": Layercam, "score_cam": Scorecam}
for name, cam in cams.items():
    found[name] = cam(model)(score, x, penultimate_layer="last", expand_cam=False, normalize_cam=False)
np.savez(folder + "/found.npz", **found)
"""

PYTORCH_GRAD_CAM = """
import sys, types
for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
    sys.modules[name] = types.ModuleType(name)
for name in ("Compose", "Normalize", "ToTensor", "resize"):
    setattr(sys.modules["torchvision.transforms"], name, None)
    setattr(sys.modules["torchvision.transforms.functional"], name, None)
import numpy as np
import torch
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM, XGradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

folder = sys.argv[1]
given = np.load(folder + "/given.npz")
weights = [torch.from_numpy(given[f"w{number}"]) for number in range(6)]
first, last = torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.Conv2d(8, 8, 3, padding=1)
relu, dense = torch.nn.ReLU(), torch.nn.Linear(8, 3)
for layer, kernel, bias in ((first, *weights[:2]), (last, *weights[2:4])):
    layer.weight.data, layer.bias.data = kernel.permute(3, 2, 0, 1).contiguous(), bias
dense.weight.data, dense.bias.data = weights[4].T.contiguous(), weights[5]
mean = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
model = torch.nn.Sequential(first, torch.nn.ReLU(), torch.nn.MaxPool2d(2), last, relu, mean, dense).eval()
x = torch.from_numpy(given["x"]).permute(0, 3, 1, 2).contiguous()
targets = [ClassifierOutputTarget(int(one)) for one in given["target"]]
found = {"logits": model(x).detach().numpy()}
cams = {"grad_cam": GradCAM, "hires_cam": HiResCAM, "layer_cam": LayerCAM, "xgrad_cam": XGradCAM,
        "grad_cam_plus_plus": GradCAMPlusPlus}
for name, cam in cams.items():
    if name == "grad_cam_plus_plus":
        dense.weight.data *= 1000
    with cam(model=model, target_layers=[relu]) as one:
        found[name] = one(input_tensor=x, targets=targets)
np.savez(folder + "/found.npz", **found)
"""


@pytest.fixture(scope="module")
def trained():
    """A small network that has learned to tell three textures apart, images of all, and their classes."""
    keras.utils.set_random_seed(0)
    generator = np.random.default_rng(0)
    y = np.arange(192) % 3
    x = generator.normal(size=(192, 24, 24, 1)).astype("float32")
    for case, (i, j) in enumerate(generator.integers(2, 14, (192, 2))):
        if y[case]:
            x[case, i : i + 8, j : j + 8] += 2 * (-1 if y[case] == 2 else 1)
    entry = keras.Input((24, 24, 1))
    features = L.MaxPooling2D()(L.Conv2D(8, 3, padding="same", activation="relu")(entry))
    features = L.Conv2D(8, 3, padding="same", activation="relu", name="last")(features)
    # tf-keras-vis finds no gradient in a Sequential that was loaded.
    model = keras.Model(entry, L.Dense(3)(L.GlobalAveragePooling2D()(features)))
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, epochs=8, batch_size=16, verbose=0)
    assert (model.predict(x, verbose=0).argmax(axis=1) == y).mean() > 0.8
    return model, x[:6], y[:6]


def answers_of(script, trained, folder):
    """What ``script`` wrote when it was given the trained network, images and classes."""
    model, x, target = trained
    model.save(folder / "model.keras")
    weights = {f"w{number}": np.asarray(one) for number, one in enumerate(model.get_weights())}
    np.savez(folder / "given.npz", x=x, target=target, **weights)
    python = environments.interpreter(".venv-peers", "MEDLAB_PEERS_VENV", PACKAGES)
    known = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "KERAS"))}
    known |= {"PYTHONPATH": sysconfig.get_paths()["purelib"], "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([python, "-c", script, str(folder)], env=known, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return np.load(folder / "found.npz")


def alike(ours, theirs):
    """The smallest correlation of two maps of a case; both flat counts as 1."""
    found = [
        1.0 if a.max() == b.max() == 0 else np.corrcoef(a.ravel(), b.ravel())[0, 1]
        for a, b in zip(ours, theirs, strict=True)
    ]
    return min(found)


def test_tf_keras_vis_gives_the_same_maps(trained, tmp_path):
    model, x, target = trained
    theirs = answers_of(TF_KERAS_VIS, trained, tmp_path)
    np.testing.assert_allclose(explain.saliency(model, x, target=target), theirs["saliency"], rtol=1e-3, atol=1e-6)
    # Their maps are compared before they are made larger, which they do with the corners of both grids laid together.
    for name in ("grad_cam", "layer_cam"):
        expected = upsample(theirs[name], (24, 24))
        assert expected.max() > 0
        np.testing.assert_allclose(getattr(explain, name)(model, x, target=target), expected, rtol=1e-3, atol=1e-6)
    score = explain.score_cam(model, x, target=target, weights="probability")
    assert alike(score, upsample(theirs["score_cam"], (24, 24))) > 0.999


def test_pytorch_grad_cam_gives_the_same_maps(trained, tmp_path):
    model, x, target = trained
    theirs = answers_of(PYTORCH_GRAD_CAM, trained, tmp_path)
    np.testing.assert_allclose(model.predict(x, verbose=0), theirs["logits"], rtol=1e-3, atol=1e-4)
    for name in ("grad_cam", "hires_cam", "layer_cam", "xgrad_cam"):
        assert alike(getattr(explain, name)(model, x, target=target), theirs[name]) > 0.999, name
    # In Grad-CAM++ theirs adds 1e-6 to a denominator of the squared gradient: compared where that is large.
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([1000 * kernel, bias])
    plus = explain.grad_cam_plus_plus(model, x, target=target)
    model.layers[-1].set_weights([kernel, bias])
    assert alike(plus, theirs["grad_cam_plus_plus"]) > 0.999
