"""Phantoms: images with exactly known truth, made from real anatomy and MR physics; no download.

In: a data set's name and parameters. Out: tables of cases, images and masks.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {"NAMES": "store", "brain_tumor": "brain", "cases": "store", "open_reference": "store"}
_ROOMS = ("anatomy", "brain", "cache", "mixture", "physics", "plan", "store")

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"medlab.phantoms has no {name!r}. It has {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return __all__
