"""Folds: cases divided into parts, no patient in two of them.

In: labels and patients. Out: the number of each case's part.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd


def divide(
    y: np.ndarray, groups: np.ndarray, *, folds: int, stratify: bool = True, seed: int = 0
) -> tuple[np.ndarray, list[str]]:
    """The fold of each case, (n,) from 0, and what a reader has to know of them.

    Args:
        y: (n,) class indices, (n, classes) 0/1, or (n, i, j[, k]) masks, of which counts whether they are empty.
        groups: (n,) the patient of each case.
        folds: number of parts, at least 2.
        stratify: as nearly the same share of each class in every part as the patients allow.
        seed: of the division.

    Raises:
        ValueError: lengths that differ, cases without a patient, fewer patients than folds, or fewer than 2 folds.
    """
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    y, group = np.asarray(y), numbers(groups)
    if len(y) != len(group):
        raise ValueError(f"Expected one patient a case. Received {len(y)} labels and {len(group)} patients.")
    patients = int(group.max()) + 1 if len(group) else 0
    if isinstance(folds, bool) or not hasattr(folds, "__index__") or folds < 2:
        raise ValueError(f"Expected folds to be a whole number of at least 2. Received {folds!r}.")
    if patients < folds:
        raise ValueError(f"Expected at least as many patients as folds. Received {patients} patients, {folds} folds.")
    kind = _classes(y)
    notes = []
    for one in np.unique(kind) if stratify else ():
        count = len(np.unique(group[kind == one]))
        if count < folds:
            name = f"Class {one}" if y.ndim == 1 else "A combination of labels"
            notes.append(f"{name} has {count} patients, fewer than the {folds} folds: it is missing from some of them.")
    usable = stratify and max(np.bincount(kind)) >= folds
    cut = (StratifiedGroupKFold if usable else GroupKFold)(folds, shuffle=True, random_state=seed)
    fold = np.empty(len(y), np.int64)
    with warnings.catch_warnings():
        # The least class may have fewer cases than folds: the notes say so.
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        for number, (_, held_out) in enumerate(cut.split(np.zeros(len(y)), kind, group)):
            fold[held_out] = number
    return fold, notes


def numbers(groups: Any) -> np.ndarray:
    """(n,) the number of each case's patient, from 0.

    Raises:
        ValueError: not one patient a case, or cases without one.
    """
    if np.ndim(groups) != 1:
        raise ValueError(f"Expected one patient a case, (n,). Received groups of shape {np.shape(groups)}.")
    names = np.empty(len(groups), object)
    names[:] = list(groups)
    missing = int(pd.isna(names).sum())
    if missing:
        raise ValueError(
            f"{missing} of {len(names)} cases lack a patient (None or NaN in groups). Give each a patient of its own "
            "where that is known, or drop these cases: they must not lie on both sides of a division."
        )
    try:
        return np.unique(np.asarray(groups), return_inverse=True)[1]
    except TypeError:  # names and numbers together have no order
        return pd.factorize(names)[0]


def _classes(y: np.ndarray) -> np.ndarray:
    """(n,) what cases are stratified by: the class, the combination of labels, or whether the mask is empty."""
    if y.ndim == 1:
        return np.unique(y, return_inverse=True)[1]
    if y.ndim == 2:
        return np.unique(y, axis=0, return_inverse=True)[1].reshape(-1)
    return (y > 0).any(axis=tuple(range(1, y.ndim))).astype(np.int64)
