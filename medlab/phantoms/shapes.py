"""Shapes: ellipsoids, stacks of ellipses and rods, with the exact length of a ray through them.

In: places in mm. Out: where rays along a direction enter and leave, and how far places are from the surface. Chest,
vessels and bone are built from these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Interval = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True)
class Rays:
    """Parallel rays through a patient who is turned about the long axis.

    World is RAS in mm; the rays run along y, to the front. The patient's own axes are those of the world turned by
    ``angle`` about z, so that shapes stay as they are and only the rays turn.

    Attributes:
        x: (n,) mm, the places of the rays to the patient's right.
        z: (m,) mm to the head.
        angle: radians; above 0 the patient's right side is turned to the back.
    """

    x: NDArray[np.float32]
    z: NDArray[np.float32]
    angle: float = 0.0

    @property
    def direction(self) -> tuple[float, float]:
        """(x, y) of the rays in the patient's axes."""
        return float(np.sin(self.angle)), float(np.cos(self.angle))

    @property
    def start(self) -> tuple[NDArray, NDArray]:
        """(x, y) where the rays cross the plane y = 0 of the world, in the patient's axes: (n, 1) each."""
        x = self.x[:, None]
        return x * np.float32(np.cos(self.angle)), x * np.float32(-np.sin(self.angle))

    def at(self, along: NDArray) -> tuple[NDArray, NDArray]:
        """(x, y) in the patient's axes at the distance ``along`` (n, m) in mm on each ray."""
        (x, y), (u, v) = self.start, self.direction
        return x + np.float32(u) * along, y + np.float32(v) * along


@dataclass(frozen=True, eq=False)
class Ellipsoid:
    """All p with (p - center)^T matrix (p - center) <= 1.

    Attributes:
        center: (3,) mm.
        matrix: (3, 3), symmetric, positive.
    """

    center: NDArray[np.float64]
    matrix: NDArray[np.float64]

    @classmethod
    def from_axes(cls, center: ArrayLike, half_axes: ArrayLike, turn: ArrayLike | None = None) -> Ellipsoid:
        """The ellipsoid of half axes (3,) mm, turned by a rotation (3, 3)."""
        turn = np.eye(3) if turn is None else np.asarray(turn, np.float64)
        return cls(np.asarray(center, np.float64), turn @ np.diag(1 / np.asarray(half_axes, np.float64) ** 2) @ turn.T)

    def reach(self, direction: ArrayLike) -> float:
        """How far the surface lies from the center along a unit vector (3,): half the width seen at right angles."""
        direction = np.asarray(direction, np.float64)
        return float(np.sqrt(direction @ np.linalg.solve(self.matrix, direction)))

    def cross(self, rays: Rays) -> Interval:
        """Where each ray enters and leaves, mm along it: (n, m) each; equal where it misses."""
        x, y = rays.start
        u, v = rays.direction
        m = self.matrix.astype(np.float32)
        x, y = x - np.float32(self.center[0]), y - np.float32(self.center[1])
        z = rays.z[None, :] - np.float32(self.center[2])
        ahead = m @ np.array([u, v, 0], np.float32)
        square = np.float32(ahead @ np.array([u, v, 0], np.float32))
        linear = (ahead[0] * x + ahead[1] * y) + ahead[2] * z
        constant = (m[0, 0] * x**2 + 2 * m[0, 1] * x * y + m[1, 1] * y**2 - 1) + m[2, 2] * z**2
        constant += 2 * (m[0, 2] * x + m[1, 2] * y) * z
        return _roots(square, linear, constant)

    def distance(self, x: NDArray, y: NDArray, z: NDArray) -> NDArray[np.float32]:
        """About the distance in mm to the surface, along the line to the center; negative inside."""
        m = self.matrix.astype(np.float32)
        x, y, z = (one - np.float32(c) for one, c in zip((x, y, z), self.center, strict=True))
        plane = m[0, 0] * x**2 + 2 * m[0, 1] * (x * y) + m[1, 1] * y**2
        scale = np.sqrt(np.maximum(plane + m[2, 2] * z**2 + 2 * (m[0, 2] * x + m[1, 2] * y) * z, 1e-4))
        return np.sqrt((x**2 + y**2) + z**2) * (1 - 1 / scale)


