"""Models: functions that return a functional ``keras.Model`` with logits.

In: the shape of one image and the number of classes. Out: an untrained network. No data, no training.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {"baseline_cnn": "classify", "small_cnn": "classify", "resnet": "classify"}

__all__ = ["baseline_cnn", "resnet", "small_cnn"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"medlab.models has no {name!r}. It has {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return sorted(__all__)
