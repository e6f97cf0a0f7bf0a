"""Images as figures: slices with masks and heat maps, their sides, scale bars and units; and many of them at once.

In: Volumes and arrays. Out: matplotlib figures, made as in ``medlab.view.figures``.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from medlab.view import slices
from medlab.view.figures import (
    Figure,
    class_name,
    color_bar,
    draw_picture,
    enlargement,
    extent,
    finish,
    new_figure,
    picture_row,
    shown_labels,
)
from medlab.volume import Volume


def orthogonal(
    volume: Volume | ArrayLike,
    mask: Volume | ArrayLike | None = None,
    heat: Volume | ArrayLike | None = None,
    *,
    window: tuple[float, float] | None = None,
    alpha: float | None = None,
    title: str = "",
    note: str = "",
    classes: Sequence[str] | None = None,
) -> Figure:
    """An axial, a coronal and a sagittal slice and a maximum projection, with sides, scale bar and window.

    The slices are those with the most mask, else the most heat, else the middle ones. A picture gives one panel.

    Args:
        volume: an image or a label map; a bare array has no known sides.
        mask: label map of the volume's shape, outlined.
        heat: heat map of the volume's shape.
        window: (center, width) in the image's unit; None: :func:`slices.auto_window`.
        alpha: opacity of mask and heat map, 0 to 1; by default 0.25 for a mask and 0.6 for a heat map.
        title: a line above.
        note: one more sentence below.
        classes: the names of the mask's labels for the legend, that of label 1 first.

    Returns:
        The figure.

    Raises:
        ValueError: as :func:`slices.slice_image`.
    """
    volume = slices.as_volume(volume)
    look = _look(volume, mask, heat, window, alpha)
    if volume.rank == 2:
        rows, columns = extent(volume, "axial")
        figure, axes = picture_row([columns], [rows], 0, beside=_beside(volume, mask, heat, classes), title=bool(title))
        draw_picture(axes[0], volume, slices.slice_image(volume, scale=enlargement(volume, "axial"), **look))
        return finish(figure, axes, volume, look, title, note, classes)
    heights, widths = zip(*(extent(volume, plane) for plane in (*slices.PLANES, "coronal")), strict=True)
    beside = _beside(volume, mask, heat, classes)
    figure, axes = picture_row(list(widths), list(heights), 3, beside=beside, title=bool(title))
    for panel, plane in zip(axes[:3], slices.PLANES, strict=True):
        index = slices.telling_index(volume, plane, mask=mask, heat=heat)
        picture = slices.slice_image(volume, axis=plane, index=index, scale=enlargement(volume, plane), **look)
        where = f"slice {index} (0 to {slices.slice_count(volume, plane) - 1})"
        spot = slices.position(volume, plane, index)
        draw_picture(panel, volume, picture, plane, f"{plane.capitalize()}\n{where}" + (f"\n{spot}" if spot else ""))
    picture = slices.projection(volume, axis="coronal", scale=enlargement(volume, "coronal"), **look)
    draw_picture(axes[3], volume, picture, "coronal", "Maximum\nprojection, coronal")
    return finish(figure, axes, volume, look, title, note, classes)


def overlay(
    volume: Volume | ArrayLike,
    mask: Volume | ArrayLike | None = None,
    heat: Volume | ArrayLike | None = None,
    *,
    axis: str | int = "axial",
    index: int | None = None,
    window: tuple[float, float] | None = None,
    alpha: float | None = None,
    title: str = "",
    classes: Sequence[str] | None = None,
) -> Figure:
    """One slice with its mask outlined or its heat map laid over it.

    Args:
        volume: as :func:`orthogonal`.
        mask: as :func:`orthogonal`.
        heat: as :func:`orthogonal`.
        axis: as :func:`slices.slice_image`.
        index: the slice; None: the one with the most mask, else the most heat, else the middle.
        window: (center, width) in the image's unit.
        alpha: opacity of mask and heat map, 0 to 1.
        title: a line above.
        classes: the names of the mask's labels for the legend, that of label 1 first.

    Returns:
        The figure.

    Raises:
        ValueError: as :func:`slices.slice_image`.
    """
    volume = slices.as_volume(volume)
    look = _look(volume, mask, heat, window, alpha)
    if index is None:
        index = slices.telling_index(volume, axis, mask=mask, heat=heat)
    rows, columns = extent(volume, axis)
    beside = _beside(volume, mask, heat, classes)
    figure, (panel,) = picture_row([columns], [rows], int(volume.rank == 3), beside=beside, title=bool(title))
    picture = slices.slice_image(volume, axis=axis, index=index, scale=enlargement(volume, axis), **look)
    name = ""
    if volume.rank == 3:
        plane = axis.capitalize() if isinstance(axis, str) else f"Axis {axis}"
        name = f"{plane}, slice {index} (0 to {slices.slice_count(volume, axis) - 1})"
    draw_picture(panel, volume, picture, axis, name)
    return finish(figure, [panel], volume, look, title, "", classes)


def montage(
    images: Volume | ArrayLike | Sequence[Volume | ArrayLike],
    titles: Sequence[str] | None = None,
    masks: Sequence[Volume | ArrayLike | None] | ArrayLike | None = None,
    *,
    heats: Sequence[Volume | ArrayLike | None] | ArrayLike | None = None,
    columns: int | None = None,
    window: tuple[float, float] | None = None,
    axis: str | int = "axial",
    title: str = "",
    alpha: float | None = None,
    marks: bool = False,
) -> Figure:
    """Many images side by side, or the slices of one volume.

    Args:
        images: Volumes or arrays; an array ``x`` of shape (n, i, j[, k], c); or one 3-D Volume, of which up to 24
            slices evenly apart are shown.
        titles: a line for each image.
        masks: a mask or None for each image.
        heats: a heat map or None for each image.
        columns: images in a row; by default up to 6.
        window: (center, width) for all; None: each image its own.
        axis: how volumes are cut, at their most telling slice.
        title: a line above all.
        alpha: opacity of masks and heat maps, 0 to 1.
        marks: whether each picture has the letters of its sides and a scale bar, where these are known.

    Returns:
        The figure.

    Raises:
        ValueError: no image, or titles, masks or heat maps of another number.
    """
    if isinstance(images, Volume):
        cuts, titles = _slices_of(images, axis, masks, heats, titles)
    else:
        volumes = volumes_of(images)
        regions, maps = each(masks, len(volumes), "masks"), each(heats, len(volumes), "heats")
        cuts = [
            (v, slices.telling_index(v, axis, mask=m, heat=h), m, h)
            for v, m, h in zip(volumes, regions, maps, strict=True)
        ]
    titles = each(titles, len(cuts), "titles")
    columns = min(len(cuts), 6) if columns is None else columns
    rows = -(-len(cuts) // columns)
    width = min(2.4, 10.5 / columns)
    shapes = [extent(volume, axis) for volume, *_ in cuts]
    tall = min(2.5, max(height / across for height, across in shapes))
    lines = max((wrapped(name, 22).count("\n") + 1 for name in titles if name), default=0)
    figure = new_figure(max(width * columns, 3.0), rows * (width * tall + 0.17 * lines + 0.08) + (0.3 if title else 0))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, (volume, index, mask, heat), name in zip(panels, cuts, titles, strict=False):
        look = _look(volume, mask, heat, window, alpha)
        picture = slices.slice_image(volume, axis=axis, index=index, scale=enlargement(volume, axis), **look)
        draw_picture(panel, volume, picture, axis, wrapped(name, 22) if name else "", marks=marks, size=9)
    for panel in panels[len(cuts) :]:
        panel.set_axis_off()
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def explanation_grid(
    x: ArrayLike | Sequence[Volume | ArrayLike],
    heat: ArrayLike | Sequence[Volume | ArrayLike],
    masks: ArrayLike | Sequence[Volume | ArrayLike | None] | None = None,
    titles: Sequence[str] | None = None,
    *,
    window: tuple[float, float] | None = None,
    axis: str | int = "axial",
    title: str = "",
    alpha: float = 0.6,
) -> Figure:
    """For each case a row: the image, the heat map over it, and where there are masks the mask's outline on both.

    Args:
        x: (n, i, j[, k], c), or n Volumes or arrays.
        heat: (n, i, j[, k]) >= 0, or n heat maps.
        masks: (n, i, j[, k]) labels, or n masks or None.
        titles: a line for each case.
        window: (center, width) for all; None: each image its own.
        axis: how volumes are cut, at the slice with the most mask, else the most heat.
        title: a line above all.
        alpha: opacity of the heat map, 0 to 1.

    Returns:
        The figure; each heat map is colored from 0 to its own maximum.

    Raises:
        ValueError: no image, or heat maps, masks or titles of another number.
    """
    volumes = volumes_of(x)
    count = len(volumes)
    maps, marks, names = each(heat, count, "heat"), each(masks, count, "masks"), each(titles, count, "titles")
    kinds = ["Image", "Heat map"] + (["True region, outlined"] if masks is not None else [])
    tall = min(2.0, max(np.divide(*extent(volume, axis)) for volume in volumes))
    side = 2.3
    figure = new_figure(side * len(kinds) + 2.2, count * (side * tall - 0.05) + 0.45 + (0.3 if title else 0))
    panels = figure.subplots(count, len(kinds), squeeze=False)
    for line, volume, hot, mark, name in zip(panels, volumes, maps, marks, names, strict=True):
        index = slices.telling_index(volume, axis, mask=mark, heat=hot)
        common = {"axis": axis, "index": index, "window": window, "scale": enlargement(volume, axis)}
        shown = [{}, {"heat": hot, "alpha": alpha}, {"heat": hot, "mask": mark, "alpha": alpha}]
        for panel, extra in zip(line, shown, strict=False):
            draw_picture(panel, volume, slices.slice_image(volume, **common, **extra), axis, marks=False)
        if name:
            line[0].set_ylabel(wrapped(name, 20), fontsize=9, rotation=0, ha="right", va="center")
    for panel, kind in zip(panels[0], kinds, strict=True):
        panel.set_title(kind, fontsize=10)
    color_bar(figure, list(panels.ravel()))
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def _look(volume: Volume, mask: Any, heat: Any, window: Any, alpha: float | None) -> dict[str, Any]:
    if alpha is None:
        alpha = 0.25 if heat is None else 0.6
    window = slices.auto_window(volume) if window is None else window
    return {"window": window, "mask": mask, "heat": heat, "alpha": alpha}


def wrapped(text: Any, width: int) -> str:
    """Lines of at most ``width`` characters; the line breaks of the text stay."""
    return "\n".join(textwrap.fill(line, width) for line in str(text).splitlines())


def _beside(volume: Volume, mask: Any, heat: Any, classes: Sequence[str] | None = None) -> float:
    """Inches for the color bar and the legend."""
    if classes is None:
        legend = 0.9 if len(shown_labels(volume, mask)) > 1 else 0.0
    else:
        legend = 0.5 + 0.075 * max(
            (len(class_name(classes, int(one))) for one in shown_labels(volume, mask)), default=0
        )
    return (0.9 if heat is not None else 0.0) + legend


def volumes_of(images: Any) -> list[Volume]:
    """Volumes from a list, or from an array (n, i, j[, k], c)."""
    if isinstance(images, np.ndarray):
        if images.ndim not in (4, 5):
            raise ValueError(f"Expected an array (n, i, j[, k], c) or a list of images. Received shape {images.shape}.")
        found = [Volume(one, info={"geometry": "assumed"}, rank=images.ndim - 2) for one in images]
    else:
        found = [slices.as_volume(one) for one in images]
    if not found:
        raise ValueError("Expected at least one image. Received none.")
    return found


def each(values: Any, count: int, what: str) -> list[Any]:
    """One value for each image, None where there are none."""
    if values is None:
        return [None] * count
    if len(values) != count:
        raise ValueError(f"Expected as many {what} as images, {count}. Received {len(values)}.")
    return list(values)


def _slices_of(volume: Volume, axis: str | int, mask: Any, heat: Any, titles: Any) -> tuple[list[Any], list[str]]:
    """Up to 24 slices of one volume evenly apart."""
    count = slices.slice_count(volume, axis)
    chosen = np.unique(np.linspace(0, count - 1, min(count, 24)).round().astype(int)).tolist()
    names = [f"slice {index}" for index in chosen] if titles is None else titles
    return [(volume, index, mask, heat) for index in chosen], names
