"""Network: a Keras model seen from inside while it runs, whatever it is made of.

In: any Keras model (Sequential, functional, subclassed, one inside another) and an array. Out: its layers, one
layer's output, its output before the last sigmoid or softmax, and a score a case. A layer's ``call`` is replaced for
the time of one forward pass and put back whatever happens; nothing of the model is rebuilt or changed.
"""

from __future__ import annotations

import math
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.backend import keras
from medlab.explain import targets
from medlab.explain.targets import Target

# What moves, drops or merges positions makes no features of its own.
_NO_FEATURES = re.compile(
    "Pooling|Padding|Cropping|UpSampling|Dropout|Noise|Reshape|Permute|Flatten|Rescaling|Resizing|Crop|Identity"
    "|^Random|^Normalization$|^Discretization$"
)
# Layers whose inner layers see tokens or single steps, not the image.
_CLOSED = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention, keras.layers.RNN, keras.layers.Wrapper)
_SQUASHING = {"sigmoid", "softmax"}
_LOCK = threading.RLock()
_MISSING = object()


@dataclass(frozen=True)
class _Call:
    """One call of one layer during a forward pass."""

    path: str
    layer: keras.Operation
    shape: tuple[int, ...]
    output: Any


class Network:
    """A model after one look at how it runs.

    Args:
        model: a built Keras model with one image input and one output.
        x: (n, i, j[, k], c) float32, n at least 1; only the first case is run.
    """

    def __init__(self, model: keras.Model, x: NDArray[np.float32]) -> None:
        self.model = model
        self.rank = x.ndim - 2
        # The image in the structure that the model's input has: a tensor, or a list or dictionary with one.
        self._wrap = lambda x: keras.tree.map_structure(lambda _: x, getattr(model, "input", 0))
        with _LOCK:  # a head that another thread holds linear would not be seen
            calls, output = _watch(model, self._wrap(keras.ops.convert_to_tensor(x[:1])))
            self._head = _head(calls, output) if keras.ops.is_tensor(output) else None
        if not keras.ops.is_tensor(output):
            raise ValueError(
                f"Expected a model with one output. Received one that returns {type(output).__name__}: give a "
                "keras.Model that returns the output to explain."
            )
        self.output_shape: tuple[int, ...] = tuple(output.shape)
        self._multi_label = _squash(self._head) == "sigmoid"
        self._spatial = {call.path: (call.layer, call.shape[1:]) for call in _spatial(calls, output, self.rank)}

    @property
    def layers(self) -> list[str]:
        """The layers with a feature map over the image, in the order in which they run."""
        return list(self._spatial)

    def layer_shape(self, name: str | None) -> tuple[str, tuple[int, ...]]:
        """The path of layer ``name`` (None: the last) and the shape of its output for one case: (i, j[, k], c).

        Raises:
            ValueError: there is no such layer, or none at all.
        """
        if not self._spatial:
            raise ValueError(
                f"Expected a model with a layer whose output is a feature map over the {self.rank} axes of the image. "
                f"{self.model.name!r} has none: use saliency, integrated_gradients or occlusion."
            )
        if name is None:
            name = next(reversed(self._spatial))
        if name not in self._spatial:
            raise ValueError(f"There is no layer {name!r} to take a map at. There are: {', '.join(self._spatial)}.")
        layer, shape = self._spatial[name]
        if getattr(layer, "data_format", "channels_last") == "channels_first":
            raise ValueError(f"Expected channels last. Layer {name!r} has its channels first.")
        return name, shape

    def __call__(self, x: Any) -> Any:
        """The model's output for ``x`` in inference mode, before the last sigmoid or softmax, as float32."""
        with _replaced({}, self._head):
            return keras.ops.cast(self.model(self._wrap(x), training=False), "float32")

    def tapped(self, x: Any, name: str, probe: Any) -> tuple[Any, Any]:
        """As a call, with ``probe`` added to the output of layer ``name``; also returns that output, as float32."""
        seen = []

        def tap(call: Callable[..., Any]) -> Callable[..., Any]:
            def tapped_call(*args: Any, **kwargs: Any) -> Any:
                output = call(*args, **kwargs)
                seen.append(output)
                return output + keras.ops.cast(probe, output.dtype)

            return tapped_call

        layer, _ = self._spatial[name]
        with _replaced({layer: tap}, self._head):
            output = self.model(self._wrap(x), training=False)
        return keras.ops.cast(output, "float32"), keras.ops.cast(seen[-1], "float32")

    def outputs(self, x: NDArray[np.float32], batch_size: int | None = None) -> NDArray[np.float32]:
        """The output of :meth:`__call__` for all of ``x``, in batches."""
        parts = [keras.ops.convert_to_numpy(self(x[part])) for part in parts_of(x, batch_size)]
        return np.concatenate(parts)

    def check(self, target: Target, n: int) -> Target:
        """``target`` for ``n`` cases as None, a callable or (n,) class indices; see :func:`targets.check`."""
        return targets.check(target, n, self.output_shape)

    def settle(self, x: NDArray[np.float32], target: Target, batch_size: int | None = None) -> Target:
        """The target as :meth:`check` gives it, with None turned into the classes predicted for ``x``."""
        target = self.check(target, len(x))
        return targets.predicted(self.outputs(x, batch_size)) if target is None else target

    def probabilities(self, output: Any, target: Target) -> Any:
        """One number a case, (n,): the probability of the target class; a target function's own value."""
        if callable(target):
            return targets.scores(output, target)
        if len(output.shape) == 1 or output.shape[1] == 1:
            return keras.ops.sigmoid(targets.scores(output, target))
        squash = keras.ops.sigmoid if self._multi_label else keras.ops.softmax
        return targets.scores(squash(output), target)


