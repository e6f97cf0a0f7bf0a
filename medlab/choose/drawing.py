"""Drawing: the curves of an experiment and the intervals of its table.

In: the table and the curves. Out: a figure.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from medlab.view.figures import LINES, Axes, Figure, line_style, new_figure, tidy

_COLORS = {"chosen": LINES[0], "within noise": LINES[4], "worse": LINES[1], "cannot be told": "0.5"}


def overview(table: pd.DataFrame, curves: pd.DataFrame, *, over: str = "seconds") -> Figure:
    """Validation AUC in each round, and the AUC of each candidate with its interval.

    Args:
        table: of an Experiment.
        curves: of an Experiment.
        over: ``"seconds"`` or ``"epoch"``: the horizontal axis of the curves.
    """
    rounds = sorted(curves["round"].unique())
    names = list(table.index)
    below = 1.1 + 0.32 * len(names)
    figure = new_figure(max(8.5, 3.6 * len(rounds) + 2.6), 3.6 + below)
    upper, lower = figure.subfigures(2, 1, height_ratios=[3.6, below])
    panels = upper.subplots(1, len(rounds), squeeze=False, sharey=True)[0]
    lines = {}
    for panel, number in zip(panels, rounds, strict=True):
        _curves(panel, curves[curves["round"] == number], names, lines, over)
        more = curves.loc[curves["round"] == number, "seed"].nunique() > 1
        panel.set_title(f"round {number} of {len(rounds)}{' (thin: other seeds)' if more else ''}", fontsize=11)
        panel.set_xlabel("seconds of training" if over == "seconds" else "epoch")
    panels[0].set_ylabel("validation AUC")
    upper.legend(lines.values(), lines.keys(), loc="outside right upper", fontsize=8, frameon=False)
    left, right = lower.subplots(1, 2, sharey=True)
    _intervals(left, table, ("auc", "low", "high"), "validation AUC in its last round\n(95 % interval)")
    columns = ("behind", "behind_low", "behind_high")
    _intervals(right, table, columns, "AUC behind the choice, trained alike\n(95 % interval, paired)")
    right.axvline(0, color="0.5", linewidth=1)
    handles = {}
    for verdict, color in _COLORS.items():
        if (table["verdict"] == verdict).any():
            handles[verdict] = right.plot([], [], "o", color=color)[0]
    right.legend(handles.values(), handles.keys(), fontsize=8, frameon=False, loc="best")
    return figure


def _curves(panel: Axes, rows: pd.DataFrame, names: list[str], lines: dict, over: str) -> None:
    for (name, seed), part in rows.groupby(["candidate", "seed"], sort=False):
        style = line_style(names.index(name))
        first = seed == rows["seed"].min()
        (line,) = panel.plot(
            part[over], part["val_auc"], **style, linewidth=1.8 if first else 0.9, alpha=1 if first else 0.6,
            marker="o" if len(part) == 1 else None, markersize=4,
        )  # fmt: skip
        if name not in lines:
            lines[name] = line
    if over == "epoch":
        panel.set_xlim(0.5, rows["epoch"].max() + 0.5)
        panel.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    else:
        panel.set_xlim(0, 1.03 * rows["seconds"].max())
    tidy(panel)


def _intervals(panel: Axes, table: pd.DataFrame, columns: tuple[str, str, str], label: str) -> None:
    for place, (_, row) in enumerate(table.iterrows()):
        value, low, high = (row[name] for name in columns)
        color = _COLORS.get(row["verdict"], "0.5")
        if np.isnan(value):
            panel.annotate(
                "failed", (0.5, place), xycoords=("axes fraction", "data"), ha="center", va="center", fontsize=8
            )
            continue
        if not np.isnan(low):
            panel.plot([low, high], [place, place], color=color, linewidth=2)
        panel.plot(value, place, "o", color=color, markersize=6)
    panel.set_yticks(range(len(table)), list(table.index), fontsize=8)
    panel.set_ylim(len(table) - 0.4, -0.6)
    panel.set_xlabel(label, fontsize=9)
    tidy(panel)
