"""Trust: does an explanation deserve to be believed.

In: a Keras model, images (n, i, j[, k], c), masks where there are some, and methods that make heat maps. Out: one
number a case, or a table of methods and scores with intervals, between a floor (chance, edges) and a ceiling (the
masks themselves).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage, stats

from medlab.backend import keras
from medlab.explain import attribution, cam, curves, localize, perturb
from medlab.explain.network import Network, check_images
from medlab.explain.targets import Target

Method = Callable[..., NDArray[np.float32]]

_METHODS: dict[str, Method] = {
    "grad_cam": cam.grad_cam,
    "grad_cam_plus_plus": cam.grad_cam_plus_plus,
    "hires_cam": cam.hires_cam,
    "layer_cam": cam.layer_cam,
    "saliency": attribution.saliency,
    "input_times_gradient": attribution.input_times_gradient,
    "integrated_gradients": attribution.integrated_gradients,
    "occlusion": perturb.occlusion,
}


class CopyError(ValueError):
    """A model cannot be built again from its configuration."""


def randomization(
    model: keras.Model,
    x: ArrayLike,
    method: Method = cam.grad_cam,
    *,
    target: Target = None,
    seed: int = 0,
    **options: Any,
) -> NDArray[np.float64]:
    """How alike a map and the map of the same network with random weights are: near 0 is good.

    A method whose maps stay the same when the model has forgotten everything does not explain the model. The random
    network is a copy; ``model`` keeps its weights.

    Args:
        model: a built Keras model; not changed.
        x: (n, i, j[, k], c) images, standardized as the model expects.
        method: a function (model, x, *, target, ...) that returns heat maps.
        target: class index, (n,) of them, None for the class that ``model`` predicts (for both networks), or a
            function of the output.
        seed: of the random weights.
        options: handed to ``method``, such as ``layer``.

    Returns:
        (n,) Spearman rank correlation of the two maps, -1 to 1; NaN where the model's own map is constant, 0 where
        only that of the random network is.

    Raises:
        ValueError: as ``method``; CopyError where the model cannot be copied from its configuration.

    Source: Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018, section 3 (independent of order: all
    layers at once).
    """
    images = check_images(model, x)
    if len(images) == 0:
        return np.zeros(0)
    target = Network(model, images).settle(images, target)
    heat = method(model, images, target=target, **options)
    return _rank_correlation(heat, method(forgotten(model, seed), images, target=target, **options))


def forgotten(model: keras.Model, seed: int = 0) -> keras.Model:
    """A copy of ``model`` with weights as before training.

    Matrices and filters are drawn anew (He normal, from ``seed``); vectors such as biases, scales and moving
    statistics get the values that their layers start with.

    Raises:
        CopyError: the model cannot be copied from its configuration.
    """
    try:
        copy = keras.models.clone_model(model)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise CopyError(
            f"{model.name!r} cannot be copied from its configuration (get_config, from_config): {error}"
        ) from error
    if not copy.built:
        raise CopyError(f"The copy of {model.name!r} has no weights: its configuration does not say its input's shape.")
    for number, weight in enumerate(copy.weights):
        if len(weight.shape) >= 2:
            draw = keras.initializers.HeNormal(
                seed=np.random.SeedSequence((seed, number)).generate_state(1).item() >> 1
            )
            weight.assign(draw(weight.shape, dtype=weight.dtype))
    return copy


def score(
    model: keras.Model,
    x: ArrayLike,
    *,
    methods: Sequence[str | Method] | Mapping[str, Method] = ("grad_cam",),
    masks: ArrayLike | None = None,
    target: Target = None,
    steps: int = 8,
    seed: int = 0,
    n_boot: int = 1000,
    confidence: float = 0.95,
    batch_size: int | None = None,
) -> pd.DataFrame:
    """A table of how well methods explain a model, each score with its interval over cases.

    Scores with masks: ``pointing_game``, ``mass_inside``, ``iou`` (high is good; cases with an empty mask are left
    out). Without: ``deletion`` (low is good), ``insertion`` (high is good), ``randomization`` (near 0 is good).
    Beside the methods stand floors, ``random`` (noise) and ``edges`` (of the image), and with masks a ceiling, the
    ``mask`` itself as a heat map. A method that does not beat ``edges`` explains nothing.

    Args:
        model: a built Keras model; not changed.
        x: (n, i, j[, k], c) images, standardized as the model expects.
        target: class index, (n,) of them, None for the class predicted for ``x``, or a function of the output.
        methods: names of functions of ``medlab.explain`` that make heat maps, or such functions themselves; or a
            mapping of names of your own, such as ``{"early": partial(grad_cam, layer="stage1")}``.
        masks: (n, i, j[, k]) true findings, inside where not 0.
        steps: of the deletion and insertion curves, ``2 * (steps + 1)`` forward passes a case and method; 0 leaves
            them out.
        seed: of noise, random weights and resampling.
        n_boot: resamples of the percentile bootstrap of the mean over cases.
        confidence: of the intervals, between 0 and 1.
        batch_size: cases at a time; by default at most 64, fewer of large images.

    Returns:
        Columns value, low, high, n; rows by (method, score). ``n`` counts the cases where the score is defined; the
        interval is NaN where they are fewer than 2. Where the model cannot be copied, randomization has n = 0.

    Raises:
        ValueError: an unknown method, no case, masks of another shape, nothing to score, or as the methods.
    """
    images = check_images(model, x)
    if len(images) == 0:
        raise ValueError("Expected at least one case. Received none.")
    if not 0 < confidence < 1:
        raise ValueError(f"Expected a confidence between 0 and 1. Received {confidence}.")
    if masks is not None and np.shape(masks) != images.shape[:-1]:
        raise ValueError(f"Expected masks of shape {images.shape[:-1]}. Received {np.shape(masks)}.")
    named = dict(methods) if isinstance(methods, Mapping) else dict(_named(method) for method in methods)
    if not named and masks is None and not steps:
        raise ValueError("Expected methods, masks or steps. Received none of them: there is nothing to score.")
    target = Network(model, images).settle(images, target, batch_size)
    options = {"target": target, "batch_size": batch_size}
    heats = {name: method(model, images, **options) for name, method in named.items()}
    alike = {name: np.full(len(images), np.nan) for name in named}
    with contextlib.suppress(CopyError):  # a subclassed model: its randomization stays undefined, n = 0
        blank = forgotten(model, seed) if named else None
        alike = {name: _rank_correlation(heats[name], named[name](blank, images, **options)) for name in named}
    heats["random"] = np.random.default_rng(seed).random(images.shape[:-1], np.float32)
    heats["edges"] = edges(images)
    if masks is not None:
        heats["mask"] = (np.asarray(masks) != 0).astype(np.float32)
    rows = {}
    for name, heat in heats.items():
        found: dict[str, NDArray[np.float64]] = {}
        if masks is not None:
            found |= {rule.__name__: rule(heat, masks) for rule in _RULES}
        if steps:
            options_of_curve = {**options, "steps": steps, "seed": seed}
            found["deletion"] = curves.deletion(model, images, heat, **options_of_curve).auc
            found["insertion"] = curves.insertion(model, images, heat, **options_of_curve).auc
        if name in alike:
            found["randomization"] = alike[name]
        rows |= {(name, title): _mean_with_interval(value, seed, n_boot, confidence) for title, value in found.items()}
    index = pd.MultiIndex.from_tuples(rows, names=["method", "score"])
    return pd.DataFrame(list(rows.values()), index=index, columns=["value", "low", "high", "n"]).astype({"n": int})


def edges(x: ArrayLike) -> NDArray[np.float32]:
    """How strong the edges of the images are: (n, i, j[, k]) length of the Gaussian gradient, sigma 1 voxel.

    A heat map that anyone can draw without the model; sums over the channels of ``x`` (n, i, j[, k], c).
    """
    images = np.asarray(x, np.float32)
    result = np.zeros(images.shape[:-1], np.float32)
    for case, channel in np.ndindex(len(images), images.shape[-1]):
        result[case] += ndimage.gaussian_gradient_magnitude(images[case, ..., channel], 1.0, mode="nearest")
    return result


_RULES = (localize.pointing_game, localize.mass_inside, localize.iou)


def _named(method: str | Method) -> tuple[str, Method]:
    if callable(method):
        return getattr(method, "__name__", repr(method)), method
    if method not in _METHODS:
        raise ValueError(f"There is no method {method!r}. There are: {', '.join(_METHODS)}.")
    return method, _METHODS[method]


def _rank_correlation(a: NDArray, b: NDArray) -> NDArray[np.float64]:
    """(n,) Spearman correlation of the maps ``a`` and ``b``; see :func:`randomization` for constant maps."""
    ranks = [stats.rankdata(maps.reshape(len(maps), -1), axis=1) for maps in (a, b)]
    one, other = (rank - rank.mean(axis=1, keepdims=True) for rank in ranks)
    length = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    result = np.divide((one * other).sum(axis=1), length, out=np.zeros(len(a)), where=length > 0)
    return np.where((one**2).sum(axis=1) > 0, result, np.nan)


def _mean_with_interval(
    values: NDArray[np.float64], seed: int, n_boot: int, confidence: float
) -> tuple[float, float, float, int]:
    """Mean, low and high of the defined values by the percentile bootstrap over cases, and their number."""
    known = values[~np.isnan(values)]
    if len(known) == 0:
        return np.nan, np.nan, np.nan, 0
    if len(known) == 1:
        return float(known[0]), np.nan, np.nan, 1
    generator = np.random.default_rng(seed)
    means = [known[generator.integers(len(known), size=len(known))].mean() for _ in range(n_boot)]
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(known.mean()), float(low), float(high), len(known)
