"""Labeling: a reader looks at cases one by one and gives each a class with a button.

In: images, the numbers of the cases to label, names of the classes. Out: what a Jupyter cell displays, and the labels
as an array. Without Jupyter, or where MEDLAB_HEADLESS is set, only a static picture; code can then give the labels.
"""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.view import slices
from medlab.view.colors import nan_note
from medlab.view.widgets import live, publish
from medlab.volume import Volume

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIDE = 420
"""Pixels of the longer side of the picture on the screen."""


class Labeling:
    """The reader's answers, at any time.

    Attributes:
        cases: (m,) numbers of the cases, in the order in which they are shown.
        classes: names of the classes.
        figure: the static picture of all cases.
        widget: what is shown in Jupyter, else None.
    """

    def __init__(
        self,
        volumes: Sequence[Volume],
        cases: NDArray[np.intp],
        classes: tuple[str, ...],
        on_done: Callable[[Labeling], Any] | None,
    ) -> None:
        self.cases, self.classes = cases, classes
        self.figure: Figure | None = None
        self.widget: Any = None
        self._volumes, self._on_done = volumes, on_done
        self._choices: list[int] = []
        self._draw: Callable[[], None] = lambda: None

    def _ipython_display_(self) -> None:
        """Nothing: a cell that ends with the call has shown it already."""

    def __repr__(self) -> str:
        return f"<Labeling: {len(self.indices)} of {len(self.cases)} cases labeled>"

    @property
    def labels(self) -> NDArray[np.int64]:
        """(m,) class index of each of ``cases``; -1 where there is none yet, or where the reader was unsure."""
        found = np.full(len(self.cases), -1, np.int64)
        found[: len(self._choices)] = self._choices
        return found

    @property
    def indices(self) -> NDArray[np.intp]:
        """The cases that have a label."""
        return self.cases[self.labels >= 0]

    @property
    def done(self) -> bool:
        """Whether every case was labeled or left out."""
        return len(self._choices) == len(self.cases)

    def give(self, label: int) -> None:
        """Gives the case that is shown a class, or -1 where the reader is unsure, and goes on to the next.

        Raises:
            ValueError: all cases are done, or there is no such class.
        """
        if self.done:
            raise ValueError(f"All {len(self.cases)} cases are done; undo() goes back to the last.")
        if isinstance(label, bool) or not hasattr(label, "__index__") or not -1 <= label < len(self.classes):
            raise ValueError(
                f"Expected a class from 0 to {len(self.classes) - 1}, or -1 for unsure. Received {label!r}."
            )
        self._choices.append(int(label))
        self._draw()
        if self.done and self._on_done is not None:
            self._on_done(self)

    def undo(self) -> None:
        """Takes the last answer back and shows its case again; without an answer nothing happens."""
        if self._choices:
            self._choices.pop()
            self._draw()

    def answer(self, truth: ArrayLike) -> NDArray[np.int64]:
        """Gives all cases that are left their true class, as a reader without fault would; for trials and tests.

        Args:
            truth: (n,) class of every case, of which ``cases`` are the numbers.

        Returns:
            ``labels``.

        Raises:
            ValueError: ``truth`` does not reach the cases or has another class.
        """
        given = np.asarray(truth)
        if given.ndim != 1 or given.dtype.kind not in "biu" or len(given) <= self.cases.max():
            raise ValueError(
                f"Expected the class of every case (n,), as whole numbers, for cases up to {self.cases.max()}. "
                f"Received shape {given.shape}, {given.dtype}."
            )
        for case in self.cases[len(self._choices) :]:
            self.give(int(given[case]))
        return self.labels


