"""Rates: the learning-rate range test.

In: a model and its training data. Out: a curve of loss over learning rate, and a rate to use with the reason.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from medlab.backend import keras
from medlab.train import optimize

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STOP = 4.0
"""The test ends where the running mean of the loss passes so many times its minimum."""
_NOTICEABLE = 0.02
"""A smoothed loss has fallen where it is lower than at the start by this share of the start, and by the noise."""


@dataclass(frozen=True, eq=False)
class LearningRateCurve:
    """What the range test saw.

    Attributes:
        rates: (steps,) learning rates, growing by the same factor.
        losses: (steps,) smoothed training loss at each.
        suggestion: the rate to use as peak.
        reason: why this one, in a sentence.
        minimum: the rate at which the smoothed loss was least; NaN where it never fell.
        steepest: the rate at which it fell fastest; NaN where it never fell.
        raw: (steps,) the loss of each batch.
    """

    rates: np.ndarray
    losses: np.ndarray
    suggestion: float
    reason: str = ""
    minimum: float = float("nan")
    steepest: float = float("nan")
    raw: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False)

    def plot(self) -> Figure:
        """Loss over learning rate: batches as dots, their running mean as a line, and the rates that were read off."""
        from medlab.view.figures import LINES, new_figure, tidy

        figure = new_figure(6.4, 3.8)
        panel = figure.add_subplot()
        panel.plot(self.rates, self.losses, color=LINES[0], linewidth=2, label="running mean")
        if self.raw.size:
            panel.plot(self.rates, self.raw, ".", color="0.7", markersize=4, zorder=0, label="each batch")
        marks = (
            (self.suggestion, "suggestion", LINES[1], "-"),
            (self.steepest, "steepest fall", LINES[2], ":"),
            (self.minimum, "least loss", LINES[3], "--"),
        )
        for rate, name, color, style in marks:
            if np.isfinite(rate):
                panel.axvline(rate, color=color, linestyle=style, linewidth=1.5, label=f"{name}, {rate:.1e}")
        known = self.losses[np.isfinite(self.losses)]
        if known.size:  # a loss that runs away must not press the rest to the ground
            seen = self.raw[np.isfinite(self.raw)]
            low, high = float(min([known.min(), *seen])), float(known.max())
            top = min(high, max(1.6 * float(known[0]), low + 1.5 * (float(known[0]) - low)))
            panel.set_ylim(low - 0.08 * (top - low) - 1e-9, top + 0.08 * (top - low) + 1e-9)
        panel.set_xscale("log")
        panel.set_xlabel("learning rate (log scale)")
        panel.set_ylabel("training loss")
        panel.set_title("Learning-rate range test", fontsize=11)
        panel.legend(fontsize=8, frameon=False, loc="best")
        tidy(panel)
        return figure


def find_learning_rate(
    model: keras.Model,
    train: tuple | keras.utils.PyDataset,
    *,
    optimizer: str | keras.optimizers.Optimizer = "adamw",
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

    The model's weights, the state of its random layers, an optimizer that is given and the generators of Python and
    NumPy are as they were before.

    Args:
        model: a built model.
        train: (x, y) or a PyDataset, as :func:`medlab.train.fit` takes; a short one is gone through again and again.
        optimizer: its name, or a Keras optimizer, of which a copy is used.
        low: first rate.
        high: last rate; the test ends early where the smoothed loss passes four times its minimum.
        steps: number of steps.
        batch_size: cases a step.
        loss: as in fit.
        augment: as in fit.
        precision: as in fit.
        devices: as in fit.
        seed: order of the cases.

    Returns:
        The curve. Its suggestion is a tenth of the rate with the least smoothed loss. Where the loss never fell it is
        :func:`medlab.train.optimize.rule`'s, but at most a tenth of the rate at which the loss began to rise.

    Raises:
        ValueError: as fit, or ``low`` is not below ``high``, or fewer than 10 steps or no whole number of them or of
            the cases a step, or the loss is not finite before anything was learned.

    It is no better than the rule, which ``learning_rate="auto"`` takes: best validation AUC of small_cnn, mean of two
    seeds, rule against suggestion, was 0.948 and 0.914 (AdamW) and 0.937 and 0.934 (Nesterov) on 500 cases of
    BreastMNIST, 0.816 and 0.849 (AdamW) on 210 of the brain phantom; and it costs a hundred steps. Its use is a network
    or loss for which the rule was not made.

    Source:
        Smith 2017, Cyclical learning rates for training neural networks, section 3.3.
    """
    from medlab.train import checkpoint, cluster, feed, losses, received
    from medlab.train import devices as machine
    from medlab.train.loop import Trainee

    if not 0 < low < high:
        raise ValueError(f"Expected 0 < low < high. Received low={low!r}, high={high!r}.")
    for name, number, least in (("steps", steps, 10), ("batch_size", batch_size, 1)):
        if isinstance(number, bool) or not hasattr(number, "__index__") or number < least:
            raise ValueError(f"Expected {name} to be a whole number of at least {least}. Received {number!r}.")
    data = received.check(train, model, name="training")
    y = feed.labels(data)
    objective = losses.choose(model, y, loss)
    losses.check_labels(y, objective, whole=not feed.has_masks(data, y))
    setup = machine.choose(model, devices=devices, precision=precision).alone()
    before = [checkpoint.array(variable) for variable in model.variables]
    generators = random.getstate(), np.random.get_state()  # noqa: NPY002 - what users' own code may draw from
    rates = np.geomspace(low, high, steps)
    seen: list[float] = []
    batches = feed.feeds(data, objective, None, augment, batch_size, seed)
    try:
        with setup.scope(), cluster.placed(model, setup):
            trainee = Trainee(model)
            made = cluster.adopted(_copy(optimizer, low, steps, model), setup)
            trainee.compile(made, objective.loss, jit_compile=setup.jit)
            stream = _endless(batches)
            for rate in rates:
                trainee.optimizer.learning_rate = rate
                seen.append(float(np.asarray(trainee.train_on_batch(*next(stream))).reshape(-1)[0]))
                trainee.reset_metrics()
                if _ran_away(seen):
                    break
    finally:
        for variable, old in zip(model.variables, before, strict=True):
            variable.assign(old)
        random.setstate(generators[0])
        np.random.set_state(generators[1])  # noqa: NPY002
        batches.start_epoch(0)
    return read(rates[: len(seen)], np.array(seen), fallback=_fallback(optimizer, batch_size))


