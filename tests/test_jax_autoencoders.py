"""Autoencoders on JAX: codes, noise, divergence and training in an environment without TensorFlow."""

import subprocess

import pytest

from tests.environments import ROOT, environment


@pytest.mark.jax
def test_autoencoders_keep_their_truths_on_jax(jax_python):
    chosen = "added_in_the_scale or drawn_with_its_mean or within_the_body or white_noise or saved or whole"
    words = ["-q", "-p", "no:cacheprovider", "tests/test_models_autoencoders.py", "-k", chosen]
    done = subprocess.run(
        [jax_python, "-m", "pytest", *words], env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "8 passed" in done.stdout
