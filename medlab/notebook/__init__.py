"""Parameterized notebooks as batch jobs: run one or a study, list and copy them."""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "NotebookError": "runner",
    "Parameter": "parameters",
    "STUDY": "runner",
    "copy": "runner",
    "folder": "runner",
    "read_parameters": "parameters",
    "run": "runner",
    "study": "runner",
    "title": "parameters",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"medlab.notebook has no {name!r}. It has {', '.join(__all__)}.")
    return getattr(importlib.import_module(f"medlab.notebook.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
