"""Heart size: a chest radiograph whose cardiothoracic ratio is known, above or below one half.

In: the number of a case and how hard it shall be. Out: its parameters, its image and its mask. The same numbers always
give the same case.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np

from medlab.phantoms import chest, torso, twins, xray
from medlab.phantoms.scenario import Scenario
from medlab.phantoms.shapes import Rays
from medlab.volume import Volume

VERSION = 1
CLASSES = ("normal", "cardiomegaly")
REGIONS = ("background", "right lung", "left lung", "heart")

# Spectrum, photons for a square millimeter, scatter by primary, and how strongly detail is shown.
_DOMAINS = {
    "reference": ("120 kV", 2.0e4, 0.5, 1.3),
    "portable": ("85 kV", 4.0e3, 1.4, 1.1),
    "high-kvp": ("140 kV", 1.5e4, 0.6, 1.6),
}
DOMAINS = tuple(_DOMAINS)


def parameters(
    index: int, *, severity: float = 1.0, seed: int = 0, domain: str = "reference", healthy: bool = False
) -> dict[str, Any]:
    """The truth of case ``index``, without its image.

    Args:
        index: 0 or above. One of the cases 2k and 2k + 1 is normal, by chance.
        severity: 0.25 to 4; harder has ratios nearer to 0.5, more turned patients and more noise.
        seed: of the whole set.
        domain: changes nothing here.
        healthy: the same person with a heart as much below one half as it was above.

    Returns:
        ``label``, ``"cardiomegaly"`` where the ratio is above 0.5; ``ratio``, the cardiothoracic ratio as seen: the
        heart's largest width by that of the lungs (Danzer, Am J Med Sci 157:513, 1919); both widths in mm;
        ``rotation_degrees`` about the long axis; ``inspiration``, 0 to 1; ``fat_mm`` under the skin; ``field_mm``, the
        side of the picture; ``x_mm, z_mm``, where the patient stands off its middle; ``noise``, the factor on the
        domain's noise.
    """
    return dict(_plan(index, float(severity), seed, healthy)[0])


@functools.lru_cache(maxsize=64)
def _plan(index: int, severity: float, seed: int, healthy: bool = False) -> tuple[dict[str, Any], chest.Thorax]:
    first_is_sick = np.random.default_rng([VERSION, seed, index // 2, 9]).random() < 0.5
    sick = first_is_sick == (index % 2 == 0) and not healthy
    u = np.random.default_rng([VERSION, seed, index, 1]).random(8)
    away = (0.012 + 0.078 * u[0]) / severity**0.5
    ratio = 0.5 + away if sick else 0.5 - away
    angle = np.radians((u[1] - 0.5) * 10 * min(severity, 2) ** 0.5)
    inspiration = float(u[2])
    rng = np.random.default_rng([VERSION, seed, index, 0])
    person = torso.draw(rng, ratio=ratio, angle=angle, inspiration=inspiration)
    low, high = person.thorax_edges(angle)
    left, right = chest.heart_edges(person.heart, angle)
    field = (high - low) * (1.12 + 0.43 * u[6])  # the collimator leaves more or less around the chest
    facts = {
        "label": CLASSES[int(sick)], "ratio": float((right - left) / (high - low)),
        "heart_width_mm": float(right - left), "thorax_width_mm": float(high - low),
        "rotation_degrees": float(np.degrees(angle)), "inspiration": inspiration, "fat_mm": float(person.fat),
        "field_mm": float(field), "x_mm": float((field - high + low - 20) * (u[3] - 0.5)),
        "z_mm": float(0.8 * (field - person.height) * (u[4] - 0.5)),
        "noise": float((0.8 + 0.4 * u[5]) * severity**0.35),
    }  # fmt: skip
    return facts, person


def render(
    index: int, *, rank: int, size: int, severity: float, seed: int, domain: str, healthy: bool = False
) -> tuple[Volume, Volume]:
    """Image and mask of case ``index``; the arguments as :meth:`medlab.phantoms.scenario.Scenario.options` has them.

    Returns:
        The radiograph (0 to 4095, uint16, seen from the front: rows to the feet, columns to the patient's left) and its
        mask (uint8), numbered as ``REGIONS``: lungs where nothing hides them, and the whole shadow of the heart. The
        rays are parallel: nothing is magnified, unlike in a true radiograph.
    """
    facts, person = _plan(index, float(severity), seed)
    person = torso.with_vessels(np.random.default_rng([VERSION, seed, index, 4]), person)
    own = np.random.default_rng([VERSION, seed, index, 3, rank, size, DOMAINS.index(domain)])
    if healthy and facts["label"] != CLASSES[0]:
        own = twins.same_noise(own, lambda own: _make(facts, person, index, size, seed, domain, own))
        facts, smaller = _plan(index, float(severity), seed, True)
        person = replace(smaller, vessels=person.vessels)
    return _make(facts, person, index, size, seed, domain, own)


def _make(
    facts: dict[str, Any], person: chest.Thorax, index: int, size: int, seed: int, domain: str,
    own: np.random.Generator,
) -> tuple[Volume, Volume]:  # fmt: skip
    spacing = facts["field_mm"] / size
    axis = (np.arange(size) - (size - 1) / 2) * spacing
    x, z = (axis - facts["x_mm"]).astype(np.float32), (axis - facts["z_mm"]).astype(np.float32)
    paths = person.paths(Rays(x, z, float(np.radians(facts["rotation_degrees"]))))
    side = np.where(x[:, None] > chest.midline(person, np.radians(facts["rotation_degrees"])), 1, 2)
    mask = np.where(paths["clear"] > 0, side, 0).astype(np.uint8)
    mask[paths["heart"] > 0] = REGIONS.index("heart")
    spectrum, photons, scatter, detail = _DOMAINS[domain]
    rng = np.random.default_rng([VERSION, seed, index, 2])
    masses = {name: paths[name] for name in ("water", "bone")}
    counts = xray.expose(
        masses, spectrum, photons=photons * spacing**2 / facts["noise"] ** 2, scatter=scatter, reach=size / 12, rng=own
    )
    spread, middle = 0.30 * np.exp(0.2 * rng.standard_normal()), 0.45 + 0.06 * rng.standard_normal()
    image = xray.present(counts, reach=size / 10, detail=detail, spread=float(spread), middle=float(middle))
    affine = np.array([[0, -spacing, 0, axis[-1]], [0, 0, 1, 0], [-spacing, 0, 0, axis[-1]], [0, 0, 0, 1.0]])
    info = {"tube_voltage": spectrum, "domain": domain, "parameters": dict(facts)}
    image, mask = (np.ascontiguousarray(one[::-1, ::-1].T) for one in (image, mask))
    return Volume(image, affine, "image", "DX", info, 2), Volume(mask, affine, "labels", "DX", {}, 2)


CARDIOMEGALY = Scenario(
    name="phantom:cardiomegaly",
    classes=CLASSES,
    modality="DX",
    anatomy="chest",
    topic="cardiovascular",
    regions=REGIONS,
    sizes={2: (128, 32, 512)},
    choices={},
    domains=DOMAINS,
    version=VERSION,
    note=(
        "Radiograph of a chest from the front whose cardiothoracic ratio is known; nothing in it is from a "
        "patient. The chest is built from ellipses with measures that were chosen, not drawn from a population; "
        "the heart is two ellipsoids, scaled to the ratio. A ratio above 0.5 counts as enlarged, the usual "
        "criterion. Attenuation is NIST's, the spectra are chosen, the radiograph is the Beer-Lambert law along "
        "parallel rays with smooth scatter and photon noise; the portable domain differs in tube, dose and "
        "scatter alone, not in the direction of the rays. Congestion, effusion and other signs of heart failure "
        "are missing. How well a model does here says nothing about patients."
    ),
    parameters=parameters,
    render=render,
)
