"""Models: functions that return a functional ``keras.Model`` with logits.

In: the shape of one image and the number of classes. Out: an untrained network; ``load`` reads a trained one. No data,
no training.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "backbone": "applications",
    "NETWORKS": "named",
    "baseline_cnn": "classify",
    "conv_lstm": "recurrent",
    "cost": "costs",
    "densenet121": "dense",
    "ensemble": "committee",
    "load": "files",
    "make": "named",
    "match_parameters": "costs",
    "projection": "projections",
    "resnet": "classify",
    "slice_mean": "recurrent",
    "slice_rnn": "recurrent",
    "slice_weights": "recurrent",
    "small_cnn": "classify",
    "two_and_half_d": "projections",
    "unet": "segment",
    "vit": "transformer",
}

__all__ = [
    "NETWORKS",
    "backbone",
    "baseline_cnn",
    "conv_lstm",
    "cost",
    "densenet121",
    "ensemble",
    "load",
    "make",
    "match_parameters",
    "projection",
    "resnet",
    "slice_mean",
    "slice_rnn",
    "slice_weights",
    "small_cnn",
    "two_and_half_d",
    "unet",
    "vit",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"medlab.models has no {name!r}. It has {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return sorted(__all__)
