"""Curves: how accurate, calibrated and stable a model is.

In: an Evaluation, a Stability. Out: matplotlib figures, made as in ``medlab.view.figures``.
It computes no metric: every number comes from the object that it draws.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from medlab.view.figures import Axes, Figure, line_style, metric_label, new_figure, tidy


def roc(evaluation: Any) -> Figure:
    """Sensitivity against 1 - specificity at every threshold, with the area below it and its interval."""
    return _alone(evaluation, _roc)


def precision_recall(evaluation: Any) -> Figure:
    """Positive predictive value against sensitivity at every threshold, with the prevalence as the line of chance."""
    return _alone(evaluation, _precision_recall)


def reliability(evaluation: Any) -> Figure:
    """How often the predicted class was right against how sure the model was; below, how many cases each bin has."""
    return _alone(evaluation, _reliability)


def confusion(evaluation: Any) -> Figure:
    """True against predicted classes: counts, and shares of each true class."""
    return _alone(evaluation, _confusion)


def evaluation_grid(evaluation: Any, *, title: str = "") -> Figure:
    """ROC, precision-recall, reliability and confusion of one evaluation, as far as it has them."""
    draw = {"roc": _roc, "precision_recall": _precision_recall, "reliability": _reliability, "confusion": _confusion}
    there = [function for name, function in draw.items() if name in evaluation.curves]
    if not there:
        raise ValueError(f"Expected an evaluation with curves of {list(draw)}. It has {list(evaluation.curves)}.")
    rows = -(-len(there) // 2)
    figure = new_figure(9.5 if len(there) > 1 else 5.0, 4.3 * rows)
    axes = figure.subplots(rows, min(2, len(there)), squeeze=False).ravel()
    for panel, function in zip(axes, there, strict=False):
        function(panel, evaluation)
    for panel in axes[len(there) :]:
        panel.set_axis_off()
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def stability_curve(stability: Any, *, metric: str = "auc", title: str = "") -> Figure:
    """The metric against the severity of each artifact, with intervals; severity 0 is the clean images.

    Args:
        stability: an object with ``.table``, or the table itself: columns or index levels artifact and severity, and
            ``<metric>`` or ``value``, and where there are intervals ``low`` and ``high``.
        metric: the name of the metric's column and of the axis.
        title: a line above.

    Raises:
        ValueError: the table has not these columns.
    """
    table = getattr(stability, "table", stability)
    table = table.reset_index() if {"artifact", "severity"} - set(table.columns) else table
    column = "value" if "value" in table else metric
    missing = {"artifact", "severity", column} - set(table.columns)
    if missing:
        raise ValueError(f"Expected the columns artifact, severity and {metric}. Missing: {sorted(missing)}.")
    figure = new_figure(8.0, 4.4)
    panel = figure.add_subplot()
    clean = table[table["severity"] == 0]
    start = clean.iloc[0] if len(clean) else None
    names = [
        name for name in table["artifact"].unique() if ((table["artifact"] == name) & (table["severity"] > 0)).any()
    ]
    for number, name in enumerate(names):
        rows = table[(table["artifact"] == name) & (table["severity"] > 0)].sort_values("severity")
        if start is not None:
            rows = pd.concat([clean.head(1), rows])
        style = line_style(number)
        panel.plot(rows["severity"], rows[column], marker="o", markersize=4, label=str(name), **style)
        if {"low", "high"} <= set(rows.columns):
            panel.fill_between(
                rows["severity"], rows["low"], rows["high"], color=style["color"], alpha=0.10, linewidth=0
            )
    if start is not None:
        panel.axhline(start[column], color="0.5", linewidth=1, linestyle=":")
    if metric == "auc":
        panel.axhline(0.5, color="0.6", linewidth=1)
        panel.annotate("chance", (1, 0.5), xycoords=("axes fraction", "data"), xytext=(-4, 3), fontsize=8, color="0.35",
                       textcoords="offset points", ha="right")  # fmt: skip
    panel.set_xticks(sorted(set(table["severity"]) | ({0} if start is not None else set())))
    panel.set_xlabel("severity of the artifact (0: clean images)")
    panel.set_ylabel(metric_label(metric))
    figure.legend(loc="outside right upper", fontsize=9, frameon=False)
    tidy(panel)
    panel.set_title(title or f"{metric_label(metric)} under artifacts", fontsize=11)
    return figure


def _alone(evaluation: Any, draw: Any) -> Figure:
    figure = new_figure(4.8, 4.4)
    draw(figure.add_subplot(), evaluation)
    return figure


def _curve(evaluation: Any, name: str) -> Any:
    if name not in evaluation.curves:
        raise ValueError(f"This evaluation has no {name} curve. It has {list(evaluation.curves)}.")
    return evaluation.curves[name]


def _by_class(curve: pd.DataFrame) -> list[tuple[str, pd.DataFrame, dict[str, str]]]:
    """For each class its name, its rows and how its line looks."""
    curve = pd.DataFrame(curve)
    if "class" not in curve:
        return [("model", curve, line_style(0))]
    groups = curve.groupby("class", sort=False)
    return [(_short(name), rows, line_style(number)) for number, (name, rows) in enumerate(groups)]


def _metric(evaluation: Any, name: str) -> str:
    """A metric with its interval, such as ``"0.912 (0.880 to 0.940)"``; empty where it was not measured."""
    table = evaluation.table
    if name not in table.index or pd.isna(table.loc[name, "value"]):
        return ""
    row = table.loc[name]
    bounds = (
        f" ({row['low']:.3f} to {row['high']:.3f})" if pd.notna(row.get("low")) and pd.notna(row.get("high")) else ""
    )
    return f"{row['value']:.3f}{bounds}"


def _roc(panel: Axes, evaluation: Any) -> None:
    panel.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--", label="chance")
    for name, curve, style in _by_class(_curve(evaluation, "roc")):
        panel.plot(curve["fpr"], curve["tpr"], **style, linewidth=2, label=name)
    panel.set_xlabel("1 - specificity (false positive rate)")
    panel.set_ylabel("sensitivity (true positive rate)")
    _square(panel, "ROC", "AUC", _metric(evaluation, "auc"), "lower right")


def _precision_recall(panel: Axes, evaluation: Any) -> None:
    curves = _by_class(_curve(evaluation, "precision_recall"))
    for name, curve, style in curves:
        panel.plot(curve["recall"], curve["precision"], **style, linewidth=2, label=name)
    if len(curves) == 1:
        # Where all are called positive the recall is 1 and the precision the prevalence, the least at that recall.
        rows = curves[0][1]
        prevalence = rows.loc[rows["recall"] == rows["recall"].max(), "precision"].min()
        panel.axhline(
            prevalence, color="0.6", linewidth=1, linestyle="--", label=f"all called positive, {prevalence:.2f}"
        )
    panel.set_xlabel("recall (sensitivity)")
    panel.set_ylabel("precision (positive predictive value)")
    _square(panel, "Precision-recall", "average precision", _metric(evaluation, "average_precision"), "lower left")


def _reliability(panel: Axes, evaluation: Any) -> None:
    panel.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--", label="calibrated")
    for name, curve, style in _by_class(_curve(evaluation, "reliability")):
        rows = curve[(curve["count"] > 0)].dropna(subset=["confidence", "accuracy"])
        panel.plot(rows["confidence"], rows["accuracy"], **style, linewidth=1)
        share = rows["count"] / max(curve["count"].sum(), 1)
        panel.scatter(
            rows["confidence"], rows["accuracy"], s=15 + 350 * share, color=style["color"], alpha=0.7, label=name
        )
    panel.set_xlabel("predicted probability (area: cases in the bin)")
    panel.set_ylabel("observed frequency")
    _square(panel, "Reliability", "ECE", _metric(evaluation, "ece"), "upper left")


def _confusion(panel: Axes, evaluation: Any) -> None:
    table = _curve(evaluation, "confusion")
    if not isinstance(table, pd.DataFrame):
        table = pd.DataFrame(table["matrix"], index=table["classes"], columns=table["classes"])
    names = {"tn": "true\nnegative", "fp": "false\npositive", "fn": "false\nnegative", "tp": "true\npositive"}
    multi_label = set(table.columns) == set(names)
    rows, columns = ([names.get(name, _short(name)) for name in axis] for axis in (table.index, table.columns))
    matrix = table.to_numpy()
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    panel.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto" if multi_label else "equal")
    if len(rows) <= 14:
        size = 11 if len(rows) <= 4 else 7
        for (i, j), count in np.ndenumerate(matrix):
            text = f"{count:g}" + (f"\n{share[i, j]:.0%}" if len(rows) <= 6 else "")
            panel.text(
                j, i, text, ha="center", va="center", fontsize=size, color="white" if share[i, j] > 0.5 else "black"
            )
    turn = not multi_label and (len(columns) > 3 or max(map(len, columns)) > 14)
    panel.set_xticks(
        range(len(columns)), columns, fontsize=8, rotation=45 if turn else 0, ha="right" if turn else "center"
    )
    panel.set_yticks(range(len(rows)), rows, fontsize=8)
    panel.set_xlabel("" if multi_label else "predicted class")
    panel.set_ylabel("label" if multi_label else "true class")
    accuracy = _metric(evaluation, "accuracy")
    panel.set_title("Confusion" + (f"\naccuracy {accuracy}" if accuracy else ""), fontsize=11)


def _short(name: Any) -> str:
    """A class's name in at most 20 characters."""
    text = str(name)
    return text if len(text) <= 20 else text[:19] + "…"


def _square(panel: Axes, title: str, metric: str, value: str, corner: str) -> None:
    panel.set_xlim(-0.01, 1.01)
    panel.set_ylim(-0.01, 1.01)
    panel.set_aspect("equal")
    panel.set_title(title + (f"\n{metric} {value}" if value else ""), fontsize=11)
    panel.legend(loc=corner, fontsize=8 if len(panel.get_legend_handles_labels()[0]) < 8 else 6, frameon=False)
    tidy(panel)
