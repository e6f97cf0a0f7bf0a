"""Settings that all tests share."""

import os
from pathlib import Path

import pytest

# The same numbers on every machine that runs the tests, and no chatter from TensorFlow's C++ side.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("MPLBACKEND", "agg")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder with real images that MEDLAB_DATA names; a test that needs it is skipped where there is none."""
    folder = os.environ.get("MEDLAB_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs real images: set MEDLAB_DATA to a folder that holds them")
    return Path(folder).resolve()
