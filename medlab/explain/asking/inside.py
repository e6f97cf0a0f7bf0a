"""Inside: a Keras model seen while it runs, whatever it is made of.

In: any Keras model (Sequential, functional, subclassed, one inside another) and what it takes. Out: its layers'
calls, those that made a feature map, and the sigmoid or softmax at the end. A layer's ``call`` is replaced for the time
of one forward pass and put back whatever happens; nothing of the model is rebuilt or changed.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medlab.backend import keras
from medlab.explain.asking.compiled import LOCK, Program

# What moves, drops or merges positions makes no features of its own.
_NO_FEATURES = re.compile(
    "Pooling|Padding|Cropping|UpSampling|Dropout|Noise|Reshape|Permute|Flatten|Rescaling|Resizing|Crop|Identity"
    "|^Random|^Normalization$|^Discretization$"
)
# Layers whose inner layers see tokens or single steps, not the image.
_CLOSED = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention, keras.layers.RNN, keras.layers.Wrapper)
_SQUASHING = {"sigmoid", "softmax"}
_MISSING = object()
# Of the calls of a forward pass the outputs of the last few are kept, and all with few numbers: a head is among them.
_LAST, _SMALL = 6, 2**12
_LARGE = 2**17  # positions of an image


@dataclass
class Call:
    """One call of one layer during a forward pass; its output is None where it is large and not among the last."""

    path: str
    layer: keras.Operation
    shape: tuple[int, ...]
    output: Any
    last: bool = False  # whether its output is the model's


def named(layer: keras.Layer, prefix: str = "") -> Iterator[tuple[str, keras.Operation]]:
    """All layers below ``layer``, and a graph's functions of ``keras.ops``, with their paths: "backbone/conv5"."""
    for inner in layer._flatten_layers(include_self=False, recursive=False):
        yield f"{prefix}{inner.name}", inner
        if not isinstance(inner, _CLOSED):
            yield from named(inner, f"{prefix}{inner.name}/")
    for operation in getattr(layer, "operations", ()):
        if not isinstance(operation, keras.Layer):
            yield f"{prefix}{operation.name}", operation


def watch(model: keras.Model, x: Any) -> tuple[list[Call], Any]:
    """Runs ``model`` once and notes each layer's call that returned one tensor, in order."""
    calls: list[Call] = []

    def noting(path: str, layer: keras.Operation) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def note(call: Callable[..., Any]) -> Callable[..., Any]:
            def noted_call(*args: Any, **kwargs: Any) -> Any:
                output = call(*args, **kwargs)
                if keras.ops.is_tensor(output):
                    calls.append(Call(path, layer, tuple(output.shape), output))
                    if len(calls) > _LAST and math.prod(calls[-_LAST].shape) > _SMALL:
                        calls[-_LAST].output = None  # so that its memory is free for the layers to come
                return output

            return noted_call

        return note

    paths = {layer: path for path, layer in named(model) if not isinstance(layer, keras.Model)}
    with replaced({layer: noting(path, layer) for layer, path in paths.items()}):
        output = model(x, training=False)
    return calls, output


def look(
    model: keras.Model, arranged: Callable[..., Any], arrays: Sequence[NDArray]
) -> tuple[list[Call], list[NDArray], Any]:
    """What :func:`watch` sees, with arrays in the place of tensors: calls, outputs, and the structure of these.

    A large image is run compiled, because Keras holds the outputs of all layers while it runs as it is written.

    Args:
        model: a built Keras model.
        arranged: brings tensors into the structure of the model's input.
        arrays: the first case, (1, ...) each.
    """
    seen: list[Any] = []

    def run(*tensors: Any) -> tuple[Any, ...]:
        calls, output = watch(model, arranged(*tensors))
        outputs = keras.tree.flatten(output)
        shapes = {tuple(one.shape) for one in outputs}
        for call in calls:
            call.last = any(call.output is one for one in outputs)
        kept = [call for call in calls if call.output is not None and call.shape in shapes]
        seen[:] = calls, kept, keras.tree.map_structure(lambda one: 0, output)
        return tuple(keras.ops.cast(one, "float32") for one in (*outputs, *(call.output for call in kept)))

    if math.prod(arrays[0].shape[1:-1]) < _LARGE:
        results = [
            keras.ops.convert_to_numpy(one) for one in run(*(keras.ops.convert_to_tensor(array) for array in arrays))
        ]
    else:
        results = Program(run, model, any_number=False)(*arrays)
    calls, kept, form = seen
    for call in calls:
        call.output = None
    outputs = results[: len(results) - len(kept)]
    for call, values in zip(kept, results[len(outputs) :], strict=True):
        call.output = values
    return calls, outputs, form


def spatial(calls: list[Call], rank: int) -> list[Call]:
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
        once = times[id(call.layer)] == 1 and not call.last
        if learned and over_image and once and not permuted and not no_features:
            found.append(call)
    return found


def head(calls: list[Call], output: NDArray, only: bool = True) -> keras.Operation | None:
    """The layer or function whose sigmoid or softmax made ``output``, the only one of the model, if one did.

    Args:
        calls: as :func:`look` gives them.
        output: the values of that output.
        only: whether the model has no other.
    """
    for call in reversed(calls):
        same = call.output is not None and call.shape == output.shape and np.array_equal(call.output, output)
        if same and squash(call.layer):
            return call.layer
        if not same and only:  # with several outputs the layers of the others may lie between
            return None
    return None


def squash(layer: keras.Operation | None) -> str | None:
    """What ``layer`` ends with, where that is "sigmoid" or "softmax"."""
    activation = getattr(layer, "activation", None)
    for name in (type(layer).__name__, type(activation).__name__, getattr(activation, "__name__", "")):
        if name.lower() in _SQUASHING:
            return name.lower()
    return None


@contextmanager
def replaced(
    calls: Mapping[keras.Operation, Callable[..., Any]], heads: Sequence[keras.Operation | None] = ()
) -> Iterator[None]:
    """Replaces the ``call`` of layers, and makes ``heads`` linear, until the block is left.

    One thread at a time, because the model is shared. The instances' dictionaries are written directly, so that
    Keras does not track what is put there as part of the model.

    Args:
        calls: for each layer a function that takes its ``call`` and returns the one to use instead.
        heads: layers with an activation, or functions, that are to hand on what reaches them.
    """
    before: list[tuple[dict[str, Any], str, Any]] = []

    def put(place: dict[str, Any], name: str, value: Any) -> None:
        before.append((place, name, place.get(name, _MISSING)))
        place[name] = value

    with LOCK:
        try:
            for layer, make in calls.items():
                put(vars(layer), "call", make(layer.call))
            for head in heads:
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
