"""Segmentations as figures: truth beside prediction, every case's score, and how volumes agree.

In: images and label maps, a Segmentation. Out: matplotlib figures, made as in ``medlab.view.figures``.
It computes no score: every number comes from the object that it draws; limits of agreement are the figure's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from medlab.view import slices
from medlab.view.figures import (
    LINES,
    Axes,
    Figure,
    class_name,
    color_legend,
    draw_picture,
    enlargement,
    extent,
    new_figure,
    tidy,
)
from medlab.view.images import each, volumes_of, wrapped
from medlab.volume import Volume

# Labels whose colors stand for an error, after those of the first four structures.
_MISSED, _EXTRA, _CONFUSED = 5, 6, 7
_ERRORS = {_MISSED: "missed", _EXTRA: "too much", _CONFUSED: "another structure"}
_MARKERS = {"found": "o", "misplaced": "s", "missed": "X", "hallucinated": "D"}
_LABELS = {
    "dice": "Dice", "iou": "intersection over union", "hd95": "Hausdorff distance, 95th percentile (mm)",
    "hd": "Hausdorff distance (mm)", "assd": "average surface distance (mm)", "nsd": "surface Dice within tolerance",
}  # fmt: skip


def compare_masks(
    images: Volume | ArrayLike | Sequence[Volume | ArrayLike],
    truth: ArrayLike | Sequence[Volume | ArrayLike],
    prediction: ArrayLike | Sequence[Volume | ArrayLike],
    classes: Sequence[str] | None = None,
    titles: Sequence[str] | None = None,
    *,
    window: tuple[float, float] | None = None,
    axis: str | int = "axial",
    title: str = "",
    alpha: float = 0.35,
) -> Figure:
    """For each case a row: the image, the truth, the prediction, and where they differ; structures named below.

    Args:
        images: n Volumes or arrays, or an array (n, i, j[, k], c).
        truth: n label maps; 0 is background, a negative value a voxel of unknown truth, not shown.
        prediction: n label maps.
        classes: the structures' names, that of label 1 first (a first "background" is passed over).
        titles: a line for each case.
        window: (center, width) for all; None: each image its own.
        axis: how volumes are cut, at the slice with the most truth, else the most prediction.
        title: a line above all.
        alpha: opacity of the masks' inside, 0 to 1.

    Returns:
        The figure. The sides of the patient and a scale bar stand on the image where they are known.

    Raises:
        ValueError: no image, label maps or titles of another number, or label maps that do not fit the image.
    """
    volumes = volumes_of([images] if isinstance(images, Volume) else images)
    count = len(volumes)
    truths, guesses = each(truth, count, "truth"), each(prediction, count, "prediction")
    names = each(titles, count, "titles")
    tall = min(2.0, max(np.divide(*extent(volume, axis)) for volume in volumes))
    side = 2.3
    figure = new_figure(
        side * 4 + (1.3 if titles is not None else 0), count * (side * tall - 0.02) + 0.6 + 0.3 * bool(title)
    )
    panels = figure.subplots(count, 4, squeeze=False)
    shown: set[int] = set()
    for line, volume, real, guess, name in zip(panels, volumes, truths, guesses, names, strict=True):
        real, guess = (_labels(mask, volume, what) for mask, what in ((real, "truth"), (guess, "prediction")))
        known = real >= 0
        real, guess = np.where(known, real, 0), np.where(known, guess, 0)
        wrong = np.select(
            [(real > 0) & (guess == 0), (real == 0) & (guess > 0), real != guess], [_MISSED, _EXTRA, _CONFUSED], 0
        )
        index = slices.telling_index(volume, axis, mask=real if real.any() else guess)
        common = {"axis": axis, "index": index, "window": window, "scale": enlargement(volume, axis), "alpha": alpha}
        for place, (panel, mask) in enumerate(zip(line, (None, real, guess, wrong), strict=True)):
            picture = slices.slice_image(volume, mask=mask, **common)
            draw_picture(panel, volume, picture, axis, marks=place == 0, size=9)
        shown |= set(np.unique(real)) | set(np.unique(guess))
        if name:
            line[0].set_ylabel(wrapped(name, 18), fontsize=9, rotation=0, ha="right", va="center")
    for panel, kind in zip(panels[0], ("Image", "Truth", "Prediction", "Difference"), strict=True):
        panel.set_title(kind, fontsize=10)
    labels = sorted(int(label) for label in shown if label > 0)
    color_legend(figure, {label: class_name(classes, label) for label in labels} | _ERRORS)
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def segment_scores(evaluation: Any, metric: str = "dice", *, title: str = "") -> Figure:
    """One measure of every case by structure, with quartiles; the worst cases carry their number.

    Args:
        evaluation: a Segmentation of :func:`medlab.evaluate.segmentation`.
        metric: ``"dice"``, ``"iou"``, ``"nsd"``, ``"hd95"``, ``"hd"`` or ``"assd"``.
        title: a line above.

    Raises:
        ValueError: no such measure.
    """
    _check(metric)
    figure = new_figure(max(4.0, 1.6 + 1.5 * len(evaluation.classes)), 4.2)
    _scores(figure.add_subplot(), evaluation, metric)
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def agreement(
    truth: ArrayLike, prediction: ArrayLike, *, unit: str = "", what: str = "volume", title: str = ""
) -> Figure:
    """Bland and Altman's plot: the difference of two measurements against their mean, with 95 % limits of agreement.

    Args:
        truth: (n,) measurements.
        prediction: (n,) measurements of the same cases.
        unit: of both, such as ``"ml"``.
        what: what was measured.
        title: a line above.

    Raises:
        ValueError: no case, or not as many predictions as truths.

    Source: Bland and Altman, Lancet 1986;327:307.
    """
    truth, prediction = np.asarray(truth, np.float64), np.asarray(prediction, np.float64)
    if truth.shape != prediction.shape or truth.ndim != 1 or not truth.size:
        raise ValueError(
            f"Expected two measurements of each case, at least one. Received {truth.shape} and {prediction.shape}."
        )
    figure = new_figure(5.0, 3.8)
    _agreement(figure.add_subplot(), truth, prediction, unit, what, LINES[0])
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def segmentation_grid(evaluation: Any, *, metric: str = "dice", title: str = "") -> Figure:
    """One measure of every case by structure, and for each structure how predicted and true volumes agree.

    Args:
        evaluation: a Segmentation of :func:`medlab.evaluate.segmentation`.
        metric: as :func:`segment_scores`.
        title: a line above.

    Raises:
        ValueError: no such measure.
    """
    _check(metric)
    names = [name for name in evaluation.classes if len(_rows(evaluation, name))]
    count = 1 + len(names)
    columns = min(count, 3 if count != 4 else 2)
    rows = -(-count // columns)
    figure = new_figure(4.2 * columns, 3.7 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    _scores(panels[0], evaluation, metric)
    what = "volume" if evaluation.unit == "ml" else "area"
    for number, (panel, name) in enumerate(zip(panels[1:], names, strict=False)):
        part = _rows(evaluation, name)
        _agreement(panel, part["volume_truth"].to_numpy(), part["volume_prediction"].to_numpy(), evaluation.unit,
                   f"{what} of {name}", LINES[number % len(LINES)])  # fmt: skip
    for panel in panels[count:]:
        panel.set_axis_off()
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def _check(metric: str) -> None:
    if metric not in _LABELS:
        raise ValueError(f"Expected a metric among {', '.join(_LABELS)}. Received {metric!r}.")


def _labels(mask: Any, volume: Volume, what: str) -> np.ndarray:
    array = np.asarray(slices.fitting(mask, volume, what))
    return np.rint(array).astype(np.int64) if array.dtype.kind == "f" else array.astype(np.int64)


def _rows(evaluation: Any, name: str) -> pd.DataFrame:
    cases = evaluation.cases
    return cases[(cases["class"] == name) & (cases["state"] != "absent")]


def _scores(panel: Axes, evaluation: Any, metric: str) -> None:
    share = metric in ("dice", "iou", "nsd")
    values = evaluation.cases.loc[evaluation.cases["state"] != "absent", metric]
    finite = values[np.isfinite(values)]
    top = 1.0 if share else max(float(finite.max()) if len(finite) else 1.0, 1e-3) * 1.12
    seen: dict[str, Any] = {}
    for place, name in enumerate(evaluation.classes):
        part = _rows(evaluation, name)
        if not len(part):
            continue
        heights = part[metric].clip(upper=top).to_numpy()
        order = np.argsort(np.argsort(heights, kind="stable"), kind="stable")
        across = place + 0.3 * (((order * 0.6180339887) % 1) - 0.5)  # spread evenly, the same each time
        for state, marker in _MARKERS.items():
            there = (part["state"] == state).to_numpy()
            if there.any():
                color = LINES[place % len(LINES)] if state == "found" else "black"
                seen[state] = panel.scatter(across[there], heights[there], s=22, marker=marker, color=color, alpha=0.6,
                                            linewidths=0)  # fmt: skip
        low, middle, high = np.quantile(heights, [0.25, 0.5, 0.75])
        panel.plot([place + 0.28] * 2, [low, high], color="black", linewidth=4, alpha=0.5, solid_capstyle="butt")
        panel.plot([place + 0.2, place + 0.36], [middle, middle], color="black", linewidth=2)
        worst = np.argsort(heights if share else -heights, kind="stable")[:1]
        for row in worst:
            panel.annotate(f"case {part['case'].iloc[row]}", (across[row], heights[row]), fontsize=8, ha="center",
                           xytext=(0, -6 if share else 6), textcoords="offset points",
                           va="top" if share else "bottom")  # fmt: skip
    panel.set_xticks(range(len(evaluation.classes)), [_title(evaluation, name, metric) for name in evaluation.classes])
    panel.set_xlim(-0.6, len(evaluation.classes) - 0.4)
    panel.set_ylim(-0.08 * top, top * (1.03 if share else 1.1))
    panel.set_ylabel(_LABELS[metric])
    if not share and np.isinf(values).any():
        panel.axhline(top, color="0.6", linewidth=1, linestyle=":")
        panel.annotate("infinite", (0, top), xycoords=("axes fraction", "data"), xytext=(3, -3), fontsize=8,
                       textcoords="offset points", va="top")  # fmt: skip
    if set(seen) - {"found"}:
        seen.pop("found", None)
        panel.legend(seen.values(), seen.keys(), fontsize=8, frameon=False, loc="best")
    tidy(panel)
    panel.set_title("Every case; the bar spans the quartiles", fontsize=10)


def _title(evaluation: Any, name: str, metric: str) -> str:
    row = evaluation.per_class.loc[(name, metric)]
    if pd.isna(row["value"]):
        return f"{name}\nin no case"
    limits = "" if pd.isna(row["low"]) else f"\n({row['low']:.3g} to {row['high']:.3g})"
    return f"{name}\nmean {row['value']:.3g}{limits}"


def _agreement(panel: Axes, truth: np.ndarray, prediction: np.ndarray, unit: str, what: str, color: str) -> None:
    middle, difference = (truth + prediction) / 2, prediction - truth
    panel.scatter(middle, difference, s=20, color=color, alpha=0.65, linewidths=0)
    panel.axhline(0, color="0.6", linewidth=1)
    bias = difference.mean()
    lines = [("bias", bias, "-")]
    if len(difference) > 1:
        spread = 1.96 * difference.std(ddof=1)
        lines += [("bias + 1.96 SD", bias + spread, "--"), ("bias - 1.96 SD", bias - spread, "--")]
    for name, height, style in lines:
        panel.axhline(height, color="black", linewidth=1, linestyle=style)
        # On both sides and away from each other: where cases agree, the lines lie close together.
        side, up = (0 if name == "bias" else 1), (-1 if "-" in name else 1)
        panel.annotate(f"{name} {height:+.3g}", (side, height), xycoords=("axes fraction", "data"), fontsize=8,
                       xytext=(3 - 6 * side, 2 * up), textcoords="offset points", ha="right" if side else "left",
                       va="bottom" if up > 0 else "top")  # fmt: skip
    low, high = panel.get_ylim()
    panel.set_ylim(low - 0.08 * (high - low), high + 0.08 * (high - low))  # room for the lines' names
    in_unit = f" ({unit})" if unit else ""
    panel.set_xlabel(f"mean of prediction and truth{in_unit}")
    panel.set_ylabel(f"prediction minus truth{in_unit}")
    panel.set_title(f"{what[:1].upper()}{what[1:]}", fontsize=10)
    tidy(panel)