def read(rates: np.ndarray, raw: np.ndarray, *, fallback: tuple[float, str]) -> LearningRateCurve:
    """The suggestion that follows from the losses of a range test.

    Args:
        rates: (steps,) learning rates, rising.
        raw: (steps,) loss of each batch, before the step with that rate.
        fallback: the rate to use where the losses say nothing, and its reason.

    Raises:
        ValueError: the first loss is not finite.
    """
    raw = np.asarray(raw, np.float64)
    if not np.isfinite(raw[0]):
        raise ValueError(
            f"The loss is {raw[0]} before anything was learned, so that no learning rate can help. Look for images "
            "that were not standardized (medlab.standardize), weights that are not finite, or a loss that does not "
            "fit; or take precision='float32'."
        )
    finite = np.isfinite(raw)
    known, at = raw[finite], rates[finite]
    smooth = np.full(len(raw), np.nan)
    smooth[finite] = _smoothed(known)
    line = smooth[finite]
    noise = float(np.std(np.diff(known[: max(len(known) // 3, 3)]))) / np.sqrt(2 * 10) if len(known) > 3 else 0.0
    start = float(np.mean(line[: max(len(line) // 10, 1)]))
    best = int(line.argmin())
    fallen = start - float(line[best]) > max(_NOTICEABLE * abs(start), 2 * noise)
    ended = _ran_away(raw)
    if not fallen:
        rate, why = _without_a_fall(at, line, start, noise, fallback, ended=ended)
        return LearningRateCurve(rates, smooth, rate, why, raw=raw)
    slope = np.gradient(line, np.log(at)) if len(line) > 1 else np.zeros(1)
    steepest = float(at[int(slope[: best + 1].argmin())])
    minimum = float(at[best])
    why = f"a tenth of {minimum:.1e}, where the smoothed loss was least"
    if best == len(line) - 1 and not ended:
        why += "; it was still falling at the highest rate, so that a larger one (high=...) may be better"
    return LearningRateCurve(rates, smooth, minimum / 10, why, minimum, steepest, raw)


def _ran_away(losses: Sequence[float]) -> bool:
    """Whether the last loss is not finite, or their running mean is far above its minimum.

    Of the mean: a single batch that was learned by heart would make any other look large.
    """
    losses = np.asarray(losses, np.float64)
    if not np.isfinite(losses[-1]):
        return True
    mean = _smoothed(losses)
    return bool(mean[-1] > _STOP * mean.min())


def _without_a_fall(
    rates: np.ndarray, line: np.ndarray, start: float, noise: float, fallback: tuple[float, str], *, ended: bool
) -> tuple[float, str]:
    """The suggestion where the loss never fell noticeably."""
    rising = np.flatnonzero(line > start + max(_NOTICEABLE * abs(start), 2 * noise))
    if not len(rising) and not ended:
        return fallback[0], f"the loss neither fell nor rose: too few steps, or nothing to learn; {fallback[1]}"
    place = int(rising[0]) if len(rising) else len(rates) - 1
    first = float(rates[place])
    if place < 2:
        return (
            first / 10,
            f"the loss ran away at once: a tenth of the lowest rate, {first:.1e}; test lower ones (low=...)",
        )
    if fallback[0] <= first / 10:
        return fallback[0], f"the loss only rose, from {first:.1e} on; {fallback[1]}"
    return first / 10, f"the loss only rose: a tenth of {first:.1e}, where it began to"


def _copy(optimizer: str | keras.optimizers.Optimizer, low: float, steps: int, model: keras.Model) -> Any:
    if isinstance(optimizer, keras.optimizers.Optimizer):
        config = {**optimizer.get_config(), "learning_rate": low}
        return type(optimizer).from_config(config)
    return optimize.make(optimizer, learning_rate=low, schedule="constant", steps=steps, model=model).optimizer


def _fallback(optimizer: str | keras.optimizers.Optimizer, batch_size: int) -> tuple[float, str]:
    if isinstance(optimizer, str):
        return optimize.rule(optimizer, batch_size)
    return float(np.asarray(optimizer.learning_rate)), "that of the optimizer given"


def _endless(dataset: Any) -> Iterator[tuple]:
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
