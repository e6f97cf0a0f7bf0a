"""Points: a map of many cases as a figure, and what its live form needs: colors, markers and one sheet of thumbnails.

In: two coordinates a case, labels, images. Out: a matplotlib figure; bytes for the browser.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.view import slices
from medlab.view.colors import HEAT_COLORS, heat_colors, nan_note
from medlab.view.figures import LINES, Axes, Figure, new_figure, tidy, value_bar
from medlab.view.images import volumes_of

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
"""One marker a class, so that classes are told apart without color."""

_COLORS = (*LINES, "#7F7F7F")
_GRAY = "#A0A0A0"
_SHEET = 4096
"""Pixels a side of the largest sheet of thumbnails."""


@dataclass(frozen=True)
class Groups:
    """What color and marker each case has.

    Attributes:
        number: (n,) the class of each case, -1 where it has no label; all 0 where the labels are numbers.
        names: of the classes.
        colors: (n,) colors, as ``"#RRGGBB"``.
        texts: (n,) what each case's label says.
        span: the smallest and the largest number; None for classes.
    """

    number: NDArray[np.intp]
    names: tuple[str, ...]
    colors: tuple[str, ...]
    texts: tuple[str, ...]
    span: tuple[float, float] | None = None


def groups_of(labels: ArrayLike | None, classes: Sequence[str] | None, count: int) -> Groups:
    """Classes or numbers as colors.

    Args:
        labels: (n,) names or whole numbers of classes, at most 8 different; a negative number, None or NaN is no label.
            Or (n,) floats that are not all whole: a score, which has a color scale.
        classes: the names of the classes 0, 1, ...
        count: n.

    Raises:
        ValueError: labels of another number, more than 8 classes, or a class without a name.
    """
    if labels is None:
        return Groups(np.zeros(count, np.intp), (), (_COLORS[0],) * count, ("",) * count)
    values = np.asarray(labels)
    values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    if values.shape != (count,):
        raise ValueError(f"Expected one label for each of {count} points. Received labels of shape {values.shape}.")
    if values.dtype.kind == "f" and classes is None and (values[np.isfinite(values)] % 1).any():
        return _scores(values.astype(np.float64))
    known = [one for one in values.tolist() if not _missing(one)]
    if classes is None:
        kinds = sorted(set(known), key=lambda one: (isinstance(one, str), one))
        names = tuple(f"{one:g}" if isinstance(one, float) else str(one) for one in kinds)
    elif known and isinstance(known[0], str):
        kinds = names = tuple(map(str, classes))
    else:
        kinds, names = list(range(len(classes))), tuple(map(str, classes))
    if len(names) > len(MARKERS):
        raise ValueError(
            f"Expected at most {len(MARKERS)} classes, which can be told apart. Received {len(names)}; "
            "give a score as floats, or join classes."
        )
    strange = sorted({str(one) for one in known if one not in kinds})
    if strange:
        raise ValueError(f"Expected labels among the classes {', '.join(names)}. Received {', '.join(strange[:5])}.")
    number = np.array([-1 if _missing(one) else kinds.index(one) for one in values.tolist()], np.intp)
    colors = tuple(_GRAY if one < 0 else _COLORS[one] for one in number)
    return Groups(number, names, colors, tuple("no label" if one < 0 else names[one] for one in number))


def draw_points(
    points: NDArray[np.float64], groups: Groups, images: Any, names: Sequence[str] | None, chosen: Sequence[int],
    axes: tuple[str, str], window: tuple[float, float] | None, title: str,
) -> Figure:  # fmt: skip
    """The map, and beside it the images of a few cases that lie far apart, which carry their letters on the map."""
    figure = new_figure(10.2 if images is not None else 6.6, 4.6 + 0.3 * bool(title))
    left = figure
    if images is not None:
        left, right = figure.subfigures(1, 2, width_ratios=(6.2, 4.0))
    panel = left.subplots()
    _scatter(panel, points, groups)
    _say_if_alike(panel, points)
    panel.set_xlabel(axes[0])
    panel.set_ylabel(axes[1])
    tidy(panel)
    if groups.span is not None:
        value_bar(left, [panel], HEAT_COLORS, *groups.span, "score")
    elif groups.names:
        left.legend(loc="outside lower center", ncols=4, fontsize=9, frameon=False, markerscale=1.6)
    if images is not None and len(chosen):
        columns = min(4, len(chosen))
        cells = right.subplots(-(-len(chosen) // columns), columns, squeeze=False).ravel()
        for cell in cells:
            cell.set_axis_off()
        for place, (cell, case) in enumerate(zip(cells, chosen, strict=False)):
            letter = chr(ord("A") + place)
            cell.imshow(picture_of(images, case, window), interpolation="nearest")
            said = groups.texts[case] or (str(names[case]) if names is not None else f"case {case}")
            note = note_of(images, case)
            cell.set_title(f"{letter}: {said[:16]}" + (f"\n{note}" if note else ""), fontsize=8)
            panel.annotate(
                letter, points[case], (8, 8), textcoords="offset points", fontsize=8, fontweight="bold", ha="center",
                va="center", arrowprops={"arrowstyle": "-", "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0},
                bbox={"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": "black", "linewidth": 0.8},
            )  # fmt: skip
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def far_apart(points: NDArray[np.float64], count: int) -> list[int]:
    """Up to ``count`` cases that lie far apart: each the farthest from all before it; the first is the most central."""
    finite = np.flatnonzero(np.isfinite(points).all(axis=1))
    if not finite.size or count < 1:
        return []
    known = points[finite]
    spread = np.ptp(known, axis=0)
    scaled = (known - known.mean(axis=0)) / np.where(spread > 0, spread, 1)
    chosen = [int((scaled**2).sum(axis=1).argmin())]
    nearest = ((scaled - scaled[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < count and nearest.max() > 0:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, ((scaled - scaled[chosen[-1]]) ** 2).sum(axis=1))
    return finite[chosen].tolist()


def picture_of(images: Any, case: int, window: tuple[float, float] | None) -> NDArray[np.uint8]:
    """One case as an RGB picture; a volume shows its middle axial slice."""
    (volume,) = volumes_of(images[case : case + 1])
    return slices.slice_image(volume, window=window)


def note_of(images: Any, case: int) -> str:
    """What is to be said of one case's picture: how much of it has no value; "" where all has one."""
    (volume,) = volumes_of(images[case : case + 1])
    return nan_note(volume.array)


