"""Tumor: how large the tumor of a case is as it was made, without making its image.

In: a plan and what its outline is drawn from. Out: volumes in ml.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medlab.phantoms import anatomy, mixture, plan

_ACROSS = 14  # places along each side of the cube that is counted
_CORE_ACROSS = 10  # of the smaller box around the core
_REACH = 1.75  # radii; the outline goes no farther: exp(2.5 (0.18 + 0.06) - 1.5 (0.18^2 + 0.06^2)) = 1.73
_SOFT = 1.0  # mm, the sharpest edge an image has


def volumes_ml(case: plan.Parameters, head: anatomy.Head, rng: np.random.Generator) -> tuple[float, float]:
    """Volumes of a tumor and of its core in ml, counted on a grid of its own.

    Args:
        case: the plan.
        head: the person, whose brain's surface cuts the tumor.
        rng: in the state in which :func:`medlab.phantoms.mixture.compose` is given it.

    Returns:
        Core and rim together, and the core alone; 0 in a healthy case.
    """
    if case.label == "healthy":
        return 0.0, 0.0
    mixture.textures(rng)  # drawn before the outline is
    lobes, fringe = mixture.unevenness(rng, case.radius_mm)
    middle = np.array([case.x_mm, case.y_mm, case.z_mm])

    def count(first: NDArray, last: NDArray, across: int) -> tuple[float, float, NDArray]:
        """Volumes within a box around the middle, and (m, 3) places of the core from the middle; mm."""
        step = (last - first) / across
        along = [start + (np.arange(across) + 0.5) * one for start, one in zip(first, step, strict=True)]
        axes = tuple((place + one).astype(np.float32) for place, one in zip(middle, along, strict=True))
        places = np.stack(np.broadcast_arrays(*np.ix_(*axes))).reshape(3, -1)
        there = head.to_template(places, head.SHAPE_MM * head.shape.on(axes).reshape(3, -1))
        template = anatomy.template()
        hull = anatomy.sample(template.surfaces[:1], template.to_coarse, there)[0]
        distance = np.sqrt(((places - middle.astype(np.float32)[:, None]) ** 2).sum(0))
        fields = mixture.field_on(lobes, axes), mixture.field_on(fringe, axes)
        _, _, whole, core = mixture.outline(case, distance, hull, *fields, _SOFT)
        cell = step.prod() / 1000
        inner = places[:, core >= 0.5].T - middle
        return (whole >= 0.5).sum() * cell, len(inner) * cell, inner

    reach = np.full(3, _REACH * case.radius_mm)
    whole, core, inner = count(-reach, reach, _ACROSS)
    if len(inner):  # once more, finer
        edge = 2 * reach / _ACROSS
        core = count(inner.min(0) - edge, inner.max(0) + edge, _CORE_ACROSS)[1]
    return float(whole), float(core)
