"""Where the slices of a series lie: their order, the affine, and what must be filled in.

In: positions, orientations and spacings of slices as DICOM gives them (LPS, mm). Out: a Stack, or a ReadError that
names the fault. It reads no file.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from medlab import geometry
from medlab.load.errors import ReadError

# A slice may lie this part of a step away from the regular grid: headers are rounded to 0.1 mm or coarser.
_OFF_GRID = 0.1
_COSINE = 1e-3  # a tilt or turn of about 2.5 degrees between slices; rounding stays far below
_TILT = 0.02  # a shift of 2 % of a step a slice, about 1.1 degrees


@dataclass(frozen=True)
class Stack:
    """Slices in order along their normal.

    Attributes:
        order: indices of the given slices, from the lowest place on the normal to the highest.
        affine: (4, 4), (column, row, slice) index to mm in RAS+.
        sources: one pair a slice of the result: the place in ``order`` it comes from, and how far (0 to below 1) it
            lies towards the next one. All zero unless slices had to be interpolated.
        repairs: what was done, one sentence each.
    """

    order: list[int]
    affine: np.ndarray
    sources: list[tuple[int, float]]
    repairs: list[str] = field(default_factory=list)


def plane(position: np.ndarray, orientation: np.ndarray, spacing: np.ndarray, step: np.ndarray) -> np.ndarray:
    """The affine in RAS+ of slices of one orientation: (column, row, slice) index to mm.

    Args:
        position: (3,) mm in LPS of the first pixel, Image Position (Patient).
        orientation: (6,) cosines of a row's and a column's direction, Image Orientation (Patient).
        spacing: (2,) mm between rows, then between columns, Pixel Spacing.
        step: (3,) mm in LPS from a slice to the next.

    Source: DICOM PS3.3, C.7.6.2.1.1, equation C.7.6.2.1-1.
    """
    affine = np.eye(4)
    affine[:3, 0] = orientation[:3] * spacing[1]
    affine[:3, 1] = orientation[3:] * spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = position
    return geometry.lps_to_ras(affine)


def normal(orientation: np.ndarray) -> np.ndarray:
    """(3,) unit vector across the slice: row direction x column direction.

    Raises:
        ReadError: the two directions are not at right angles.
    """
    row, column = orientation[:3], orientation[3:]
    lengths = np.linalg.norm(row) * np.linalg.norm(column)
    if not np.isfinite(lengths) or lengths < 0.5 or abs(row @ column) > 1e-2 * lengths:
        raise ReadError(
            f"has an Image Orientation {np.round(orientation, 3).tolist()} that is not two directions at a right angle"
        )
    across = np.cross(row, column)
    return across / np.linalg.norm(across)


def arrange(
    positions: np.ndarray,
    orientations: np.ndarray,
    spacings: np.ndarray,
    *,
    gaps: str = "raise",
    tilt: str = "raise",
) -> Stack:
    """The slices' order and affine, checked.

    Args:
        positions: (n, 3) mm in LPS, n of at least 2.
        orientations: (n, 6) cosines.
        spacings: (n, 2) mm.
        gaps: ``"raise"`` or ``"interpolate"`` missing and uneven slices.
        tilt: ``"raise"`` or ``"keep"`` an oblique third axis.

    Raises:
        ReadError: mixed orientations or pixel spacings, one place taken twice, gaps, uneven spacing, tilted gantry.
            The message starts after the path, which the caller puts before it.
    """
    _check_alike(orientations, spacings)
    across = normal(orientations[0])
    places = positions @ across
    order = np.argsort(places, kind="stable")
    sorted_places = places[order]
    steps = np.diff(sorted_places)
    extent = sorted_places[-1] - sorted_places[0]
    if extent < 1e-3:
        raise ReadError(
            f"is not a volume: all {len(places)} slices lie at the same place. It is a series over time or a "
            "localizer; read a single file of it."
        )
    typical = float(np.median(steps[steps > 1e-3])) if (steps > 1e-3).any() else 0.0
    repeated = np.flatnonzero(steps < 0.01 * typical)
    if len(repeated):
        where = sorted_places[repeated[0]]
        raise ReadError(
            f"has {len(repeated) + 1} or more slices at one place ({len(repeated)} repeated, the first at {where:.2f} "
            "mm along the normal): several time points, echoes or phases in one series. Put the files of one of them "
            "into a folder of their own."
        )
    sources, repairs = _regular(sorted_places, typical, gaps)
    step = (positions[order[-1]] - positions[order[0]]) / (len(sources) - 1)
    shift = step - (step @ across) * across
    sideways = np.linalg.norm(shift)
    if sideways > _TILT * (step @ across) and sideways * (len(sources) - 1) > 0.5 * spacings[0].min():
        angle = np.degrees(np.arctan2(sideways, step @ across))
        if tilt == "raise":
            raise ReadError(
                f"was taken with a tilted gantry: slices are shifted by {sideways:.2f} mm each against their normal "
                f"({angle:.1f} degrees), so voxels are no rectangular blocks. Read it with tilt='keep' and straighten "
                "it with standardize.resample."
            )
        repairs = [*repairs, f"Gantry tilt of {angle:.1f} degrees kept in an oblique third axis."]
    elif len(order) > 2:
        _check_straight(positions[order], sorted_places, spacings[0])
    affine = plane(positions[order[0]], orientations[0], spacings[0], step)
    return Stack(order.tolist(), affine, sources, repairs)


def _check_alike(orientations: np.ndarray, spacings: np.ndarray) -> None:
    """Raises unless all slices have one orientation and one pixel spacing."""
    different = np.abs(orientations - orientations[0]).max(axis=1) > _COSINE * 10
    if different.any():
        raise ReadError(
            f"mixes slices of different orientation ({int(different.sum())} of {len(different)} differ from the "
            "first): localizers or several stacks in one series. Put the files of one stack into a folder of their own."
        )
    if np.abs(spacings / spacings[0] - 1).max() > 1e-3:
        raise ReadError(
            f"mixes slices of different pixel spacing ({spacings.min():.4g} to {spacings.max():.4g} mm). "
            "Put the files of one spacing into a folder of their own."
        )


def _check_straight(positions: np.ndarray, places: np.ndarray, spacing: np.ndarray) -> None:
    """Raises if single slices are shifted within their plane: a patient or table that moved."""
    fraction = (places - places[0]) / (places[-1] - places[0])
    line = positions[0] + fraction[:, None] * (positions[-1] - positions[0])
    off = np.linalg.norm(positions - line, axis=1)
    if off.max() > spacing.max():
        raise ReadError(
            f"has slices that are shifted against each other by up to {off.max():.2f} mm within their plane "
            f"(the most at slice {int(off.argmax()) + 1} of {len(off)}). Its slices do not make one straight volume."
        )


def _regular(places: np.ndarray, typical: float, gaps: str) -> tuple[list[tuple[int, float]], list[str]]:
    """Where each slice of an evenly spaced stack comes from, and what had to be done for it."""
    count = len(places)
    even = places[0] + np.arange(count) * (places[-1] - places[0]) / (count - 1)
    if np.abs(places - even).max() <= _OFF_GRID * typical:
        return [(index, 0.0) for index in range(count)], []
    steps = np.diff(places)
    whole = np.rint(steps / typical)
    missing = bool((np.abs(steps - whole * typical) <= _OFF_GRID * typical).all() and (whole >= 1).all())
    wide = int(steps.argmax())
    if gaps == "raise":
        what = f"misses {int(whole.sum()) - count + 1} slice(s)" if missing else "has unevenly spaced slices"
        raise ReadError(
            f"{what}: steps of {steps.min():.4g} to {steps.max():.4g} mm along the normal, usually {typical:.4g} mm; "
            f"the widest lies between slices {wide + 1} and {wide + 2} of {count} (at {places[wide]:.2f} and "
            f"{places[wide + 1]:.2f} mm). Find the missing files, or read it with gaps='interpolate'."
        )
    total = int(whole.sum()) + 1 if missing else round((places[-1] - places[0]) / typical) + 1
    if total > 4 * count + 100:
        raise ReadError(
            f"has steps of {steps.min():.4g} to {steps.max():.4g} mm: filling it would take {total} slices for "
            f"{count}. Its slices do not make one volume."
        )
    targets = np.linspace(places[0], places[-1], max(total, 2))
    sources, filled = [], 0
    for target in targets:
        lower = int(np.clip(np.searchsorted(places, target, side="right") - 1, 0, count - 2))
        weight = (target - places[lower]) / (places[lower + 1] - places[lower])
        nearest = lower + round(weight)
        if abs(places[nearest] - target) <= _OFF_GRID * typical:
            sources.append((nearest, 0.0))
        else:
            sources.append((lower, float(weight)))
            filled += 1
    kind = "missing" if missing else "unevenly spaced"
    return sources, [f"{filled} of {len(sources)} slices interpolated linearly between neighbors ({kind} slices)."]
