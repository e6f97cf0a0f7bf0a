"""The same code on JAX, in an environment of its own without TensorFlow.

``MEDLAB_JAX_VENV`` names an environment to use; else ``.venv-jax`` beside the tests is made once and kept.
"""

import subprocess

import pytest

from tests.environments import ROOT, environment

STORY = """
import sys
import warnings
warnings.simplefilter("error")
import keras
import numpy as np
from medlab import explain, models, train

def blobs(n, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 16, 16, 1)).astype(np.float32)
    y, masks = np.arange(n) % 2, np.zeros((n, 16, 16), bool)
    for case in np.flatnonzero(y):
        i, j = rng.integers(3, 13, 2)
        masks[case, i - 2 : i + 3, j - 2 : j + 3] = True
    return x + 2 * masks[..., None], y, masks

x, y, _ = blobs(256, 0)
new, truth, masks = blobs(64, 1)
model = models.small_cnn((16, 16, 1), 2, width=8)
fitted = train.fit(model, (x, y), (new, truth), epochs=8, batch_size=16, learning_rate=3e-3, run=sys.argv[1])
p = fitted.model.predict(new, verbose=0)[:, 0]
heat = np.asarray(explain.grad_cam(fitted.model, new[truth == 1], target=1))
hit = [masks[truth == 1][n].ravel()[one.argmax()] for n, one in enumerate(heat)]
same = keras.models.load_model(sys.argv[1] + "/model.keras", safe_mode=True).predict(new, verbose=0)[:, 0]
assert np.array_equal(p, same)
assert keras.backend.backend() == "jax"
assert not [name for name in ("tensorflow", "torch", "matplotlib") if name in sys.modules]
print("AUC", train.auc(truth, p), "SHAPE", *heat.shape, "HIT", np.mean(hit))
"""


@pytest.mark.jax
def test_a_network_is_trained_and_explained_without_tensorflow(jax_python, tmp_path):
    done = subprocess.run(
        [jax_python, "-c", STORY, str(tmp_path / "run")], env=environment(), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    _, auc, _, *shape, _, hit = done.stdout.split()
    assert float(auc) > 0.95
    assert [int(side) for side in shape] == [32, 16, 16]
    # A heat map that knew nothing would have its maximum in the 25 of 256 pixels of a spot in a tenth of the cases.
    assert float(hit) > 0.5


@pytest.mark.jax
def test_training_passes_its_tests_on_jax(jax_python):
    themes = ("fitting", "fitting_segmentation", "losses", "feed", "loop_pace", "loop_guards", "checkpoint_kill")
    tests = [f"tests/test_train_{theme}.py" for theme in themes]
    # JAX compiles its first step for longer than the few seconds that this test gives a whole training.
    timed = "not time_ends_a_training"
    done = subprocess.run(
        [jax_python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", timed, *tests],
        env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
