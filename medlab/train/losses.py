"""Losses: which loss fits labels and outputs, and how labels are handed to it.

In: labels and a model. Out: the task, a Keras loss and the encoding of the labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from medlab.backend import keras
from medlab.train import labels, regions
from medlab.train.labels import check_labels, class_weights
from medlab.train.regions import boundary, dice, dice_ce, focal, focal_tversky, masked_bce, tversky

__all__ = [
    "Objective", "boundary", "check_labels", "choose", "class_weights", "dice", "dice_ce", "focal", "focal_tversky",
    "masked_bce", "tversky",
]  # fmt: skip

BINARY, MULTICLASS, MULTILABEL, SEGMENTATION, OTHER = "binary", "multiclass", "multilabel", "segmentation", "other"
REGIONS = ("dice", "dice_ce", "tversky", "focal", "focal_tversky", "boundary")
"""Losses of segmentation that ``loss`` takes by name; they live in :mod:`medlab.train.regions`."""
_OF_PROBABILITIES = (
    "mean_squared_error", "mean_absolute_error", "mean_absolute_percentage_error", "mean_squared_logarithmic_error",
    "huber", "huber_loss", "log_cosh", "logcosh", "cosine_similarity", "poisson", "kl_divergence", "dice", "tversky",
)  # fmt: skip
"""Losses of Keras that take the output as the number itself: for classes it then has to be a probability."""


@dataclass(frozen=True)
class Objective:
    """What is minimized.

    Attributes:
        task: ``"binary"``, ``"multiclass"``, ``"multilabel"``, ``"segmentation"`` or ``"other"`` (best weights by
            loss).
        loss: the Keras loss of training, with label smoothing.
        plain_loss: the same without label smoothing, for validation.
        encode: labels as the user has them to labels as the loss wants them.
        outputs: width of the model's output (1 for a binary task).
        logits: whether the model gives logits.
        reason: one line that says what was chosen and why.
        partial: whether labels of a multi-label task are missing.
    """

    task: str
    loss: Callable
    plain_loss: Callable
    encode: Callable[[np.ndarray], np.ndarray]
    outputs: int
    logits: bool
    reason: str
    partial: bool = False

    @property
    def judged(self) -> str:
        """Column of the history by which the best weights are chosen."""
        return {SEGMENTATION: "val_dice", OTHER: "val_loss"}.get(self.task, "val_auc")


def choose(
    model: keras.Model,
    y: np.ndarray,
    loss: str | Callable = "auto",
    *,
    label_smoothing: float = 0.0,
    validation: np.ndarray | None = None,
) -> Objective:
    """The objective for labels of the shape of ``y``.

    Args:
        model: a model with one output.
        y: labels of some cases: (n,) class indices; (n, classes) 0/1 multi-label, NaN or -1 where a label is missing
            (where each row has a single 1 and the model's name does not end in ``_multi_label`` nor the model in a
            sigmoid, they are taken for one class a case); (n, i, j[, k]) class of each voxel, below 0 where it is
            unknown; or anything else with a loss given: numbers that are no classes make the task ``"other"``.
        loss: ``"auto"``, a name of ``REGIONS`` for segmentation, or what ``keras.Model.compile`` takes as loss.
        label_smoothing: 0 to below 1, with ``loss="auto"`` and one label a case only (Szegedy et al. 2016, section 7).
        validation: labels of the validation set, some of which may be missing where none of ``y`` is.

    Raises:
        ValueError: no loss follows from labels and outputs, the loss does not fit them, or the model has several
            outputs.
    """
    shape = model.output_shape
    if not isinstance(shape, tuple) or (shape and isinstance(shape[0], tuple | list)):
        raise ValueError(f"Expected a model with one output. Received outputs of shape {shape}.")
    if not model.trainable_weights:
        raise ValueError(
            f"Expected a model with weights to train. All of {model.name!r} are frozen: set trainable=True."
        )
    if isinstance(label_smoothing, str) or not 0 <= label_smoothing < 1:
        raise ValueError(f"Expected label_smoothing from 0 to below 1. Received {label_smoothing!r}.")
    y = np.asarray(y)
    if y.dtype.kind not in "biuf":
        raise ValueError(
            f"Expected labels of numbers: class indices from 0. Received dtype {y.dtype}, such as {labels.first(y)!r}. "
            "Turn names into indices: numpy.unique(names, return_inverse=True)[1]."
        )
    activation = _final_activation(model)
    logits = activation not in ("sigmoid", "softmax")
    task = _task(y, shape, activation)
    single = task == MULTILABEL and activation != "sigmoid" and not model.name.endswith("_multi_label")
    if single and labels.is_one_hot(y) and not _of_several_labels(loss):
        task = MULTICLASS
    outputs = shape[-1] if len(shape) == 2 or task == SEGMENTATION else 0
    if activation == "softmax" and outputs == 1:
        raise ValueError(
            "The model ends in a softmax of one output, which is 1 for every image. Leave the activation away or take "
            "a sigmoid; or give the model two outputs."
        )
    held_out = y[:0] if validation is None or np.ndim(validation) != y.ndim else np.asarray(validation)
    partial = task == MULTILABEL and not bool(np.all(labels.known(y)) and np.all(labels.known(held_out)))
    if loss != "auto":
        if label_smoothing:
            raise ValueError('label_smoothing is for loss="auto". A loss that is given smooths by its own argument.')
        return _given(loss, task, y, outputs, activation, partial)
    gives = ("logits" if logits else activation) + (" output" if outputs == 1 else " outputs")
    if task == SEGMENTATION:
        if label_smoothing:
            raise ValueError("label_smoothing is for one label a case. Leave it at 0 for segmentation.")
        _need_logits("dice_ce", logits, activation)
        made = regions.dice_ce()
        return Objective(
            task, made, made, _encoder(made, outputs), outputs, logits,
            f"Dice + cross-entropy: one of {outputs} classes a voxel, {gives}; Dice counts small regions as much as "
            "large ones, cross-entropy gives smooth gradients",
        )  # fmt: skip
    if task == BINARY:
        made = keras.losses.BinaryCrossentropy, lambda y: np.asarray(y, np.float32).reshape(-1, 1)
        reason = f"binary cross-entropy: labels 0 and 1, {gives.replace('logits output', 'one logit')}"
    elif task == MULTICLASS:
        made = keras.losses.CategoricalCrossentropy, lambda y: labels.one_hot(y, outputs)
        reason = f"categorical cross-entropy: one of {outputs} classes a case, {gives}"
        if y.ndim == 2 and y.shape[1] > 1:
            reason += " (each row of the labels has a single 1; were it chance, end the model's name in _multi_label)"
    elif task == MULTILABEL and partial:
        _need_logits("masked_bce", logits, activation)
        made = regions.masked_bce()
        reason = (
            f"binary cross-entropy of each of {outputs} labels where it is known "
            f"({100 * np.mean(labels.known(y)):.3g} % are), {gives}"
        ) + (f", labels smoothed by {label_smoothing:g}" if label_smoothing else "")
        smooth = _smoothed(made, label_smoothing)
        return Objective(task, smooth, made, _encoder(made, outputs), outputs, logits, reason, partial=True)
    elif task == MULTILABEL:
        made = keras.losses.BinaryCrossentropy, lambda y: np.asarray(y, np.float32)
        reason = f"binary cross-entropy of each of {outputs} labels, {gives}"
    else:
        raise ValueError(
            f"No loss follows from labels of shape {('n', *np.shape(y)[1:])} and outputs of shape {shape}. "
            "Expected labels (n,) with an output (n, 1) or (n, classes), 0/1 labels (n, classes) with an output "
            "(n, classes), or masks (n, i, j[, k]) with an output (n, i, j[, k], classes) of at least two classes, "
            "background included. Give the labels in that form, another number of classes to the model, or loss=..."
        )
    kind, encode = made
    if label_smoothing:
        reason += f", labels smoothed by {label_smoothing:g}"
    smooth = kind(from_logits=logits, label_smoothing=label_smoothing)
    return Objective(task, smooth, kind(from_logits=logits), encode, outputs, logits, reason)


def _given(
    loss: str | Callable, task: str, y: np.ndarray, outputs: int, activation: str | None, partial: bool
) -> Objective:
    """The objective of a loss that the caller chose, after holding it against labels and outputs."""
    logits = activation not in ("sigmoid", "softmax")
    if isinstance(loss, str) and loss in (*REGIONS, "masked_bce"):
        wanted = {"masked_bce": (MULTILABEL,), "focal": (SEGMENTATION, BINARY, MULTICLASS)}.get(loss, (SEGMENTATION,))
        if task not in wanted:
            form = "0/1 labels (n, classes)" if loss == "masked_bce" else "masks (n, i, j[, k])"
            raise ValueError(
                f"The loss {loss!r} needs {form} and a model with an output for each class. Received labels of "
                f"shape {('n', *y.shape[1:])} with {outputs or 'no'} class output(s), the task {task}."
            )
        _need_logits(loss, logits, activation)
        made = getattr(regions, loss)()
        return Objective(task, made, made, _encoder(made, outputs), outputs, logits, f"{loss}, as given", partial)
    try:
        made = keras.losses.get(loss) if isinstance(loss, str) else loss
        if not callable(made):
            raise ValueError
    except ValueError:
        raise ValueError(
            f'Expected loss to be "auto", one of {", ".join((*REGIONS, "masked_bce"))}, a name of Keras such as '
            f"'binary_crossentropy', or a function. Received {loss!r}."
        ) from None
    name = loss if isinstance(loss, str) else getattr(loss, "name", getattr(loss, "__name__", type(loss).__name__))
    if isinstance(made, regions.RegionLoss):
        _need_logits(name, logits, activation)
    if task in (BINARY, MULTICLASS, MULTILABEL) and not _known_by_classes(made) and not _are_classes(y, task, made):
        task, partial = OTHER, False
    _check_given(made, str(name), y, outputs, activation)
    if task in (BINARY, MULTICLASS, MULTILABEL) and logits and _kind_of(made) in _OF_PROBABILITIES:
        raise ValueError(
            f"The loss {name} takes the output for the number itself, but here labels are classes and the model's "
            'output, without a sigmoid or softmax at its end, is read as logits. Take loss="auto", or end the model in '
            "a sigmoid or softmax."
        )
    if partial and "crossentropy" in _kind_of(made).replace("_", ""):
        raise ValueError(
            f"The loss {name} knows no missing labels (NaN or -1), which the training or validation labels have. Take "
            'loss="auto" or "masked_bce".'
        )
    return Objective(task, made, made, _encoder(made, outputs), outputs, logits, f"{name}, as given", partial)


def _encoder(made: Callable, outputs: int) -> Callable[[np.ndarray], np.ndarray]:
    """How labels become what the loss takes: by the loss's own ``encode`` where it has one."""
    if hasattr(made, "encode"):
        return lambda y: made.encode(labels.indices(y) if made.name == "focal" and np.ndim(y) == 2 else y, outputs)
    # A column, so that no loss spreads n labels against n outputs to n x n differences.
    return (lambda y: np.asarray(y, np.float32).reshape(-1, 1)) if outputs == 1 else np.asarray


