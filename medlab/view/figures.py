"""Figures: what all pictures and curves are drawn on, and the only place that knows matplotlib.

In: RGB pictures, values. Out: matplotlib figures that Jupyter shows once and that nothing else keeps alive: they are
made without pyplot. ``medlab.view.images`` and ``medlab.view.curves`` draw with what is here.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib.patheffects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import ArrayLike

from medlab.view import slices
from medlab.view.colors import HEAT_COLORS, LABEL_COLORS, label_colors, whole
from medlab.volume import Volume

# Okabe and Ito's darker colors first: lines on white.
LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")
_HALO = [matplotlib.patheffects.withStroke(linewidth=2, foreground="black")]
_LETTERS = {"left": (0.02, 0.5, "left", "center"), "right": (0.98, 0.5, "right", "center"),
            "top": (0.5, 0.98, "center", "top"), "bottom": (0.5, 0.02, "center", "bottom")}  # fmt: skip
# Beside a picture that is too small for them: ends of the picture's sides, and points away from it.
_LETTERS_OUTSIDE = {"left": (0, 0.5, -4, 0, "right", "center"), "right": (1, 0.5, 4, 0, "left", "center"),
                    "top": (0.5, 1, 0, 3, "center", "bottom"), "bottom": (0.5, 0, 0, -3, "center", "top")}  # fmt: skip
# Inches: the narrowest cell a title has room in, the longer side of the smallest picture, a letter with its margin.
_CELL, _SMALLEST, _LETTER = 1.8, 1.2, 0.22
_UNITS = {"CT": "HU"}


class _Figure(Figure):
    """A figure that Jupyter shows as a picture even where pyplot was never imported."""

    def _repr_png_(self) -> bytes:
        return png(self)


def new_figure(width: float, height: float) -> Figure:
    """An empty white figure of that many inches, laid out so that no label is cut off."""
    return _Figure(figsize=(width, height), layout="constrained", facecolor="white")


def png(figure: Figure, dpi: int = 100) -> bytes:
    """The figure as the bytes of a PNG file."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi, facecolor="white")
    return stream.getvalue()


