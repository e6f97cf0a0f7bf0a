"""Inverse: a prediction made on a standardized grid, put back on the grid of the image that it was made for.

In: a prediction whose affine says where its voxels lie, the original image. Out: the prediction voxel by voxel beside
the original. Each spatial step keeps world positions, so that no list of steps has to be undone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medlab.standardize.space import interpolate, steps_between
from medlab.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray


def restore(prediction: Volume, original: Volume, *, fill: float | Sequence[float] | None = None) -> Volume:
    """The prediction on the grid of ``original``: the inverse of orient, crop, pad, resample and resize, all at once.

    Args:
        prediction: labels, or an image of probabilities, heat or the like (i, j[, k][, c]), with the affine of the
            standardized image; :meth:`Recipe.inverse` takes a bare array.
        original: the image or labels as they were before standardization.
        fill: value where the prediction does not reach, such as what was cropped away; one number or one a channel. By
            default background: 0, and for channels that sum to 1 everywhere, as those of a softmax, 1 in the first.

    Returns:
        A Volume with the original's shape and affine. Labels take the nearest voxel and keep their type: where no
        voxel was resampled (orient, crop_or_pad, crop_to_foreground) each comes back exactly. Probabilities become
        float32, linear between voxels (not smoothed) and sum to what they summed to.

    Raises:
        ValueError: a picture and a volume, a geometry that is only assumed on one side, NaN, or a fill of another
            number of channels.
    """
    step = steps_between(prediction, original)
    fill = background(prediction, fill)
    array = interpolate(prediction, step, original.shape, fill, smooth=False)
    return prediction.replace(array=array, affine=original.affine)


def background(prediction: Volume, fill: float | Sequence[float] | None = None) -> float | Sequence[float]:
    """The value of what a prediction does not reach, one number or one a channel; see :func:`restore`.

    Raises:
        ValueError: a fill of another number of channels.
    """
    if fill is None:
        many = prediction.kind == "image" and prediction.channels > 1
        shares = many and np.allclose(prediction.array.sum(-1, dtype=np.float64), 1, atol=1e-3)
        return [1.0, *[0.0] * (prediction.channels - 1)] if shares else 0
    if np.ndim(fill) and np.shape(fill) != (prediction.channels,):
        raise ValueError(f"Expected one fill or {prediction.channels}, one a channel. Received {fill!r}.")
    return fill


def as_prediction(prediction: Any, grid: Volume) -> Volume:
    """A prediction as a Volume on a grid: whole numbers are labels, fractions an image.

    Raises:
        ValueError: another shape than the grid's.
    """
    if isinstance(prediction, Volume):
        return prediction
    array: NDArray = np.asarray(prediction)
    if array.shape[: grid.rank] != grid.shape or array.ndim - grid.rank not in (0, 1):
        raise ValueError(
            f"Expected a prediction of one case on the grid of the recipe, shape {grid.shape} and perhaps channels. "
            f"Received {array.shape}."
        )
    kind = "image" if array.dtype.kind == "f" else "labels"
    return Volume(array, grid.affine, kind, grid.modality, {**grid.info}, grid.rank)
