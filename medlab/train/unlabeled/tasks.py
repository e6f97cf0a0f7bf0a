"""Tasks: what a network is asked of images without labels, so that it learns to see.

In: an encoder and the shape of an image. Out: a functional network around it, its loss and the views it takes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from medlab.backend import keras
from medlab.train.unlabeled.following import Followed

layers, ops = keras.layers, keras.ops


@dataclass(frozen=True)
class Task:
    """A network to train on unlabeled images.

    Attributes:
        network: takes (n, views, i, j[, k], c), or plain images.
        loss: of (zeros or images, output).
        views: how often each case comes; 1 for plain images.
        least: cases a batch must have.
        reason: what is learned, in one line.
    """

    network: keras.Model
    loss: Callable
    views: int
    least: int
    reason: str


def masked(network: keras.Model, hidden: float) -> Task:
    """To fill in what was hidden: ``network`` is a :func:`medlab.models.masked_autoencoder`."""
    return Task(network, hidden_error, 1, 1, f"fills in patches that were hidden, {100 * hidden:.0f} % of each image")


def hidden_error(y: Any, filled: Any) -> Any:
    """The mean squared difference where the image was hidden, of each case; everywhere where nothing was hidden.

    Args:
        y: (n, i, j[, k], c) images.
        filled: (n, i, j[, k], c + 1) what the network gives: the images, and 1 where they were hidden.
    """
    made, away = filled[..., :-1], filled[..., -1:]
    axes = tuple(range(1, len(filled.shape)))
    away = ops.where(ops.sum(away, axis=axes, keepdims=True) > 0, away, ops.ones_like(away))
    counted = ops.sum(away, axis=axes) * y.shape[-1]
    return ops.sum(ops.square(ops.cast(y, made.dtype) - made) * away, axis=axes) / counted


def simclr(encoder: keras.Model, shape: tuple[int, ...], width: int, temperature: float) -> Task:
    """To know two views of a case among those of all others in the batch (Chen et al. 2020)."""
    views = keras.Input((2, *shape), name="views")
    code = encoder(ops.reshape(views, (-1, *shape)))
    out = ops.reshape(_projected(code, width, "projector"), (-1, 2, width))
    network = keras.Model(views, layers.Activation("linear", dtype="float32", name="codes")(out), name="simclr")
    reason = f"knows two views of a case among those of its batch, at temperature {temperature:g}"
    return Task(network, Contrast(temperature), 2, 2, reason)


class Contrast:
    """The normalized temperature-scaled cross-entropy of SimCLR, equation 1 of Chen et al. 2020.

    Args:
        temperature: what the cosines are divided by, above 0.
    """

    name = "contrast"

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature

    def __call__(self, y: Any, codes: Any) -> Any:
        """(n,) losses of the codes (n, 2, width) of two views of n cases; log(2n - 1) where all are alike."""
        codes = ops.normalize(ops.cast(codes, "float32"), axis=-1)
        count = ops.shape(codes)[0]
        both = ops.concatenate([codes[:, 0], codes[:, 1]], axis=0)
        alike = ops.matmul(both, ops.transpose(both)) / self.temperature
        alike = alike - 1e9 * ops.eye(2 * count)
        pairs = ops.sum(codes[:, 0] * codes[:, 1], axis=-1) / self.temperature
        every = ops.logsumexp(alike, axis=-1)
        return (every[:count] + every[count:]) / 2 - pairs


def byol(encoder: keras.Model, shape: tuple[int, ...], width: int, momentum: float) -> Task:
    """To tell from one view what a slower copy of the network says of the other (Grill et al. 2020)."""
    views = keras.Input((2, *shape), name="views")
    flat = ops.reshape(views, (-1, *shape))
    image = keras.Input(shape)
    online = keras.Model(image, _projected(encoder(image), width, "projector"), name="online")
    own, slow = Followed(online, momentum=momentum, name="followed")([flat, flat])
    told = _projected(own, width, "predictor")
    out = ops.concatenate([ops.reshape(one, (-1, 2, width)) for one in (told, slow)], axis=1)
    network = keras.Model(views, layers.Activation("linear", dtype="float32", name="codes")(out), name="byol")
    reason = f"tells from one view what its own running mean (momentum {momentum:g}) says of the other"
    return Task(network, agreement, 2, 2, reason)


def agreement(y: Any, codes: Any) -> Any:
    """(n,) losses 2 - 2 cos of codes (n, 4, width): predictions of two views, and the targets of the same views."""
    codes = ops.normalize(ops.cast(codes, "float32"), axis=-1)
    one = ops.sum(codes[:, 0] * codes[:, 3], axis=-1)
    other = ops.sum(codes[:, 1] * codes[:, 2], axis=-1)
    return 2 - one - other


def _projected(code: Any, width: int, name: str) -> Any:
    """Two dense layers with a batch normalization between them, as both papers have them."""
    x = layers.Dense(2 * width, use_bias=False, name=f"{name}_first")(code)
    x = layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    x = layers.Activation("relu", name=f"{name}_relu")(x)
    return layers.Dense(width, name=f"{name}_last")(x)
