"""Plan of a case: every number that a brain with or without a tumor is made from, drawn without making the image.

In: the number of a case, severity and seed. Out: its parameters and its head. The same numbers give the same plan.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np

from medlab.phantoms import anatomy

VERSION = 1
"""All is drawn by it: another number gives other cases."""

CLASSES = ["healthy", "tumor"]


@dataclass(frozen=True)
class Parameters:
    """What one case is made of. A healthy case has no lesion: radius 0, and NaN where nothing is.

    Attributes:
        label: ``"healthy"`` or ``"tumor"``.
        x_mm: center of the tumor, mm to the patient's right.
        y_mm: mm to the front.
        z_mm: mm to the head.
        radius_mm: of the ball that the tumor (core and rim) is made from, before its surface is made uneven and the
            surface of the brain cuts it; ``tumor_ml`` of the table is what was made.
        core_share: radius of the core by that of the tumor, drawn likewise; ``core_ml`` is what was made.
        edema_mm: mean width of the edema.
        conspicuity: how much of the lesion's tissue is truly lesion, 0 to 1; the rest is what was there before.
        agent_mmol_l: what the rim took up of the contrast agent (for ``sequence="t1c"``).
        mass_effect: share of the tumor's volume that pushed tissue away; the rest replaced it.
        spots: number of small white-matter lesions of aging in the whole brain, in healthy and sick alike.
        caps: brightness of the white matter beside the ventricles, 0 to 1, likewise.
        atrophy: width of the fluid spaces; 0 is the template's.
        slice_z_mm: where a 2-D slice is cut, mm to the head.
        noise: deviation of the noise by the white matter's signal.
        bias: largest deviation of the receive gain from 1.
        grade: ``"high"`` where at least two of three are above the middle of what is drawn: uptake of the contrast
            agent, share of the necrotic core, width of the edema by the tumor's size; else ``"low"``, and ``"none"``
            where healthy. All three are as drawn (``agent_mmol_l``, ``core_share``, ``edema_mm`` by ``radius_mm``), not
            measured in the mask. A name for how the tumor was made, no grade of the WHO.
    """

    label: str
    x_mm: float
    y_mm: float
    z_mm: float
    radius_mm: float
    core_share: float
    edema_mm: float
    conspicuity: float
    agent_mmol_l: float
    mass_effect: float
    spots: int
    caps: float
    atrophy: float
    slice_z_mm: float
    noise: float
    bias: float
    grade: str


def healthy(case: Parameters) -> Parameters:
    """The same person without the tumor."""
    lost = ("x_mm", "y_mm", "z_mm", "core_share", "conspicuity", "agent_mmol_l", "mass_effect")
    nothing = dict.fromkeys(lost, float("nan")) | {"radius_mm": 0.0, "edema_mm": 0.0}
    return replace(case, label=CLASSES[0], grade="none", **nothing)


@functools.lru_cache(maxsize=4096)
def parameters(index: int, *, severity: float = 1.0, seed: int = 0) -> Parameters:
    """The parameters of case ``index``, without making its image.

    Args:
        index: 0 or above. One of the cases 2k and 2k + 1 is healthy, by chance.
        severity: 0.25 to 4; a harder set has smaller and fainter tumors, more noise and more look-alikes.
        seed: of the whole set.
    """
    return draw(index, severity, seed)[0]


def draw(index: int, severity: float, seed: int) -> tuple[Parameters, anatomy.Head]:
    """Parameters and head of a case. Every case draws all numbers in the same order, sick or not, hard or easy."""
    first_is_sick = np.random.default_rng([VERSION, seed, index // 2, 9]).random() < 0.5
    sick = first_is_sick == (index % 2 == 0)
    head = anatomy.Head.draw(np.random.default_rng([VERSION, seed, index, 0]))
    rng = np.random.default_rng([VERSION, seed, index, 1])
    sites = anatomy.template().sites
    site = sites[rng.integers(len(sites))] + rng.uniform(-1.5, 1.5, 3)
    u = rng.random(12)
    radius = (7 + 13 * u[0]) / severity**0.5
    x, y, z = head.from_template(site)
    age = u[7]
    lesion = {
        "x_mm": float(x), "y_mm": float(y), "z_mm": float(z), "radius_mm": float(radius),
        "core_share": float(0.3 + 0.45 * u[1]), "edema_mm": float(5 + 0.6 * radius * u[2]),
        "conspicuity": float(min((0.30 + 0.50 * u[3]) / severity**0.7, 1)),
        "agent_mmol_l": float(0.2 + 0.5 * u[4]), "mass_effect": float(0.25 + 0.6 * u[5]),
    }  # fmt: skip
    if not sick:
        lesion = dict.fromkeys(lesion, float("nan")) | {"radius_mm": 0.0, "edema_mm": 0.0}  # as in healthy()
    found = Parameters(
        label=CLASSES[int(sick)],
        **lesion,
        spots=int(rng.poisson(20 * severity * age**2)),
        caps=float(min(0.8 * severity**0.5 * age * u[8], 1)),
        atrophy=float(1.2 * (age - 0.4) + 0.4 * (u[9] - 0.5)),
        # Where the lesion is or, in a healthy case, would have been: the place of a slice tells nothing.
        slice_z_mm=float(z + (u[6] - 0.5) * 1.1 * radius),
        noise=float((0.025 + 0.03 * u[10]) * severity**0.5),
        bias=float(0.04 + 0.12 * u[11]),
        grade=("high" if np.sum(u[[1, 2, 4]] >= 0.5) >= 2 else "low") if sick else "none",
    )
    return found, head
