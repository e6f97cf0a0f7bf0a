"""Python environments of their own that some tests need, made once beside the tests and kept."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

ROOT = Path(__file__).resolve().parents[1]


def interpreter(name, variable, packages):
    """The Python of the environment ``name``, which has ``packages``; a variable may name another folder to use."""
    folder = Path(os.environ.get(variable, ROOT / name))
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if variable in os.environ:
        if not python.is_file():
            pytest.fail(f"{variable} names {folder}, but there is no {python}.")
        return python
    with folder.with_name(f"{name}.lock").open("w") as lock:
        if fcntl is not None:  # tests run in several processes
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / ".installed").is_file():
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
            subprocess.run(install, check=True, timeout=1200)
            (folder / ".installed").touch()
    return python


def environment():
    """The variables of a process that runs this checkout on JAX."""
    known = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "TF_"))}
    return {**known, "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
