"""Scores: how explanations do against chance, against edges and against the truth.

In: the table of ``medlab.explain.score``. Out: a matplotlib figure, made as in ``medlab.view.figures``. It computes no
score: every number comes from the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from medlab.view.figures import LINES, Axes, Figure, metric_label, new_figure, tidy

# Translucent, so that one is seen through the other.
_FLOORS = {"random": ("0.3", 0.25), "edges": ("#E69F00", 0.3)}
_CEILING = "mask"
_HIGH = ("pointing_game", "mass_inside", "iou", "pixel_auprc", "insertion", "road", "mu_fidelity", "repeatability",
         "reproducibility")  # fmt: skip
_LOW = ("deletion", "infidelity", "max_sensitivity", "randomization", "cascade", "label_randomization", "seconds")
_CHANCE = ("pointing_game", "mass_inside", "pixel_auprc")
_LIKENESS = ("randomization", "cascade", "label_randomization", "repeatability", "reproducibility")
_NAMES = {"iou": "IoU", "pixel_auprc": "pixel AUPRC", "road": "ROAD", "mu_fidelity": "mu-fidelity",
          "max_sensitivity": "max-sensitivity", "seconds": "seconds a case"}  # fmt: skip


def explanation_scores(
    table: pd.DataFrame,
    *,
    scores: Sequence[str] | None = None,
    order: str | None = None,
    alike: float = 0.5,
    title: str = "",
) -> Figure:
    """A panel a score, a line a method: the mean over cases as a dot with its interval.

    The bands are the intervals of the floors, ``random`` gray and ``edges`` orange; a method whose dot lies in or
    behind them is no better than a picture that anyone can draw without the model. The green line is the ceiling, the
    true mask; the dotted line is the mask's share of the image, which is chance. Where maps of models that forgot, or
    of several models, are compared, the dashed line is the threshold of likeness. A hollow dot is the mean of a single
    case.

    Args:
        table: of ``medlab.explain.score``: rows by (method, score), columns value, low, high, n.
        scores: the panels in order; None for all in the table.
        order: a score to sort the methods by, the best first; None keeps the table's order.
        alike: where the dashed line is, 0 to 1.
        title: a line above.

    Raises:
        ValueError: it is no such table, it has no method beside the floors, or a score is not in it.
    """
    if not isinstance(table, pd.DataFrame):
        raise ValueError(f"Expected the table of medlab.explain.score. Received {type(table).__name__}.")
    if list(table.index.names) != ["method", "score"] or not {"value", "low", "high"} <= set(table.columns):
        raise ValueError(
            f"Expected rows by method and score and columns value, low and high. Received rows by "
            f"{list(table.index.names)} and columns {list(table.columns)}."
        )
    wide = {name: table[name].unstack("score", sort=False) for name in ("value", "low", "high")}
    methods = [name for name in table.index.unique("method") if name not in (*_FLOORS, _CEILING)]
    if not methods:
        raise ValueError("Expected at least one method beside the floors and the ceiling. The table has none.")
    there = [name for name in wide["value"].columns if wide["value"].loc[methods, name].notna().any()]
    for name in [*(scores or ()), *([order] if order else [])]:
        if name not in there:
            raise ValueError(f"There is no score {name!r} to draw. There are: {', '.join(there)}.")
    panels = list(scores) if scores is not None else there
    if order is not None:
        by = wide["value"].loc[methods, order]
        methods = list(by.sort_values(ascending=order in _LOW, na_position="last", kind="stable").index)
    across = min(4, len(panels))
    down = -(-len(panels) // across)
    figure = new_figure(1.9 + 2.3 * across, 0.7 + down * (1.0 + 0.23 * len(methods)))
    axes = figure.subplots(down, across, sharey=True, squeeze=False).ravel()
    for panel, name in zip(axes, panels, strict=False):
        _draw(panel, {kind: values[name] for kind, values in wide.items()}, methods, name, alike)
    for panel in axes[len(panels) :]:
        panel.set_axis_off()
    if "share" in wide["value"].columns:
        share = wide["value"].loc[_CEILING, "share"]
        for panel, name in zip(axes, panels, strict=False):
            if name in _CHANCE:
                panel.axvline(
                    share, color="0.2", linewidth=1, linestyle=":", zorder=1, label="chance: the mask's share"
                )
    axes[0].set_ylim(len(methods) - 0.4, -0.6)
    axes[0].set_yticks(np.arange(len(methods)), [name.replace("_", " ") for name in methods])
    _legend(figure, axes)
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def _draw(panel: Axes, values: dict[str, pd.Series], methods: list[str], score: str, alike: float) -> None:
    for floor, (color, alpha) in _FLOORS.items():
        if floor in values["value"].index and pd.notna(values["value"][floor]):
            low, value, high = (values[kind][floor] for kind in ("low", "value", "high"))
            span = (value, value) if pd.isna(low) else (low, high)
            panel.axvspan(*span, color=color, alpha=alpha, linewidth=1.5, zorder=0, label=f"floor: {floor}")
    if _CEILING in values["value"].index and score != "sparseness" and pd.notna(values["value"][_CEILING]):
        panel.axvline(values["value"][_CEILING], color=LINES[2], linewidth=1.5, zorder=1,
                      label="ceiling: true mask")  # fmt: skip
    if score in _LIKENESS:
        panel.axvline(alike, color=LINES[1], linewidth=1, linestyle="--", zorder=1, label="threshold of likeness")
    for place, method in enumerate(methods):
        value, low, high = (values[kind][method] for kind in ("value", "low", "high"))
        if pd.isna(value):
            panel.text(0.5, place, "undefined", transform=panel.get_yaxis_transform(), fontsize=8, color="0.45",
                       ha="center", va="center")  # fmt: skip
            continue
        alone = pd.isna(low)
        if not alone:
            panel.plot([low, high], [place, place], color=LINES[0], linewidth=1.5, zorder=2, solid_capstyle="butt")
        panel.plot(
            value, place, "o", color=LINES[0], markersize=5, zorder=3, markerfacecolor="white" if alone else None
        )
    panel.set_title(_NAMES.get(score, metric_label(score)), fontsize=10)
    panel.set_xlabel({True: "high is good", False: "low is good"}[score in _HIGH] if score in (*_HIGH, *_LOW) else "",
                     fontsize=8)  # fmt: skip
    panel.grid(axis="y", color="0.93", linewidth=0.8, zorder=-1)
    panel.set_axisbelow(True)
    tidy(panel)
    panel.tick_params(axis="y", length=0)
    if score == "seconds" and (values["value"][methods].dropna() > 0).all():
        panel.set_xscale("log")
    else:
        panel.locator_params(axis="x", nbins=4)


def _legend(figure: Figure, panels: Sequence[Axes]) -> None:
    marks: dict[str, Any] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            marks.setdefault(label, handle)
    if marks:
        figure.legend(
            marks.values(), marks, loc="outside lower center", ncols=min(5, len(marks)), fontsize=8, frameon=False
        )