@dataclass(frozen=True, eq=False)
class Stack:
    """An ellipse in every plane z: a body, a lung, a spine.

    Attributes:
        z: (k,) mm, growing. Below the first and above the last there is nothing.
        table: (4, k): center x, center y, half axis along x, half axis along y, mm.
    """

    z: NDArray[np.float64]
    table: NDArray[np.float64]

    def _at(self, z: NDArray) -> list[NDArray[np.float32]]:
        rows = [np.interp(z, self.z, row) for row in self.table]
        outside = (z < self.z[0]) | (z > self.z[-1])
        rows[2] = np.where(outside, 1e-3, np.maximum(rows[2], 1e-3))
        rows[3] = np.where(outside, 1e-3, np.maximum(rows[3], 1e-3))
        return [row.astype(np.float32) for row in rows]

    def cross(self, rays: Rays) -> Interval:
        """As :meth:`Ellipsoid.cross`."""
        cx, cy, a, b = self._at(rays.z)
        a, b = 1 / a**2, 1 / b**2
        x, y = rays.start
        u, v = (np.float32(one) for one in rays.direction)
        x, y = x - cx, y - cy
        return _roots(a * u**2 + b * v**2, a * x * u + b * y * v, a * x**2 + b * y**2 - 1)

    def distance(self, x: NDArray, y: NDArray, z: NDArray) -> NDArray[np.float32]:
        """As :meth:`Ellipsoid.distance`, within each plane."""
        cx, cy, a, b = (row.reshape(z.shape) for row in self._at(z.reshape(-1)))
        x, y = x - cx, y - cy
        scale = np.sqrt(np.maximum((x / a) ** 2 + (y / b) ** 2, 1e-4))
        return np.sqrt(x**2 + y**2) * (1 - 1 / scale)

    def edges(self, angle: float, z: NDArray) -> tuple[NDArray, NDArray]:
        """Least and largest world x of the stack in each plane z, seen along y by a patient turned by ``angle``."""
        cx, cy, a, b = self._at(z)
        middle = cx * np.cos(angle) - cy * np.sin(angle)
        half = np.hypot(a * np.cos(angle), b * np.sin(angle))
        return middle - half, middle + half


def _roots(square: NDArray, linear: NDArray, constant: NDArray) -> Interval:
    middle = -linear / square
    half = np.sqrt(np.maximum(linear**2 - square * constant, 0)) / square
    return middle - half, middle + half


def clip(interval: Interval, within: Interval) -> Interval:
    """The part of an interval that lies within another."""
    low = np.clip(interval[0], *within)
    return low, np.maximum(np.clip(interval[1], *within), low)


def union_length(intervals: Sequence[Interval]) -> NDArray[np.float32]:
    """Length in mm that several intervals cover together."""
    low = np.stack([one[0] for one in intervals])
    order = np.argsort(low, 0)
    low = np.take_along_axis(low, order, 0)
    high = np.take_along_axis(np.stack([one[1] for one in intervals]), order, 0)
    reached = np.maximum.accumulate(high, 0)
    start = np.maximum(low[1:], reached[:-1])
    return high[0] - low[0] + np.maximum(high[1:] - start, 0).sum(0)


def inside(distance: NDArray, width: float) -> NDArray[np.float32]:
    """1 where a signed distance (mm) is below 0, 0 above, a ramp of ``width`` mm between."""
    return np.clip(np.float32(0.5) - distance * np.float32(1 / width), 0, 1)


