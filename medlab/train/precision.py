"""Precision: 16-bit arithmetic where the hardware has it and its gradients are right.

In: a built model and where it will run. Out: a policy with its reason, layers that are left in float32, and a context
in which the model computes so. Weights are float32 throughout.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from medlab.backend import keras

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")

_CONVOLUTIONS = tuple(
    getattr(keras.layers, f"{name}{rank}D{end}")
    for name, end, ranks in (
        ("Conv", "", (1, 2, 3)), ("Conv", "Transpose", (1, 2, 3)), ("DepthwiseConv", "", (1, 2)),
        ("SeparableConv", "", (1, 2)), ("ConvLSTM", "", (1, 2, 3)),
    )
    for rank in ranks
)  # fmt: skip
_KEPT = ("kernel_size", "strides", "padding", "dilation_rate", "data_format", "depth_multiplier", "output_padding")
_TOLERANCE = 0.05
"""Relative error of a gradient above which it is wrong; right ones were 0.002 to 0.004 off, wrong ones 0.8 to inf."""
_CHANNELS, _SIDES, _SHAPES = 16, {1: 64, 2: 32, 3: 16}, 32
_known: dict[tuple, bool] = {}


def pick(model: keras.Model, kind: str, capability: tuple[int, int] | None) -> tuple[str, str, tuple[int, ...]]:
    """The policy for ``model``, why, and which of its :func:`leaves` stay in float32.

    Bfloat16 is taken where the hardware multiplies it. On a CPU or GPU each distinct shape of convolution of the model
    then runs once forward and backward in both precisions (:func:`wrong_in_bfloat16`); layers whose gradients come out
    wrong stay in float32.

    Args:
        model: a built model.
        kind: ``"cpu"``, ``"gpu"`` or ``"tpu"``.
        capability: compute capability of the GPU, None where it has none or is not known.
    """
    backend = keras.backend.backend()
    if is_mixed(model):
        return "float32", "the model brings its own mixed precision", ()
    if kind == "tpu":
        return "mixed_bfloat16", "mixed: the TPU multiplies bfloat16", ()
    if kind == "gpu" and capability is not None and capability < (8, 0):
        if capability >= (7, 0):
            return "mixed_float16", "mixed with loss scaling: the GPU has float16 but no bfloat16 units", ()
        return "float32", "the GPU has no units for 16 bits", ()
    if kind == "cpu" and backend != "tensorflow":
        return "float32", f"{backend} has no fast 16-bit convolutions on a CPU", ()
    if kind == "cpu" and not has_bfloat16():
        return "float32", "this CPU has no bfloat16 units", ()
    wrong, shapes = wrong_in_bfloat16(model)
    reason = f"mixed: the {kind.upper()} multiplies bfloat16"
    if not shapes:
        return "mixed_bfloat16", reason, ()
    checked = "gradients of its 1 shape" if shapes == 1 else f"gradients of its {shapes} shapes"
    if not wrong:
        return "mixed_bfloat16", f"{reason}; {checked} of convolution agree with float32", ()
    convolutions = sum(isinstance(layer, _CONVOLUTIONS) for layer in leaves(model))
    said = f"{len(wrong)} of {convolutions} convolutions have wrong bfloat16 gradients here"
    if 2 * len(wrong) > convolutions:
        return "float32", said, ()
    return "mixed_bfloat16", f"{reason}; {said} and stay in float32", _positions(model, wrong)


def _positions(model: keras.Model, layers: list[keras.layers.Layer]) -> tuple[int, ...]:
    """Where ``layers`` stand among the leaves: the same in a copy of the model, unlike names."""
    wanted = {id(layer) for layer in layers}
    return tuple(number for number, layer in enumerate(leaves(model)) if id(layer) in wanted)


def wrong_in_bfloat16(model: keras.Model) -> tuple[list[keras.layers.Layer], int]:
    """The convolutions of ``model`` whose gradients in bfloat16 are not those in float32, and how many shapes it has.

    TensorFlow 2.21 on a CPU, for one, gives an infinite or random gradient for the filter of a bfloat16 Conv3D whose
    first spatial side is 2. Kernel, stride, padding and dilation are the model's own. So is the spatial size up to 64,
    32 or 16 voxels a side in 1-D, 2-D and 3-D, beyond which a layer is tried at that size; 16 channels stand for
    more. A side that the model leaves open is tried at 1, 2, 3, 4 and 8. At most 32 shapes are tried, the smallest
    first. Convolutions in groups are not: TensorFlow compiles them on a CPU, a second each, and not with the kernels
    that fail. The model is not touched, nor is any state of randomness; what was found is remembered for the process.
    """
    shapes: dict[keras.layers.Layer, list[tuple]] = {}
    for layer in leaves(model):
        if isinstance(layer, _CONVOLUTIONS) and layer.built and getattr(layer, "groups", 1) == 1:
            shapes[layer] = _shapes(layer)
    distinct = sorted({one for found in shapes.values() for one in found}, key=lambda one: (one[1], repr(one)))
    for one in distinct[:_SHAPES]:
        if (key := (keras.backend.backend(), one)) not in _known:
            _known[key] = _agrees(one)
    faulty = {one for one in distinct[:_SHAPES] if not _known[keras.backend.backend(), one]}
    return [layer for layer, found in shapes.items() if faulty & set(found)], len(distinct)


def _shapes(layer: keras.layers.Layer) -> list[tuple]:
    """What decides which kernel computes ``layer``: (class, sides, channels in, channels out, settings), capped."""
    config = layer.get_config()
    base = next(one for one in _CONVOLUTIONS if isinstance(layer, one))
    shape = tuple(layer.get_build_config()["input_shape"])
    first = config["data_format"] == "channels_first"
    steps = 1 if "LSTM" in base.__name__ else 0  # after the cases come the time steps
    inner = shape[1 + steps :]
    sides, channels = (inner[1:], inner[0]) if first else (inner[:-1], inner[-1])
    taken, given = (min(of, _CHANNELS) for of in (channels, config.get("filters", 0)))
    settings = tuple((name, config[name]) for name in _KEPT if name in config)
    open_sides = (1, 2, 3, 4, 8) if None in sides else (None,)
    limit = _SIDES[len(sides)]
    return [
        (
            base.__name__, tuple(min(value if side is None else side, limit) for side in sides),
            taken, given, settings,
        )
        for value in open_sides
    ]  # fmt: skip


def _agrees(one: tuple) -> bool:
    """Whether the gradients of a layer with these shapes are the same in both precisions."""
    name, sides, channels, filters, settings = one
    settings = dict(settings) | ({"filters": filters} if filters else {})
    settings |= {"use_bias": False, "seed": 0}
    for part in ("kernel", "depthwise", "pointwise", "recurrent"):
        settings[f"{part}_initializer"] = "zeros"  # draws nothing from the global generators
    rng = np.random.default_rng(0)
    inner = (channels, *sides) if settings.get("data_format") == "channels_first" else (*sides, channels)
    x = rng.normal(size=(2, *((2,) if "LSTM" in name else ()), *inner)).astype(np.float32)
    found = []
    for policy in ("float32", "mixed_bfloat16"):
        layer = _make(getattr(keras.layers, name), settings, policy)
        layer.build(x.shape)
        start = np.random.default_rng(1)
        for variable in layer.trainable_variables:
            fan = max(1, int(np.prod(variable.shape[:-1])))
            variable.assign(start.normal(size=variable.shape) / np.sqrt(fan))
        up = np.random.default_rng(2).normal(size=layer.compute_output_shape(x.shape)).astype(np.float32)
        found.append(_gradients(layer, x, up))
    return all(
        np.isfinite(low).all() and np.linalg.norm(low - full) <= _TOLERANCE * np.linalg.norm(full)
        for full, low in zip(*found, strict=True)
    )


def _make(kind: type, settings: dict[str, Any], policy: str) -> keras.layers.Layer:
    """The layer with those of ``settings`` that its class knows."""
    known = inspect.signature(kind).parameters
    return kind(**{name: value for name, value in settings.items() if name in known}, dtype=policy)


def _gradients(layer: keras.layers.Layer, x: np.ndarray, up: np.ndarray) -> list[np.ndarray]:
    """Gradients of sum(up * layer(x)) by x and by the weights, float64: garbage may be huge."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        image = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(image)
            total = tf.reduce_sum(tf.cast(layer(image), tf.float32) * up)
        found = tape.gradient(total, [image, *(one.value for one in layer.trainable_variables)])
    else:
        import jax

        def total(weights: list, image: Any) -> Any:
            out, _ = layer.stateless_call(weights, [one.value for one in layer.non_trainable_variables], image)
            return (out.astype("float32") * up).sum()

        by_weights, by_image = jax.grad(total, argnums=(0, 1))([one.value for one in layer.trainable_variables], x)
        found = [by_image, *by_weights]
    return [np.asarray(one, np.float64) for one in found]


