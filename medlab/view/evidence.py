"""Evidence: similar cases, slices that decided and classes of a segmentation as pictures.

In: images and what ``medlab.explain`` says of them. Out: matplotlib figures, made as in ``medlab.view.figures``. It
computes no explanation: every number comes from what it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from medlab.view import slices
from medlab.view.figures import (
    LINES,
    Axes,
    Figure,
    Patch,
    color_bar,
    new_figure,
    tidy,
)
from medlab.view.images import each, volumes_of, wrapped
from medlab.view.rows import SIDE, rows_of, show_picture, tallest
from medlab.volume import Volume

Images = ArrayLike | Sequence[Volume | ArrayLike]

_SAME, _OTHER = LINES[2], LINES[1]


def similar_cases(
    images: Images,
    library: Images,
    similar: Any,
    labels: Sequence[Any] | None = None,
    library_labels: Sequence[Any] | None = None,
    *,
    window: tuple[float, float] | None = None,
    axis: str | int = "axial",
    title: str = "",
) -> Figure:
    """For each case a row: the case and its nearest neighbors, with their distances.

    Args:
        images: (n, i, j[, k], c), or n Volumes or arrays.
        library: (m, i, j[, k], c), or m Volumes or arrays, in which the neighbors are.
        similar: what :func:`medlab.explain.similar_cases` gave for these images: ``indices`` (n, k), -1 for none, and
            ``distances`` (n, k).
        labels: n classes of the cases, or None.
        library_labels: m classes of the library, or None. With both, a frame tells whether a neighbor has the class of
            the case: full where it has, dashed where it has not.
        window: (center, width) for all; None: each image its own.
        axis: how volumes are cut, in the middle.
        title: a line above all.

    Raises:
        ValueError: no image, indices of another number or outside of the library, or labels of another number.
    """
    cases = volumes_of(images)
    indices, distances = np.asarray(similar.indices), np.asarray(similar.distances)
    if indices.shape != distances.shape or indices.ndim != 2 or len(indices) != len(cases):
        raise ValueError(
            f"Expected neighbors of {len(cases)} cases, (n, k). Received indices {indices.shape} and distances "
            f"{distances.shape}."
        )
    if indices.size and not -1 <= indices.min() <= indices.max() < len(library):
        raise ValueError(f"Expected neighbors among {len(library)} cases. Received numbers up to {indices.max()}.")
    names = each(labels, len(cases), "labels")
    others = each(library_labels, len(library), "library labels")
    figure, panels = rows_of(cases, 1 + indices.shape[1], axis, title, legend=None not in (labels, library_labels))
    for row, (line, case, name) in enumerate(zip(panels, cases, names, strict=True)):
        show_picture(line[0], case, axis, window, "" if name is None else str(name))
        for panel, index, distance in zip(line[1:], indices[row], distances[row], strict=True):
            if index < 0:
                panel.set_axis_off()
                continue
            other = volumes_of([library[index]])[0] if not isinstance(library, np.ndarray) else _one(library, index)
            about = [] if others[index] is None else [str(others[index])]
            show_picture(panel, other, axis, window, "\n".join([*about, f"distance {distance:.3g}"]))
            if name is not None and others[index] is not None:
                _frame(panel, same=name == others[index])
        line[0].set_ylabel(f"case {row}", fontsize=9)
    panels[0, 0].set_title("\n".join(filter(None, ["The case", panels[0, 0].get_title()])), fontsize=9)
    if None not in (labels, library_labels):
        keys = [_key(same=True), _key(same=False)]
        names = ["same class", "another class"]
        figure.legend(keys, names, loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    return figure


def slice_importance(
    volumes: Images,
    importance: ArrayLike,
    masks: ArrayLike | Sequence[Any] | None = None,
    titles: Sequence[str] | None = None,
    *,
    axis: int = 2,
    pictures: int = 3,
    window: tuple[float, float] | None = None,
    what: str = "importance",
    title: str = "",
) -> Figure:
    """For each volume a row: a bar a slice, and beside it the slices that count most.

    Args:
        volumes: (n, i, j, k, c), or n Volumes or arrays.
        importance: (n, slices), such as :func:`medlab.explain.slice_importance` gives; below 0 is drawn downward.
        masks: n masks, outlined on the slices; the slices that they touch are underlined.
        titles: a line for each volume.
        axis: of the array along which the slices lie, 0, 1 or 2.
        pictures: how many slices are shown, from 1.
        window: (center, width) for all; None: each volume its own.
        what: name of the bars' axis.
        title: a line above all.

    Raises:
        ValueError: no volume, not as many numbers as slices, or masks or titles of another number.
    """
    found = volumes_of(volumes)
    shares = np.asarray(importance, np.float64)
    if axis not in (0, 1, 2):
        raise ValueError(f"Expected an axis of 0, 1 or 2. Received {axis!r}.")
    counts = [slices.slice_count(volume, axis) for volume in found]
    if shares.ndim != 2 or len(shares) != len(found) or set(counts) != {shares.shape[1]}:
        raise ValueError(
            f"Expected a number for each slice, ({len(found)}, {counts[0]}). Received shape {shares.shape}."
        )
    pictures = max(1, min(pictures, shares.shape[1]))
    marks, names = each(masks, len(found), "masks"), each(titles, len(found), "titles")
    tall = tallest(found, axis)
    figure = new_figure(3.6 + pictures * SIDE, len(found) * (SIDE * tall + 0.5) + 0.35 * bool(title) + 0.3)
    panels = figure.subplots(len(found), 1 + pictures, squeeze=False, width_ratios=[1.8] + [1] * pictures)
    for line, volume, share, mask, name in zip(panels, found, shares, marks, names, strict=True):
        order = np.argsort(-share, kind="stable")[:pictures]
        colors = np.where(np.isin(np.arange(len(share)), order), LINES[0], "0.75")
        line[0].bar(np.arange(len(share)), share, width=0.9, color=colors)
        line[0].axhline(0, color="0.4", linewidth=0.8)
        line[0].set_ylabel(what, fontsize=9)
        line[0].set_title("" if name is None else wrapped(name, 40), fontsize=9)
        line[0].margins(x=0.02)
        tidy(line[0])
        if mask is not None:
            within = slices.fitting(mask, volume, "mask").any(axis=tuple({0, 1, 2} - {axis}))
            low, high = line[0].get_ylim()
            place = low - 0.05 * (high - low)
            line[0].plot(np.flatnonzero(within), np.full(within.sum(), place), "s", color=_OTHER, markersize=4,
                         clip_on=False)  # fmt: skip
            line[0].set_ylim(low - 0.1 * (high - low), high)
        for panel, index in zip(line[1:], order, strict=True):
            show_picture(panel, volume, axis, window, f"slice {index}: {share[index]:.3g}", index=int(index), mask=mask)
    panels[-1, 0].set_xlabel("slice" + ("; squares: the finding lies in it" if masks is not None else ""), fontsize=9)
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def class_maps(
    images: Images,
    maps: ArrayLike,
    classes: Sequence[str] | None = None,
    masks: ArrayLike | Sequence[Any] | None = None,
    titles: Sequence[str] | None = None,
    *,
    labels: Sequence[int] | None = None,
    window: tuple[float, float] | None = None,
    axis: str | int = "axial",
    title: str = "",
    alpha: float = 0.6,
) -> Figure:
    """For each case a row: the image, and for every class of a segmentation what spoke for it, its region outlined.

    Args:
        images: (n, i, j[, k], c), or n Volumes or arrays.
        maps: (n, classes, i, j[, k]) >= 0, such as :func:`medlab.explain.class_maps` gives.
        classes: the classes' names.
        masks: n label maps, in which the number of each class is its region.
        titles: a line for each case.
        labels: the classes' numbers in ``masks``; None: 0, 1, 2, ...
        window: (center, width) for all; None: each image its own.
        axis: how volumes are cut: each class at the slice with the most of its region, else the most heat.
        title: a line above all.
        alpha: opacity of the heat map, 0 to 1.

    Returns:
        The figure; each heat map is colored from 0 to its own maximum.

    Raises:
        ValueError: no image, or maps, masks, names or titles of another number.
    """
    cases = volumes_of(images)
    heats = np.asarray(maps)
    if heats.ndim < 4 or len(heats) != len(cases):
        raise ValueError(f"Expected maps ({len(cases)}, classes, i, j[, k]). Received shape {heats.shape}.")
    numbers = list(range(heats.shape[1])) if labels is None else list(labels)
    names = [f"class {number}" for number in numbers] if classes is None else list(classes)
    if not len(numbers) == len(names) == heats.shape[1]:
        raise ValueError(f"Expected {heats.shape[1]} classes. Received {len(numbers)} labels and {len(names)} names.")
    marks, above = each(masks, len(cases), "masks"), each(titles, len(cases), "titles")
    figure, panels = rows_of(cases, 1 + len(names), axis, title, beside=1.0 + 0.9 * (titles is not None))
    for line, case, heat, mask, name in zip(panels, cases, heats, marks, above, strict=True):
        regions = [None if mask is None else np.asarray(mask) == number for number in numbers]
        show_picture(line[0], case, axis, window)
        for panel, hot, region in zip(line[1:], heat, regions, strict=True):
            shown = region if region is not None and region.any() else None
            index = None if case.rank == 2 else slices.telling_index(case, axis, mask=shown, heat=hot)
            nothing = "" if hot.any() else "no heat"
            show_picture(panel, case, axis, window, index=index, mask=shown, heat=hot, alpha=alpha)
            panel.set_xlabel(nothing, fontsize=8)
        if name:
            line[0].set_ylabel(wrapped(name, 20), fontsize=9, rotation=0, ha="right", va="center")
    for panel, kind in zip(panels[0], ["Image", *names], strict=True):
        panel.set_title(kind, fontsize=10)
    color_bar(figure, list(panels.ravel()))
    return figure


def _one(library: np.ndarray, index: int) -> Volume:
    return volumes_of(library[index : index + 1])[0]


def _frame(panel: Axes, *, same: bool) -> None:
    panel.spines[:].set(visible=True, color=_SAME if same else _OTHER, linewidth=2.5, linestyle="-" if same else "--")


def _key(*, same: bool) -> Patch:
    color = _SAME if same else _OTHER
    return Patch(facecolor="none", edgecolor=color, linewidth=2.5, linestyle="-" if same else "--")
