"""Voting: which label a new voxel takes where its center lies exactly halfway between old ones.

In: the affine from new voxel indices to old ones, and labels a little to either side of the halfway points. Out: the
label that most of them have. Rounding instead would always choose the same side, and so move every structure by up to
half an old voxel along each axis, which images, interpolated linearly, are not.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEAR = 1e-4
"""Old voxels within which a center counts as halfway; far above rounding, far below what can be seen (chosen)."""

Ties = list[tuple[int, "NDArray[np.int64]"] | None]


def halfway(step: NDArray, shape: tuple[int, ...]) -> Ties:
    """For each old axis the new axis that runs along it and how many of its centers lie halfway up to each index.

    None for an old axis without halfway points, and for one that no single new axis runs along, as after a turn by 30
    degrees: centers there fall to both sides by themselves.

    Args:
        step: (4, 4), new voxel indices to old ones.
        shape: new voxels along each axis.
    """
    ties: Ties = []
    for old in range(len(shape)):
        row = step[old, : len(shape)]
        along = np.flatnonzero(np.abs(row) > 1e-9)
        new = int(along[0]) if len(along) else 0
        at = row[new] * np.arange(shape[new]) + step[old, 3]
        count = (np.abs(at - np.floor(at) - 0.5) < NEAR).cumsum()
        ties.append((new, count) if len(along) == 1 and count[-1] else None)
    return ties


def sides(ties: Ties) -> list[tuple[float, ...]]:
    """Shifts in old voxels to both sides along each axis with halfway points; one shift of 0 where there are none."""
    return list(product(*((0.0,) if one is None else (-2 * NEAR, 2 * NEAR) for one in ties)))


def decide(found: list[NDArray], ties: Ties) -> NDArray:
    """The most frequent label at each new voxel.

    Where labels are equally frequent, the surface between them runs through the center. Then the lowest and the highest
    of them win by turns, from one halfway plane to the next along the axis that crosses the surface: on average
    structures keep their place and their volume, and flat faces stay flat.

    Args:
        found: the labels on the new grid at each of :func:`sides`, in that order.
        ties: of :func:`halfway`.
    """
    out = found[0]
    differ = np.zeros(out.shape, bool)
    for other in found[1:]:
        differ |= other != out
    if not differ.any():
        return out
    votes = np.stack([one[differ] for one in found])
    counts = np.stack([(votes == candidate).sum(0) for candidate in votes])
    frequent = counts == counts.max(0)
    ends = votes.min(0), votes.max(0)
    low = np.where(frequent, votes, ends[1]).min(0)
    high = np.where(frequent, votes, ends[0]).max(0)
    # How often the vote changes along each axis with halfway points tells which one crosses the surface.
    axes = [one for one in ties if one is not None]
    cube = votes.reshape(*[2] * len(axes), -1)
    changes = [(np.take(cube, 0, axis) != np.take(cube, 1, axis)).reshape(-1, cube.shape[-1]).sum(0)
               for axis in range(len(axes))]  # fmt: skip
    across, places = np.argmax(changes, axis=0), np.nonzero(differ)
    turn = np.choose(across, [count[places[new]] for new, count in axes])
    out = out.copy()
    out[differ] = np.where(turn % 2, high, low)
    return out