def check_images(model: keras.Model, x: ArrayLike) -> NDArray[np.float32]:
    """``x`` as float32 (n, i, j[, k], c).

    Raises:
        ValueError: it is not an array of numbers of that shape, it holds NaN or infinity, or the model expects
            another shape.
    """
    array = np.asarray(x)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"Expected an array of numbers. Received dtype {array.dtype}.")
    array = array.astype(np.float32, copy=False)
    shape = input_shape(model)
    fits = array.ndim in (4, 5) and (
        shape is None
        or (len(shape) == array.ndim and all(b in (None, a) for a, b in zip(array.shape[1:], shape[1:], strict=True)))
    )
    if not fits:
        expected = "(n, i, j[, k], c)" if shape is None else f"(n, {', '.join(str(size) for size in shape[1:])})"
        raise ValueError(f"Expected x of shape {expected}. Received {array.shape}.")
    if not np.isfinite(array).all():
        raise ValueError("Expected finite images. Received x with NaN or infinity: repair it before explaining.")
    return array


def input_shape(model: keras.Model) -> tuple[int | None, ...] | None:
    """The shape of the model's one input, with None for the batch; None where the model does not say.

    Raises:
        ValueError: the model is not built, or it has several inputs.
    """
    if not model.built:
        raise ValueError(f"{model.name!r} has no weights yet. Build, train or load it before explaining.")
    try:
        inputs = keras.tree.flatten(model.inputs)
    except (AttributeError, ValueError):  # a subclassed model
        return None
    if len(inputs) != 1:
        raise ValueError(f"Expected a model with one input. {model.name!r} has {len(inputs)}.")
    return tuple(inputs[0].shape)


