"""Guided backpropagation: the gradient with every negative part dropped on its way back, alone and with Grad-CAM.

In: any Keras model and images (n, i, j[, k], c). Out: heat maps (n, i, j[, k]) float32, of the images' own size.
It was found to draw edges whatever the model has learned; it is here to be compared with, and warns.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.backend import keras
from medlab.explain.asking import inside
from medlab.explain.asking.question import Question
from medlab.explain.asking.targets import Target
from medlab.explain.maps import cam

Array = NDArray[np.float32]
Change = Callable[[Callable[..., Any]], Callable[..., Any]]
_RELU = {"relu", "relu6"}


class SanityWarning(UserWarning):
    """A method is known to give much the same map for a model that has learned nothing."""


def guided_backprop(model: keras.Model, x: ArrayLike, *, target: Target = None, batch_size: int | None = None) -> Array:
    """The size of the guided gradient at each voxel, the largest over the channels.

    On its way back through a ReLU the gradient passes only where it is positive itself. ReLU and ReLU6 are guided as
    layers, as ``activation=`` of any layer and as functions in a graph; other activations keep their gradient, and a
    ReLU that a subclassed model calls as a plain function is not seen. Without any ReLU the map is the saliency.

    It fails the sanity check of Adebayo et al. ("Sanity checks for saliency maps", NeurIPS 2018), who found its maps
    much the same when the model's weights were random. So it emits a :class:`SanityWarning`.

    Args:
        model: a built Keras model; not changed.
        x: (n, i, j[, k], c) images, standardized as the model expects; several inputs: :class:`medlab.explain.Inputs`.
        target: class index, (n,) of them, None for the class predicted for ``x``, or a function of the output.
        batch_size: cases at a time; by default at most 64, fewer of large images.

    Returns:
        (n, i, j[, k]) float32, 0 or above, not normalized; 0 where nothing but negative gradients arrive.

    Raises:
        ValueError: images of another shape or with NaN, or a target out of range.

    Source: Springenberg et al., "Striving for simplicity: the all convolutional net", ICLR workshop 2015.
    """
    _warn("guided_backprop")
    return _guided(Question(model, x, target, batch_size=batch_size))


def guided_grad_cam(
    model: keras.Model,
    x: ArrayLike,
    *,
    target: Target = None,
    layer: str | Sequence[str] | None = None,
    batch_size: int | None = None,
) -> Array:
    """Grad-CAM times guided backpropagation: fine lines within the places that Grad-CAM finds.

    Its fine lines come from :func:`guided_backprop` and fail the same check, so it emits the same warning.

    Args:
        model: a built Keras model; not changed.
        x: (n, i, j[, k], c) images, standardized as the model expects; several inputs: :class:`medlab.explain.Inputs`.
        target: class index, (n,) of them, None for the class predicted for ``x``, or a function of the output.
        layer: of :func:`medlab.explain.maps.cam.grad_cam`.
        batch_size: cases at a time; by default at most 64, fewer of large images.

    Returns:
        (n, i, j[, k]) float32, 0 or above, not normalized; 0 where either of the two maps is.

    Raises:
        ValueError: as :func:`medlab.explain.maps.cam.grad_cam`.

    Source: Selvaraju et al., "Grad-CAM", ICCV 2017.
    """
    _warn("guided_grad_cam")
    question = Question(model, x, target, batch_size=batch_size)
    coarse = cam.grad_cam(model, x, target=target, layer=layer, batch_size=batch_size)
    return coarse * _guided(question)


def _warn(name: str) -> None:
    warnings.warn(
        f"{name} fails the sanity check of Adebayo et al. (2018), who found its maps much the same when the model's "
        "weights were random. Do not read them as evidence; `explain.randomization` measures it for your model.",
        SanityWarning,
        stacklevel=3,
    )


def _guided(question: Question) -> Array:
    heat = np.zeros((len(question), *question.size), np.float32)
    for part in question.parts():
        heat[part] = np.abs(question.slope(question.images[part], part, under=_guiding)).max(axis=-1)
    return heat


def _guiding(model: keras.Model) -> AbstractContextManager[None]:
    """A context in which the gradient passes the ReLUs of ``model`` only where it is positive."""
    return inside.replaced(dict(_changes(model)))


def _changes(model: keras.Model) -> Iterator[tuple[keras.Operation, Change]]:
    """Each layer and function that ends in a ReLU or has one inside, and how its ``call`` is changed."""
    found = list(model._flatten_layers())
    found += [
        operation
        for layer in found
        for operation in getattr(layer, "operations", ())
        if not isinstance(operation, keras.Layer)
    ]
    for operation in found:
        if _is_relu(operation):
            yield operation, _gated
        elif _is_relu(vars(operation).get("activation")):
            yield operation, partial(_with_gated_activation, place=vars(operation))


def _is_relu(function: Any) -> bool:
    """Whether ``function`` is the ReLU of Keras (or ReLU6), as a layer, an operation or a function."""
    name = getattr(function, "__name__", type(function).__name__)
    return function is not None and name.lower() in _RELU


def _gated(call: Callable[..., Any]) -> Callable[..., Any]:
    """``call`` with the gradient of its result gated."""
    return lambda *args, **kwargs: _gate(call(*args, **kwargs))


def _with_gated_activation(call: Callable[..., Any], place: dict[str, Any]) -> Callable[..., Any]:
    """``call`` of a layer whose attributes are ``place``, with the gradient after its activation gated."""

    def gated_call(*args: Any, **kwargs: Any) -> Any:
        activation = place["activation"]
        place["activation"] = lambda x: _gate(activation(x))  # not set as an attribute: Keras would track it
        try:
            return call(*args, **kwargs)
        finally:
            place["activation"] = activation

    return gated_call


def _gate(x: Any) -> Any:
    """``x`` itself; its gradient passes where it is positive."""

    @keras.ops.custom_gradient
    def gate(x: Any) -> tuple[Any, Callable[..., Any]]:
        def grad(*args: Any, upstream: Any = None) -> Any:
            return keras.ops.maximum(args[0] if upstream is None else upstream, 0)

        return x, grad

    return gate(x)
