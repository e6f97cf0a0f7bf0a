"""Sampler: a generator explored by hand: sliders for what changes its images most, and the way between two of them.

In: anything with ``latents(count, seed=...)`` and ``images(latents, labels)``, such as :class:`medlab.models.GAN`. Out:
a static picture first and, in Jupyter, the widget below it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medlab.view import figures, generated, widgets

_PROBES = 256
_REACH = 3.0
"""Standard deviations that a slider goes to either side."""


@dataclass(frozen=True, eq=False)
class Sampler:
    """What a generator's latents do.

    Attributes:
        gan: what makes the images.
        start: (latent,) where the sliders stand at 0.
        directions: (count, latent) of length 1 and at right angles, what changes the images most first.
        changes: (count,) root mean square change of a pixel for a step of 1 along each, in units of the images, were
            the images linear in the latents.
        figure: the static picture: a row for each direction, a step of -3 to 3 from left to right, and a row from one
            image to another.
        widget: the sliders and the picture they move, or None outside Jupyter.
        label: class of the images, or None.
    """

    gan: Any
    start: NDArray[np.float32]
    directions: NDArray[np.float32]
    changes: NDArray[np.float64]
    figure: figures.Figure
    widget: Any = None
    label: int | None = None

    def at(self, steps: Any, label: int | None = None) -> NDArray[np.float32]:
        """The image (i, j[, k], c) that many steps along each direction away from ``start``.

        Args:
            steps: one for each direction, or for the first ones.
            label: class of the image; None: the sampler's own.

        Raises:
            ValueError: no list of finite numbers, more of them than directions, or an unknown label.
        """
        try:
            steps = np.asarray(steps, np.float32)
        except (TypeError, ValueError):
            raise ValueError(f"Expected steps as numbers, one a direction. Received {steps!r}.") from None
        if steps.ndim != 1 or len(steps) > len(self.directions) or not np.isfinite(steps).all():
            raise ValueError(
                f"Expected up to {len(self.directions)} finite steps, one a direction. Received {steps.tolist()!r}."
            )
        label = self.label if label is None else _known(self.gan, label)
        latent = self.start + steps @ self.directions[: len(steps)]
        return self.gan.images(latent[None], label)[0]


def between(one: NDArray[Any], other: NDArray[Any], count: int) -> NDArray[np.float32]:
    """``count`` latents on the arc from one to another, (count, latent).

    A straight line would lead through short latents, which a generator has not learned from: the length of normal
    latents is nearly constant. Spherical interpolation (Shoemake 1985, SIGGRAPH); parallel ones go straight.
    """
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    share = np.linspace(0, 1, count)[:, None]
    lengths = np.linalg.norm(one), np.linalg.norm(other)
    cosine = np.clip(one @ other / max(lengths[0] * lengths[1], 1e-12), -1, 1)
    angle = np.arccos(cosine)
    if np.sin(angle) < 1e-6:
        return ((1 - share) * one + share * other).astype(np.float32)
    arc = np.sin((1 - share) * angle) * one / lengths[0] + np.sin(share * angle) * other / lengths[1]
    return (arc / np.sin(angle) * ((1 - share) * lengths[0] + share * lengths[1])).astype(np.float32)


def explore_samples(
    gan: Any, *, directions: int = 4, label: int | None = None, seed: int = 0, display: bool = True
) -> Sampler:
    """Shows what the latents of a generator do, by sliders where there is Jupyter.

    The sliders go along the directions of the latents that change the images most, found by least squares from 256
    images: a single latent changes little.

    Args:
        gan: such as :class:`medlab.models.GAN`, or its :attr:`medlab.train.GanFit.gan`.
        directions: sliders, 1 to the number of latents.
        label: class of the images, where there are classes.
        seed: of the image that they start from.
        display: whether to show it; False only gives it back.

    Returns:
        The sampler with its picture, directions and widget.

    Raises:
        ValueError: more directions than latents, or a label that the generator does not know.
    """
    if not hasattr(gan, "latents") or not hasattr(gan, "images"):
        raise ValueError(f"Expected a GAN such as medlab.models.gan makes, or fit.gan. Received {gan!r}.")
    latents = gan.latents(_PROBES, seed=seed)
    if isinstance(directions, bool) or not hasattr(directions, "__index__") or not 1 <= directions <= latents.shape[1]:
        raise ValueError(f"Expected directions from 1 to {latents.shape[1]}, the latents. Received {directions!r}.")
    label = _known(gan, label)
    images = gan.images(latents, label)
    most = min(latents.shape[1], images[0].size)
    if directions > most:
        raise ValueError(f"Expected directions of at most {most}, for images of so few values. Received {directions}.")
    axes, changes = _directions(latents, images, directions)
    start = latents[0]
    row = np.linspace(-_REACH, _REACH, 7, dtype=np.float32)
    rows = [start + row[:, None] * axis for axis in axes] + [between(latents[1], latents[2], len(row))]
    shown = gan.images(np.concatenate(rows), label)
    names = [f"direction {number + 1}" for number in range(len(axes))] + ["one to another"]
    limits = getattr(gan, "value_range", None)
    figure = generated.sample_grid(
        shown, names, columns=len(row), value_range=limits,
        title="steps of -3 to 3 along what changes the images most; last row: from one image to another",
    )  # fmt: skip
    sampler = Sampler(gan, start, axes, changes, figure, label=label)
    if not display:
        return sampler
    widgets.publish(figure)
    if not widgets.live():
        return sampler
    widget = _widget(sampler, label, limits)
    widgets._display(widget)
    return Sampler(gan, start, axes, changes, figure, widget, label)


def _known(gan: Any, label: int | None) -> int | None:
    """The class of the images: without a wish the first, None where there are no classes."""
    classes = getattr(gan, "classes", 0)
    if not classes:
        return label  # the generator itself refuses one
    label = 0 if label is None else label
    if isinstance(label, bool) or not isinstance(label, int | np.integer) or not 0 <= label < classes:
        raise ValueError(f"Expected label as one class from 0 to {classes - 1}. Received {label!r}.")
    return label


def _directions(
    latents: NDArray[np.float32], images: NDArray[np.float32], count: int
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Latent directions by how much the images change along them on average, and the change of a pixel by each."""
    rows = images.reshape(len(images), -1).astype(np.float64)
    slopes = np.linalg.lstsq(latents.astype(np.float64) - latents.mean(0), rows - rows.mean(0), rcond=None)[0]
    axes, sizes, _ = np.linalg.svd(slopes, full_matrices=False)
    axes, sizes = axes.T[:count], sizes[:count]
    signs = np.where(axes[np.arange(len(axes)), np.abs(axes).argmax(1)] < 0, -1, 1)  # the same on every machine
    return (axes * signs[:, None]).astype(np.float32), sizes / np.sqrt(rows.shape[1])


