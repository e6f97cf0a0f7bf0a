"""Carotid: an artery of the neck that forks, by chance, with a narrow place and calcium in its wall.

In: a random generator, where and how narrow. Out: the tree as points and radii. Every measure is chosen so that it
looks like a carotid bifurcation; none is drawn from a population study.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medlab.phantoms import anatomy

COMMON_MM = 46.0
"""Length of the common artery before the fork that is built."""


@dataclass(frozen=True, eq=False)
class Tree:
    """The lumen as points along the middle lines, closely spaced.

    Attributes:
        point: (n, 3) mm in RAS, x to the patient's right.
        radius: (n,) mm of the lumen.
        outer: (n,) mm to the outside of the wall.
        branch: (n,) 1 common, 2 internal, 3 external.
        arc: (n,) mm from the start of its branch.
        inward: (n, 3) mm by which the lumen's middle is off the wall's, toward one side.
        plaques: (m, 4) place and radius of calcifications, mm.
        vein: (k, 3) points along the vein beside it, and its radius.
        vein_radius: mm.
    """

    point: NDArray[np.float64]
    radius: NDArray[np.float64]
    outer: NDArray[np.float64]
    branch: NDArray[np.int64]
    arc: NDArray[np.float64]
    inward: NDArray[np.float64]
    plaques: NDArray[np.float64]
    vein: NDArray[np.float64]
    vein_radius: float


def grow(
    rng: np.random.Generator, branch: int, arc: float, narrowing: float, length: float, plaques: int
) -> tuple[Tree, int]:
    """A fork of one artery into two, each bent by chance; every case draws the same numbers."""
    u, waves = rng.random(24), rng.standard_normal((3, 2, 3))
    side = 1 if u[0] < 0.5 else -1
    fork = np.array([8 * (u[1] - 0.5), 8 * (u[2] - 0.5), -6 + 10 * (u[3] - 0.5)])
    turn = (u[4] - 0.5) * 1.6
    step = 0.15
    common_r, inner_r, outer_r = 3.0 + 0.7 * u[5], 2.2 + 0.5 * u[6], 1.6 + 0.5 * u[7]
    spread_in, spread_out = 5 + 6 * u[8], 5 + 6 * u[9]
    pieces = []
    for number in (1, 2, 3):
        long = COMMON_MM if number == 1 else 60.0
        s = np.arange(0, long, step)
        wave = waves[number - 1]
        if number == 1:
            s = s[::-1]  # counted from the fork downward while it is built, from below when it is told
            path = np.stack([0 * s, 0 * s, -s], 1)
            bend = 1.1 * (s / 20)[:, None] * (wave[0] + wave[1] * np.sin(s / 9)[:, None])
            radius = np.full(len(s), common_r) + 0.9 * np.exp(-((s / 5.0) ** 2)) * u[10]
            told = COMMON_MM - s
        else:
            # The internal one lies behind and outside, the external one in front and inside.
            out = side * (1 if number == 2 else -1)
            spread = spread_in if number == 2 else spread_out
            lateral = out * spread * np.tanh(s / 11) * 0.75
            sagittal = (-1 if number == 2 else 1) * spread * 0.6 * np.tanh(s / 13)
            path = np.stack([lateral, sagittal, s * 0.96], 1)
            bend = (np.clip(s / 16, 0, 2.2) ** 1.5)[:, None] * 0.9 * (wave[0] + wave[1] * np.sin(s / 8)[:, None])
            base = inner_r if number == 2 else outer_r
            bulb = (0.9 * np.exp(-(((s - 5) / 6.5) ** 2)) if number == 2 else 0.25 * np.exp(-s / 4)) * (0.5 + u[11])
            radius = base * (1 - 0.004 * s * (1 + u[12])) + bulb
            radius = radius + (common_r - radius) * np.exp(-((s / 2.0) ** 2)) * (0.8 if number == 2 else 0.35)
            told = s
        bend[:, 2] *= 0.2
        pieces.append((path + bend, radius, np.full(len(s), number), told))
    point, radius, number, told = (np.concatenate(part) for part in zip(*pieces, strict=True))
    point = point @ anatomy._rotation(np.array([0.08 * waves[0, 0, 2], 0.08 * waves[1, 0, 2], turn])).T + fork
    outer = radius + 0.7
    mine = number == branch
    at = int(np.argmin(np.where(mine, np.abs(told - arc), np.inf)))
    # The healthy diameter beyond the narrowing is the reference; the narrowest place has exactly its share of it.
    beyond = np.interp(arc + length + 4, told[mine], radius[mine])
    least = (1 - narrowing) * beyond
    dip = np.exp(-(((told - arc) / (length / 2.2)) ** 2)) * mine
    narrowed = radius + (least - radius) * dip if narrowing > 0 else radius
    around = rng.standard_normal(3) * np.array([1, 1, 0.2])
    around /= np.linalg.norm(around)
    inward = (0.75 * (radius - narrowed))[:, None] * around * u[13]
    # Calcium sits in the wall, often but not always where it is narrow.
    where = rng.random((16, 4))
    near = np.flatnonzero(number <= 2)
    places = []
    for row in where[:plaques]:
        host = at if row[0] < 0.35 else near[int(row[1] * len(near))]
        angle = 2 * np.pi * row[2]
        offset = np.array([np.cos(angle), np.sin(angle), 0.0]) * (outer[host] - 0.2)
        places.append([*(point[host] + offset), 0.5 + 0.9 * row[3]])
    s = np.arange(-50, 60, 0.4)
    vein = np.stack([
        side * (9 + 4 * u[14]) + 2 * np.sin(s / 20 + 6 * u[15]), -3 + 8 * (u[16] - 0.5) + 2 * np.cos(s / 17), s
    ], 1)  # fmt: skip
    tree = Tree(
        point, narrowed, outer, number, told, inward, np.array(places).reshape(-1, 4), vein + fork * [1, 1, 0],
        4.0 + 2.0 * u[17],
    )  # fmt: skip
    return tree, side
