"""Budgets: what a method reaches with few labels, and what another dimension costs.

In: tables of measurements. Out: matplotlib figures in which every line is told from the others without color.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from medlab.view.figures import LINES, Axes, Figure, new_figure, tidy

# One marker and one dash pattern a line: told apart in gray, and by any color vision.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_SIZES = (5.5, 5.5, 6, 5.5, 6, 7.5, 7.5, 9.5)
_DASHES = (
    (0, ()), (0, (5, 2)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)),
    (0, (3, 1)), (0, (8, 2)), (0, (4, 1, 1, 1, 1, 1)), (0, (2, 2)),
)  # fmt: skip
_COLORS = (*LINES[:4], "#000000", *LINES[4:6], "#7F7F7F")
_COLUMNS = ("method", "share", "labels", "auc", "low", "high")
_HIGH, _WIDE, _LABEL = 4.4, 4.6, 0.19
"""Inches: a panel's height and width, and the height of a direct label."""


def label_efficiency(
    table: pd.DataFrame | Mapping[str, pd.DataFrame], *, reference: str | None = None, score: str = "test AUC",
    title: str = "",
) -> Figure:  # fmt: skip
    """Test AUC against the share of the labels, one line a method with its interval, one panel a data set.

    Args:
        table: one row for each method and share: ``method``, ``share`` of the labels (above 0, up to 1), ``labels``
            (how many these are), ``auc``, and the interval ``low`` to ``high`` over seeds (NaN where there is none). Or
            such tables by name of a data set. Up to 8 methods; the same method looks the same in every panel.
        reference: a method whose score and interval at its largest share run through the panel as a gray band, such as
            the supervised one with all labels.
        score: what ``auc`` is, for the vertical axis.
        title: a line above all.

    Returns:
        The figure. Each line carries its name at its right end. Whiskers of one share stand side by side.

    Raises:
        ValueError: no row, a column is missing, a share outside 0 to 1, two rows of one method and share, an interval
            whose low is above its high, an unknown reference, or more than 8 methods.
    """
    tables = {str(name): pd.DataFrame(part) for name, part in table.items()} if _named(table) else {"": table}
    for name, part in tables.items():
        _check(name, part)
    methods = list(dict.fromkeys(str(one) for part in tables.values() for one in part["method"]))
    if len(methods) > len(MARKERS):
        raise ValueError(f"Expected at most {len(MARKERS)} methods, which can be told apart. Received {len(methods)}.")
    if reference is not None and reference not in methods:
        raise ValueError(f"Expected a reference among {', '.join(methods)}. Received {reference!r}.")
    figure = new_figure((_WIDE + 1.9) * len(tables), _HIGH + 0.3 * bool(title))
    for panel, (name, part) in zip(figure.subplots(1, len(tables), squeeze=False)[0], tables.items(), strict=True):
        part = part.assign(method=part["method"].astype(str)).sort_values("share")
        if reference is not None:
            _band(panel, part[part["method"] == reference])
        ends = []
        used = [one for one in methods if (part["method"] == one).any()]
        for place, method in enumerate(used):
            rows = part[part["method"] == method]
            # 3.5 % of a share to the side for each method, so that whiskers of one share do not hide each other.
            x = rows["share"].to_numpy(np.float64) * 1.035 ** (place - (len(used) - 1) / 2)
            y = rows["auc"].to_numpy(np.float64)
            _line(panel, x, y, methods.index(method), whiskers=(rows["low"], rows["high"]))
            known = np.flatnonzero(np.isfinite(y))
            if known.size:
                ends.append((x[known[-1]], y[known[-1]], method, methods.index(method)))
        _shares_axis(panel, part)
        panel.set_ylabel(score)
        panel.set_title(name, fontsize=11)
        _direct_labels(panel, ends, _HIGH - 1.0)
        tidy(panel)
    if title:
        figure.suptitle(title, fontsize=12)
    figure.draw_without_rendering()  # the layout settles in its second pass: labels at the right were cut in the first
    return figure


def cost_of_dimensions(table: pd.DataFrame, *, columns: Mapping[str, str] | None = None, title: str = "") -> Figure:
    """What a training step costs as images grow, one line a way to feed them, one panel for each cost.

    Args:
        table: one row for each measurement: ``way`` (such as "2-D slice" or "full 3-D"), ``size`` (voxels a side) and a
            column for each cost; NaN where it could not be measured.
        columns: the costs and what stands at their axes; None: ``memory_mb`` and ``seconds`` of a training step.
        title: a line above all.

    Returns:
        The figure; both axes are logarithmic, so that a cost that grows as size³ is a line three times as steep as one
        that grows as size.

    Raises:
        ValueError: no row, a column is missing, more than 8 ways, or a cost that is not above 0.
    """
    columns = columns or {"memory_mb": "memory of a training step (MB)", "seconds": "time of a training step (s)"}
    missing = [name for name in ("way", "size", *columns) if name not in table]
    if missing or not len(table):
        raise ValueError(
            f"Expected rows with the columns way, size, {', '.join(columns)}. "
            + (f"Missing: {', '.join(missing)}." if missing else "There is no row.")
        )
    ways = list(dict.fromkeys(table["way"]))
    if len(ways) > len(MARKERS):
        raise ValueError(f"Expected at most {len(MARKERS)} ways, which can be told apart. Received {len(ways)}.")
    if (table[list(columns)] <= 0).any(axis=None):
        raise ValueError("Expected costs above 0: the axes are logarithmic. Mark what was not measured with NaN.")
    figure = new_figure((_WIDE + 1.3) * len(columns), _HIGH + 0.3 * bool(title))
    for panel, (column, label) in zip(figure.subplots(1, len(columns), squeeze=False)[0], columns.items(), strict=True):
        panel.set(xscale="log", yscale="log", xlabel="voxels a side", ylabel=label)
        ends = []
        for number, way in enumerate(ways):
            rows = table[(table["way"] == way) & table[column].notna()].sort_values("size")
            x, y = rows["size"].to_numpy(np.float64), rows[column].to_numpy(np.float64)
            _line(panel, x, y, number)
            if len(x):
                ends.append((x[-1], y[-1], str(way), number))
        sizes = np.unique(table["size"])
        panel.set_xticks(sizes, [f"{size:g}" for size in sizes])
        panel.xaxis.set_minor_formatter("")
        panel.grid(axis="y", color="0.9", linewidth=0.8)
        _direct_labels(panel, ends, _HIGH - 0.8)
        tidy(panel)
    if title:
        figure.suptitle(title, fontsize=12)
    figure.draw_without_rendering()  # the layout settles in its second pass: labels at the right were cut in the first
    return figure


