"""Whole splits as tensors: each case opened, standardized by the recipe and stacked.

In: cases, a split, a recipe. Out: arrays (n, i, j[, k], c) float32 with labels or masks, or Volumes one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medlab import standardize
from medlab.batches.ahead import in_order, stack, with_bar
from medlab.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medlab.cases import Cases
    from medlab.standardize import Recipe


def recipe_for(cases: Cases, recipe: Recipe | str | Mapping[str, Any] | None = "auto") -> Recipe:
    """The recipe with which these cases are standardized.

    Args:
        cases: their modality decides where ``recipe`` is ``"auto"``: ``cases.info["modality"]``, else that of the first
            image. CT of 8 bits is a picture that was windowed before, not HU: it gets the recipe ``"scale"``; other CT
            the window that ``cases.info["window"]`` names, if it does.
        recipe: ``"auto"``, a modality or a name (see ``standardize.recipes()``), the dict of ``Recipe.to_dict``, a
            :class:`~medlab.standardize.Recipe`, or None for ``"none"``. ``"measured"`` proposes one from the training
            cases, each of which is opened for it: ``standardize.recipe("auto", cases)``.

    Raises:
        ValueError: an unknown name, step or argument.
    """
    if isinstance(recipe, standardize.Recipe):
        return recipe
    if recipe is None:
        return standardize.recipe("none")
    if isinstance(recipe, Mapping):
        return standardize.Recipe.from_dict(recipe)
    if recipe == "measured":
        return standardize.recipe("auto", cases)
    if recipe != "auto":
        return standardize.recipe(recipe)
    modality = cases.info.get("modality")
    if modality is None or str(modality).upper() == "CT":
        first = cases.volume(cases.ids[0])
        modality = modality or first.modality
        if modality is not None and str(modality).upper() == "CT" and first.array.dtype in (np.uint8, bool):
            return standardize.recipe("scale")
        if modality == "CT" and cases.info.get("window"):
            return standardize.recipe(f"CT-{cases.info['window']}")
    try:
        return standardize.recipe(modality)
    except ValueError:
        return standardize.recipe("percentile")


def images(
    cases: Cases,
    split: str | None = None,
    *,
    recipe: Recipe | str | Mapping[str, Any] | None = "auto",
    size: int | Sequence[int] | None = None,
) -> NDArray[np.float32]:
    """The images of a split alone, for sets without labels; see :func:`arrays`."""
    part = cases.subset(split)
    steps = with_size(recipe_for(cases, recipe), size, lambda: cases.volume(part.ids[0]).rank)
    return stack(_standardized(part, steps), len(part), np.float32, part.ids, size)


def arrays(
    cases: Cases,
    split: str | None = None,
    *,
    recipe: Recipe | str | Mapping[str, Any] | None = "auto",
    size: int | Sequence[int] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """A split whole: each image standardized by itself, and the labels.

    Args:
        cases: the data set.
        split: ``"train"``, ``"validation"``, ``"test"``, or None for all cases.
        recipe: see :func:`recipe_for`.
        size: voxels along each spatial axis, one number or one for each: images are resized to it. None keeps the
            common shape of the images.

    Returns:
        ``x`` (n, i, j[, k], c) float32 and ``y`` (n,) int64 class indices, or (n, classes) 0/1 for a multi-label set.

    Raises:
        ValueError: an unknown or empty split, a case without label, images of several shapes with no size given, NaN in
            an image (the message names the case).
    """
    y = cases.subset(split).y()
    return images(cases, split, recipe=recipe, size=size), y


def masks(
    cases: Cases,
    split: str | None = None,
    *,
    recipe: Recipe | str | Mapping[str, Any] | None = "auto",
    size: int | Sequence[int] | None = None,
) -> NDArray[np.int32]:
    """The masks of a split on the grid of :func:`arrays`: the recipe's spatial steps, nearest neighbor.

    Returns:
        (n, i, j[, k]) int32 class numbers, 0 for background.

    Raises:
        ValueError: a case without mask, or as :func:`arrays`.
    """
    part = cases.subset(split)
    rows = zip(part.ids, masks_there(part), part.table["image"], strict=True)
    steps = with_size(recipe_for(cases, recipe), size, lambda: cases.volume(part.ids[0]).rank)
    found = in_order(lambda row: named(row[0], lambda: mask_array(part, row[1], steps, row[2])), rows)
    return stack(with_bar(found, len(part), "masks"), len(part), np.int32, part.ids, size)


def pairs(
    cases: Cases,
    split: str | None = None,
    *,
    recipe: Recipe | str | Mapping[str, Any] | None = "auto",
    size: int | Sequence[int] | None = None,
) -> Iterator[tuple[str, Volume, Volume]]:
    """Each case's id, image and mask as standardized Volumes on one grid, for cases of different shapes.

    The spacing in mm, which distances are measured in, is that of the Volume.

    Args:
        cases: the data set.
        split: see :func:`arrays`, as the next two.
        recipe: see :func:`recipe_for`.
        size: resize to it.

    Raises:
        ValueError: as :func:`masks`.
    """
    part = cases.subset(split)
    steps = with_size(recipe_for(cases, recipe), size, lambda: cases.volume(part.ids[0]).rank)
    rows = list(zip(part.ids, part.table["image"], masks_there(part), strict=True))
    return with_bar(in_order(lambda row: (row[0], *_pair(part, *row, steps)), rows), len(rows), "cases")


def _pair(part: Cases, case: str, image: str, mask: str, steps: Recipe) -> tuple[Volume, Volume]:
    return named(case, lambda: steps(open_image(part, image, "image"), open_image(part, mask, "labels")))


def _standardized(part: Cases, steps: Recipe) -> Iterator[NDArray]:
    """Each image of the cases as (i, j[, k], c) float32."""
    pairs = zip(part.ids, part.table["image"], strict=True)
    found = in_order(lambda pair: named(pair[0], lambda: image_array(part, pair[1], steps)), pairs)
    return with_bar(found, len(part), "images")


def image_array(part: Cases, reference: str, steps: Recipe) -> NDArray[np.float32]:
    """One standardized image (i, j[, k], c)."""
    volume = steps(open_image(part, reference, "image"))
    return volume.array if volume.array.ndim > volume.rank else volume.array[..., None]


def mask_array(part: Cases, reference: str, steps: Recipe, image: str) -> NDArray[np.int32]:
    """One mask (i, j[, k]) after the recipe's spatial steps; its image is opened where it decides what is cut away."""
    seen = open_image(part, image, "image") if steps.looks_at_image else None
    mask = steps.on_labels(open_image(part, reference, "labels"), seen)
    if mask.array.ndim > mask.rank:
        raise ValueError(f"Expected a mask without channels. Received shape {mask.array.shape}.")
    return mask.array.astype(np.int32, copy=False)


