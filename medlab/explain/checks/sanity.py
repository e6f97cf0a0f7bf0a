"""Sanity: does a map change when the model forgets what it learned.

In: a Keras model, images (n, i, j[, k], c) and a method that makes heat maps. Out: how alike the maps are before and
after, one number a case; near 0 is good. The model given keeps its weights: copies forget.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.backend import keras
from medlab.explain.asking.inputs import Given, given
from medlab.explain.asking.inside import replaced
from medlab.explain.asking.question import Question
from medlab.explain.asking.targets import Target
from medlab.explain.checks.alike import Measure, likeness
from medlab.explain.maps.methods import Method, find

Scores = NDArray[np.float64]


class CopyError(ValueError):
    """A model cannot be built again from its configuration."""


@dataclass(frozen=True)
class Cascade:
    """How alike a method's maps stay while a model forgets from its output to its input.

    Attributes:
        alike: (n, steps) after each step, 1 for the same map.
        layers: (steps,) for each step the layers that forgot in it with their paths, such as "backbone/conv5", the
            nearest to the output first.
    """

    alike: Scores
    layers: list[list[str]]


def randomization(
    model: keras.Model,
    x: ArrayLike,
    method: str | Method = "grad_cam",
    *,
    target: Target = None,
    seed: int = 0,
    measure: Measure = "rank",
    **options: Any,
) -> Scores:
    """How alike a map and the map of the same network with random weights are: near 0 is good.

    A method whose maps stay the same when the model has forgotten everything does not explain the model. The random
    network is a copy; ``model`` keeps its weights.

    Args:
        model: a built Keras model; not changed.
        x: (n, i, j[, k], c) images, standardized as the model expects.
        method: the name of a method of this room, or a function (model, x, *, target, ...) that returns heat maps.
        target: class index, (n,) of them, None for the class that ``model`` predicts (for both networks), or a
            function of the output.
        seed: of the random weights.
        measure: ``"rank"`` or ``"ssim"``, see :func:`medlab.explain.repeatability`.
        options: handed to ``method``, such as ``layer``.

    Returns:
        (n,) Spearman rank correlation of the two maps, -1 to 1 (or SSIM); NaN where the model's own map is constant,
        0 where only that of the random network is.

    Raises:
        ValueError: as ``method``; CopyError where the model cannot be copied from its configuration.

    Source: Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018, section 3 (independent of order: all
    layers at once).
    """
    method = find(method)
    question = Question(model, x, target)
    if len(question) == 0:
        return np.zeros(0)
    heat = method(model, x, target=question.target, **options)
    return likeness(heat, method(forgotten(model, seed), x, target=question.target, **options), measure)


def cascade(
    model: keras.Model,
    x: ArrayLike,
    method: str | Method = "grad_cam",
    *,
    target: Target = None,
    steps: int = 8,
    seed: int = 0,
    measure: Measure = "rank",
    **options: Any,
) -> Cascade:
    """How alike a map stays while the model's layers forget one after the other, from the output to the input.

    The order is that in which layers run, turned round, inside nested models too; a layer that runs several times
    counts where it runs last. Weights that a model holds beside its layers forget last.

    Args:
        model: a built Keras model; not changed.
        x: (n, i, j[, k], c) images, standardized as the model expects.
        method: as :func:`randomization`.
        target: as :func:`randomization`.
        steps: a model with more layers with weights forgets several of them a step, in groups of nearly equal size.
        seed: of the random weights.
        measure: as :func:`randomization`.
        options: handed to ``method``.

    Returns:
        A :class:`Cascade`; its last step is the whole network with random weights. Undefined as
        :func:`randomization`.

    Raises:
        ValueError: as ``method``, ``steps`` below 1, or no layer with weights; CopyError as :func:`randomization`.

    Source: Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018 (cascading randomization).
    """
    if steps < 1:
        raise ValueError(f"Expected at least 1 step. Received {steps}.")
    method = find(method)
    question = Question(model, x, target)
    copy = copied(model)
    copy.set_weights(model.get_weights())
    named = list(_with_weights(copy, given(model, x)))
    if not named:
        raise ValueError(f"Expected a model with weights to forget. {model.name!r} has none.")
    groups = np.array_split(np.arange(len(named)), min(steps, len(named)))
    layers = [[named[place][0] for place in group] for group in groups]
    alike = np.zeros((len(question), len(groups)))
    if len(question) == 0:
        return Cascade(alike, layers)
    heat = method(model, x, target=question.target, **options)
    blank = {id(weight): value for weight, value in zip(copy.weights, _drawn(copied(model), seed), strict=True)}
    for step, group in enumerate(groups):
        for place in group:
            for weight in named[place][1]:
                weight.assign(blank[id(weight)])
        alike[:, step] = likeness(heat, method(copy, x, target=question.target, **options), measure)
    return Cascade(alike, layers)


def label_randomization(
    model: keras.Model,
    x: ArrayLike,
    method: str | Method = "grad_cam",
    *,
    shuffled: keras.Model | Callable[[NDArray], keras.Model],
    y: ArrayLike | None = None,
    target: Target = None,
    seed: int = 0,
    measure: Measure = "rank",
    **options: Any,
) -> Scores:
    """How alike a map and that of a model trained on shuffled labels are: near 0 is good.

    Such a model has learned the images by heart and nothing about the finding.

    Args:
        model: a built Keras model; not changed.
        x: (n, i, j[, k], c) images, standardized as the model expects.
        method: as :func:`randomization`.
        shuffled: a model of the same kind that was trained on shuffled labels; or a function that is given ``y`` in
            random order and returns the model it trained.
        y: labels of the training set, one a case, for a function.
        target: as :func:`randomization`.
        seed: of the order of ``y``.
        measure: as :func:`randomization`.
        options: handed to ``method``.

    Returns:
        (n,) as :func:`randomization`.

    Raises:
        ValueError: as ``method``, or a function without ``y``.

    Source: Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018 (data randomization test).
    """
    method = find(method)
    question = Question(model, x, target)
    if not isinstance(shuffled, keras.Model):
        if y is None:
            raise ValueError("Expected y, the labels to shuffle, with a function that trains. Received None.")
        shuffled = shuffled(np.random.default_rng(seed).permutation(np.asarray(y)))
    if len(question) == 0:
        return np.zeros(0)
    heat = method(model, x, target=question.target, **options)
    return likeness(heat, method(shuffled, x, target=question.target, **options), measure)


def forgotten(model: keras.Model, seed: int = 0) -> keras.Model:
    """A copy of ``model`` with weights as before training.

    Matrices and filters are drawn anew (He normal, from ``seed``); vectors such as biases, scales and moving
    statistics get the values that their layers start with. What ``adapt`` measured on images (``Normalization``) stays:
    it is no knowledge, and without it the copy would see other images.

    Raises:
        CopyError: the model cannot be copied from its configuration.
    """
    copy = copied(model)
    for weight, value in zip(copy.weights, _drawn(copy, seed), strict=True):
        weight.assign(value)
    return copy


def copied(model: keras.Model) -> keras.Model:
    """A model built like ``model``, with the weights that its layers start with; what ``adapt`` measured is kept.

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
    adapted = _adapted(copy)
    theirs = {id(ours): weight for ours, weight in zip(copy.weights, model.weights, strict=True)} if adapted else {}
    for layer in adapted:
        for weight in layer.weights:
            weight.assign(theirs[id(weight)])
        layer.finalize_state()
    return copy


