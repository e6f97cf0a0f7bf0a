"""Batches: the hub where cases, standardization and augmentation meet and become tensors.

In: cases, a split, a recipe. Out: arrays (n, i, j[, k], c) float32 with labels or masks, whole, batch by batch, or in
patches cut from large volumes. Keras is imported when :class:`Batches` or :class:`Patches` is first used.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "Batches": "streams",
    "Patches": "crops",
    "arrays": "whole",
    "images": "whole",
    "masks": "whole",
    "pairs": "whole",
    "recipe_for": "whole",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"medlab.batches has no {name!r}. It has {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return sorted(__all__)