@contextlib.contextmanager
def precision(
    model: keras.Model, policy: str, *, spared: tuple[int, ...] = ()
) -> Iterator[Callable[[], contextlib.AbstractContextManager]]:
    """Inside, the layers of ``model`` compute by ``policy``; its outputs stay float32. After it, all is as before.

    A model whose layers already have another policy than float32 is left alone.

    Args:
        model: a built model.
        policy: one of ``PRECISIONS``.
        spared: positions among the :func:`leaves` of layers that stay in float32.

    Yields:
        ``own()``, a context in which the layers have their own policy again, for saving the model.
    """
    before = [(layer, layer.dtype_policy) for layer in leaves(model)]
    inside = before
    if policy != "float32" and not is_mixed(model):
        last = {id(layer) for layer in _outputs(model)}
        inside = [
            # What a layer adds to the loss is summed with float32.
            (layer, old if id(layer) in last or number in spared or layer.activity_regularizer is not None else policy)
            for number, (layer, old) in enumerate(before)
        ]

    @contextlib.contextmanager
    def own() -> Iterator[None]:
        _set_policies(before)
        try:
            yield
        finally:
            _set_policies(inside)

    _set_policies(inside)
    try:
        yield own
    finally:
        _set_policies(before)
        _forget_traces(model)