def parts_of(x: NDArray, batch_size: int | None = None) -> Iterator[slice]:
    """Slices that cut ``x`` into batches of (nearly) equal size, so that a backend compiles for few shapes.

    By default a batch has at most 64 cases and 2**18 pixels or 2**17 voxels: larger ones were no faster on a CPU, and
    Keras holds the outputs of all layers of a forward pass (a 3-D ResNet on 32 volumes of 32 x 32 x 32: 5 GB).
    """
    if batch_size is None:
        positions = 2**18 if x.ndim == 4 else 2**17
        batch_size = min(64, max(1, positions // max(1, math.prod(x.shape[1:-1]))))
    if batch_size < 1:
        raise ValueError(f"Expected a batch size of at least 1. Received {batch_size}.")
    if len(x):
        even = math.ceil(len(x) / math.ceil(len(x) / batch_size))
        for start in range(0, len(x), even):
            yield slice(start, min(start + even, len(x)))


def _named(layer: keras.Layer, prefix: str = "") -> Iterator[tuple[str, keras.Operation]]:
    """All layers below ``layer``, and a graph's functions of ``keras.ops``, with their paths: "backbone/conv5"."""
    for inner in layer._flatten_layers(include_self=False, recursive=False):
        yield f"{prefix}{inner.name}", inner
        if not isinstance(inner, _CLOSED):
            yield from _named(inner, f"{prefix}{inner.name}/")
    for operation in getattr(layer, "operations", ()):
        if not isinstance(operation, keras.Layer):
            yield f"{prefix}{operation.name}", operation


def _watch(model: keras.Model, x: Any) -> tuple[list[_Call], Any]:
    """Runs ``model`` once and notes each layer's call that returned one tensor, in order."""
    calls: list[_Call] = []

    def noting(path: str, layer: keras.Operation) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def note(call: Callable[..., Any]) -> Callable[..., Any]:
            def noted_call(*args: Any, **kwargs: Any) -> Any:
                output = call(*args, **kwargs)
                if keras.ops.is_tensor(output):
                    calls.append(_Call(path, layer, tuple(output.shape), output))
                return output

            return noted_call

        return note

    named = {layer: path for path, layer in _named(model) if not isinstance(layer, keras.Model)}
    with _replaced({layer: noting(path, layer) for layer, path in named.items()}):
        output = model(x, training=False)
    return calls, output


def _spatial(calls: list[_Call], output: Any, rank: int) -> list[_Call]:
    """The calls that made a feature map over the ``rank`` axes of the image."""
    calls = [call for call in calls if isinstance(call.layer, keras.Layer)]
    times = Counter(id(call.layer) for call in calls)
    found = []
    learned = permuted = False
    for call in calls:
        kind = type(call.layer).__name__
        no_features = bool(_NO_FEATURES.search(kind))
        learned = learned or (bool(call.layer.weights) and not no_features)
        # After a Permute the axes of a feature map are no longer those of the image.
        permuted = permuted or kind == "Permute"
        over_image = len(call.shape) == rank + 2 and call.shape[0] == 1 and math.prod(call.shape[1:-1]) > 1
        once = times[id(call.layer)] == 1 and call.output is not output
        if learned and over_image and once and not permuted and not no_features:
            found.append(call)
    return found


def _head(calls: list[_Call], output: Any) -> keras.Operation | None:
    """The layer or function whose sigmoid or softmax made ``output``, if one did."""
    values = keras.ops.convert_to_numpy(keras.ops.cast(output, "float32"))
    for call in reversed(calls):
        if call.shape != tuple(output.shape):
            return None
        if not np.array_equal(keras.ops.convert_to_numpy(keras.ops.cast(call.output, "float32")), values):
            return None
        if _squash(call.layer):
            return call.layer
    return None


def _squash(layer: keras.Operation | None) -> str | None:
    """What ``layer`` ends with, where that is "sigmoid" or "softmax"."""
    activation = getattr(layer, "activation", None)
    for name in (type(layer).__name__, type(activation).__name__, getattr(activation, "__name__", "")):
        if name.lower() in _SQUASHING:
            return name.lower()
    return None


@contextmanager
def _replaced(
    calls: Mapping[keras.Operation, Callable[..., Any]], head: keras.Operation | None = None
) -> Iterator[None]:
    """Replaces the ``call`` of layers, and makes ``head`` linear, until the block is left.

    One thread at a time, because the model is shared. The instances' dictionaries are written directly, so that
    Keras does not track what is put there as part of the model.
    """
    before: list[tuple[dict[str, Any], str, Any]] = []

    def put(place: dict[str, Any], name: str, value: Any) -> None:
        before.append((place, name, place.get(name, _MISSING)))
        place[name] = value

    with _LOCK:
        try:
            for layer, make in calls.items():
                put(vars(layer), "call", make(layer.call))
            if type(head).__name__.lower() in _SQUASHING:
                put(vars(head), "call", lambda inputs, *args, **kwargs: inputs)
            elif head is not None:
                put(vars(head), "activation", keras.activations.linear)
            yield
        finally:
            for place, name, value in reversed(before):
                if value is _MISSING:
                    del place[name]
                else:
                    place[name] = value
