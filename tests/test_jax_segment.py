"""U-Net and region losses on JAX, in an environment without TensorFlow."""

import subprocess

import pytest

from tests.environments import ROOT, environment

STORY = """
import warnings
warnings.simplefilter("error")
import sys
import keras
import numpy as np
from medlab import models
from medlab.train import regions
random = np.random.default_rng(0)
for shape in ((24, 16, 1), (12, 16, 8, 1)):
    x, y = random.normal(0, 0.3, (4, *shape)).astype(np.float32), np.zeros((4, *shape[:-1]), int)
    y[(slice(None), *(slice(3, 8) for _ in shape[:-1]))] = 1
    x[..., 0] += y
    loss = regions.boundary() if len(shape) == 3 else regions.dice_ce()
    model = models.unet(shape, 2, width=4, levels=2)
    model.compile(keras.optimizers.Adam(1e-2), loss)
    values = [float(model.train_on_batch(x, loss.encode(y, 2))) for _ in range(20)]
    print(len(shape) - 1, loss.name, values[0], values[-1])
assert keras.backend.backend() == "jax"
assert "tensorflow" not in sys.modules
"""


@pytest.mark.jax
def test_a_unet_learns_on_jax(jax_python):
    done = subprocess.run(
        [jax_python, "-c", STORY], env=environment(), capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [(row[0], row[1]) for row in rows] == [("2", "boundary"), ("3", "dice_ce")]
    for _, _, first, last in rows:
        assert float(last) < 0.7 * float(first)


@pytest.mark.jax
def test_losses_of_regions_pass_their_tests_on_jax(jax_python):
    done = subprocess.run(
        [jax_python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_train_regions.py"],
        env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
