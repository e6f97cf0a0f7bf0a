"""Lung nodules: a chest in CT or as a radiograph, with or without one nodule among the vessels.

In: the number of a case and how hard it shall be. Out: its parameters, its image and its mask. The same numbers always
give the same case.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medlab.phantoms import anatomy, chest, computed, torso, twins, xray
from medlab.phantoms.scenario import Scenario
from medlab.phantoms.shapes import Rays, inside
from medlab.volume import Volume

VERSION = 1
CLASSES = ("healthy", "nodule")
REGIONS = ("background", "lung", "nodule")
FIELD_MM = 360.0
LARGEST_MM = 30.0
"""What is larger is called a mass: Hansell et al., Fleischner Society glossary, Radiology 246:697 (2008)."""

_CENTER_Y = -6.0

# Spectrum, photons by detector cell and view, and kernel of CT; spectrum, photons, scatter and detail of a radiograph.
_CT = {
    "reference": ("120 kV", 2.0e5, "soft"),
    "low-dose": ("100 kV", 2.5e4, "soft"),
    "sharp-kernel": ("120 kV", 1.2e5, "sharp"),
}
_RADIOGRAPH = {
    "reference": ("120 kV", 2.0e4, 0.5, 1.3),
    "low-dose": ("100 kV", 3.0e3, 0.5, 1.3),
    "sharp-kernel": ("120 kV", 2.0e4, 0.5, 2.0),
}


def parameters(
    index: int, *, severity: float = 1.0, seed: int = 0, domain: str = "reference", healthy: bool = False
) -> dict[str, Any]:
    """The truth of case ``index``, without its image.

    Args:
        index: 0 or above. One of the cases 2k and 2k + 1 is healthy, by chance.
        severity: 0.25 to 4; harder is smaller, fainter, noisier, with thicker vessels as look-alikes.
        seed: of the whole set.
        domain: changes nothing here.
        healthy: the same person without the nodule.

    Returns:
        ``label``; ``kind``: ``"solid"``, ``"ground-glass"`` or ``"none"``; ``diameter_mm`` (0 where healthy) of the
        ball with the nodule's volume; ``x_mm, y_mm, z_mm`` of its center (NaN where healthy), RAS; ``density_g_cm3``;
        ``slice_z_mm``, where a slice is cut; ``noise``, the factor on the domain's noise; ``thorax_width_mm``.
    """
    facts = _plan(index, float(severity), seed)[0]
    return _without(facts) if healthy else dict(facts)


def _without(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts of the same person without the nodule."""
    lost = dict.fromkeys(("x_mm", "y_mm", "z_mm", "density_g_cm3"), float("nan"))
    return {**facts, "label": CLASSES[0], "kind": "none", "diameter_mm": 0.0, **lost}


