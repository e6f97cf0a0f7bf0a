"""Every network on JAX: the harness of ``tests/test_models_all.py`` in an environment without TensorFlow."""

import subprocess

import pytest

from tests.environments import ROOT, environment


@pytest.mark.jax
def test_every_network_passes_the_harness_on_jax(jax_python):
    tests = ["tests/test_models_all.py", "tests/test_models_ensemble.py"]
    done = subprocess.run(
        [jax_python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
