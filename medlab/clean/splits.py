"""Splits for training, validation and test that keep each patient in one of them.

In: a table with patients and labels. Out: the same table with a column ``split``. It opens no image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

SPLITS = ("train", "validation", "test")


def split(
    table: pd.DataFrame,
    *,
    by: str | None = "patient",
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
    stratify: str | None = "label",
    seed: int = 0,
) -> pd.DataFrame:
    """The table with a column ``split``: all rows of a patient in one split, each class at the same rate in each.

    Patients are taken in an order that the seed alone decides, those with many rows and rare classes first, and each
    goes where it brings the numbers of rows and of each class closest to the fractions (the smallest rise of Pearson's
    chi-squared against what is wanted, the grouped form of Sechidis et al., ECML 2011, "On the stratification of
    multi-label data"). The order of the rows does not matter.

    Args:
        table: one row a case.
        by: column whose values stay together, such as ``"patient"``; None splits row by row (by ``id`` where there is
            such a column, so that the order of the rows does not matter).
        fractions: shares of train, validation and test, three numbers of 0 or above that sum to 1; a split with share 0
            stays empty.
        stratify: column of class names; several joined by ``|`` count for each. None for no stratification.
        seed: another seed, another split; the same seed and the same cases, the same split.

    Returns:
        A new table in the old order; a column ``split`` that was there is replaced.

    Raises:
        ValueError: a missing column, patients or labels that are missing, fractions that are not as above, one class
            only, or fewer patients (of a class) than splits to fill: a split would leave a class empty.
    """
    shares = _shares(fractions)
    _columns(table, by, stratify)
    groups = _groups(table, by)
    labels = [()] * len(table) if stratify is None else _labels(table, stratify)
    classes = sorted({name for names in labels for name in names})
    used = np.flatnonzero(shares)
    if stratify is not None and len(classes) < 2:
        raise ValueError(
            f"Expected at least two classes in {stratify!r}. There is only {classes[0]!r}; "
            "nothing can be learned from one class. To split all the same, pass stratify=None."
        )
    names, member = np.unique(groups, return_inverse=True)
    index = {name: number for number, name in enumerate(classes)}
    counts = np.zeros((len(names), len(classes) + 1))  # rows of each class, and all rows in the last column
    for group, row in zip(member, labels, strict=True):
        counts[group, -1] += 1
        for name in row:
            counts[group, index[name]] += 1
    _enough(counts, classes, len(used), "patients" if by == "patient" else f"values of {by!r}" if by else "rows")
    place = _assign(counts, shares[used], np.random.default_rng(seed))
    _fill_gaps(counts, shares[used], place, classes)
    result = table.copy()
    result["split"] = np.array(SPLITS, object)[used][place[member]]
    return result


def _assign(counts: NDArray, shares: NDArray, rng: np.random.Generator) -> NDArray[np.int64]:
    """The split of each group: the largest and rarest groups first, each where chi-squared rises least."""
    order = rng.permutation(len(counts))
    total = counts.sum(0)
    rarity = (counts / total).max(1)  # the largest part that a group holds of any class
    order = order[np.argsort(-np.round(rarity[order], 12), kind="stable")]
    weight = 1 / (shares[:, None] * total)  # (splits, classes + 1)
    have = np.zeros_like(weight)
    place = np.zeros(len(counts), np.int64)
    for group in order:
        row = counts[group]
        rise = (row * (2 * have + row) * weight).sum(1)
        best = int(np.argmin(rise))
        place[group] = best
        have[best] += row
    return place


def _fill_gaps(counts: NDArray, shares: NDArray, place: NDArray[np.int64], classes: list[str]) -> None:
    """Moves groups, in place, until each split holds each class; the least harmful move comes first."""
    total = counts.sum(0)
    weight = 1 / (shares[:, None] * total)
    holds = counts > 0
    for _ in range(len(shares) * counts.shape[1] + 1):
        present = np.array([holds[place == s].sum(0) for s in range(len(shares))])  # groups of each class in each split
        gaps = np.argwhere(present == 0)
        if not len(gaps):
            return
        target, missing = min(gaps, key=lambda gap: total[gap[1]])
        have = np.array([counts[place == s].sum(0) for s in range(len(shares))])
        best, cost = -1, np.inf
        for group in np.flatnonzero(holds[:, missing]):
            source = place[group]
            if (present[source][holds[group]] < 2).any():
                continue  # it would leave a gap behind
            after = have.copy()
            after[source] -= counts[group]
            after[target] += counts[group]
            harm = (after**2 * weight).sum()
            if harm < cost:
                best, cost = group, harm
        if best < 0:
            break
        place[best] = target
    else:
        return
    name = [*classes, "any class"][missing]
    raise ValueError(
        f"No split of these patients has class {name!r} in each part: it would leave a class empty. "
        "Too few patients carry it; merge classes, use fewer parts (a fraction of 0), or pass stratify=None."
    )


def _shares(fractions: Sequence[float]) -> NDArray[np.float64]:
    shares = np.asarray(fractions, np.float64)
    if shares.shape != (3,) or not np.isfinite(shares).all() or (shares < 0).any():
        raise ValueError(f"Expected three fractions (train, validation, test) of 0 or above. Received {fractions!r}.")
    if abs(shares.sum() - 1) > 1e-6:
        raise ValueError(f"Expected fractions that sum to 1. Received {fractions!r}, which sum to {shares.sum():.6g}.")
    return shares


def _columns(table: pd.DataFrame, by: str | None, stratify: str | None) -> None:
    import pandas as pd

    if not isinstance(table, pd.DataFrame):
        raise ValueError(
            f"Expected a table (pandas.DataFrame). Received {type(table).__name__}; "
            "for cases, call cases.with_table(clean.split(cases.table))."
        )
    for name in (by, stratify):
        if name is not None and name not in table:
            raise ValueError(f"No column {name!r} in the table. There are {list(table.columns)}.")
    if not len(table):
        raise ValueError("Expected at least one row. The table is empty.")


def _groups(table: pd.DataFrame, by: str | None) -> NDArray:
    if by is None:
        if "id" in table and table["id"].is_unique:
            return table["id"].astype(str).to_numpy(str)
        return np.arange(len(table))
    missing = table[by].isna()
    if missing.any():
        raise ValueError(
            f"{int(missing.sum())} row(s) have no {by!r}{_who(table, missing)}. Fill them in, or drop these rows: "
            "a patient whose name is unknown could stand in two splits."
        )
    return table[by].astype(str).to_numpy(str)


def _labels(table: pd.DataFrame, stratify: str) -> list[tuple[str, ...]]:
    missing = table[stratify].isna()
    if missing.any():
        raise ValueError(
            f"{int(missing.sum())} row(s) have no {stratify!r}{_who(table, missing)}. "
            "Label them, drop them, or pass stratify=None."
        )
    return [tuple(str(value).split("|")) for value in table[stratify]]


def _enough(counts: NDArray, classes: list[str], parts: int, what: str) -> None:
    if len(counts) < parts:
        raise ValueError(f"Expected at least {parts} {what} for {parts} splits. There are {len(counts)}.")
    carriers = (counts[:, :-1] > 0).sum(0)
    for name, number in zip(classes, carriers, strict=True):
        if number < parts:
            raise ValueError(
                f"Class {name!r} has {number} {what} for {parts} splits: a split would leave a class empty. "
                "Add cases, merge classes, use fewer parts (a fraction of 0), or pass stratify=None."
            )


def _who(table: pd.DataFrame, rows: pd.Series) -> str:
    if "id" not in table:
        return ""
    names = table.loc[rows, "id"].astype(str).tolist()
    return f" ({', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''})"
