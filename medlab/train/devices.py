"""Devices: where and how precisely a model is trained, decided once, with the reason.

In: the machine, a model and wishes. Out: a :class:`Setup`. This is the one room of training that knows backends.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medlab.backend import keras

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


@dataclass(frozen=True)
class Setup:
    """Where a model is trained.

    Attributes:
        device: what it runs on, in words.
        kind: ``"cpu"``, ``"gpu"`` or ``"tpu"``.
        precision: ``"float32"``, ``"mixed_bfloat16"`` or ``"mixed_float16"``: float32 weights, 16-bit arithmetic.
        reason: why this precision.
        jit: what ``keras.Model.compile`` takes as ``jit_compile``.
    """

    device: str
    kind: str
    precision: str
    reason: str
    jit: bool | str

    def scope(self) -> contextlib.AbstractContextManager:
        """Runs what is inside on this device."""
        name = {"cpu": "cpu:0", "gpu": "gpu:0"}.get(self.kind)
        return keras.device(name) if name else contextlib.nullcontext()


def choose(model: keras.Model, *, devices: str = "auto", precision: str = "auto") -> Setup:
    """The setup for training ``model`` here.

    Args:
        model: a built model.
        devices: ``"auto"`` (the first GPU or TPU, else the CPU), ``"cpu"`` or ``"gpu"``.
        precision: ``"auto"`` or one of ``PRECISIONS``.

    Raises:
        ValueError: an unknown wish, or a GPU where none is found.
    """
    if devices not in ("auto", "cpu", "gpu"):
        raise ValueError(f'Expected devices "auto", "cpu" or "gpu". Received {devices!r}.')
    if precision not in ("auto", *PRECISIONS):
        raise ValueError(f'Expected precision "auto" or one of {PRECISIONS}. Received {precision!r}.')
    backend = keras.backend.backend()
    found, capability = _accelerators(backend)
    if devices == "gpu" and not found:
        raise ValueError(
            f"devices='gpu', but {backend} finds no GPU. "
            'Install a driver and the extra gpu of medlab, or take devices="auto".'
        )
    if devices == "cpu" or not found:
        kind, device = "cpu", f"CPU, {_cores()} cores" + ("" if found else " (no GPU found)")
    else:
        kind = "tpu" if "TPU" in found[0].upper() else "gpu"
        device = found[0] + (f" (the first of {len(found)})" if len(found) > 1 else "")
    if precision != "auto":
        reason = "as given"
    else:
        precision, reason = _precision(model, backend, kind, capability)
    # XLA on a CPU was slower than TensorFlow's own kernels; JAX always compiles.
    jit = False if backend == "tensorflow" and kind == "cpu" else "auto"
    return Setup(device, kind, precision, reason, jit)


@contextlib.contextmanager
def precision(model: keras.Model, policy: str) -> Iterator[Callable[[], contextlib.AbstractContextManager]]:
    """Inside, the layers of ``model`` compute by ``policy``; its outputs stay float32. After it, all is as before.

    Weights are float32 throughout. A model whose layers already have another policy than float32 is left alone.

    Yields:
        ``own()``, a context in which the layers have their own policy again, for saving the model.
    """
    before = [(layer, layer.dtype_policy) for layer in _leaves(model)]
    inside = before
    if policy != "float32" and not is_mixed(model):
        last = {id(layer) for layer in _outputs(model)}
        inside = [(layer, old if id(layer) in last else policy) for layer, old in before]

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
    return any(layer.compute_dtype not in ("float32", None) for layer in _leaves(model))


def has_bfloat16(cpuinfo: str | Path = "/proc/cpuinfo") -> bool:
    """Whether this CPU multiplies bfloat16 natively (AVX512-BF16 or AMX), as far as the system says."""
    try:
        text = Path(cpuinfo).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _precision(model: keras.Model, backend: str, kind: str, capability: tuple[int, int] | None) -> tuple[str, str]:
    if is_mixed(model):
        return "float32", "the model brings its own mixed precision"
    if kind == "tpu":
        return "mixed_bfloat16", "mixed: the TPU multiplies bfloat16"
    if kind == "gpu":
        if capability is None or capability >= (8, 0):
            return "mixed_bfloat16", "mixed: the GPU multiplies bfloat16"
        if capability >= (7, 0):
            return "mixed_float16", "mixed with loss scaling: the GPU has float16 but no bfloat16 units"
        return "float32", "the GPU has no units for 16 bits"
    if backend != "tensorflow":
        return "float32", f"{backend} has no fast 16-bit convolutions on a CPU"
    if not has_bfloat16():
        return "float32", "this CPU has no bfloat16 units"
    if any(type(layer).__name__.startswith(("Conv3D", "ConvLSTM3D")) for layer in _leaves(model)):
        # TensorFlow 2.21 with oneDNN: the gradient of a bfloat16 Conv3D is infinite where the first side is 2.
        return "float32", "3-D convolutions: TensorFlow's bfloat16 gradients on a CPU can be infinite"
    return "mixed_bfloat16", "mixed: the CPU has bfloat16 units"


def _accelerators(backend: str) -> tuple[list[str], tuple[int, int] | None]:
    """Names of the GPUs or TPUs, and the compute capability of the first."""
    if backend == "tensorflow":
        import tensorflow as tf

        found = tf.config.list_physical_devices("GPU")
        details = [tf.config.experimental.get_device_details(one) for one in found]
        names = [one.get("device_name", "GPU") for one in details]
        return names, details[0].get("compute_capability") if details else None
    if backend == "jax":
        import jax

        found = [one for one in jax.devices() if one.platform != "cpu"]
        capability = getattr(found[0], "compute_capability", None) if found else None
        numbers = tuple(int(part) for part in str(capability).split(".")) if capability else None
        return [one.device_kind for one in found], numbers
    return [], None


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _leaves(model: keras.Model) -> list[keras.layers.Layer]:
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
