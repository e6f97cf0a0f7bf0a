"""Progress: what a training says while it runs; everything goes through here.

In: lines of text. Out: a bar with live curves and a stop button in Jupyter, one plain line an epoch elsewhere, nothing
when switched off.
"""

from __future__ import annotations

import importlib.util
import math
import os
import sys
import time
from typing import Any

_PARTS = (
    ("loss", "loss", ".4f"),
    ("val_loss", "validation loss", ".4f"),
    ("val_auc", "validation AUC", ".4f"),
    ("val_dice", "validation Dice", ".4f"),
    ("learning_rate", "learning rate", ".1e"),
)


def say(text: str) -> None:
    """One line of text: on standard error, in a notebook on standard output.

    A notebook shows standard error on red ground, as if something had failed.
    """
    stream = sys.stdout if _in_kernel() else sys.stderr
    stream.write(text + "\n")
    stream.flush()


class Progress:
    """Says what was chosen, then one line an epoch.

    Args:
        epochs: how many epochs there will be.
        start: epochs that were done before (a resumed training).
        shown: False says nothing at all.
        judged: column of the history that the best epoch is chosen by.
    """

    def __init__(self, epochs: int, *, start: int = 0, shown: bool = True, judged: str = "val_auc") -> None:
        self.epochs, self.start, self.shown, self.judged = epochs, start, shown, judged
        self.began = time.perf_counter()
        self.live: Any = None
        self.best, self.last = "", "no epoch was done"

    def begin(self, rows: list[dict[str, Any]]) -> None:
        """The first epoch is about to begin: shows the live view where there is one, with the epochs done before."""
        if self.shown and _shows_widgets():
            from medlab.view import live

            self.live = live.LiveTraining(self.epochs, start=self.start)
            self.live.rows = list(rows)

    def say(self, text: str) -> None:
        """One line of text."""
        if self.shown:
            say(text)

    def stop_asked(self, done: float) -> bool:
        """Whether someone pressed the stop button; ``done`` is how many epochs are done, with a fraction."""
        return self.live is not None and self.live.step(done)

    def epoch(self, row: dict[str, Any], *, best: bool) -> None:
        """The line of one epoch: numbers as in the history, a star where it is the best so far."""
        done = row["epoch"] - self.start
        left = (time.perf_counter() - self.began) / max(done, 1) * (self.epochs - row["epoch"])
        star = " *" if best else ""
        line = numbers(row)
        width = len(str(self.epochs))
        self.last = f"epoch {row['epoch']:{width}}/{self.epochs}  {line}"
        if best:
            self.best = f"; best epoch {row['epoch']}" + (
                f" ({row[self.judged]:.4f})" if not math.isnan(row.get(self.judged, math.nan)) else ""
            )
        if self.live is not None:
            self.live.epoch(row, self.last + star)
            return
        self.say(f"{self.last}  {row['seconds']:.1f} s, {left:.0f} s left{star}")

    def close(self) -> None:
        """Ends the live view where it stands; its last line stays as text too, for a notebook that is read later."""
        if self.live is not None:
            self.live.close(self.last + self.best)
            self.say(self.last + self.best)
            self.live = None


def numbers(row: dict[str, Any]) -> str:
    """The numbers of an epoch that were measured, in words."""
    parts = [f"{label} {row[key]:{form}}" for key, label, form in _PARTS if not math.isnan(row.get(key, math.nan))]
    return ", ".join(parts)


def _in_kernel() -> bool:
    """Whether a Jupyter kernel runs this, and not a console or a test that merely has IPython loaded."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


def _shows_widgets() -> bool:
    headless = os.environ.get("MEDLAB_HEADLESS", "0") not in ("", "0")
    return _in_kernel() and not headless and importlib.util.find_spec("ipywidgets") is not None
