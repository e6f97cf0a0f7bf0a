"""Rows: figures with a row of pictures for each case.

In: Volumes and matplotlib panels. Out: empty panels of the right size, and slices drawn into them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from medlab.view import slices
from medlab.view.figures import Axes, Figure, draw_picture, enlargement, extent, new_figure
from medlab.volume import Volume

SIDE = 1.9
"""Inches of a picture."""


def rows_of(
    cases: list[Volume],
    columns: int,
    axis: str | int,
    title: str,
    *,
    beside: float = 0.0,
    legend: bool = False,
    captions: bool = True,
) -> tuple[Figure, np.ndarray]:
    """A figure with a row for each case and (rows, columns) panels; room for a caption over each, or over the first."""
    tall, close = tallest(cases, axis), bool(beside) or not captions
    height = len(cases) * (SIDE * tall + (0.15 if close else 0.35)) + 0.25 * close + 0.35 * bool(title) + 0.3 * legend
    figure = new_figure(SIDE * columns + beside, height)
    if title:
        figure.suptitle(title, fontsize=12)
    return figure, figure.subplots(len(cases), columns, squeeze=False)


def tallest(volumes: list[Volume], axis: str | int) -> float:
    """Height by width of the tallest picture, within what a figure can bear."""
    return float(np.clip(max(np.divide(*extent(volume, axis)) for volume in volumes), 0.4, 2.0))


def show_picture(
    panel: Axes, volume: Volume, axis: str | int, window: tuple[float, float] | None, title: str = "", **look: Any
) -> None:
    """Draws a slice into ``panel``; a mask without a heat map is outlined only."""
    if look.get("heat") is None:
        look.pop("heat", None)
        look.pop("heat_max", None)
        look["alpha"] = 0.0  # a mask is outlined, what it covers stays visible
    picture = slices.slice_image(volume, axis=axis, window=window, scale=enlargement(volume, axis), **look)
    draw_picture(panel, volume, picture, axis, title, marks=False, size=9)
