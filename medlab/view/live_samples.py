"""Live samples: the bar, the pictures, the curves and the stop button of a GAN's training in a Jupyter cell.

In: one row an epoch, and the samples after it. Out: what the cell displays.
"""

from __future__ import annotations

import time
from typing import Any

import pandas as pd

from medlab.view.live import LiveTraining


class LiveSamples(LiveTraining):
    """As :class:`medlab.view.live.LiveTraining`, with samples of the same latents beside losses and diversity."""

    samples: Any = None

    def __init__(self, epochs: int, *, start: int = 0) -> None:
        super().__init__(epochs, start=start)
        self.text.value = "first steps: both networks are compiled, which takes some seconds"
        self.button.tooltip = "Ends after the running step; the samples and the generator so far are kept"

    def draw(self) -> None:
        """Samples and curves so far."""
        from medlab.view import figures, generated

        if not self.rows or self.samples is None:
            return
        began = time.perf_counter()
        self.curves.value = figures.png(generated.gan_training(pd.DataFrame(self.rows), self.samples))
        self.curves.layout.display = None
        self.drawn = time.perf_counter()
        self.cost = self.drawn - began