@functools.lru_cache(maxsize=64)
def _plan(index: int, severity: float, seed: int) -> tuple[dict[str, Any], chest.Thorax]:
    first_is_sick = np.random.default_rng([VERSION, seed, index // 2, 9]).random() < 0.5
    sick = first_is_sick == (index % 2 == 0)
    person = torso.draw(np.random.default_rng([VERSION, seed, index, 0]))
    rng = np.random.default_rng([VERSION, seed, index, 1])
    u = rng.random(8)
    diameter = min((9 + 15 * u[0]) / severity**0.5, LARGEST_MM)
    solid = bool(u[1] < 0.65)
    density = 0.95 + 0.1 * u[2] if solid else (0.48 + 0.17 * u[2]) / severity**0.2
    x, y, z = _site(rng, person, 12.0)
    facts = {
        "label": CLASSES[int(sick)],
        "kind": ("solid" if solid else "ground-glass") if sick else "none",
        "diameter_mm": float(diameter) if sick else 0.0,
        "x_mm": x if sick else float("nan"), "y_mm": y if sick else float("nan"), "z_mm": z if sick else float("nan"),
        "density_g_cm3": float(density) if sick else float("nan"),
        # Where the nodule is or, in a healthy case, would have been: the place of a slice tells nothing.
        "slice_z_mm": float(z + (u[3] - 0.5) * 0.4 * diameter),
        "noise": float((0.8 + 0.4 * u[4]) * severity**0.35),
        "thorax_width_mm": float(person.width),
    }  # fmt: skip
    return facts, person


def _site(rng: np.random.Generator, person: chest.Thorax, depth: float) -> tuple[float, float, float]:
    """A place ``depth`` mm or more inside a lung; the deepest that was tried where there is none."""
    places = rng.random((400, 3)) * 2 - 1
    places *= np.array([0.5 * person.width, 0.42 * person.depth, 0.45 * person.height])
    far = person.airy(*places.astype(np.float32).T)
    good = np.flatnonzero(far < -depth)
    best = good[0] if len(good) else int(np.argmin(far))
    x, y, z = places[best]
    return float(x), float(y), float(z)


def render(
    index: int, *, rank: int, size: int, severity: float, seed: int, domain: str, technique: str = "ct",
    healthy: bool = False,
) -> tuple[Volume, Volume]:  # fmt: skip
    """Image and mask of case ``index``; the arguments as :meth:`medlab.phantoms.scenario.Scenario.options` has them.

    Returns:
        CT: Hounsfield units, int16; an axial slice (rows to the back, columns to the patient's left) or a volume in
        RAS. Radiograph: 0 to 4095, uint16, seen from the front (rows to the feet, columns to the patient's left). The
        mask (uint8) is numbered as ``REGIONS``.

    Raises:
        ValueError: a radiograph of rank 3.
    """
    facts, person = _plan(index, float(severity), seed)
    person = torso.with_vessels(np.random.default_rng([VERSION, seed, index, 4]), person)
    own = np.random.default_rng([VERSION, seed, index, 3, rank, size, int(technique == "ct"), DOMAINS.index(domain)])
    if technique == "radiograph" and rank != 2:
        raise ValueError(f"A radiograph is a picture: expected rank 2 with technique 'radiograph'. Received {rank}.")

    def make(facts: dict[str, Any], own: np.random.Generator) -> tuple[Volume, Volume]:
        # Texture and outline of the person are the same on every grid; noise is the scanner's own.
        rng = np.random.default_rng([VERSION, seed, index, 2])
        if technique == "radiograph":
            return _radiograph(facts, person, size, domain, rng, own)
        return _ct(facts, person, rank, size, domain, rng, own)

    if healthy and facts["label"] != CLASSES[0]:
        return make(_without(facts), twins.same_noise(own, lambda own: make(facts, own)))
    return make(facts, own)


def _axis(size: int, center: float = 0.0) -> NDArray[np.float32]:
    return (center + (np.arange(size) - (size - 1) / 2) * (FIELD_MM / size)).astype(np.float32)


def _outline(
    facts: dict[str, Any], waves: anatomy.Waves, axes: tuple[NDArray, NDArray, NDArray], width: float
) -> tuple[NDArray[np.float32], tuple[slice, slice, slice]]:
    """The nodule's share of the voxels in a box around it, and the box."""
    radius = facts["diameter_mm"] / 2
    center = np.array([facts["x_mm"], facts["y_mm"], facts["z_mm"]])
    reach = 1.7 * radius + 2 * width
    box = tuple(slice(*np.searchsorted(axis, [c - reach, c + reach])) for axis, c in zip(axes, center, strict=True))
    near = tuple(axis[part] for axis, part in zip(axes, box, strict=True))
    if 0 in (len(axis) for axis in near):
        return np.zeros(tuple(len(axis) for axis in near), np.float32), box
    x, y, z = np.ix_(*(axis - np.float32(c) for axis, c in zip(near, center, strict=True)))
    far = np.sqrt(x**2 + y**2 + z**2)
    # Lobes and short spicules; a ball's volume would grow by E[exp(3 n)] = exp(4.5 v), which is taken back.
    lobes, spikes = np.clip(
        waves.on(tuple(axis - np.float32(c) for axis, c in zip(near, center, strict=True))), -2.5, 2.5
    )
    bent = far * np.exp(0.10 * lobes + 0.06 * spikes + 1.5 * (0.10**2 + 0.06**2))
    soft = width if facts["kind"] == "solid" else width + 2.0
    return inside(bent - radius, soft), box


def _marked(share: NDArray) -> NDArray[np.bool_]:
    """Where at least half of a voxel is nodule; of one that is smaller than a voxel, the voxel that has most of it."""
    return share >= min(0.5, float(share.max(initial=0.0)) or 0.5)


def _waves(rng: np.random.Generator, facts: dict[str, Any]) -> anatomy.Waves:
    length = max(facts["diameter_mm"], 4.0)
    return anatomy.Waves.draw(rng, 2, 0.5 * length, 1.6 * length, n=20)


def _ct(
    facts: dict[str, Any], person: chest.Thorax, rank: int, size: int, domain: str, rng: np.random.Generator,
    own: np.random.Generator,
) -> tuple[Volume, Volume]:  # fmt: skip
    spacing = FIELD_MM / size
    axes = (_axis(size), _axis(size, _CENTER_Y), _axis(size))
    if rank == 2:
        axes = (*axes[:2], np.array([facts["slice_z_mm"]], np.float32))
    waves = _waves(rng, facts)
    water, bone, lung = person.densities(axes, spacing)
    texture = anatomy.Waves.draw(rng, 1, 9, 40, n=32).on(axes)[0]
    water += np.float32(0.018) * np.clip(texture, -2, 2) * lung
    mask = (lung >= 0.5).astype(np.uint8)
    if facts["label"] == "nodule":
        share, box = _outline(facts, waves, axes, spacing)
        mask[box][_marked(share)] = REGIONS.index("nodule")
        filled = share * lung[box]
        water[box] += filled * (np.maximum(np.float32(facts["density_g_cm3"]), water[box]) - water[box])
    spectrum, photons, kernel = _CT[domain]
    found = computed.scan(
        water, bone, spacing, spectrum=spectrum, photons=photons / facts["noise"] ** 2, kernel=kernel, rng=own
    )
    image = np.rint(found).clip(-1024, 3071).astype(np.int16)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = axes[0][0], axes[1][0], axes[2][0]
    if rank == 2:
        affine[:3, :3] = [[0, -spacing, 0], [-spacing, 0, 0], [0, 0, SLICE_MM]]
        affine[:3, 3] = axes[0][-1], axes[1][-1], facts["slice_z_mm"]
        image, mask = image[::-1, ::-1, 0].T, mask[::-1, ::-1, 0].T
    info = {"technique": "ct", "tube_voltage": spectrum, "kernel": kernel, "domain": domain, "parameters": dict(facts)}
    image, mask = np.ascontiguousarray(image), np.ascontiguousarray(mask)
    return Volume(image, affine, "image", "CT", info, rank), Volume(mask, affine, "labels", "CT", {}, rank)


SLICE_MM = 3.0
"""Slices' distance of the CT that a slice is taken from; what is drawn is the plane in its middle."""


def _radiograph(
    facts: dict[str, Any], person: chest.Thorax, size: int, domain: str, rng: np.random.Generator,
    own: np.random.Generator,
) -> tuple[Volume, Volume]:  # fmt: skip
    spacing = FIELD_MM / size
    axis = _axis(size)
    waves = _waves(rng, facts)
    rays = Rays(axis, axis)
    paths = person.paths(rays)
    mask = (paths["clear"] > 3).astype(np.uint8)
    if facts["label"] == "nodule":
        step = min(spacing, 1.5)
        reach = facts["diameter_mm"]
        deep = np.arange(facts["y_mm"] - reach, facts["y_mm"] + reach, step, dtype=np.float32)
        share, box = _outline(facts, waves, (axis, deep, axis), max(spacing, 1.0))
        length = share.sum(1) * np.float32(step)
        here = (box[0], box[2])
        paths["water"][here] += length * np.float32((facts["density_g_cm3"] - person.lung_density) / 10)
        mask[here][_marked(share.max(1, initial=0))] = REGIONS.index("nodule")
    spectrum, photons, scatter, detail = _RADIOGRAPH[domain]
    masses = {name: paths[name] for name in ("water", "bone")}
    counts = xray.expose(
        masses, spectrum, photons=photons * spacing**2 / facts["noise"] ** 2, scatter=scatter, reach=size / 12, rng=own
    )
    spread, middle = 0.30 * np.exp(0.15 * rng.standard_normal()), 0.45 + 0.05 * rng.standard_normal()
    image = xray.present(counts, reach=size / 10, detail=detail, spread=float(spread), middle=float(middle))
    affine = np.array([[0, -spacing, 0, axis[-1]], [0, 0, 1, 0], [-spacing, 0, 0, axis[-1]], [0, 0, 0, 1.0]])
    info = {"technique": "radiograph", "tube_voltage": spectrum, "domain": domain, "parameters": dict(facts)}
    image, mask = (np.ascontiguousarray(one[::-1, ::-1].T) for one in (image, mask))
    return Volume(image, affine, "image", "DX", info, 2), Volume(mask, affine, "labels", "DX", {}, 2)


DOMAINS = tuple(_CT)

NODULE = Scenario(
    name="phantom:lung-nodule",
    classes=CLASSES,
    modality="CT",
    anatomy="chest",
    topic="tumor",
    regions=REGIONS,
    sizes={2: (128, 32, 256), 3: (64, 32, 128)},
    choices={"technique": ("ct", "radiograph")},
    domains=DOMAINS,
    window=("lung", -600, 1500),
    version=VERSION,
    note=(
        "CT or radiograph of a chest with or without one nodule; nothing in it is from a patient. The chest is "
        "built from ellipses with measures that were chosen, not drawn from a population. Attenuation is NIST's, "
        "the spectra are chosen, CT is projected and back-projected with photon noise, and a radiograph is the "
        "Beer-Lambert law with smooth scatter. Airways in the lung, pleura, motion and disease other than the "
        "nodule are missing. A model that does well here has learned to tell a lump from a vessel in this "
        "phantom; that says nothing about patients, and detection rates must not be quoted as clinical."
    ),
    parameters=parameters,
    render=render,
)
