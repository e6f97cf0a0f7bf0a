"""Ends: the sigmoid or softmax that an output ends with, opened where that may be, undone where it may not.

In: any Keras model and its first case. Out: for each output how its score before the squashing is come by.

A score is best taken before the last sigmoid or softmax, where it does not saturate:

- **Opened.** The very tensor that a sigmoid or softmax made is the output (or it was only reshaped or cast), the layer
  ran once, and nothing else reads it: the layer hands on what reaches it, and the score is the logit. That this changes
  nothing else is checked on the first case.
- **Undone.** The squashing is there but may not be opened: its layer is shared, or the model uses the probability
  itself, such as a mask that gates a classifier. Or it is not a layer (a function, a mean of members, a clip) and the
  values alone tell: for the first case, for noise and for constant images, up to 1e7, they lie in 0..1, and over
  the classes they sum to 1, or there is one class, or a sigmoid of this shape ran. Then the score is the probability's
  own logit, log(p / (1 - p)), and of a softmax log p. p is taken from 1e-30 to 1 - 2**-24: where it saturates in
  float32 there is no gradient left.
- **As it is.** Everything else, above all what a Dense layer or convolution without activation made.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medlab.backend import keras
from medlab.explain.asking.compiled import Program
from medlab.explain.asking.inside import SQUASHING, Call, replaced, watch

_LARGE = 2**17  # positions of an image
_LEAST, _MOST = 1e-30, 1 - 2**-24


@dataclass(frozen=True)
class End:
    """The end of one output.

    Attributes:
        shape: of the output for one case, with the axis of cases.
        squash: "sigmoid", "softmax" or None.
        head: the layer or function to be opened, or None.
    """

    shape: tuple[int, ...]
    squash: str | None = None
    head: keras.Operation | None = None

    def logit(self, output: Any) -> Any:
        """The output before its squashing, for an output made with the head open."""
        if self.squash is None or self.head is not None:
            return output
        output = keras.ops.clip(output, _LEAST, _MOST if self.squash == "sigmoid" else 1.0)
        logit = keras.ops.log(output)
        return logit - keras.ops.log1p(-output) if self.squash == "sigmoid" else logit


def look(
    model: keras.Model, arranged: Callable[..., Any], arrays: Sequence[NDArray]
) -> tuple[list[Call], list[End], Any]:
    """Each layer's call of one forward pass, the ends of the outputs, and the structure of these.

    A large image is run compiled, because Keras holds the outputs of all layers while it runs as it is written.

    Args:
        model: a built Keras model.
        arranged: brings tensors, the image first, into the structure of the model's input.
        arrays: the first case, (1, ...) each, the image first.
    """
    seen: list[Any] = []

    def run(*tensors: Any) -> tuple[Any, ...]:
        calls, output = watch(model, arranged(*tensors))
        outputs = keras.tree.flatten(output)
        found = [_made_by(calls, one) for one in outputs]
        heads = [_head(calls, call) for call in found]
        opened = outputs
        if any(head is not None for head in heads):
            with replaced({}, list({id(head): head for head in heads if head is not None}.values())):
                opened = keras.tree.flatten(model(arranged(*tensors), training=False))
        coarse = any(str(getattr(one, "compute_dtype", "")).endswith("16") for one in model._flatten_layers())
        seen[:] = calls, found, heads, coarse, keras.tree.map_structure(lambda one: 0, output)
        return tuple(keras.ops.cast(one, "float32") for one in (*outputs, *opened))

    results = _runner(run, model, arrays)(*arrays)
    calls, found, heads, coarse, form = seen
    outputs, opened = results[: len(results) // 2], results[len(results) // 2 :]
    squashes = [squash(call.layer) if call is not None else None for call in found]
    for before, after, kind, head in zip(outputs, opened, squashes, heads, strict=True):
        expected = after if head is None else _squashed(after, kind)
        if not np.allclose(before, expected, rtol=0, atol=(0.02 if coarse else 1e-4) * max(1, np.abs(before).max())):
            heads = [None] * len(heads)  # something that was not seen reads one of them
            break
    # What is only taken to be passed on is believed where opening it has shown that it is.
    squashes = [
        kind if head is not None or call is None or call.last else None
        for kind, head, call in zip(squashes, heads, found, strict=True)
    ]
    doubtful = [kind is None and not _linear(call) for kind, call in zip(squashes, found, strict=True)]
    if any(doubtful):
        values = _probed(model, arranged, arrays)
        for index in np.flatnonzero(doubtful):
            sigmoid = any(call.shape == outputs[index].shape and squash(call.layer) == "sigmoid" for call in calls)
            squashes[index] = _believed([one[index] for one in values], sigmoid, 1e-2 if coarse else 1e-4)
    return calls, [End(*one) for one in zip((one.shape for one in outputs), squashes, heads, strict=True)], form


def squash(layer: keras.Operation | None) -> str | None:
    """What ``layer`` ends with, where that is "sigmoid" or "softmax"."""
    activation = getattr(layer, "activation", None)
    for name in (type(layer).__name__, type(activation).__name__, getattr(activation, "__name__", "")):
        if name.lower() in SQUASHING:
            return name.lower()
    return None


def _made_by(calls: list[Call], output: Any) -> Call | None:
    """The call that made ``output``: of those that returned this very tensor the last with a squashing, or the last.

    Where that one only passes on what the squashing right before it made, this one.
    """
    found = [place for place, call in enumerate(calls) if call.made() is output]
    for place in reversed(found):
        if squash(calls[place].layer):
            return calls[place]
    if not found:
        return None
    call, before = calls[found[-1]], calls[found[-1] - 1 : found[-1]]
    if (
        _passes(call.layer)
        and before
        and squash(before[0].layer)
        and math.prod(before[0].shape) == math.prod(call.shape)
    ):
        return before[0]
    return call


def _passes(layer: keras.Operation) -> bool:
    """Whether ``layer`` may change the shape or the type of what it gets, and not its values."""
    kind = type(layer).__name__
    linear = kind == "Activation" and layer.activation is keras.activations.linear
    return linear or kind in ("Reshape", "Flatten", "Squeeze")


def _head(calls: list[Call], made_by: Call | None) -> keras.Operation | None:
    """The layer of ``made_by``, if it squashes, ran once and no other call uses what it made."""
    if made_by is None or squash(made_by.layer) is None:
        return None
    output = made_by.made()
    once = Counter(id(call.layer) for call in calls)[id(made_by.layer)] == 1
    used = output is not None and any(
        any(one() is output for one in call.read)
        and call.made() is not output
        and not (call.last and _passes(call.layer))
        for call in calls
    )
    return made_by.layer if once and not used else None


def _linear(call: Call | None) -> bool:
    """Whether a layer such as Dense without activation, or with a tanh, made it: no probability, whatever it says."""
    activation = None if call is None else getattr(call.layer, "activation", None)
    name = getattr(activation, "__name__", "")
    known = getattr(keras.activations, name, None) is activation and not name.endswith(("sigmoid", "softmax"))
    return bool(name) and known and (name != "linear" or bool(call.layer.weights))


def _squashed(logit: NDArray, kind: str | None) -> NDArray:
    function = keras.ops.sigmoid if kind == "sigmoid" else keras.ops.softmax
    return keras.ops.convert_to_numpy(function(keras.ops.convert_to_tensor(logit)))


def _probed(model: keras.Model, arranged: Callable[..., Any], arrays: Sequence[NDArray]) -> list[list[NDArray]]:
    """The outputs for the first case, for noise and for constant images in its place, up to 1e7."""
    image = arrays[0]
    noise = np.random.default_rng(0).normal(size=image.shape).astype(np.float32)
    even = np.ones_like(noise)

    def run(*tensors: Any) -> tuple[Any, ...]:
        outputs = keras.tree.flatten(model(arranged(*tensors), training=False))
        return tuple(keras.ops.cast(one, "float32") for one in outputs)

    large = [sign * one for one in (1e3 * noise, 1e7 * noise, 1e7 * even) for sign in (1, -1)]
    run = _runner(run, model, arrays)
    return [run(probe, *arrays[1:]) for probe in (image, noise, *large)]


def _believed(values: list[NDArray], sigmoid: bool, tolerance: float) -> str | None:
    """Whether outputs are probabilities, and of which kind: "softmax" where they sum to 1."""
    values = [one for one in values if np.isfinite(one).all()]  # a large image may overflow in half precision
    if not values or any(one.size == 0 or one.min() < 0 or one.max() > 1 + tolerance for one in values):
        return None
    if np.ptp(np.stack(values), axis=0).max() < 1e-6:
        return None  # constant: nothing is known about it
    alone = values[0].ndim == 1 or values[0].shape[-1] == 1
    if not alone and all(np.allclose(one.sum(axis=-1), 1, rtol=0, atol=10 * tolerance) for one in values):
        return "softmax"
    return "sigmoid" if alone or sigmoid else None


def _runner(
    function: Callable[..., tuple[Any, ...]], model: keras.Model, arrays: Sequence[NDArray]
) -> Callable[..., list[NDArray]]:
    """``function`` on arrays like these; compiled where the image is large."""
    if math.prod(arrays[0].shape[1:-1]) >= _LARGE:
        return Program(function, model, any_number=False)
    return lambda *arrays: [
        keras.ops.convert_to_numpy(one) for one in function(*map(keras.ops.convert_to_tensor, arrays))
    ]