def _named(table: Any) -> bool:
    return isinstance(table, Mapping) and not isinstance(table, pd.DataFrame)


def _check(name: str, table: pd.DataFrame) -> None:
    of = f" of {name!r}" if name else ""
    missing = [column for column in _COLUMNS if column not in table]
    if missing:
        raise ValueError(f"Expected the columns {', '.join(_COLUMNS)}. The table{of} lacks {', '.join(missing)}.")
    if not len(table):
        raise ValueError(f"Expected at least one row. The table{of} is empty.")
    wrong = table.loc[~((table["share"] > 0) & (table["share"] <= 1)), "share"]
    if len(wrong):
        raise ValueError(
            f"Expected shares above 0 and up to 1, such as 0.05 for 5 %. The table{of} has {wrong.iloc[0]}."
        )
    twice = table[table.duplicated(["method", "share"])]
    if len(twice):
        row = twice.iloc[0]
        raise ValueError(
            f"Expected one row for each method and share, its mean over seeds. The table{of} has several of "
            f"{row['method']!r} at {row['share']:g}."
        )
    if (table["low"] > table["high"]).any():
        raise ValueError(f"Expected intervals whose low is not above their high. The table{of} has one.")


def _line(panel: Axes, x: np.ndarray, y: np.ndarray, number: int, whiskers: Any = None) -> None:
    color = _COLORS[number]
    if whiskers is not None:
        low, high = (np.asarray(one, np.float64) for one in whiskers)
        panel.vlines(x, low, high, color=color, linewidth=1.3, alpha=0.75)
    panel.plot(
        x, y, color=color, linestyle=_DASHES[number], linewidth=1.7, marker=MARKERS[number], markersize=_SIZES[number],
        markeredgecolor="white", markeredgewidth=0.4,
    )  # fmt: skip


def _band(panel: Axes, rows: pd.DataFrame) -> None:
    """The score of the last row and its interval through the whole panel."""
    if not len(rows):
        return
    last = rows.iloc[-1]
    if np.isfinite([last["low"], last["high"]]).all():
        panel.axhspan(last["low"], last["high"], color="0.93", zorder=0)
    panel.axhline(last["auc"], color="0.55", linewidth=1, zorder=0.5)


def _shares_axis(panel: Axes, table: pd.DataFrame) -> None:
    """A tick for each share, with the percentage and the number of labels."""
    counts = table.groupby("share")["labels"].agg(["min", "max"])
    ticks = [
        f"{100 * share:g} %\n{low:,.0f}" + (f"–{high:,.0f}" if high > low else "")
        for share, low, high in counts.itertuples()
    ]
    panel.set_xscale("log")
    panel.set_xticks(counts.index.to_numpy(), ticks)
    panel.set_xticks([], minor=True)
    panel.set_xlabel("share and number of the labels")
    panel.grid(axis="y", color="0.9", linewidth=0.8)
    panel.set_axisbelow(True)


def _direct_labels(panel: Axes, ends: Sequence[tuple[float, float, str, int]], inches: float) -> None:
    """The name of each line right of the panel, at the height of its last point or as near as there is room."""
    if not ends:
        return
    panel.margins(x=0.05)
    panel.autoscale_view()
    ends = sorted(ends, key=lambda end: end[1])
    scaled = panel.transScale.transform([(x, y) for x, y, *_ in ends])
    points = panel.transLimits.transform(scaled)
    heights = _spread(points[:, 1], _LABEL / inches)
    for (x, y, name, number), height in zip(ends, heights, strict=True):
        panel.annotate(
            "", (x, y), (1.03, height), xycoords="data", textcoords="axes fraction",
            arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3},
        )  # fmt: skip
        panel.plot(
            [1.03, 1.085, 1.14], [height] * 3, transform=panel.transAxes, clip_on=False, color=_COLORS[number],
            linestyle=_DASHES[number], linewidth=1.7, marker=MARKERS[number], markevery=[1],
            markersize=_SIZES[number], markeredgecolor="white", markeredgewidth=0.4, scalex=False, scaley=False,
        )  # fmt: skip
        panel.text(1.16, height, name, transform=panel.transAxes, va="center", fontsize=9, color="black")


def _spread(wanted: np.ndarray, gap: float) -> np.ndarray:
    """Ascending positions at least ``gap`` apart, together as near to the wanted ones as can be (least squares).

    With the gaps taken off, the nearest positions in ascending order are an isotonic regression. They lie from 0 to 1
    where there is room.
    """
    from scipy.optimize import isotonic_regression

    steps = gap * np.arange(len(wanted))
    free = isotonic_regression(np.asarray(wanted, np.float64) - steps).x
    return np.clip(free, 0, max(1 - steps[-1], 0)) + steps
