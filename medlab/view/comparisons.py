"""Comparisons: the same cases as several methods explain them, and beside their healthy twins.

In: images and heat maps, by method or of case and twin. Out: a matplotlib figure, made as in ``medlab.view.figures``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from medlab.view import slices
from medlab.view.figures import Figure, color_bar
from medlab.view.images import each, volumes_of, wrapped
from medlab.view.rows import rows_of, show_picture
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
    figure, panels = rows_of(volumes, len(maps) + 1, axis, title, beside=1.3 + 0.9 * (titles is not None))
    for row, (line, volume, mark, name) in enumerate(zip(panels, volumes, marks, names, strict=True)):
        heats_here = [heat[row] for heat in maps.values()]
        common = {
            "index": slices.telling_index(volume, axis, mask=mark, heat=heats_here[0]),
            "window": slices.auto_window(volume) if window is None else window,
            "mask": mark,
        }
        for panel, heat in zip(line, (None, *heats_here), strict=True):
            show_picture(panel, volume, axis, heat=heat, alpha=alpha, **common)
        if name:
            line[0].set_ylabel(wrapped(name, 20), fontsize=9, rotation=0, ha="right", va="center")
    for panel, kind in zip(panels[0], ["Image", *maps], strict=True):
        panel.set_title(wrapped(kind.replace("_", " "), 16), fontsize=9)
    color_bar(figure, list(panels.ravel()))
    figure.draw_without_rendering()  # the layout settles in its second pass: labels at the left were cut in the first
    return figure


def healthy_twins(
    images: ArrayLike | Sequence[Volume | ArrayLike],
    twins: ArrayLike | Sequence[Volume | ArrayLike],
    heat: ArrayLike | Sequence[Any],
    twin_heat: ArrayLike | Sequence[Any],
    masks: ArrayLike | Sequence[Any] | None = None,
    titles: Sequence[str] | None = None,
    *,
    window: tuple[float, float] | None = None,
    axis: str | int = "axial",
    title: str = "",
    alpha: float = 0.6,
) -> Figure:
    """For each case a row: the case and its map, its healthy twin and the map of that; does the heat leave the place?

    Args:
        images: (n, i, j[, k], c), or n Volumes or arrays.
        twins: the same cases without the finding, likewise.
        heat: n heat maps of the cases, >= 0.
        twin_heat: n heat maps of the twins. Both maps of a case share one scale, from 0 to the larger maximum.
        masks: n masks of the finding, outlined on both maps.
        titles: a line for each case.
        window: (center, width) for all; None: each case its own, its twin the same.
        axis: how volumes are cut, at the slice with the most mask, else the most heat of the case.
        title: a line above all.
        alpha: opacity of the heat map, 0 to 1.

    Raises:
        ValueError: no image, or twins, maps, masks or titles of another number.
    """
    cases = volumes_of(images)
    count = len(cases)
    well = each(volumes_of(twins), count, "twins")
    maps, other = each(heat, count, "heat maps"), each(twin_heat, count, "heat maps of twins")
    marks, names = each(masks, count, "masks"), each(titles, count, "titles")
    figure, panels = rows_of(cases, 4, axis, title, beside=1.0 + 0.9 * (titles is not None))
    for line, case, twin, hot, cool, mask, name in zip(panels, cases, well, maps, other, marks, names, strict=True):
        common = {
            "index": None if case.rank == 2 else slices.telling_index(case, axis, mask=mask, heat=hot),
            "window": slices.auto_window(case) if window is None else window,
        }
        top = max(float(np.nanmax(np.asarray(one), initial=0)) for one in (hot, cool)) or None
        with_heat = {"mask": mask, "alpha": alpha, "heat_max": top}
        for panel, volume, extra in zip(
            line, (case, case, twin, twin), ({}, {"heat": hot, **with_heat}, {}, {"heat": cool, **with_heat}),
            strict=True,
        ):  # fmt: skip
            show_picture(panel, volume, axis, **common, **extra)
        if name:
            line[0].set_ylabel(wrapped(name, 20), fontsize=9, rotation=0, ha="right", va="center")
    for panel, kind in zip(panels[0], ("Case", "Its map", "Healthy twin", "The twin's map"), strict=True):
        panel.set_title(kind, fontsize=10)
    color_bar(figure, list(panels.ravel()))
    figure.draw_without_rendering()  # the layout settles in its second pass: labels at the left were cut in the first
    return figure
