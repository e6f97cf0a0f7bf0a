"""Limb: a long bone by chance, its growth plate and canal, and how a fracture parts it.

In: a random generator, places in mm. Out: a limb, and how far places are from its surfaces. Every measure is chosen so
that it looks like a leg or a forearm; none is drawn from a population study.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medlab.phantoms import anatomy
from medlab.phantoms.shapes import inside


@dataclass(frozen=True, eq=False)
class Limb:
    """A long bone and what lies around it, in its own axes: a and b across, s along, mm from the field's middle.

    Attributes:
        tilt: radians by which the bone leans in the picture; ``flip`` turns its end to the top.
        radius, cortex, oval, bow: of the shaft, mm; the share by which b is longer than a; mm of bend at 50 mm.
        end: s of the joint's surface; flare and spread: how it widens towards it.
        plate: s of the growth plate, its width (0: grown up), and its wave.
        lines: s of dense lines that growth left.
        canal: s, angle about the bone, slope, length and width (mm) of the nutrient canal.
        companion: distance, radius of a thin bone beside it.
        soft: radius of the limb, mm, and of its muscle.
        texture: trabeculae, and roughness of the plate and of the fracture.
    """

    tilt: float
    flip: bool
    radius: float
    cortex: float
    oval: float
    bow: float
    end: float
    flare: float
    spread: float
    plate: tuple[float, float, float]
    lines: NDArray[np.float64]
    canal: tuple[float, float, float, float, float]
    companion: tuple[float, float]
    soft: tuple[float, float]
    texture: anatomy.Waves


@dataclass(frozen=True)
class Break:
    """A fracture: a rough plane s = at + slope (a cos turn + b sin turn), the gap, and how the end's fragment moved.

    Attributes:
        at: s in mm on the bone's axis.
        slope: tangent of the angle to the cross-section.
        turn: radians about the axis.
        gap: mm.
        shift: (a, b, s) mm of the fragment that bears the joint.
        bend: radians by which it leans in the picture.
    """

    at: float
    slope: float
    turn: float
    gap: float
    shift: tuple[float, float, float]
    bend: float


def draw(rng: np.random.Generator) -> tuple[Limb, bool]:
    """A limb by chance, and whether it is young, with an open growth plate."""
    u = rng.random(24)
    young = bool(u[0] < 0.5)
    scale = 0.85 if young else 1.0
    radius = scale * (9.5 + 3.5 * u[1])
    end = -42 + 10 * u[2]
    plate = end + scale * (13 + 4 * u[3])
    lines = plate + 5 + 14 * np.sort(u[4:7])[: int(3.9 * u[7] ** 2)]
    limb = Limb(
        tilt=float(np.radians(20 * (u[8] - 0.5))), flip=bool(u[9] < 0.5), radius=float(radius),
        cortex=float(radius * (0.26 + 0.12 * u[10])), oval=float(1 + 0.2 * u[11]), bow=float(4 * (u[12] - 0.5)),
        end=float(end), flare=float(0.6 + 0.35 * u[13]), spread=float(22 + 8 * u[14]),
        plate=(float(plate), float(1.1 + 0.9 * u[15]) if young else 0.0, float(1.0 + 1.6 * u[16])), lines=lines,
        canal=(float(plate + 28 + 26 * u[17]), float(2 * np.pi * u[18]), float(0.25 * (u[19] - 0.5)),
               float(12 + 12 * u[20]), float(0.9 + 0.6 * u[21])),
        companion=(float((1 if u[22] < 0.5 else -1) * (2.1 * radius + 7)), float(0.36 * radius)),
        soft=(float(3.1 * radius + 12 * u[23]), float(3.1 * radius + 12 * u[23] - 5)),
        texture=anatomy.Waves.draw(rng, 3, 2.5, 12, n=48),
    )  # fmt: skip
    return limb, young


def axis_at(limb: Limb, s: NDArray | float) -> NDArray | float:
    """Place (mm along a) of the bone's middle at s: shafts are bowed."""
    return limb.bow * (s / 50) ** 2


def world(limb: Limb, a: NDArray, b: NDArray, s: NDArray) -> tuple[Any, Any, Any]:
    """World mm of a place in the bone's axes."""
    z = -s * np.cos(limb.tilt) + a * np.sin(limb.tilt) if limb.flip else s * np.cos(limb.tilt) - a * np.sin(limb.tilt)
    x = s * np.sin(limb.tilt) + a * np.cos(limb.tilt)
    return float(x), float(b), float(z)


