"""Wishes: what a caller asked of a training made definite, and put into words.

In: arguments of :func:`medlab.train.fit`. Out: numbers, an optimizer, one line each.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from medlab.backend import keras
from medlab.train import losses, optimize

_LARGE = 100_000_000
"""Weights above which no running mean is kept unless asked for: it takes as much memory as the model, twice."""


def momentum(ema: str | float | None, steps: int, model: keras.Model) -> float | None:
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


def check_accumulation(accumulate: int, optimizer: str | keras.optimizers.Optimizer, batches: int) -> None:
    """Refuses groups of batches of which the training would not fill a single one: the weights would never change.

    Args:
        accumulate: batches whose gradients are averaged for one step of the weights.
        optimizer: a name, or an optimizer, which may accumulate by itself.
        batches: of the whole training.
    """
    group = accumulate if isinstance(optimizer, str) else getattr(optimizer, "gradient_accumulation_steps", None) or 1
    if group > batches:
        raise ValueError(
            f"Expected to accumulate at most as many batches as the whole training has, {batches}. Received {group}: "
            "the weights would never change. Take fewer, smaller batches or more epochs."
        )


def check_reals(**numbers: float | None) -> None:
    """Refuses what is no number; None is one that is not given."""
    for name, value in numbers.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float | np.number)):
            raise ValueError(f"Expected {name} as a number. Received {value!r}.")


def patience(wish: str | int | None, epochs: int, validated: bool) -> int | None:
    """Epochs without a better score after which training stops, or None."""
    if wish is None or not validated:
        return None
    if wish == "auto":
        return max(5, (epochs + 1) // 2)
    if isinstance(wish, bool) or not hasattr(wish, "__index__") or wish < 1:
        raise ValueError(f'Expected patience "auto", None or a whole number of at least 1. Received {wish!r}.')
    return int(wish)


def kept(validated: bool, objective: losses.Objective, patience: int | None) -> str:
    """Which weights are kept, in words."""
    if not validated:
        return "those of the last epoch: there is no validation set"
    measure = {"val_loss": "least validation loss", "val_dice": "best validation Dice"}.get(
        objective.judged, "best validation AUC"
    )
    end = "" if patience is None else f"; stops after {patience} epochs without a better one"
    return f"those of the epoch with the {measure}{end}"


def optimizer(wish: str | keras.optimizers.Optimizer, *, timed: bool, **settings: Any) -> tuple[optimize.Choice, bool]:
    """The optimizer, and whether the loop sets its learning rate by the clock instead of its schedule by the steps.

    Args:
        wish: a name or an optimizer.
        timed: whether there is a time budget.
        **settings: what :func:`medlab.train.optimize.make` takes.
    """
    choice = optimize.make(wish, **settings)
    if not isinstance(wish, str):
        rate = wish._learning_rate  # the property gives the number of the moment
        own = rate if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule) else None
        if settings["accumulation"] > 1 and wish.gradient_accumulation_steps != settings["accumulation"]:
            raise ValueError("The optimizer given accumulates by its own gradient_accumulation_steps. Give it there.")
        return replace(choice, schedule=own), False
    if not timed or choice.schedule is None:
        return choice, False
    constant = optimize.make(wish, **{**settings, "schedule": "constant", "learning_rate": choice.learning_rate})
    return replace(choice, optimizer=constant.optimizer), True


def said_of_optimizer(choice: optimize.Choice, momentum: float | None, accumulate: int, batches: int) -> str:
    """The optimizer in words; ``batches`` are those of the whole training."""
    left = batches % accumulate
    dropped = f" (the last {left} of all {batches} fill no group and are dropped)" if left else ""
    return (
        choice.name
        + (f", gradients of {accumulate} batches averaged for a step{dropped}" if accumulate > 1 else "")
        + (f", kept weights are a running mean (momentum {momentum:.4g})" if momentum else "")
    )


def said_of_time(seconds: float, paced: bool) -> str:
    """The time budget in words."""
    how = "the schedule goes by the time where it is shorter than the epochs" if paced else "cut there as it stands"
    return f"{seconds:g} seconds at most, validation included; {how}"
