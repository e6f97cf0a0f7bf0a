"""Widgets: the viewer with sliders, below a static picture that stays when the widget cannot be shown.

In: a Volume with its mask and heat map. Out: what a Jupyter cell displays. Without Jupyter, or where MEDLAB_HEADLESS is
set, only the static picture.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from medlab.view import slices
from medlab.view.colors import heat_top
from medlab.volume import Volume

if TYPE_CHECKING:
    import ipywidgets
    from matplotlib.figure import Figure

_LARGEST = 900
_SMALLEST = 420


@dataclass(frozen=True)
class Viewer:
    """What was displayed.

    Attributes:
        figure: the static picture.
        widget: the live viewer, None where only the static picture was displayed.
    """

    figure: Figure = field(repr=False)
    widget: Any = None

    def _ipython_display_(self) -> None:
        """Nothing: a cell that ends with the call has shown it already."""


def show(
    volume: Volume | ArrayLike,
    *,
    mask: Volume | ArrayLike | None = None,
    heat: Volume | ArrayLike | None = None,
    window: tuple[float, float] | None = None,
    alpha: float | None = None,
    title: str = "",
) -> Viewer:
    """Displays a static picture and, in Jupyter, below it a viewer with sliders for slice, window and opacity.

    Args:
        volume: an image or a label map; a bare array is a picture (row, column[, 1, 3 or 4]) or a volume (i, j, k[, c])
            of unknown sides.
        mask: label map of the volume's shape.
        heat: heat map >= 0 of the volume's shape.
        window: (center, width) to begin with, in the image's unit; None: the 0.5th to the 99.5th percentile.
        alpha: opacity of mask or heat map to begin with, 0 to 1.
        title: a line above the static picture. Give no name of a patient.

    Returns:
        The figure and the widget; already displayed, so that a cell may end with the call.

    Raises:
        ValueError: as :func:`medlab.view.slice_image`.
    """
    from medlab.view import images

    volume = slices.as_volume(volume)
    if alpha is None:
        alpha = 0.25 if heat is None else 0.6
    figure = images.orthogonal(volume, mask, heat, window=window, alpha=alpha, title=title)
    publish(figure)
    if not live():
        return Viewer(figure)
    widget = _sliders(volume, mask, heat, window, alpha)
    _display(widget)
    return Viewer(figure, widget)


def live() -> bool:
    """Whether a widget can be shown: in a Jupyter kernel, and MEDLAB_HEADLESS is not set."""
    if os.environ.get("MEDLAB_HEADLESS", "0") not in ("", "0"):
        return False
    shell = _shell()
    return shell is not None and getattr(shell, "kernel", None) is not None


def publish(figure: Figure) -> None:
    """Displays a figure as one PNG, if there is an IPython shell to display it in."""
    from medlab.view import figures

    if _shell() is None:
        return
    from IPython.display import publish_display_data

    publish_display_data({"image/png": figures.png(figure), "text/plain": "<medlab picture>"})


def _display(widget: Any) -> None:
    from IPython.display import display

    display(widget)


def _answering(widget: Any, call: Callable[..., Any]) -> tuple[Any, Callable[..., None]]:
    """The widget with an area below it, and ``call`` such that what it prints, displays or raises appears there."""
    import ipywidgets as w

    area = w.Output()

    def answer(*values: Any) -> None:
        area.clear_output(wait=True)
        with area:
            call(*values)

    return w.VBox([widget, area]), answer


def _shell() -> Any:
    """The running IPython shell, without importing IPython where nobody has."""
    module = sys.modules.get("IPython")
    return module.get_ipython() if module is not None else None


def _sliders(
    volume: Volume,
    mask: Volume | ArrayLike | None,
    heat: Volume | ArrayLike | None,
    window: tuple[float, float] | None,
    alpha: float,
) -> ipywidgets.Widget:
    """The live viewer: controls beside a picture that is redrawn at each change."""
    import ipywidgets as w

    mask = None if mask is None else slices.fitting(mask, volume, "mask")
    heat = None if heat is None else slices.fitting(heat, volume, "heat map")
    top = None if heat is None else heat_top(heat)
    center, width = slices.auto_window(volume) if window is None else window
    low, high = _range(volume, center, width)
    step = 10.0 ** np.floor(np.log10((high - low) / 500))
    low = float(np.floor(low / step) * step)
    wide = w.Layout(width="330px")
    style = {"description_width": "90px"}
    common = {"layout": wide, "style": style}
    plane = w.Dropdown(options=[(name.capitalize(), name) for name in slices.PLANES], description="Plane", **common)
    index = w.IntSlider(min=0, max=0, description="Slice", **common)
    middle = w.FloatSlider(center, min=low, max=high, step=step, description="Center", readout_format=".4g", **common)
    span = w.FloatSlider(width, min=min(step, width), max=max(2 * (high - low), width), step=step, description="Width",
                         readout_format=".4g", **common)  # fmt: skip
    opacity = w.FloatSlider(alpha, min=0, max=1, step=0.05, description="Opacity", **common)
    picture, caption = w.Image(format="png"), w.HTML()
    letters = {side: w.HTML() for side in ("left", "right", "top", "bottom")}

    def draw(change: Any = None) -> None:
        at = min(index.value, index.max)
        look = {
            "window": (middle.value, span.value),
            "mask": mask,
            "heat": heat,
            "alpha": opacity.value,
            "heat_max": top,
        }
        picture.value = _png(volume, _factors(volume, plane.value), axis=plane.value, index=at, **look)
        caption.value = _caption(volume, plane.value, at)

    def turn(change: Any = None) -> None:
        """Another plane: its slices, size and sides."""
        count = slices.slice_count(volume, plane.value)
        index.unobserve(draw, "value")
        index.max = count - 1
        index.value = slices.telling_index(volume, plane.value, mask=mask, heat=heat)
        index.observe(draw, "value")
        height, across = _pixels(volume, plane.value)
        picture.layout = w.Layout(width=f"{across}px", height=f"{height}px", object_fit="fill", margin="0")
        known = slices.sides(volume, plane.value) or dict.fromkeys(letters, "")
        for side, html in letters.items():
            html.value = f"<b>{known[side]}</b>"
        draw()

    for control in (index, middle, span, opacity):
        control.observe(draw, "value")
    plane.observe(turn, "value")
    turn()
    controls = [plane, index] if volume.rank == 3 else []
    if volume.kind == "image":
        controls += [middle, span]
    if mask is not None or heat is not None:
        controls.append(opacity)
    row = w.HBox([letters["left"], picture, letters["right"]], layout=w.Layout(align_items="center"))
    shown = w.VBox([letters["top"], row, letters["bottom"]], layout=w.Layout(align_items="center"))
    return w.HBox([shown, w.VBox([*controls, caption], layout=w.Layout(padding="20px 0 0 16px"))])


def _range(volume: Volume, center: float, width: float) -> tuple[float, float]:
    """The smallest and the largest value that the window's center can take."""
    array = volume.array
    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (center, center)
    low, high = min(low, center - width / 2), max(high, center + width / 2)
    return low, high


