"""Phantoms: images with exactly known truth, made from real or parametric anatomy and physics; no download.

In: a data set's name and parameters. Out: tables of cases, images and masks.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

_HOME = {
    "HOMES": "store", "NAMES": "store", "Scenario": "scenario", "brain_tumor": "brain", "cases": "store",
    "find": "store", "plant_marker": "marker", "healthy_twin": "twins", "healthy_twins": "twins",
    "make": "making", "open_reference": "store",
}  # fmt: skip

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    if importlib.util.find_spec(f"{__name__}.{name}") is not None:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"medlab.phantoms has no {name!r}. It has {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return __all__
