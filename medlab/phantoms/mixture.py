"""Mixture: what share of each tissue lies in each voxel of a case, and the true mask.

In: a plan and a grid. Out: shares from 0 to 1 and labels. It knows no scanner.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medlab.phantoms import anatomy, plan

DURA_MM = 1.0  # fluid between the brain's hull and the bone

_LENGTHS = ((1.3, 3.5), (0.5, 1.1))  # of the waves of a tumor's outline, by its radius

LABELS = {"background": 0, "edema": 1, "core": 2, "rim": 3}

Axes = tuple[NDArray, NDArray, NDArray]


def compose(
    case: plan.Parameters, head: anatomy.Head, axes: Axes, spacing: float, rng: np.random.Generator
) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.uint8]]:
    """Shares of the tissues and the mask on a grid.

    Args:
        case: the plan.
        head: the person.
        axes: places of the voxels' centers along x, y and z, mm in RAS.
        spacing: mm between voxels in plane; edges are about as soft.
        rng: for what the plan leaves open: textures, outlines, places of small lesions.

    Returns:
        The share of each tissue of :data:`medlab.phantoms.physics.TISSUES` that is there, each (i, j, k), together 1
        inside the head and 0 outside; and the mask (i, j, k), numbered as ``LABELS``.
    """
    soft = max(spacing, 1.0)
    # All is drawn in the same order whether the case is healthy or not.
    texture, layers = textures(rng)
    lobes, fringe = unevenness(rng, case.radius_mm)
    spots, spot_mm = aging(rng, case.spots)
    warp = (lambda here, hull: here + push(here, case, hull)) if case.label == "tumor" else None
    scene = Scene.build(head, axes, soft, texture, layers, case.atrophy, case.caps, warp)
    add_spots(scene.brain, scene.there, spots, spot_mm, soft)
    mask = np.zeros(scene.shape, np.uint8)
    if case.label == "tumor":
        mask.reshape(-1)[scene.within] = _add_tumor(
            scene.brain, case, scene.here, scene.hull, scene.field(lobes), scene.field(fringe), soft
        )
    return scene.shares(), mask


@dataclass(eq=False)
class Scene:
    """One person's head on a grid, before a lesion is put into it.

    Attributes:
        axes: places of the voxels' centers, mm in RAS.
        soft: width of edges, mm.
        outside: shares of what lies outside the brain, (n,) each, n all voxels.
        within: (m,) indices of the voxels of the brain and the fluid around it.
        hull: (m,) distance to the brain's hull in mm, negative inside.
        here: (3, m) places in the person, mm.
        there: (3, m) the same places in the template.
        texture: (3, m) fields of mean 0 that vary over millimeters.
        brain: shares of the brain's tissues, (m,) each, together 1; lesions are put in here.
    """

    axes: Axes
    soft: float
    outside: dict[str, NDArray[np.float32]]
    within: NDArray[np.intp]
    hull: NDArray[np.float32]
    here: NDArray[np.float32]
    there: NDArray[np.float32]
    texture: NDArray[np.float32]
    brain: dict[str, NDArray[np.float32]]

    @classmethod
    def build(
        cls, head: anatomy.Head, axes: Axes, soft: float, texture: anatomy.Waves, layers: anatomy.Waves,
        atrophy: float, caps: float, warp: Callable[[NDArray, NDArray], NDArray] | None = None, white: float = 0.0,
        sharper: float = 1.4,
    ) -> Scene:  # fmt: skip
        """The head of one person.

        Args:
            head: the person.
            axes: places of the voxels' centers, mm in RAS.
            soft: width of edges, mm.
            texture: of :func:`textures`.
            layers: likewise.
            atrophy: width of the fluid spaces; 0 is the template's.
            caps: brightness of the white matter beside the ventricles, 0 to 1.
            warp: from where the tissue at the places (3, m) came, given also ``hull``; mm.
            white: how much white matter there is beside gray (log odds); 0 is the template's.
            sharper: exponent that undoes some of the template's blur.
        """
        template = anatomy.template()
        places = np.stack(np.broadcast_arrays(*np.ix_(*axes))).reshape(3, -1)
        shape_bend = head.SHAPE_MM * head.shape.on(axes).reshape(3, -1)
        there = head.to_template(places, shape_bend)
        surfaces = anatomy.sample(template.surfaces, template.to_coarse, there)
        grain = field_on(texture, axes)
        outside = _outside(template, there, *surfaces, field_on(layers, axes), grain[0], soft)

        within = np.flatnonzero(surfaces[0] < soft)
        hull, here = surfaces[0, within], places[:, within]
        moved = here if warp is None else warp(here, hull)
        folds = head.FOLDS_MM * head.folds.on(axes).reshape(3, -1)
        there = head.to_template(moved, (shape_bend + folds)[:, within])
        grain = grain[:, within]
        brain = healthy_brain(template, there, grain, atrophy, caps, white, sharper)
        return cls(axes, soft, outside, within, hull, here, there, grain, brain)

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along each axis."""
        return tuple(len(axis) for axis in self.axes)

    def field(self, waves: anatomy.Waves) -> NDArray[np.float32]:
        """Values (fields, m) of smooth random fields in the brain, at most 2.5 from 0."""
        return field_on(waves, self.axes)[:, self.within]

    def shares(self) -> dict[str, NDArray[np.float32]]:
        """Shares of all tissues, (i, j, k) each."""
        inside = _inside(self.hull - DURA_MM, self.soft)
        for name, share in self.brain.items():
            self.outside.setdefault(name, np.zeros(int(np.prod(self.shape)), np.float32))[self.within] += share * inside
        return {name: share.reshape(self.shape) for name, share in self.outside.items()}