def _pixels(volume: Volume, axis: str) -> tuple[int, int]:
    """Height and width of the picture on the screen, at its true aspect."""
    size = np.multiply(slices.picture_shape(volume, axis), slices.pixel_spacing(volume, axis))
    return tuple(np.maximum(np.rint(size * (_SMALLEST / size.max())), 24).astype(int).tolist())


def _factors(volume: Volume, axis: str) -> tuple[int, int]:
    """How often a pixel is repeated, and each how many-th is shown, so that a redraw takes a few milliseconds."""
    largest = max(slices.picture_shape(volume, axis))
    return max(1, round(_SMALLEST / largest)), max(1, -(-largest // _LARGEST))


def _png(volume: Volume, factors: tuple[int, int], **look: Any) -> bytes:
    from PIL import Image

    scale, stride = factors
    stream = io.BytesIO()
    picture = slices.slice_image(volume, scale=scale, **look)[::stride, ::stride]
    Image.fromarray(np.ascontiguousarray(picture)).save(stream, "png", compress_level=1)
    return stream.getvalue()


def _caption(volume: Volume, axis: str, index: int) -> str:
    lines = []
    if volume.rank == 3:
        spot = slices.position(volume, axis, index)
        lines.append(f"slice {index} (0 to {slices.slice_count(volume, axis) - 1})" + (f", {spot}" if spot else ""))
    if not volume.has_geometry:
        lines.append("sides unknown")
    elif (slices.sides(volume, axis) or {}).get("left") == "R":
        lines.append("the patient's right (R) is on the left")
    stride = _factors(volume, axis)[1]
    if stride > 1:
        lines.append(f"live picture: 1 of {stride} pixels each way")
    return "<br>".join(lines)
