"""Alike: how much two heat maps of the same image have in common.

In: two arrays of heat maps (n, i, j[, k]). Out: one number a case, 1 for the same map. It knows no models.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.explain.checks.localize import check_heat

Measure = Literal["rank", "ssim"]


def repeatability(maps_a: ArrayLike, maps_b: ArrayLike, *, measure: Measure = "ssim") -> NDArray[np.float64]:
    """How alike the maps of two models are, 1 for the same: of two seeds (of two architectures: reproducibility).

    Structural similarity counts the empty background of both maps as alike, so sparse maps score high; compare with
    maps of different cases. Spearman's correlation does not.

    Args:
        maps_a: (n, i, j[, k]) heat of the first model, 0 or above.
        maps_b: of the second model, for the same images.
        measure: ``"ssim"``, structural similarity of the maps divided by their maximum, in windows of 7 voxels (fewer
            in a smaller image); or ``"rank"``, Spearman's correlation of the voxels.

    Returns:
        (n,) float64, at most 1; NaN where both maps are constant (for ``"ssim"``: without heat), 0 where one is.

    Raises:
        ValueError: shapes that differ, NaN or negative heat, or an unknown measure.

    Source: Arun et al., "Assessing the trustworthiness of saliency maps for localizing abnormalities in medical
    imaging", Radiology: Artificial Intelligence 2021; Wang et al., "Image quality assessment", IEEE Transactions on
    Image Processing 2004.
    """
    first = check_heat(maps_a, np.shape(maps_a))
    if first.ndim not in (3, 4):
        raise ValueError(f"Expected heat maps of shape (n, i, j[, k]). Received {first.shape}.")
    second = check_heat(maps_b, first.shape)
    result = likeness(first, second, measure)
    if measure == "rank":
        return np.where(_constant(first) & ~_constant(second), 0.0, result)
    return np.where(_empty(first) & ~_empty(second), 0.0, result)


def likeness(map_of_model: ArrayLike, other: ArrayLike, measure: Measure = "rank") -> NDArray[np.float64]:
    """As :func:`repeatability`, but undefined (NaN) wherever the first map is constant: it has nothing to change."""
    first, second = (np.asarray(maps, np.float32) for maps in (map_of_model, other))
    if measure == "rank":
        return _rank_correlation(first, second)
    if measure == "ssim":
        return _structural_similarity(first, second)
    raise ValueError(f'Expected measure "ssim" or "rank". Received {measure!r}.')


def _rank_correlation(a: NDArray, b: NDArray) -> NDArray[np.float64]:
    """(n,) Spearman correlation of the maps; NaN where ``a`` is constant, 0 where only ``b`` is."""
    from scipy import stats

    result = np.zeros(len(a))
    for case, pair in enumerate(zip(a, b, strict=True)):
        one, other = (stats.rankdata(heat) - (heat.size + 1) / 2 for heat in pair)
        length = np.sqrt((one**2).sum() * (other**2).sum())
        result[case] = (one * other).sum() / length if length > 0 else 0.0
    return np.where(_constant(a), np.nan, result)


def _structural_similarity(a: NDArray, b: NDArray) -> NDArray[np.float64]:
    """(n,) structural similarity of the maps over their maxima; NaN where ``a`` has no heat, 0 where only ``b`` has."""
    from skimage.metrics import structural_similarity

    window = min(7, *a.shape[1:])
    window -= window % 2 == 0
    result = np.zeros(len(a))
    for case, pair in enumerate(zip(a, b, strict=True)):
        if all(heat.any() for heat in pair):
            one, other = (heat / np.abs(heat).max() for heat in pair)
            result[case] = structural_similarity(
                one, other, data_range=1.0, win_size=window, use_sample_covariance=False
            )
    return np.where(_empty(a), np.nan, result)


def _constant(maps: NDArray) -> NDArray[np.bool_]:
    axes = tuple(range(1, maps.ndim))
    return maps.max(axis=axes, initial=-np.inf) == maps.min(axis=axes, initial=np.inf)


def _empty(maps: NDArray) -> NDArray[np.bool_]:
    return ~maps.any(axis=tuple(range(1, maps.ndim)))
