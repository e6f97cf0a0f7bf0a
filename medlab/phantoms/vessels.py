"""Carotid stenosis: a forking artery of the neck in CT or MR angiography, with or without a narrow place.

In: the number of a case and how hard it shall be. Out: its parameters, its image and its mask. The same numbers always
give the same case.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medlab.phantoms import anatomy, carotid, computed, physics
from medlab.phantoms.scenario import Scenario
from medlab.phantoms.shapes import Rods
from medlab.volume import Volume

VERSION = 1
CLASSES = ("normal", "stenosis")
REGIONS = ("background", "common carotid", "internal carotid", "external carotid", "narrowing")
FIELD_MM = 64.0
SLAB_MM = 32.0  # what a projection of maximum intensity looks through
THRESHOLD = 0.5
"""A narrowing of this share of the diameter or more counts as stenosis."""

DOMAINS = ("reference", "fast", "noisy")
# Blur (deviation, mm), noise, and brightness of blood by domain. CT: noise in HU at 1 mm voxels, HU of enhanced blood.
_CT = {"reference": (0.40, 14.0, 380.0), "fast": (0.65, 12.0, 280.0), "noisy": (0.40, 32.0, 330.0)}
# MR: noise by the blood's signal, and what a voxel keeps of it where the flow is disturbed.
_MR = {"reference": (0.40, 0.045, 0.55), "fast": (0.65, 0.05, 0.45), "noisy": (0.40, 0.10, 0.55)}


def parameters(
    index: int, *, severity: float = 1.0, seed: int = 0, domain: str = "reference", healthy: bool = False
) -> dict[str, Any]:
    """The truth of case ``index``, without its image.

    Args:
        index: 0 or above. One of the cases 2k and 2k + 1 is normal, by chance.
        severity: 0.25 to 4; harder has narrowings nearer to one half, mild ones in more normal cases, and more noise.
        seed: of the whole set.
        domain: changes nothing here.
        healthy: the same artery, nowhere narrow; a normal case stays as it is.

    Returns:
        ``label``, ``"stenosis"`` where the narrowing is ``THRESHOLD`` or more; ``narrowing``, 1 - d_min / d_distal with
        the diameters of the narrowest place and of the healthy vessel beyond it, as in NASCET (N Engl J Med 325:445,
        1991; there measured on the internal carotid alone, here on either branch); ``place``, the branch; ``arc_mm``
        from the start of that branch; ``x_mm, y_mm, z_mm`` of it (RAS); ``minimum_mm`` and ``distal_mm``, the two
        diameters; ``length_mm`` of the narrowing; ``plaques``, calcifications, in both classes; ``side`` of the neck;
        ``noise``, the factor on the domain's noise. A normal case has a mild narrowing or none, with its place.
    """
    return dict(_plan(index, float(severity), seed, healthy)[0])


@functools.lru_cache(maxsize=16)
def _plan(index: int, severity: float, seed: int, healthy: bool = False) -> tuple[dict[str, Any], carotid.Tree]:
    first_is_sick = np.random.default_rng([VERSION, seed, index // 2, 9]).random() < 0.5
    sick = first_is_sick == (index % 2 == 0)
    rng = np.random.default_rng([VERSION, seed, index, 1])
    u = rng.random(12)
    branch = 2 if u[0] < 0.6 else (1 if u[0] < 0.8 else 3)
    arc = 4 + 12 * u[1] if branch == 2 else (carotid.COMMON_MM - 7 - 10 * u[1] if branch == 1 else 4 + 9 * u[1])
    if sick:
        narrowing = THRESHOLD + (0.05 + 0.30 * u[2]) / severity**0.5
    else:
        # Two of three normal cases have a mild narrowing, a look-alike; on a harder set it is closer to one half.
        narrowing = 0.0 if u[3] < 0.33 else 0.12 + 0.23 * u[2] * min(severity, 1.4)
    narrowing = 0.0 if sick and healthy else min(narrowing, 0.92)
    sick = sick and not healthy
    length = 4 + 6 * u[4]
    count = int(rng.poisson(1.5 * severity**0.5))
    tree, centers = carotid.grow(
        np.random.default_rng([VERSION, seed, index, 0]), branch, arc, narrowing, length, count
    )
    at = int(np.argmin(np.where(tree.branch == branch, np.abs(tree.arc - arc), np.inf)))
    minimum = 2 * tree.radius[at]
    x, y, z = (tree.point + tree.inward)[at]
    facts = {
        "label": CLASSES[int(sick)], "narrowing": float(narrowing), "place": REGIONS[branch], "arc_mm": float(arc),
        "x_mm": float(x), "y_mm": float(y), "z_mm": float(z), "minimum_mm": float(minimum),
        "distal_mm": float(minimum / (1 - narrowing)), "length_mm": float(length), "plaques": count,
        "side": "right" if centers > 0 else "left", "noise": float((0.8 + 0.4 * u[5]) * severity**0.35),
    }  # fmt: skip
    return facts, tree


def render(
    index: int, *, rank: int, size: int, severity: float, seed: int, domain: str, technique: str = "ct",
    healthy: bool = False,
) -> tuple[Volume, Volume]:  # fmt: skip
    """Image and mask of case ``index``; the arguments as :meth:`medlab.phantoms.scenario.Scenario.options` has them.

    Returns:
        Rank 3: a volume of 64 mm in RAS; CT in Hounsfield units (int16), MR in arbitrary units (int16). Rank 2: the
        projection of the largest value through 32 mm from the front (rows to the feet, columns to the patient's left).
        The mask (uint8) is the lumen, numbered as ``REGIONS``; in a stenosis its narrow part is ``"narrowing"``. In the
        projection the mask is projected too.
    """
    facts, tree = _plan(index, float(severity), seed, healthy)
    rng = np.random.default_rng([VERSION, seed, index, 2])
    own = np.random.default_rng([VERSION, seed, index, 3, rank, size, int(technique == "ct"), DOMAINS.index(domain)])
    spacing = FIELD_MM / size
    axis = ((np.arange(size) - (size - 1) / 2) * spacing).astype(np.float32)
    deep = axis
    if rank == 2:
        step = max(spacing, 1.0)
        deep = (np.arange(round(SLAB_MM / step)) - (SLAB_MM / step - 1) / 2).astype(np.float32) * np.float32(step)
    axes = (axis, deep, axis)
    gap = (spacing, float(deep[1] - deep[0]), spacing)
    width = max(gap)
    lumen, labels = _lumen(tree, axes, width)
    if facts["label"] == "stenosis":
        half = facts["length_mm"] / 2
        close = _stretch(tree, facts, half, half).fill(axes, width, chain=True) >= 0.5
        labels[close & (labels == REGIONS.index(facts["place"]))] = REGIONS.index("narrowing")
        # However coarse the grid, the narrowest place is in the mask.
        site = (facts["x_mm"], facts["y_mm"], facts["z_mm"])
        nearest = tuple(int(np.argmin(np.abs(axis - place))) for axis, place in zip(axes, site, strict=True))
        labels[nearest] = REGIONS.index("narrowing")
    vein = _rods(tree.vein, np.full(len(tree.vein), tree.vein_radius), 15).fill(axes, width)
    make = _ct if technique == "ct" else _mr
    image, info = make(tree, facts, axes, gap, lumen, vein, domain, rng, own)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = axis[0]
    if rank == 2:
        affine = np.array([[0, -spacing, 0, axis[-1]], [0, 0, 1, 0], [-spacing, 0, 0, axis[-1]], [0, 0, 0, 1.0]])
        image, labels = (np.ascontiguousarray(one.max(1)[::-1, ::-1].T) for one in (image, labels))
    info |= {"technique": technique, "domain": domain, "parameters": dict(facts)}
    modality = "CT" if technique == "ct" else "MR"
    return Volume(image, affine, "image", modality, info, rank), Volume(labels, affine, "labels", modality, {}, rank)


def _rods(points: NDArray, radius: NDArray, step: int = 8) -> Rods:
    """A line of closely spaced points as tapered rods, each over ``step`` points."""
    if len(points) < 2:
        return Rods(points, points, np.stack([radius, radius], 1))
    knots = np.unique(np.append(np.arange(0, len(points) - 1, step), len(points) - 1))
    return Rods(points[knots[:-1]], points[knots[1:]], np.stack([radius[knots[:-1]], radius[knots[1:]]], 1))


def _lumen(tree: carotid.Tree, axes: tuple, width: float) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Share of each voxel inside the lumen, and the branch that has most of it where it is half or more."""
    share = np.zeros(tuple(len(axis) for axis in axes), np.float32)
    labels = np.zeros(share.shape, np.uint8)
    for number in (1, 2, 3):
        mine = tree.branch == number
        filled = _rods((tree.point + tree.inward)[mine], tree.radius[mine], 6).fill(axes, width, chain=True)
        labels[(filled > share) & (filled >= 0.5)] = number
        np.maximum(share, filled, out=share)
    return share, labels


def _stretch(tree: carotid.Tree, facts: dict[str, Any], before: float, beyond: float) -> Rods:
    """The lumen from ``before`` mm ahead of the narrowest place to ``beyond`` mm after it."""
    away = tree.arc - facts["arc_mm"]
    part = (tree.branch == REGIONS.index(facts["place"])) & (away > -before) & (away < beyond)
    return _rods((tree.point + tree.inward)[part], tree.radius[part], 4)


def _wall(tree: carotid.Tree, axes: tuple, width: float) -> NDArray[np.float32]:
    """Share of each voxel inside the wall or the lumen."""
    mine = [tree.branch == number for number in (1, 2, 3)]
    return np.maximum.reduce([_rods(tree.point[one], tree.outer[one], 20).fill(axes, width) for one in mine])


def _background(rng: np.random.Generator, axes: tuple) -> NDArray[np.float32]:
    """Smooth layers of muscle (1) and fat (0)."""
    waves = anatomy.Waves.draw(rng, 2, 14, 60, n=24).on(axes)
    return np.clip(0.85 + 0.9 * np.minimum(np.abs(waves[0]) - 0.35, 0) + 0.1 * waves[1], 0, 1)


def _ct(tree, facts, axes, gap, lumen, vein, domain, rng, own) -> tuple[NDArray[np.int16], dict[str, Any]]:
    blur, noise, blood = _CT[domain]
    blood *= 1 + 0.15 * rng.uniform(-1, 1)
    venous = blood * rng.uniform(0.2, 0.5)
    muscle = _background(rng, axes)
    image = -100 + 160 * muscle
    image += vein * (venous - image)
    image += _wall(tree, axes, max(gap)) * (45 - image)
    image += lumen * (blood - image)
    chalk = Rods(tree.plaques[:, :3], tree.plaques[:, :3], tree.plaques[:, [3, 3]]).fill(axes, max(gap))
    image += chalk * (rng.uniform(500, 1000) - image) * (1 - 0.8 * lumen)
    image = _blurred(image, blur, gap) + np.float32(noise * facts["noise"]) * computed.grain(image.shape, own)
    return np.rint(image).clip(-1024, 3071).astype(np.int16), {"tube_voltage": "100 kV"}


def _mr(tree, facts, axes, gap, lumen, vein, domain, rng, own) -> tuple[NDArray[np.int16], dict[str, Any]]:
    blur, noise, kept = _MR[domain]
    muscle = _background(rng, axes)
    image = 0.10 + 0.13 * muscle
    image += vein * (rng.uniform(0.05, 0.25) - image)
    image += _wall(tree, axes, max(gap)) * (0.16 - image)
    # Just beyond a tight place the flow is turbulent and the signal falls.
    loss = (1 - kept) * np.clip((facts["narrowing"] - 0.35) / 0.4, 0, 1)
    if loss > 0:
        x, y, z = np.ix_(
            *(axis - np.float32(facts[key]) for axis, key in zip(axes, ("x_mm", "y_mm", "z_mm"), strict=True))
        )
        away = np.sqrt(x**2 + y**2 + z**2)
        fading = np.clip(away / 2.5, 0, 1) * np.clip((10 - away) / 5, 0, 1)
        loss = loss * fading * _stretch(tree, facts, 0, 11).fill(axes, 2 * max(gap))
    image += lumen * ((1 - loss) - image)
    image = _blurred(image, blur, gap)
    image = physics.add_rician_noise(image, noise * facts["noise"], own) * rng.uniform(500, 900)
    return np.rint(image).clip(0, 32767).astype(np.int16), {"sequence": "time of flight"}


def _blurred(image: NDArray, blur: float, gap: tuple) -> NDArray[np.float32]:
    from scipy import ndimage

    return ndimage.gaussian_filter(image.astype(np.float32), [blur / one for one in gap], truncate=3)


STENOSIS = Scenario(
    name="phantom:stenosis",
    classes=CLASSES,
    modality="CT",
    anatomy="neck",
    topic="cardiovascular",
    regions=REGIONS,
    sizes={2: (128, 32, 256), 3: (64, 32, 128)},
    choices={"technique": ("ct", "mr")},
    domains=DOMAINS,
    window=("angiography", 300, 600),
    version=VERSION,
    note=(
        "CT or MR angiography of a carotid artery that forks, with or without a stenosis; nothing in it is from a "
        "patient. The tree is built from curves with measures that were chosen, not drawn from a population. Here "
        "the images are made directly: Hounsfield units or signals of the tissues, blurred, with noise of the "
        "technique's kind; there is no projection, no k-space and no flow, only a loss of signal beyond a tight "
        "place. Bone, skin and the other side of the neck are missing, as after their removal. A narrowing of "
        "half the diameter or more is called stenosis, a mild one is in the normal class. How well a model does "
        "here says nothing about patients."
    ),
    parameters=parameters,
    render=render,
)
