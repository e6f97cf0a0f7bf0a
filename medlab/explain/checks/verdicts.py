"""Verdicts: which methods of a table of scores may be believed, and whether one is better than another.

In: the tables of ``medlab.explain.score`` and ``score_cases``. Out: words and paired differences with intervals.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from medlab.explain.checks.intervals import mean_with_interval

Answer = Literal["passes", "fails", "unclear", "not measured"]
FLOORS = ("random", "edges")
CEILING = "mask"
# A map of a model that forgot may be this much like the map before, and maps of two good models must be: chosen.
ALIKE = 0.5
# What is better: higher than the floors, or lower.
_HIGHER = {"localization": ("pixel_auprc", "mass_inside", "pointing_game", "iou"),
           "faithfulness": ("insertion", "road", "mu_fidelity")}  # fmt: skip
_SANITY = ("randomization", "cascade", "label_randomization")
_ROBUSTNESS = ("repeatability", "reproducibility")


def verdict(
    table: pd.DataFrame, *, cases: pd.DataFrame | None = None, alike: float = ALIKE, groups: ArrayLike | None = None
) -> pd.DataFrame:
    """For each method whether it passes, in words, with the sentence that says why.

    - sanity: the maps of networks that forgot (randomization, cascade, label_randomization) are less alike than
      ``alike``, in size: a map that is kept upside down (-0.9) is kept. A method that fails draws the image, not the
      model. Likeness of both signs cancels in a mean over cases; with ``cases`` its size is averaged.
    - localization: more than both floors in pixel_auprc (or, where that was not measured, in mass_inside,
      pointing_game, iou, the first there is).
    - faithfulness: more than both floors in insertion (or road, or mu_fidelity).
    - robustness: repeatability and reproducibility of at least ``alike``.

    An answer is "passes" or "fails" where the whole interval lies on one side (beside a floor: where the two intervals
    do not overlap), "unclear" where it does not. Two intervals that overlap may still differ case by case: with
    ``cases``, methods and floors are compared in pairs (:func:`difference`), which sees more: "passes" where the
    interval of the difference lies above 0, "fails" where none of it does.

    Args:
        table: of :func:`medlab.explain.score`.
        cases: of :func:`medlab.explain.score_cases`, for the comparison with the floors.
        alike: the threshold of likeness, 0 to 1 (chosen: 0.5).
        groups: (n,) such as patients, for ``cases``; resampled whole.

    Returns:
        One row a method, floors and ceiling left out. Columns sanity, localization, faithfulness, robustness (each
        "passes", "fails", "unclear" or "not measured"), verdict ("fails" where one of them does, "passes" where all
        that were measured do, sanity among them, else "unclear") and why.

    Raises:
        ValueError: it is no such table.
    """
    _check(table)
    rows = {}
    for method in table.index.unique("method"):
        if method in (*FLOORS, CEILING):
            continue
        found = {
            "sanity": [_below(table, method, name, alike, cases, groups) for name in _SANITY],
            "localization": _over_floors(table, method, _HIGHER["localization"], cases, groups),
            "faithfulness": _over_floors(table, method, _HIGHER["faithfulness"], cases, groups),
            "robustness": [_above(table, method, name, alike) for name in _ROBUSTNESS],
        }
        answers = {name: _worst([answer for answer, _ in results]) for name, results in found.items()}
        reasons = [why for results in found.values() for answer, why in results if answer in ("fails", "unclear")]
        overall = _worst(list(answers.values()))
        if overall == "passes" and answers["sanity"] == "not measured":
            overall = "unclear"
            reasons.append("sanity was not measured")
        rows[method] = {**answers, "verdict": overall, "why": "; ".join(reasons)}
    columns = ["sanity", "localization", "faithfulness", "robustness", "verdict", "why"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("method")


def difference(
    cases: pd.DataFrame,
    score: str,
    method: str,
    other: str,
    *,
    seed: int = 0,
    n_boot: int = 1000,
    confidence: float = 0.95,
    groups: ArrayLike | None = None,
) -> pd.Series:
    """By how much ``method`` scores more than ``other`` on the same cases, with its interval.

    Args:
        cases: of :func:`medlab.explain.score_cases`.
        score: such as ``"pixel_auprc"``.
        method: such as ``"grad_cam"``.
        other: such as ``"edges"``.
        seed: of the resampling.
        n_boot: resamples of the percentile bootstrap of the mean difference.
        confidence: of the interval, between 0 and 1.
        groups: (n,) such as patients, resampled whole.

    Returns:
        value, low, high, n; n counts the cases where both are defined. 0 outside the interval: they differ.

    Raises:
        ValueError: there is no such method or score in ``cases``.
    """
    for name in (method, other):
        if (name, score) not in cases.columns:
            there = ", ".join(f"{one} {title}" for one, title in cases.columns)
            raise ValueError(f"There is no score {score!r} of {name!r}. There are: {there}.")
    apart = cases[(method, score)].to_numpy() - cases[(other, score)].to_numpy()
    found = mean_with_interval(apart, seed=seed, n_boot=n_boot, confidence=confidence, groups=groups)
    return pd.Series(dict(zip(("value", "low", "high", "n"), found, strict=True)), name=f"{method} - {other}, {score}")


def _check(table: pd.DataFrame) -> None:
    if list(table.index.names) != ["method", "score"] or not {"value", "low", "high", "n"} <= set(table.columns):
        raise ValueError(
            "Expected the table of `explain.score`: rows by method and score, columns value, low, high and n. Received "
            f"rows by {list(table.index.names)} and columns {list(table.columns)}."
        )


def _bounds(table: pd.DataFrame, method: str, score: str) -> tuple[float, float, float] | None:
    """Value, low and high; low and high are the value where a single case has no interval; None without a value."""
    if (method, score) not in table.index:
        return None
    value, low, high = table.loc[(method, score), ["value", "low", "high"]].astype(float)
    if np.isnan(value):
        return None
    return value, (value if np.isnan(low) else low), (value if np.isnan(high) else high)


def _above(table: pd.DataFrame, method: str, score: str, limit: float) -> tuple[Answer, str]:
    """Whether the interval lies at ``limit`` or above."""
    bounds = _bounds(table, method, score)
    if bounds is None:
        return "not measured", ""
    value, low, high = bounds
    answer: Answer = "passes" if low >= limit else "fails" if high < limit else "unclear"
    return answer, f"{score} {value:.2f} ({low:.2f} to {high:.2f}), should be above {limit:g}"


def _below(
    table: pd.DataFrame, method: str, score: str, limit: float, cases: pd.DataFrame | None, groups: ArrayLike | None
) -> tuple[Answer, str]:
    """Whether the interval lies below ``limit`` in size, that is between -``limit`` and ``limit``."""
    bounds = _bounds(table, method, score)
    if bounds is None:
        return "not measured", ""
    value, low, high = bounds
    least, most = (0.0 if low <= 0 <= high else min(abs(low), abs(high))), max(abs(low), abs(high))
    why = f"{score} {value:.2f} ({low:.2f} to {high:.2f}), should be below {limit:g}" + " in size" * (low < 0)
    if cases is not None and (cases.get((method, score), pd.Series(dtype=float)) < 0).any():
        sizes = np.abs(cases[(method, score)].to_numpy())
        size, least, most, _ = mean_with_interval(sizes, groups=groups)
        least, most = (size if np.isnan(bound) else bound for bound in (least, most))
        why = f"size of {score} {size:.2f} ({least:.2f} to {most:.2f}), should be below {limit:g}"
    return ("passes" if most < limit else "fails" if least >= limit else "unclear"), why


def _over_floors(
    table: pd.DataFrame, method: str, scores: tuple[str, ...], cases: pd.DataFrame | None, groups: ArrayLike | None
) -> list[tuple[Answer, str]]:
    """Whether the first score that was measured lies above the floors."""
    for score in scores:
        bounds = _bounds(table, method, score)
        floors = {name: found for name in FLOORS if (found := _bounds(table, name, score)) is not None}
        if bounds is None or not floors:
            continue
        if cases is not None:
            return [_in_pairs(difference(cases, score, method, floor, groups=groups), floor) for floor in floors]
        value, low, high = bounds
        floor, (middle, _, top) = max(floors.items(), key=lambda item: item[1][2])
        sunk = [name for name, (_, bottom, _) in floors.items() if high <= bottom]
        answer: Answer = "passes" if low > top else "fails" if sunk else "unclear"
        if sunk and floor not in sunk:
            floor, (middle, _, top) = sunk[0], floors[sunk[0]]
        return [(answer, f"{score} {value:.2f} ({low:.2f} to {high:.2f}), {floor} has {middle:.2f} (to {top:.2f})")]
    return [("not measured", "")]


def _in_pairs(apart: pd.Series, floor: str) -> tuple[Answer, str]:
    """Whether a paired difference to a floor is above 0."""
    value, low, high = (float(apart[name]) for name in ("value", "low", "high"))
    if np.isnan(value):
        return "not measured", ""
    low, high = (value if np.isnan(bound) else bound for bound in (low, high))
    answer: Answer = "passes" if low > 0 else "fails" if high <= 0 else "unclear"
    score = str(apart.name).rpartition(", ")[2]
    return answer, f"{score} {value:+.2f} ({low:+.2f} to {high:+.2f}) against {floor}"


def _worst(answers: list[Answer]) -> Answer:
    measured = [answer for answer in answers if answer != "not measured"]
    if not measured:
        return "not measured"
    return next(answer for answer in ("fails", "unclear", "passes") if answer in measured)
