"""Backend: Keras, imported in one place, on the backend that is installed and without its start-up chatter.

In: nothing. Out: ``keras``. Whoever needs it writes ``from medlab.backend import keras``.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import sys
from collections.abc import Iterator


def _choose() -> None:
    """Takes JAX or PyTorch where TensorFlow is not installed and the user has chosen nothing."""
    if "KERAS_BACKEND" in os.environ or "keras" in sys.modules or importlib.util.find_spec("tensorflow"):
        return
    for backend, package in (("jax", "jax"), ("torch", "torch")):
        if importlib.util.find_spec(package):
            os.environ["KERAS_BACKEND"] = backend
            return


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Inside, nothing reaches the process's standard error: TensorFlow writes there before it reads its log level.

    Python's exceptions are not held back, and ``TF_CPP_MIN_LOG_LEVEL=0`` lets everything through.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0" or "tensorflow" in sys.modules:
        yield
        return
    sys.stderr.flush()
    try:
        kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except OSError:
        yield
        return
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _expected(record: logging.LogRecord) -> bool:
    """Lets pass what TensorFlow warns of, but for retracing: several models in one session are traced one by one."""
    return "triggered tf.function retracing" not in record.getMessage()


_choose()
with _quiet():
    import keras
logging.getLogger("tensorflow").addFilter(_expected)

__all__ = ["keras"]
