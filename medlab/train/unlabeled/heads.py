"""Heads: where a classifier ends, and what its outputs are.

In: a Keras model. Out: its last dense layer, the tensors around it, outputs of many images batch by batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from medlab.backend import keras

_ROOM = 4_200_000
"""Values of images that are looked at at once."""


def as_functional(model: keras.Model) -> keras.Model:
    """The model as one whose layers know their tensors: what is inside a Sequential one, else itself.

    Raises:
        ValueError: neither a functional nor a Sequential model that knows its input.
    """
    if isinstance(model, keras.Sequential):
        model = getattr(model, "_functional", None)
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise ValueError(
            "Expected a functional Keras model, or a Sequential one with keras.Input first. "
            "medlab.models.make makes one by name."
        )
    return model


def last_dense(model: keras.Model) -> tuple[keras.layers.Dense, str]:
    """The dense layer at the end of a model, and what follows it: ``"linear"``, ``"sigmoid"`` or ``"softmax"``.

    Raises:
        ValueError: the model ends in something else.
    """
    layer = as_functional(model).outputs[0]._keras_history.operation
    behind = "linear"
    while isinstance(layer, keras.layers.Activation | keras.layers.Softmax) and behind == "linear":
        behind = _activation(layer)
        layer = layer.input._keras_history.operation
    if not isinstance(layer, keras.layers.Dense):
        raise ValueError(
            f"Expected a model that ends in a Dense layer. {model.name!r} ends in {type(layer).__name__} "
            f"{layer.name!r}: medlab.models.with_head puts a new one on its features."
        )
    own = getattr(layer.activation, "__name__", "linear")
    if "linear" not in (own, behind) or {own, behind} - {"linear", "sigmoid", "softmax"}:
        both = " and ".join(one for one in (own, behind) if one != "linear")
        raise ValueError(
            f"Expected a model that ends in logits, a sigmoid or a softmax. {model.name!r} ends in {both}."
        )
    return layer, behind if own == "linear" else own


def final_activation(model: keras.Model) -> str:
    """Name of what the model's output went through last, looked up through nested models; ``"linear"`` for logits."""
    layer: Any = as_functional(model)
    while isinstance(layer, keras.Model):
        layer = as_functional(layer).outputs[0]._keras_history.operation
    return _activation(layer)


def outputs_of(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """(n, ...) float32 outputs of images (n, i, j[, k], c), a few at a time where they are large."""
    size = int(np.clip(_ROOM // max(1, np.prod(np.shape(x)[1:])), 1, 128))
    parts = [
        keras.ops.convert_to_numpy(
            keras.ops.cast(model(np.asarray(x[n : n + size], np.float32), training=False), "float32")
        )
        for n in range(0, len(x), size)
    ]
    return np.concatenate([np.asarray(part) for part in parts])


def _activation(layer: Any) -> str:
    kind = type(layer).__name__.lower()
    return kind if kind in ("softmax", "sigmoid") else getattr(getattr(layer, "activation", None), "__name__", "linear")
