"""Budgets: what a method reaches with few labels, and what another dimension costs.

In: tables of measurements. Out: matplotlib figures in which every line is told from the others without color.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from medlab.view.figures import LINES, Axes, Figure, new_figure, tidy
from medlab.view.images import wrapped

# One marker and one dash pattern a line: told apart in gray, and by any color vision.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_SIZES = (5.5, 5.5, 6, 5.5, 6, 7.5, 7.5, 9.5)
_DASHES = (
    (0, ()), (0, (5, 2)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)),
    (0, (3, 1)), (0, (8, 2)), (0, (4, 1, 1, 1, 1, 1)), (0, (2, 2)),
)  # fmt: skip
_COLORS = (*LINES[:4], "#000000", *LINES[4:6], "#7F7F7F")
_COLUMNS = ("method", "share", "labels", "auc", "low", "high")
_HIGH, _WIDE, _LABEL, _LETTER = 4.4, 4.7, 0.18, 0.073
"""Inches: a panel's height and width, the height of a line of a direct label, and the width of a letter."""
_NAME = 18
"""Letters of a direct label's line."""


def label_efficiency(
    table: pd.DataFrame | Mapping[str, pd.DataFrame], *, reference: str | None = None, score: str = "test AUC",
    title: str = "",
) -> Figure:  # fmt: skip
    """Test AUC against the share of the labels, one line a method with its interval, one panel a data set.

    Args:
        table: one row for each method and share: ``method``, ``share`` of the labels (above 0, up to 1), ``labels``
            (how many these are; NaN where that is unknown), ``auc`` from 0 to 1, and the interval ``low`` to ``high``
            over seeds (NaN where there is none). Or such tables by name of a data set. Up to 8 methods; the same method
            looks the same in every panel.
        reference: a method whose score and interval at its largest share run through the panel as a gray band, such as
            the supervised one with all labels.
        score: what ``auc`` is, for the vertical axis.
        title: a line above all.

    Returns:
        The figure. Each line carries its name at its right end. Whiskers of one share stand side by side. The axis goes
        no further than 0 and 1: an interval that does, as a t interval over seeds may, is cut there.

    Raises:
        ValueError: no table, no row, a column that is missing or not of numbers, a share or an AUC outside 0 to 1, no
            AUC at all, two rows of one method and share, an interval that does not hold its AUC, an unknown reference,
            or more than 8 methods.
    """
    tables = dict(table) if _named(table) else {"": table}
    if not tables or not all(isinstance(part, pd.DataFrame) for part in tables.values()):
        kinds = ", ".join(type(part).__name__ for part in tables.values()) or "none"
        raise ValueError(f"Expected a DataFrame, or a DataFrame for each name of a data set. Received {kinds}.")
    tables = {str(name): part for name, part in tables.items()}
    for name, part in tables.items():
        _check(name, part)
    methods = list(dict.fromkeys(str(one) for part in tables.values() for one in part["method"]))
    if len(methods) > len(MARKERS):
        raise ValueError(f"Expected at most {len(MARKERS)} methods, which can be told apart. Received {len(methods)}.")
    if reference is not None and reference not in methods:
        raise ValueError(f"Expected a reference among {', '.join(methods)}. Received {reference!r}.")
    figure = new_figure((_WIDE + _beside(methods)) * len(tables), _HIGH + 0.3 * bool(title))
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
        bottom, top = panel.get_ylim()
        panel.set_ylim(max(bottom, 0.0), min(top, 1.0))
        panel.set_ylabel(score)
        panel.set_title(name, fontsize=11)
        _direct_labels(panel, ends, _HIGH - 1.1)
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
        The figure; both axes are logarithmic, so that a cost that grows as a power of the size is a straight line:
        where the size doubles, one that grows as size³ rises by the height that stands for 8 times. A step's fixed part
        makes lines flatter at small sizes.

    Raises:
        ValueError: no row, a column that is missing or not of numbers, more than 8 ways, a size or a cost that is not
            finite and above 0, or a cost that was not measured at all.
    """
    columns = columns or {"memory_mb": "memory of a training step (MB)", "seconds": "time of a training step (s)"}
    if not isinstance(table, pd.DataFrame):
        raise ValueError(f"Expected a DataFrame. Received {type(table).__name__}.")
    missing = [name for name in ("way", "size", *columns) if name not in table]
    if missing or not len(table):
        raise ValueError(
            f"Expected rows with the columns way, size, {', '.join(columns)}. "
            + (f"Missing: {', '.join(missing)}." if missing else "There is no row.")
        )
    ways = list(dict.fromkeys(table["way"]))
    if len(ways) > len(MARKERS):
        raise ValueError(f"Expected at most {len(MARKERS)} ways, which can be told apart. Received {len(ways)}.")
    table = _numbers(table, ("size", *columns), "")
    if not (np.isfinite(table["size"]) & (table["size"] > 0)).all():
        raise ValueError(f"Expected sizes above 0, in voxels a side. Received {sorted(set(table['size']))}.")
    if ((table[list(columns)] <= 0) | np.isinf(table[list(columns)])).any(axis=None):
        raise ValueError(
            "Expected costs above 0, finite: the axes are logarithmic. Mark what was not measured with NaN."
        )
    empty = [name for name in columns if table[name].isna().all()]
    if empty:
        raise ValueError(f"Expected costs that were measured. Received only NaN in {', '.join(empty)}.")
    figure = new_figure((_WIDE + _beside(map(str, ways))) * len(columns), _HIGH + 0.3 * bool(title))
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
        panel.set_xticks(sizes, _staggered(np.log(sizes), [f"{size:g}" for size in sizes]))
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
    table = _numbers(table, _COLUMNS[1:], of)
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
    auc = table["auc"]
    if auc.isna().all():
        raise ValueError(f"Expected at least one AUC. The table{of} has only NaN.")
    wrong = auc[(auc < 0) | (auc > 1)]
    if len(wrong):
        raise ValueError(f"Expected an AUC from 0 to 1. The table{of} has {wrong.iloc[0]:g}.")
    outside = table[(auc < table["low"] - 1e-9) | (auc > table["high"] + 1e-9)]
    if len(outside):
        row = outside.iloc[0]
        raise ValueError(
            f"Expected each AUC within its interval. The table{of} has {row['auc']:g} of {row['method']!r} at "
            f"{row['share']:g}, with an interval from {row['low']:g} to {row['high']:g}."
        )


def _numbers(table: pd.DataFrame, columns: Sequence[str], of: str) -> pd.DataFrame:
    """The table with these columns as floats."""
    try:
        return table.assign(**{name: table[name].astype(np.float64) for name in columns})
    except (TypeError, ValueError):
        raise ValueError(f"Expected numbers in the columns {', '.join(columns)}. The table{of} has others.") from None


def _beside(names: Iterable[str]) -> float:
    """Inches right of a panel for its direct labels."""
    return 0.75 + _LETTER * max(len(line) for name in names for line in wrapped(name, _NAME).split("\n"))


def _staggered(at: np.ndarray, texts: Sequence[str]) -> list[str]:
    """The texts of ticks, lowered by whole lines where they would print over the one before.

    Args:
        at: their places on the axis, ascending, in any unit.
        texts: what stands there, each with as many lines.
    """
    high = max(text.count("\n") + 1 for text in texts)
    inch = (_WIDE - 0.9) / 1.1 / (np.ptp(at) or 1.0)
    ends: list[float] = []  # the right end of the last text of each row
    placed = []
    for place, text in zip((at - at[0]) * inch, texts, strict=True):
        half = _LETTER * max(map(len, text.split("\n"))) / 2
        row = next((row for row, end in enumerate(ends) if place - half > end + _LETTER), len(ends))
        ends[row : row + 1] = [place + half]
        placed.append("\n" * (row * high) + text)
    return placed


def _line(panel: Axes, x: np.ndarray, y: np.ndarray, number: int, whiskers: Any = None) -> None:
    color = _COLORS[number]
    if whiskers is not None:
        low, high = (np.asarray(one, np.float64) for one in whiskers)
        panel.vlines(x, low, high, color=color, linewidth=1.1, alpha=0.55)
    panel.plot(
        x, y, color=color, linestyle=_DASHES[number], linewidth=1.7, marker=MARKERS[number], markersize=_SIZES[number],
        markeredgecolor="white", markeredgewidth=0.4, clip_on=False,  # an AUC of 1 lies at the end of the axis
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
        f"{100 * share:g} %\n" + ("" if low != low else f"{low:,.0f}" + (f"–{high:,.0f}" if high > low else ""))
        for share, low, high in counts.itertuples()
    ]
    ticks = [text.removesuffix("\n") for text in ticks] if counts["min"].isna().all() else ticks
    panel.set_xscale("log")
    at = counts.index.to_numpy(np.float64)
    panel.set_xticks(at, _staggered(np.log(at), ticks))
    panel.set_xticks([], minor=True)
    panel.set_xlabel("share of the labels" if counts["min"].isna().all() else "share and number of the labels")
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
    names = [wrapped(name, _NAME) for _, _, name, _ in ends]
    heights = _spread(points[:, 1], _LABEL / inches * np.array([1 + name.count("\n") for name in names]))
    for (x, y, _, number), name, height in zip(ends, names, heights, strict=True):
        panel.annotate(
            "", (x, y), (1.03, height), xycoords="data", textcoords="axes fraction",
            arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3},
        )  # fmt: skip
        panel.plot(
            [1.03, 1.085, 1.14], [height] * 3, transform=panel.transAxes, clip_on=False, color=_COLORS[number],
            linestyle=_DASHES[number], linewidth=1.7, marker=MARKERS[number], markevery=[1],
            markersize=_SIZES[number], markeredgecolor="white", markeredgewidth=0.4, scalex=False, scaley=False,
        )  # fmt: skip
        panel.text(
            1.16, height, name, transform=panel.transAxes, va="center", fontsize=9, color="black", linespacing=1.0
        )


def _spread(wanted: np.ndarray, tall: float | np.ndarray) -> np.ndarray:
    """Ascending middles of labels so ``tall`` that do not meet, as near to the wanted ones as can be (least squares).

    With the gaps taken off, the nearest positions in ascending order are an isotonic regression. They lie from 0 to 1
    where there is room.
    """
    from scipy.optimize import isotonic_regression

    tall = np.broadcast_to(tall, len(wanted))
    steps = np.concatenate([[0.0], np.cumsum((tall[1:] + tall[:-1]) / 2)])
    free = isotonic_regression(np.asarray(wanted, np.float64) - steps).x
    return np.clip(free, 0, max(1 - steps[-1], 0)) + steps
