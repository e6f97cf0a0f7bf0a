"""Latent map: a data set as points in a plane, which one can hover and click to see the images; works offline.

In: two coordinates a case, labels, images. Out: a static picture first and, in Jupyter, a live map below it. It
computes no coordinates: :func:`medlab.evaluate.project` does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from medlab.view import points as drawing
from medlab.view import widgets

if TYPE_CHECKING:
    from medlab.view.figures import Figure


@dataclass(frozen=True)
class LatentMap:
    """What was displayed.

    Attributes:
        figure: the static picture.
        widget: the live map, None where only the static picture was displayed.
        shown: the cases whose images stand beside the static picture, A, B, ... in this order.
    """

    figure: Figure = field(repr=False)
    widget: Any = None
    shown: tuple[int, ...] = ()

    @property
    def selected(self) -> list[int]:
        """The cases that were clicked and kept, in the order of the clicks; none without the live map."""
        return [] if self.widget is None else list(self.widget.selected)

    def _ipython_display_(self) -> None:
        """Nothing: a cell that ends with the call has shown it already."""


def latent_map(
    points: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    classes: Sequence[str] | None = None,
    images: ArrayLike | Sequence[Any] | None = None,
    names: Sequence[str] | None = None,
    on_click: Callable[[int], Any] | None = None,
    axes: tuple[str, str] = ("first coordinate", "second coordinate"),
    window: tuple[float, float] | None = None,
    title: str = "",
) -> LatentMap:
    """Displays cases as points and, in Jupyter, below it a live map: hover shows a case's image, a click keeps it.

    The live map is moved by dragging and enlarged by the wheel; arrow keys go from point to point, Enter keeps one.

    Args:
        points: (n, 2) coordinates, such as :func:`medlab.evaluate.project` gives or a 2-D latent; a case with a NaN is
            left out of the picture.
        labels: (n,) classes (names or whole numbers, at most 8; None, NaN or a negative number is no label), each with
            its own color and marker; or (n,) floats, a score with a color scale.
        classes: the names of the classes 0, 1, ...
        images: (n, i, j[, k], c), or n Volumes or arrays: what hovering shows, volumes at their middle axial slice. NaN
            is magenta, and said beside the case.
        names: (n,) what each case is called; default: its number.
        on_click: called with the number of a case when a click keeps it; what it prints or displays appears below.
        axes: what the two coordinates are.
        window: (center, width) of the images; None: each its own.
        title: a line above the static picture. Give no name of a patient.

    Returns:
        The figure, the widget and ``selected``; already displayed, so that a cell may end with the call.

    Raises:
        ValueError: no point, points that are not (n, 2), or labels, images or names of another number.
    """
    try:
        places = np.asarray(points, np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"Expected points (n, 2) as numbers. Received {type(points).__name__} with text, or with rows of unlike "
            "lengths."
        ) from None
    if places.ndim != 2 or places.shape[1] != 2 or not len(places):
        raise ValueError(
            f"Expected points (n, 2), at least one. Received shape {places.shape}; "
            "medlab.evaluate.project brings features to two coordinates."
        )
    count = len(places)
    if not np.isfinite(places).all(axis=1).any():
        raise ValueError("Expected at least one point whose coordinates are finite. Received none.")
    if isinstance(images, np.ndarray) and images.ndim not in (4, 5):
        raise ValueError(
            f"Expected images (n, i, j[, k], c), or a list of Volumes or arrays. Received shape {images.shape}"
            f"{'; images[..., None] adds the channel axis' if images.ndim == 3 else ''}."
        )
    for what, values in (("images", images), ("names", names)):
        if values is not None and len(values) != count:
            raise ValueError(f"Expected as many {what} as points, {count}. Received {len(values)}.")
    groups = drawing.groups_of(labels, classes, count)
    shown = drawing.far_apart(places, 12) if images is not None else []
    figure = drawing.draw_points(places, groups, images, names, shown, axes, window, title)
    widgets.publish(figure)
    if not widgets.live():
        return LatentMap(figure, None, tuple(shown))
    widget = shown_widget = _widget(places, groups, images, names, axes, window)
    if on_click is not None:
        shown_widget, answer = widgets._answering(widget, on_click)
        widget.on_msg(lambda _widget, content, _buffers: answer(int(content["clicked"])))
    widgets._display(shown_widget)
    return LatentMap(figure, widget, tuple(shown))


def _widget(
    places: np.ndarray, groups: drawing.Groups, images: Any, names: Any, axes: tuple[str, str], window: Any
) -> Any:
    """The live map with its data: coordinates as bytes, styles by point, and all thumbnails on one sheet."""
    sheet, side, columns = (b"", 0, 1) if images is None else drawing.sheet_of(images, window)
    styles = sorted(set(zip(groups.colors, groups.number.tolist(), strict=True)))
    place_of = {style: number for number, style in enumerate(styles)}
    of_point = [place_of[style] for style in zip(groups.colors, groups.number.tolist(), strict=True)]
    by_class = groups.span is None and bool(groups.names)
    called = [f"case {case}" for case in range(len(places))] if names is None else list(map(str, names))
    notes = [""] * len(places) if images is None else [drawing.note_of(images, case) for case in range(len(places))]
    return _class()(
        points=places.astype("<f4").tobytes(),
        styles=np.array(of_point, "<u2").tobytes(),
        colors=[color for color, _ in styles],
        markers=[drawing.MARKERS[number] if number >= 0 else "." for _, number in styles],
        legend=[_entry(number, groups, styles) for number in (-1, *range(len(groups.names)))] if by_class else [],
        texts=[
            ", ".join(part for part in (name, text, note) if part)
            for name, text, note in zip(called, groups.texts, notes, strict=True)
        ],
        sheet=sheet, side=side, columns=columns, axes=list(axes),
    )  # fmt: skip


def _entry(number: int, groups: drawing.Groups, styles: list[tuple[str, int]]) -> dict[str, Any]:
    """A line of the legend: a class, its style (-1 where no case has it) and how many cases it has."""
    style = next((place for place, (_, other) in enumerate(styles) if other == number), -1)
    name = "no label" if number < 0 else groups.names[number]
    return {"name": name, "style": style, "count": int((groups.number == number).sum())}


@functools.cache
def _class() -> type:
    """The widget's class; made when it is first needed, since its package loads slowly."""
    import anywidget
    import traitlets

    class LatentMapWidget(anywidget.AnyWidget):
        """Points on a canvas, an image beside them."""

        _esm = Path(__file__).with_name("latent.js").read_text(encoding="utf-8")
        _css = Path(__file__).with_name("latent.css").read_text(encoding="utf-8")
        points = traitlets.Bytes().tag(sync=True)
        styles = traitlets.Bytes().tag(sync=True)
        colors = traitlets.List().tag(sync=True)
        markers = traitlets.List().tag(sync=True)
        legend = traitlets.List().tag(sync=True)
        texts = traitlets.List().tag(sync=True)
        sheet = traitlets.Bytes().tag(sync=True)
        side = traitlets.Int().tag(sync=True)
        columns = traitlets.Int().tag(sync=True)
        axes = traitlets.List().tag(sync=True)
        selected = traitlets.List().tag(sync=True)

    return LatentMapWidget
