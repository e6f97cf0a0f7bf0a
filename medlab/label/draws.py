"""Draws: what a model answers when its dropout is at work, several times.

In: a model and images. Out: (draws, n[, classes]) probabilities. The model is not changed.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.backend import keras
from medlab.evaluate.predictions import activation, batch_of
from medlab.label import received

_KINDS = (
    keras.layers.AlphaDropout,
    keras.layers.Dropout,
    keras.layers.GaussianDropout,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
)


def dropout_draws(
    model: keras.Model,
    x: ArrayLike,
    *,
    draws: int = 20,
    seed: int = 0,
    batch_size: int | None = None,
    multi_label: bool | None = None,
) -> NDArray[np.float64]:
    """(draws, n) or (draws, n, classes) probabilities, each draw with other units dropped (Monte Carlo dropout).

    Only dropout layers draw, wherever they are, also inside attention and models inside the model; batch
    normalization and everything else run as outside training. What lies before the first dropout is computed once.
    The dropout that GRU and LSTM have as an argument does not draw.

    Args:
        model: a functional or Sequential model; a copy of its layers draws.
        x: (n, i, j[, k], c) images, as the model was trained on them.
        draws: how many, at least 2.
        seed: the same seed gives the same draws.
        batch_size: cases at a time; by default 64, fewer where they are large.
        multi_label: as :func:`medlab.evaluate.predict` takes it.

    Raises:
        ValueError: a model without dropout, a subclassed one or one of several inputs or outputs, no images, or too
            few draws.

    Source: Gal and Ghahramani, ICML 2016.
    """
    draws = received.whole_number(draws, 2, "draws")
    if not isinstance(model, keras.Model) or len(getattr(model, "inputs", None) or ()) != 1 or len(model.outputs) != 1:
        raise ValueError(
            f"Expected a functional or Sequential Keras model of one input and one output, built. Received {model!r}."
        )
    images, wanted = np.asarray(x), model.inputs[0].shape
    fits = images.ndim == len(wanted) and all(
        asked in (None, there) for asked, there in zip(wanted[1:], images.shape[1:], strict=True)
    )
    if not fits or not len(images) or images.dtype.kind not in "biuf" or not np.isfinite(images).all():
        raise ValueError(
            f"Expected finite images of the shape {wanted}, at least one. Received {images.shape}, {images.dtype}."
        )
    multi_label = model.name.endswith("_multi_label") if multi_label is None else multi_label
    before, after = _halves(_drawing(model, seed))
    size = batch_of(images) if batch_size is None else received.whole_number(batch_size, 1, "batch_size")
    outputs = []
    for start in range(0, len(images), size):
        batch = images[start : start + size].astype(np.float32, copy=False)
        # A batch of its own length would be compiled anew.
        padded = np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)]) if start else batch
        reached = padded if before is None else before.predict_on_batch(padded)
        outputs.append(np.stack([after.predict_on_batch(reached)[: len(batch)] for _ in range(draws)]))
    logits = np.concatenate(outputs, axis=1).astype(np.float64)
    if logits.ndim != 3 or not np.isfinite(logits).all():
        raise ValueError(f"Expected a model that gives finite (n, outputs). It gives {logits.shape[1:]}, or NaN.")
    return _probabilities(logits, activation(model), multi_label)


def _drawing(model: keras.Model, seed: int) -> keras.Model:
    """A copy of ``model`` in which dropout is always at work."""
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    found = [one for one in twin._flatten_layers() if _drops(one)]
    if not found:
        raise ValueError(
            f"Expected a model with Dropout layers, whose draws differ. {model.name!r} has none at work: build it with "
            "dropout=0.2, say, give several models' probabilities to label.bald, or ask by "
            'method="entropy".'
        )
    for number, one in enumerate(found):
        one.call = _at_work(one.call)
        state = one.seed_generator.state
        start = zlib.crc32(f"{seed}/{number}/{one.name}".encode())
        state.assign(keras.ops.convert_to_tensor(np.array([start, 0]), dtype=state.dtype))
    return twin


def _at_work(call: Callable[..., Any]) -> Callable[..., Any]:
    """``call`` of a dropout layer, as in training, whatever it is told."""

    @functools.wraps(call)
    def drawing(inputs: Any, training: bool = False) -> Any:
        return call(inputs, training=True)

    return drawing


def _drops(layer: Any) -> bool:
    return isinstance(layer, _KINDS) and getattr(layer, "rate", 0) > 0


def _halves(twin: keras.Model) -> tuple[keras.Model | None, keras.Model]:
    """What is the same in every draw, None where that is nothing, and what is not.

    Cutting adds nodes to the layers of ``twin``, which is why it is a copy.
    """
    certain: dict[int, bool] = {}
    border: dict[int, Any] = {}

    def visit(tensor: Any) -> bool:
        """Whether ``tensor`` is the same in every draw; notes those that go into layers that are not."""
        if id(tensor) in certain:
            return certain[id(tensor)]
        history = tensor._keras_history
        given = history.operation._inbound_nodes[history.node_index].input_tensors
        same = [visit(one) for one in given]
        flatten = getattr(history.operation, "_flatten_layers", lambda: ())
        certain[id(tensor)] = all(same) and not any(_drops(one) for one in flatten())
        if not certain[id(tensor)]:
            border.update({id(one): one for one, known in zip(given, same, strict=True) if known})
        return certain[id(tensor)]

    visit(twin.outputs[0])
    inputs = list(border.values())
    if len(inputs) == 1 and inputs[0] is twin.inputs[0]:
        return None, twin
    alone = len(inputs) == 1
    before = keras.Model(twin.inputs[0], inputs[0] if alone else inputs)
    return before, keras.Model(inputs[0] if alone else inputs, twin.outputs[0])


def _probabilities(logits: NDArray[np.float64], own: str | None, multi_label: bool) -> NDArray[np.float64]:
    from scipy.special import expit, softmax

    alone = logits.shape[-1] == 1
    if own is None:
        logits = expit(logits) if alone or multi_label else softmax(logits, axis=-1)
    return logits[..., 0] if alone and not multi_label else logits
