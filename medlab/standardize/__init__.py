"""Standardize: images made comparable in space (orientation, spacing, size) and in intensity, and the way back."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "orient": "space", "resample": "space", "resize": "space", "match": "space",
    "crop_or_pad": "cropping", "crop_to_foreground": "cropping", "restore": "inverse",
    "PRESETS": "intensity", "clip": "intensity", "fixed_zscore": "intensity", "percentile": "intensity",
    "scale": "intensity", "symmetric": "intensity", "window": "intensity", "zscore": "intensity",
    "fit_landmarks": "landmarks", "histogram": "landmarks", "clahe": "contrast", "match_histogram": "contrast",
    "tissue_peak": "stripes", "white_stripe": "stripes", "foreground": "masks",
    "Recipe": "steps", "recipe": "named", "recipes": "named",
    "Fingerprint": "measure", "fingerprint": "measure", "propose": "proposal", "target_spacing": "proposal",
}  # fmt: skip

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"medlab.standardize.{_HOMES[name]}"), name)
    if name in _HOMES.values():
        return importlib.import_module(f"medlab.standardize.{name}")
    raise AttributeError(f"medlab.standardize has no {name!r}. It has {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return sorted(__all__)
