"""Choose: which network, optimizer, learning rate and loss suit a data set, found by a small experiment on it.

Training and validation arrays go in; a table with intervals, curves, the choice and its reasons come out. Test cases
are not asked for until the choice is made.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "Candidate": "options",
    "Experiment": "outcome",
    "candidates": "options",
    "experiment": "halving",
    "vary": "halving",
}

__all__ = ["Candidate", "Experiment", "candidates", "experiment", "vary"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"medlab.choose has no {name!r}. It has {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return sorted(__all__)
