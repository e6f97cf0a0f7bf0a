"""Settings that all tests share."""

import os
import random
import sys
from pathlib import Path

import pytest

from tests import environments

# The same numbers on every machine that runs the tests, and no chatter from TensorFlow's C++ side.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("MPLBACKEND", "agg")


@pytest.fixture(autouse=True)
def same_numbers_every_time():
    """Each test starts from the same seeds, alone or after others: Keras draws the seeds of weights from ``random``."""
    random.seed(0)
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(0)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder with real images that MEDLAB_DATA names; a test that needs it is skipped where there is none."""
    folder = os.environ.get("MEDLAB_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs real images: set MEDLAB_DATA to a folder that holds them")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def jax_python() -> Path:
    """The interpreter of an environment with JAX and Keras and without TensorFlow."""
    packages = ("jax", "keras", "numpy", "scipy", "scikit-learn", "pandas", "tqdm", "psutil", "pytest")
    return environments.interpreter(".venv-jax", "MEDLAB_JAX_VENV", packages)