def is_mixed(model: keras.Model) -> bool:
    """Whether the model was built with another precision than float32."""
    return any(layer.compute_dtype not in ("float32", None) for layer in leaves(model))


def has_bfloat16(cpuinfo: str | Path = "/proc/cpuinfo") -> bool:
    """Whether this CPU multiplies bfloat16 natively (AVX512-BF16 or AMX), as far as the system says."""
    try:
        text = Path(cpuinfo).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def leaves(model: keras.Model) -> list[keras.layers.Layer]:
    """All layers at any depth that are not models, each once."""
    # No public call reaches layers inside wrappers such as TimeDistributed and Bidirectional.
    flat = model._flatten_layers(include_self=False, recursive=True)
    unique = {id(layer): layer for layer in flat if not isinstance(layer, keras.Model)}
    return list(unique.values())


def _outputs(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers that give the model's outputs; empty where the model does not say."""
    last = []
    for tensor in getattr(model, "outputs", None) or []:
        layer = tensor._keras_history.operation
        last += _outputs(layer) if isinstance(layer, keras.Model) else [layer]
    return last


def _set_policies(policies: list[tuple[keras.layers.Layer, Any]]) -> None:
    for layer, policy in policies:
        layer.dtype_policy = policy


def _forget_traces(model: keras.Model) -> None:
    """Compiled functions of ``model`` remember the precision they were traced with."""
    for name in ("train_function", "test_function", "predict_function"):
        if getattr(model, name, None) is not None:
            setattr(model, name, None)
