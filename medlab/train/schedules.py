"""Schedules: the learning rate over the steps of one training.

In: a name, the peak rate, the number of steps. Out: a number or a Keras schedule, and the words that say what it is.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from medlab.backend import keras

SCHEDULES = ("cosine", "constant", "step", "onecycle", "warmup", "plateau")


class Lines(keras.optimizers.schedules.LearningRateSchedule):
    """Straight lines between corners; the first and the last rate hold before and after them.

    Args:
        steps: steps of the corners, rising.
        rates: the learning rate at each.
    """

    def __init__(self, steps: Sequence[int], rates: Sequence[float]) -> None:
        super().__init__()
        self.steps, self.rates = [float(step) for step in steps], [float(rate) for rate in rates]

    def __call__(self, step: Any) -> Any:
        """The learning rate of a step, counted from 0."""
        ops = keras.ops
        step = ops.cast(step, "float32")
        rate = ops.cast(self.rates[0], "float32")
        corners = list(zip(self.steps, self.rates, strict=True))
        for (left, low), (right, high) in itertools.pairwise(corners):
            share = ops.clip((step - left) / (right - left), 0.0, 1.0)
            rate = ops.where(step > left, low * (1 - share) + high * share, rate)
        return rate

    def get_config(self) -> dict[str, Any]:
        """The corners."""
        return {"steps": self.steps, "rates": self.rates}


def build(schedule: Any, peak: float, steps: int, warmup: float = 0.1) -> tuple[Any, str]:
    """The learning rate over ``steps`` steps, for a Keras optimizer, and the words that say what it does.

    Args:
        schedule: a Keras ``LearningRateSchedule``, which is used as it is, or

            - ``"cosine"``: linear warm-up, then half a cosine to 0 (Loshchilov and Hutter 2017, without restarts);
            - ``"constant"``: the peak throughout;
            - ``"step"``: the peak, a tenth of it from half of the steps on, a hundredth from three quarters on
              (He et al. 2016, section 4.2: 32,000 and 48,000 of 64,000 steps);
            - ``"onecycle"``: linear from a tenth of the peak up to it in 45 % of the steps, back in as many, then
              down to a ten-thousandth of the peak (Smith and Topin 2018). Their cycle of the momentum is left out;
            - ``"warmup"``: linear warm-up, then the peak (Goyal et al. 2017, section 2.2);
            - ``"plateau"``: the peak, which the training loop lowers where the validation score stands still.
        peak: the highest rate.
        steps: steps of the whole training.
        warmup: share of the steps in which ``"cosine"`` and ``"warmup"`` rise.

    Raises:
        ValueError: an unknown name, or ``warmup`` out of range.
    """
    if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        return schedule, "schedule as given"
    if schedule not in SCHEDULES:
        near = difflib.get_close_matches(str(schedule).lower(), SCHEDULES, 1)
        raise ValueError(
            f"Expected schedule to be one of {', '.join(SCHEDULES)} or a Keras one. Received {schedule!r}."
            + (f" Did you mean {near[0]!r}?" if near else "")
        )
    if not 0 <= warmup < 1:
        raise ValueError(f"Expected warmup from 0 to below 1. Received {warmup!r}.")
    rising = min(round(warmup * steps), steps - 1)
    if schedule == "constant":
        return peak, "constant"
    if schedule == "plateau":
        return peak, "constant until the validation score stands still"
    if schedule == "step":
        return _step(peak, steps)
    if schedule == "onecycle":
        return _one_cycle(peak, steps)
    if schedule == "warmup":
        if rising < 1:
            return peak, "constant"
        return Lines([0, rising], [peak / rising, peak]), f"{_steps(rising)} of warm-up, then constant"
    if rising < 1:
        return keras.optimizers.schedules.CosineDecay(peak, steps), "cosine to 0"
    made = keras.optimizers.schedules.CosineDecay(
        peak / rising, max(steps - rising, 1), warmup_target=peak, warmup_steps=rising
    )
    return made, f"{_steps(rising)} of warm-up, then cosine to 0"


def _steps(count: int) -> str:
    return "1 step" if count == 1 else f"{count} steps"


def _step(peak: float, steps: int) -> tuple[Any, str]:
    corners = [max(1, round(share * steps)) for share in (0.5, 0.75)]
    if corners[0] == corners[1]:
        return peak, f"constant: {steps} steps are too few for steps"
    # Keras' boundary is the last step with the rate before it.
    made = keras.optimizers.schedules.PiecewiseConstantDecay([c - 1 for c in corners], [peak, peak / 10, peak / 100])
    return made, f"a tenth from step {corners[0]} on, a hundredth from step {corners[1]} on"


def _one_cycle(peak: float, steps: int) -> tuple[Any, str]:
    half = round(0.45 * steps)
    corners = np.array([0, half, 2 * half, steps])
    if np.any(np.diff(corners) < 1):
        return peak, f"constant: {steps} steps are too few for a cycle"
    words = f"one cycle: {half} steps up from a tenth, {half} down, then to a ten-thousandth"
    return Lines(corners.tolist(), [peak / 10, peak, peak / 10, peak / 10_000]), words
