"""Integrated gradients: the score's rise on the way from a baseline to the image, shared out among the voxels.

In: any Keras model, images (n, i, j[, k], c), a baseline and a path. Out: heat maps (n, i, j[, k]) that add up to the
rise, and how nearly they do.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.backend import keras
from medlab.explain.asking.question import Question
from medlab.explain.asking.targets import Target
from medlab.explain.maps import baselines, copies
from medlab.explain.maps.attribution import Sign, sign_rule
from medlab.explain.maps.baselines import Baseline

Array = NDArray[np.float32]
Indices = NDArray[np.intp]
Path = Literal["straight"] | Callable[[Array, Array, float], ArrayLike]


class CompletenessWarning(UserWarning):
    """Maps of integrated gradients do not add up to the rise of the score."""


def integrated_gradients(
    model: keras.Model,
    x: ArrayLike,
    *,
    target: Target = None,
    steps: int = 32,
    baseline: Baseline = 0.0,
    path: Path = "straight",
    tolerance: float | None = None,
    sign: Sign = "positive",
    batch_size: int | None = None,
    progress: bool | None = None,
) -> Array:
    """The score's gradient on the way from a baseline to the image, times the way.

    With ``sign="both"`` a map sums to score(x) - score(baseline), up to the error of ``steps``: it is complete.
    :func:`completeness` says how far a map is from that, and ``tolerance`` takes more steps where it is too far.

    Args:
        model: a built Keras model; not changed.
        x: (n, i, j[, k], c) images, standardized as the model expects; several inputs: :class:`medlab.explain.Inputs`.
        target: class index, (n,) of them, None for the class predicted for ``x``, or a function of the output.
        steps: points on the way, by the midpoint rule; at least 1. All steps of a case run in common batches.
        baseline: what stands for "nothing there": a number or an array that broadcasts to ``x``; ``"mean"``, the
            image's own mean; ``"blur"``, the image blurred by a 16th of its sides; or (b, 1, i, j[, k], c), b images
            such as healthy cases, whose maps are averaged (expected gradients; b times the work).
        path: ``"straight"``, or a function (start, image, share) of one case, (i, j[, k], c) each, that returns the
            image at that share of the way: ``start`` at 0, ``image`` at 1.
        tolerance: share of the rise of the score that a map may miss, such as 0.01. Cases that miss more get 4 and
            then 16 times the steps; a :class:`CompletenessWarning` says how many still miss more. None takes ``steps``
            for all.
        sign: as :func:`medlab.explain.maps.attribution.input_times_gradient`.
        batch_size: images at a time; by default at most 64, fewer of large images.
        progress: shows a progress bar; None does so when it takes long and a person looks on.

    Returns:
        (n, i, j[, k]) float32 in units of the score; 0 or above unless ``sign="both"``. An image that equals its
        baseline has a map of 0.

    Raises:
        ValueError: as :func:`medlab.explain.maps.attribution.saliency`, an unknown ``sign``, ``steps`` below 1, a
            tolerance that is not above 0, a baseline that does not fit, or a path that does not lead from the baseline
            to the image.

    Source: Sundararajan et al., "Axiomatic attribution for deep networks", ICML 2017, eq. 3;
    several baselines: Erion et al., "Improving performance of deep learning models with axiomatic attribution
    priors and expected gradients", Nature Machine Intelligence 2021.
    """
    keep = sign_rule(sign)
    copies.check_count(steps, 1, "at least 1 step")
    if tolerance is not None and not tolerance > 0:
        raise ValueError(f"Expected a tolerance above 0 or None. Received {tolerance}.")
    question = Question(model, x, target, batch_size=batch_size)
    starts = baselines.several(question.images, baseline)
    if path != "straight":
        _check_path(path, starts, question.images)
    heat = np.zeros((len(question), *question.size), np.float32)
    missing = np.arange(len(question))
    for more in (1, 4, 16):
        heat[missing] = _integrated(question, missing, starts, path, steps * more, progress)
        if tolerance is None or len(missing) == 0:
            break
        missing = missing[_gaps(question, missing, heat[missing], starts) > tolerance]
    if tolerance is not None and len(missing):
        warnings.warn(
            f"{len(missing)} of {len(question)} maps miss more than {tolerance:g} of the rise of their score after "
            f"{steps * more} steps. Give more `steps`, or a baseline from which the score rises.",
            CompletenessWarning,
            stacklevel=2,
        )
    return keep(heat)


def completeness(
    model: keras.Model,
    x: ArrayLike,
    heat: ArrayLike,
    *,
    target: Target = None,
    baseline: Baseline = 0.0,
    batch_size: int | None = None,
) -> NDArray[np.float64]:
    """How far maps are from adding up to the rise of the score: |sum(heat) - rise| / |rise|, 0 is best.

    Args:
        model: a built Keras model; not changed.
        x: (n, i, j[, k], c) images, standardized as the model expects; several inputs: :class:`medlab.explain.Inputs`.
        heat: (n, i, j[, k]) maps with their signs, made with ``sign="both"``.
        target: as the maps were made with.
        baseline: as the maps were made with.
        batch_size: cases at a time; by default at most 64, fewer of large images.

    Returns:
        (n,) share of the rise score(x) - score(baseline), over several baselines their mean; at most 0.01 is usual
        for a good number of steps. 0 where map and rise are both 0, infinite where the rise alone is 0.

    Raises:
        ValueError: as :func:`integrated_gradients`, or maps of another shape or with NaN.

    Source: Sundararajan et al., "Axiomatic attribution for deep networks", ICML 2017, proposition 1.
    """
    question = Question(model, x, target, batch_size=batch_size)
    maps = np.asarray(heat, np.float64)
    if maps.shape != (len(question), *question.size):
        raise ValueError(f"Expected heat of shape {(len(question), *question.size)}. Received {maps.shape}.")
    if not np.isfinite(maps).all():
        raise ValueError("Expected finite heat. Received maps with NaN or infinity.")
    return _gaps(question, np.arange(len(question)), maps, baselines.several(question.images, baseline))


def _integrated(
    question: Question, cases: Indices, starts: Array, path: Path, steps: int, progress: bool | None
) -> Array:
    """The signed maps of some cases, over all their baselines."""
    point, way = _straight(steps) if path == "straight" else _along(path, steps)
    heat = np.zeros((len(question), *question.size), np.float32)
    rounds = copies.rounds(question, len(starts) * steps, what="integrated gradients", progress=progress, chosen=cases)
    for case, copy, count in rounds:
        start, image, step = starts[copy // steps, case], question.images[case], copy % steps
        slope = question.slope(point(start, image, step), case)
        copies.gather(heat, case[:count], (way(start, image, step) * slope)[:count].sum(axis=-1))
    return heat[cases] / len(starts)


def _gaps(question: Question, cases: Indices, maps: NDArray[np.floating], starts: Array) -> NDArray[np.float64]:
    """As :func:`completeness`, of the maps of some cases."""
    rise = np.zeros(len(question))
    for case, copy, count in copies.rounds(
        question, 1 + len(starts), what="completeness", progress=False, chosen=cases
    ):
        own = (copy == 0).reshape(-1, *[1] * (question.images.ndim - 1))
        images = np.where(own, question.images[case], starts[np.maximum(copy - 1, 0), case])
        answers = question.answers(images, case) * np.where(copy == 0, 1.0, -1 / len(starts))
        copies.gather(rise, case[:count], answers[:count])
    rise = rise[cases]
    gap = np.abs(maps.reshape(len(maps), math.prod(question.size)).sum(axis=1, dtype=np.float64) - rise)
    return np.divide(gap, np.abs(rise), out=np.where(gap > 0, np.inf, 0.0), where=rise != 0)


def _straight(steps: int) -> tuple[Callable[..., Array], Callable[..., Array]]:
    """The points in the middle of the steps of many cases, and how far each step goes, on the straight way."""

    def point(start: Array, image: Array, step: NDArray[np.intp]) -> Array:
        share = ((step + 0.5) / steps).astype(np.float32).reshape(-1, *[1] * (image.ndim - 1))
        return start + share * (image - start)

    return point, lambda start, image, _: (image - start) / np.float32(steps)


def _along(path: Callable[..., ArrayLike], steps: int) -> tuple[Callable[..., Array], Callable[..., Array]]:
    """As :func:`_straight`, along a path of the user's."""

    def at(start: Array, image: Array, shares: NDArray[np.float64]) -> Array:
        found = [path(*ends, float(share)) for *ends, share in zip(start, image, shares, strict=True)]
        return np.asarray(found, np.float32)

    return (
        lambda start, image, step: at(start, image, (step + 0.5) / steps),
        lambda start, image, step: at(start, image, (step + 1) / steps) - at(start, image, step / steps),
    )


def _check_path(path: Path, starts: Array, images: Array) -> None:
    """Raises ValueError unless ``path`` leads from the first baseline to the first image."""
    if not callable(path):
        raise ValueError(f'Expected as path "straight" or a function (start, image, share). Received {path!r}.')
    if len(images):
        start, image = starts[0, 0], images[0]
        for share, end, name in ((0.0, start, "baseline"), (1.0, image, "image")):
            found = np.asarray(path(start, image, share), np.float32)
            if found.shape != end.shape or not np.allclose(found, end, rtol=1e-3, atol=1e-3 * np.ptp(image) + 1e-6):
                raise ValueError(
                    f"Expected a path that is the {name} at share {share:g}. Received another image, of shape "
                    f"{found.shape}: give what the path starts from as `baseline`."
                )
