"""Loop: the epochs of a training: validate, keep the best, write the state, stop.

In: a :class:`Job`, everything decided. Out: the model with its best weights and the state at the end.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import psutil

from medlab import runs
from medlab.backend import keras
from medlab.train import checkpoint, cluster, feed, guards, losses, optimize
from medlab.train import devices as machine
from medlab.train.guards import DivergedError
from medlab.train.keeper import Keeper
from medlab.train.supervision import Trainee

__all__ = ["DivergedError", "Job", "Trainee", "train"]


@dataclass(frozen=True)
class Job:
    """A training, everything decided; the fields are those of :func:`medlab.train.fit`, or what it made of them."""

    model: keras.Model
    batches: feed.Feed | feed.Wrapped
    validation: tuple | keras.utils.PyDataset | None
    objective: losses.Objective
    choice: optimize.Choice
    setup: machine.Setup
    choices: Mapping[str, str]
    settings: Mapping[str, Any]
    epochs: int
    batch_size: int
    patience: int | None
    averaged: bool
    seed: int
    run: runs.Run | None
    resume: bool
    tensorboard: bool
    shown: bool
    cases: str
    levels: tuple[str, ...] = ()
    max_seconds: float | None = None
    plateau: int | None = None
    paced: bool = False
    saved: keras.Model | None = None


def train(job: Job) -> tuple[checkpoint.State, float, str | None]:
    """Runs the epochs and leaves the best weights in the model.

    Returns:
        The state at the end, the seconds it took, and why it stopped early or None.

    Raises:
        DivergedError: the loss is not finite, or grew without end.
        OutOfMemoryError: a step needs more memory than there is.
        DiskFullError: the state or the model could not be written; those of the epochs before are whole.
        ValueError: the state to resume from has other settings, or TensorBoard is wanted and not installed.
    """
    began = time.perf_counter()
    keras.utils.set_random_seed(job.seed % 2**32)
    extra = [_tensorboard(job)] if job.tensorboard and not job.setup.rank else []
    with cluster.placed(job.model, job.setup) as (model, own), job.setup.running():
        job = replace(job, model=model)
        with job.setup.scope():
            trainee = Trainee(job.model, job.levels, seed=job.seed)
            optimizer = cluster.adopted(job.choice.optimizer, job.setup)
            trainee.compile(optimizer, job.objective.loss, jit_compile=job.setup.jit)
            trainee.optimizer.build(trainee.trainable_variables)
        keeper = Keeper(job, trainee, own)
        try:
            if not keeper.finished():
                _epochs(job, trainee, [keeper, *extra], start=keeper.state.epoch)
        except KeyboardInterrupt:
            keeper.interrupted()
            raise
        finally:
            keeper.progress.close()
            if keeper.state.best_weights:
                job.model.set_weights(keeper.state.best_weights)
    seconds = time.perf_counter() - began
    keeper.record(seconds)
    if keeper.diverged:
        raise DivergedError(keeper.diverged)
    return keeper.state, seconds, keeper.stopped


def _epochs(job: Job, trainee: Trainee, callbacks: list[keras.callbacks.Callback], *, start: int) -> None:
    """Keras' own loop; an error in the data is raised as what it was, exhausted memory as what would fit."""
    try:
        trainee.fit(
            job.batches, epochs=job.epochs, initial_epoch=start, shuffle=False, verbose=0, callbacks=callbacks
        )  # fmt: skip
    except Exception as error:
        if job.batches.failure is not None:
            raise job.batches.failure from None
        if guards.is_out_of_memory(error):
            room = psutil.virtual_memory().available if job.setup.kind == "cpu" else None
            said = guards.out_of_memory(
                job.model, job.batches.image_shape, batch_size=job.batches.size, precision=job.setup.precision,
                room=room,
            )  # fmt: skip
            raise guards.OutOfMemoryError(said) from error
        raise


def _tensorboard(job: Job) -> keras.callbacks.Callback:
    folder = job.run.path / "tensorboard"
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        raise ValueError("tensorboard=True needs the package tensorboard: pip install tensorboard.") from None
    return keras.callbacks.TensorBoard(folder, write_graph=False)
