"""Training: a Keras model and arrays go in, the trained model, its history and what was chosen come out.

It knows neither files nor images: arrays or a ``keras.utils.PyDataset`` feed it.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "DivergedError": "loop",
    "Fit": "fitting",
    "LearningRateCurve": "optimize",
    "auc": "score",
    "find_learning_rate": "optimize",
    "fit": "fitting",
    "plan": "planning",
}
_ROOMS = ("checkpoint", "devices", "feed", "loop", "losses", "optimize", "progress", "score")

__all__ = ["DivergedError", "Fit", "LearningRateCurve", "auc", "find_learning_rate", "fit", "plan"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        module = importlib.import_module(f"{__name__}.{_HOME[name]}")
        return getattr(module, name)
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"medlab.train has no {name!r}. It has {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return sorted(__all__)
