"""Proposal: a recipe from a data set's fingerprint, each step with its reason.

In: a :class:`Fingerprint`. Out: a Recipe named ``"auto"`` that normalizes first. The rules are those of nnU-Net
(Isensee et al. 2021, Nature Methods 18, 203-211) where the text says so; the others are chosen.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from medlab.standardize.intensity import PRESETS
from medlab.standardize.measure import Fingerprint
from medlab.standardize.steps import Recipe, build

ANISOTROPIC = 3.0
"""A coarse axis has more than this many times the spacing of every other one, and as many times fewer voxels."""
TIGHT = 0.75
"""Images are cropped where the box around the foreground holds less than this share of the median image (chosen)."""
MARGIN = 5.0
"""mm kept around the foreground (chosen)."""


def propose(fingerprint: Fingerprint) -> Recipe:
    """The recipe that suits the measured images; what is left out has its reason too.

    - Orientation: RAS for volumes that know their place.
    - Crop: to the foreground and 5 mm, in CT, MR and PET where that saves a quarter of the median image and no mask
      reaches out of it.
    - Spacing: the median along each axis; along an axis more than 3 times as coarse as every other one, with a third of
      their voxels, the 10th percentile, but no finer than the others (nnU-Net).
    - Normalization: CT in HU of a set that names its window (``cases.info["window"]``) through that window, as the
      recipe ``"CT-brain"`` and its like; other CT in HU by one scale for all: clipped to the 0.5th and 99.5th
      percentile of the foreground of all images, minus its mean, over its deviation (nnU-Net). 8-bit CT, ultrasound,
      colors and drawn shapes by the full range of their type. Others by each image's own mean and deviation (nnU-Net),
      in MR within the foreground and clipped at -3 and 5.
    - Size, for images with labels of their own: crop or pad to the largest where that is at most twice the voxels of
      the median, else to the median; pictures without millimeters are resized to the median.

    Returns:
        A Recipe, whose ``why`` holds the reasons.
    """
    steps: dict[str, dict[str, Any]] = {}
    why: dict[str, str] = {}
    _orient(fingerprint, steps, why)
    sizes = _crop(fingerprint, steps, why)
    _normalize(fingerprint, steps, why)
    sizes = _resample(fingerprint, sizes, steps, why)
    _size(fingerprint, sizes, steps, why)
    return build("auto", steps, "intensity", why.items())


def target_spacing(shapes: Any, spacings: Any) -> tuple[tuple[float, ...], str]:
    """The spacing to resample a data set to, by nnU-Net's rule, and the reason.

    Args:
        shapes: (n, rank) voxels.
        spacings: (n, rank) mm, above 0.

    Returns:
        mm along each axis, and a line that says how they were found.
    """
    steps, sizes = np.asarray(spacings, np.float64), np.asarray(shapes, np.float64)
    spacing, shape = np.median(steps, axis=0), np.median(sizes, axis=0)
    axis = int(spacing.argmax())
    others = np.delete(spacing, axis).max()
    if spacing[axis] <= ANISOTROPIC * others or shape[axis] * ANISOTROPIC >= np.delete(shape, axis).min():
        return tuple(spacing.tolist()), f"the median of {len(steps)} images along each axis"
    spacing[axis] = max(np.percentile(steps[:, axis], 10), others)
    return tuple(spacing.tolist()), (
        f"the median of {len(steps)} images; along axis {axis}, more than {ANISOTROPIC:g} times as coarse as the "
        "others, the 10th percentile, so that little is blurred"
    )


def _orient(found: Fingerprint, steps: dict[str, Any], why: dict[str, str]) -> None:
    if found.rank == 2:
        why["orient"] = "a picture has no third axis to turn"
    elif not found.geometry:
        why["orient"] = "not all images know their place in the patient"
    else:
        steps["orient"] = {"axcodes": "RAS"}
        why["orient"] = f"{found.turned} of {found.n} images are stored in another orientation"


def _crop(found: Fingerprint, steps: dict[str, Any], why: dict[str, str]) -> np.ndarray:
    """Voxels of each image after the crop, (n, rank)."""
    sizes, boxes = np.array(found.shapes, float), np.array(found.boxes, float)
    share = float(np.median(boxes.prod(1) / sizes.prod(1)))
    if found.modality not in ("CT", "MR", "PT"):
        why["crop_to_foreground"] = f"the background of {found.modality or 'an unknown modality'} is not known for sure"
    elif share >= TIGHT:
        why["crop_to_foreground"] = f"the foreground's box is {share:.0%} of the median image"
    elif found.outside:
        why["crop_to_foreground"] = f"{found.outside} of {found.n} masks reach out of the foreground's box"
    else:
        steps["crop_to_foreground"] = {"margin": MARGIN}
        why["crop_to_foreground"] = f"the foreground's box is {share:.0%} of the median image; {MARGIN:g} mm around it"
        more = 2 * np.ceil(MARGIN / np.array(found.spacings) - 1e-6)
        sizes = np.minimum(boxes + more, sizes)
    return sizes


def _normalize(found: Fingerprint, steps: dict[str, Any], why: dict[str, str]) -> None:
    first = found.intensity[0]
    bits = found.type in ("uint8", "bool")
    if found.modality == "CT" and not bits and found.window:
        steps["window"], steps["symmetric"] = {"preset": found.window}, {}
        center, width = PRESETS[found.window]
        why["window"] = (
            f"the data set asks for the {found.window} window ({center:g} HU, {width:g} wide): what it shows is faint "
            "in the range of all HU"
        )
        why["symmetric"] = "to [-1, 1], where networks start to learn fastest"
    elif found.modality == "CT" and not bits and found.channels == 1 and first["deviation"] > 0:
        low, high = first["percentile_0.5"], first["percentile_99.5"]
        steps["fixed_zscore"] = {"mean": first["mean"], "deviation": first["deviation"]}
        if low < high:
            steps["fixed_zscore"] |= {"low": low, "high": high}
        where = "masks" if found.inside == "masks" else "foreground"
        why["fixed_zscore"] = (
            f"HU mean the same everywhere: 0.5th and 99.5th percentile, mean, deviation in the {where}"
        )
    elif found.levels <= 8 or (bits and (found.modality in ("CT", "US") or found.channels == 3)):
        steps["scale"], steps["symmetric"] = {}, {}
        what = {"CT": "8-bit CT was windowed before", "US": "the scanner has set gain and compression"}
        drawn = "at most 8 different values, drawn shapes" if found.levels <= 8 else "colors keep their meaning"
        reason = drawn if found.levels <= 8 else what.get(found.modality or "", drawn)
        why["scale"] = f"{reason}: the type's full range"
        why["symmetric"] = "to [-1, 1], where networks start to learn fastest"
    elif found.modality == "MR":
        steps["zscore"], steps["clip"] = {"mask": "foreground"}, {"low": -3.0, "high": 5.0}
        why["zscore"] = "MR has no unit: each image's own mean and deviation, in its tissue"
        why["clip"] = "outliers, such as vessels and fat, do not dominate"
    else:
        steps["zscore"] = {}
        why["zscore"] = (
            f"{found.modality or 'no known modality'}: no unit that all images share, each by its own values"
        )


def _resample(found: Fingerprint, sizes: np.ndarray, steps: dict[str, Any], why: dict[str, str]) -> np.ndarray:
    """Voxels of each image after resampling, (n, rank)."""
    if not found.geometry:
        why["resample"] = "not all images say how large a voxel is"
        return sizes
    spacings = np.array(found.spacings)
    if np.ptp(spacings, axis=0).max() <= 0.01 * spacings.min():
        why["resample"] = f"all images have {_times(spacings[0])} mm"
        return sizes
    target, why["resample"] = target_spacing(sizes, spacings)
    steps["resample"] = {"spacing": tuple(float(f"{mm:.4g}") for mm in target)}
    return np.maximum(np.rint(sizes * spacings / np.array(steps["resample"]["spacing"])), 1)


def _size(found: Fingerprint, sizes: np.ndarray, steps: dict[str, Any], why: dict[str, str]) -> None:
    median, largest = np.rint(np.median(sizes, axis=0)), sizes.max(axis=0)
    if not np.ptp(sizes, axis=0).any():
        name, shape = "crop_or_pad", None
        why[name] = f"all images have {_times(largest)} voxels"
    elif found.inside == "masks":
        name, shape = "crop_or_pad", None
        why[name] = "segmentation takes patches of images of any size (medlab.train.plan_segmentation)"
    elif not found.geometry and found.rank == 2:
        name, shape = "resize", median
        why[name] = f"the median of {_times(sizes.min(0))} to {_times(largest)}; no millimeters to keep"
    elif prod(largest) <= 2 * prod(median):
        name, shape = "crop_or_pad", largest
        why[name] = f"the largest of {found.n} images, so that nothing is cut; the median is {_times(median)}"
    else:
        name, shape = "crop_or_pad", median
        cut = int((sizes > median).any(axis=1).sum())
        why[name] = f"the median; the largest, {_times(largest)}, would be mostly padding. {cut} of {found.n} are cut"
    if shape is not None:
        steps[name] = {"shape": tuple(int(side) for side in shape)}


def _times(numbers: np.ndarray) -> str:
    return " x ".join(f"{number:g}" for number in numbers)
