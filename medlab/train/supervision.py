"""Supervision: the shell in which a model is trained, with losses at its decoder's coarser stages where wanted.

In: a model and names of its layers. Out: a Keras model to compile. The model itself stays as it was: the extra 1x1
convolutions belong to the shell and are thrown away with it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from medlab.backend import keras

_LEAST = 4
"""Voxels that a coarse stage must have along its shortest side to be worth a loss."""


class Trainee(keras.Model):
    """A shell around the user's model: the shell is compiled and trained, the model itself stays as it was.

    Args:
        model: the model.
        levels: layers of it that get a 1x1 convolution and a loss of their own, from fine to coarse: the losses count
            1, 1/2, 1/4, ... divided by their sum, the model's own first (Isensee et al. 2021, deep supervision).
        seed: start of the weights of those convolutions.
    """

    def __init__(self, model: keras.Model, levels: Sequence[str] = (), *, seed: int = 0) -> None:
        super().__init__(name="trainee")
        self.inner = model
        self.heads: list[keras.layers.Layer] = []
        if levels:
            tensors = [model.get_layer(name).output for name in levels]
            self.staged = keras.Model(model.input, [model.output, *tensors], name="staged")
            rank, classes = len(model.output_shape) - 2, model.output_shape[-1]
            convolution = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)[rank - 1]
            for number, (name, tensor) in enumerate(zip(levels, tensors, strict=True)):
                start = keras.initializers.GlorotUniform(seed + number)
                head = convolution(classes, 1, kernel_initializer=start, dtype="float32", name=f"head_{name}")
                head.build(tensor.shape)
                self.heads.append(head)
        shares = [0.5**number for number in range(len(levels) + 1)]
        self.shares = [share / sum(shares) for share in shares]
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The model's output; in training with heads a list: that, then those of the heads."""
        if not (self.heads and training):
            return self.inner(inputs, training=training)
        output, *stages = self.staged(inputs, training=True)
        return [output, *(head(stage) for head, stage in zip(self.heads, stages, strict=True))]

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """The loss of the output, or the weighted mean of the losses of all stages."""
        if not isinstance(y_pred, list | tuple):
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        total = 0.0
        for share, stage in zip(self.shares, y_pred, strict=True):
            weight = sample_weight if sample_weight is None else thinned(sample_weight, stage)
            total += share * super().compute_loss(x, thinned(y, stage), stage, weight, training)
        return total


def thinned(y: Any, stage: Any) -> Any:
    """Labels on the coarser grid of ``stage``: the nearest voxel's, as a mean of classes would be no class.

    Args:
        y: (n, i, j[, k][, channels]) labels, or (n,) weights, which stay.
        stage: (n, i', j'[, k'], classes).
    """
    ops = keras.ops
    for axis in range(1, min(len(stage.shape) - 1, len(y.shape))):
        fine, coarse = ops.shape(y)[axis], ops.shape(stage)[axis]
        if isinstance(fine, int) and fine == coarse:
            continue
        # Their centers in the fine grid: (index + 1/2) * fine / coarse, in whole numbers.
        y = ops.take(y, (2 * ops.arange(coarse) + 1) * fine // (2 * coarse), axis=axis)
    return y


def levels(model: keras.Model, wish: str | bool, *, segmentation: bool) -> tuple[list[str], str]:
    """The decoder stages that get a loss of their own, and the line that says so.

    Args:
        model: a model whose decoder's outputs are named decode1 (full size), decode2, ...
        wish: ``"auto"``, True or False.
        segmentation: whether masks are learned.

    Raises:
        ValueError: True where there is nothing to supervise.
    """
    if wish not in ("auto", True, False):
        raise ValueError(f'Expected deep_supervision "auto", True or False. Received {wish!r}.')
    if wish is False or (wish == "auto" and not segmentation):
        return [], "none"
    found = sorted(
        (layer for layer in model.layers if re.fullmatch(r"decode([2-9]|[1-9]\d+)", layer.name)),
        key=lambda layer: int(layer.name[6:]),
    )
    names = [layer.name for layer in found if _shortest(layer.output.shape) >= _LEAST]
    if wish is True and not (names and segmentation):
        raise ValueError(
            f"deep_supervision=True needs masks as labels and decoder stages named decode2, decode3, ... of at least "
            f"{_LEAST} voxels a side. {model.name!r} has {[layer.name for layer in found] or 'none'}; name them so, or "
            'take deep_supervision="auto".'
        )
    if not names:
        return [], "none: the model has no stages decode2, decode3, ..."
    parts = [f"1/{2 ** (n + 1)}" for n in range(len(names))]
    return names, f"losses at {', '.join(names)} count {', '.join(parts)} of the output's, in training only"


def _shortest(shape: tuple[int | None, ...]) -> float:
    return min((side for side in shape[1:-1] if side is not None), default=float("inf"))
