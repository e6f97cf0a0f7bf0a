"""Heads: a trained network's layers with a new last layer, for another task.

In: a functional or Sequential model. Out: a functional ``keras.Model`` with logits whose first layers are the trained
ones. No training.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from medlab.backend import keras
from medlab.models.blocks import Builder, count_outputs, network_name

layers = keras.layers

_IDLE = re.compile("Dropout|Noise")  # not at work outside training
_AVERAGES = {3: layers.GlobalAveragePooling1D, 4: layers.GlobalAveragePooling2D, 5: layers.GlobalAveragePooling3D}


def with_head(
    model: keras.Model,
    classes: int,
    *,
    layer: str = "features",
    dropout: float = 0.0,
    multi_label: bool = False,
    freeze: bool = False,
    copy: bool = False,
    seed: int = 0,
) -> keras.Model:
    """A new model for ``classes``: the trained layers of ``model`` up to ``layer``, then a linear layer ``logits``.

    The layers are shared: training the result changes ``model`` too, unless ``copy``. What the old head was does not
    matter, so that a network from another task, or an encoder that was trained without labels, can be the start.

    Args:
        model: a built functional or Sequential model, such as any of :mod:`medlab.models`.
        classes: number of classes of the new task; two give one logit, unless ``multi_label``.
        layer: where to cut: a layer's name, ``"backbone/conv5"`` where it lies inside another model, or the last part
            of that where only one layer has it. A map (n, i, j[, k], c) or tokens (n, t, c) are averaged to (n, c).
            Where there is no ``"features"``, the default: the last vector before the last layer with weights.
        dropout: share of features dropped in training, 0 to below 1.
        multi_label: one image may show several classes: always one logit a class.
        freeze: the shared layers stay as they are in training (a linear probe), batch statistics included. Keras keeps
            this in the layers: ``model`` is frozen too, unless ``copy``; ``result.trainable = True`` undoes both. False
            leaves each layer as it is, frozen ones frozen.
        copy: new layers with the same weights, so that ``model`` stays as it is: for several trials from one start.
        seed: start of the new layer's weights and of dropout.

    Returns:
        The same input as ``model``; ``logits`` last. A layer inside another model stays inside a part of that one.

    Raises:
        ValueError: a model without a graph of layers, an unknown layer or one that several have, a layer without
            features, or unusable ``classes`` or ``dropout``.
    """
    outputs = count_outputs(classes, multi_label=multi_label)
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise ValueError(f"Expected a functional or Sequential Keras model, built. Received {model!r}.")
    if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise ValueError(f"Expected dropout from 0 to below 1. Received {dropout!r}.")
    if copy:
        model = _copied(model)
    features = _reach(_cut(model, layer))
    rank = len(features.shape)
    if (rank != 2 and rank not in _AVERAGES) or features.shape[-1] is None:
        raise ValueError(
            f"Expected a layer whose output is (n, c), (n, t, c) or a map (n, i, j[, k], c) with a known number of "
            f"channels. Layer {layer!r} gives {features.shape}."
        )
    start = model.inputs[0] if len(model.inputs) == 1 else model.input
    trunk = keras.Model(start, features)
    taken = {one.name for one in trunk.layers}
    if rank > 2:
        features = _AVERAGES[rank](name=_free("average", taken))(features)
    build = Builder(rank=2, norm=None, seed=seed)
    if dropout:
        features = layers.Dropout(dropout, seed=build.layer_seed("dropout"), name=_free("dropout", taken))(features)
    weights = keras.initializers.GlorotUniform(seed=build.layer_seed("logits"))
    logits = layers.Dense(outputs, kernel_initializer=weights, name=_free("logits", taken))(features)
    made = keras.Model(start, logits, name=network_name(model.name.removesuffix("_multi_label"), multi_label))
    if freeze:  # last: an error above leaves the model as it was
        for one in trunk.layers:
            one.trainable = False
    return made


@dataclass(frozen=True)
class _Place:
    """Where a layer runs.

    Attributes:
        path: names of the models around it and its own, joined by "/".
        layer: the layer or operation.
        tensor: what comes out, inside the innermost model.
        around: the models around it, outermost first, each with the tensors that go into it.
    """

    path: str
    layer: Any
    tensor: Any
    around: tuple[tuple[keras.Model, list[Any]], ...] = ()


def _copied(model: keras.Model) -> keras.Model:
    """A model of the same layers and weights that shares none of them."""
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    return twin


def _cut(model: keras.Model, layer: str) -> _Place:
    """Where ``layer`` runs; of several runs the one nearest to the output."""
    places = list(_places(model))
    found = [one for one in places if one.path == layer] or [
        one for one in places if one.path.rsplit("/", 1)[-1] == layer
    ]
    paths = list(dict.fromkeys(one.path for one in found))
    if len(paths) > 1:
        raise ValueError(f"Expected one layer {layer!r}. There are: {', '.join(paths)}; give one of these.")
    if found:
        return found[0]
    if layer != "features":
        known = dict.fromkeys(one.path for one in reversed(places) if not isinstance(one.layer, layers.InputLayer))
        raise ValueError(f"There is no layer {layer!r}. There are: {', '.join(known)}.")
    return _last_vector(model, places)


def _last_vector(model: keras.Model, places: list[_Place]) -> _Place:
    """The last vector a case before the last layer with weights, or the last map where there is no vector."""
    rest = [one for one in places if not isinstance(one.layer, keras.Model | layers.InputLayer)]
    weighted = next((number for number, one in enumerate(rest) if getattr(one.layer, "weights", None)), len(rest))
    before = [
        one for one in rest[weighted + 1 :] if not _IDLE.search(type(one.layer).__name__) and len(one.tensor.shape) > 1
    ]
    found = next((one for one in before if len(one.tensor.shape) == 2), before[0] if before else None)
    if found is None:
        raise ValueError(f"Expected a model with features before its last layer with weights. {model.name!r} has none.")
    return found


def _places(
    model: keras.Model, prefix: str = "", around: tuple[tuple[keras.Model, list[Any]], ...] = ()
) -> Iterator[_Place]:
    """Every run of every layer on the way to the output, those nearest to it first, and those of models inside."""
    waiting, seen = list(model.outputs), set()
    while waiting:
        tensor = waiting.pop(0)
        history = tensor._keras_history
        node = history.operation._inbound_nodes[history.node_index]
        if id(node) in seen:
            continue
        seen.add(id(node))
        path = f"{prefix}{history.operation.name}"
        if isinstance(history.operation, keras.Model) and getattr(history.operation, "inputs", None):
            inside = (*around, (history.operation, list(node.input_tensors)))
            yield from _places(history.operation, f"{path}/", inside)
        yield _Place(path, history.operation, tensor, around)
        waiting += node.input_tensors


def _reach(place: _Place) -> Any:
    """The tensor of ``place`` in the outermost model: the models around it are cut there, not copied."""
    tensor = place.tensor
    for inside, given in reversed(place.around):
        part = keras.Model(inside.inputs, tensor, name=inside.name)
        tensor = part(given if len(given) > 1 else given[0])
    return tensor


def _free(name: str, taken: set[str]) -> str:
    """``name``, or ``new_name`` where a layer has it."""
    while name in taken:
        name = f"new_{name}"
    return name
