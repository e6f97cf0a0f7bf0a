"""Learning without labels on JAX, in an environment without TensorFlow."""

import subprocess

import pytest

from tests.environments import ROOT, environment

WHAT = (
    "follower or pretraining_trains or named_from_a_few or contrastive or by_hand or draws_have or attention_draws"
    " or batch_normalization_keeps"
)


@pytest.mark.jax
def test_learning_without_labels_passes_its_tests_on_jax(jax_python):
    files = [f"tests/test_{name}.py" for name in ("train_unlabeled", "train_semisupervised", "label_asking")]
    done = subprocess.run(
        [jax_python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files, "-k", WHAT],
        env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    assert "17 passed" in done.stdout
