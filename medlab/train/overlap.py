"""The arithmetic of the losses that :mod:`medlab.train.regions` explains, as Keras losses that can be saved.

In: labels (n, i, j[, k][, classes]) and logits (n, i, j[, k], classes). Out: (n,) losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from medlab.backend import keras

ops = keras.ops
_serializable = keras.saving.register_keras_serializable("medlab")


def signed_distance(y: np.ndarray, classes: int, *, spacing: Sequence[float] | None = None) -> np.ndarray:
    """The signed distance of each voxel to the surface of each class, negative inside.

    The distance is that to the nearest voxel center of the other side, so it is never 0 in a known voxel. A class that
    is absent has the smallest spacing everywhere, one that fills the image minus that.

    Args:
        y: (n, i, j[, k]) whole numbers, negative = ignored voxel.
        classes: number of classes, background included.
        spacing: mm between voxels along each axis; None measures in voxels.

    Returns:
        (n, i, j[, k], classes) float32; 0 in ignored voxels.
    """
    y = np.asarray(y)
    steps = [1.0] * (y.ndim - 1) if spacing is None else [float(step) for step in spacing]
    if len(steps) != y.ndim - 1 or min(steps) <= 0:
        raise ValueError(f"Expected {y.ndim - 1} spacings above 0. Received {spacing!r}.")
    out = np.empty((*y.shape, classes), np.float32)
    for case, label in np.ndindex(len(y), classes):
        inside = y[case] == label
        if inside.all() or not inside.any():
            out[case, ..., label] = min(steps) * (1 - 2 * inside)
            continue
        outer = ndimage.distance_transform_edt(~inside, steps)
        out[case, ..., label] = outer - ndimage.distance_transform_edt(inside, steps)
    out[y < 0] = 0
    return out


class RegionLoss(keras.losses.Loss):
    """A loss of each case from its probabilities and truth; subclasses say how."""

    def __init__(self, *, background: bool = False, multi_label: bool = False, name: str, **others: Any) -> None:
        super().__init__(name=name, **others)
        self.background, self.multi_label = background, multi_label

    def get_config(self) -> dict[str, Any]:
        """What the constructor takes."""
        return super().get_config() | {"background": self.background, "multi_label": self.multi_label}

    def encode(self, y: np.ndarray, classes: int) -> np.ndarray:
        """Labels as the user has them to labels as the loss wants them: for most the same, as small whole numbers."""
        y = np.asarray(y)
        return y.astype(np.float32) if y.dtype.kind == "f" else y.astype(np.int32)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """(n,) losses of logits ``y_pred``."""
        truth, known = _truth(y_true, y_pred, self.sigmoid(y_pred))
        logits = _flat(y_pred)
        return self.of_case(truth, known, logits, self.sigmoid(y_pred))

    def sigmoid(self, logits: Any) -> bool:
        """Whether each logit stands for itself: several labels, or the only logit of two classes."""
        return self.multi_label or logits.shape[-1] == 1

    def counted(self, classes_last: Any, sigmoid: bool) -> Any:
        """Without the background's entry, unless it counts."""
        return classes_last if self.background or sigmoid else classes_last[..., 1:]


@_serializable
class Dice(RegionLoss):
    """See :func:`medlab.train.regions.dice`."""

    def __init__(self, *, smooth: float = 1.0, name: str = "dice", **others: Any) -> None:
        super().__init__(name=name, **others)
        self.smooth = _at_least_zero("smooth", smooth)

    def get_config(self) -> dict[str, Any]:
        """What the constructor takes."""
        return super().get_config() | {"smooth": self.smooth}

    def of_case(self, truth: Any, known: Any, logits: Any, sigmoid: bool) -> Any:
        """(n,) from truth, known and logits (n, voxels, classes)."""
        p = _probabilities(logits, sigmoid) * known
        both, sizes = ops.sum(p * truth, 1), ops.sum(p + truth, 1)
        tiny = keras.config.epsilon()
        score = (2 * both + self.smooth + tiny) / (sizes + self.smooth + tiny)
        return ops.mean(1 - self.counted(score, sigmoid), -1)


@_serializable
class DiceCE(Dice):
    """See :func:`medlab.train.regions.dice_ce`."""

    def __init__(
        self, *, dice_weight: float = 1.0, ce_weight: float = 1.0, name: str = "dice_ce", **others: Any
    ) -> None:
        super().__init__(name=name, **others)
        self.dice_weight = _at_least_zero("dice_weight", dice_weight)
        self.ce_weight = _at_least_zero("ce_weight", ce_weight)

    def get_config(self) -> dict[str, Any]:
        """What the constructor takes."""
        return super().get_config() | {"dice_weight": self.dice_weight, "ce_weight": self.ce_weight}

    def of_case(self, truth: Any, known: Any, logits: Any, sigmoid: bool) -> Any:
        """(n,) from truth, known and logits (n, voxels, classes)."""
        overlap = super().of_case(truth, known, logits, sigmoid)
        return self.dice_weight * overlap + self.ce_weight * _mean_known(_entropy(truth, logits, sigmoid), known)


