"""Explanations on JAX: the tests of the room itself, run again in the environment without TensorFlow."""

import subprocess

import pytest

from tests.environments import ROOT, environment

THEMES = ("cam_family", "ends", "network_compiled", "network_inputs")


@pytest.mark.jax
def test_explanations_pass_their_tests_on_jax(jax_python):
    tests = [f"tests/test_explain_{theme}.py" for theme in THEMES]
    done = subprocess.run(
        [jax_python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
