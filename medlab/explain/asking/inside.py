"""Inside: a Keras model seen while it runs, whatever it is made of.

In: any Keras model (Sequential, functional, subclassed, one inside another) and what it takes. Out: its layers'
calls, and those that made a feature map. A layer's ``call`` is replaced for the time of one forward pass and put back
whatever happens; nothing of the model is rebuilt or changed.
"""

from __future__ import annotations

import math
import re
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from medlab.backend import keras
from medlab.explain.asking.compiled import LOCK

# What moves, drops or merges positions makes no features of its own.
_NO_FEATURES = re.compile(
    "Pooling|Padding|Cropping|UpSampling|Dropout|Noise|Reshape|Permute|Flatten|Rescaling|Resizing|Crop|Identity"
    "|^Random|^Normalization$|^Discretization$"
)
# Layers whose inner layers see tokens or single steps, not the image.
_CLOSED = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention, keras.layers.RNN, keras.layers.Wrapper)
SQUASHING = {"sigmoid", "softmax"}
_MISSING = object()


@dataclass
class Call:
    """One call of one layer during a forward pass; tensors are held weakly, so that their memory is free."""

    path: str
    layer: keras.Operation
    shape: tuple[int, ...]
    read: list[weakref.ref[Any]]
    made: weakref.ref[Any]
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
                read = [weakref.ref(one) for one in keras.tree.flatten((args, kwargs)) if keras.ops.is_tensor(one)]
                output = call(*args, **kwargs)
                if keras.ops.is_tensor(output):
                    calls.append(Call(path, layer, tuple(output.shape), read, weakref.ref(output)))
                return output

            return noted_call

        return note

    paths = {layer: path for path, layer in named(model) if not isinstance(layer, keras.Model)}
    with replaced({layer: noting(path, layer) for layer, path in paths.items()}):
        output = model(x, training=False)
    for call in calls:
        call.last = any(call.made() is one for one in keras.tree.flatten(output))
    return calls, output


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


@contextmanager
def replaced(
    calls: Mapping[keras.Operation, Callable[..., Any]], heads: Sequence[keras.Operation | None] = ()
) -> Iterator[None]:
    """Replaces the ``call`` of layers, and makes ``heads`` linear, until the block is left.

    For the thread that asks only, because the model is shared: whoever else runs it meanwhile runs it as it is. One
    such thread at a time. The instances' dictionaries are written directly, so that Keras does not track what is put
    there as part of the model.

    Args:
        calls: for each layer a function that takes its ``call`` and returns the one to use instead.
        heads: layers with an activation, or functions, that are to hand on what reaches them.
    """
    before: list[tuple[dict[str, Any], str, Any]] = []
    asking = threading.get_ident()

    def put(place: dict[str, Any], name: str, old: Callable[..., Any], new: Callable[..., Any]) -> None:
        def chosen(*args: Any, **kwargs: Any) -> Any:
            return (new if threading.get_ident() == asking else old)(*args, **kwargs)

        before.append((place, name, place.get(name, _MISSING)))
        place[name] = chosen

    with LOCK:
        try:
            for layer, make in calls.items():
                put(vars(layer), "call", layer.call, make(layer.call))
            for head in heads:
                if head is not None:
                    name = "call" if type(head).__name__.lower() in SQUASHING else "activation"
                    put(vars(head), name, getattr(head, name), lambda inputs, *args, **kwargs: inputs)
            yield
        finally:
            for place, name, value in reversed(before):
                if value is _MISSING:
                    del place[name]
                else:
                    place[name] = value
