"""Sequences: how several networks learn over time, and which slices of a volume a network looked at.

In: training histories, or weights by slice. Out: matplotlib figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from medlab.view.figures import line_style, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SCORES = {"val_auc": "validation AUC", "val_dice": "validation Dice", "val_loss": "validation loss", "loss": "loss"}


def learning_curves(histories: Mapping[str, Any], *, score: str = "val_auc", title: str = "") -> Figure:
    """One line a training: its score against the seconds it took.

    Args:
        histories: by name, a frame or mapping with one row an epoch: ``seconds`` of that epoch and the score.
        score: a column, such as ``"val_auc"`` or ``"loss"``.
        title: a line above.

    Raises:
        ValueError: no training, or one without these columns.
    """
    if not histories:
        raise ValueError("Expected at least one training. Received none.")
    figure = new_figure(8.0, 4.2)
    panel = figure.add_subplot()
    for number, (name, history) in enumerate(histories.items()):
        table = pd.DataFrame(history)
        missing = [column for column in ("seconds", score) if column not in table]
        if missing:
            raise ValueError(f"Expected the columns seconds and {score}. {name!r} lacks {' and '.join(missing)}.")
        panel.plot(
            table["seconds"].cumsum(), table[score], **line_style(number), marker="o", markersize=3.5, label=name
        )
    panel.set_xlim(left=0)
    panel.set_xlabel("seconds of training, compiling included")
    panel.set_ylabel(_SCORES.get(score, score))
    panel.set_title(title, fontsize=11)
    panel.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    tidy(panel)
    return figure


def slice_weights(
    weights: ArrayLike, masks: ArrayLike | None = None, titles: Sequence[str] | None = None, *, title: str = ""
) -> Figure:
    """For each volume a panel: how much each slice counted, beside the share of the lesion that lies in it.

    Args:
        weights: (n, k), 0 or above, such as :func:`medlab.models.slice_weights` gives.
        masks: (n, i, j, k), inside where not 0, or None.
        titles: a line for each volume.
        title: a line above all.

    Raises:
        ValueError: no volume, or masks or titles of another number.
    """
    shares = np.atleast_2d(np.asarray(weights, np.float64))
    n, k = shares.shape
    inside = None if masks is None else np.asarray(masks) != 0
    if n == 0 or (inside is not None and (inside.ndim != 4 or inside.shape[::3] != (n, k))):
        found = "" if inside is None else f" and masks {inside.shape}"
        raise ValueError(
            f"Expected weights (n, k) and masks (n, i, j, k), n at least 1. Received {shares.shape}{found}."
        )
    if titles is not None and len(titles) != n:
        raise ValueError(f"Expected {n} titles. Received {len(titles)}.")
    columns = min(n, 3)
    rows = -(-n // columns)
    figure = new_figure(3.5 * columns, 2.3 * rows + 0.6)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    for case, panel in enumerate(panels[:n]):
        panel.bar(np.arange(k), shares[case], width=0.9, color=line_style(0)["color"], label="weight of the slice")
        if inside is not None:
            area = inside[case].sum(axis=(0, 1))
            panel.step(
                np.arange(k), area / max(area.sum(), 1), where="mid", color=line_style(1)["color"], linewidth=1.8,
                label="share of the lesion",
            )  # fmt: skip
        panel.set_title("" if titles is None else titles[case], fontsize=9)
        tidy(panel)
    for panel in panels[n:]:
        panel.set_axis_off()
    for panel in panels[max(0, n - columns) : n]:
        panel.set_xlabel("slice")
        panel.tick_params(labelbottom=True)
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9, frameon=False
    )
    if title:
        figure.suptitle(title, fontsize=12)
    return figure
