"""Comparisons: the same cases as several methods explain them, side by side.

In: images, and heat maps by the name of the method. Out: a matplotlib figure, made as in ``medlab.view.figures``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from medlab.view import slices
from medlab.view.figures import Figure, color_bar, draw_picture, enlargement, extent, new_figure
from medlab.view.images import each, volumes_of, wrapped
from medlab.volume import Volume


def method_grid(
    x: ArrayLike | Sequence[Volume | ArrayLike],
    heats: Mapping[str, Any],
    masks: ArrayLike | Sequence[Volume | ArrayLike | None] | None = None,
    titles: Sequence[str] | None = None,
    *,
    window: tuple[float, float] | None = None,
    axis: str | int = "axial",
    title: str = "",
    alpha: float = 0.6,
) -> Figure:
    """For each case a row: the image, and a heat map a method over it; the mask's outline on all of them.

    Args:
        x: (n, i, j[, k], c), or n Volumes or arrays.
        heats: for each method's name (n, i, j[, k]) >= 0, or n heat maps.
        masks: (n, i, j[, k]) labels, or n masks or None.
        titles: a line for each case.
        window: (center, width) for all; None: each image its own.
        axis: how volumes are cut, at the slice with the most mask, else the most heat of the first method.
        title: a line above all.
        alpha: opacity of the heat maps, 0 to 1.

    Returns:
        The figure; each heat map is colored from 0 to its own maximum.

    Raises:
        ValueError: no image, no method, or heat maps, masks or titles of another number.
    """
    volumes = volumes_of(x)
    count = len(volumes)
    if not heats:
        raise ValueError("Expected the heat maps of at least one method. Received none.")
    maps = {name: each(heat, count, f"heat maps of {name!r}") for name, heat in heats.items()}
    marks, names = each(masks, count, "masks"), each(titles, count, "titles")
    tall = min(2.0, max(np.divide(*extent(volume, axis)) for volume in volumes))
    side = 2.0 if len(maps) < 6 else 1.5
    figure = new_figure(side * (len(maps) + 1) + 2.2, count * (side * tall - 0.05) + 0.6 + (0.3 if title else 0))
    panels = figure.subplots(count, len(maps) + 1, squeeze=False)
    for row, (line, volume, mark, name) in enumerate(zip(panels, volumes, marks, names, strict=True)):
        index = slices.telling_index(volume, axis, mask=mark, heat=next(iter(maps.values()))[row])
        common = {"axis": axis, "index": index, "window": window, "scale": enlargement(volume, axis), "mask": mark}
        shown = [{"alpha": 0.0}, *({"heat": heat[row], "alpha": alpha} for heat in maps.values())]
        for panel, extra in zip(line, shown, strict=True):
            draw_picture(panel, volume, slices.slice_image(volume, **common, **extra), axis, marks=False)
        if name:
            line[0].set_ylabel(wrapped(name, 20), fontsize=9, rotation=0, ha="right", va="center")
    for panel, kind in zip(panels[0], ["Image", *maps], strict=True):
        panel.set_title(wrapped(kind.replace("_", " "), 16), fontsize=9)
    color_bar(figure, list(panels.ravel()))
    if title:
        figure.suptitle(title, fontsize=12)
    return figure
