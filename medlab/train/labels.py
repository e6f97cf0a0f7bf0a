"""Labels: what a training is given to learn: checked, weighted by class, and encoded for the loss.

In: labels as the user has them. Out: arrays as a loss of Keras takes them. It changes no array that it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from medlab.train import losses

_RARE = 0.1
"""Share of the cases below which a class is said to be rare."""


def class_weights(
    y: np.ndarray, class_weight: str | dict | None, objective: losses.Objective
) -> tuple[np.ndarray | None, str]:
    """The weight of each class in the loss, and one line that says why.

    Args:
        y: (n,) class indices of the training cases.
        class_weight: None, ``"balanced"`` (n / (classes * cases of the class), King and Zeng 2001: the mean weight of
            a case is 1), or a dict from class index to weight; classes that are not named weigh 1.
        objective: the task.

    Returns:
        (classes,) float32 or None, and the line.

    Raises:
        ValueError: weights for a task without one class a case, an unknown class, a weight that is not above 0.
    """
    if class_weight is None:
        return None, "none" + _rare(y, objective)
    if objective.task not in ("binary", "multiclass"):
        raise ValueError("Class weights need one class a case: labels (n,) of class indices. Leave class_weight=None.")
    classes = max(objective.outputs, 2)
    counts = np.bincount(indices(y), minlength=classes)
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(f'Expected class_weight None, "balanced" or a dict. Received {class_weight!r}.')
        present = np.count_nonzero(counts)
        weights = np.where(counts > 0, counts.sum() / (present * np.maximum(counts, 1)), 0).astype(np.float32)
        said = ", ".join(f"{weight:.3g}" for weight in weights)
        return weights, f"balanced: {said} for {', '.join(map(str, counts))} cases of the classes"
    if not isinstance(class_weight, Mapping):
        raise ValueError(
            f'Expected class_weight None, "balanced" or a dict such as {{0: 1.0, 1: 3.0}}. Received {class_weight!r}.'
        )
    weights = np.ones(classes, np.float32)
    for name, weight in class_weight.items():
        if name not in range(classes):
            raise ValueError(f"Expected class indices 0 to {classes - 1} in class_weight. Received {name!r}.")
        if not isinstance(weight, int | float | np.number) or not np.isfinite(weight) or weight <= 0:
            raise ValueError(f"Expected class weights above 0. Received {weight!r} for class {name}.")
        weights[int(name)] = weight
    return weights, "as given: " + ", ".join(f"{weight:.3g}" for weight in weights)


def check_labels(y: np.ndarray, objective: losses.Objective, *, name: str = "training", whole: bool = True) -> None:
    """Refuses labels that cannot be learned.

    Args:
        y: labels.
        objective: the task.
        name: whose labels they are, for messages.
        whole: whether these are all labels of the training, so that one class alone is an error.

    Raises:
        ValueError: NaN, a label that is no whole number or outside the classes, or one class only.
    """
    y = np.asarray(y)
    floats = y.dtype.kind == "f"
    if floats and not objective.partial and np.isnan(y).any():
        raise ValueError(
            f"{int(np.isnan(y).reshape(len(y), -1).any(1).sum())} {name} case(s) have NaN as label. Drop them."
        )
    if objective.task == "other":
        return
    if objective.partial:
        y = with_gaps(y)
    if objective.task == "multiclass" and y.ndim == 2 and y.shape[1] > 1:
        if not is_one_hot(y):
            raise ValueError(
                f"Expected a single 1 in each row of the {name} labels, as the model gives one class a case. For "
                "several labels a case end the model's name in _multi_label."
            )
        y, floats = indices(y), False
    gaps = objective.task == "segmentation" or objective.partial
    highest = objective.outputs - 1 if objective.task in ("multiclass", "segmentation") else 1
    wrong = y > highest
    if not gaps:
        wrong |= y < 0
    if floats:
        wrong |= y != np.floor(y)
    if wrong.any():
        unknown = {True: ", or below 0 for unknown voxels,", False: ""}[objective.task == "segmentation"]
        raise ValueError(
            f"Expected {name} labels 0 to {highest}{unknown} for a model with {objective.outputs} output(s). "
            f"Received {np.unique(y[wrong])[:5].tolist()}; mend the labels or give the model more classes."
        )
    if name != "training" or not whole:
        return
    if objective.task == "segmentation":
        lowest = np.min(y, where=y >= 0, initial=objective.outputs)
        if lowest >= y.max():
            what = "are unknown" if y.max() < 0 else f"have the same class {int(lowest)}"
            raise ValueError(
                f"All voxels of the {len(y)} training masks {what}. Nothing can be learned from them; check that the "
                "masks were read on the images' grid, and add cases with every class."
            )
        return
    constant = (y == y[:1]).all(axis=0)
    if np.all(constant):
        raise ValueError(
            f"All {len(y)} training cases have the same label {y[0].tolist()}. Nothing can be learned from one class; "
            "add cases of another one or split stratified (medlab.clean.split)."
        )


def check_form(y: np.ndarray, training: np.ndarray) -> None:
    """Refuses validation labels of another form than the training's.

    Raises:
        ValueError: class indices beside columns, masks beside either, or another number of columns.
    """
    held_out, trained = ((() if one.shape[1:] == (1,) else one.shape[1:]) for one in (np.asarray(y), training))
    if len(held_out) != len(trained) or (len(trained) == 1 and held_out != trained):
        raise ValueError(
            f"Expected validation labels in the form of the training's, shape {('n', *trained)}. Received "
            f"{('n', *held_out)}; give both as class indices (n,), both with one column a class, or both as masks."
        )


def is_one_hot(y: np.ndarray) -> bool:
    """Whether every row (n, classes) is a single 1 among zeros."""
    y = np.asarray(y)
    return y.ndim == 2 and y.shape[1] > 1 and bool(np.all((y == 0) | (y == 1)) and np.all((y == 1).sum(axis=1) == 1))


def indices(y: np.ndarray) -> np.ndarray:
    """(n,) class indices of indices (n,) or (n, 1), or of rows (n, classes) with a single 1."""
    y = np.asarray(y)
    return y.argmax(axis=1) if y.ndim == 2 and y.shape[1] > 1 else y.reshape(-1).astype(np.int64)


def one_hot(y: np.ndarray, outputs: int) -> np.ndarray:
    """(n, classes) 0/1 of class indices (n,), or of rows that are so already."""
    return np.eye(outputs, dtype=np.float32)[indices(y)]


def known(y: np.ndarray) -> np.ndarray:
    """Which multi-label labels are given: neither NaN nor -1."""
    return ~(np.isnan(y) | (y == -1)) if y.dtype.kind == "f" else y != -1


def with_gaps(y: np.ndarray) -> np.ndarray:
    """0/1 labels with -1 where one is missing."""
    y = np.asarray(y, np.float32)
    return np.where(known(y), y, np.float32(-1))


def first(y: np.ndarray) -> Any:
    """One label, for messages."""
    return y.reshape(-1)[0].item() if y.dtype.kind in "US" and y.size else y.dtype


def _rare(y: np.ndarray, objective: losses.Objective) -> str:
    """A hint where the rarest class there is has few of the cases."""
    if objective.task not in ("binary", "multiclass"):
        return ""
    counts = np.bincount(indices(y), minlength=max(objective.outputs, 2))
    share = counts / counts.sum()
    least = int(np.argmin(np.where(counts, share, np.inf)))
    if share[least] >= _RARE:
        return ""
    return (
        f': class {least} has {100 * share[least]:.2g} % of the cases; class_weight="balanced" would let each class '
        "count the same"
    )