def _widget(sampler: Sampler, label: int | None, limits: tuple[float, float] | None) -> Any:
    """Sliders, a button for another start, and the image they make."""
    import ipywidgets as w

    count = len(sampler.directions)
    sliders = [
        w.FloatSlider(value=0, min=-_REACH, max=_REACH, step=0.1, description=f"direction {number + 1}",
                      continuous_update=False, readout_format=".1f", layout=w.Layout(width="330px"))
        for number in range(count)
    ]  # fmt: skip
    toward = w.FloatSlider(value=0, min=0, max=1, step=0.05, description="to another", continuous_update=False,
                           layout=w.Layout(width="330px"))  # fmt: skip
    again = w.Button(description="Other images", icon="refresh", tooltip="Another start, and another to go to")
    zero = w.Button(description="Sliders to 0", tooltip="Back to the start")
    classes = getattr(sampler.gan, "classes", 0)
    kind = w.Dropdown(options=list(range(classes)) or [0], value=label or 0, description="class",
                      layout=w.Layout(display=None if classes else "none", width="180px"))  # fmt: skip
    picture = w.Image(format="png", layout=w.Layout(width="320px", height="320px", object_fit="contain"))
    ends = {"seed": 0, "pair": np.stack([sampler.start, sampler.gan.latents(2, seed=1)[1]])}
    held = {"quiet": False}

    def draw(change: Any = None) -> None:
        if held["quiet"]:
            return
        base = between(*ends["pair"], 101)[round(toward.value * 100)]
        steps = np.array([one.value for one in sliders], np.float32)
        image = sampler.gan.images((base + steps @ sampler.directions)[None], kind.value if classes else None)
        picture.value = _png(generated.pictures(image, limits)[0])

    def move(button: Any) -> None:
        if button is again:
            ends["seed"] += 1
            ends["pair"] = sampler.gan.latents(2, seed=1000 + ends["seed"])
        held["quiet"] = True
        for one in (*sliders, toward):
            one.value = 0
        held["quiet"] = False
        draw()

    for one in (*sliders, toward, kind):
        one.observe(draw, "value")
    for one in (again, zero):
        one.on_click(move)
    draw()
    box = w.HBox([picture, w.VBox([*sliders, toward, kind, w.HBox([again, zero])])])
    box.add_class("medlab-sampler")
    return box


def _png(picture: NDArray[np.float64]) -> bytes:
    """One picture, each pixel enlarged, as a PNG file."""
    import io

    from PIL import Image

    scale = max(1, round(320 / max(picture.shape[:2])))
    pixels = (picture * 255).round().astype(np.uint8).repeat(scale, 0).repeat(scale, 1)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()