@dataclass(frozen=True, eq=False)
class Rods:
    """Straight tapered rods with round ends: vessels, clavicles.

    Attributes:
        start: (n, 3) mm.
        end: (n, 3) mm.
        radius: (n, 2) mm at start and end.
    """

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    radius: NDArray[np.float64]

    def fill(self, axes: tuple[NDArray, NDArray, NDArray], width: float, *, chain: bool = False) -> NDArray[np.float32]:
        """Share of each voxel of a grid inside any rod, (i, j, k).

        Args:
            axes: mm along x, y, z, each growing in equal steps, or one alone.
            width: mm over which an edge fades. Rods thinner than this keep their cross-section's area.
            chain: the rods are one tube: only the rod whose middle line is nearest counts, so that the round end of a
                thick piece does not fill the narrow piece beside it.
        """
        result = np.zeros(tuple(len(axis) for axis in axes), np.float32)
        closest = np.full(result.shape, np.inf, np.float32) if chain else None
        reach = self.radius.max(1) + width + (1.5 if chain else 0.0)
        low = np.minimum(self.start, self.end) - reach[:, None]
        high = np.maximum(self.start, self.end) + reach[:, None]
        first = np.stack([np.searchsorted(axis, low[:, a]) for a, axis in enumerate(axes)], 1)
        last = np.stack([np.searchsorted(axis, high[:, a], "right") for a, axis in enumerate(axes)], 1)
        for n in np.flatnonzero((last > first).all(1)):
            box = tuple(slice(p, q) for p, q in zip(first[n], last[n], strict=True))
            away = [axis[part] - np.float32(s) for axis, part, s in zip(axes, box, self.start[n], strict=True)]
            away = [one.reshape([-1 if a == b else 1 for b in range(3)]) for a, one in enumerate(away)]
            along = (self.end[n] - self.start[n]).astype(np.float32)
            share = sum(one * c for one, c in zip(away, along, strict=True)) / np.float32(max(along @ along, 1e-6))
            share = np.clip(share, 0, 1)
            square = sum((one - share * c) ** 2 for one, c in zip(away, along, strict=True))
            radius = self.radius[n, 0] + share * np.float32(self.radius[n, 1] - self.radius[n, 0])
            thin = np.minimum(2 * radius / np.float32(width), 1)
            filled = inside(np.sqrt(square) - np.maximum(radius, np.float32(width / 2)), width) * thin**2
            if closest is None:
                np.maximum(result[box], filled, out=result[box])
            else:
                nearer = square < closest[box]
                result[box][nearer] = filled[nearer]
                np.minimum(closest[box], square, out=closest[box])
        return result

    def shadow(self, rays: Rays) -> NDArray[np.float32]:
        """Length in mm of each ray inside the rods, (n, m); where rods overlap, the longest counts."""
        result = np.zeros((len(rays.x), len(rays.z)), np.float32)
        step = float(min(abs(rays.x[1] - rays.x[0]), abs(rays.z[1] - rays.z[0])))
        c, s = np.cos(rays.angle), np.sin(rays.angle)
        ends = [np.stack([c * p[:, 0] - s * p[:, 1], p[:, 2]], 1) for p in (self.start, self.end)]
        deep = (s * self.end[:, 0] + c * self.end[:, 1]) - (s * self.start[:, 0] + c * self.start[:, 1])
        reach = self.radius.max(1) + step
        low, high = np.minimum(*ends) - reach[:, None], np.maximum(*ends) + reach[:, None]
        axes = (rays.x, rays.z)
        first = np.stack([np.searchsorted(axis, low[:, a]) for a, axis in enumerate(axes)], 1)
        last = np.stack([np.searchsorted(axis, high[:, a], "right") for a, axis in enumerate(axes)], 1)
        for n in np.flatnonzero((last > first).all(1)):
            i, k = (slice(p, q) for p, q in zip(first[n], last[n], strict=True))
            x, z = rays.x[i, None] - np.float32(ends[0][n, 0]), rays.z[None, k] - np.float32(ends[0][n, 1])
            dx, dz = (ends[1][n] - ends[0][n]).astype(np.float32)
            flat = float(dx * dx + dz * dz)
            share = np.clip((x * dx + z * dz) / max(flat, 1e-6), 0, 1)
            radius = self.radius[n, 0] + share * np.float32(self.radius[n, 1] - self.radius[n, 0])
            # A pixel sees the mean over its width; a rod thinner than it is not lost between two rays.
            broad = np.sqrt(radius**2 + np.float32(step**2 / 4))
            square = (x - share * dx) ** 2 + (z - share * dz) ** 2
            chord = 2 * np.sqrt(np.maximum(broad**2 - square, 0)) * (radius / broad) ** 2
            length = np.sqrt(flat + deep[n] ** 2)
            slant = min(length / max(np.sqrt(flat), 1e-6), length / (2 * float(self.radius[n].mean())) + 1)
            np.maximum(result[i, k], chord * np.float32(slant), out=result[i, k])
        return result
