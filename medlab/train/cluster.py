"""Cluster: one model trained on several devices, of this machine or, on JAX, of several.

In: a model, and devices. Out: a copy of it that lives on them, whose weights come back. Each step's batch is shared
alike by the devices, and the weights are those that one device would have learned.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from medlab.backend import keras
from medlab.train.precision import leaves, precision

if TYPE_CHECKING:
    from medlab.train.devices import Setup

_count = itertools.count()
_NO_TENSORFLOW = (
    "TensorFlow's MultiWorkerMirroredStrategy fails in Keras 3.15 (PerReplica values reach convert_to_tensor), so "
    "medlab trains on several machines with JAX alone: install jax, set KERAS_BACKEND=jax and unset TF_CONFIG. "
    "Several GPUs of one machine work with TensorFlow too."
)


def connect(address: str | None = None, processes: int | None = None, rank: int | None = None) -> tuple[int, int]:
    """Makes this process one of several that train together; to be called first of all, once in each of them.

    Every process then runs the same program. :func:`medlab.train.fit` feeds each its share of every batch, so that all
    hold the same weights, those that one process would have learned; the process of rank 0 alone shows progress and
    writes the run folder. To resume, all must see that folder.

    Args:
        address: ``"host:port"`` of the process of rank 0, reached by all; a free port. None takes the environment's
            ``KERAS_DISTRIBUTION_JOB_ADDRESSES``, as Keras does.
        processes: how many there are; else ``KERAS_DISTRIBUTION_NUM_PROCESSES``.
        rank: which of them this is, from 0; else ``KERAS_DISTRIBUTION_PROCESS_ID``.

    Returns:
        processes and rank.

    Raises:
        ValueError: not JAX; an address or number that is missing or makes no sense; too late, or connected before.
    """
    backend = keras.backend.backend()
    if backend != "jax":
        raise ValueError(_NO_TENSORFLOW if backend == "tensorflow" else "Several machines train with JAX alone.")
    address = address or os.environ.get("KERAS_DISTRIBUTION_JOB_ADDRESSES", "").partition(",")[0]
    processes = _number("processes", processes, "KERAS_DISTRIBUTION_NUM_PROCESSES")
    rank = _number("rank", rank, "KERAS_DISTRIBUTION_PROCESS_ID")
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or processes < 1 or not 0 <= rank < processes:
        raise ValueError(
            'Expected an address "host:port", at least one process and a rank below their number. '
            f"Received {address!r}, {processes} processes, rank {rank}."
        )
    import jax

    if jax.distributed.is_initialized():
        raise ValueError("This process is connected already: call train.connect once.")
    try:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        # Keras draws a common seed here; fit sets its own later. One that is set spares the exchange.
        keras.utils.set_random_seed(0)
        keras.distribution.initialize(address, processes, rank)
    except RuntimeError as error:
        raise ValueError(
            f"Process {rank} of {processes} cannot join {address} ({str(error).splitlines()[0]}). Call train.connect "
            "before anything is computed, in all processes, with an address and a port that all reach."
        ) from None
    return processes, rank


def _number(name: str, value: int | None, variable: str) -> int:
    text = os.environ.get(variable) if value is None else value
    try:
        return int(text)
    except (TypeError, ValueError):
        raise ValueError(f"Expected a whole number for {name}, or in ${variable}. Received {text!r}.") from None


def processes(backend: str) -> tuple[int, int]:
    """How many processes train together, and which of them this is."""
    if backend != "jax":
        return 1, 0
    import jax

    return jax.process_count(), jax.process_index()


def refuse_workers(backend: str) -> None:
    """Raises ValueError where TensorFlow was told of several machines."""
    if backend != "tensorflow" or not os.environ.get("TF_CONFIG"):
        return
    try:
        workers = json.loads(os.environ["TF_CONFIG"])["cluster"]["worker"]
    except (ValueError, KeyError, TypeError):
        return
    if len(workers) > 1:
        raise ValueError(_NO_TENSORFLOW)


def strategy(backend: str, names: tuple[str, ...]) -> Any:
    """What spreads a batch over these devices."""
    if backend == "tensorflow":
        import tensorflow as tf

        # Sums of two strategies with the same keys are taken for one another, and training fails: each gets its own.
        own = {"_collective_key_base": 1000 * next(_count)}
        return type("MirroredStrategy", (tf.distribute.MirroredStrategy,), own)([f"/{name}" for name in names])
    if backend == "jax":
        return keras.distribution.DataParallel(devices=list(names), auto_shard_dataset=False)
    raise ValueError(f"medlab trains on several devices with TensorFlow and JAX. The backend is {backend}.")


@contextlib.contextmanager
def placed(
    model: keras.Model, setup: Setup
) -> Iterator[tuple[keras.Model, Callable[[], contextlib.AbstractContextManager]]]:
    """Inside, the model to train: it lives on the devices of ``setup`` and computes in its precision.

    On one device it is ``model`` itself, on several a copy, whose weights ``model`` gets in the end. Its batch
    normalization takes the statistics of the whole batch.

    Yields:
        the model, and ``own()``, a context in which its layers are as the user made them, for saving.
    """
    if setup.strategy is None:
        with precision(model, setup.precision, spared=setup.spared) as own:
            yield model, own
        return
    with setup.scope():
        copy = _copied(model)
    _hand_over(model, copy, from_first=setup.processes > 1)
    alone = [layer for layer in leaves(copy) if getattr(layer, "synchronized", None) is False]
    together = alone if keras.backend.backend() == "tensorflow" else []  # JAX sees the whole batch anyway
    with precision(copy, setup.precision, spared=setup.spared) as own_precision:

        @contextlib.contextmanager
        def own() -> Iterator[None]:
            _synchronize(together, on=False)
            try:
                with own_precision():
                    yield
            finally:
                _synchronize(together, on=True)

        _synchronize(together, on=True)
        try:
            yield copy, own
        finally:
            _hand_over(copy, model)


def _copied(model: keras.Model) -> keras.Model:
    try:
        copy = keras.models.clone_model(model)
    except Exception as error:
        raise ValueError(
            f"Several devices train a copy of the model, and Keras cannot copy {model.name!r} "
            f"({str(error).splitlines()[0]}). Give its layers a get_config, or take one device."
        ) from error
    same = [tuple(one.shape) for one in copy.trainable_variables] == [
        tuple(one.shape) for one in model.trainable_variables
    ]
    if not same or len(copy.variables) != len(model.variables):
        raise ValueError(
            f"Several devices train a copy of the model, and the copy of {model.name!r} has other weights. Build it of "
            "layers that share no weights and are frozen as wholes, or take one device."
        )
    return copy


def _synchronize(layers: list[keras.layers.Layer], *, on: bool) -> None:
    for layer in layers:
        layer.synchronized = on


def _hand_over(source: keras.Model, target: keras.Model, *, from_first: bool = False) -> None:
    """Copies all variables; in several processes those of the first."""
    values = [np.array(np.asarray(one)) for one in source.variables]
    if from_first:
        from jax.experimental import multihost_utils

        values = [np.asarray(one) for one in multihost_utils.broadcast_one_to_all(values)]
    for variable, value in zip(target.variables, values, strict=True):
        variable.assign(value)


def adopted(optimizer: keras.optimizers.Optimizer, setup: Setup) -> keras.optimizers.Optimizer:
    """The optimizer as it must be to train by ``setup``; to be called inside ``setup.scope()``.

    A float16 training gets loss scaling. With several devices on TensorFlow, Keras clips the gradient of each device's
    share of the batch; here their sum is clipped, as on one device.
    """
    if setup.strategy is not None and keras.backend.backend() == "tensorflow":
        _clip_sum(optimizer)
    if setup.precision == "mixed_float16" and not isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


def remade(optimizer: Any, setup: Setup) -> Any:
    """An optimizer that a user made, made again inside ``setup.scope()`` where it must live on several devices."""
    if setup.strategy is None or not isinstance(optimizer, keras.optimizers.Optimizer) or optimizer.built:
        return optimizer
    with warnings.catch_warnings():
        # Keras hands the learning rate to np.array, whose argument copy its variables do not know yet.
        warnings.filterwarnings("ignore", message="__array__ implementation", category=DeprecationWarning)
        new = type(optimizer).from_config(optimizer.get_config())
    for name in ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern"):  # not in the configuration
        if hasattr(optimizer, name):
            setattr(new, name, getattr(optimizer, name))
    return new


def _clip_sum(optimizer: keras.optimizers.Optimizer) -> None:
    import tensorflow as tf

    clip = optimizer._clip_gradients

    def of_the_sum(gradients: list) -> list:
        replica = tf.distribute.get_replica_context()
        known = [one for one in gradients if one is not None]
        summed = iter(replica.all_reduce(tf.distribute.ReduceOp.SUM, known))
        return clip([None if one is None else next(summed) for one in gradients])

    optimizer._clip_gradients = of_the_sum
    optimizer._all_reduce_sum_gradients = lambda pairs: pairs  # they are summed before


def predict(model: keras.Model, x: np.ndarray, strategy: Any) -> np.ndarray:
    """The output of a model on several devices; the batch is filled up so that they can share it alike."""
    backend = keras.backend.backend()
    count = strategy.num_replicas_in_sync if backend == "tensorflow" else strategy.num_model_replicas
    padded = np.concatenate([x, np.repeat(x[-1:], -len(x) % count, axis=0)])
    forward = _predict_tensorflow if backend == "tensorflow" else _predict_jax
    return forward(model, padded, strategy, count)[: len(x)]


def _predict_tensorflow(model: keras.Model, x: np.ndarray, strategy: Any, count: int) -> np.ndarray:
    import tensorflow as tf

    if not hasattr(model, "_forward_on_all"):

        @tf.function(reduce_retracing=True)
        def forward(part: Any) -> Any:
            return strategy.run(model, args=(part,), kwargs={"training": False})

        model._forward_on_all = forward
    parts = np.split(x, count)
    shared = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(parts[context.replica_id_in_sync_group])
    )
    out = strategy.experimental_local_results(model._forward_on_all(shared))
    return np.concatenate([one.numpy() for one in out])


def _predict_jax(model: keras.Model, x: np.ndarray, strategy: Any, count: int) -> np.ndarray:
    import jax

    mesh = strategy.device_mesh.backend_mesh
    over_cases = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(strategy.batch_dim_name))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    if not hasattr(model, "_forward_on_all"):

        def forward(trainable: list, others: list, part: Any) -> Any:
            return model.stateless_call(trainable, others, part, training=False)[0]

        model._forward_on_all = jax.jit(forward, out_shardings=everywhere)
    shared = jax.make_array_from_callback(x.shape, over_cases, lambda index: x[index])
    variables = [[one.value for one in part] for part in (model.trainable_variables, model.non_trainable_variables)]
    return np.asarray(model._forward_on_all(*variables, shared))


def agreed(number: int, setup: Setup) -> bool:
    """Whether all processes have the same ``number``."""
    if setup.processes == 1:
        return True
    from jax.experimental import multihost_utils

    return len(set(np.asarray(multihost_utils.process_allgather(np.asarray([number]))).ravel().tolist())) == 1
