"""Watching: what a GAN's training says while it runs: a line an epoch, in Jupyter samples, losses and a stop button."""

from __future__ import annotations

import time
from typing import Any

from medlab.train import progress


class GanProgress(progress.Progress):
    """As :class:`medlab.train.progress.Progress`, with other numbers and the samples."""

    samples: Any = None

    def begin(self, rows: list[dict[str, Any]]) -> None:
        """Shows the live view where there is one."""
        if self.shown and progress._shows_widgets():
            from medlab.view import live_samples

            self.live = live_samples.LiveSamples(self.epochs, start=self.start)
            self.live.rows = list(rows)

    def epoch(self, row: dict[str, Any], *, best: bool = False) -> None:
        """The line of one epoch."""
        done = row["epoch"] - self.start
        left = (time.perf_counter() - self.began) / max(done, 1) * (self.epochs - row["epoch"])
        width = len(str(self.epochs))
        self.last = (
            f"epoch {row['epoch']:{width}}/{self.epochs}  discriminator {row['discriminator_loss']:.3f}, "
            f"generator {row['generator_loss']:.3f}, diversity {row['diversity']:.2f}"
        )
        if self.live is not None:
            self.live.samples = self.samples
            self.live.epoch(row, self.last)
            return
        self.say(f"{self.last}  {row['seconds']:.1f} s, {left:.0f} s left")
