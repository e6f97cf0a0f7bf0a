"""Costs: what a network takes, measured on a few images, and networks of equal size.

In: a model and a batch. Out: its parameters, the memory of its maps, and the seconds of a step. It is not changed.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from medlab.backend import keras


def cost(model: keras.Model, x: np.ndarray, *, steps: int = 3) -> dict[str, float]:
    """What ``model`` takes an image, here and in its own precision.

    Args:
        model: a built model with one input and one output of logits.
        x: (n, i, j[, k], c): a batch as it would be trained on.
        steps: how often each is timed, after a first time that compiles; the median counts.

    Returns:
        ``parameters``; ``map_mb``: megabytes of the outputs of all layers for one image, which training has to keep
        (with their gradients for a while twice as many); ``train_ms`` and ``predict_ms``: milliseconds an image.

    Raises:
        ValueError: no image, or fewer than one step.
    """
    if len(x) < 1 or steps < 1:
        raise ValueError(f"Expected at least one image and one step. Received {len(x)} and {steps}.")
    copy = keras.models.clone_model(model)
    copy.set_weights([np.asarray(one) for one in model.weights])
    copy.compile(keras.optimizers.SGD(1e-6), "mse")
    y = np.zeros((len(x), *copy.output_shape[1:]), np.float32)
    train = _seconds(lambda: copy.train_on_batch(x, y), steps)
    predict = _seconds(lambda: copy.predict_on_batch(x), steps)
    return {
        "parameters": model.count_params(),
        "map_mb": _outputs(copy, x[:1]) / 1e6,
        "train_ms": 1000 * train / len(x),
        "predict_ms": 1000 * predict / len(x),
    }


def match_parameters(make: Callable[..., keras.Model], target: int, *, widest: int = 1024) -> int:
    """The width at which ``make(width=...)`` comes nearest to ``target`` parameters.

    Args:
        make: ``make(width=...)``, 1 or above, gives a model that has more parameters the wider it is.
        target: number of parameters.
        widest: largest width to try.

    Raises:
        ValueError: a target below 1.
    """
    if target < 1:
        raise ValueError(f"Expected a target of at least 1 parameter. Received {target!r}.")
    counts: dict[int, int] = {}

    def count(width: int) -> int:
        if width not in counts:
            counts[width] = make(width=width).count_params()
        return counts[width]

    low, high, width = 0, widest + 1, min(8, widest)
    while high - low > 1:
        if count(width) < target:
            low = width
        else:
            high = width
        # Parameters grow about as the square of the width, which guesses the next one to look at.
        guess = width * math.sqrt(target / count(width))
        width = min(max(round(guess), low + 1), high - 1)
    near = [width for width in (low, high) if 1 <= width <= widest]
    return min(near, key=lambda width: abs(count(width) - target))


def _seconds(run: Callable[[], Any], steps: int) -> float:
    taken = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


def _outputs(model: keras.Model, x: np.ndarray) -> int:
    """Bytes of what the layers give out for ``x``, each layer's call counted."""
    total = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **kwargs: Any) -> Any:
            nonlocal total
            output = call(*args, **kwargs)
            for one in keras.tree.flatten(output):
                size = {"float32": 4, "float16": 2, "bfloat16": 2}.get(keras.backend.standardize_dtype(one.dtype), 0)
                total += size * math.prod(one.shape)
            return output

        return counting

    leaves = [one for one in model._flatten_layers() if not isinstance(one, keras.Model | keras.layers.InputLayer)]
    for layer in leaves:
        # Written directly: Keras would track what is set as a part of the layer.
        vars(layer)["call"] = counted(layer.call)
    try:
        model(x, training=False)
    finally:
        for layer in leaves:
            del vars(layer)["call"]
    return total
