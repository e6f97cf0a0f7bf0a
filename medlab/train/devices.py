"""Devices: where and how precisely a model is trained, decided once, with the reason.

In: the machine, a model and wishes. Out: a :class:`Setup`. What runs on several devices is in ``cluster.py``, what
concerns 16 bits in ``precision.py``; no other room of training knows backends.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from medlab.backend import keras
from medlab.train import cluster
from medlab.train import precision as _precision


@dataclass(frozen=True)
class Setup:
    """Where a model is trained.

    Attributes:
        device: what it runs on, in words.
        kind: ``"cpu"``, ``"gpu"`` or ``"tpu"``.
        precision: ``"float32"``, ``"mixed_bfloat16"`` or ``"mixed_float16"``: float32 weights, 16-bit arithmetic.
        reason: why this precision.
        jit: what ``keras.Model.compile`` takes as ``jit_compile``.
        arithmetic: compiler and TensorFloat32, in words.
        names: the devices, such as ``("gpu:0", "gpu:1")``.
        strategy: what spreads a batch over several devices, None where there is one.
        spared: positions of layers that stay in float32; see :func:`medlab.train.precision.pick`.
        processes, rank: how many processes train together, and which of them this is.
    """

    device: str
    kind: str
    precision: str
    reason: str
    jit: bool | str
    arithmetic: str = ""
    names: tuple[str, ...] = ("cpu:0",)
    strategy: Any = field(default=None, repr=False)
    spared: tuple[int, ...] = ()
    processes: int = 1
    rank: int = 0

    def scope(self) -> contextlib.AbstractContextManager:
        """What is made inside lives on these devices."""
        if self.strategy is not None:
            return self.strategy.scope()
        return contextlib.nullcontext() if self.kind == "tpu" else keras.device(self.names[0])

    def running(self) -> contextlib.AbstractContextManager:
        """What was made in :meth:`scope` is trained inside."""
        if self.strategy is not None and keras.backend.backend() == "tensorflow":
            return contextlib.nullcontext()  # the model knows its strategy; losses taken inside would be its shares
        return self.scope()

    def alone(self) -> Setup:
        """The first of these devices by itself.

        Raises:
            ValueError: this process is one of several.
        """
        if self.processes > 1:
            raise ValueError("This works in one process alone, before medlab.train.connect is called.")
        return replace(self, names=self.names[:1], strategy=None)

    def predict(self, model: keras.Model, x: np.ndarray) -> np.ndarray:
        """The output of a placed model for a batch of any size, in inference."""
        if self.strategy is None:
            return np.asarray(model.predict_on_batch(x))
        return cluster.predict(model, x, self.strategy)


def choose(
    model: keras.Model,
    *,
    devices: str | int | Sequence[str] = "auto",
    precision: str = "auto",
    batch_size: int | None = None,
) -> Setup:
    """The setup for training ``model`` here.

    Args:
        model: a built model.
        devices: ``"auto"`` (all GPUs or TPUs, else the CPU), ``"cpu"``, ``"gpu"`` (all of them), one device such as
            ``"gpu:1"``, several such as ``["gpu:0", "gpu:1"]``, or how many. After :func:`medlab.train.connect` all
            devices of all processes are taken.
        precision: ``"auto"`` or one of ``medlab.train.precision.PRECISIONS``.
        batch_size: cases a step, over all devices; each takes an equal part.

    Raises:
        ValueError: an unknown wish, a device that is not found, or a batch that does not divide by the devices asked
            for ("auto" then takes as many as it divides by).
    """
    if precision not in ("auto", *_precision.PRECISIONS):
        raise ValueError(f'Expected precision "auto" or one of {_precision.PRECISIONS}. Received {precision!r}.')
    backend = keras.backend.backend()
    cluster.refuse_workers(backend)
    processes, rank = cluster.processes(backend)
    found = _found(backend)
    names = _wanted(devices, found, backend, processes)
    names, left_out = _fitting(names, batch_size, processes, whole=devices == "auto")
    kind = names[0].partition(":")[0]
    device = _say(names, found, processes) + left_out
    capability = _capability(backend, names) if kind == "gpu" else None
    spared: tuple[int, ...] = ()
    unscaled = backend == "tensorflow" and len(names) > 1  # Keras' loss scaling fails in a MirroredStrategy
    if precision == "mixed_float16" and unscaled:
        raise ValueError(
            "mixed_float16 needs its loss scaled, which fails on several devices with TensorFlow. Take "
            "precision='float32', one device, or JAX (KERAS_BACKEND=jax)."
        )
    if precision != "auto":
        reason = "as given"
    else:
        with keras.device(names[0]) if processes == 1 and kind != "tpu" else contextlib.nullcontext():
            precision, reason, spared = _precision.pick(model, kind, capability)
        if precision == "mixed_float16" and unscaled:
            precision, reason = "float32", "loss scaling for float16 fails on several devices with TensorFlow"
    # XLA on a CPU was slower than TensorFlow's own kernels; JAX always compiles.
    jit = False if backend == "tensorflow" and kind == "cpu" else "auto"
    strategy = cluster.strategy(backend, names) if len(names) > 1 else None
    words = _arithmetic(backend, kind, capability)
    return Setup(device, kind, precision, reason, jit, words, names, strategy, spared, processes, rank)


def _wanted(
    devices: str | int | Sequence[str], found: dict[str, list[str]], backend: str, processes: int
) -> tuple[str, ...]:
    """The names of the devices that are asked for."""
    best = next((kind for kind in ("tpu", "gpu") if found.get(kind)), "cpu")
    whole = {kind: tuple(f"{kind}:{number}" for number in _numbers(kind, found, backend)) for kind in found}
    if processes > 1:
        if devices not in ("auto", best):
            raise ValueError(
                f'Connected processes train on all their devices: devices="auto". Received {devices!r}; choose with '
                "the environment, such as CUDA_VISIBLE_DEVICES, before Python starts."
            )
        return whole[best]
    if devices == "auto":
        return whole[best] if best != "cpu" else whole["cpu"][:1]
    if devices == "cpu":
        return whole["cpu"][:1]
    if devices == "gpu":
        if not found.get("gpu"):
            raise ValueError(_no_gpu(backend))
        return whole["gpu"]
    if isinstance(devices, int) and not isinstance(devices, bool):
        if not 1 <= devices <= len(whole[best]):
            raise ValueError(f"Expected 1 to {len(whole[best])} devices, which are here. Received {devices!r}.")
        return whole[best][:devices]
    names = (devices,) if isinstance(devices, str) else tuple(devices) if isinstance(devices, list | tuple) else ()
    known = [name for of_kind in whole.values() for name in of_kind]
    kinds = {name.partition(":")[0] if isinstance(name, str) else None for name in names}
    if not kinds or not kinds <= {"cpu", "gpu", "tpu"}:
        raise ValueError(
            'Expected devices "auto", "cpu", "gpu", a device such as "gpu:0", a list of such, or how many. '
            f"Received {devices!r}."
        )
    if "gpu" in kinds and not found.get("gpu"):
        raise ValueError(_no_gpu(backend))
    missing = [name for name in names if name not in known]
    if missing or len(set(names)) < len(names) or len(kinds) > 1:
        raise ValueError(
            f"Expected different devices of one kind out of {', '.join(known)}, which are here. Received {devices!r}."
        )
    return names


def _no_gpu(backend: str) -> str:
    return (
        f"A GPU is asked for, but {backend} finds none. "
        'Install a driver and the extra gpu of medlab, or take devices="auto".'
    )


def _fitting(
    names: tuple[str, ...], batch_size: int | None, processes: int, *, whole: bool
) -> tuple[tuple[str, ...], str]:
    """As many of the devices as ``batch_size`` divides by, and a word where some are left out."""
    if batch_size is None or batch_size % len(names) == 0:
        return names, ""
    if not whole or processes > 1:
        raise ValueError(
            f"Expected a batch that {len(names)} devices can share alike. Received {batch_size} cases a batch; take "
            f"batch_size={-(-batch_size // len(names)) * len(names)}, or fewer devices."
        )
    most = next(count for count in range(len(names), 0, -1) if batch_size % count == 0)
    return names[:most], f" (not all {len(names)}: they cannot share {batch_size} cases a batch alike)"


def _say(names: tuple[str, ...], found: dict[str, list[str]], processes: int) -> str:
    kind = names[0].partition(":")[0]
    if kind == "cpu" and len(names) == 1:
        return f"CPU, {_cores()} cores" + ("" if found.get("gpu") or found.get("tpu") else " (no GPU found)")
    if processes > 1:
        told = found[kind]
    else:
        told = [found[kind][int(name.partition(":")[2])] for name in names]
    text = ", ".join(f"{count} x {name}" if count > 1 else name for name, count in Counter(told).items())
    if processes > 1:
        return f"{text} in {processes} processes"
    here = len(found[kind])
    return text if len(names) == here or kind == "cpu" else f"{text} ({', '.join(names)} of {here})"


def _found(backend: str) -> dict[str, list[str]]:
    """What is here, by kind: the name of each device; those of all connected processes on JAX."""
    if backend == "tensorflow":
        import tensorflow as tf

        physical = tf.config.list_physical_devices("GPU")
        gpus = [tf.config.experimental.get_device_details(one).get("device_name", "GPU") for one in physical]
        logical = len(tf.config.list_logical_devices("GPU")) if gpus else 0
        if logical > len(gpus):  # one GPU made into several
            gpus = gpus[:1] * logical
        return {"gpu": gpus, "cpu": ["logical CPU device"] * len(tf.config.list_logical_devices("CPU"))}
    if backend == "jax":
        import jax

        found = {"cpu": ["logical CPU device" for _ in jax.devices("cpu")]}
        for one in jax.devices():
            if one.platform != "cpu":
                found.setdefault("tpu" if "tpu" in one.platform.lower() else "gpu", []).append(one.device_kind)
        return found
    return {"cpu": ["CPU"]}


def _numbers(kind: str, found: dict[str, list[str]], backend: str) -> list[int]:
    """The number of each device in its name: JAX leaves gaps between those of different processes."""
    if backend == "jax":
        import jax

        return [one.id for one in jax.devices(kind)]
    return list(range(len(found[kind])))


def _capability(backend: str, names: tuple[str, ...]) -> tuple[int, int] | None:
    """The least compute capability of these GPUs."""
    if backend == "tensorflow":
        import tensorflow as tf

        details = [tf.config.experimental.get_device_details(one) for one in tf.config.list_physical_devices("GPU")]
        numbers = [int(name.partition(":")[2]) for name in names]
        known = [details[number].get("compute_capability") for number in numbers if number < len(details)]
    elif backend == "jax":
        import jax

        told = [getattr(one, "compute_capability", None) for one in jax.devices("gpu")]
        known = [tuple(int(part) for part in str(one).split(".")) if one else None for one in told]
    else:
        known = []
    return min((one for one in known if one is not None), default=None)


def _arithmetic(backend: str, kind: str, capability: tuple[int, int] | None) -> str:
    """Compiler and TensorFloat32, in words."""
    if backend == "tensorflow" and kind == "cpu":
        return "TensorFlow's own kernels: XLA was slower on a CPU"
    words = "XLA" if backend == "jax" else "XLA where Keras can use it"
    if kind != "gpu" or (capability or (0, 0)) < (8, 0):
        return words
    if backend == "tensorflow":
        import tensorflow as tf

        on = tf.config.experimental.tensor_float_32_execution_enabled()
        switch = "tf.config.experimental.enable_tensor_float_32_execution"
    else:
        import jax

        on = jax.config.jax_default_matmul_precision in (None, "default", "tensorfloat32")
        switch = "jax_default_matmul_precision"
    return f"{words}; what is left in float32 is multiplied as {'TensorFloat32' if on else 'float32'} ({switch})"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
