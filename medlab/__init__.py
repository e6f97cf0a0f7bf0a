"""medlab: interactive analysis of medical images in Jupyter.

The stations of an image's way are named once, in order; each is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

STATIONS = (
    "geometry", "volume", "cases", "runs",
    "load", "phantoms", "clean", "standardize", "augment", "batches",
    "models", "train", "evaluate", "explain", "label", "view", "study", "choose", "report", "notebook",
)  # fmt: skip

_SHORTCUTS = {
    "Volume": "volume",
    "Cases": "cases",
    "read": "load",
    "write": "load",
    "dataset": "load",
    "datasets": "load",
    "arrays": "batches",
    "show": "view",
}

__all__ = ["STATIONS", "__version__", *STATIONS, *_SHORTCUTS]


def __getattr__(name: str) -> Any:
    if name in STATIONS:
        return importlib.import_module(f"medlab.{name}")
    if name in _SHORTCUTS:
        return getattr(importlib.import_module(f"medlab.{_SHORTCUTS[name]}"), name)
    raise AttributeError(f"medlab has no {name!r}. It has {', '.join(__all__[2:])}.")


def __dir__() -> list[str]:
    return sorted(__all__)
