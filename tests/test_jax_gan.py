"""A GAN on JAX: its steps' tests in an environment without TensorFlow."""

import subprocess

import pytest

from tests.environments import ROOT, environment


@pytest.mark.jax
def test_each_step_moves_its_own_network_on_jax(jax_python):
    chosen = "moves_its_own_weights and 2-shape0 or old_recipe or diverging_training"
    tests = ["tests/test_train_gan_steps.py", "tests/test_train_gan.py"]
    done = subprocess.run(
        [jax_python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, *tests],
        env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    assert "3 passed" in done.stdout
