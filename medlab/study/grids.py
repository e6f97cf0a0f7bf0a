"""Grids: on which voxels images are segmented, and what their masks mean.

In: cases with masks, a recipe. Out: a recipe that brings them to one shape, or the size of patches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medlab import batches

if TYPE_CHECKING:
    from medlab.cases import Cases
    from medlab.standardize import Recipe

_WHOLE = 128 * 128 * 32
"""Most voxels of an image that is segmented whole; larger ones are trained on in patches."""

_STEP = 8
"""Sides are rounded up to multiples of it, so that they can be halved three times."""


@dataclass(frozen=True)
class Grid:
    """How images are brought to voxels that a network can be trained on.

    Attributes:
        recipe: with its last spatial step.
        regions: names of the mask's values 0, 1, ...
        shape: voxels along each axis of what the network is trained on: whole images, or patches.
        spacing: mm along each axis, the median of the images.
        patch: ``shape`` where it is that of patches, else None.
    """

    recipe: Recipe
    regions: tuple[str, ...]
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    patch: tuple[int, ...] | None = None


def measure(cases: Cases, recipe: Recipe, size: int | None) -> Grid:
    """The grid for these cases; all images and masks are read once.

    Raises:
        ValueError: a case without mask, masks without any structure, or masks with values that have no name.
    """
    shapes, spacings, highest = [], [], 0
    for _, image, mask in batches.pairs(cases, recipe=recipe):
        shapes.append(image.shape)
        spacings.append(image.spacing)
        highest = max(highest, int(mask.array.max(initial=0)))
    if not highest:
        raise ValueError(f"The masks of {cases.name!r} hold background (0) only: there is nothing to segment.")
    regions = _names(cases, highest)
    spacing = tuple(float(mm) for mm in np.median(spacings, axis=0))
    if size is not None:
        whole = (int(size),) * len(shapes[0])
        return Grid(recipe.change(crop_or_pad={"shape": whole}), regions, whole, spacing)
    if len(set(shapes)) == 1:
        whole, steps = shapes[0], recipe
    else:
        whole = tuple(int(-(-side // _STEP) * _STEP) for side in np.max(shapes, axis=0))
        steps = recipe.change(crop_or_pad={"shape": whole})
    if np.prod(whole) <= _WHOLE:
        return Grid(steps, regions, whole, spacing)
    patch = _patch(np.median(shapes, axis=0))
    return Grid(recipe, regions, patch, spacing, patch)


def _patch(shape: np.ndarray) -> tuple[int, ...]:
    """Sides in proportion to ``shape``, multiples of 16, of at most ``_WHOLE`` voxels together."""
    sides = np.asarray(shape, np.float64)
    while True:
        rounded = np.maximum(np.floor(sides / 16).astype(int) * 16, 16)
        if np.prod(rounded) <= _WHOLE:
            return tuple(int(side) for side in rounded)
        sides[int(np.argmax(sides))] -= 8


def _names(cases: Cases, highest: int) -> tuple[str, ...]:
    """Names of the mask's values: those the data set brings, its classes where it has no labels, else numbers."""
    known = list(cases.info.get("regions", ()))
    if not known and cases.table["label"].isna().all():
        known = list(cases.classes)
    if known and len(known) <= highest:
        raise ValueError(
            f"The masks of {cases.name!r} reach {highest}, but {len(known)} names are given ({', '.join(known)}). "
            "Name every value from 0 (background) on."
        )
    return tuple(known) or ("background", *(f"label {number}" for number in range(1, highest + 1)))
