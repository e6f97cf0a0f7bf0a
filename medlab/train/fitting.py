"""Fit: trains a Keras model and says what it chose.

In: a model, (x, y) arrays or PyDatasets, wishes. Out: the model with its best weights, the history, the choices.
It does not load or standardize images, and it judges a model only as far as choosing its best weights needs.
"""

from __future__ import annotations

import inspect
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medlab import runs
from medlab.backend import keras
from medlab.train import cluster, feed, identity, labels, loop, losses, rates, received, supervision, wishes
from medlab.train import devices as machine
from medlab.train.loop import DivergedError

__all__ = ["DivergedError", "Fit", "fit"]


@dataclass(frozen=True, eq=False)
class Fit:
    """A finished training.

    Attributes:
        model: the model given, with its best weights, in its own precision.
        history: one row an epoch: epoch, loss, val_loss, val_auc and val_accuracy or val_dice, learning_rate,
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
    mix: Callable | None = None,
    class_weight: str | dict[int, float] | None = None,
    precision: str = "auto",
    devices: str | int | Sequence[str] = "auto",
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
    max_seconds: float | None = None,
    deep_supervision: str | bool = "auto",
    accumulate: int = 1,
    clip: float | None = 1.0,
    saved: keras.Model | None = None,
) -> Fit:
    """Trains ``model`` and gives it back with its best weights.

    Args:
        model: any built Keras model with one input and one output.
        train: x (n, i, j[, k], c) and y; or a PyDataset of such batches. y is (n,) class indices; (n, classes) 0/1,
            NaN or -1 where a label is missing; or masks (n, i, j[, k]) of whole numbers, 0 for background and below 0
            where unknown, for a model with an output (n, i, j[, k], classes). Where all rows (n, classes) have a single
            1, they are one class a case, unless the model's name ends in ``_multi_label`` or the model in a sigmoid.
        validation: the same form; the best weights are those with the best AUC or, for masks, the best Dice on it (on
            equal ones, or where it is undefined, the least loss). Without it the last weights are kept.
        epochs: how often every training case is seen.
        batch_size: cases a step; all, where there are fewer, and the rule for the learning rate goes by them. A
            PyDataset has its own.
        optimizer: a name (:func:`medlab.train.optimize.make`) or a new Keras optimizer, with its own learning rate.
        learning_rate: its peak; ``"auto"``: a stated rule (:func:`medlab.train.optimize.rule`); ``"find"``: what
            :func:`medlab.train.find_learning_rate` suggests.
        schedule: a name of :func:`medlab.train.schedules.build` or a Keras schedule. ``"plateau"`` multiplies the rate
            by 0.3 after a tenth of the epochs, at least 3, without a better validation score.
        loss: ``"auto"``: what fits labels and outputs, and why; a name such as ``"dice"``, ``"focal"``; or what Keras'
            ``compile`` takes.
        augment: ``augment(x, keys=keys) -> (x, mask)``, for masks ``augment(x, mask, keys=keys)``, such as
            :func:`medlab.augment.policy` gives; keys (n, 3) are seed, epoch and number of each case, from which alone
            all randomness should follow.
        mix: ``mix(x, y, keys=keys, seed=seed) -> (x, y)`` after that, such as :func:`medlab.augment.mixup` or
            :func:`medlab.augment.cutmix`, for classes of whole images; y are shares of the classes.
        class_weight: None, ``"balanced"`` or a dict from class index to weight.
        precision: ``"auto"``, ``"float32"``, ``"mixed_bfloat16"`` or ``"mixed_float16"``.
        devices: ``"auto"`` (all GPUs, else the CPU), ``"cpu"``, ``"gpu"``, ``"gpu:1"``, ``["gpu:0", "gpu:1"]``, or how
            many. They share each batch alike, so that the weights are those of one device; see
            :func:`medlab.train.connect` for several machines.
        seed: order, augmentation and dropout; the same seed on the same machine gives the same numbers. The global
            generators of Python, NumPy and the backend are seeded with it.
        run: run folder for ``model.keras``, ``history.csv``, ``run.json`` and the state to resume from.
        progress: one line an epoch; in Jupyter a bar with live curves and a stop button.
        warmup: share of the steps in which the learning rate rises.
        weight_decay: decoupled weight decay; None takes the optimizer's own.
        label_smoothing: 0 to below 1.
        ema: momentum of the running mean of the weights, which is validated and kept; ``"auto"`` averages over about
            a twentieth of all steps (a network of more than 100 million weights has none); None for none.
        patience: epochs without a better validation score after which training stops; ``"auto"`` is half of all,
            at least 5; None never stops.
        resume: go on from the state in ``run``, if there is one; the curve is as if it had not been interrupted.
        tensorboard: also write event files to ``<run>/tensorboard``.
        max_seconds: wall time for all epochs and their validation, after which training ends, within an epoch if need
            be. The schedule goes by the time where that runs out before the epochs, so that the rate has come down by
            then. Such a training repeats itself only as exactly as its clock.
        deep_supervision: ``"auto"``: where masks are learned and layers are named decode2, decode3, ... these get
            losses of their own in training (:mod:`medlab.train.supervision`); True, False.
        accumulate: batches whose gradients are averaged for one step of the weights. Groups run on from one epoch to
            the next; an incomplete one at the end of the whole training is dropped.
        clip: what the norm of all gradients together is held below; None leaves them.
        saved: the part of the model that is written to ``model.keras``, such as the encoder that a self-supervised
            network trains; None: the model itself.

    Returns:
        The fit.

    Raises:
        ValueError: arguments, images or labels that cannot be trained on; a state of other settings.
        DivergedError: the loss became NaN or grew without end; the model has the best weights of the epochs before.
        OutOfMemoryError: a step needs more memory than there is; says which batch would fit.
        DiskFullError: the disk is full; what was saved before is whole.
        KeyboardInterrupt: passed on after saying how to resume.
    """
    _check_numbers(epochs=epochs, batch_size=batch_size, seed=seed, accumulate=accumulate)
    if run is None and (resume or tensorboard):
        raise ValueError("resume and tensorboard need a run folder: run=...")
    wishes.check_reals(
        max_seconds=max_seconds, warmup=warmup, label_smoothing=label_smoothing, clip=clip, weight_decay=weight_decay
    )
    if clip is not None and not clip > 0:
        raise ValueError(f"Expected clip above 0, or None. Received {clip!r}.")
    if max_seconds is not None and not max_seconds > 0:
        raise ValueError(f"Expected max_seconds above 0, or None. Received {max_seconds!r}.")
    data = received.check(train, model, name="training")
    held_out = None if validation is None else received.check(validation, model, name="validation")
    y = feed.labels(data)
    known = None if held_out is None else feed.labels(held_out)
    if known is not None:
        labels.check_form(known, y)
    objective = losses.choose(model, y, loss, label_smoothing=label_smoothing, validation=known)
    losses.check_labels(y, objective, whole=not feed.has_masks(data, y))
    if known is not None:
        losses.check_labels(known, objective, name="validation")
    levels, levels_reason = supervision.levels(
        model, deep_supervision, segmentation=objective.task == losses.SEGMENTATION
    )
    weights, weights_reason = losses.class_weights(y, class_weight, objective)
    batches = feed.feeds(data, objective, weights, augment, batch_size, seed, mix)
    setup = machine.choose(
        model, devices=devices, precision=precision, batch_size=batches.size if isinstance(batches, feed.Feed) else None
    )
    batches.share(len(setup.names), setup.processes, setup.rank)
    if max_seconds is not None and setup.processes > 1:
        raise ValueError("max_seconds is for one process: several have clocks of their own. Give epochs alone.")
    folder = None if run is None else _opened(run)
    steps = epochs * len(batches)
    wishes.check_accumulation(accumulate, optimizer, steps)
    learning_rate, rate_reason = _learning_rate(
        learning_rate, folder if resume else None, model, data, optimizer=optimizer, batch_size=batches.size, loss=loss,
        augment=augment, precision=precision, devices=devices, seed=seed,
    )  # fmt: skip
    momentum = wishes.momentum(ema, steps, model) if isinstance(optimizer, str) else None
    with setup.scope():
        choice, paced = wishes.optimizer(
            cluster.remade(optimizer, setup), timed=max_seconds is not None, learning_rate=learning_rate,
            schedule=schedule, steps=steps, batch_size=batches.size * accumulate, warmup=warmup,
            weight_decay=weight_decay, ema=momentum, clip_norm=clip, accumulation=accumulate, model=model,
            reason=rate_reason,
        )  # fmt: skip
    stop_after = wishes.patience(patience, epochs, held_out is not None)
    choices = {
        "device": setup.device,
        "precision": f"{setup.precision} ({setup.reason})",
        "arithmetic": setup.arithmetic,
        "loss": objective.reason,
        "class weights": weights_reason,
        "optimizer": wishes.said_of_optimizer(choice, momentum, accumulate, steps),
        "learning rate": f"{choice.learning_rate:.3g} ({choice.reason})",
        "best weights": wishes.kept(held_out is not None, objective, stop_after),
    }
    if objective.task == losses.SEGMENTATION:
        choices["deep supervision"] = levels_reason
    if batches.size < batch_size and isinstance(batches, feed.Feed):
        choices["batch size"] = f"{batches.size}: there are not {batch_size} cases"
    if max_seconds is not None:
        choices["time"] = wishes.said_of_time(max_seconds, paced)
    # Shapes and not names: Keras numbers what is made in a session, so that a network made again has other names.
    name = re.sub(r"_\d+$", "", model.name)
    settings = {
        "model": f"{name} {identity.structure(model)}",
        "training cases": _describe_data(data, y),
        "epochs": epochs, "batch_size": batch_size, "optimizer": choice.name, "learning_rate": choice.learning_rate,
        "schedule": schedule if isinstance(schedule, str) else identity.words(schedule), "warmup": warmup,
        "weight_decay": weight_decay, "ema": momentum, "class_weight": weights_reason,
        "loss": objective.reason if isinstance(loss, str) else identity.words(loss),
        "precision": setup.precision, "seed": seed, "patience": stop_after, "augment": _describe(augment),
        "max_seconds": max_seconds, "deep_supervision": list(levels), "accumulate": accumulate, "clip": clip,
        "mix": _describe(mix),
    }  # fmt: skip
    job = loop.Job(
        model=model, batches=batches, validation=held_out, objective=objective, choice=choice, setup=setup,
        choices=choices, settings=settings, epochs=epochs, batch_size=batch_size, patience=stop_after,
        averaged=momentum is not None, seed=seed, run=folder, resume=resume, tensorboard=tensorboard, shown=progress,
        cases=feed.class_counts(data, y, objective), levels=tuple(levels), max_seconds=max_seconds, paced=paced,
        plateau=max(3, epochs // 10) if schedule == "plateau" and choice.schedule is None else None, saved=saved,
    )  # fmt: skip
    state, seconds, stopped = loop.train(job)
    return Fit(
        model, state.history(), seconds, setup.device, setup.precision, choices, state.best_epoch, stopped, job.run
    )


def _learning_rate(
    learning_rate: str | float, before: runs.Run | None, model: keras.Model, data: Any, **settings: Any
) -> tuple[str | float, str]:
    """The rate to use and why; ``"find"`` looks for one, once: a resumed training keeps that of its run folder."""
    if learning_rate != "find":
        return learning_rate, "as given"
    if not isinstance(settings["optimizer"], str):
        raise ValueError(
            'learning_rate="find" is for an optimizer by name: one that is given has its own rate. Give its name, or '
            "the optimizer with the rate that medlab.train.find_learning_rate(...).suggestion gives."
        )
    known = {} if before is None else before.facts().get("train", {})
    if known.get("epochs"):
        return known["learning_rate"], "found by the range test"
    curve = rates.find_learning_rate(model, data, **settings)
    return curve.suggestion, f"found by the range test: {curve.reason}"


def _opened(run: str | Path | runs.Run) -> runs.Run:
    try:
        return runs.open(run)
    except OSError as error:
        raise ValueError(
            f"The run folder {run} cannot be made ({error.strerror or error}). Give another one."
        ) from error


def _check_numbers(**numbers: int) -> None:
    for name, value in numbers.items():
        least = 0 if name == "seed" else 1
        if isinstance(value, bool) or not hasattr(value, "__index__") or value < least:
            raise ValueError(f"Expected {name} to be a whole number of at least {least}. Received {value!r}.")


def _describe_data(data: tuple | keras.utils.PyDataset, y: np.ndarray) -> str:
    """Number and fingerprint of the training cases; a PyDataset may have one of its own, as ``fingerprint``."""
    own = f" {zlib.crc32(data.fingerprint.encode()):08x}" if isinstance(getattr(data, "fingerprint", None), str) else ""
    if feed.has_masks(data, y):
        return f"{len(data)} batches{own}"
    x = [] if isinstance(data, keras.utils.PyDataset) else data[0]
    total = 0
    for one in (*y, *x):
        total = zlib.crc32(np.ascontiguousarray(one), total)
    return f"{len(y)} {total:08x}{own}"


def _describe(augment: Callable | None) -> str:
    """A policy's own words; of a function what it does; of other objects the kind, for their state may change."""
    if augment is None:
        return "none"
    text = repr(augment)
    if " at 0x" not in text:
        return text
    return identity.words(augment) if inspect.isfunction(augment) else type(augment).__qualname__
