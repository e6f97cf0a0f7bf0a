"""Pace: the learning rate and the end of a training where the loop itself decides them: by time, or by the scores.

In: how far the training is. Out: the rate of the next steps, and whether the time is used up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from medlab.backend import keras

FACTOR = 0.3
"""What the plateau schedule multiplies the learning rate with."""


class Budget:
    """A time budget, and the schedule that ends with it.

    Args:
        seconds: wall time of all epochs with their validation, those before a resumption included.
        used: seconds used before this call.
        steps: steps that the schedule was made for.
        schedule: step -> learning rate, or None where the rate is constant or not ours to set.
    """

    def __init__(self, seconds: float, *, used: float, steps: int, schedule: Callable | None) -> None:
        self.seconds, self.steps, self.schedule = seconds, steps, schedule
        self.began = time.perf_counter() - used
        self.first: float | None = None
        self.closing = 0.0
        self.updated = -1.0

    @property
    def elapsed(self) -> float:
        """Seconds used."""
        return time.perf_counter() - self.began

    def over(self) -> bool:
        """Whether what is left is no more than what validating and saving took the last time."""
        return self.elapsed + self.closing >= self.seconds

    def closed(self, seconds: float) -> None:
        """Remembers how long validating and saving took."""
        self.closing = seconds

    def rate(self, step: int) -> float | None:
        """The learning rate after ``step`` steps, None where the last one still holds.

        The schedule is as far as the larger of two shares: of the steps, and of the time from the first step's end on
        (before, the network is compiled).
        """
        elapsed = self.elapsed
        if self.first is None:
            self.first = elapsed
        share = max(step / self.steps, (elapsed - self.first) / max(self.seconds - self.closing - self.first, 1e-9))
        if self.schedule is None or share - self.updated < 1 / 200:
            return None
        self.updated = share
        return float(keras.ops.convert_to_numpy(self.schedule(min(share, 1.0) * self.steps)))


def lowered(rows: Sequence[dict[str, Any]], best_epoch: int, wait: int) -> bool:
    """Whether the plateau schedule lowers the rate now: ``wait`` epochs without a better score, nor a new rate.

    Args:
        rows: the history; its learning rates say when the rate was lowered the last time.
        best_epoch: the epoch with the best score.
        wait: epochs.
    """
    rates = [row["learning_rate"] for row in rows]
    changed = [n for n in range(1, len(rates)) if not np.isclose(rates[n], rates[n - 1], rtol=1e-4)]
    since = max(best_epoch, changed[-1] if changed else 0)
    return len(rows) - since >= wait


def best_loss_epoch(rows: Sequence[dict[str, Any]]) -> int:
    """The epoch with the least training loss, for trainings without a validation set."""
    return 1 + int(np.argmin([row["loss"] for row in rows]))
