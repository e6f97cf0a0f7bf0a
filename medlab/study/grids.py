"""Grids: on which voxels images are segmented, and what the values of their masks mean.

In: cases with masks, a recipe. Out: the recipe with its last spatial step, and what the network has to know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medlab import batches, train

if TYPE_CHECKING:
    from medlab.cases import Cases
    from medlab.standardize import Recipe

_WHOLE = 2**18
"""Most voxels of images that are segmented whole, where all have one shape; others are trained on in patches."""


def measure(cases: Cases, recipe: Recipe, size: int | None) -> tuple[Recipe, dict[str, Any]]:
    """How these cases are brought to voxels that a network can be trained on; images and masks are read once.

    Args:
        cases: with splits; what is measured is measured on the training cases, the masks' values on all.
        recipe: how images are standardized.
        size: crop or pad to so many voxels along each axis; None: images of one shape stay as they are, others are
            resampled to one spacing and trained on in patches, as :func:`medlab.train.plan_segmentation` says.

    Returns:
        The recipe, and facts: ``regions`` (names of the mask's values 0, 1, ...), ``patch`` (voxels, or None for whole
        images), ``shapes``, ``spacings`` (mm) and ``shares`` (of each class) of the training images.

    Raises:
        ValueError: a case without mask, masks without any structure, or masks with values that have no name.
    """
    if size is not None:
        recipe = recipe.change(crop_or_pad={"shape": (int(size),) * cases.volume(cases.ids[0]).rank})
    training = set(cases.subset("train").ids)
    shapes, spacings, counts, highest = [], [], np.zeros(256, np.int64), 0
    present: set[int] = set()
    for case, image, mask in batches.pairs(cases, recipe=recipe):
        values = np.unique(mask.array)
        present.update(int(value) for value in values if value > 0)
        highest = max(highest, int(values.max(initial=0)))
        if case in training:
            shapes.append(list(image.shape))
            spacings.append([round(float(mm), 4) for mm in image.spacing])
            counts += np.bincount(np.clip(mask.array, 0, 255).ravel(), minlength=256)
    if not highest:
        raise ValueError(f"The masks of {cases.name!r} hold background (0) only: there is nothing to segment.")
    if highest > 255:
        raise ValueError(f"Expected masks of at most 255 structures. Those of {cases.name!r} reach {highest}.")
    regions = _names(cases, highest)
    absent = sorted(set(range(1, highest + 1)) - present)
    if absent and not cases.info.get("regions") and not cases.classes:
        seen = sorted(present | {0})
        raise ValueError(
            f"The masks of {cases.name!r} hold the values {_some(seen)}, and not {_some(absent)} between them. Say "
            f'what is meant: options={{"mask_values": {seen if len(seen) < 9 else "[...]"}}} numbers them 0, 1, ... in '
            "that order, or name all values with classes."
        )
    shares = (counts[: len(regions)] / counts.sum()).round(8).tolist()
    facts: dict[str, Any] = {"regions": regions, "patch": None, "shapes": shapes, "spacings": spacings}
    facts["shares"] = shares
    if np.ptp(shapes, axis=0).any() or np.prod(shapes[0]) > _WHOLE:
        plan = train.plan_segmentation(shapes, spacings, len(regions), shares=shares)
        facts["patch"] = list(plan.patch_size)
        if np.ptp(spacings, axis=0).any():
            recipe = recipe.change(resample={"spacing": plan.spacing})
    return recipe, facts


def _some(values: list[int]) -> str:
    return ", ".join(map(str, values[:6])) + (f" and {len(values) - 6} more" if len(values) > 6 else "")


def _names(cases: Cases, highest: int) -> list[str]:
    """Names of the mask's values: those the data set brings, its classes where it has no labels, else numbers."""
    known = list(cases.info.get("regions", ()))
    if not known and cases.table["label"].isna().all():
        known = list(cases.classes)
    if known and len(known) <= highest:
        raise ValueError(
            f"The masks of {cases.name!r} reach {highest}, but {len(known)} names are given ({', '.join(known)}). "
            "Name every value from 0 (background) on."
        )
    return known or ["background", *(f"label {number}" for number in range(1, highest + 1))]
