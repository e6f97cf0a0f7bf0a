"""Generated: figures of images that a generator made, and of how it learned to.

In: arrays of images (n, i, j[, k], c), a table with a row an epoch. Out: matplotlib figures.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from medlab.view.colors import NAN_COLOR, nan_note
from medlab.view.figures import LINES, Axes, Figure, new_figure, tidy


def gan_training(history: pd.DataFrame, samples: ArrayLike, *, count: int = 36) -> Figure:
    """Samples, and below them both losses and the diversity against the epochs.

    Args:
        history: with the columns epoch, discriminator_loss, generator_loss and diversity.
        samples: (n, i, j[, k], c) images after the last epoch; of volumes the middle slice is shown.
        count: how many of them, at most.

    Raises:
        ValueError: an empty history, or a count below 1.
    """
    if not len(history):
        raise ValueError("Expected a history of at least one epoch. Received an empty one.")
    _at_least_one(count=count)
    figure = new_figure(9.0, 5.4)
    above, below = figure.subfigures(2, 1, height_ratios=(1.25, 1))
    tiles = pictures(samples)[:count]
    panel = above.add_subplot()
    draw_tiles(panel, tiles, columns=12)
    panel.set_title(f"samples of the same latents after epoch {history['epoch'].iloc[-1]:.0f}", fontsize=10)
    losses, variety = below.subplots(1, 2)
    styles = (("discriminator_loss", "discriminator", "-"), ("generator_loss", "generator", "--"))
    for number, (column, name, dashes) in enumerate(styles):
        losses.plot(history["epoch"], history[column], dashes, color=LINES[number], label=name)
    losses.set_ylabel("loss")
    variety.plot(history["epoch"], history["diversity"], color=LINES[2], label="samples")
    variety.axhline(1, color="gray", linewidth=1, linestyle=":", label="real images")
    variety.set_ylim(0, max(1.2, 1.1 * float(np.nanmax(history["diversity"]))))
    variety.set_ylabel("diversity")
    for one in (losses, variety):
        one.legend(fontsize=9, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
        one.set_xlabel("epoch")
        one.xaxis.get_major_locator().set_params(integer=True)
        tidy(one)
    return figure


def sample_grid(
    samples: ArrayLike, rows: list[str] | None = None, *, columns: int = 8, title: str = "",
    value_range: tuple[float, float] | None = None,
) -> Figure:  # fmt: skip
    """Images side by side, all in one window.

    Args:
        samples: (n, i, j[, k], c) images; of volumes the middle slice is shown.
        rows: what each row of ``columns`` images is, written before it.
        columns: images in a row.
        title: a line above.
        value_range: what is black and what is white; by default the least and greatest value of all.

    Raises:
        ValueError: as many names as there are no rows, no column, or a range that is none.
    """
    _at_least_one(columns=columns)
    tiles = pictures(samples, value_range)
    lines = -(-len(tiles) // columns)
    if rows is not None and len(rows) != lines:
        raise ValueError(f"Expected {lines} names for {len(tiles)} images in rows of {columns}. Received {len(rows)}.")
    high, wide = tiles.shape[1:3]
    width = 9.0
    tall = (width - 1.2 * (rows is not None)) / columns / wide * high * lines
    figure = new_figure(width, tall + 0.4 * bool(title) + 0.1)
    panel = figure.add_subplot()
    draw_tiles(panel, tiles, columns=columns)
    if rows is not None:
        step = high + _gap(high, wide)
        panel.set_yticks([number * step + 0.5 * high for number in range(lines)], rows, fontsize=9)
        panel.tick_params(length=0)
    panel.set_title(title, fontsize=11)
    return figure


def copies(
    generated: ArrayLike, nearest: ArrayLike, ratios: ArrayLike, *, count: int = 8, flagged: ArrayLike | None = None
) -> Figure:
    """The generated images that lie most suspiciously near to a training image, each above that image.

    Args:
        generated: (n, i, j[, k], c). NaN is magenta, and said below the image.
        nearest: (n, i, j[, k], c) the training image nearest to each: ``train[found.nearest]``.
        ratios: (n,) of :func:`medlab.evaluate.memorization`; the lowest come first, NaN ("no ratio") last.
        count: how many, at most.
        flagged: (n,) bool; these have "flagged" in a colored title.

    Raises:
        ValueError: unlike lengths or shapes, no image, ratios that are no numbers, or a count below 1.
    """
    try:
        ratios = np.asarray(ratios, float)
    except (TypeError, ValueError):
        raise ValueError(f"Expected ratios as numbers (n,). Received {ratios!r}.") from None
    _at_least_one(count=count)
    shapes = np.shape(generated), np.shape(nearest)
    if len(shapes[1]) < 2 < len(shapes[0]):
        raise ValueError(
            "Expected nearest as images, as generated is; of numbers of training images take train[found.nearest]. "
            f"Received shape {shapes[1]}."
        )
    if shapes[0][1:] != shapes[1][1:] or ratios.ndim != 1:
        raise ValueError(
            "Expected generated and nearest images of one shape (n, i, j[, k], c), and ratios (n,). "
            f"Received {shapes[0]}, {shapes[1]} and {ratios.shape}."
        )
    lengths = {len(generated), len(nearest), len(ratios), len(ratios if flagged is None else flagged)}
    if len(lengths) > 1:
        raise ValueError(f"Expected as many images, nearest images, ratios and flags. Received {sorted(lengths)}.")
    first = np.argsort(ratios, kind="stable")[:count]
    marks = np.zeros(len(ratios), bool) if flagged is None else np.asarray(flagged, bool)
    shown = np.concatenate([np.asarray(generated)[first], np.asarray(nearest)[first]])
    both = pictures(shown)
    figure = new_figure(1.15 * max(len(first), 4) + 0.3, 3.0)
    panels = figure.subplots(2, len(first), squeeze=False)
    for column, case in enumerate(first):
        for row in range(2):
            panels[row, column].imshow(both[row * len(first) + column], cmap="gray", vmin=0, vmax=1)
            panels[row, column].set(xticks=[], yticks=[])
            panels[row, column].set_xlabel(nan_note(shown[row * len(first) + column]), fontsize=8)
        word, color = ("flagged\n", LINES[1]) if marks[case] else ("", "black")
        ratio = "no ratio" if np.isnan(ratios[case]) else f"{ratios[case]:.2f}"
        panels[0, column].set_title(word + ratio, fontsize=9, color=color)
    panels[0, 0].set_ylabel("generated", fontsize=9)
    panels[1, 0].set_ylabel("nearest in\ntraining", fontsize=9)
    return figure


def pictures(samples: ArrayLike, value_range: tuple[float, float] | None = None) -> NDArray[np.float64]:
    """Images (n, i, j[, k], c) as pictures (n, i, j[, 3]) from 0 to 1: the middle slice, the first or three channels.

    NaN is magenta, so that pictures of which one has NaN are in color.

    Raises:
        ValueError: another number of axes, or no image.
    """
    x = np.asarray(samples, np.float64)
    if x.ndim not in (4, 5) or not len(x):
        raise ValueError(f"Expected images of shape (n, i, j[, k], c), at least one. Received {x.shape}.")
    if x.ndim == 5:
        # As slice_image shows a volume: the last row of j above, the last column of i on the left.
        x = x[:, ::-1, ::-1, x.shape[3] // 2].swapaxes(1, 2)
    if value_range is None:
        finite = x[np.isfinite(x)]
        low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    else:
        try:
            low, high = map(float, value_range)
        except (TypeError, ValueError):
            raise ValueError(f"Expected value_range as (black, white). Received {value_range!r}.") from None
    x = np.clip((x - low) / (high - low if high > low else 1.0), 0, 1)
    missing = np.isnan(x if x.shape[-1] == 3 else x[..., :1]).any(axis=-1)
    if missing.any():
        x = x.copy() if x.shape[-1] == 3 else np.repeat(x[..., :1], 3, axis=-1)
        x[missing] = np.divide(NAN_COLOR, 255)
    return x if x.shape[-1] == 3 else x[..., 0]


def draw_tiles(panel: Axes, tiles: NDArray[np.float64], *, columns: int) -> None:
    """Pictures in rows, with thin white gaps, drawn into one panel."""
    count, high, wide = tiles.shape[:3]
    columns = min(columns, count)
    lines, gap = math.ceil(count / columns), _gap(high, wide)
    tall, broad = lines * (high + gap) - gap, columns * (wide + gap) - gap
    sheet = np.ones((tall, broad, *tiles.shape[3:]))
    for number, one in enumerate(tiles):
        row, column = number // columns * (high + gap), number % columns * (wide + gap)
        sheet[row : row + high, column : column + wide] = one
    panel.imshow(
        sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="equal", extent=(0, broad, tall, 0)
    )
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set_visible(False)


def _gap(high: int, wide: int) -> int:
    """Pixels between two pictures."""
    return max(1, round(max(high, wide) / 30))


def _at_least_one(**numbers: object) -> None:
    for name, value in numbers.items():
        if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
            raise ValueError(f"Expected {name} to be a whole number of at least 1. Received {value!r}.")
