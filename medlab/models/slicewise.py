"""Slicewise: one 2-D network for all slices of a volume, whose maps lie over the volume again.

In: volumes (n, i, j, k, c), slices along k. Out: maps (n, a, b, k, channels), features (n, k, channels). The slices go
through the network as one batch of n * k images, so that its weights are shared and each layer runs once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from medlab.backend import keras

layers = keras.layers

Encoder = str | keras.Model | Callable[[tuple[int, int, int]], keras.Model]
"""A 2-D network: a name, a model, or a function from (i, j, c) to a model."""

NAMES = ("small_cnn", "resnet", "densenet121")


def encode_slices(volume: Any, encoder: Encoder, *, seed: int = 0, name: str = "slices") -> Any:
    """The last map of ``encoder`` for every slice, put back over the volume.

    Args:
        volume: Keras tensor (n, i, j, k, c).
        encoder: a 2-D network for images (i, j, c), as :func:`slice_encoder` takes it.
        seed: start of its weights, where it is made here.
        name: of the layer that puts the slices together: a class activation map of the volume can be taken there.
            The encoder is the layer ``<name>_encoder``.

    Returns:
        Keras tensor (n, a, b, k, channels), a and b the size of the encoder's last map.
    """
    _, i, j, k, c = volume.shape
    trunk = slice_encoder(encoder, (i, j, c), seed=seed, name=f"{name}_encoder")
    # Functions of Keras alone: the saved model loads without medlab.
    folded = keras.ops.reshape(keras.ops.transpose(volume, (0, 3, 1, 2, 4)), (-1, i, j, c))
    maps = trunk(folded)
    a, b, channels = maps.shape[1:]
    unfolded = keras.ops.transpose(keras.ops.reshape(maps, (-1, k, a, b, channels)), (0, 2, 3, 1, 4))
    return layers.Activation("linear", name=name)(unfolded)


def pool_slices(maps: Any, *, peaks: bool = False, name: str = "per_slice") -> Any:
    """One feature vector a slice.

    Args:
        maps: Keras tensor (n, a, b, k, channels).
        peaks: the mean and the maximum over each slice side by side, instead of the mean alone.
        name: of the layer.

    Returns:
        Keras tensor (n, k, channels), or twice as many channels.
    """
    _, a, b, k, channels = maps.shape
    mean = layers.AveragePooling3D((a, b, 1), name=f"{name}_average")(maps)
    if not peaks:
        return layers.Reshape((k, channels), name=name)(mean)
    peak = layers.MaxPooling3D((a, b, 1), name=f"{name}_peak")(maps)
    pair = layers.Concatenate(name=f"{name}_pair")([mean, peak])
    return layers.Reshape((k, 2 * channels), name=name)(pair)


def slice_encoder(
    encoder: Encoder, input_shape: tuple[int, int, int], *, seed: int = 0, name: str = "encoder"
) -> keras.Model:
    """The 2-D network up to its last map.

    Args:
        encoder: ``"small_cnn"``, ``"resnet"`` (10 layers), ``"densenet121"``, a name of ``keras.applications`` as
            :func:`medlab.models.backbone` takes it; a model, whose weights are shared with the result; or a function
            from (i, j, c) to a model, such as ``lambda shape: models.resnet(shape, width=16)``.
        input_shape: (i, j, c) of one slice.
        seed: start of the weights, where the network is made here.
        name: of the result.

    Returns:
        A model from (n, i, j, c) to (n, a, b, channels).

    Raises:
        ValueError: an unknown name, a model for images of another shape, a model without a map.
    """
    if isinstance(encoder, str):
        model = _named(encoder, input_shape, seed)
    elif isinstance(encoder, keras.Model):
        model = encoder
    elif callable(encoder):
        model = encoder(input_shape)
    else:
        raise ValueError(f"Expected as encoder a name, a model or a function that makes one. Received {encoder!r}.")
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise ValueError(f"Expected as encoder a functional or Sequential Keras model. Received {model!r}.")
    wanted = model.input_shape
    fits = isinstance(wanted, tuple) and len(wanted) == 4
    if not fits or any(w not in (None, h) for w, h in zip(wanted[1:], input_shape, strict=True)):
        raise ValueError(
            f"Expected an encoder for images of shape {tuple(input_shape)}. {model.name!r} takes {wanted}."
        )
    return keras.Model(model.inputs[0], _last_map(model), name=name)


def _named(encoder: str, input_shape: tuple[int, int, int], seed: int) -> keras.Model:
    from medlab import models

    if encoder == "resnet":
        return models.resnet(input_shape, depth=10, seed=seed)
    if encoder in NAMES:
        return getattr(models, encoder)(input_shape, seed=seed)
    return models.backbone(encoder, input_shape, seed=seed)


def _last_map(model: keras.Model) -> Any:
    """The tensor (n, a, b, channels) with more than one position that the output is made of, nearest to it."""
    waiting, seen = [model.outputs[0]], set()
    while waiting:
        tensor = waiting.pop(0)
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        operation, node, _ = tensor._keras_history
        shape = tensor.shape
        if isinstance(operation, layers.InputLayer):
            continue
        if len(shape) == 4 and (shape[1] or 2) * (shape[2] or 2) > 1:
            return tensor
        waiting += operation._inbound_nodes[node].input_tensors
    raise ValueError(f"Expected an encoder with a feature map (n, a, b, channels). {model.name!r} has none.")