def open_image(part: Cases, reference: str, kind: str) -> Volume:
    """The image or mask that a reference names, as it is stored."""
    if part.open is None:
        raise ValueError(f"These cases cannot open images. Load {part.name!r} with medlab.load.dataset.")
    return part.open(reference, kind=kind)


def named(case: str, make: Callable[[], Any]) -> Any:
    """What ``make`` gives for one case; an error says which case it was."""
    try:
        return make()
    except ValueError as error:
        raise ValueError(f"Case {case!r}: {error}") from error


def masks_there(part: Cases) -> list[str]:
    """The references of the masks, after making sure that every case has one."""
    if "mask" not in part.table:
        raise ValueError(f"{part.name!r} has no masks: its table has no column mask.")
    missing = part.table["id"][part.table["mask"].isna()].tolist()
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise ValueError(f"{len(missing)} case(s) have no mask: {', '.join(missing[:5])}{more}. Drop them first.")
    return part.table["mask"].tolist()


def with_size(steps: Recipe, size: int | Sequence[int] | None, rank: Callable[[], int]) -> Recipe:
    """The recipe with a last spatial step to ``size``."""
    if size is None:
        return steps
    numbers = np.atleast_1d(np.asarray(size))
    if len(numbers) == 1:
        numbers = np.repeat(numbers, rank())
    return steps.change(resize={"shape": tuple(int(n) for n in numbers)})