def line_style(number: int) -> dict[str, str]:
    """Color and dashes of the ``number``-th line; no two of the first 28 are alike."""
    return {"color": LINES[number % len(LINES)], "linestyle": STYLES[number // len(LINES) % len(STYLES)]}


def tidy(panel: Axes) -> None:
    """Takes the frame's upper and right line away."""
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=9)


def metric_label(metric: str) -> str:
    """A metric's name as an axis has it."""
    names = {"dice": "Dice", "iou": "IoU", "hd": "HD", "hd95": "HD95"}
    upper = metric in ("auc", "ece", "mcc", "ppv", "npv", "nsd", "assd")
    return metric.upper() if upper else names.get(metric, metric.replace("_", " "))


def curve(
    x_values: ArrayLike, y_values: ArrayLike, *, x: str, y: str, log_x: bool = False, mark: float | None = None,
    title: str = "",
) -> Figure:  # fmt: skip
    """One line.

    Args:
        x_values: (n,) positions.
        y_values: (n,) heights; NaN leaves a gap.
        x: what the horizontal axis is, with its unit.
        y: what the vertical axis is, with its unit.
        log_x: a logarithmic horizontal axis.
        mark: a position to point out.
        title: a line above.

    Returns:
        The figure.
    """
    figure = new_figure(6.0, 3.6)
    panel = figure.add_subplot()
    panel.plot(np.asarray(x_values), np.asarray(y_values), color=LINES[0])
    if log_x:
        panel.set_xscale("log")
    if mark is not None:
        panel.axvline(mark, color=LINES[1], linestyle="--", linewidth=1.5, label=f"{mark:.3g}")
        panel.legend(fontsize=9, frameon=False)
    panel.set_xlabel(x)
    panel.set_ylabel(y)
    panel.set_title(title, fontsize=11)
    tidy(panel)
    return figure


def extent(volume: Volume, axis: str | int) -> tuple[float, float]:
    """Height and width of a slice's picture in mm."""
    return tuple(np.multiply(slices.picture_shape(volume, axis), slices.pixel_spacing(volume, axis)).tolist())


def picture_row(
    widths: list[float], heights: list[float], lines: int, *, beside: float, title: bool
) -> tuple[Figure, list[Axes]]:
    """A figure with panels side by side at one scale, their tops at one height.

    Placed in inches and not by a layout engine, which aligns pictures of unlike heights badly. Each picture stands in
    the middle of a cell that has room for its title and its letters; one that would be tiny gets a scale of its own.

    Args:
        widths: of the pictures, mm.
        heights: of the pictures, mm.
        lines: lines of text above each picture.
        beside: inches left free on the right.
        title: whether there is a line above all.

    Returns:
        The figure and its panels.
    """
    gap, side, top, bottom = 0.12, 0.08, 0.1 + 0.17 * lines + 0.3 * title, 0.6
    room = 10.5 if len(widths) > 1 else 6.0
    scale = min(room / sum(widths), 4.6 / max(heights))
    cells = _cells(widths, heights, scale)
    while sum(cell for *_, cell, _ in cells) > room + 1e-6:
        scale *= 0.99
        cells = _cells(widths, heights, scale)
    across = (len(widths) - 1) * gap + sum(cell for *_, cell, _ in cells)
    high = max(1.8 if beside else 0.0, *(tall + 2 * down for _, tall, _, down in cells))
    width, height = max(across + 2 * side + beside, 5.2), high + top + bottom
    figure = _Figure(figsize=(width, height), facecolor="white")
    left, panels = max(side, (width - beside - across) / 2), []
    for wide, tall, cell, down in cells:
        x, y = left + (cell - wide) / 2, height - top - down - tall
        panels.append(figure.add_axes((x / width, y / height, wide / width, tall / height)))
        left += cell + gap
    return figure, panels


def _cells(widths: list[float], heights: list[float], scale: float) -> list[tuple[float, float, float, float]]:
    """Inches of each picture: its width and height, its cell's width, and how far below the title it begins."""
    cells = []
    for width, height in zip(widths, heights, strict=True):
        own = max(scale, _SMALLEST / max(width, height))
        wide, tall = width * own, height * own
        beside, above = _outside(wide, tall)
        cells.append((wide, tall, max(wide + 2 * _LETTER * beside, _CELL), _LETTER * above))
    return cells


def _outside(wide: float, tall: float) -> tuple[bool, bool]:
    """Whether a picture of that many inches has its left and right, and its upper and lower letter outside."""
    return wide < 0.5 or tall < 0.2, tall < 0.5 or wide < 0.2


def _inches(panel: Axes) -> tuple[float, float]:
    box, (width, height) = panel.get_position(), panel.figure.get_size_inches()
    return box.width * width, box.height * height


def enlargement(volume: Volume, axis: str | int) -> int:
    """How often a pixel is repeated, so that outlines on small images are thin."""
    return max(1, round(400 / max(slices.picture_shape(volume, axis))))


def draw_picture(
    panel: Axes, volume: Volume, picture: np.ndarray, axis: str | int = "axial", title: str = "", *,
    marks: bool = True, size: int = 10,
) -> None:  # fmt: skip
    """One picture at its true aspect, with the sides and a scale bar where they are known."""
    height, width = extent(volume, axis)
    panel.imshow(picture, extent=(0, width, height, 0), interpolation="antialiased", aspect="equal")
    panel.set_xticks([])
    panel.set_yticks([])
    panel.spines[:].set_visible(False)
    panel.set_anchor("N")
    if not marks:
        panel.set_title(title, fontsize=size)
        return
    wide, tall = _inches(panel)
    beside, above = _outside(wide, tall)
    panel.set_title(title, fontsize=size, pad=6 + 72 * _LETTER * above)
    if beside or above:  # a bright picture that is hardly wider than a line is lost on white
        panel.spines[:].set(visible=True, color="gray", linewidth=0.5)
    letters = slices.sides(volume, axis)
    if letters is None:
        return
    for side, letter in letters.items():
        _letter(panel, side, letter, outside=beside if side in ("left", "right") else above)
    length = max((nice for nice in (0.5, 1, 2, 5, 10, 20, 50, 100, 200) if nice <= 0.3 * width), default=None)
    if length is not None and wide >= 1 and tall >= 0.6:
        x, y = 0.97 * width, 0.94 * height
        panel.plot([x - length, x], [y, y], color="white", linewidth=2.5, solid_capstyle="butt", path_effects=[
            matplotlib.patheffects.withStroke(linewidth=4.5, foreground="black")])  # fmt: skip
        middle = min(x - length / 2, width * (1 - 0.25 / wide))  # the text stays within the picture
        panel.text(middle, y - 0.015 * height, f"{length:g} mm", ha="center", va="bottom", color="white",
                   fontsize=8, path_effects=_HALO)  # fmt: skip


def _letter(panel: Axes, side: str, letter: str, *, outside: bool) -> None:
    font = {"fontsize": 10, "fontweight": "bold", "fontfamily": "DejaVu Sans Mono"}
    if outside:
        x, y, right, up, across, along = _LETTERS_OUTSIDE[side]
        panel.annotate(letter, (x, y), (right, up), xycoords="axes fraction", textcoords="offset points", ha=across,
                       va=along, color="black", **font)  # fmt: skip
        return
    x, y, across, along = _LETTERS[side]
    panel.text(x, y, letter, transform=panel.transAxes, ha=across, va=along, color="white", path_effects=_HALO, **font)


def shown_labels(volume: Volume, mask: Any) -> np.ndarray:
    """The first labels of a mask, as many as there are colors; empty without a mask."""
    if mask is None:
        return np.zeros(0, np.int64)
    present = np.unique(whole(slices.fitting(mask, volume, "mask")))
    return present[present != 0][: len(LABEL_COLORS)]


def finish(
    figure: Figure, axes: list[Axes], volume: Volume, look: dict[str, Any], title: str, note: str,
    classes: Sequence[str] | None = None,
) -> Figure:  # fmt: skip
    """Color bar, legend of the labels, title, and the line that says window, spacing and convention."""
    width, height = figure.get_size_inches()
    if look["heat"] is not None:
        boxes = [panel.get_position() for panel in axes]
        top, low = max(box.y1 for box in boxes), min(box.y0 for box in boxes)
        right = max(panel.get_tightbbox().x1 for panel in axes) / figure.bbox.width
        tall = min(max(top - low, 1.7 / height), 2.6 / height)
        bar = figure.add_axes((right + 0.15 / width, min(low, top - tall), 0.15 / width, tall))
        _label_bar(figure.colorbar(_heat_scale(), cax=bar))
    lines = []
    if volume.kind == "image":
        center, span = look["window"]
        unit = _UNITS.get(volume.modality or "", "")
        lines.append(f"window: center {center:.4g}, width {span:.4g}" + (f" {unit}" if unit else ""))
    if volume.has_geometry:
        lines.append("spacing " + " x ".join(f"{step:.3g}" for step in volume.spacing) + " mm")
        known = slices.sides(volume) if volume.rank == 2 else {"left": "R"}
        if known["left"] == "R":
            lines.append("the patient's right (R) is on the left")
    else:
        lines.append("sides unknown, no millimeters: the image does not say where it lies")
    scales = [_inches(panel)[0] / np.ptp(panel.get_xlim()) for panel in axes]
    if max(scales) > 1.01 * min(scales):
        lines.append("the pictures are not at one scale")
    at_most = int(width * 14)
    text = "\n".join(textwrap.fill(line, at_most) for line in ("; ".join(lines), note) if line)
    figure.text(0.5, 0.06 / height, text, fontsize=9, ha="center", va="bottom")
    labels = shown_labels(volume, look["mask"])
    if len(labels) > (1 if classes is None else 0):
        patches = [
            Patch(color=color / 255, label=class_name(classes, int(label)))
            for label, color in zip(labels, label_colors(labels), strict=True)
        ]
        figure.legend(handles=patches, loc="upper right", fontsize=8, frameon=False, borderaxespad=0.1)
    if title:
        figure.text(0.5, 1 - 0.08 / height, title, fontsize=12, ha="center", va="top")
    return figure


def color_bar(figure: Figure, axes: list[Axes]) -> None:
    """The colors of a heat map, beside the panels that show it."""
    _label_bar(figure.colorbar(_heat_scale(), ax=axes, fraction=0.05, pad=0.02, aspect=25, shrink=0.9))


def value_bar(figure: Figure, axes: list[Axes], colors: np.ndarray, low: float, high: float, label: str) -> None:
    """Colors (256, 3) that stand for values from ``low`` to ``high``, beside the panels that show them."""
    scale = ScalarMappable(Normalize(low, high), ListedColormap(colors / 255, "values"))
    bar = figure.colorbar(scale, ax=axes, fraction=0.05, pad=0.02, aspect=25, shrink=0.9)
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8)


def class_name(classes: Sequence[str] | None, label: int) -> str:
    """The name of a label above 0."""
    names = [str(name) for name in classes or ()]
    if names and names[0].lower() == "background":
        names = names[1:]
    return names[label - 1] if 0 < label <= len(names) else f"label {label}"


def color_legend(figure: Figure, names: dict[int, str]) -> None:
    """The colors of labels and what they stand for, in a line below all panels."""
    colors = label_colors(np.array(list(names), np.int64)) / 255
    patches = [Patch(color=color, label=name) for color, name in zip(colors, names.values(), strict=True)]
    figure.legend(handles=patches, loc="outside lower center", ncols=min(len(patches), 7), fontsize=9, frameon=False)


def _heat_scale() -> ScalarMappable:
    return ScalarMappable(Normalize(0, 1), ListedColormap(HEAT_COLORS / 255, "heat"))


def _label_bar(bar: Any) -> None:
    bar.set_label("heat, share of its maximum", fontsize=9)
    bar.ax.tick_params(labelsize=8)
