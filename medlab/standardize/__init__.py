"""Standardize: images made comparable in space (orientation, spacing, size) and in intensity."""

from medlab.standardize.intensity import PRESETS, clip, foreground, percentile, scale, symmetric, window, zscore
from medlab.standardize.space import crop_or_pad, match, orient, resample, resize
from medlab.standardize.steps import Recipe, recipe, recipes

__all__ = [
    "PRESETS", "Recipe", "clip", "crop_or_pad", "foreground", "match", "orient", "percentile", "recipe", "recipes",
    "resample", "resize", "scale", "symmetric", "window", "zscore",
]  # fmt: skip
