"""Sliding windows on JAX: the tests of tests/test_evaluate_windows.py in an environment without TensorFlow."""

import subprocess

import pytest

from tests.environments import ROOT, environment


@pytest.mark.jax
def test_sliding_windows_pass_their_tests_on_jax(jax_python):
    done = subprocess.run(
        [jax_python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_evaluate_windows.py"],
        env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