@_serializable
class Tversky(RegionLoss):
    """See :func:`medlab.train.regions.tversky` and :func:`~medlab.train.regions.focal_tversky`."""

    def __init__(
        self,
        *,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 1.0,
        smooth: float = 1.0,
        name: str = "tversky",
        **others: Any,
    ) -> None:
        super().__init__(name=name, **others)
        self.alpha, self.beta = _at_least_zero("alpha", alpha), _at_least_zero("beta", beta)
        self.gamma, self.smooth = _at_least_zero("gamma", gamma), _at_least_zero("smooth", smooth)

    def get_config(self) -> dict[str, Any]:
        """What the constructor takes."""
        own = {"alpha": self.alpha, "beta": self.beta, "gamma": self.gamma, "smooth": self.smooth}
        return super().get_config() | own

    def of_case(self, truth: Any, known: Any, logits: Any, sigmoid: bool) -> Any:
        """(n,) from truth, known and logits (n, voxels, classes)."""
        p = _probabilities(logits, sigmoid) * known
        both = ops.sum(p * truth, 1)
        extra, missed = ops.sum(p, 1) - both, ops.sum(truth, 1) - both
        tiny = keras.config.epsilon()
        wrong = self.alpha * extra + self.beta * missed
        loss = self.counted(wrong / (both + wrong + self.smooth + tiny), sigmoid)
        if self.gamma != 1:
            # The slope of a power below 1 is infinite at 0.
            loss = ops.power(ops.maximum(loss, tiny), self.gamma) - tiny**self.gamma
        return ops.mean(loss, -1)


@_serializable
class Focal(RegionLoss):
    """See :func:`medlab.train.regions.focal`."""

    def __init__(
        self, *, gamma: float = 2.0, alpha: list[float] | None = None, name: str = "focal", **others: Any
    ) -> None:
        super().__init__(name=name, **others)
        self.gamma = _at_least_zero("gamma", gamma)
        self.alpha = None if alpha is None else [_at_least_zero("alpha", one) for one in alpha]

    def get_config(self) -> dict[str, Any]:
        """What the constructor takes."""
        return super().get_config() | {"gamma": self.gamma, "alpha": self.alpha}

    def of_case(self, truth: Any, known: Any, logits: Any, sigmoid: bool) -> Any:
        """(n,) from truth, known and logits (n, voxels, classes)."""
        if self.alpha is not None and len(self.alpha) != logits.shape[-1]:
            raise ValueError(f"Expected {logits.shape[-1]} weights in alpha. Received {len(self.alpha)}.")
        entropy = _entropy(truth, logits, sigmoid, each=True)
        alpha = 1.0 if self.alpha is None else ops.convert_to_tensor(self.alpha, dtype=logits.dtype)
        if sigmoid:
            alpha = alpha if self.alpha is None else truth * alpha + (1 - truth) * (1 - alpha)
            wrong = ops.sigmoid((1 - 2 * truth) * logits)
        else:
            wrong = 1 - ops.softmax(logits, -1)
        loss = alpha * _power(wrong, self.gamma) * entropy
        return _mean_known(loss if sigmoid else ops.sum(loss, -1, keepdims=True), known)


@_serializable
class Boundary(Dice):
    """See :func:`medlab.train.regions.boundary`."""

    def __init__(
        self,
        *,
        weight: float = 0.1,
        dice_weight: float = 1.0,
        spacing: list[float] | None = None,
        name: str = "boundary",
        **others: Any,
    ) -> None:
        super().__init__(name=name, **others)
        if self.multi_label:
            raise ValueError("The boundary loss is for one class a voxel. Take dice(multi_label=True).")
        self.weight, self.dice_weight = _at_least_zero("weight", weight), _at_least_zero("dice_weight", dice_weight)
        self.spacing = spacing

    def get_config(self) -> dict[str, Any]:
        """What the constructor takes."""
        own = {"weight": self.weight, "dice_weight": self.dice_weight, "spacing": self.spacing}
        return super().get_config() | own

    def encode(self, y: np.ndarray, classes: int) -> np.ndarray:
        """The signed distance of each voxel to the surface of each class: :func:`signed_distance`."""
        return signed_distance(y, classes, spacing=self.spacing)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """(n,) losses of logits ``y_pred`` against signed distances ``y_true``."""
        if tuple(y_true.shape[1:]) != tuple(y_pred.shape[1:]):
            raise ValueError(
                f"Expected signed distances of shape {tuple(y_pred.shape)}. Received {tuple(y_true.shape)}; "
                "encode the labels: loss.encode(y, classes)."
            )
        phi, logits = _flat(y_true), _flat(y_pred)
        known = ops.cast(ops.any(phi != 0, -1, keepdims=True), logits.dtype)
        truth = ops.cast(phi < 0, logits.dtype)
        distance = ops.abs(phi) * ops.abs(_probabilities(logits, False) - truth)
        distance = ops.mean(self.counted(distance, False), -1, keepdims=True)
        return self.dice_weight * self.of_case(truth, known, logits, False) + self.weight * _mean_known(distance, known)