def textures(rng: np.random.Generator) -> tuple[anatomy.Waves, anatomy.Waves]:
    """Three fields of a few millimeters for tissue, two of centimeters for the layers of the scalp."""
    return anatomy.Waves.draw(rng, 3, 8, 24, n=64), anatomy.Waves.draw(rng, 2, 40, 100)


def aging(rng: np.random.Generator, number: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places (number, 3) in the template and radii in mm of small lesions of deep white matter."""
    sites = anatomy.template().white_sites
    return sites[rng.integers(len(sites), size=number)], rng.uniform(1.3, 4.2, number)


def field_on(waves: anatomy.Waves, axes: Axes) -> NDArray[np.float32]:
    """Values (fields, n) of smooth random fields on a grid, at most 2.5 from 0."""
    return np.clip(waves.on(axes).reshape(len(waves.weights), -1), -2.5, 2.5)


def push(places: NDArray, case: plan.Parameters, hull: NDArray) -> NDArray[np.float32]:
    """From where the tissue at each place came, as a displacement (3, n) mm; it points to the tumor's center.

    An incompressible tissue around a ball that grew by the volume m V satisfies r'^3 = r^3 - m R^3. The push fades with
    the distance and toward the skull, which holds.

    Args:
        places: (3, n) mm.
        case: center, radius R and mass effect m.
        hull: (n,) distance to the skull's inside in mm, negative inside.
    """
    away = places - np.array([[case.x_mm], [case.y_mm], [case.z_mm]], np.float32)
    distance = np.maximum(np.sqrt((away**2).sum(0)), 1e-3)
    before = np.cbrt(np.maximum(distance**3 - case.mass_effect * case.radius_mm**3, 0))
    fade = np.exp(-((distance / (5 * case.radius_mm)) ** 2)) * np.clip(-hull / 12, 0, 1)
    return away * ((before / distance - 1) * fade)


def unevenness(rng: np.random.Generator, radius: float) -> tuple[anatomy.Waves, anatomy.Waves]:
    """Lobes and fringe of a tumor's outline: two fields each, over lengths given by the tumor's radius."""
    size = max(radius, 4.0)
    lobes, fringe = (anatomy.Waves.draw(rng, 2, least * size, most * size, n=20) for least, most in _LENGTHS)
    return lobes, fringe


def _inside(distance: NDArray, width: float) -> NDArray[np.float32]:
    """1 where a signed distance (mm) is below 0, 0 above, a ramp of ``width`` mm between."""
    return np.clip(0.5 - distance / width, 0, 1)


def _outside(
    template: anatomy.Template, there: NDArray, hull: NDArray, skin: NDArray, layers: NDArray, texture: NDArray,
    soft: float,
) -> dict[str, NDArray[np.float32]]:  # fmt: skip
    """Shares of what lies outside the brain: two tables of bone with marrow between, muscle, fat and skin."""
    outer = 6.5 + 1.2 * layers[0]  # mm from the hull to the outside of the skull
    body, skull = _inside(skin, soft), _inside(hull - outer, soft)
    cavity = _inside(hull - DURA_MM, soft)
    marrow = np.maximum(_inside(hull - outer + 1.8, soft) - _inside(hull - 2.6, soft), 0)
    bone = np.maximum(skull - cavity - marrow, 0)
    rest = body - np.minimum(body, skull)
    under_skin = _inside(skin + 2.0, soft)
    muscle = _inside(skin + 5.5 + 1.2 * layers[1], soft) * np.clip(0.85 + 0.5 * np.minimum(texture + 0.8, 0), 0.1, 1)
    shares = {
        "bone": bone * body, "marrow": marrow * body, "skin": rest * (1 - under_skin),
        "fat": rest * under_skin * (1 - muscle), "muscle": rest * under_skin * muscle,
    }  # fmt: skip
    low = np.flatnonzero((there[2] < 12) & (hull > 0) & (skin < soft))
    if len(low):
        air, orbit, eye, vertebra, canal = (
            _inside(distance, soft) for distance in anatomy.sample(template.spaces, template.to_coarse, there[:, low])
        )
        soft_tissue = rest[low]
        for name in ("skin", "fat", "muscle"):
            shares[name][low] *= (1 - orbit) * (1 - vertebra) * (1 - canal)
        shares["fluid"] = np.zeros_like(rest)
        shares["fluid"][low] = (eye * orbit + canal * (1 - vertebra)) * soft_tissue
        shares["fat"][low] += orbit * (1 - eye) * soft_tissue
        shares["marrow"][low] += vertebra * soft_tissue
        for share in shares.values():
            share[low] *= 1 - air
    return shares


def healthy_brain(
    template: anatomy.Template, there: NDArray, texture: NDArray, atrophy: float, caps: float, more: float,
    sharper: float,
) -> dict[str, NDArray[np.float32]]:  # fmt: skip
    """Shares of white and gray matter, fluid and the bright caps of the ventricles; together 1."""
    gray, white = anatomy.sample(template.tissues, template.to_voxel, there) / 255
    near = anatomy.sample([template.near], template.to_coarse, there)[0]
    # The average of many brains is blurred: the shares are sharpened, and one person's cortex is told by the texture.
    odds = np.stack([white, gray, np.clip(1 - gray - white, 0, 1)]) ** sharper
    odds *= np.exp(np.array([[0.3], [0.3], [0.5]], np.float32) * texture)
    odds[2] *= np.exp(atrophy)
    odds[0] *= np.exp(more)
    white, gray, fluid = odds / np.maximum(odds.sum(0), 1e-6)
    bright = white * np.clip(caps * near * (0.75 + 0.35 * texture[0]), 0, 0.9)
    return {"white": white - bright, "gray": gray, "fluid": fluid, "gliosis": bright}


def add_spots(brain: dict[str, NDArray], there: NDArray, spots: NDArray, sizes: NDArray, soft: float) -> None:
    """Small bright lesions of the white matter, as age brings them; ``spots`` are places in the template."""
    for spot, size in zip(spots.astype(np.float32), sizes, strict=True):
        close = np.flatnonzero((np.abs(there - spot[:, None]) < size + soft).all(0))
        if len(close):
            distance = np.sqrt(((there[:, close] - spot[:, None]) ** 2).sum(0))
            change = 0.85 * _inside(distance - size, 1.5 * soft) * brain["white"][close]
            brain["white"][close] -= change
            brain["gliosis"][close] += change


def _add_tumor(
    brain: dict[str, NDArray], case: plan.Parameters, places: NDArray, hull: NDArray, lobes: NDArray, fringe: NDArray,
    soft: float,
) -> NDArray[np.uint8]:  # fmt: skip
    """Puts the tumor into the shares (in place) and returns the mask (n,)."""
    radius = case.radius_mm
    middle = np.array([[case.x_mm], [case.y_mm], [case.z_mm]], np.float32)
    distance = np.sqrt(((places - middle) ** 2).sum(0))
    bent, room, tumor, core = outline(case, distance, hull, lobes, fringe, soft)
    # Edema follows the white matter and spares the cortex.
    reach = case.edema_mm * np.exp(0.25 * lobes[1] + 0.2 * fringe[1])
    tracts = np.clip(1.4 * (brain["white"] + brain["gliosis"]) + 0.2 * brain["gray"] - 0.2, 0, 1)
    swollen = _inside(bent - radius - reach, 3 * soft) * tracts * (1 - tumor) * room
    fading = 1 - 0.35 * np.clip((bent - radius) / np.maximum(reach, 1), 0, 1)
    mottled = np.clip(1 + 0.12 * fringe[0], 0.7, 1.2)
    edema = swollen * np.clip(case.conspicuity * fading * mottled, 0, 1)
    filled = np.clip(1.2 * case.conspicuity * mottled, 0, 1)
    for share in brain.values():
        share *= 1 - edema - tumor * filled
    brain |= {"edema": edema, "solid": (tumor - core) * filled, "necrosis": core * filled}
    mask = np.zeros(distance.shape, np.uint8)
    mask[swollen >= 0.5] = LABELS["edema"]
    mask[tumor >= 0.5] = LABELS["rim"]
    mask[core >= 0.5] = LABELS["core"]
    if not mask.any():
        # A tumor that fills no voxel by half, as on a coarse grid, is marked where there is most of it.
        most = np.argmax(tumor) if tumor.any() else np.argmin(bent)
        mask[most] = LABELS["core" if core[most] > tumor[most] - core[most] else "rim"]
    return mask


def outline(
    case: plan.Parameters, distance: NDArray, hull: NDArray, lobes: NDArray, fringe: NDArray, soft: float
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """A tumor's uneven shape at n places.

    Args:
        case: the plan.
        distance: (n,) mm to the tumor's center.
        hull: (n,) distance to the brain's hull in mm, negative inside.
        lobes: (2, n) values of the fields of :func:`unevenness`.
        fringe: (2, n) likewise.
        soft: width of edges, mm.

    Returns:
        (n,) each: the distance bent as the outline is, mm; share of the brain; share of the tumor; of it, the core's.
    """
    # The outline is no ball: the distance is stretched by exp(n), n of variance v. A ball's volume would be multiplied
    # by E[exp(-3 n)] = exp(4.5 v); the constant takes this back.
    bent = distance * np.exp(0.18 * lobes[0] + 0.06 * fringe[0] + 1.5 * (0.18**2 + 0.06**2))
    room = _inside(hull + 0.5, soft)
    tumor = _inside(bent - case.radius_mm, soft) * room
    # The core's outline is its own, but leaves a rim.
    inner = np.minimum(case.core_share * np.exp(0.16 * lobes[1] + 0.10 * fringe[1]), 0.8)
    core = _inside(bent - inner * case.radius_mm, 1.5 * soft) * tumor
    return bent, room, tumor, core
