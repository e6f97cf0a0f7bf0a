"""Torso: people by chance, whose parts :mod:`medlab.phantoms.chest` shows.

In: a random generator and what is wished of the heart. Out: a Thorax. Every measure is chosen so that it looks like an
adult chest; none is drawn from a population study.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medlab.phantoms import anatomy
from medlab.phantoms.chest import Thorax
from medlab.phantoms.shapes import Ellipsoid, Rods, Stack


def draw(
    rng: np.random.Generator,
    *,
    ratio: float | None = None,
    angle: float = 0.0,
    inspiration: float | None = None,
) -> Thorax:
    """A person by chance, without vessels yet. Every call draws the same numbers in the same order.

    Args:
        rng: of the person.
        ratio: the cardiothoracic ratio as seen along y by the patient turned by ``angle`` (radians); the heart is
            scaled to it. None: by chance between 0.40 and 0.48.
        angle: see ``ratio``.
        inspiration: 0 (diaphragm high) to 1 (low); None: by chance.
    """
    u = rng.random(25)
    width, depth = 245 + 60 * u[0], 165 + 45 * u[1]
    height = 0.5 * (225 + 45 * u[2]) + 0.5 * 0.9 * width
    deep = u[3] if inspiration is None else inspiration
    size = (width, depth, height)
    z = np.linspace(-0.5, 0.5, 61) * height
    up = np.linspace(0, 1, 61)
    low = 1 - 0.05 * np.clip((0.2 - up) / 0.2, 0, 1) ** 2
    tip = np.sqrt(np.clip(1 - up**2.8, 0, 1))
    outer = width * (0.23 + 0.27 * tip) * low
    inner = np.where(tip > 0, 0.23 * width - (0.23 * width - 6) * np.clip(1 - up**4, 0, 1) ** 0.5, 0.23 * width)
    half = 0.435 * depth * np.sqrt(np.clip(1 - up**2.6, 0, 1)) * low
    back = -4 - 10 * up**2
    lungs = tuple(Stack(z, np.stack([s * (outer + inner) / 2, back, (outer - inner) / 2, half])) for s in (1, -1))
    above = np.linspace(0, 1.12, 71)
    wall = np.sqrt(np.clip(1 - (above / 1.13) ** 2.8, 0, 1)) * (1 - 0.05 * np.clip((0.2 - above) / 0.2, 0, 1) ** 2)
    cage = Stack(
        (above - 0.5) * height,
        np.stack([0 * above, -4 - 8 * above**2, 0.5 * width * wall + 3, 0.5 * depth * wall + 2]),
    )
    fat = 6 + 22 * u[4] ** 1.5
    tall = np.array([-1.8, -0.5, -0.1, 0.25, 0.40, 0.52, 0.60, 0.66, 0.75, 1.8]) * height
    around = np.array([14, 16, 24, 36, 52, 44, 0, -42, -66, -72]) + fat
    thick = np.array([14, 16, 20, 22, 16, 8, -6, -16, -22, -24]) + 0.8 * fat
    body = Stack(tall, np.stack([0 * tall, np.full(10, -6.0), width / 2 + around, depth / 2 + thick]))
    behind = -0.5 * depth + 14
    spine = _pillar((-1.8, 1.8), height, (0, behind), (17, 14))
    canal = _pillar((-1.8, 1.8), height, (0, behind - 22), (9, 8))
    airway = (3 + 4 * (u[5] - 0.5), behind + 36)
    trachea = Stack(
        np.array([0.02, 0.06, 0.12, 1.8]) * height,
        np.array([[airway[0]] * 4, [airway[1]] * 4, [1, 7, 8, 8], [1, 7, 8, 8]], np.float64),
    )
    bronchi = Rods(
        np.array([[airway[0], airway[1], 0.09 * height]] * 2),
        np.array([[0.10 * width, airway[1] + 5, 0.0], [-0.11 * width, airway[1] + 5, 0.01 * height]]),
        np.array([[6.5, 4.5], [6.0, 4.0]]),
    )
    sternum = _pillar((-0.12, 0.36), height, (0, 0.5 * depth - 6), (19, 5))
    top = -0.5 * height + height * (0.36 - 0.16 * deep)
    rise = np.array([11 + 8 * u[6], 0]) * 1.0
    domes = tuple(
        Ellipsoid.from_axes(
            (s * 0.20 * width, 4, top + rise[n] - 0.34 * height), (0.325 * width, 0.56 * depth, 0.34 * height)
        )
        for n, s in enumerate((1, -1))
    )
    heart = _heart(
        np.append(u[7:13], u[24]), size, top, deep, 0.40 + 0.08 * u[13] if ratio is None else ratio, angle, lungs
    )
    broad = 24 + 10 * u[14]
    levels = np.array([-0.5, -0.2, 0.0, 0.2, 0.35, 0.5, 0.6]) * height
    waist = np.array([20, 24, 28, 30, 28, 26, 26]) / 30 * broad
    middle = Stack(
        levels, np.stack([np.array([0, -2, -4, -3, 0, 0, 0.0]), np.full(7, -4.0), waist, np.full(7, 0.36 * depth)])
    )
    arch = Ellipsoid.from_axes((-0.7 * broad - 4, -14, (0.20 + 0.04 * u[15]) * height), (17 + 5 * u[16], 26, 20))
    gas = Ellipsoid.from_axes((-0.24 * width, 22, top - 24 - 10 * u[17]), (20 + 14 * u[18], 24, 8 + 9 * u[19]))
    lean = 12 * (u[20] - 0.5)
    sides = np.array([1.0, -1.0])
    clavicles = Rods(
        np.stack([20 * sides, np.full(2, 0.40 * depth), np.full(2, 0.345 * height)], 1),
        np.stack([0.56 * width * sides, np.full(2, 0.0), (0.43 + 0.03 * u[21]) * height + lean * sides / 4], 1),
        np.array([[7.5, 5.5]] * 2),
    )
    scapulae = tuple(
        Ellipsoid.from_axes(
            (s * (0.485 * width + 6), -0.36 * depth, 0.22 * height), (7, 30, 66), _turn_z(s * 0.6) @ _turn_y(s * 0.12)
        )
        for s in (1, -1)
    )
    body_parts = {
        "body": body, "cage": cage, "lungs": lungs, "spine": spine, "canal": canal, "sternum": sternum,
        "trachea": trachea, "domes": domes, "heart": heart, "others": (middle, arch), "gas": gas,
        "clavicles": clavicles, "bronchi": bronchi, "scapulae": scapulae,
    }  # fmt: skip
    gap = 0.098 * height
    ribs = {"rib_top": 0.47 * height, "rib_gap": gap, "rib_drop": (0.34 + 0.1 * u[22]) * height}
    none = Rods(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 2)))
    return Thorax(*size, 0.19 + 0.09 * u[23], fat, vessels=none, **body_parts, **ribs)


def _pillar(span: tuple, height: float, middle: tuple, half_axes: tuple) -> Stack:
    z = np.array(span) * height
    return Stack(z, np.array([[one, one] for one in (*middle, *half_axes)], np.float64))


def _turn_z(angle: float) -> NDArray[np.float64]:
    return anatomy._rotation(np.array([0.0, 0.0, angle]))


def _turn_y(angle: float) -> NDArray[np.float64]:
    return anatomy._rotation(np.array([0.0, angle, 0.0]))


def _heart(
    u: NDArray, size: tuple, top: float, deep: float, ratio: float, angle: float, lungs: tuple[Stack, Stack]
) -> tuple[Ellipsoid, Ellipsoid]:
    """Ventricles and right atrium, stretched so that their shadow has the asked share of the thorax' width."""
    width, depth, height = size
    # From the base to the apex: to the left, to the front and down; flatter where the diaphragm is high.
    along = np.array([-0.74 - 0.1 * (u[0] - 0.5), 0.42 + 0.15 * (u[1] - 0.5), -0.35 - 0.3 * deep])
    along /= np.linalg.norm(along)
    across = np.cross([0, 1.0, 0.3], along)
    across /= np.linalg.norm(across)
    turn = np.stack([along, across, np.cross(along, across)], 1)
    broad = 0.68 + 0.16 * u[2]
    # What is seen from the front as the heart's height tells little of its width: only a third of the change is shared.
    scale = 0.262 * width * (0.82 + 0.36 * u[6]) * (ratio / 0.5) ** 0.35
    middle = np.array([-(0.04 + 0.10 * u[3]) * width, 0.10 * depth, top + 0.46 * scale])
    shift = np.array([0.46 + 0.08 * u[4], -0.10, 0.12 + 0.1 * u[5]])

    flat = min(0.80 * scale, 0.33 * depth)
    places = (middle, middle + scale * shift)
    shapes = (
        Ellipsoid.from_axes(places[0], (scale, scale * broad, flat), turn),
        Ellipsoid.from_axes(places[1], (0.50 * scale, 0.5 * scale, 0.62 * scale)),
    )
    spreads = [np.linalg.inv(one.matrix) for one in shapes]

    def width_at(factor: float) -> float:
        """Width of the shadow when all is stretched by ``factor`` across the body."""
        seen = np.array([factor * np.cos(angle), -np.sin(angle), 0])
        shifts = [float(seen @ (place - middle)) for place in places]
        halves = [float(np.sqrt(seen @ spread @ seen)) for spread in spreads]
        sides = [(m - h, m + h) for m, h in zip(shifts, halves, strict=True)]
        return max(side[1] for side in sides) - min(side[0] for side in sides)

    z = np.linspace(-0.32, 0.3, 320) * height
    sides = [lung.edges(angle, z) for lung in lungs]
    asked = ratio * (max(side[1].max() for side in sides) - min(side[0].min() for side in sides))
    low, high = 0.2, 5.0
    for _ in range(30):
        half = (low + high) / 2
        low, high = (half, high) if width_at(half) < asked else (low, half)
    narrow = np.diag([1 / half, 1.0, 1.0])
    wider = np.diag([half, 1.0, 1.0])
    return tuple(Ellipsoid(middle + wider @ (one.center - middle), narrow @ one.matrix @ narrow) for one in shapes)


