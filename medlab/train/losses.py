"""Losses: which loss fits labels and outputs, and how labels are handed to it.

In: labels and a model. Out: the task, a Keras loss and the encoding of the labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from medlab.backend import keras

BINARY, MULTICLASS, MULTILABEL, OTHER = "binary", "multiclass", "multilabel", "other"


@dataclass(frozen=True)
class Objective:
    """What is minimized.

    Attributes:
        task: ``"binary"``, ``"multiclass"``, ``"multilabel"`` or ``"other"`` (no AUC, best weights by loss).
        loss: the Keras loss of training, with label smoothing.
        plain_loss: the same without label smoothing, for validation.
        encode: labels as the user has them to labels as the loss wants them.
        outputs: width of the model's output (1 for a binary task).
        logits: whether the model gives logits.
        reason: one line that says what was chosen and why.
    """

    task: str
    loss: Callable
    plain_loss: Callable
    encode: Callable[[np.ndarray], np.ndarray]
    outputs: int
    logits: bool
    reason: str


def choose(
    model: keras.Model, y: np.ndarray, loss: str | Callable = "auto", *, label_smoothing: float = 0.0
) -> Objective:
    """The objective for labels of the shape of ``y``.

    Args:
        model: a model with one output.
        y: labels of some cases: (n,) class indices, (n, classes) 0/1 multi-label, or anything else with a loss given.
        loss: ``"auto"``, or what ``keras.Model.compile`` takes as loss.
        label_smoothing: 0 to below 1, with ``loss="auto"`` only (Szegedy et al. 2016, section 7).

    Raises:
        ValueError: no loss follows from labels and outputs, or the model has several outputs.
    """
    shape = model.output_shape
    if not isinstance(shape, tuple) or (shape and isinstance(shape[0], tuple | list)):
        raise ValueError(f"Expected a model with one output. Received outputs of shape {shape}.")
    if not model.trainable_weights:
        raise ValueError(
            f"Expected a model with weights to train. All of {model.name!r} are frozen: set trainable=True."
        )
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"Expected label_smoothing from 0 to below 1. Received {label_smoothing!r}.")
    activation = _final_activation(model)
    logits = activation not in ("sigmoid", "softmax")
    outputs = shape[-1] if len(shape) == 2 else 0
    task = _task(y, outputs, activation)
    if loss != "auto":
        made = keras.losses.get(loss) if isinstance(loss, str) else loss
        name = loss if isinstance(loss, str) else getattr(loss, "name", getattr(loss, "__name__", type(loss).__name__))
        return Objective(task, made, made, np.asarray, outputs, logits, f"{name}, as given")
    gives = ("logits" if logits else activation) + (" output" if outputs == 1 else " outputs")
    if task == BINARY:
        made = keras.losses.BinaryCrossentropy, lambda y: np.asarray(y, np.float32).reshape(-1, 1)
        reason = f"binary cross-entropy: labels 0 and 1, {gives.replace('logits output', 'one logit')}"
    elif task == MULTICLASS:
        made = (
            keras.losses.CategoricalCrossentropy,
            lambda y: np.eye(outputs, dtype=np.float32)[np.asarray(y, np.int64)],
        )
        reason = f"categorical cross-entropy: one of {outputs} classes a case, {gives}"
    elif task == MULTILABEL:
        made = keras.losses.BinaryCrossentropy, lambda y: np.asarray(y, np.float32)
        reason = f"binary cross-entropy of each of {outputs} labels, {gives}"
    else:
        raise ValueError(
            f"No loss follows from labels of shape {('n', *np.shape(y)[1:])} and outputs of shape {shape}. "
            "Expected labels (n,) with an output (n, 1) or (n, classes), or 0/1 labels (n, classes) with an output "
            "(n, classes). Give the labels in that form, another number of classes to the model, or loss=..."
        )
    kind, encode = made
    if label_smoothing:
        reason += f", labels smoothed by {label_smoothing:g}"
    smooth = kind(from_logits=logits, label_smoothing=label_smoothing)
    return Objective(task, smooth, kind(from_logits=logits), encode, outputs, logits, reason)


def class_weights(
    y: np.ndarray, class_weight: str | dict | None, objective: Objective
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
        return None, "none"
    if objective.task not in (BINARY, MULTICLASS):
        raise ValueError("Class weights need one class a case: labels (n,) of class indices. Leave class_weight=None.")
    classes = max(objective.outputs, 2)
    counts = np.bincount(np.asarray(y, np.int64).reshape(-1), minlength=classes)
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(f'Expected class_weight None, "balanced" or a dict. Received {class_weight!r}.')
        present = np.count_nonzero(counts)
        weights = np.where(counts > 0, counts.sum() / (present * np.maximum(counts, 1)), 0).astype(np.float32)
        said = ", ".join(f"{weight:.3g}" for weight in weights)
        return weights, f"balanced: {said} for {', '.join(map(str, counts))} cases of the classes"
    weights = np.ones(classes, np.float32)
    for name, weight in class_weight.items():
        if name not in range(classes):
            raise ValueError(f"Expected class indices 0 to {classes - 1} in class_weight. Received {name!r}.")
        if not np.isfinite(weight) or weight <= 0:
            raise ValueError(f"Expected class weights above 0. Received {weight!r} for class {name}.")
        weights[int(name)] = weight
    return weights, "as given: " + ", ".join(f"{weight:.3g}" for weight in weights)


def check_labels(y: np.ndarray, objective: Objective, *, name: str = "training") -> None:
    """Refuses labels that cannot be learned.

    Raises:
        ValueError: NaN, a label that is no whole number or outside the classes, or one class only.
    """
    y = np.asarray(y)
    if y.dtype.kind == "f" and np.isnan(y).any():
        raise ValueError(
            f"{int(np.isnan(y).reshape(len(y), -1).any(1).sum())} {name} case(s) have NaN as label. Drop them."
        )
    if objective.task == OTHER:
        return
    highest = 1 if objective.task != MULTICLASS else objective.outputs - 1
    wrong = (y < 0) | (y > highest) | (y != np.floor(y))
    if wrong.any():
        raise ValueError(
            f"Expected {name} labels 0 to {highest} for a model with {objective.outputs} output(s). "
            f"Received {np.unique(y[wrong])[:5].tolist()}; mend the labels or give the model more classes."
        )
    if name != "training":
        return
    constant = (y == y[:1]).all(axis=0)
    if np.all(constant):
        raise ValueError(
            f"All {len(y)} training cases have the same label {y[0].tolist()}. Nothing can be learned from one class; "
            "add cases of another one or split stratified (medlab.clean.split)."
        )


def _task(y: np.ndarray, outputs: int, activation: str | None) -> str:
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1 and outputs != 1:
        y = y[:, 0]
    if y.dtype.kind not in "biuf" or outputs == 0:
        return OTHER
    if y.ndim == 1 or y.shape[1:] == (1,):
        return BINARY if outputs == 1 else MULTICLASS
    if y.ndim == 2 and y.shape[1] == outputs and activation != "softmax":
        return MULTILABEL
    return OTHER


def _final_activation(model: keras.Model) -> str | None:
    """Name of the activation that gives the output, looked up through nested models; None where there is none."""
    layer = model
    while isinstance(layer, keras.Model):
        layer = layer.outputs[0]._keras_history.operation
    kind = type(layer).__name__.lower()
    return kind if kind in ("sigmoid", "softmax") else getattr(getattr(layer, "activation", None), "__name__", None)
