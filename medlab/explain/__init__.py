"""Explain: which parts of an image a model's answer rests on, and whether that explanation can be trusted.

In: any Keras model and an array (n, i, j[, k], c). Out: heat maps (n, i, j[, k]) and scores of heat maps.
Nothing is loaded before it is used.

    asking   a model, its cases and what is asked about them, compiled; the only place that differentiates
    maps     the methods: each turns a question into heat, for voxels, slices or regions
    checks   what a map is worth: faithful, sane, well placed, robust; tables, intervals, verdicts
    similar  explanation by example

Each may import what stands above it.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "Inputs": "asking.inputs",
    "forget": "asking.kept",
    "layers": "maps.cam",
    "grad_cam": "maps.cam",
    "grad_cam_plus_plus": "maps.cam",
    "hires_cam": "maps.cam",
    "layer_cam": "maps.cam",
    "xgrad_cam": "maps.cam",
    "score_cam": "maps.ungraded",
    "eigen_cam": "maps.ungraded",
    "mirrored": "maps.mirrors",
    "saliency": "maps.attribution",
    "input_times_gradient": "maps.attribution",
    "integrated_gradients": "maps.integrated",
    "completeness": "maps.integrated",
    "CompletenessWarning": "maps.integrated",
    "smooth_grad": "maps.smoothing",
    "var_grad": "maps.smoothing",
    "guided_backprop": "maps.guided",
    "guided_grad_cam": "maps.guided",
    "SanityWarning": "maps.guided",
    "occlusion": "maps.perturb",
    "rise": "maps.perturb",
    "deletion": "checks.curves",
    "insertion": "checks.curves",
    "pointing_game": "checks.localize",
    "mass_inside": "checks.localize",
    "iou": "checks.localize",
    "pixel_auprc": "checks.localize",
    "road": "checks.removal",
    "infidelity": "checks.faithful",
    "mu_fidelity": "checks.faithful",
    "sparseness": "checks.robust",
    "max_sensitivity": "checks.robust",
    "repeatability": "checks.alike",
    "randomization": "checks.sanity",
    "cascade": "checks.sanity",
    "label_randomization": "checks.sanity",
    "score": "checks.trust",
    "score_cases": "checks.trust",
    "summary": "checks.trust",
    "verdict": "checks.verdicts",
    "difference": "checks.verdicts",
    "region": "maps.regions",
    "class_maps": "maps.regions",
    "slice_importance": "maps.slices",
    "attention_rollout": "maps.attention",
    "similar_cases": "similar",
    "features": "similar",
    "healthy_counterfactual": "checks.counterfactual",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    if name in {"asking", "maps", "checks", "similar"}:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"medlab.explain has no {name!r}. It has {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return sorted(__all__)
