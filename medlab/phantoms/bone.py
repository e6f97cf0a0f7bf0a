"""Fractures: a long bone in radiograph or CT, with or without a fracture, beside growth plates and nutrient canals.

In: the number of a case and how hard it shall be. Out: its parameters, its image and its mask. The same numbers always
give the same case.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medlab.phantoms import computed, twins, xray
from medlab.phantoms import limb as limbs
from medlab.phantoms.scenario import Scenario
from medlab.phantoms.shapes import inside
from medlab.volume import Volume

VERSION = 1
CLASSES = ("intact", "fracture")
REGIONS = ("background", "bone", "fracture")
FIELD_MM = 96.0
SLICE_MM = 1.0

# Spectrum, photons, detail of a radiograph; spectrum, photons, kernel of CT; noise (HU) and blur (mm) of a CT plane.
_RADIOGRAPH = {
    "reference": ("55 kV", 6.0e4, 1.2),
    "low-dose": ("70 kV", 6.0e3, 1.2),
    "sharp-kernel": ("55 kV", 6.0e4, 1.9),
}
_CT = {
    "reference": ("120 kV", 3.0e5, "soft", 22.0, 0.50),
    "low-dose": ("100 kV", 4.0e4, "soft", 55.0, 0.50),
    "sharp-kernel": ("120 kV", 3.0e5, "sharp", 60.0, 0.25),
}
DOMAINS = tuple(_CT)
_SOFT, _FAT, _CORTEX = 1.045, 0.93, (0.55, 1.25)  # g/cm3 of water, and of water and bone


def parameters(
    index: int, *, severity: float = 1.0, seed: int = 0, domain: str = "reference", healthy: bool = False
) -> dict[str, Any]:
    """The truth of case ``index``, without its image.

    Args:
        index: 0 or above. One of the cases 2k and 2k + 1 is intact, by chance.
        severity: 0.25 to 4; harder has narrower gaps, less displacement and more noise.
        seed: of the whole set.
        domain: changes nothing here.
        healthy: the same limb, intact.

    Returns:
        ``label``; ``displacement_mm`` of the fragment that bears the joint, along the fracture (0 where intact), and
        ``seen_mm``, the part of it across the bone in the plane of a radiograph; ``gap_mm``; ``angle_degrees`` between
        fracture and cross-section; ``bend_degrees`` of the fragment; ``x_mm, y_mm, z_mm`` of the fracture's middle (NaN
        where intact), RAS; ``young``, whether there is an open growth plate; ``radius_mm`` and ``cortex_mm`` of the
        shaft; ``noise``, the factor on the domain's noise.
    """
    return dict(_plan(index, float(severity), seed, healthy)[0])


@functools.lru_cache(maxsize=64)
def _plan(
    index: int, severity: float, seed: int, healthy: bool = False
) -> tuple[dict[str, Any], limbs.Limb, limbs.Break | None]:
    first_is_sick = np.random.default_rng([VERSION, seed, index // 2, 9]).random() < 0.5
    sick = first_is_sick == (index % 2 == 0) and not healthy
    limb, young = limbs.draw(np.random.default_rng([VERSION, seed, index, 0]))
    u = np.random.default_rng([VERSION, seed, index, 1]).random(10)
    at = limb.end + 30 + (34 - limb.end - 30) * u[0]
    slope, turn = float(np.tan(np.radians(5 + 45 * u[1]))), float(2 * np.pi * u[2])
    gap = float((0.9 + 1.3 * u[3]) / severity**0.5)
    moved, toward = float((0.3 + 4.2 * u[4] ** 1.3) / severity), 2 * np.pi * u[5]
    # It slides along the fracture, so that the gap stays.
    along = np.array([np.cos(toward), np.sin(toward), slope * np.cos(toward - turn)])
    shift = moved * along / np.linalg.norm(along)
    bend = np.radians(5) * (2 * u[6] - 1) / severity**0.5
    broken = limbs.Break(float(at), slope, turn, gap, tuple(shift.tolist()), float(bend))
    middle = limbs.world(limb, limbs.axis_at(limb, at), 0.0, at)
    nan = float("nan")
    facts = {
        "label": CLASSES[int(sick)], "displacement_mm": moved if sick else 0.0,
        "seen_mm": float(abs(shift[0])) if sick else 0.0, "gap_mm": gap if sick else 0.0,
        "angle_degrees": float(np.degrees(np.arctan(slope))) if sick else nan,
        "bend_degrees": float(np.degrees(bend)) if sick else nan,
        "x_mm": middle[0] if sick else nan, "y_mm": middle[1] if sick else nan, "z_mm": middle[2] if sick else nan,
        "young": young, "radius_mm": limb.radius, "cortex_mm": limb.cortex,
        "noise": float((0.8 + 0.4 * u[7]) * severity**0.35),
    }  # fmt: skip
    return facts, limb, broken if sick else None


def render(
    index: int, *, rank: int, size: int, severity: float, seed: int, domain: str, technique: str = "ct",
    healthy: bool = False,
) -> tuple[Volume, Volume]:  # fmt: skip
    """Image and mask of case ``index``; the arguments as :meth:`medlab.phantoms.scenario.Scenario.options` has them.

    Returns:
        Radiograph: 0 to 4095, uint16, seen from the front (rows to the feet, columns to the patient's left). CT:
        Hounsfield units, int16; a coronal plane along the bone (rows and columns as above), or a volume in RAS. The
        mask (uint8) is numbered as ``REGIONS``; the fracture's part is made at least one and a half voxels wide.

    Raises:
        ValueError: a radiograph of rank 3.
    """
    facts, limb, broken = _plan(index, float(severity), seed, healthy)
    own = np.random.default_rng([VERSION, seed, index, 3, rank, size, int(technique == "ct"), DOMAINS.index(domain)])
    spacing = FIELD_MM / size
    axis = ((np.arange(size) - (size - 1) / 2) * spacing).astype(np.float32)
    if technique == "radiograph" and rank != 2:
        raise ValueError(f"A radiograph is a picture: expected rank 2 with technique 'radiograph'. Received {rank}.")

    def make(facts: dict[str, Any], broken: limbs.Break | None, own: np.random.Generator) -> tuple:
        rng = np.random.default_rng([VERSION, seed, index, 2])
        if technique == "radiograph":
            return _radiograph(facts, limb, broken, axis, domain, rng, own)
        return _ct(facts, limb, broken, axis, rank, domain, own)

    sick, _, its_break = _plan(index, float(severity), seed)
    if healthy and its_break is not None:
        own = twins.same_noise(own, lambda own: make(sick, its_break, own))
    image, mask, info = make(facts, broken, own)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = axis[0]
    if rank == 2:
        affine = np.array([[0, -spacing, 0, axis[-1]], [0, 0, SLICE_MM, 0], [-spacing, 0, 0, axis[-1]], [0, 0, 0, 1.0]])
        image, mask = image[::-1, ::-1].T, mask[::-1, ::-1].T
    info |= {"technique": technique, "domain": domain, "parameters": dict(facts)}
    modality = "DX" if technique == "radiograph" else "CT"
    image, mask = np.ascontiguousarray(image), np.ascontiguousarray(mask)
    return Volume(image, affine, "image", modality, info, rank), Volume(mask, affine, "labels", modality, {}, rank)


def _ct(
    facts: dict[str, Any], limb: limbs.Limb, broken: limbs.Break | None, axis: NDArray, rank: int, domain: str,
    own: np.random.Generator,
) -> tuple[NDArray[np.int16], NDArray[np.uint8], dict[str, Any]]:  # fmt: skip
    from scipy import ndimage

    spacing = float(axis[1] - axis[0])
    deep = axis if rank == 3 else np.zeros(1, np.float32)
    x, y, z = np.ix_(axis, deep, axis)
    a, s = limbs.own_axes(limb, x, z)
    b = np.broadcast_to(y, a.shape if rank == 2 else np.broadcast_shapes(a.shape, y.shape))
    rough, fine = limb.texture.on((axis, deep, axis))[:2]
    around = np.sqrt((a - np.float32(limb.companion[0] / 2)) ** 2 + (1.1 * b) ** 2)
    water = _FAT * inside(around - limb.soft[0], spacing) + (_SOFT - _FAT) * inside(around - limb.soft[1], spacing)
    bone, hull, line = np.zeros_like(water), np.zeros_like(water), np.full(water.shape, np.inf, np.float32)
    for p, q, t, beyond in limbs.fragments(limb, broken, a, b, s, rough):
        far = limbs.outward(limb, p - limbs.axis_at(limb, t), q, t)
        there = 1.0 if beyond is None else inside(np.float32(broken.gap / 2) - beyond, spacing)
        whole = inside(far, spacing)
        core = inside(far + limbs.cortex_width(limb, t), spacing)
        rim, inner = limbs.left_bone(limb, p - limbs.axis_at(limb, t), q, t, rough, spacing)
        hard = (whole - core) * rim * there
        soft = core * inner * there
        bone += hard * _CORTEX[1] + soft * limbs.trabeculae(limb, t, fine)
        water += hard * (_CORTEX[0] - _SOFT) + core * there * (0.95 - _SOFT)
        hull = np.maximum(hull, whole * there)
        if beyond is not None:
            line = np.minimum(line, np.where(far < 0, np.abs(beyond), np.inf))
    thin = np.hypot(a - np.float32(limb.companion[0]), b) - np.float32(limb.companion[1])
    thin_bone = inside(thin, spacing) - 0.8 * inside(thin + 1.6, spacing)
    bone += _CORTEX[1] * thin_bone
    water += (_CORTEX[0] - _SOFT) * thin_bone
    mask = ((hull >= 0.5) | (thin < 0)).astype(np.uint8)
    if broken is not None:
        mask[line <= max(broken.gap, 1.5 * spacing) / 2] = REGIONS.index("fracture")
    spectrum, photons, kernel, noise, blur = _CT[domain]
    bone, water = np.maximum(bone, 0), np.maximum(water, 0)
    if rank == 3:
        found = computed.scan(
            water, bone, spacing, spectrum=spectrum, photons=photons / facts["noise"] ** 2, kernel=kernel, rng=own
        )
    else:
        found = xray.hounsfield({"water": water[:, 0], "bone": bone[:, 0]}, spectrum)
        found = ndimage.gaussian_filter(found, blur / spacing) + np.float32(noise * facts["noise"]) * computed.grain(
            found.shape, own
        )
        mask = mask[:, 0]
    image = np.rint(found).clip(-1024, 3071).astype(np.int16)
    return image, mask, {"tube_voltage": spectrum, "kernel": kernel}


def _radiograph(
    facts: dict[str, Any], limb: limbs.Limb, broken: limbs.Break | None, axis: NDArray, domain: str, rng:
    np.random.Generator,
    own: np.random.Generator,
) -> tuple[NDArray[np.uint16], NDArray[np.uint8], dict[str, Any]]:  # fmt: skip
    spacing = float(axis[1] - axis[0])
    a, s = limbs.own_axes(limb, axis[:, None], axis[None, :])
    rough, fine, back = limb.texture.on((axis, np.zeros(1, np.float32), axis))[:, :, 0]
    limb_radius = [np.maximum(r**2 - (a - np.float32(limb.companion[0] / 2)) ** 2, 0) for r in limb.soft]
    outer, inner = (2 / np.float32(1.1) * np.sqrt(one) for one in limb_radius)
    water = _FAT * (outer - inner) + _SOFT * inner
    bone, hull, line = np.zeros_like(water), np.zeros(water.shape, bool), np.zeros(water.shape, bool)
    for side, (p, _, t, beyond) in enumerate(limbs.fragments(limb, broken, a, np.zeros_like(a), s, rough)):
        off = p - limbs.axis_at(limb, t)
        radius = np.maximum(limbs.outer_radius(limb, t), 0)
        chord = limb.oval * np.sqrt(np.maximum(radius**2 - off**2, 0))
        hollow = limb.oval * np.sqrt(np.maximum(np.maximum(radius - limbs.cortex_width(limb, t), 0) ** 2 - off**2, 0))
        # Along the ray: cortex behind, marrow in four parts, cortex in front; each has the fracture where it lies.
        stops = [-chord, -hollow, -hollow / 2, 0 * hollow, hollow / 2, hollow, chord]
        for part, (low, high) in enumerate(itertools.pairwise(stops)):
            length, q = high - low, (low + high) / 2
            rim, core = limbs.left_bone(limb, off, q, t, rough if part else back, max(spacing, 0.7))
            there = np.float32(1)
            if beyond is not None:
                lean = broken.slope * np.sin(broken.turn) / np.hypot(1, broken.slope) * (1 if side == 0 else -1)
                uneven = 0.4 * (back - rough) if part < 3 else 0
                near = beyond - np.float32(lean) * q + uneven
                there = inside(np.float32(broken.gap / 2) - near, spacing)
                if part in (0, 5):  # what is seen of it: its way through the cortex
                    line |= (np.abs(near) <= max(broken.gap, 1.5 * spacing) / 2) & (length > 0.3)
            if part in (0, 5):
                bone += _CORTEX[1] * rim * there * length
                water += (_CORTEX[0] - _SOFT) * rim * there * length
            else:
                bone += limbs.trabeculae(limb, t, fine) * core * there * length
                water += (0.95 - _SOFT) * there * length
            hull |= (length > 0.3) & (there > 0.5 if beyond is not None else length > 0.3)
    thin = np.float32(limb.companion[1]) ** 2 - (a - np.float32(limb.companion[0])) ** 2
    wall = 2 * np.sqrt(np.maximum(thin, 0))
    core = 2 * np.sqrt(
        np.maximum(np.maximum(limb.companion[1] - 1.6, 0) ** 2 - (a - np.float32(limb.companion[0])) ** 2, 0)
    )
    bone += _CORTEX[1] * (wall - 0.8 * core)
    water += (_CORTEX[0] - _SOFT) * (wall - 0.8 * core)
    mask = (hull | (thin > 0)).astype(np.uint8)
    mask[line] = REGIONS.index("fracture")
    spectrum, photons, detail = _RADIOGRAPH[domain]
    masses = {"water": np.maximum(water, 0) / 10, "bone": bone / 10}
    size = len(axis)
    counts = xray.expose(
        masses, spectrum, photons=photons * spacing**2 / facts["noise"] ** 2, scatter=0.15, reach=size / 12, rng=own
    )
    spread, middle = 0.38 * np.exp(0.15 * rng.standard_normal()), 0.40 + 0.05 * rng.standard_normal()
    image = xray.present(counts, reach=size / 8, detail=detail, spread=float(spread), middle=float(middle))
    return image, mask, {"tube_voltage": spectrum}


FRACTURE = Scenario(
    name="phantom:fracture",
    classes=CLASSES,
    modality="CT",
    anatomy="limb",
    topic="orthopedic",
    regions=REGIONS,
    sizes={2: (128, 32, 512), 3: (64, 32, 128)},
    choices={"technique": ("ct", "radiograph")},
    domains=DOMAINS,
    window=("bone", 400, 1800),
    version=VERSION,
    note=(
        "Radiograph or CT of a long bone near a joint, with or without a fracture; nothing in it is from a "
        "patient. Bone and limb are built from curves with measures that were chosen, not drawn from a "
        "population. Half of the patients, in both classes, have an open growth plate; all have a nutrient canal. "
        "Attenuation is NIST's, the spectra are chosen; radiographs are the Beer-Lambert law along parallel rays, "
        "CT volumes are projected and back-projected, and a CT plane along the bone is made directly with blur "
        "and noise of that kind. Splinters, callus, swelling and casts are missing. How well a model does here "
        "says nothing about patients."
    ),
    parameters=parameters,
    render=render,
    narrower={3: {"technique": ("ct",)}},
)
