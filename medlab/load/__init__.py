"""Image files and named data sets, read into Volumes and Cases; Volumes written back to files."""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "read": "files",
    "write": "files",
    "ReadError": "errors",
    "dataset": "catalog",
    "datasets": "catalog",
    "open_reference": "catalog",
}

__all__ = ["ReadError", "dataset", "datasets", "open_reference", "read", "write"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"medlab.load.{_HOME[name]}"), name)
    raise AttributeError(f"medlab.load has no {name!r}. It has {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return sorted(__all__)
