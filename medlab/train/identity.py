"""Identity: what tells one network, function or setting from another, the same in every session.

In: a model, or a value that was given as a setting. Out: text and numbers for a run folder, to be compared later.
"""

from __future__ import annotations

import functools
import inspect
import json
import math
import re
import types
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from medlab.backend import keras

_SIMPLE = (bool, int, float, str, bytes, type(None))
_DEEPEST = 4
_NAMES = ("name", "keras_history", "input_layers", "output_layers")
"""Where a model's configuration holds the names of layers."""


def words(value: Any, depth: int = 0) -> str:
    """A setting as text without addresses in memory; of a function its name and eight digits of what it does."""
    if depth > _DEEPEST:
        return type(value).__qualname__
    deeper = functools.partial(words, depth=depth + 1)
    if isinstance(value, types.FunctionType):
        return f"{value.__qualname__} {_crc(_function(value, deeper))}"
    if isinstance(value, types.MethodType):
        return f"{deeper(value.__func__)} of {deeper(value.__self__)}"
    if isinstance(value, functools.partial):
        return f"partial {deeper(value.func)} {deeper(value.args)} {deeper(value.keywords)}"
    if isinstance(value, np.ndarray):
        return f"array {value.shape} {zlib.crc32(np.ascontiguousarray(value).tobytes()):08x}"
    text = repr(value)
    if " at 0x" not in text:
        return text
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(deeper, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{name!r}: {deeper(one)}' for name, one in value.items())}}}"
    kind = type(value).__qualname__
    if hasattr(value, "get_config") and not isinstance(value, type):
        return f"{kind} {_crc(json.dumps(_plain(value.get_config()), sort_keys=True, default=deeper))}"
    call = inspect.getattr_static(type(value), "__call__", None)
    own = {name: deeper(one) for name, one in sorted(getattr(value, "__dict__", {}).items())}
    code = _function(call, deeper) if isinstance(call, types.FunctionType) else ""
    return f"{kind} {_crc(code + repr(own))}" if code or own else kind


def of_model(model: keras.Model) -> dict[str, Any]:
    """``model`` and ``start weights``, to be noted with a training.

    The first is its :func:`structure`; the second the norm of all weights and their projection on a fixed direction, in
    units of the norm.
    """
    return {"model": structure(model), "start weights": _summary(model)}


def structure(model: keras.Model) -> str:
    """Digits of a model's layers, settings (no seeds) and weights' shapes, whatever Keras numbered them."""
    layers = list(model._flatten_layers())
    try:
        config = _plain(model.get_config())
    except (NotImplementedError, TypeError):  # a layer of the user's own that does not tell its settings
        config = [type(one).__qualname__ for one in layers]
    names = {one.name: f"{_bare(one.name)}.{number}" for number, one in enumerate(layers)}
    text = json.dumps(_renamed(config, names), sort_keys=True, default=words)
    functions = [words(one.function) for one in layers if isinstance(one, keras.layers.Lambda)]
    weights = [(tuple(one.shape), bool(one.trainable)) for one in model.weights]
    return _crc(f"{text} {functions} {weights}")


def same_start(one: Any, other: Any) -> bool:
    """Whether two ``start weights`` are the same but for rounding."""
    if not (isinstance(one, list) and isinstance(other, list)):
        return one == other
    return math.isclose(one[0], other[0], rel_tol=1e-4) and abs(one[1] - other[1]) < 1e-3


def _summary(model: keras.Model) -> list[float]:
    squares = along = 0.0
    for number, variable in enumerate(model.weights):
        flat = np.asarray(variable).astype(np.float64).reshape(-1)  # convert_to_numpy warns on JAX
        squares += float(flat @ flat)
        along += float(flat @ np.cos(number + 1 + np.arange(flat.size)))
    norm = math.sqrt(squares)
    return [norm, along / norm if norm else 0.0]


def _plain(config: Any) -> Any:
    """A configuration without compiled code and identities of objects, which are of one session."""
    if isinstance(config, Mapping):
        if config.get("class_name") == "__lambda__":
            return "lambda"
        return {str(name): _plain(one) for name, one in config.items() if name != "shared_object_id"}
    return [_plain(one) for one in config] if isinstance(config, tuple | list) else config


def _renamed(config: Any, names: Mapping[str, str], *, is_name: bool = False) -> Any:
    """Layers' names by their place in the model; no other text, for an activation may be called as a layer is.

    Without seeds: where a model starts is told by its weights.
    """
    if isinstance(config, Mapping):
        return {key: _renamed(one, names, is_name=key in _NAMES) for key, one in config.items() if key != "seed"}
    if isinstance(config, list):
        return [_renamed(one, names, is_name=is_name) for one in config]
    return names.get(config, _bare(config)) if is_name and isinstance(config, str) else config


def _bare(name: str) -> str:
    return re.sub(r"_\d+$", "", name)


def _function(function: types.FunctionType, said: Any) -> str:
    """What a function does: its code, the simple values it refers to, its defaults."""
    code = function.__code__
    held = [_cell(cell) for cell in function.__closure__ or ()]
    held += [function.__globals__.get(name) for name in _names(code)]
    known = [said(one) if isinstance(one, (*_SIMPLE, tuple, np.ndarray)) else _nested(one, said) for one in held]
    return f"{_code(code)} {known} {said(function.__defaults__)} {said(function.__kwdefaults__)}"


def _nested(value: Any, said: Any) -> str:
    return said(value) if isinstance(value, types.FunctionType) else type(value).__qualname__


def _cell(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _names(code: types.CodeType) -> list[str]:
    inner = [name for one in code.co_consts if inspect.iscode(one) for name in _names(one)]
    return [*code.co_names, *inner]


def _code(code: types.CodeType) -> str:
    parts = [
        _code(one) if inspect.iscode(one) else repr(sorted(map(repr, one)) if isinstance(one, frozenset) else one)
        for one in code.co_consts
    ]
    return f"{code.co_code.hex()} {code.co_names} {parts}"


def _crc(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
