"""Branches: the last feature maps of a model, seen from its output.

In: a model and the paths of its layers with a feature map over the image. Out: those whose map no other one makes more
of: one in most networks, one a member in an ensemble, one a plane in a network of projections.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from medlab.backend import keras


def last_maps(model: keras.Model, spatial: Collection[str]) -> list[str]:
    """The layers of ``spatial`` that the output is reached from without passing another one, in order.

    Args:
        model: any Keras model. Where its graph is not known (a subclassed one) the answer is the last layer.
        spatial: paths of layers, ``"member1/stage4"``, in the order in which they run.
    """
    found: set[str] = set()
    if getattr(model, "outputs", None):
        for output in model.outputs:
            _search(output, "", spatial, found, set())
    return [path for path in spatial if path in found] or list(spatial)[-1:]


def _search(tensor: Any, prefix: str, spatial: Collection[str], found: set[str], seen: set[Any]) -> bool:
    """Goes back from ``tensor``; whether a map was found."""
    waiting, before = [tensor], len(found)
    while waiting:
        one = waiting.pop()
        history = getattr(one, "_keras_history", None)
        if history is None or (id(one), prefix) in seen:
            continue
        seen.add((id(one), prefix))
        operation = history.operation
        path = f"{prefix}{operation.name}"
        if path in spatial:
            found.add(path)
            continue
        if isinstance(operation, keras.Model):
            within = [_search(output, f"{path}/", spatial, found, seen) for output in getattr(operation, "outputs", [])]
            if any(within):
                continue
        nodes = operation._inbound_nodes
        if history.node_index < len(nodes):
            waiting += nodes[history.node_index].input_tensors
    return len(found) > before
