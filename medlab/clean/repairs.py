"""Repair: what can be mended in an image without inventing anatomy.

In: one image Volume. Out: a new one with gaps filled from the nearest values that were measured, and a record of it in
``info["repairs"]``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medlab.volume import Volume

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

MENDABLE = ("nan", "missing-slice", "duplicate-slice")


def repair(volume: Volume, faults: pd.DataFrame | None = None) -> Volume:
    """The image with lost slices interpolated and values that are not finite replaced.

    Lost slices (constant or without a finite value, between slices that have content) and the second of two identical
    neighbors are interpolated linearly between the nearest sound slices on both sides, along the axis on which they
    lie. What is not finite after that takes the nearest finite value of its channel.

    Args:
        volume: image. A label map comes back as it is.
        faults: the table of ``clean.faults(volume)``: only the faults that it lists are mended. None for all.

    Returns:
        A Volume on the same grid and of the same type; ``info["repairs"]`` lists what was done, in order. The same
        object where nothing was to be mended.

    Raises:
        ValueError: a channel without any finite value.
    """
    if volume.kind == "labels":
        return volume
    wanted = set(MENDABLE) if faults is None else set(faults["fault"]) & set(MENDABLE)
    array = volume.array.astype(np.float64)
    done: list[str] = []
    if volume.rank == 3 and not few_levels(array):
        for axis, letter in enumerate("ijk"):
            for kind, find in (("missing-slice", lost_slices), ("duplicate-slice", repeated_slices)):
                numbers = find(array, axis) if kind in wanted else []
                if numbers:
                    _interpolate_slices(array, axis, numbers)
                    done.append(f"{kind}: interpolated {len(numbers)} along {letter} ({_some(numbers)})")
    bad = ~np.isfinite(array)
    if "nan" in wanted and bad.any():
        _fill_nearest(array, bad, volume.rank)
        done.append(f"nan: {int(bad.sum())} values replaced by the nearest finite one")
    if not done:
        return volume
    if volume.array.dtype.kind != "f":
        array = np.rint(array)
    info = {**volume.info, "repairs": [*volume.info.get("repairs", []), *done]}
    return volume.replace(array=array.astype(volume.array.dtype), info=info)


def few_levels(array: NDArray) -> bool:
    """Whether an image has at most 8 different values: a drawing or a mask, where empty or equal slices are natural."""
    return len(np.unique(array.ravel()[:: max(1, array.size // 65536)])) <= 8


def lost_slices(array: NDArray, axis: int) -> list[int]:
    """Numbers of slices along ``axis`` that hold one value, or none finite, and lie between slices that hold more."""
    slices = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
    if slices.shape[1] < 2:
        return []
    finite = np.isfinite(slices) if slices.dtype.kind == "f" else np.ones((), bool)
    low = np.where(finite, slices, np.inf).min(1) if slices.dtype.kind == "f" else slices.min(1)
    high = np.where(finite, slices, -np.inf).max(1) if slices.dtype.kind == "f" else slices.max(1)
    full = np.flatnonzero(low < high)
    if len(full) < 2:
        return []
    inside = np.arange(full[0], full[-1] + 1)
    return sorted(set(inside.tolist()) - set(full.tolist()))


def repeated_slices(array: NDArray, axis: int) -> list[int]:
    """Numbers of slices along ``axis`` that equal the one before and are not constant."""
    slices = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
    if len(slices) < 3 or slices.shape[1] < 2:
        return []
    # A few positions rule nearly all pairs out before whole slices are compared.
    probe = np.linspace(0, slices.shape[1] - 1, min(64, slices.shape[1])).astype(int)
    likely = np.flatnonzero((slices[1:, probe] == slices[:-1, probe]).all(1)) + 1
    return [int(s) for s in likely if np.array_equal(slices[s], slices[s - 1]) and slices[s].min() < slices[s].max()]


def _interpolate_slices(array: NDArray, axis: int, numbers: list[int]) -> None:
    """Replaces slices, in place, by the line between the nearest other slices; at an end by the nearest one."""
    slices = np.moveaxis(array, axis, 0)
    sound = np.setdiff1d(np.arange(len(slices)), numbers)
    for number in numbers:
        before, after = sound[sound < number], sound[sound > number]
        if len(before) and len(after):
            low, high = before[-1], after[0]
            part = (number - low) / (high - low)
            slices[number] = (1 - part) * slices[low] + part * slices[high]
        else:
            slices[number] = slices[before[-1] if len(before) else after[0]]


def _fill_nearest(array: NDArray, bad: NDArray[np.bool_], rank: int) -> None:
    """Replaces ``bad`` values, in place, by the nearest good one of the same channel."""
    from scipy import ndimage

    channels = [...] if array.ndim == rank else [(..., c) for c in range(array.shape[-1])]
    for channel in channels:
        lost = bad[channel]
        if lost.all():
            raise ValueError("Expected at least one finite value in each channel. There is none to repair from.")
        if lost.any():
            where = ndimage.distance_transform_edt(lost, return_distances=False, return_indices=True)
            array[channel] = array[channel][tuple(where)]


def _some(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
