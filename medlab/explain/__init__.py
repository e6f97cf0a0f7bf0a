"""Explain: which parts of an image a model's answer rests on, and whether that explanation can be trusted.

In: any Keras model and an array (n, i, j[, k], c). Out: heat maps (n, i, j[, k]) and scores of heat maps.
Nothing is loaded before it is used.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "Inputs": "inputs",
    "layers": "cam",
    "grad_cam": "cam",
    "grad_cam_plus_plus": "cam",
    "hires_cam": "cam",
    "layer_cam": "cam",
    "xgrad_cam": "cam",
    "score_cam": "ungraded",
    "eigen_cam": "ungraded",
    "mirrored": "mirrors",
    "saliency": "attribution",
    "input_times_gradient": "attribution",
    "integrated_gradients": "integrated",
    "completeness": "integrated",
    "CompletenessWarning": "integrated",
    "smooth_grad": "smoothing",
    "var_grad": "smoothing",
    "guided_backprop": "guided",
    "guided_grad_cam": "guided",
    "SanityWarning": "guided",
    "occlusion": "perturb",
    "rise": "perturb",
    "deletion": "curves",
    "insertion": "curves",
    "pointing_game": "localize",
    "mass_inside": "localize",
    "iou": "localize",
    "pixel_auprc": "localize",
    "road": "removal",
    "infidelity": "faithful",
    "mu_fidelity": "faithful",
    "sparseness": "robust",
    "max_sensitivity": "robust",
    "repeatability": "alike",
    "randomization": "sanity",
    "cascade": "sanity",
    "label_randomization": "sanity",
    "score": "trust",
    "score_cases": "trust",
    "summary": "trust",
    "verdict": "verdicts",
    "difference": "verdicts",
    "region": "regions",
    "class_maps": "regions",
    "slice_importance": "slices",
    "attention_rollout": "attention",
    "similar_cases": "similar",
    "features": "similar",
    "healthy_counterfactual": "counterfactual",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    if name in {"gradient", "network", "question", "targets", *_HOME.values()}:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"medlab.explain has no {name!r}. It has {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return sorted(__all__)
