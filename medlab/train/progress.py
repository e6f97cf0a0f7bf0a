"""Progress: what a training says while it runs; everything goes through here.

In: lines of text. Out: a widget bar in Jupyter, one plain line an epoch elsewhere, nothing when switched off.
"""

from __future__ import annotations

import math
import os
import sys
import time
from typing import Any


class Progress:
    """Says what was chosen, then one line an epoch.

    Args:
        epochs: how many epochs there will be.
        start: epochs that were done before (a resumed training).
        shown: False says nothing at all.
    """

    def __init__(self, epochs: int, *, start: int = 0, shown: bool = True) -> None:
        self.epochs, self.start, self.shown = epochs, start, shown
        self.began = time.perf_counter()
        self.bar: Any = None
        if shown and _shows_widgets():
            from tqdm.auto import tqdm

            self.bar = tqdm(total=epochs, initial=start, unit="epoch", desc="training")

    def say(self, text: str) -> None:
        """One line of text."""
        if not self.shown:
            return
        # A notebook shows standard error on red ground, as if something had failed.
        stream = sys.stdout if _in_kernel() else sys.stderr
        stream.write(text + "\n")
        stream.flush()

    def epoch(self, row: dict[str, Any], *, best: bool) -> None:
        """The line of one epoch: numbers as in the history, a star where it is the best so far."""
        done = row["epoch"] - self.start
        left = (time.perf_counter() - self.began) / max(done, 1) * (self.epochs - row["epoch"])
        parts = [
            f"{label} {row[key]:{form}}"
            for key, label, form in (
                ("loss", "loss", ".4f"),
                ("val_loss", "validation loss", ".4f"),
                ("val_auc", "validation AUC", ".4f"),
                ("learning_rate", "learning rate", ".1e"),
            )
            if not math.isnan(row.get(key, math.nan))
        ]
        star = " *" if best else ""
        line = ", ".join(parts)
        if self.bar is not None:
            self.bar.set_postfix_str(line + star)
            self.bar.update()
            return
        width = len(str(self.epochs))
        self.say(f"epoch {row['epoch']:{width}}/{self.epochs}  {line}  {row['seconds']:.1f} s, {left:.0f} s left{star}")

    def close(self) -> None:
        """Ends the bar where it stands."""
        if self.bar is not None:
            self.bar.close()


def _in_kernel() -> bool:
    """Whether a Jupyter kernel runs this, and not a console or a test that merely has IPython loaded."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


def _shows_widgets() -> bool:
    return _in_kernel() and not os.environ.get("MEDLAB_HEADLESS")
