"""Label: which case to ask a reader for next, and which label to doubt.

In: probabilities, features or a model with its cases, and the labels there are. Out: numbers of cases with scores.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "METHODS": "asking",
    "Detection": "planting",
    "Next": "asking",
    "Planted": "planting",
    "Simulation": "rehearsal",
    "Suspects": "doubt",
    "bald": "information",
    "core_set": "spread",
    "detection": "planting",
    "dropout_draws": "draws",
    "entropy": "information",
    "margin": "information",
    "next_cases": "asking",
    "plant_errors": "planting",
    "simulate": "rehearsal",
    "suspects": "doubt",
}

__all__ = [
    "METHODS",
    "Detection",
    "Next",
    "Planted",
    "Simulation",
    "Suspects",
    "bald",
    "core_set",
    "detection",
    "dropout_draws",
    "entropy",
    "margin",
    "next_cases",
    "plant_errors",
    "simulate",
    "suspects",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"medlab.label has no {name!r}. It has {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return sorted(__all__)