def _kind_of(made: Any) -> str:
    """The name of a loss of Keras in snake case, or of a function."""
    return str(getattr(made, "name", None) or getattr(made, "__name__", "")).lower()


def _known_by_classes(made: Any) -> bool:
    """Whether it is a loss that classes alone can be given to."""
    return "crossentropy" in _kind_of(made).replace("_", "") or isinstance(made, regions.RegionLoss)


def _are_classes(y: np.ndarray, task: str, made: Any) -> bool:
    """Whether labels can be classes at all: whole numbers, and beside a loss of differences 0 and 1 for one output."""
    there = y[np.isfinite(y)] if y.dtype.kind == "f" else y
    if y.dtype.kind == "f" and np.any(there != np.floor(there)):
        return False
    alone = task == BINARY and _kind_of(made) in _OF_PROBABILITIES
    return not (alone and np.any((there < 0) | (there > 1)))


def _of_several_labels(loss: Any) -> bool:
    """Whether a loss that was given holds every label by itself."""
    kind = loss if isinstance(loss, str) else _kind_of(loss)
    return kind.startswith(("binary", "masked_bce", "bce"))


def _check_given(made: Any, name: str, y: np.ndarray, outputs: int, activation: str | None) -> None:
    """Refuses a loss of Keras that would take logits for probabilities, or one form of labels for another."""
    kind = getattr(made, "name", None) or getattr(made, "__name__", "")
    kind = "".join(part.capitalize() for part in str(kind).split("_")).lower()
    if "crossentropy" not in kind or not outputs:
        return
    taken = getattr(made, "from_logits", getattr(made, "_fn_kwargs", {}).get("from_logits", False))
    gives = activation if activation in ("sigmoid", "softmax") else None
    if kind.startswith(("categorical", "sparse")) and outputs == 1:
        raise ValueError(
            f"The loss {name} needs an output for each class, but the model has one output. Leave "
            'loss="auto", or make the model with two outputs.'
        )
    if bool(taken) and gives:
        raise ValueError(
            f"The loss {name} takes logits, but the model ends in {gives}. Leave the activation away, or make the "
            "loss with from_logits=False."
        )
    if not taken and activation in (None, "linear"):
        raise ValueError(
            f"The loss {name} takes probabilities, but the model gives logits. Make it with from_logits=True, or "
            'leave loss="auto".'
        )
    if kind.startswith("categorical") and (y.ndim == 1 or y.shape[-1] != outputs):
        raise ValueError(
            f"The loss {name} takes labels (n, {outputs}), one column a class. Received shape {('n', *y.shape[1:])}: "
            'class indices take sparse_categorical_crossentropy, or loss="auto".'
        )
    if kind.startswith("sparse") and (y.ndim > 1 and y.shape[-1] == outputs):
        raise ValueError(
            f"The loss {name} takes class indices (n,). Received shape {('n', *y.shape[1:])}: one column a class "
            'takes categorical_crossentropy, or loss="auto".'
        )
    if kind.startswith("binary") and y.ndim == 1 and outputs != 1:
        raise ValueError(
            f"The loss {name} takes an output for each label. Received labels (n,) and a model with {outputs} "
            'outputs: give the model one output, or leave loss="auto".'
        )


