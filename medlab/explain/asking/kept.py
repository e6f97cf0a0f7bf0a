"""Kept: what was found out and compiled about a model, as long as the model lives and its layers stay as they are.

In: a model. Out: a small store in the model's own dictionary; it goes with the model and is not saved with it.

Changed are layers added, removed or replaced, and public attributes set to another object. What is not seen: a private
attribute, and a list, dictionary or array that is changed in place. After such a change call ``explain.forget(model)``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from medlab.backend import keras
from medlab.explain.asking.inside import named

_NAME = "_medlab_explain"
_MOST = 64  # forms of input, such as sizes of images; 3 MB each for one map of a network of 12 convolutions
_OLD = 7  # made for layers as they were before
# What training and predicting leave on a model: its layers are as they were.
_WORK = {
    "train_function", "test_function", "predict_function", "stop_training", "stop_evaluating", "stop_predicting",
    "history", "compiled", "optimizer", "loss",
}  # fmt: skip
_SIMPLE = (bool, int, float, str, type(None))


class Kept:
    """The last few things made for a model, each for one state of its layers.

    Args:
        model: a built Keras model.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self.networks: OrderedDict[Any, tuple[Any, list[Any]]] = OrderedDict()

    def get(self, form: Hashable, make: Callable[[], Any]) -> Any:
        """What was made for ``form`` while the layers were as they are, or what ``make`` makes now."""
        state, held = _state(self._model)
        key = (state, form)
        if key not in self.networks:
            self.networks[key] = make(), held
            for gone in [one for one in self.networks if one[0] != state][:-_OLD]:
                del self.networks[gone]
            while len(self.networks) > _MOST:
                self.networks.popitem(last=False)
        self.networks.move_to_end(key)
        return self.networks[key][0]


def of(model: keras.Model) -> Kept:
    """The store of ``model``."""
    return vars(model).setdefault(_NAME, Kept(model))


def forget(model: keras.Model) -> None:
    """Forgets what was found out and compiled about ``model``, so that the next explanation looks at it anew.

    Explanations notice changed weights, layers that were added, removed or replaced, and public attributes of layers
    set to another value. They do not notice a private attribute (``layer._scale = 2``), nor a list, dictionary or array
    that was changed in place (``layer.window[:] = 0``), because the compiled model holds the old value. Call this then,
    or to free the memory. Nothing happens to a model that was never explained.

    Args:
        model: any Keras model.
    """
    vars(model).pop(_NAME, None)


def _state(model: keras.Model) -> tuple[Any, list[Any]]:
    """What a trace of ``model`` holds fast: its layers, their public attributes and which variables they have.

    Also the objects that are told apart by their address, to be kept as long as this answer is.
    """
    layers = [*model._flatten_layers(), *(one for _, one in named(model) if not isinstance(one, keras.Layer))]
    held: list[Any] = [*layers, *model.variables]
    state: list[Any] = [id(one) for one in held]
    for layer in layers:
        for name, value in list(vars(layer).items()):
            if name.startswith("_") or name in _WORK:
                continue
            if isinstance(value, _SIMPLE):
                state.append((name, value))
            else:
                held.append(value)
                state.append((name, id(value)))
    return tuple(state), held