def with_vessels(rng: np.random.Generator, thorax: Thorax, ends: int = 64) -> Thorax:
    """The person with a tree of vessels in each lung, each with ``ends`` ends.

    A tree halves the places it has to reach until each has its own branch.

    The radius grows with the number n of ends behind it as n to the power of 1 / 2.6 (Murray's law has 1 / 3).
    """
    found: list[tuple[NDArray, NDArray, float, float]] = []

    def grow(start: NDArray, places: NDArray, thick: float) -> None:
        mine = 0.75 * len(places) ** (1 / 2.6)
        if len(places) == 1:
            found.append((start, places[0], thick, 0.6))
            return
        share = 0.34 if len(places) > 8 else 0.5
        fork = start + share * (places.mean(0) - start)
        found.append((start, fork, thick, mine))
        spread = places - places.mean(0)
        order = np.argsort(spread @ np.linalg.svd(spread, full_matrices=False)[2][0], kind="stable")
        for part in np.array_split(order, 2):
            grow(fork, places[part], mine)

    for side in (1, -1):
        hilum = np.array([side * 0.125 * thorax.width, -6.0, (0.03 if side == 1 else 0.06) * thorax.height])
        places = rng.random((ends * 6, 3)) * 2 - 1
        places *= np.array([0.25 * thorax.width, 0.44 * thorax.depth, 0.48 * thorax.height])
        places[:, 0] += side * 0.25 * thorax.width
        x, y, z = places.astype(np.float32).T
        within = places[thorax.airy(x, y, z) < -5][:ends]
        # Lower lobes and upper lobes have arteries of their own.
        if len(within):
            for part in np.array_split(np.argsort(within[:, 2], kind="stable"), 3):
                if len(part):
                    grow(hilum, within[part], 0.8 * len(within) ** (1 / 2.6))
    starts, stops, first, last = zip(*found, strict=True)
    return replace(thorax, vessels=Rods(np.array(starts), np.array(stops), np.stack([first, last], 1)))