def _need_logits(name: str, logits: bool, activation: str | None) -> None:
    if not logits:
        raise ValueError(
            f"The loss {name} takes logits, but the model ends in {activation}. Leave the activation away; "
            "medlab.evaluate.predict gives probabilities."
        )


def _smoothed(loss: Callable, label_smoothing: float) -> Callable:
    """The same with 0/1 labels moved to the middle; missing ones stay below 0."""

    def smoothed(y_true: Any, y_pred: Any) -> Any:
        return loss(keras.ops.where(y_true < 0, y_true, y_true * (1 - label_smoothing) + label_smoothing / 2), y_pred)

    return smoothed if label_smoothing else loss


def _task(y: np.ndarray, shape: tuple, activation: str | None) -> str:
    outputs = shape[-1] if len(shape) == 2 else 0
    if len(shape) >= 4 and y.ndim == len(shape) - 1 and shape[-1] is not None and shape[-1] > 1:
        return SEGMENTATION
    if y.ndim == 2 and y.shape[1] == 1 and outputs != 1:
        y = y[:, 0]
    if outputs == 0:
        return OTHER
    if y.ndim == 1 or y.shape[1:] == (1,):
        return BINARY if outputs == 1 else MULTICLASS
    if y.ndim == 2 and y.shape[1] == outputs:
        if activation != "softmax":
            return MULTILABEL
        return MULTICLASS if labels.is_one_hot(y) else OTHER
    return OTHER


def _final_activation(model: keras.Model) -> str | None:
    """Name of the activation that gives the output, looked up through nested models; None where there is none."""
    layer = model
    while isinstance(layer, keras.Model):
        layer = layer.outputs[0]._keras_history.operation
    kind = type(layer).__name__.lower()
    return kind if kind in ("sigmoid", "softmax") else getattr(getattr(layer, "activation", None), "__name__", None)
