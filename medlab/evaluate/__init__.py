"""Evaluate: how good, how certain, how well calibrated and how stable a model is.

Arrays in (truth ``y``, probabilities ``p``, images ``x``), numbers with intervals out. Each name is imported when it
is first used; the modules have other names than the functions, so that a module never hides its function.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "predict": "predictions",
    "flips": "variants",
    "shifts": "variants",
    "pixel_baseline": "baseline",
    "classification": "classify",
    "Evaluation": "result",
    "auc": "metrics",
    "bootstrap": "interval",
    "ece": "calibration",
    "temperature": "calibration",
    "best_threshold": "calibration",
    "compare": "comparison",
    "Comparison": "comparison",
    "stability": "robustness",
    "Stability": "robustness",
    "segmentation": "regions",
    "Segmentation": "segments",
    "dice": "overlap",
    "iou": "overlap",
    "hausdorff": "surface",
    "assd": "surface",
    "nsd": "surface",
    "sliding_window": "windows",
    "project": "projection",
    "intrinsic_dimension": "dimension",
    "explained_variance": "dimension",
    "components_needed": "dimension",
    "fid": "generated",
    "kid": "generated",
    "Kid": "generated",
    "precision_recall": "generated",
    "memorization": "copying",
    "Memorization": "copying",
    "healthy_only": "anomaly",
    "body_masks": "anomaly",
    "anomaly_maps": "anomaly",
    "intensity_maps": "anomaly",
    "pca_reconstruction": "anomaly",
    "image_scores": "anomaly",
    "anomalies": "detection",
    "Anomalies": "detection",
    "compare_anomalies": "detection",
    "psnr": "restoring",
    "ssim": "restoring",
    "restoration": "restoring",
    "denoise_classically": "restoring",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"medlab.evaluate has no {name!r}. It has {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return sorted(__all__)
