"""Live: the bar, the curves and the stop button of a training that runs in a Jupyter cell.

In: how far the training is, one row an epoch. Out: what the cell displays, and whether the button was pressed. The
button reaches the busy kernel through :mod:`medlab.view.messages`.
"""

from __future__ import annotations

import html
import time
from typing import Any

import ipywidgets
import pandas as pd

from medlab.view import messages

_EACH = 0.2
"""Seconds between two looks at the bar; drawing the curves takes at most a tenth of the time."""


class LiveTraining:
    """Bar, line of numbers, stop button, and below them the curves.

    Args:
        epochs: how many epochs there will be.
        start: epochs that were done before.
    """

    def __init__(self, epochs: int, *, start: int = 0) -> None:
        from IPython.display import display

        w = ipywidgets
        self.epochs, self.stopped = epochs, False
        self.began = self.shown = time.perf_counter()
        self.start, self.drawn, self.cost = start, 0.0, 0.0
        self.rows: list[dict[str, Any]] = []
        self.bar = w.FloatProgress(value=start, min=0, max=epochs, layout=w.Layout(width="360px"))
        self.text = w.HTML("first step: the network is compiled")
        self.button = w.Button(
            description="Stop", icon="stop", tooltip="Ends after the running step; the best weights are kept",
            layout=w.Layout(width="90px"),
        )  # fmt: skip
        self.button.on_click(self._press)
        self.curves = w.Image(format="png", layout=w.Layout(display="none"))
        box = w.VBox([w.HBox([self.bar, self.button, self.text]), self.curves])
        box.add_class("medlab-live-training")
        display(box)

    def _press(self, button: ipywidgets.Button) -> None:
        self.stopped = True
        button.disabled, button.description = True, "Stopping"

    def step(self, done: float) -> bool:
        """Moves the bar to ``done`` epochs, with a fraction; whether the button was pressed."""
        now = time.perf_counter()
        if now - self.shown > _EACH:
            self.shown = now
            messages.deliver(self.button.comm.comm_id)
            left = (now - self.began) / max(done - self.start, 1e-9) * (self.epochs - done)
            self.bar.value = done
            epoch = min(int(done) + 1, self.epochs)
            self.text.value = f"epoch {epoch} of {self.epochs}, {left:.0f} s left"
        return self.stopped

    def epoch(self, row: dict[str, Any], line: str) -> None:
        """One more epoch: its numbers, and the curves where drawing them does not hold up the training."""
        self.rows.append(row)
        self.bar.value = row["epoch"]
        self.text.value = html.escape(line)
        self.shown = time.perf_counter()
        if self.shown - self.drawn > 9 * self.cost:
            self.draw()

    def draw(self) -> None:
        """The curves so far."""
        from medlab.view import charts, figures

        if not self.rows:
            return
        began = time.perf_counter()
        table = pd.DataFrame(self.rows).dropna(axis="columns", how="all")
        self.curves.value = figures.png(charts.history(table))
        self.curves.layout.display = None
        self.drawn = time.perf_counter()
        self.cost = self.drawn - began

    def close(self, line: str) -> None:
        """The last word: the bar stays where it is, the button goes."""
        self.draw()
        self.text.value = html.escape(line)
        self.bar.bar_style = "success" if self.bar.value >= self.epochs else "warning"
        self.button.layout.display = "none"