def label_cases(
    images: ArrayLike | Sequence[Volume | ArrayLike],
    cases: ArrayLike,
    classes: Sequence[str],
    *,
    window: tuple[float, float] | None = None,
    axis: str | int = "axial",
    on_done: Callable[[Labeling], Any] | None = None,
    title: str = "",
) -> Labeling:
    """Displays the cases and, in Jupyter, below them one case at a time with a button for each class.

    Beside the buttons there are Unsure, which leaves the case without a label, Undo, the window, and for volumes the
    slice. Nothing is shown that could lead the reader: no score, no prediction.

    Args:
        images: (n, i, j[, k], c), or n Volumes or arrays: all images, of which ``cases`` are asked for. NaN is magenta,
            and said beside the case.
        cases: (m,) numbers of the cases, such as ``label.next_cases(...).indices``.
        classes: their names, in the order of the class indices; two or more, all different.
        window: (center, width) in the images' unit. None: each image's own.
        axis: of the slices of volumes.
        on_done: called with the Labeling when the last case has its answer.
        title: a line above the static picture. Give no name of a patient.

    Returns:
        A :class:`Labeling`, whose ``indices`` and ``labels`` are the answers so far.

    Raises:
        ValueError: no case, one twice or one that is not there, fewer than two classes, or two of the same name.
    """
    listed = isinstance(classes, Iterable) and not isinstance(classes, str)
    names = tuple(str(one) for one in classes) if listed else (str(classes),)
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(f"Expected the names of two classes or more, all different. Received {classes!r}.")
    if hasattr(cases, "indices"):
        kind = type(cases).__name__
        raise ValueError(f"Expected the numbers of cases (m,). Received a {kind}; give its numbers, .indices.")
    numbers = np.asarray(cases)
    if numbers.ndim != 1 or not len(numbers) or numbers.dtype.kind not in "iu":
        raise ValueError(
            f"Expected the numbers of cases (m,), at least one. Received shape {numbers.shape}, {numbers.dtype}."
        )
    if len(np.unique(numbers)) < len(numbers) or numbers.min() < 0 or numbers.max() >= len(images):
        raise ValueError(f"Expected different cases from 0 to {len(images) - 1}. Received {numbers.tolist()}.")
    from medlab.view import images as pictures

    some = images[numbers] if isinstance(images, np.ndarray) else [images[one] for one in numbers]
    volumes = pictures.volumes_of(some)
    shown = Labeling(volumes, numbers.astype(np.intp), names, on_done)
    heading = title or f"{len(numbers)} cases to label: {', '.join(names[:-1])} or {names[-1]}?"
    shown.figure = pictures.montage(
        volumes, [_name(*one) for one in zip(numbers, volumes, strict=True)], columns=min(5, len(numbers)),
        window=window, axis=axis, title=heading,
    )  # fmt: skip
    publish(shown.figure)
    if live():
        shown.widget = _buttons(shown, window, axis)
        from IPython.display import display

        display(shown.widget)
    return shown


