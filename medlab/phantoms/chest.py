"""Chest: a parametric thorax of ellipses and ellipsoids, seen in a CT grid or along parallel rays.

In: a person as :mod:`medlab.phantoms.torso` draws them. Out: densities on a grid, mass along rays, widths.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medlab.phantoms.shapes import Ellipsoid, Rays, Rods, Stack, clip, inside, union_length

# g/cm3 of what attenuates as water, chosen near Hounsfield units of each tissue.
SOFT, FAT, BLOOD = 1.045, 0.92, 1.05
_RIB_MM, _RIB_HALF_MM, _RIBS = 7.5, 6.0, 11
_RIB = (0.55, 1.0)  # water and bone, g/cm3
_SPINE, _CLAVICLE, _STERNUM, _SCAPULA = (0.85, 0.24), (0.5, 1.1), (0.85, 0.25), (0.8, 0.3)

Grid = tuple[NDArray, NDArray, NDArray]


@dataclass(frozen=True, eq=False)
class Thorax:
    """One person, in mm; the origin lies in the middle of the lungs, x to the right, y to the front, z to the head.

    Attributes:
        width: largest inner width of the rib cage.
        depth: inner depth of the rib cage.
        height: of the lungs from the recess beside the diaphragm to their tops.
        lung_density: g/cm3.
        fat: mm of fat under the skin.
        body, cage, lungs, spine, canal, sternum, trachea: stacks of ellipses; ``lungs`` right and left.
        domes: of the diaphragm, right and left.
        heart: ventricles and right atrium.
        others: what else is no lung between the lungs: mediastinum and aortic arch.
        gas: in the stomach.
        clavicles, bronchi, vessels: rods.
        scapulae: right and left.
        rib_top, rib_gap, rib_drop: height of the first rib at the spine, distance of ribs, fall from back to front.
    """

    width: float
    depth: float
    height: float
    lung_density: float
    fat: float
    body: Stack
    cage: Stack
    lungs: tuple[Stack, Stack]
    spine: Stack
    canal: Stack
    sternum: Stack
    trachea: Stack
    domes: tuple[Ellipsoid, Ellipsoid]
    heart: tuple[Ellipsoid, Ellipsoid]
    others: tuple[Stack, Ellipsoid]
    gas: Ellipsoid
    clavicles: Rods
    bronchi: Rods
    scapulae: tuple[Ellipsoid, Ellipsoid]
    vessels: Rods
    rib_top: float
    rib_gap: float
    rib_drop: float

    @property
    def solids(self) -> tuple[Stack | Ellipsoid, ...]:
        """All that a lung cannot be."""
        return (*self.heart, *self.domes, *self.others, self.spine)

    def airy(self, x: NDArray, y: NDArray, z: NDArray) -> NDArray[np.float32]:
        """About the distance in mm to the surface of the lungs; negative within their tissue."""
        lung = np.minimum(*(one.distance(x, y, z) for one in self.lungs))
        return functools.reduce(np.maximum, (-solid.distance(x, y, z) for solid in self.solids), lung)

    def densities(self, axes: Grid, width: float) -> tuple[NDArray, NDArray, NDArray]:
        """Water and bone (g/cm3), and the lungs' share, on a grid: (i, j, k) float32 each.

        Args:
            axes: mm along x, y, z.
            width: mm over which edges fade; about the voxels' side.
        """
        x, y, z = np.ix_(*(np.asarray(axis, np.float32) for axis in axes))
        body = self.body.distance(x, y, z)
        water = FAT * inside(body, width) + (SOFT - FAT) * inside(body + self.fat, width)
        lung = inside(self.airy(x, y, z), width) * inside(body + self.fat, width)
        # A lung is heavier where it lies; vessels are drawn afterward.
        tissue = np.float32(self.lung_density) * (1 - np.float32(0.0012) * y)
        water += lung * (tissue - water)
        water += self.vessels.fill(axes, width) * lung * (BLOOD - water)
        for hollow in (self.trachea, self.gas):
            water *= 1 - inside(hollow.distance(x, y, z), width)
        water *= 1 - self.bronchi.fill(axes, width)
        bone = np.zeros_like(water)

        def fill(share: NDArray, kind: tuple[float, float]) -> None:
            nonlocal water, bone
            water += share * (np.float32(kind[0]) - water)
            bone += share * (np.float32(kind[1]) - bone)
            np.multiply(lung, 1 - share, out=lung)

        ribs = self._ribs(self.cage.distance(x, y, z), x, y, z, width)
        fill(ribs * inside(body + 4, width), _RIB)
        spine = self.spine.distance(x, y, z)
        fill(inside(spine, width) * inside(_disk(z), width), _SPINE)
        fill(inside(np.abs(spine + 1) - 1, width) * inside(_disk(z), width), (0.5, 0.8))
        fill(inside(self.canal.distance(x, y, z) - 3, width), (0.5, 0.7))
        fill(inside(self.canal.distance(x, y, z), width), (SOFT, 0.0))
        fill(inside(self.sternum.distance(x, y, z), width), _STERNUM)
        fill(self.clavicles.fill(axes, width), _CLAVICLE)
        for one in self.scapulae:
            fill(inside(one.distance(x, y, z), width) * inside(body + 6, width), _SCAPULA)
        return water, bone, lung

    def _ribs(self, outward: NDArray, x: NDArray, y: NDArray, z: NDArray, width: float) -> NDArray[np.float32]:
        """Share of rib: ``outward`` is the distance to the cage's inner surface in mm, positive outside."""
        near = np.abs(outward - _RIB_MM / 2) < _RIB_MM / 2 + width
        share = np.zeros(near.shape, np.float32)
        x, y, z = (np.broadcast_to(one, near.shape)[near] for one in (x, y, z))
        height = self._rib_profile(x, y, z)
        shell = inside(np.abs(outward[near] - _RIB_MM / 2) - _RIB_MM / 2, width)
        share[near] = shell * inside(np.abs(height) - _RIB_HALF_MM, width)
        return share

    def _rib_profile(self, x: NDArray, y: NDArray, z: NDArray) -> NDArray[np.float32]:
        """Height in mm above the middle of the nearest rib on the cage, far away where there is cartilage or none."""
        turn = np.arctan2(np.abs(x) * (self.depth / self.width), -y) * np.float32(1 / np.pi)  # 0 spine, 1 sternum
        fall = self.rib_drop * (turn * (2.0 - turn) - 0.55 * np.clip(turn - 0.72, 0, 1))
        count = (self.rib_top - z - fall) / np.float32(self.rib_gap)
        nearest = np.clip(np.rint(count), 0, _RIBS - 1)
        height = (count - nearest) * np.float32(self.rib_gap)
        # Lower ribs end earlier in front.
        ends = np.where(nearest < 7, 0.84, 0.84 - 0.07 * (nearest - 6))
        return height + 100 * np.clip((turn - ends) * 8, 0, 1) + 100 * (turn < 0.09)

    def paths(self, rays: Rays) -> dict[str, NDArray[np.float32]]:
        """Mass of water and bone (g/cm2) along rays, and shadows: (n, m) each.

        Returns:
            ``"water"``, ``"bone"``; ``"lung"``, mm of lung tissue; ``"heart"``, mm of heart; ``"clear"``, mm of lung
            where nothing else hides it, else 0.
        """
        body = self.body.cross(rays)
        solids = [solid.cross(rays) for solid in self.solids]
        lung = np.zeros((len(rays.x), len(rays.z)), np.float32)
        clear = np.zeros_like(lung)
        for one in self.lungs:
            path = one.cross(rays)
            hidden = union_length([clip(solid, path) for solid in solids])
            lung += path[1] - path[0] - hidden
            clear += np.where(union_length([clip(solid, path) for solid in solids[:6]]) > 0, 0, path[1] - path[0])
        heart = union_length([one.cross(rays) for one in self.heart])
        thick = body[1] - body[0]
        inner = np.maximum(thick - 2 * np.float32(self.fat), 0)
        empty = sum(p[1] - p[0] for p in (clip(hollow.cross(rays), body) for hollow in (self.trachea, self.gas)))
        empty += self.bronchi.shadow(rays)
        water = FAT * (thick - inner) + SOFT * (inner - lung - empty) + np.float32(self.lung_density) * lung
        water += (BLOOD - np.float32(self.lung_density)) * np.minimum(self.vessels.shadow(rays), lung)
        bone = np.zeros_like(water)
        lengths = [(self._rib_shadow(rays), _RIB), (self.clavicles.shadow(rays), _CLAVICLE)]
        for shape, kind in ((self.spine, _SPINE), (self.sternum, _STERNUM), *((s, _SCAPULA) for s in self.scapulae)):
            low, high = clip(shape.cross(rays), body)
            length = high - low
            if shape is self.spine:
                length = length * inside(_disk(rays.z[None, :]), 1.5)
            lengths.append((length, kind))
        low, high = self.canal.cross(rays)
        lengths.append((0.35 * (high - low) * inside(np.abs(_disk(rays.z[None, :]) + 6) - 5, 4), (0.5, 0.7)))
        for length, kind in lengths:
            water += np.float32(kind[0] - SOFT) * length
            bone += np.float32(kind[1]) * length
        tenth = np.float32(0.1)  # mm to cm
        return {
            "water": np.maximum(water, 0) * tenth, "bone": bone * tenth, "lung": lung, "heart": heart, "clear": clear,
        }  # fmt: skip

    def _rib_shadow(self, rays: Rays) -> NDArray[np.float32]:
        """Length in mm of each ray inside ribs: in front and behind, where it crosses the wall of the cage."""
        inner = self.cage.cross(rays)
        wall = Stack(self.cage.z, self.cage.table + np.array([0, 0, _RIB_MM, _RIB_MM])[:, None])
        outer = wall.cross(rays)
        middle = (outer[0] + outer[1]) / 2
        total = np.zeros_like(middle)
        for ends in ((outer[0], np.minimum(inner[0], middle)), (np.maximum(inner[1], middle), outer[1])):
            length = ends[1] - ends[0]
            x, y = rays.at((ends[0] + ends[1]) / 2)
            share = np.abs(self._rib_profile(x, y, rays.z[None, :])) / np.float32(_RIB_HALF_MM)
            # An ellipse in section, with denser edges.
            total += length * np.sqrt(np.clip(1.1 * (1 - share**4), 0, 1)) * (0.75 + 0.25 * np.minimum(share, 1) ** 2)
        return np.minimum(total, 45)

    def thorax_edges(self, angle: float) -> tuple[float, float]:
        """Least and largest world x of the lungs, seen along y by a patient turned by ``angle`` (radians)."""
        z = np.linspace(-0.32, 0.3, 320) * self.height
        sides = [lung.edges(angle, z) for lung in self.lungs]
        return float(min(side[0].min() for side in sides)), float(max(side[1].max() for side in sides))


def _disk(z: NDArray) -> NDArray[np.float32]:
    """Distance in mm to the nearest vertebral body from above or below; every 24 mm there is a disk."""
    return (np.abs((z + 1200) % 24 - 12) - 10).astype(np.float32)


def heart_edges(heart: tuple[Ellipsoid, ...], angle: float) -> tuple[float, float]:
    """Least and largest world x of the heart, seen along y by a patient turned by ``angle`` (radians)."""
    seen = np.array([np.cos(angle), -np.sin(angle), 0])
    middles = [float(one.center @ seen) for one in heart]
    halves = [one.reach(seen) for one in heart]
    return (
        min(m - h for m, h in zip(middles, halves, strict=True)),
        max(m + h for m, h in zip(middles, halves, strict=True)),
    )


def midline(thorax: Thorax, angle: float) -> float:
    """World x that parts the lungs, seen along y by a patient turned by ``angle`` (radians)."""
    z = np.linspace(-0.32, 0.3, 320) * thorax.height
    right, left = (lung.edges(angle, z) for lung in thorax.lungs)
    return float((right[0].mean() + left[1].mean()) / 2)
