"""Charts: what the data are like, and how a training went.

In: cases, arrays, a table of a training. Out: matplotlib figures, made as in ``medlab.view.figures``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from medlab.view.figures import LINES, Figure, line_style, metric_label, new_figure, tidy


def history(table: pd.DataFrame | Mapping[str, Sequence[float]], *, title: str = "") -> Figure:
    """Loss, validation AUC and learning rate by epoch; the best epoch is marked.

    Args:
        table: one row an epoch, with some of loss, validation_loss, auc, validation_auc, learning_rate (or Keras's
            names val_loss, val_auc, lr), and epoch (else counted from 1).
        title: a line above.

    Raises:
        ValueError: no epoch, or no column that can be drawn.
    """
    table = pd.DataFrame(table).rename(columns=lambda name: str(name).replace("validation_", "val_"))
    if not len(table):
        raise ValueError("Expected at least one epoch. The history is empty.")
    epochs = table["epoch"].to_numpy() if "epoch" in table else np.arange(1, len(table) + 1)
    scores = [name for name in ("auc", "val_auc", "dice", "val_dice", "accuracy", "val_accuracy") if name in table]
    scores = [name for name in scores if name.endswith(("auc", "dice"))] or scores
    rates = [name for name in ("learning_rate", "lr") if name in table][:1]
    groups = [("loss", [name for name in ("loss", "val_loss") if name in table]), ("score", scores), ("rate", rates)]
    groups = [(kind, names) for kind, names in groups if names]
    if not groups:
        raise ValueError(
            f"Expected one of loss, validation_loss, validation_auc, learning_rate. The columns are {list(table)}."
        )
    best = _best_epoch(table, epochs)
    figure = new_figure(3.6 * len(groups) + 0.4, 3.4)
    for panel, (kind, names) in zip(figure.subplots(1, len(groups), squeeze=False)[0], groups, strict=True):
        for name in names:
            held_out = name.startswith("val_")
            values = pd.to_numeric(table[name], errors="coerce")
            panel.plot(epochs, values, marker="o", markersize=3, color=LINES[1 if held_out else 0],
                       linestyle="-", label="validation" if held_out else "training")  # fmt: skip
        if best is not None:
            panel.axvline(best, color="0.4", linewidth=1, linestyle="--", label=f"best epoch, {best:g}")
        panel.set_xlabel("epoch")
        panel.set_ylabel(
            {"loss": "loss", "score": metric_label(names[0].removeprefix("val_")), "rate": "learning rate"}[kind]
        )
        if kind == "rate":
            if (pd.to_numeric(table[names[0]], errors="coerce") > 0).all():
                panel.set_yscale("log")
        else:
            panel.legend(fontsize=8, frameon=False)
        panel.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
        panel.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        tidy(panel)
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def intensities(before: Any, after: Any = None, *, unit: str = "", bins: int = 100, title: str = "") -> Figure:
    """Histograms of the values before and after a step; NaN is left out and counted.

    Args:
        before: a Volume, an array, or a list of them.
        after: the same after the step; None: one histogram.
        unit: unit of the values before, such as ``"HU"``; that of a CT Volume is known.
        bins: number of bars.
        title: a line above.

    Raises:
        ValueError: no finite value.
    """
    parts = [("before", before), ("after", after)] if after is not None else [("", before)]
    figure = new_figure(4.4 * len(parts), 3.2)
    for panel, (name, values) in zip(figure.subplots(1, len(parts), squeeze=False)[0], parts, strict=True):
        items = values if isinstance(values, list | tuple) else [values]
        if name != "after" and not unit and all(getattr(item, "modality", None) == "CT" for item in items):
            unit = "HU"
        numbers = np.concatenate([np.asarray(getattr(item, "array", item)).ravel() for item in items]).astype(
            np.float64
        )
        finite = numbers[np.isfinite(numbers)]
        if not finite.size:
            raise ValueError("Expected finite values to count. All are NaN or infinite.")
        panel.hist(finite, bins=bins, color=LINES[0], log=True)
        left_out = numbers.size - finite.size
        panel.set_title(name + (f"  ({left_out} not finite, left out)" if left_out else ""), fontsize=10)
        label = f"intensity ({unit})" if unit and name != "after" else "intensity"
        panel.set_xlabel(
            f"{label}\nmean {finite.mean():.3g}, SD {finite.std():.3g}, {finite.min():.4g} to {finite.max():.4g}"
        )
        panel.set_ylabel("voxels (log scale)")
        tidy(panel)
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def intensity_curves(groups: Mapping[str, Any], *, unit: str = "", bins: int = 80, title: str = "") -> Figure:
    """How often each intensity comes in groups of images, such as the classes of a data set, in one panel.

    Args:
        groups: a Volume, an array, or a list of them, by name; each group's curve has the area 1. NaN is left out.
        unit: unit of the values, such as ``"HU"``.
        bins: number of intervals, the same for all groups, from the 0.1th to the 99.9th percentile of all.
        title: a line above.

    Raises:
        ValueError: no group, or one without a finite value.
    """
    values = {}
    for name, items in groups.items():
        numbers = np.concatenate([
            np.asarray(getattr(item, "array", item), np.float64).ravel()
            for item in (items if isinstance(items, list | tuple) else [items])
        ] or [np.zeros(0)])  # fmt: skip
        values[name] = numbers[np.isfinite(numbers)]
        if not values[name].size:
            raise ValueError(f"Expected finite values to count. The group {name!r} has none.")
    if not values:
        raise ValueError("Expected at least one group of images. Received none.")
    low = min(np.percentile(numbers, 0.1) for numbers in values.values())
    high = max(np.percentile(numbers, 99.9) for numbers in values.values())
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    figure = new_figure(6.0, 3.4)
    panel = figure.subplots()
    for number, (name, numbers) in enumerate(values.items()):
        density, _ = np.histogram(numbers, edges, density=True)
        label = f"{name}: mean {numbers.mean():.3g}, SD {numbers.std():.3g}"
        panel.stairs(density, edges, label=label, linewidth=1.6, **line_style(number))
    panel.set_yscale("log")
    panel.set_xlabel(f"intensity ({unit})" if unit else "intensity")
    panel.set_ylabel("density (log scale)")
    panel.legend(fontsize=8, frameon=False)
    tidy(panel)
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def label_counts(cases: Any, *, title: str = "") -> Figure:
    """How many cases of each class there are, by split where splits are assigned; a case may count for several classes.

    Args:
        cases: Cases, or an object with ``.table`` (columns label and perhaps split) and ``.classes``.
        title: a line above.
    """
    table, classes = cases.table, list(cases.classes)
    splits = [name for name in ("train", "validation", "test") if "split" in table and (table["split"] == name).any()]
    groups = {name: table[table["split"] == name] for name in splits} or {"all cases": table}
    found = {name: [set(str(label).split("|")) if getattr(cases, "multi_label", False) else {str(label)}
                    for label in part["label"].dropna()] for name, part in groups.items()}  # fmt: skip
    figure = new_figure(7.5, 0.9 + 0.28 * max(len(classes) * len(groups), 3))
    panel = figure.add_subplot()
    thick = 0.8 / len(groups)
    most = 1
    for number, (name, labels) in enumerate(found.items()):
        counts = [sum(one in names for names in labels) for one in classes]
        most = max(most, *counts)
        places = np.arange(len(classes)) + (number - (len(groups) - 1) / 2) * thick
        bars = panel.barh(
            places, counts, height=thick * 0.92, color=LINES[number], label=f"{name} ({len(groups[name])})"
        )
        total = max(len(labels), 1)
        panel.bar_label(bars, [f" {count} ({count / total:.0%})" for count in counts], fontsize=8)
    panel.set_yticks(np.arange(len(classes)), classes)
    panel.invert_yaxis()
    panel.set_xlim(0, most * 1.18)
    panel.set_xlabel("cases (share of the split)" if splits else "cases (share)")
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    missing = int(table["label"].isna().sum())
    if missing or title:
        panel.set_title(title or f"{missing} cases have no label", fontsize=11)
    tidy(panel)
    return figure


def _best_epoch(table: pd.DataFrame, epochs: np.ndarray) -> float | None:
    """The epoch with the highest validation AUC or Dice, of equals the least loss; None without validation."""
    columns = [name for name in ("val_auc", "val_dice", "val_loss") if name in table and table[name].notna().any()]
    if not columns:
        return None
    order = table.sort_values(
        columns, ascending=[name == "val_loss" for name in columns], kind="stable", na_position="last"
    )
    return float(epochs[table.index.get_loc(order.index[0])])
