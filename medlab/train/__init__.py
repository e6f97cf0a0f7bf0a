"""Training: a Keras model and arrays go in, the trained model, its history and what was chosen come out.

It knows neither files nor images: arrays or a ``keras.utils.PyDataset`` feed it.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "CrossValidation": "repeats",
    "DiskFullError": "guards",
    "DivergedError": "guards",
    "Fit": "fitting",
    "Pretraining": "unlabeled.pretraining",
    "SemiSupervised": "unlabeled.semisupervised",
    "GanDivergedError": "adversarial.outcome",
    "GanFit": "adversarial.outcome",
    "LearningRateCurve": "rates",
    "OutOfMemoryError": "guards",
    "Repeats": "repeats",
    "SegmentationPlan": "fingerprint",
    "auc": "score",
    "connect": "cluster",
    "cross_validate": "repeats",
    "find_learning_rate": "rates",
    "fit": "fitting",
    "fit_semisupervised": "unlabeled.semisupervised",
    "linear_probe": "unlabeled.probing",
    "fit_gan": "adversarial.fitting",
    "plan": "planning",
    "plan_segmentation": "fingerprint",
    "pretrain": "unlabeled.pretraining",
    "repeat": "repeats",
}
_ROOMS = (
    "adversarial",
    "checkpoint",
    "cluster",
    "devices",
    "feed",
    "folds",
    "guards",
    "labels",
    "loop",
    "losses",
    "optimize",
    "parts",
    "precision",
    "progress",
    "rates",
    "regions",
    "repeats",
    "schedules",
    "score",
)

__all__ = [
    "CrossValidation",
    "DiskFullError",
    "DivergedError",
    "Fit",
    "GanDivergedError",
    "GanFit",
    "LearningRateCurve",
    "OutOfMemoryError",
    "Pretraining",
    "Repeats",
    "SegmentationPlan",
    "SemiSupervised",
    "auc",
    "connect",
    "cross_validate",
    "find_learning_rate",
    "fit",
    "fit_gan",
    "fit_semisupervised",
    "linear_probe",
    "plan",
    "plan_segmentation",
    "pretrain",
    "repeat",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        module = importlib.import_module(f"{__name__}.{_HOME[name]}")
        return getattr(module, name)
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"medlab.train has no {name!r}. It has {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return sorted(__all__)
