"""Fit: trains a Keras model and says what it chose.

In: a model, (x, y) arrays or PyDatasets, wishes. Out: the model with its best weights, the history, the choices.
It does not load or standardize images, and it judges a model only as far as choosing its best weights needs.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from medlab import runs
from medlab.backend import keras
from medlab.train import devices as machine
from medlab.train import feed, loop, losses, optimize
from medlab.train.loop import DivergedError

__all__ = ["DivergedError", "Fit", "fit"]

_LARGE = 100_000_000
"""Weights above which no running mean is kept unless asked for: it takes as much memory as the model, twice."""


@dataclass(frozen=True, eq=False)
class Fit:
    """A finished training.

    Attributes:
        model: the model given, with its best weights, in its own precision.
        history: one row an epoch: epoch, loss, val_loss, val_auc, val_accuracy, learning_rate,
            seconds. Validation is of the weights that would be kept: their running mean where there is one.
        seconds: wall time of this call's epochs.
        device: what it ran on.
        precision: ``"float32"``, ``"mixed_bfloat16"`` or ``"mixed_float16"``.
        choices: one line each: device, precision, loss, class weights, learning rate, weights kept, ...
        best_epoch: the epoch whose weights were kept.
        stopped: why it ended before the last epoch, or None.
        run: its run folder, or None.
    """

    model: keras.Model
    history: pd.DataFrame
    seconds: float
    device: str
    precision: str
    choices: dict[str, str] = field(repr=False)
    best_epoch: int
    stopped: str | None = None
    run: runs.Run | None = None


def fit(
    model: keras.Model,
    train: tuple[np.ndarray, np.ndarray] | keras.utils.PyDataset,
    validation: tuple[np.ndarray, np.ndarray] | keras.utils.PyDataset | None = None,
    *,
    epochs: int,
    batch_size: int = 32,
    optimizer: str | keras.optimizers.Optimizer = "adamw",
    learning_rate: str | float = "auto",
    schedule: str | Callable = "cosine",
    loss: str | Callable = "auto",
    augment: Callable | None = None,
    class_weight: str | dict[int, float] | None = None,
    precision: str = "auto",
    devices: str = "auto",
    seed: int = 0,
    run: str | Path | runs.Run | None = None,
    progress: bool = True,
    warmup: float = 0.1,
    weight_decay: float | None = None,
    label_smoothing: float = 0.0,
    ema: str | float | None = "auto",
    patience: str | int | None = "auto",
    resume: bool = False,
    tensorboard: bool = False,
) -> Fit:
    """Trains ``model`` and gives it back with its best weights.

    Args:
        model: any built Keras model with one input and one output.
        train: x (n, i, j[, k], c) and y, (n,) class indices or (n, classes) 0/1; or a PyDataset of such batches.
        validation: the same form; the best weights are those with the best AUC on it (on equal AUC, or where AUC is
            undefined, the least loss). Without it the last weights are kept.
        epochs: how often every training case is seen.
        batch_size: cases a step.
        optimizer: a Keras name or a new optimizer.
        learning_rate: its peak, or ``"auto"``: a stated rule (:func:`medlab.train.optimize.rule`).
        schedule: ``"cosine"``, ``"constant"`` or a Keras schedule.
        loss: ``"auto"``: cross-entropy that fits labels and outputs; or what Keras' ``compile`` takes.
        augment: ``augment(x, keys=keys) -> (x, mask)``, such as :func:`medlab.augment.policy` gives; keys (n, 3)
            are seed, epoch and number of each case, from which alone all randomness should follow.
        class_weight: None, ``"balanced"`` or a dict from class index to weight.
        precision: ``"auto"``, ``"float32"``, ``"mixed_bfloat16"`` or ``"mixed_float16"``.
        devices: ``"auto"``, ``"cpu"`` or ``"gpu"``.
        seed: order, augmentation and dropout; the same seed on the same machine gives the same numbers. The global
            generators of Python, NumPy and the backend are seeded with it.
        run: run folder for ``model.keras``, ``history.csv``, ``run.json`` and the state to resume from.
        progress: one line an epoch, a bar in Jupyter.
        warmup: share of the steps in which the learning rate rises.
        weight_decay: decoupled weight decay; None takes the optimizer's own.
        label_smoothing: 0 to below 1.
        ema: momentum of the running mean of the weights, which is validated and kept; ``"auto"`` averages over about
            a twentieth of all steps (a network of more than 100 million weights has none); None for none.
        patience: epochs without a better validation score after which training stops; ``"auto"`` is half of all,
            at least 5; None never stops.
        resume: go on from the state in ``run``, if there is one; the curve is as if it had not been interrupted.
        tensorboard: also write event files to ``<run>/tensorboard``.

    Returns:
        The fit.

    Raises:
        ValueError: arguments, images or labels that cannot be trained on; a state of other settings.
        DivergedError: the loss became NaN; the model has the best weights of the epochs before.
        KeyboardInterrupt: passed on after saying how to resume.
    """
    _check_numbers(epochs=epochs, batch_size=batch_size, seed=seed)
    if run is None and (resume or tensorboard):
        raise ValueError("resume and tensorboard need a run folder: run=...")
    data = feed.check(train, model, name="training")
    held_out = None if validation is None else feed.check(validation, model, name="validation")
    y = feed.labels(data)
    objective = losses.choose(model, y, loss, label_smoothing=label_smoothing)
    losses.check_labels(y, objective)
    if held_out is not None:
        losses.check_labels(feed.labels(held_out), objective, name="validation")
    weights, weights_reason = losses.class_weights(y, class_weight, objective)
    batches = feed.feeds(data, objective, weights, augment, batch_size, seed)
    steps = epochs * len(batches)
    momentum = _momentum(ema, steps, model) if isinstance(optimizer, str) else None
    choice = optimize.make(
        optimizer, learning_rate=learning_rate, schedule=schedule, steps=steps, batch_size=batch_size, warmup=warmup,
        weight_decay=weight_decay, ema=momentum,
    )  # fmt: skip
    stop_after = _patience(patience, epochs, held_out is not None)
    setup = machine.choose(model, devices=devices, precision=precision)
    choices = {
        "device": setup.device,
        "precision": f"{setup.precision} ({setup.reason})",
        "loss": objective.reason,
        "class weights": weights_reason,
        "optimizer": choice.name + (f", kept weights are a running mean (momentum {momentum:.4g})" if momentum else ""),
        "learning rate": f"{choice.learning_rate:.3g} ({choice.reason})",
        "best weights": _kept(held_out is not None, objective, stop_after),
    }
    # Shapes and not names: Keras numbers the layers of a session, so that a network made again has other names.
    settings = {
        "model": f"{model.name} {_fingerprint(str(tuple(one.shape)) for one in model.weights)}",
        "training cases": _describe_data(data, y),
        "epochs": epochs, "batch_size": batch_size, "optimizer": choice.name, "learning_rate": choice.learning_rate,
        "schedule": schedule if isinstance(schedule, str) else type(schedule).__name__, "warmup": warmup,
        "weight_decay": weight_decay, "ema": momentum, "loss": objective.reason, "class_weight": weights_reason,
        "precision": setup.precision, "seed": seed, "patience": stop_after, "augment": _describe(augment),
    }  # fmt: skip
    job = loop.Job(
        model=model, batches=batches, validation=held_out, objective=objective, choice=choice, setup=setup,
        choices=choices, settings=settings, epochs=epochs, batch_size=batch_size, patience=stop_after,
        averaged=momentum is not None, seed=seed, run=None if run is None else runs.open(run), resume=resume,
        tensorboard=tensorboard, shown=progress, cases=feed.class_counts(y, objective),
    )  # fmt: skip
    state, seconds, stopped = loop.train(job)
    return Fit(
        model, state.history(), seconds, setup.device, setup.precision, choices, state.best_epoch, stopped, job.run
    )


def _check_numbers(*, epochs: int, batch_size: int, seed: int) -> None:
    for name, value, least in (("epochs", epochs, 1), ("batch_size", batch_size, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not hasattr(value, "__index__") or value < least:
            raise ValueError(f"Expected {name} to be a whole number of at least {least}. Received {value!r}.")


def _momentum(ema: str | float | None, steps: int, model: keras.Model) -> float | None:
    """Momentum of the running mean of the weights: by default over a twentieth of all steps, at most 1000."""
    if ema is None:
        return None
    if ema == "auto":
        if model.count_params() > _LARGE:
            return None
        return max(0.0, min(0.999, 1 - 20 / steps)) or None
    if isinstance(ema, str) or not 0 < ema < 1:
        raise ValueError(f'Expected ema "auto", None or a momentum between 0 and 1. Received {ema!r}.')
    return float(ema)


def _patience(patience: str | int | None, epochs: int, validated: bool) -> int | None:
    if patience is None or not validated:
        return None
    if patience == "auto":
        return max(5, (epochs + 1) // 2)
    if isinstance(patience, bool) or not hasattr(patience, "__index__") or patience < 1:
        raise ValueError(f'Expected patience "auto", None or a whole number of at least 1. Received {patience!r}.')
    return int(patience)


def _kept(validated: bool, objective: losses.Objective, patience: int | None) -> str:
    if not validated:
        return "those of the last epoch: there is no validation set"
    measure = "least validation loss" if objective.task == losses.OTHER else "best validation AUC"
    end = "" if patience is None else f"; stops after {patience} epochs without a better one"
    return f"those of the epoch with the {measure}{end}"


def _fingerprint(texts: Iterable[str | bytes]) -> str:
    total = 0
    for text in texts:
        total = zlib.crc32(text.encode() if isinstance(text, str) else text, total)
    return f"{total:08x}"


def _describe_data(data: tuple | keras.utils.PyDataset, y: np.ndarray) -> str:
    """Number and fingerprint of the training cases."""
    x = [] if isinstance(data, keras.utils.PyDataset) else data[0]
    parts = [np.ascontiguousarray(one).tobytes() for one in (y, *x)]
    return f"{len(y)} {_fingerprint(parts)}"


def _describe(augment: Callable | None) -> str:
    """A policy's own words, without the address in memory that Python adds to those of other objects."""
    text = "none" if augment is None else repr(augment)
    return getattr(augment, "__qualname__", type(augment).__qualname__) if " at 0x" in text else text
