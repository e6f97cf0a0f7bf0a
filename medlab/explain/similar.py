"""Similar: cases that look alike to a model, as an explanation by example.

In: any Keras model, cases and a library of cases. Out: for each case its nearest neighbors in the features of a layer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.backend import keras
from medlab.explain.asking.inputs import given, parts_of
from medlab.explain.asking.inside import named, replaced, watch
from medlab.explain.asking.network import Network

Array = NDArray[np.float32]

_IDLE = re.compile("Dropout|Noise")  # not at work outside training
METRICS = ("cosine", "euclidean")
_ROWS = 1024  # distances at a time


@dataclass(frozen=True, eq=False)
class Similar:
    """The nearest cases of a library.

    Attributes:
        indices: (n, k) numbers in the library, nearest first; -1 where there is no further case.
        distances: (n, k) to them; NaN where there is none. Cosine: 0 (same direction) to 2; euclidean: 0 or above.
        layer: where the features were taken.
        metric: ``"cosine"`` or ``"euclidean"``.
    """

    indices: NDArray[np.intp]
    distances: Array
    layer: str
    metric: str


def similar_cases(
    model: keras.Model,
    x: ArrayLike,
    library: ArrayLike | None = None,
    *,
    k: int = 5,
    layer: str | None = None,
    metric: str = "cosine",
    groups: ArrayLike | None = None,
    library_groups: ArrayLike | None = None,
    batch_size: int | None = None,
) -> Similar:
    """The cases of a library that lie nearest to each case in what a layer of the model makes of them.

    Args:
        model: a built Keras model; not changed.
        x: (n, i, j[, k], c) images, standardized as the model expects.
        library: (m, i, j[, k], c), such as the training set. None: the other cases of ``x``.
        k: number of neighbors.
        layer: as :func:`features` takes it.
        metric: ``"cosine"``, the angle alone, or ``"euclidean"``.
        groups: (n,) patients of ``x``. No case of the same patient is given: it is alike for reasons of its own.
        library_groups: (m,) patients of the library; needed with ``groups`` where there is a library.
        batch_size: cases at a time; by default at most 64, fewer of large images.

    Returns:
        Never the case itself where ``library`` is None. Equal distances keep the library's order.

    Raises:
        ValueError: ``k`` outside 1 to the size of the library, an unknown metric, groups of another number or for one
            side alone, or as :func:`features`.
    """
    if metric not in METRICS:
        raise ValueError(f"Expected a metric of {', '.join(METRICS)}. Received {metric!r}.")
    name = feature_layer(model, x, layer)
    mine = features(model, x, layer=name, batch_size=batch_size)
    theirs = mine if library is None else features(model, library, layer=name, batch_size=batch_size)
    most = len(theirs) - (library is None)
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= max(most, 1):
        raise ValueError(f"Expected k from 1 to {max(most, 1)} neighbors. Received {k!r}.")
    of_mine = _groups(groups, len(mine), "groups")
    of_theirs = of_mine if library is None else _groups(library_groups, len(theirs), "library_groups")
    if (of_mine is None) != (of_theirs is None):
        raise ValueError("Expected groups of both the cases and the library, or of neither. Received one of them.")
    indices = np.full((len(mine), k), -1, np.intp)
    distances = np.full((len(mine), k), np.nan, np.float32)
    for start in range(0, len(mine), _ROWS):
        rows = np.arange(start, min(start + _ROWS, len(mine)))
        between = _distances(mine[rows], theirs, metric)
        if library is None:
            between[np.arange(len(rows)), rows] = np.inf
        if of_mine is not None:
            between[of_mine[rows][:, None] == of_theirs[None]] = np.inf
        order = np.argsort(between, axis=1, kind="stable")[:, :k]
        nearest = np.take_along_axis(between, order, axis=1)
        there = np.isfinite(nearest)
        indices[rows, : order.shape[1]] = np.where(there, order, -1)
        distances[rows, : order.shape[1]] = np.where(there, nearest, np.nan)
    return Similar(indices, distances, name, metric)


def features(model: keras.Model, x: ArrayLike, *, layer: str | None = None, batch_size: int | None = None) -> Array:
    """What a layer makes of each image, as one vector: (n, d) float32, the mean over positions.

    Args:
        model: a built Keras model; not changed.
        x: (n, i, j[, k], c) images, standardized as the model expects.
        layer: name of a layer, ``"backbone/conv5"`` where it lies inside another; None: the last vector before the last
            layer with weights (``features`` in the networks of :mod:`medlab.models`).
        batch_size: cases at a time; by default at most 64, fewer of large images.

    Raises:
        ValueError: an unknown layer, one whose output is no array with the cases along its first axis, or unusable
            images.
    """
    cases = given(model, x)
    images, others = cases.images, cases.others
    name = feature_layer(model, x, layer)
    if not len(images):
        return np.zeros((0, 0), np.float32)
    network = Network.of(model, cases)
    inner = dict(named(model))[name]

    def run(x: Any, *others: Any) -> tuple[Any]:
        seen: list[Any] = []
        with replaced({inner: _noting(seen)}):
            network(x, others)
        output = seen[-1]
        # A network of slices runs n * k images: their mean is the volume's.
        wide = keras.ops.reshape(output, (keras.ops.shape(x)[0], -1, output.shape[-1]))
        return (keras.ops.mean(keras.ops.cast(wide, "float32"), axis=1),)

    program = network._program(("vectors", name), run)
    return np.concatenate(
        [program(images[part], *(one[part] for one in others))[0] for part in parts_of(images, batch_size)]
    )


def feature_layer(model: keras.Model, x: Any, layer: str | None = None) -> str:
    """The path of the layer where :func:`features` are taken."""
    cases = given(model, x)
    paths = {path: inner for path, inner in named(model) if not isinstance(inner, keras.Model)}
    if layer is not None and layer not in paths:
        raise ValueError(f"There is no layer {layer!r}. There are: {', '.join(paths)}.")
    example = tuple(
        keras.ops.convert_to_tensor(one[:1] if len(one) else np.zeros((1, *one.shape[1:]), one.dtype))
        for one in (cases.images, *cases.others)
    )
    calls, _ = watch(model, cases.arranged(example[0], example[1:]))
    if layer is not None:
        shapes = [call.shape for call in calls if call.path == layer]
        if not shapes or len(shapes[-1]) < 2:
            raise ValueError(
                f"Expected a layer that makes an array a case. Layer {layer!r} makes none or does not run."
            )
        return layer
    weighted = [number for number, call in enumerate(calls) if getattr(call.layer, "weights", None)]
    before = [
        call for call in calls[: weighted[-1] if weighted else None] if not _IDLE.search(type(call.layer).__name__)
    ]
    vectors = [call.path for call in before if len(call.shape) == 2 and call.shape[0] == 1]
    arrays = [call.path for call in before if len(call.shape) > 2]
    if not vectors and not arrays:
        raise ValueError(f"Expected a model with features before its last layer. {model.name!r} has none.")
    return vectors[-1] if vectors else arrays[-1]


def _noting(seen: list[Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def note(call: Callable[..., Any]) -> Callable[..., Any]:
        def noted_call(*args: Any, **kwargs: Any) -> Any:
            seen.append(call(*args, **kwargs))
            return seen[-1]

        return noted_call

    return note


def _distances(a: Array, b: Array, metric: str) -> NDArray[np.float64]:
    from sklearn.metrics import pairwise_distances

    return pairwise_distances(a.astype(np.float64), b.astype(np.float64), metric=metric)


def _groups(groups: ArrayLike | None, n: int, what: str) -> NDArray | None:
    if groups is None:
        return None
    found = np.asarray(groups)
    if found.shape != (n,):
        raise ValueError(f"Expected {what} of shape ({n},). Received {found.shape}.")
    return found