def own_axes(limb: Limb, x: NDArray, z: NDArray) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(a, s) in the bone's axes of places in the picture's plane."""
    z = -z if limb.flip else z
    c, s = np.float32(np.cos(limb.tilt)), np.float32(np.sin(limb.tilt))
    return x * c - z * s, x * s + z * c


def outer_radius(limb: Limb, s: NDArray) -> NDArray[np.float32]:
    """Radius (mm) of the bone's outside at s; below 0 beyond its end."""
    above = np.maximum(s - np.float32(limb.end), 0)
    wide = limb.radius * (1 + limb.flare * np.exp(-((above / limb.spread) ** 2)))
    ending = np.minimum(s - np.float32(limb.end), 0)
    return (wide * np.sqrt(1 - np.clip(1 - above / 7, 0, 1) ** 2.5) + ending).astype(np.float32)


def outward(limb: Limb, off: NDArray, b: NDArray, s: NDArray) -> NDArray[np.float32]:
    """About the distance in mm to the bone's outside, negative within: measured across, less where it is steep."""
    steep = (outer_radius(limb, s + np.float32(0.4)) - outer_radius(limb, s - np.float32(0.4))) / np.float32(0.8)
    return (np.hypot(off, b / np.float32(limb.oval)) - outer_radius(limb, s)) / np.sqrt(1 + steep**2)


def cortex_width(limb: Limb, s: NDArray) -> NDArray[np.float32]:
    """Width (mm) of the cortex at s: thin near the joint."""
    above = np.maximum(s - np.float32(limb.end), 0)
    return (1.2 + (limb.cortex - 1.2) * np.clip((above - 12) / 34, 0, 1)).astype(np.float32)


def left_bone(limb: Limb, a: NDArray, b: NDArray, s: NDArray, rough: NDArray, width: float) -> tuple[NDArray, NDArray]:
    """How much of the cortex' and of the marrow's bone is there: shares that growth plate and canal leave."""
    plate, wide, wave = limb.plate
    left = np.ones(np.broadcast_shapes(a.shape, b.shape, s.shape), np.float32)
    dense = np.zeros_like(left)
    away = s - np.float32(plate) - np.float32(wave) * np.sin(a / 6 + 1.3).astype(np.float32) - 0.35 * rough
    if wide:
        blocked = inside(np.abs(away) - np.float32(wide / 2), width)
        left *= 1 - blocked
        dense += 0.35 * inside(np.abs(away - (wide / 2 + 1.0)) - 0.8, width)
    else:
        dense += 0.15 * inside(np.abs(away) - 0.6, width)
    for line in limb.lines:
        dense += 0.2 * inside(np.abs(s - np.float32(line) - 0.2 * rough) - 0.5, width)
    at, angle, slope, long, wide = limb.canal
    around = np.arctan2(a, b).astype(np.float32) - np.float32(angle)
    around = limb.radius * (around - 2 * np.pi * np.rint(around / (2 * np.pi))) - slope * (s - at)
    thin = min(wide / width, 1)
    hollow = (
        thin * inside(np.abs(around) - np.float32(max(wide, width) / 2), width) * inside(np.abs(s - at) - long / 2, 3)
    )
    return left * (1 - 0.8 * hollow.astype(np.float32)), left * (1 + dense)


def trabeculae(limb: Limb, s: NDArray, rough: NDArray) -> NDArray[np.float32]:
    """Bone (g/cm3) of the trabeculae: dense towards the joint, almost none in the shaft."""
    above = np.maximum(s - np.float32(limb.end), 0)
    return (0.05 + 0.27 * np.exp(-((above / 26) ** 2))) * (1 + 0.22 * np.clip(rough, -2, 2))


def fragments(
    limb: Limb, broken: Break | None, a: NDArray, b: NDArray, s: NDArray, rough: NDArray
) -> list[tuple[NDArray, NDArray, NDArray, NDArray | None]]:
    """For each fragment, the place in its own axes, and the distance (mm) beyond the middle of the fracture."""
    if broken is None:
        return [(a, b, s, None)]

    def beyond(a: NDArray, b: NDArray, s: NDArray) -> NDArray:
        plane = broken.slope * (a * np.float32(np.cos(broken.turn)) + b * np.float32(np.sin(broken.turn)))
        steep = np.float32(1 / np.hypot(1, broken.slope))
        return (s - np.float32(broken.at) - plane - np.float32(0.7) * rough) * steep

    c, n = np.float32(np.cos(broken.bend)), np.float32(np.sin(broken.bend))
    pivot = np.float32(axis_at(limb, broken.at))
    p, q = a - np.float32(broken.shift[0]) - pivot, s - np.float32(broken.shift[2]) - np.float32(broken.at)
    moved = (p * c - q * n + pivot, b - np.float32(broken.shift[1]), p * n + q * c + np.float32(broken.at))
    return [(a, b, s, beyond(a, b, s)), (*moved, -beyond(*moved))]