def _buttons(shown: Labeling, window: tuple[float, float] | None, axis: str | int) -> Any:
    """The live part: a picture, its window and slice, and a row of buttons."""
    import ipywidgets as w

    wide, style = w.Layout(width="330px"), {"description_width": "70px"}
    low, high = _range(shown._volumes)
    span = high - low
    bounds = {"step": span / 500, "readout_format": ".4g", "layout": wide, "style": style}
    # The sliders reach every window that is shown first: a slider would move a window beyond its ends to them.
    first = [slices.auto_window(one) for one in shown._volumes] if window is None else [window]
    centers, widths = (np.array([one[place] for one in first], np.float64) for place in (0, 1))
    center = w.FloatSlider(
        low + span / 2, min=min(low - span / 2, centers.min()), max=max(high + span / 2, centers.max()),
        description="Center", **bounds,
    )  # fmt: skip
    width = w.FloatSlider(
        span, min=min(span / 500, widths.min()), max=max(2 * span, widths.max()), description="Width", **bounds
    )
    index = w.IntSlider(min=0, max=0, description="Slice", layout=wide, style=style)
    picture = w.Image(format="png")
    where, progress = w.HTML(), w.IntProgress(min=0, max=len(shown.cases), layout=wide)
    wishes = [w.Button(description=name, tooltip=name, button_style="primary") for name in shown.classes]
    unsure = w.Button(description="Unsure", tooltip="Leaves this case without a label")
    undo = w.Button(description="Undo", icon="undo", tooltip="Takes the last answer back")
    state = {"own window": window is not None, "drawing": False}
    if window is not None:
        center.value, width.value = window

    def paint(change: Any = None) -> None:
        if state["drawing"]:
            return
        at = min(len(shown._choices), len(shown.cases) - 1)
        picture.value = _png(shown._volumes[at], axis, index.value, (center.value, width.value))

    def touch(change: Any) -> None:
        """The reader moved the window: it stays for the cases to come."""
        if not state["drawing"]:
            state["own window"] = True
            paint()

    def draw() -> None:
        """Another case."""
        at = min(len(shown._choices), len(shown.cases) - 1)
        volume = shown._volumes[at]
        state["drawing"] = True
        if not state["own window"]:
            center.value, width.value = slices.auto_window(volume)
        count = slices.slice_count(volume, axis)
        index.max, index.value = count - 1, count // 2
        index.layout.display = None if count > 1 else "none"
        rows, columns = np.multiply(slices.picture_shape(volume, axis), slices.pixel_spacing(volume, axis))
        scale = _SIDE / max(rows, columns)
        picture.layout = w.Layout(
            width=f"{max(24, round(columns * scale))}px", height=f"{max(24, round(rows * scale))}px", object_fit="fill"
        )
        state["drawing"] = False
        paint()
        progress.value = len(shown._choices)
        if shown.done:
            unanswered = int((shown.labels < 0).sum())
            where.value = f"<b>Done:</b> {len(shown.indices)} labeled, {unanswered} left without a label"
        else:
            heading = _name(shown.cases[at], volume).replace("case", "Case")
            where.value = f"<b>{heading}</b>, {at + 1} of {len(shown.cases)}"
            if shown._choices:
                last = shown._choices[-1]
                name = "unsure" if last < 0 else html.escape(shown.classes[last])
                where.value += f" (the one before: {name})"
        for button in (*wishes, unsure):
            button.disabled = shown.done
        undo.disabled = not shown._choices

    index.observe(paint, "value")
    for control in (center, width):
        control.observe(touch, "value")
    for number, button in enumerate(wishes):
        button.on_click(lambda _, number=number: shown.give(number))
    unsure.on_click(lambda _: shown.give(-1))
    undo.on_click(lambda _: shown.undo())
    shown._draw = draw
    draw()
    answers = w.HBox([*wishes, unsure, undo], layout=w.Layout(flex_flow="row wrap"))
    box = w.VBox([w.HBox([picture, w.VBox([where, progress, index, center, width])]), answers])
    box.add_class("medlab-labeling")
    return box


def _name(case: int, volume: Volume) -> str:
    """The number of a case, and how much of its image has no value and is magenta."""
    note = nan_note(volume.array)
    return f"case {case} ({note})" if note else f"case {case}"


def _range(volumes: Sequence[Volume]) -> tuple[float, float]:
    """The lowest and the highest value in any image; one apart where all are alike."""
    finite = [np.asarray(one.array)[np.isfinite(one.array)] for one in volumes]
    known = [one for one in finite if one.size]
    low = min((float(one.min()) for one in known), default=0.0)
    high = max((float(one.max()) for one in known), default=1.0)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _png(volume: Volume, axis: str | int, index: int, window: tuple[float, float]) -> bytes:
    from PIL import Image

    scale = max(1, round(_SIDE / max(slices.picture_shape(volume, axis))))
    where = {"index": index} if volume.rank == 3 else {}
    stream = io.BytesIO()
    picture = slices.slice_image(volume, axis=axis, window=window, scale=scale, **where)
    Image.fromarray(np.ascontiguousarray(picture)).save(stream, "png", compress_level=1)
    return stream.getvalue()
