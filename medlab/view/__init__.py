"""View: images, masks, heat maps and curves as pictures, in Jupyter and without it.

``slice_image`` is pure NumPy; ``images``, ``curves`` and ``charts`` return matplotlib figures; ``show`` and ``show3d``
display a static picture first and, in Jupyter, a live viewer below it.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "slice_image": "slices", "projection": "slices", "auto_window": "slices",
    "orthogonal": "images", "overlay": "images", "montage": "images", "explanation_grid": "images", "curve": "figures",
    "roc": "curves", "precision_recall": "curves", "reliability": "curves", "confusion": "curves",
    "evaluation_grid": "curves", "stability_curve": "curves", "history": "charts", "intensities": "charts",
    "intensity_curves": "charts", "label_counts": "charts",
    "compare_masks": "segments", "segment_scores": "segments", "segmentation_grid": "segments", "agreement": "segments",
    "explanation_scores": "scores", "method_grid": "comparisons", "healthy_twins": "comparisons",
    "similar_cases": "evidence", "slice_importance": "evidence", "class_maps": "evidence",
    "learning_curves": "sequences", "slice_weights": "sequences",
    "label_efficiency": "budgets", "cost_of_dimensions": "budgets", "latent_map": "latent",
    "reconstructions": "restored", "anomaly_maps": "restored", "samples_over_time": "restored",
    "label_cases": "labeling",
    "gan_training": "generated", "sample_grid": "generated", "copies": "generated", "explore_samples": "sampler",
    "show": "widgets", "show3d": "scene",
}  # fmt: skip

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"medlab.view.{_HOMES[name]}"), name)
    if name in {*_HOMES.values(), "colors"}:
        return importlib.import_module(f"medlab.view.{name}")
    raise AttributeError(f"medlab.view has no {name!r}. It has {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return sorted(__all__)