@_serializable
class MaskedBCE(RegionLoss):
    """See :func:`medlab.train.regions.masked_bce`."""

    def __init__(self, *, name: str = "masked_bce", **others: Any) -> None:
        super().__init__(name=name, **{**others, "multi_label": True})

    def encode(self, y: np.ndarray, classes: int) -> np.ndarray:
        """Labels as float32, missing ones as -1."""
        y = np.asarray(y, np.float32)
        return np.where(np.isnan(y) | (y < 0), np.float32(-1), y)

    def of_case(self, truth: Any, known: Any, logits: Any, sigmoid: bool) -> Any:
        """(n,) from truth, known and logits (n, voxels, classes)."""
        return _mean_known(_entropy(truth, logits, True), known)


def _truth(y: Any, logits: Any, sigmoid: bool) -> tuple[Any, Any]:
    """Truth (n, voxels, classes) as 0 and 1, and where it is known: (n, voxels, classes) or (n, voxels, 1)."""
    classes = logits.shape[-1]
    if len(y.shape) == len(logits.shape) - 1:
        y = ops.expand_dims(y, -1)
    indices = y.shape[-1] == 1 and classes > 1
    fits = len(y.shape) == len(logits.shape) and (y.shape[-1] == classes or (indices and not sigmoid))
    sides = zip(y.shape[1:-1], logits.shape[1:-1], strict=False)
    if not fits or any(None not in pair and pair[0] != pair[1] for pair in sides):
        wanted = ("", "i, ", "i, j, ", "i, j, k, ")[min(len(logits.shape) - 2, 3)] + str(classes)
        raise ValueError(
            f"Expected labels (n, {wanted})" + ("" if sigmoid else " or without the last axis, whole numbers")
            + f" for logits of shape {tuple(logits.shape)}. Received {tuple(y.shape)}."
        )  # fmt: skip
    y = _flat(y)
    known = y >= 0
    y = ops.where(known, y, ops.zeros_like(y))
    if indices:
        y = ops.one_hot(ops.cast(y[..., 0], "int32"), classes, dtype=logits.dtype)
    elif not sigmoid:
        known = ops.all(known, -1, keepdims=True)
    known = ops.cast(known, logits.dtype)
    return ops.cast(y, logits.dtype) * known, known


def _flat(x: Any) -> Any:
    """(n, voxels, classes); logits of whole images have one voxel."""
    return ops.reshape(x, (ops.shape(x)[0], -1, x.shape[-1]))


def _probabilities(logits: Any, sigmoid: bool) -> Any:
    return ops.sigmoid(logits) if sigmoid else ops.softmax(logits, -1)


def _entropy(truth: Any, logits: Any, sigmoid: bool, *, each: bool = False) -> Any:
    """Cross-entropy (n, voxels, classes) for a sigmoid, else (n, voxels, 1); ``each``: one entry a class there too."""
    if sigmoid:
        return ops.softplus(logits) - truth * logits
    entropy = -truth * ops.log_softmax(logits, -1)
    return entropy if each else ops.sum(entropy, -1, keepdims=True)


def _power(base: Any, exponent: float) -> Any:
    """Without the infinite slope at 0 of an exponent below 1."""
    return ops.power(base if exponent >= 1 else ops.maximum(base, keras.config.epsilon()), exponent)


def _mean_known(values: Any, known: Any) -> Any:
    """(n,) means over the known entries, 0 where there are none."""
    axes = (1, 2)
    known = known * ops.ones_like(values)
    return ops.sum(values * known, axes) / ops.maximum(ops.sum(known, axes), 1)


def _at_least_zero(name: str, value: float) -> float:
    if isinstance(value, bool) or not np.isfinite(value) or value < 0:
        raise ValueError(f"Expected {name} of 0 or above. Received {value!r}.")
    return float(value)
