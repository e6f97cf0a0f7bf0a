"""Localization: does the heat lie where the finding is.

In: heat maps (n, i, j[, k]), 0 or above, and masks of the same shape, 0 outside. Out: one number a case, 0 to 1, NaN
where the mask is empty. A heat map without any heat points nowhere and scores 0. It knows no models.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def pointing_game(heat: ArrayLike, mask: ArrayLike, *, tolerance: float = 0.0) -> NDArray[np.float64]:
    """1 where the hottest voxel lies in the mask, 0 where not.

    Where several voxels are equally hot, the share of them that lies in the mask: the expected value of a choice by
    lot. A map that is the same everywhere thus scores the mask's share of the image, as chance does.

    Args:
        heat: (n, i, j[, k]), 0 or above.
        mask: (n, i, j[, k]), inside where it is not 0.
        tolerance: how far outside still counts, in voxels, 0 or above.

    Returns:
        (n,) float64 from 0 to 1; NaN where the mask is empty, 0 where there is no heat.

    Raises:
        ValueError: shapes that differ, NaN or negative heat, or a negative tolerance.

    Source: Zhang et al., "Top-down neural attention by excitation backprop", IJCV 2018, section 4.
    """
    from scipy import ndimage

    maps, inside = _pair(heat, mask)
    if not tolerance >= 0:
        raise ValueError(f"Expected a tolerance of 0 voxels or more. Received {tolerance}.")
    hits = np.full(len(maps), np.nan)
    for case, (one, place) in enumerate(zip(maps, inside, strict=True)):
        if not place.any():
            continue
        if tolerance > 0:
            place = ndimage.distance_transform_edt(~place) <= tolerance
        top = one.max()
        hits[case] = place[one == top].mean() if top > 0 else 0.0
    return hits


def mass_inside(heat: ArrayLike, mask: ArrayLike) -> NDArray[np.float64]:
    """The share of the heat that lies in the mask.

    Args:
        heat: (n, i, j[, k]), 0 or above.
        mask: (n, i, j[, k]), inside where it is not 0.

    Returns:
        (n,) float64 from 0 to 1; NaN where the mask is empty, 0 where there is no heat. The same heat everywhere
        gives the mask's share of the image.

    Raises:
        ValueError: shapes that differ, NaN or negative heat.
    """
    maps, inside = _pair(heat, mask)
    voxels = tuple(range(1, maps.ndim))
    total = maps.sum(axis=voxels, dtype=np.float64)
    within = np.where(inside, maps, 0).sum(axis=voxels, dtype=np.float64)
    share = np.divide(within, total, out=np.zeros_like(total), where=total > 0)
    return np.where(inside.any(axis=voxels), share, np.nan)


def iou(heat: ArrayLike, mask: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union of the mask and as many of the hottest voxels as the mask has.

    Voxels without heat are never taken. Where the last places are shared by equally hot voxels, each counts for the
    same fraction.

    Args:
        heat: (n, i, j[, k]), 0 or above.
        mask: (n, i, j[, k]), inside where it is not 0.

    Returns:
        (n,) float64 from 0 to 1; NaN where the mask is empty, 0 where there is no heat.

    Raises:
        ValueError: shapes that differ, NaN or negative heat.
    """
    maps, inside = _pair(heat, mask)
    result = np.full(len(maps), np.nan)
    for case, (one, place) in enumerate(zip(maps, inside, strict=True)):
        area = int(place.sum())
        if area == 0:
            continue
        threshold = np.partition(one, one.size - area, axis=None)[one.size - area]
        above = one > threshold
        shared = (one == threshold) & (one > 0)
        fraction = min(1.0, (area - above.sum()) / max(1, shared.sum()))
        taken = above.sum() + fraction * shared.sum()
        both = (above & place).sum() + fraction * (shared & place).sum()
        result[case] = both / (area + taken - both)
    return result


def pixel_auprc(heat: ArrayLike, mask: ArrayLike) -> NDArray[np.float64]:
    """Area below the precision-recall curve of the voxels, ranked by heat: average precision, 1 is best.

    Chance is the mask's share of the image; a map that is the same everywhere scores exactly that.

    Args:
        heat: (n, i, j[, k]), 0 or above.
        mask: (n, i, j[, k]), inside where it is not 0.

    Returns:
        (n,) float64 from 0 to 1; NaN where the mask is empty, 0 where there is no heat.

    Raises:
        ValueError: shapes that differ, NaN or negative heat.

    Source: Arun et al., "Assessing the trustworthiness of saliency maps for localizing abnormalities in medical
    imaging", Radiology: Artificial Intelligence 2021, who compare maps by this area.
    """
    from sklearn.metrics import average_precision_score

    maps, inside = _pair(heat, mask)
    result = np.full(len(maps), np.nan)
    for case, (one, place) in enumerate(zip(maps, inside, strict=True)):
        if place.any():
            result[case] = average_precision_score(place.ravel(), one.ravel()) if one.any() else 0.0
    return result


def check_heat(heat: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """``heat`` as float32.

    Raises:
        ValueError: it has another shape, or it holds NaN, infinity or numbers below 0.
    """
    maps = np.asarray(heat, np.float32)
    if maps.shape != tuple(shape):
        raise ValueError(f"Expected heat maps of shape {tuple(shape)}. Received {maps.shape}.")
    if not np.isfinite(maps).all() or (maps < 0).any():
        raise ValueError("Expected heat of 0 or above. Received NaN, infinity or numbers below 0.")
    return maps


def _pair(heat: ArrayLike, mask: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    inside = np.asarray(mask)
    if inside.ndim not in (3, 4):
        raise ValueError(f"Expected masks of shape (n, i, j[, k]). Received {inside.shape}.")
    if inside.dtype.kind == "f" and np.isnan(inside).any():
        raise ValueError("Expected masks of 0 and above. Received NaN.")
    return check_heat(heat, inside.shape), inside != 0