def sheet_of(images: Any, window: tuple[float, float] | None) -> tuple[bytes, int, int]:
    """All cases as thumbnails on one PNG, row by row.

    Returns:
        The PNG, the thumbnails' side in pixels (at most 96; smaller where there are many, so that the sheet has at
        most 4096 x 4096 pixels), and how many stand in a row.
    """
    from PIL import Image

    count = len(images)
    columns = int(np.ceil(np.sqrt(count)))
    side = min(96, max(picture_of(images, 0, window).shape[:2]), _SHEET // columns)
    sheet = Image.new("RGB", (columns * side, -(-count // columns) * side))
    for case in range(count):
        picture = Image.fromarray(picture_of(images, case, window))
        scale = side / max(picture.size)
        if scale != 1:
            size = tuple(max(1, round(scale * length)) for length in picture.size)
            picture = picture.resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST)
        row, column = divmod(case, columns)
        sheet.paste(picture, (column * side + (side - picture.width) // 2, row * side + (side - picture.height) // 2))
    stream = io.BytesIO()
    sheet.convert("L" if _is_gray(sheet) else "RGB").save(stream, "png")
    return stream.getvalue(), side, columns


def _is_gray(sheet: Any) -> bool:
    red, green, blue = np.moveaxis(np.asarray(sheet), -1, 0)
    return bool((red == green).all() and (green == blue).all())


def _scatter(panel: Axes, points: NDArray[np.float64], groups: Groups) -> None:
    size = float(np.clip(24000 / len(points), 8, 34))
    common = {"s": size, "linewidths": 0.25, "edgecolors": "white"}
    if groups.span is not None or not groups.names:
        panel.scatter(*points.T, c=list(groups.colors), **common)
        return
    for number, name in [(-1, "no label"), *enumerate(groups.names)]:
        own = groups.number == number
        if own.any() or number >= 0:
            panel.scatter(
                *points[own].T, color=_GRAY if number < 0 else _COLORS[number], label=f"{name} ({own.sum()})",
                marker="." if number < 0 else MARKERS[number], **common,
            )  # fmt: skip


def _say_if_alike(panel: Axes, points: NDArray[np.float64]) -> None:
    """Of several cases that all lie at one point, only one is seen: a line says how many there are."""
    known = points[np.isfinite(points).all(axis=1)]
    if len(known) > 1 and not np.ptp(known, axis=0).any():
        panel.annotate(
            f"all {len(known)} cases lie at this point", known[0], (0, -14), textcoords="offset points", fontsize=9,
            ha="center", va="top",
        )  # fmt: skip


def _scores(values: NDArray[np.float64]) -> Groups:
    finite = values[np.isfinite(values)]
    low, high = float(finite.min()), float(finite.max())
    rgb = heat_colors(np.nan_to_num((values - low) / ((high - low) or 1.0)))
    colors = tuple(
        "#{:02X}{:02X}{:02X}".format(*color) if np.isfinite(value) else _GRAY
        for color, value in zip(rgb, values, strict=True)
    )
    texts = tuple(f"{value:.4g}" if np.isfinite(value) else "no score" for value in values)
    return Groups(np.where(np.isfinite(values), 0, -1), (), colors, texts, (low, high if high > low else low + 1))


def _missing(label: Any) -> bool:
    return label is None or (not isinstance(label, str) and (label != label or label < 0))
