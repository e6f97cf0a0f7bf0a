"""Asking: which cases a reader should label next.

In: probabilities, features, or a model with its images, and which cases have a label. Out: numbers of cases, first the
one to ask for first. Nothing is trained here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.label import information, received, spread

METHODS = ("entropy", "margin", "bald", "core_set", "random")


@dataclass(frozen=True, eq=False)
class Next:
    """The cases to label next.

    Attributes:
        indices: (count,) numbers of cases, first the one to ask for first.
        scores: (count,) why, by ``method``; NaN where nothing but chance decided.
        method: how they were found.
        all_scores: (n,) of every case, labeled ones too; None for ``"core_set"`` and ``"random"``.
    """

    indices: NDArray[np.intp]
    scores: NDArray[np.float64]
    method: str
    all_scores: NDArray[np.float64] | None = field(default=None, repr=False)


def next_cases(
    given: Any = None,
    x: ArrayLike | None = None,
    *,
    method: str = "entropy",
    count: int = 10,
    labeled: ArrayLike | None = None,
    features: ArrayLike | None = None,
    draws: int = 20,
    multi_label: bool = False,
    seed: int = 0,
) -> Next:
    """The ``count`` cases without a label that a method asks for first.

    Args:
        given: a Keras model, with ``x``; or its probabilities: (n,) or (n, classes), for ``"bald"`` (draws, n) or
            (draws, n, classes). ``"core_set"`` needs ``features`` or a model; ``"random"`` takes anything with n cases.
        x: (n, i, j[, k], c) images, with a model.
        method: ``"entropy"`` or ``"margin"`` (the model is unsure), ``"bald"`` (its draws contradict each other;
            a model needs Dropout layers), ``"core_set"`` (far from all labeled cases) or ``"random"``, what all others
            have to beat.
        count: how many.
        labeled: numbers of cases that have a label, or (n,) booleans. They are not asked for.
        features: (n, d) for ``"core_set"``; by default :func:`medlab.explain.features` of the model.
        draws: of the model, for ``"bald"``.
        multi_label: probabilities (n, classes) are independent labels.
        seed: of the draws, of chance, and of the order of cases that score alike.

    Raises:
        ValueError: an unknown method, more cases than are left, something missing that the method needs, a model
            without dropout for ``"bald"``, or values that are no probabilities.
    """
    if method not in METHODS:
        raise ValueError(f"Expected method to be one of {METHODS}. Received {method!r}.")
    seed = received.whole_number(seed, 0, "seed")
    if method in ("core_set", "random"):
        return _without_scores(given, x, method, count, labeled, features, seed)
    from medlab import evaluate
    from medlab.label.draws import dropout_draws

    if _is_model(given):
        images = _images(x)
        multi_label = multi_label or given.name.endswith("_multi_label")
        if method == "bald":
            given = dropout_draws(given, images, draws=draws, seed=seed, multi_label=multi_label)
        else:
            given = evaluate.predict(given, images, multi_label=multi_label)
    elif given is None:
        raise ValueError(f'Expected probabilities, or a model and images, for method="{method}". Received neither.')
    if method == "bald" and np.ndim(given) < 2:
        raise ValueError(
            "Expected probabilities of several draws, (draws, n) or (draws, n, classes), or a model and images, for "
            f'method="bald". Received shape {np.shape(given)}.'
        )
    score = {"entropy": information.entropy, "margin": information.margin, "bald": information.bald}[method]
    scores = score(given, multi_label=multi_label)
    known = spread.labeled_mask(labeled, len(scores))
    count = spread.at_most(count, known)
    order = np.random.default_rng(seed).permutation(len(scores))
    order = order[~known[order]]
    chosen = order[np.argsort(-scores[order], kind="stable")][:count]
    return Next(chosen, scores[chosen], method, scores)


def _without_scores(
    given: Any, x: ArrayLike | None, method: str, count: int, labeled: ArrayLike | None, features: Any, seed: int
) -> Next:
    if method == "core_set":
        if features is None:
            if not _is_model(given):
                raise ValueError(
                    'Expected features (n, d), or a model and images, for method="core_set". Received neither; '
                    "explain.features(model, x) gives them."
                )
            from medlab import explain

            features = explain.features(given, _images(x))
        return Next(*spread.core_set(features, count=count, labeled=labeled, seed=seed), method)
    cases = next((one for one in (x, features, None if _is_model(given) else given) if one is not None), None)
    if cases is None or not hasattr(cases, "__len__") or not np.shape(cases):
        raise ValueError(
            f'Expected anything with n cases for method="random", such as images. Received {type(cases).__name__}.'
        )
    known = spread.labeled_mask(labeled, len(cases))
    count = spread.at_most(count, known)
    chosen = np.random.default_rng(seed).permutation(np.flatnonzero(~known))[:count]
    return Next(chosen, np.full(count, np.nan), method)


def _is_model(given: Any) -> bool:
    return callable(given) and hasattr(given, "weights")


def _images(x: ArrayLike | None) -> NDArray:
    if x is None:
        raise ValueError("Expected images x beside the model. Received none.")
    return np.asarray(x)
