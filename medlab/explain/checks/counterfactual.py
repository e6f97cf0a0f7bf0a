"""Counterfactual: the same case without its finding; what of the answer and of the map is left.

In: a model, cases with a finding and the same cases with healthy truth in its place, such as ``Cases.twins`` of a
phantom. Out: numbers a case. It changes no image itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from medlab.backend import keras
from medlab.explain.asking.inputs import replaced
from medlab.explain.asking.question import Question
from medlab.explain.asking.targets import Target
from medlab.explain.maps import cam

Array = NDArray[np.float32]


def healthy_counterfactual(
    model: keras.Model,
    x: ArrayLike,
    healthy: ArrayLike,
    *,
    method: Callable[..., Array] = cam.grad_cam,
    target: Target = None,
    masks: ArrayLike | None = None,
    batch_size: int | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Whether answer and map follow the finding: both are asked again for the same case without it.

    A covered patch is an image that no scanner makes. The healthy twin of a phantom is one: the same patient and the
    same noise, without the lesion. What a model says of both differs by the lesion alone, and a map that explains the
    answer has to leave the place.

    Args:
        model: a built Keras model; not changed.
        x: (n, i, j[, k], c) images with a finding, standardized as the model expects.
        healthy: the same cases without it, of the same shape.
        method: a function (model, x, *, target, ...) that returns heat maps.
        target: class index, (n,) of them, None for the class predicted for ``x`` (asked of both images), or a function
            of the output.
        masks: (n, i, j[, k]) the finding, inside where not 0. None: where the two images differ by at least half of
            their largest difference.
        batch_size: cases at a time; by default at most 64, fewer of large images.
        **options: of ``method``, such as ``layer``.

    Returns:
        One row a case, with the columns

        - ``score``, ``score_healthy``: for the target, before sigmoid or softmax; ``fall``: their difference;
        - ``inside``, ``inside_healthy``: share of the map's sum within the finding, NaN where a map is 0 everywhere;
        - ``left``: heat within the finding in the twin's map by that in the case's: 0 where the map left the place, 1
          where it stayed; NaN where there was none;
        - ``alike``: how alike the two maps are, cosine of the angle between them, NaN where one is 0 everywhere. 1: the
          map does not see that the finding is gone.

        A row whose images are the same, or whose mask is empty, has NaN in ``inside``, ``inside_healthy``, ``left``.

    Raises:
        ValueError: images or masks of another shape, or as ``method``.
    """
    question = Question(model, x, target, batch_size=batch_size)
    images = question.images
    twins = np.asarray(healthy)
    if twins.shape != images.shape:
        raise ValueError(f"Expected healthy images of shape {images.shape}. Received {twins.shape}.")
    if masks is not None and np.shape(masks) != images.shape[:-1]:
        raise ValueError(f"Expected masks of shape {images.shape[:-1]}. Received {np.shape(masks)}.")
    columns = ["score", "score_healthy", "fall", "inside", "inside_healthy", "left", "alike"]
    if not len(images):
        return pd.DataFrame(np.zeros((0, len(columns))), columns=columns)
    twins = twins.astype(np.float32)
    if not np.isfinite(twins).all():
        raise ValueError("Expected finite images. Received healthy images with NaN or infinity.")
    asked = {"target": question.target, "batch_size": batch_size, **options}
    others = twins if not question.others else replaced(model, x, twins)
    maps = [method(model, batch, **asked).reshape(len(images), -1).astype(np.float64) for batch in (x, others)]
    with_it, without = (
        np.concatenate([question.answers(one[part], part) for part in question.parts()]) for one in (images, twins)
    )
    finding = _finding(images, twins) if masks is None else np.asarray(masks) != 0
    finding = finding.reshape(len(images), -1)
    empty = ~finding.any(axis=1)
    within = [np.where(finding, heat, 0).sum(axis=1) for heat in maps]
    inside = [np.where(empty, np.nan, _share(one, heat.sum(axis=1))) for one, heat in zip(within, maps, strict=True)]
    length = np.sqrt((maps[0] ** 2).sum(axis=1) * (maps[1] ** 2).sum(axis=1))
    return pd.DataFrame(
        {
            "score": with_it,
            "score_healthy": without,
            "fall": with_it - without,
            "inside": inside[0],
            "inside_healthy": inside[1],
            "left": np.where(empty, np.nan, _share(within[1], within[0])),
            "alike": _share((maps[0] * maps[1]).sum(axis=1), length),
        },
        columns=columns,
    )


def _finding(images: Array, twins: Array) -> NDArray[np.bool_]:
    """(n, i, j[, k]) where two images differ by half of their largest difference or more; nowhere if they are equal."""
    differ = np.abs(images - twins).max(axis=-1)
    most = differ.max(axis=tuple(range(1, differ.ndim)), keepdims=True)
    return (differ >= most / 2) & (most > 0)


def _share(part: NDArray, whole: NDArray) -> NDArray[np.float64]:
    """The part by the whole, NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
