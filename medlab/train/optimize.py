"""Optimizers by name, each with the rule for its learning rate.

In: names and numbers. Out: a Keras optimizer, its peak learning rate and the words that say why.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from medlab.backend import keras
from medlab.train import schedules
from medlab.train.schedules import SCHEDULES

__all__ = ["OPTIMIZERS", "SCHEDULES", "Choice", "make", "rule"]

_NO_DECAY = ["bias", "gamma", "beta"]


@dataclass(frozen=True)
class _Kind:
    """A Keras optimizer with its arguments, and its rate at 32 cases a step: in proportion to the batch, or its root.

    ``decay`` is its weight decay where the user gives none; None leaves Keras' own.
    """

    keras_name: str
    arguments: dict[str, Any]
    rate: float
    root: bool
    source: str
    decay: float | None = None


_LINEAR = "in proportion to the batch (Goyal et al. 2017)"
_ROOT = "with the root of the batch (Malladi et al. 2022)"
_KINDS = {
    "sgd": _Kind("SGD", {}, 0.1, False, _LINEAR),
    "momentum": _Kind("SGD", {"momentum": 0.9}, 0.05, False, _LINEAR),
    "nesterov": _Kind("SGD", {"momentum": 0.9, "nesterov": True}, 0.05, False, _LINEAR),
    "rmsprop": _Kind("RMSprop", {}, 1e-3, True, _ROOT),
    "adam": _Kind("Adam", {}, 1e-3, True, _ROOT),
    "adamw": _Kind("AdamW", {}, 1e-3, True, _ROOT),
    "lion": _Kind("Lion", {}, 2e-4, True, "a fifth of AdamW's, and five times its decay (Chen et al. 2023)", 0.02),
    "muon": _Kind("Muon", {}, 1e-3, True, "AdamW's (Liu et al. 2025)"),
}  # fmt: skip
OPTIMIZERS = tuple(name for name, kind in _KINDS.items() if hasattr(keras.optimizers, kind.keras_name))


@dataclass(frozen=True)
class Choice:
    """An optimizer, its peak learning rate with the reason, and the schedule where it has one."""

    optimizer: keras.optimizers.Optimizer
    name: str
    learning_rate: float
    reason: str
    schedule: Callable | None = None


def make(
    optimizer: str | keras.optimizers.Optimizer,
    *,
    learning_rate: str | float = "auto",
    schedule: str | Callable = "cosine",
    steps: int,
    batch_size: int = 32,
    warmup: float = 0.1,
    weight_decay: float | None = None,
    ema: float | None = None,
    clip_norm: float | None = 1.0,
    accumulation: int = 1,
    model: keras.Model | None = None,
    reason: str = "as given",
) -> Choice:
    """An optimizer for ``steps`` steps.

    Args:
        optimizer: one of ``OPTIMIZERS``, or a Keras optimizer, which is used as it is, without ``schedule``.
            ``"momentum"`` and ``"nesterov"`` are SGD with momentum 0.9; ``"lion"`` takes the sign of a running mean
            (Chen et al. 2023); ``"muon"`` makes the update of each matrix orthogonal. Keras' Muon does so for weights
            of two axes alone (dense, recurrent and attention layers) and takes AdamW for all others, convolutions and
            the last layer among them.
        learning_rate: the peak, or ``"auto"``: see :func:`rule`.
        schedule: one of ``SCHEDULES`` or a Keras ``LearningRateSchedule``, see
            :func:`medlab.train.schedules.build`.
        steps: steps of the whole training.
        batch_size: cases a step, for the rule.
        warmup: share of the steps for the warm-up.
        weight_decay: decoupled decay (Loshchilov and Hutter 2019) of all weights but biases and those of
            normalization; None takes the optimizer's own (adamw and muon 0.004, lion 0.02, others none).
        ema: momentum of the running mean of the weights, or None for none.
        clip_norm: the norm of all gradients together is held below this; None leaves them.
        accumulation: batches whose gradients are averaged for one step of the weights.
        model: the model to train, so that Muon knows its last layer.
        reason: why the learning rate is this one, where it is a number.

    Raises:
        ValueError: an unknown name, or a number out of range.
    """
    if isinstance(optimizer, keras.optimizers.Optimizer):
        return _given(optimizer, learning_rate, schedule)
    if not isinstance(optimizer, str):
        raise ValueError(f"Expected the name of an optimizer or a Keras optimizer. Received {optimizer!r}.")
    name = optimizer.lower()
    kind = _kind(name, optimizer)
    if learning_rate == "auto":
        peak, reason = rule(name, batch_size)
    elif _above_zero(learning_rate):
        peak = float(learning_rate)
    else:
        raise ValueError(f'Expected learning_rate "auto", "find" or a number above 0. Received {learning_rate!r}.')
    rate, said = schedules.build(schedule, peak, steps, warmup)
    settings: dict[str, Any] = {**kind.arguments, "learning_rate": rate}
    if clip_norm is not None:
        if not _above_zero(clip_norm):
            raise ValueError(f"Expected clip_norm to be above 0, or None. Received {clip_norm!r}.")
        settings["global_clipnorm"] = float(clip_norm)
    if accumulation > 1:
        settings["gradient_accumulation_steps"] = int(accumulation)
    if ema is not None:
        settings |= {"use_ema": True, "ema_momentum": ema}
    decay = kind.decay if weight_decay is None else _decay(weight_decay)
    if decay is not None:
        settings["weight_decay"] = decay
    if name == "muon":
        settings |= _muon(model, decay)
    made = getattr(keras.optimizers, kind.keras_name)(**settings)
    made.exclude_from_weight_decay(var_names=_NO_DECAY)
    return Choice(made, name, peak, f"{reason}; {said}", rate if callable(rate) else None)


def rule(optimizer: str, batch_size: int) -> tuple[float, str]:
    """A peak learning rate that is right within a factor of three for most networks, and the sentence that says why.

    At 32 cases a step: 1e-3 for Adam, AdamW (Kingma and Ba 2015), RMSprop and Muon, 2e-4 for Lion, a third to a tenth
    of AdamW's (Chen et al. 2023, section 5), 0.05 for momentum and Nesterov, 0.1 for plain SGD. With the batch, those
    that divide by the gradient's size grow with its square root, the others in proportion.
    """
    kind = _kind(optimizer.lower(), optimizer)
    ratio = batch_size / 32
    factor = f"sqrt({batch_size} cases a step / 32)" if kind.root else f"{batch_size} cases a step / 32"
    return kind.rate * (math.sqrt(ratio) if kind.root else ratio), f"rule for {optimizer}: {kind.rate:g} * {factor}"


def _kind(name: str, given: Any) -> _Kind:
    if name in OPTIMIZERS:
        return _KINDS[name]
    near = difflib.get_close_matches(name, OPTIMIZERS, 1, cutoff=0.5)
    raise ValueError(
        f"There is no optimizer {given!r}. Expected one of {', '.join(OPTIMIZERS)}, or an optimizer of Keras such as "
        f"keras.optimizers.Nadam(1e-3)." + (f" Did you mean {near[0]!r}?" if near else "")
    )


def _given(optimizer: keras.optimizers.Optimizer, learning_rate: str | float, schedule: Any) -> Choice:
    if learning_rate != "auto":
        raise ValueError("The optimizer given has its own learning rate. Leave learning_rate='auto'.")
    if optimizer.built:
        raise ValueError("The optimizer given has been used before. Make a new one for each training.")
    name = type(optimizer).__name__.lower()  # Keras numbers optimizer.name within a session
    said = f"that of the {name} given"
    own = isinstance(optimizer._learning_rate, keras.optimizers.schedules.LearningRateSchedule)
    if schedule != "cosine" and (own or schedule != "plateau"):
        said += f"; schedule={schedule!r} is not used: the optimizer has its own rate"
    return Choice(optimizer, name, float(np.asarray(optimizer.learning_rate)), said)


def _above_zero(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value > 0


def _decay(weight_decay: float) -> float:
    if weight_decay != 0 and not _above_zero(weight_decay):
        raise ValueError(f"Expected weight_decay to be 0 or above, or None. Received {weight_decay!r}.")
    return float(weight_decay)


def _muon(model: keras.Model | None, decay: float | None) -> dict[str, Any]:
    """The last layer goes to AdamW; so do all weights that are not matrices, by Keras' own rule."""
    last = "logits/kernel" if model is None else model.trainable_variables[-1].path
    settings: dict[str, Any] = {"exclude_layers": [rf"(^|/){re.escape(last.rpartition('/')[0])}/"]}
    return settings if decay is None else settings | {"adam_weight_decay": decay}
