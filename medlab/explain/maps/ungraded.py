"""Class activation maps without gradients: by what the model answers to masked images, and by the features alone.

In: any Keras model and images (n, i, j[, k], c). Out: heat maps (n, i, j[, k]) float32, 0 or above.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.backend import keras
from medlab.explain.asking.inputs import parts_of
from medlab.explain.asking.question import Question
from medlab.explain.asking.targets import Target
from medlab.explain.asking.waiting import bar
from medlab.explain.maps.baselines import Baseline, one
from medlab.explain.maps.cam import chosen, fuse, upsample

Array = NDArray[np.float32]


def score_cam(
    model: keras.Model,
    x: ArrayLike,
    *,
    target: Target = None,
    layer: str | Sequence[str] | None = None,
    channels: int | None = None,
    weights: Literal["increase", "probability"] = "increase",
    baseline: Baseline = 0.0,
    batch_size: int | None = None,
    progress: bool | None = None,
) -> Array:
    """Score-CAM: ReLU of the feature maps, each weighted by what the model says of the image seen through it.

    A feature map is brought to the image's size and to 0 to 1 and blends from the baseline to the image. It takes one
    forward pass a channel and case; no gradient. A feature map that is the same everywhere has no weight.

    Args:
        model: a built Keras model; not changed.
        x: (n, i, j[, k], c) images, standardized as the model expects.
        target: class index, (n,) of them, None for the class predicted for ``x``, or a function of the output.
        layer: as :func:`medlab.explain.grad_cam`.
        channels: only the so many channels of a case that vary most over its positions; None for all.
        weights: ``"increase"``: the target's probability above that of the baseline alone, negative for channels that
            speak against it; ``"probability"``: the probability itself, as in the authors' program.
        baseline: what is seen where a feature map is lowest, a number, an array that broadcasts to ``x``,
            ``"mean"`` or ``"blur"``.
        batch_size: masked images at a time; by default at most 64, fewer of large images.
        progress: whether a progress bar is shown; None: where somebody looks and it takes longer than 3 seconds.

    Returns:
        (n, i, j[, k]) float32, 0 or above, not normalized.

    Raises:
        ValueError: as :func:`medlab.explain.grad_cam`, an unknown ``weights``, ``channels`` below 1, or a baseline that
            does not fit.

    Source: Wang et al., "Score-CAM", CVPR workshops 2020, eq. 6 and algorithm 1.
    """
    if weights not in ("increase", "probability"):
        raise ValueError(f'Expected weights "increase" or "probability". Received {weights!r}.')
    if channels is not None and channels < 1:
        raise ValueError(f"Expected at least 1 channel. Received {channels}.")
    question = Question(model, x, target, batch_size=batch_size)
    start = one(question.images, baseline)
    heat = np.zeros((len(question), *question.size), np.float32)
    if len(question) == 0:
        return heat
    paths, fused = chosen(question, layer)
    nothing = np.zeros(len(question), np.float32)
    if weights == "increase":
        for part in question.parts():
            nothing[part] = question.answers(start[part], part, probability=True)
    work = [(case, path) for case in range(len(question)) for path in paths]
    found: list[Array] = []
    for case, path in bar(work, "Score-CAM", "map", progress):
        features = question.features(path, slice(case, case + 1))[0]
        maps = np.ascontiguousarray(np.moveaxis(features, -1, 0))
        kept = _most_varied(maps, channels)
        answers = [
            question.answers(seen, of, probability=True) for seen, of in _seen(question, start, case, maps[kept])
        ]
        weight = np.concatenate(answers or [nothing[:0]]) - nothing[case]
        summed = np.tensordot(weight, maps[kept], axes=1)
        found.append(upsample(np.maximum(summed, 0)[None], question.size)[0])
        if len(found) == len(paths):
            heat[case] = fuse([each[None] for each in found], fused)[0]
            found = []
    return heat


def eigen_cam(
    model: keras.Model,
    x: ArrayLike,
    *,
    target: Target = None,
    layer: str | Sequence[str] | None = None,
    batch_size: int | None = None,
) -> Array:
    """Eigen-CAM: the feature maps projected on their first principal direction, one number a position.

    It shows where the features of a layer are strong, whatever the class: ``target`` changes nothing. The features are
    not centered, as in the paper; the direction is turned so that the map sums to 0 or above.

    Args:
        model: a built Keras model; not changed.
        x: (n, i, j[, k], c) images, standardized as the model expects.
        target: not used.
        layer: as :func:`medlab.explain.grad_cam`.
        batch_size: cases at a time; by default at most 64, fewer of large images.

    Returns:
        (n, i, j[, k]) float32, 0 or above, not normalized; 0 where all features are.

    Raises:
        ValueError: as :func:`medlab.explain.grad_cam`.

    Source: Muhammad and Yeasin, "Eigen-CAM", IJCNN 2020, section III.
    """
    question = Question(model, x, target, batch_size=batch_size)
    heat = np.zeros((len(question), *question.size), np.float32)
    if len(question) == 0:
        return heat
    paths, fused = chosen(question, layer)
    for part in question.parts():
        maps = [np.stack([_projected(each) for each in question.features(path, part)]) for path in paths]
        heat[part] = fuse([upsample(np.maximum(each, 0), question.size) for each in maps], fused)
    return heat


def _seen(question: Question, start: Array, case: int, maps: Array) -> Iterator[tuple[Array, NDArray[np.intp]]]:
    """Batches of the case seen through each map (channels, a, b[, c]), and for each image whose it is."""
    image, nothing = question.images[case], start[case]
    stand_in = np.broadcast_to(image, (len(maps), *image.shape))
    for part in parts_of(stand_in, question.batch_size):
        masks = upsample(maps[part], question.size)
        axes = tuple(range(1, masks.ndim))
        low, high = masks.min(axis=axes, keepdims=True), masks.max(axis=axes, keepdims=True)
        masks = ((masks - low) / (high - low))[..., None]
        yield nothing + masks * (image - nothing), np.full(len(masks), case)


def _most_varied(maps: Array, channels: int | None) -> NDArray[np.intp]:
    """The channels that vary over positions; of these at most ``channels`` with the largest deviation, in order."""
    flat = maps.reshape(len(maps), -1)
    varied = np.flatnonzero(np.ptp(flat, axis=1) > 0)
    if channels is None or channels >= len(varied):
        return varied
    return np.sort(varied[np.argsort(-flat[varied].std(axis=1), kind="stable")[:channels]])


def _projected(features: Array) -> Array:
    """(a, b[, c]): features (a, b[, c], channels) along the first right singular vector."""
    flat = features.reshape(-1, features.shape[-1]).astype(np.float64)
    _, vectors = np.linalg.eigh(flat.T @ flat if flat.shape[1] <= len(flat) else flat @ flat.T)
    if flat.shape[1] <= len(flat):
        projected = flat @ vectors[:, -1]
    else:
        projected = vectors[:, -1] * np.linalg.norm(flat.T @ vectors[:, -1])
    return (projected if projected.sum() >= 0 else -projected).reshape(features.shape[:-1]).astype(np.float32)
