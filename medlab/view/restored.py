"""Restored: what a network made of images: reconstructed, found unusual, or generated from nothing, in rows.

In: images and what came out for them. Out: matplotlib figures. Pictures that are compared share one window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from medlab.view import slices
from medlab.view.colors import HEAT_COLORS, SIGNED_COLORS
from medlab.view.figures import (
    Axes,
    Figure,
    color_legend,
    draw_picture,
    enlargement,
    new_figure,
    value_bar,
)
from medlab.view.images import each, volumes_of, wrapped
from medlab.view.rows import SIDE, rows_of, show_picture, tallest
from medlab.volume import Volume

_HIT, _MISSED, _EXTRA = 3, 5, 6
_FOUND = {_HIT: "lesion, found", _MISSED: "lesion, missed", _EXTRA: "found, but no lesion"}


def reconstructions(
    pictures: Mapping[str, ArrayLike | Sequence[Any]],
    titles: Sequence[str] | None = None,
    *,
    residual: tuple[str, str] | None = None,
    masks: ArrayLike | Sequence[Any] | None = None,
    window: tuple[float, float] | None = None,
    axis: str | int = "axial",
    title: str = "",
) -> Figure:
    """For each case a row: its image, what the network was given, what it made of it, and their difference.

    Args:
        pictures: columns by name, such as ``{"Image": x, "Masked": given, "Reconstruction": made}``; each (n, i, j[,
            k], c), or n Volumes or arrays, of the same cases.
        titles: a line for each case.
        residual: two of the names; the first minus the second becomes a last column, orange where the first is
            brighter and purple where the second is, all cases on one scale in the images' unit.
        masks: (n, i, j[, k]) labels, such as lesions, outlined in the residual (without one: in the first column).
        window: (center, width) for all; None: each row that of its first picture.
        axis: how volumes are cut: all of a row at one slice, that with the most mask, else with the most residual,
            else the middle.
        title: a line above all.

    Returns:
        The figure.

    Raises:
        ValueError: no column or no case, columns, titles or masks of another number, pictures of a row that differ in
            shape, or a residual of unknown names.
    """
    if not isinstance(pictures, Mapping):
        raise ValueError(
            f'Expected columns of pictures by name, such as {{"Image": x}}. Received {type(pictures).__name__}.'
        )
    if not pictures:
        raise ValueError("Expected at least one column of pictures. Received none.")
    names = list(pictures)
    columns = {name: volumes_of(images) for name, images in pictures.items()}
    first = columns[names[0]]
    for name, volumes in columns.items():
        each(volumes, len(first), f"pictures of {name!r}")
        for one, other in zip(first, volumes, strict=True):
            if one.shape != other.shape:
                raise ValueError(
                    f"Expected {name!r} in the shape of {names[0]!r}, {one.shape}. Received {other.shape}."
                )
    if residual is not None and (len(residual) != 2 or set(residual) - set(names)):
        raise ValueError(f"Expected a residual of two among {', '.join(names)}. Received {residual!r}.")
    marks, lines = each(masks, len(first), "masks"), each(titles, len(first), "titles")
    rest = [None] * len(first)
    if residual is not None:
        rest = [_gray(one) - _gray(other) for one, other in zip(*(columns[name] for name in residual), strict=True)]
    figure, panels = rows_of(
        first, len(names) + (residual is not None), axis, title,
        beside=1.1 * (residual is not None) + bool(titles), captions=False,
    )  # fmt: skip
    top = max((_largest(one) for one in rest if one is not None), default=0.0) or 1.0
    for number, (row, mark, line) in enumerate(zip(panels, marks, lines, strict=True)):
        size = None if rest[number] is None else np.abs(rest[number])
        index = _index(first[number], axis, mark, size)
        shared = slices.auto_window(first[number]) if window is None else window
        for place, (panel, name) in enumerate(zip(row, names, strict=False)):
            outlined = mark if residual is None and place == 0 else None
            look = {} if outlined is None else {"mask": outlined}
            show_picture(panel, columns[name][number], axis, shared, index=index, **look)
        if rest[number] is not None:
            _draw_values(row[-1], first[number], rest[number], (-top, top), SIGNED_COLORS, axis, index, mark)
        _name_row(row[0], line)
    for panel, name in zip(panels[0], [*names, "Residual"], strict=False):
        panel.set_title(name, fontsize=10)
    if residual is not None:
        label = f"{residual[0]} − {residual[1]}".lower()
        value_bar(figure, list(panels.ravel()), SIGNED_COLORS, -top, top, label)
    figure.draw_without_rendering()  # the layout settles in its second pass
    return figure


def anomaly_maps(
    x: ArrayLike | Sequence[Any],
    maps: ArrayLike | Sequence[Any],
    masks: ArrayLike | Sequence[Any] | None = None,
    titles: Sequence[str] | None = None,
    *,
    reconstruction: ArrayLike | Sequence[Any] | None = None,
    threshold: float | None = None,
    heat_max: float | None = None,
    window: tuple[float, float] | None = None,
    axis: str | int = "axial",
    title: str = "",
) -> Figure:
    """For each case a row: the image, its anomaly map on one scale for all cases, and what a threshold would find.

    A healthy case stays dark beside a sick one, since no map is stretched to its own maximum.

    Args:
        x: (n, i, j[, k], c), or n Volumes or arrays.
        maps: (n, i, j[, k]) anomaly, 0 or above.
        masks: (n, i, j[, k]), the lesion where not 0; outlined on the image.
        titles: a line for each case, such as its score.
        reconstruction: of the shape of x: one more column.
        threshold: anomaly from which a voxel counts as found, a finite number: one more column. None: no such column.
        heat_max: anomaly that has the last color; None: the 99.9th percentile of all maps together.
        window: (center, width) for all; None: each row that of its image.
        axis: how volumes are cut: at the slice with the most lesion, else with the most anomaly.
        title: a line above all.

    Returns:
        The figure.

    Raises:
        ValueError: no case, maps, masks, reconstructions or titles of another number, maps that do not fit, or a
            threshold that is not finite.
    """
    if threshold is not None:
        real = isinstance(threshold, int | float | np.number) and not isinstance(threshold, bool)
        if not real or not np.isfinite(threshold):
            raise ValueError(
                "Expected threshold as a finite number, or None for no column of what is found. Received "
                f"{threshold!r}. Without masks evaluate.anomalies has no threshold and gives NaN: pass threshold=None "
                "then."
            )
    volumes = volumes_of(x)
    count = len(volumes)
    heats, marks, names = each(maps, count, "maps"), each(masks, count, "masks"), each(titles, count, "titles")
    heats = [slices.fitting(heat, one, "map").astype(np.float64) for heat, one in zip(heats, volumes, strict=True)]
    if any((heat < 0).any() for heat in heats):
        raise ValueError("Expected maps of 0 or above, such as evaluate.anomaly_maps gives. Some values are below 0.")
    made = each(None if reconstruction is None else volumes_of(reconstruction), count, "reconstructions")
    top = _top(heats) if heat_max is None else heat_max
    kinds = ["Image"] + ["Reconstruction"] * (reconstruction is not None) + ["Anomaly"]
    kinds += ["Found"] * (threshold is not None)
    figure, panels = rows_of(volumes, len(kinds), axis, title, beside=1.1 + bool(titles), legend=threshold is not None)
    for row, volume, heat, mark, again, name in zip(panels, volumes, heats, marks, made, names, strict=True):
        index = _index(volume, axis, mark, heat)
        shared = slices.auto_window(volume) if window is None else window
        spots = iter(row)
        show_picture(next(spots), volume, axis, shared, index=index, **({} if mark is None else {"mask": mark}))
        if again is not None:
            show_picture(next(spots), again, axis, shared, index=index)
        _draw_values(next(spots), volume, heat, (0.0, top or 1.0), HEAT_COLORS, axis, index)
        if threshold is not None:
            lesion = np.zeros(volume.shape, bool) if mark is None else slices.fitting(mark, volume, "mask") > 0
            found = heat >= threshold
            verdict = np.select([lesion & found, lesion, found], [_HIT, _MISSED, _EXTRA], 0)
            picture = slices.slice_image(
                volume, axis=axis, index=index, window=shared, mask=verdict, alpha=0.6, scale=enlargement(volume, axis)
            )
            draw_picture(next(spots), volume, picture, axis, marks=False)
        _name_row(row[0], name)
    for panel, kind in zip(panels[0], kinds, strict=True):
        panel.set_title(kind, fontsize=10)
    value_bar(figure, list(panels.ravel()), HEAT_COLORS, 0.0, top or 1.0, "anomaly")
    if threshold is not None:
        color_legend(figure, _FOUND)
    figure.draw_without_rendering()
    return figure


def samples_over_time(
    samples: Mapping[int, ArrayLike],
    titles: Mapping[int, str] | None = None,
    *,
    columns: int = 10,
    rows: int = 7,
    window: tuple[float, float] | None = None,
    axis: str | int = "axial",
    title: str = "",
) -> Figure:
    """What a generator makes of the same latents as it learns: a row an epoch, a column a latent.

    Args:
        samples: (n, i, j[, k], c) by epoch, from the same n latents.
        titles: a line for an epoch, such as its KID; default: its number.
        columns: how many latents are shown, the first ones.
        rows: how many epochs are shown at most, evenly apart; the first and the last always are.
        window: (center, width) for all; None: from the last epoch's samples together.
        axis: how volumes are cut, in the middle.
        title: a line above all.

    Returns:
        The figure; all pictures share one window.

    Raises:
        ValueError: no epoch, no sample, or epochs with other numbers or shapes of samples.
    """
    if not samples:
        raise ValueError("Expected samples of at least one epoch. Received none.")
    if columns < 1 or rows < 1:
        raise ValueError(f"Expected at least one column and one row. Received {columns} and {rows}.")
    epochs = sorted(samples)
    shapes = {epoch: np.shape(samples[epoch]) for epoch in epochs}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"Expected samples of one shape in all epochs. Received {sorted(set(shapes.values()))}.")
    if len(epochs) > rows:
        places = np.linspace(len(epochs) - 1, 0, rows).round().astype(int)[::-1]
        epochs = [epochs[place] for place in places]
    if window is None:
        window = slices.auto_window(np.asarray(samples[epochs[-1]]).reshape(1, 1, -1))
    shown = {epoch: volumes_of(np.asarray(samples[epoch]))[:columns] for epoch in epochs}
    first = shown[epochs[0]]
    side = min(SIDE, 9.5 / len(first))
    tall = tallest(first, axis)
    figure = new_figure(side * len(first) + 1.0, len(epochs) * side * tall + 0.2 + 0.35 * bool(title))
    if title:
        figure.suptitle(title, fontsize=12)
    panels = figure.subplots(len(epochs), len(first), squeeze=False)
    for row, epoch in zip(panels, epochs, strict=True):
        for panel, volume in zip(row, shown[epoch], strict=True):
            show_picture(panel, volume, axis, window)
        _name_row(row[0], (titles or {}).get(epoch, f"epoch {epoch}"))
    figure.draw_without_rendering()
    return figure


def _name_row(panel: Axes, name: Any) -> None:
    if name:
        panel.set_ylabel(wrapped(name, 20), fontsize=9, rotation=0, ha="right", va="center")


def _gray(volume: Volume) -> np.ndarray:
    """The values of the spatial shape; channels are averaged."""
    array = volume.array.astype(np.float64)
    return array if array.ndim == volume.rank else array.mean(axis=-1)


def _largest(values: np.ndarray) -> float:
    """The 99.9th percentile of the absolute values that are finite; 0 where there is none."""
    finite = np.abs(values[np.isfinite(values)])
    return float(np.percentile(finite, 99.9)) if finite.size else 0.0


def _top(heats: list[np.ndarray]) -> float | None:
    """The 99.9th percentile of all maps together, else their maximum; None where all are 0."""
    values = np.concatenate([heat[np.isfinite(heat)] for heat in heats] or [np.zeros(0)])
    if not values.size:
        return None
    return float(np.percentile(values, 99.9)) or float(values.max()) or None


def _index(volume: Volume, axis: str | int, mask: Any, heat: np.ndarray | None) -> int | None:
    if volume.rank == 2:
        return None
    return slices.telling_index(volume, axis, mask=mask, heat=heat)


def _draw_values(
    panel: Axes, volume: Volume, values: np.ndarray, span: tuple[float, float], colors: np.ndarray, axis: str | int,
    index: int | None, mask: Any = None,
) -> None:  # fmt: skip
    """A slice of ``values``, of the volume's shape, in 256 colors from the first to the last of ``span``; NaN is 0."""
    numbers = volume.replace(array=np.nan_to_num(values), kind="image", modality=None)
    window = (sum(span) / 2, span[1] - span[0])
    look = {"axis": axis, "index": index, "window": window, "scale": enlargement(volume, axis)}
    gray = slices.slice_image(numbers, **look)
    picture = colors[gray[..., 0]]
    if mask is not None:
        outlined = slices.slice_image(numbers, mask=mask, alpha=0.0, **look)
        edge = (outlined != gray).any(axis=-1)
        picture[edge] = outlined[edge]
    draw_picture(panel, volume, picture, axis, marks=False)