def _drawn(copy: keras.Model, seed: int) -> list[Any]:
    """For each weight of a fresh copy what it has when nothing is learned; see :func:`forgotten`."""
    values = []
    measured = {id(weight) for layer in _adapted(copy) for weight in layer.weights}
    for number, weight in enumerate(copy.weights):
        value = keras.ops.convert_to_numpy(weight)
        if len(weight.shape) >= 2 and id(weight) not in measured:
            draw = keras.initializers.HeNormal(
                seed=np.random.SeedSequence((seed, number)).generate_state(1).item() >> 1
            )
            value = draw(weight.shape, dtype=weight.dtype)
        values.append(value)
    return values


def _adapted(model: keras.Model) -> list[keras.Layer]:
    """The layers whose weights were measured on images with ``adapt``, not learned."""
    return [layer for layer in model._flatten_layers() if hasattr(layer, "adapt") and hasattr(layer, "finalize_state")]


def _with_weights(model: keras.Model, cases: Given) -> Iterator[tuple[str, list[Any]]]:
    """The layers that have learned weights of their own, by path, with these; the last to run comes first."""
    ran: dict[int, int] = {}
    steps = itertools.count()

    def noting(layer: keras.Layer) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def note(call: Callable[..., Any]) -> Callable[..., Any]:
            def noted_call(*args: Any, **kwargs: Any) -> Any:
                output = call(*args, **kwargs)
                ran[id(layer)] = next(steps)
                return output

            return noted_call

        return note

    blank = [
        keras.ops.convert_to_tensor(np.zeros((1, *one.shape[1:]), one.dtype)) for one in (cases.images, *cases.others)
    ]
    with replaced({layer: noting(layer) for layer in model._flatten_layers(include_self=False)}):
        model(cases.arranged(blank[0], tuple(blank[1:])), training=False)

    def below(layer: keras.Layer, path: str, when: int) -> Iterator[tuple[int, str, keras.Layer]]:
        for inner in layer._flatten_layers(include_self=False, recursive=False):
            number = ran.get(id(inner), when)  # one that its parent does not call runs when the parent does
            yield number, f"{path}{inner.name}", inner
            yield from below(inner, f"{path}{inner.name}/", number)

    measured = {id(weight) for layer in _adapted(model) for weight in layer.weights}
    left = {id(weight) for weight in model.weights} - measured
    found = sorted(below(model, "", -1), key=lambda item: -item[0])
    for _, path, layer in [*found, (-1, model.name, model)]:
        inner = {id(weight) for part in layer._layers for weight in part.weights}
        own = [weight for weight in layer.weights if id(weight) in left - inner]
        left -= {id(weight) for weight in own}
        if own:
            yield path, own
