"""Targets: what in the model's output is to be explained, as one number a case.

In: the output before a last sigmoid or softmax (how that is come by: ``ends``), and a class index,
indices, None or a function. Out: (n,) scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.backend import keras

Target = int | ArrayLike | Callable[[Any], Any] | Mapping[str | int, Any] | None


class OneOutput:
    """A target that looks at one output of a model with several.

    Args:
        place: which of the outputs, in their order.
        target: (n,) class indices, None, or a function of that output.
    """

    def __init__(self, place: int, target: NDArray[np.int32] | Callable[[Any], Any] | None) -> None:
        self.place = place
        self.target = target

    def __call__(self, output: Any) -> Any:
        """(n,) the scores."""
        return scores(keras.tree.flatten(output)[self.place], self.target)

    def of(self, cases: Any) -> OneOutput:
        """The target of some of the cases."""
        return OneOutput(self.place, of_part(self.target, cases))


def check(
    target: Target, n: int, output_shapes: Sequence[tuple[int, ...]], names: Sequence[str | int] = (0,)
) -> Target:
    """``target`` as None, a callable, or an (n,) array of class indices.

    Args:
        target: what the user gave.
        n: number of cases.
        output_shapes: of the model's outputs, with the axis of cases.
        names: of these outputs.

    Raises:
        ValueError: it is out of range, not whole, or of another length; the output is not one of classes and
            ``target`` is not callable; or the model has several outputs and ``target`` names none.
    """
    if isinstance(target, Mapping):
        places = {**dict(enumerate(range(len(names)))), **{name: place for place, name in enumerate(names)}}
        if len(target) != 1 or next(iter(target)) not in places:
            raise ValueError(
                f"Expected a target for one of the outputs {', '.join(map(str, names))}, such as "
                f"{{{names[0]!r}: 1}}. Received one for {', '.join(map(str, target)) or 'none'}."
            )
        name, inner = next(iter(target.items()))
        return OneOutput(places[name], _of_one(inner, n, output_shapes[places[name]]))
    if len(output_shapes) > 1 and not callable(target):
        raise ValueError(
            f"The model has {len(output_shapes)} outputs. Name the one to explain, such as target={{{names[0]!r}: 1}} "
            f"(there are {', '.join(map(str, names))}), or give `target` as a function of all of them. "
            f"Received {target!r}."
        )
    return _of_one(target, n, output_shapes[0])


def _of_one(target: Any, n: int, output_shape: tuple[int, ...]) -> Any:
    """``target`` checked against one output."""
    if callable(target):
        values = getattr(target, "values", None)
        if values is not None and len(values) != n:
            raise ValueError(f"Expected a target for {n} cases. Received one for {len(values)}.")
        return target
    if len(output_shape) > 2:
        raise ValueError(
            f"The output has shape {(None, *output_shape[1:])}, not (n, classes): give `target` as a "
            "function of the output that returns one number or one map a case, such as `lambda y: y[..., 1]`."
        )
    if target is None:
        return None
    classes = output_shape[1] if len(output_shape) == 2 else 1
    index = np.asarray(target)
    if index.dtype.kind not in "iub" or index.ndim > 1 or (index.ndim == 1 and len(index) != n):
        raise ValueError(
            f"Expected as target a class index, an array of {n} of them, None or a function. Received "
            f"{index.dtype} of shape {index.shape}."
        )
    index = np.broadcast_to(index, n).astype(np.int32)
    largest = max(classes, 2) - 1
    if n and not (index.min() >= 0 and index.max() <= largest):
        raise ValueError(f"Expected targets from 0 to {largest}. Received {index.min()} to {index.max()}.")
    return index


def scores(output: Any, target: Target) -> Any:
    """One number a case, (n,): how strongly ``output`` speaks for the target.

    Args:
        output: (n, classes) logits; (n, 1) or (n,) is one logit, for class 1 and, negated, for class 0.
        target: (n,) class indices, None for the class that wins, or a function of the output.
    """
    ops = keras.ops
    if callable(target):
        value = ops.cast(target(output), "float32")
        n = keras.tree.flatten(output)[0].shape[0]
        if len(value.shape) == 0 or value.shape[0] != n:
            raise ValueError(
                f"Expected a target function that keeps the axis of cases, ({n}, ...). It returned "
                f"shape {tuple(value.shape)}."
            )
        return ops.sum(ops.reshape(value, (value.shape[0], -1)), axis=1)
    if len(output.shape) == 1 or output.shape[1] == 1:
        logit = ops.reshape(output, (-1,))
        positive = logit >= 0 if target is None else ops.convert_to_tensor(target) == 1
        return logit * ops.where(positive, 1.0, -1.0)
    index = ops.argmax(output, axis=1) if target is None else ops.convert_to_tensor(target)
    return ops.sum(output * ops.one_hot(index, output.shape[1], dtype="float32"), axis=1)


def predicted(output: NDArray[np.float32]) -> NDArray[np.int32]:
    """(n,) the class that wins: the largest logit, or 1 where the only logit is 0 or above."""
    if output.ndim == 1 or output.shape[1] == 1:
        return (output.reshape(-1) >= 0).astype(np.int32)
    return output.argmax(axis=1).astype(np.int32)


def of_part(target: Target, part: slice) -> Target:
    """The target of the cases in ``part``, a slice or indices.

    A function that knows its cases one by one has ``of(cases)``, which returns the function for some of them, and
    ``values``, (n, ...) of NumPy, one row a case, all in which these functions differ, or None (``regions.Region``).
    """
    if hasattr(target, "of"):
        return target.of(part)
    return target[part] if isinstance(target, np.ndarray) else target
