"""Study: the state that the notebooks of one study share through a run folder.

In: a data set's name and a run folder. Out: cases with splits, their recipe, tensors, and the model of the run. It
only joins the stations in their usual order; each of them can be called without it.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "Study": "state",
    "fit": "training",
    "model": "training",
    "network": "training",
    "open": "preparing",
    "plan": "training",
    "prepare": "preparing",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"medlab.study has no {name!r}. It has {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return sorted(__all__)
