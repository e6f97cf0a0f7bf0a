"""Optimizers, schedules and the learning-rate range test.

In: names and numbers. Out: Keras optimizers, and a curve of loss over learning rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medlab.backend import keras

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCHEDULES = ("cosine", "constant")
_ADAPTIVE = ("adam", "adamw", "nadam", "adamax", "lamb")


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
) -> Choice:
    """An optimizer for ``steps`` steps.

    Args:
        optimizer: a Keras name such as ``"adamw"``, ``"sgd"``, or an optimizer, which is used as it is.
        learning_rate: the peak, or ``"auto"``: see :func:`rule`.
        schedule: ``"cosine"`` (linear warm-up from 0, then half a cosine to 0; Loshchilov and Hutter 2017),
            ``"constant"``, or a Keras ``LearningRateSchedule``.
        steps: steps of the whole training.
        batch_size: cases a step, for the rule.
        warmup: share of the steps for the warm-up.
        weight_decay: decoupled decay (AdamW) of all weights but biases and normalization; None takes the optimizer's.
        ema: momentum of the running mean of the weights, or None for none.

    Raises:
        ValueError: an unknown name, or a number out of range.
    """
    if isinstance(optimizer, keras.optimizers.Optimizer):
        if learning_rate != "auto":
            raise ValueError("The optimizer given has its own learning rate. Leave learning_rate='auto'.")
        if optimizer.built:
            raise ValueError("The optimizer given has been used before. Make a new one for each training.")
        name = type(optimizer).__name__.lower()  # Keras numbers optimizer.name within a session
        return Choice(optimizer, name, float(optimizer.learning_rate), f"that of the {name} given")
    if not isinstance(optimizer, str):
        raise ValueError(f"Expected the name of an optimizer or a Keras optimizer. Received {optimizer!r}.")
    name = optimizer.lower()
    if learning_rate == "auto":
        peak, reason = rule(name, batch_size)
    elif isinstance(learning_rate, int | float) and math.isfinite(learning_rate) and learning_rate > 0:
        peak, reason = float(learning_rate), "as given"
    else:
        raise ValueError(f'Expected learning_rate "auto" or a number above 0. Received {learning_rate!r}.')
    rate, said = _schedule(schedule, peak, steps, warmup)
    settings: dict[str, Any] = {"learning_rate": rate, "global_clipnorm": 1.0}
    if weight_decay is not None:
        settings["weight_decay"] = weight_decay
    if ema is not None:
        settings |= {"use_ema": True, "ema_momentum": ema}
    if name == "sgd":
        settings |= {"momentum": 0.9, "nesterov": True}
    try:
        made = keras.optimizers.get({"class_name": name, "config": settings})
    except (ValueError, TypeError) as error:
        raise ValueError(f"Keras has no optimizer {optimizer!r} ({str(error).splitlines()[0]}).") from None
    made.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return Choice(made, name, peak, f"{reason}; {said}", rate if callable(rate) else None)


def rule(optimizer: str, batch_size: int) -> tuple[float, str]:
    """A peak learning rate that is right within a factor of three for most networks, and the sentence that says why.

    Adam and its kin: 1e-3 (Kingma and Ba 2015) at 32 cases a step, with the square root of the batch (Malladi et al.
    2022). Others: 0.05 at 32, in proportion (Goyal et al. 2017).
    """
    ratio = batch_size / 32
    if optimizer in _ADAPTIVE:
        return 1e-3 * math.sqrt(ratio), f"rule for {optimizer}: 1e-3 * sqrt({batch_size} cases a step / 32)"
    return 0.05 * ratio, f"rule for {optimizer}: 0.05 * {batch_size} cases a step / 32"


def _schedule(schedule: str | Callable, peak: float, steps: int, warmup: float) -> tuple[Any, str]:
    if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        return schedule, "schedule as given"
    if schedule == "constant":
        return peak, "constant"
    if schedule != "cosine":
        raise ValueError(f"Expected schedule to be one of {SCHEDULES} or a Keras one. Received {schedule!r}.")
    if not 0 <= warmup < 1:
        raise ValueError(f"Expected warmup from 0 to below 1. Received {warmup!r}.")
    rising = min(round(warmup * steps), steps - 1)
    if rising < 1:
        return keras.optimizers.schedules.CosineDecay(peak, steps), "cosine to 0"
    made = keras.optimizers.schedules.CosineDecay(
        peak / rising, max(steps - rising, 1), warmup_target=peak, warmup_steps=rising
    )
    return made, f"{rising} steps of warm-up, then cosine to 0"


@dataclass(frozen=True, eq=False)
class LearningRateCurve:
    """What the range test saw.

    Attributes:
        rates: (steps,) learning rates, growing by the same factor.
        losses: (steps,) smoothed training loss at each.
        suggestion: the rate to use as peak.
    """

    rates: np.ndarray
    losses: np.ndarray
    suggestion: float

    def plot(self) -> Figure:
        """Loss over learning rate, with the suggestion."""
        from medlab.view import figures

        return figures.curve(
            self.rates, self.losses, x="learning rate", y="training loss (smoothed)", log_x=True, mark=self.suggestion
        )


def find_learning_rate(
    model: keras.Model,
    train: tuple | keras.utils.PyDataset,
    *,
    optimizer: str = "adamw",
    low: float = 1e-6,
    high: float = 1.0,
    steps: int = 100,
    batch_size: int = 32,
    loss: str | Callable = "auto",
    augment: Callable | None = None,
    precision: str = "auto",
    devices: str = "auto",
    seed: int = 0,
) -> LearningRateCurve:
    """The learning-rate range test: the rate grows by the same factor every step while the loss is watched.

    The suggestion is a tenth of the rate at which the smoothed loss is least. The model's weights are put back.

    Args:
        model: a built model.
        train: (x, y) or a PyDataset, as :func:`medlab.train.fit` takes.
        optimizer: its name.
        low: first rate.
        high: last rate; the test ends early where the loss passes four times its minimum.
        steps: number of steps.
        batch_size: cases a step.
        loss: as in fit.
        augment: as in fit.
        precision: as in fit.
        devices: as in fit.
        seed: order of the cases.

    Raises:
        ValueError: as fit, or ``low`` is not below ``high``, or fewer than 10 steps.

    Source:
        Smith 2017, Cyclical learning rates for training neural networks, section 3.3.
    """
    from medlab.train import checkpoint, feed, losses
    from medlab.train import devices as machine
    from medlab.train.loop import Trainee

    if not 0 < low < high:
        raise ValueError(f"Expected 0 < low < high. Received low={low!r}, high={high!r}.")
    if steps < 10:
        raise ValueError(f"Expected at least 10 steps. Received {steps!r}.")
    data = feed.check(train, model, name="training")
    y = feed.labels(data)
    objective = losses.choose(model, y, loss)
    losses.check_labels(y, objective)
    keras.utils.set_random_seed(seed)
    setup = machine.choose(model, devices=devices, precision=precision)
    before = [checkpoint.array(variable) for variable in model.variables]
    rates = np.geomspace(low, high, steps)
    made = make(optimizer, learning_rate=low, schedule="constant", steps=steps, batch_size=batch_size)
    seen: list[float] = []
    with setup.scope(), machine.precision(model, setup.precision):
        trainee = Trainee(model)
        trainee.compile(made.optimizer, objective.loss, jit_compile=setup.jit)
        batches = _endless(feed.feeds(data, objective, None, augment, batch_size, seed))
        for rate in rates:
            trainee.optimizer.learning_rate = rate
            seen.append(float(trainee.train_on_batch(*next(batches))))
            trainee.reset_metrics()
            if not np.isfinite(seen[-1]) or seen[-1] > 4 * min(seen):
                break
        for variable, old in zip(model.variables, before, strict=True):
            variable.assign(old)
    smooth = _smoothed(np.array(seen))
    usable = np.where(np.isfinite(smooth), smooth, np.inf)
    best = float(rates[int(usable.argmin())])
    return LearningRateCurve(rates[: len(seen)], smooth, best / 10)


def _endless(dataset: Any):
    """Batch after batch, epoch after epoch."""
    epoch = 0
    while True:
        dataset.start_epoch(epoch)
        for index in range(len(dataset)):
            yield dataset[index]
        epoch += 1


def _smoothed(values: np.ndarray, momentum: float = 0.9) -> np.ndarray:
    """Exponential running mean, corrected for its start (Kingma and Ba 2015, section 3)."""
    mean, out = 0.0, np.empty(len(values))
    for step, value in enumerate(values, start=1):
        mean = momentum * mean + (1 - momentum) * value
        out[step - 1] = mean / (1 - momentum**step)
    return out
