"""Masked: a network that fills in what was hidden of an image, so that its encoder learns without labels.

In: the shape of one image, or an encoder. Out: a functional ``keras.Model`` from images (n, i, j[, k], c) to
(n, i, j[, k], c + 1): the image as it thinks it is, and 1 where it was hidden. It is made of Keras' own layers.
"""

from __future__ import annotations

import math

import numpy as np

from medlab.backend import keras
from medlab.models.blocks import Builder, check_input

layers = keras.layers


def masked_autoencoder(
    input_shape: tuple[int, ...],
    *,
    encoder: keras.Model | None = None,
    patch: int | None = None,
    hidden: float = 0.6,
    width: int = 64,
    seed: int = 0,
) -> keras.Model:
    """An autoencoder that is shown a part of each image's patches and gives all of them.

    In training a random share of the patches is set to 0, the mean of a standardized image, before the encoder sees it
    (Xie et al. 2022, SimMIM: any network can be the encoder; He et al. 2022 for the idea, Pathak et al. 2016 before
    it). The decoder is small, a 3x3 convolution and a linear map from each cell to its pixels, so that what is learned
    lies in the encoder. In prediction nothing is hidden; ``model(x, training=True)`` hides.

    Args:
        input_shape: (i, j, c) or (i, j, k, c), each side at least 8.
        encoder: a network from images to a map (n, i', j'[, k'], width) or to tokens (n, tokens, width) of patches in
            the order of the image, such as ``medlab.models.vit`` up to its layer ``tokens``. None: the convolutions of
            ``medlab.models.small_cnn``. It is trained in place.
        patch: side of what is hidden at once, in pixels; None: about a seventh of the shortest side, at least 2.
        hidden: share of the patches, above 0 and below 1.
        width: channels of the decoder's convolution.
        seed: start of the random weights and of what is hidden.

    Returns:
        Layers ``hidden`` (n, i, j[, k], 1), ``seen``, ``code`` (the encoder's output), ``reconstruction``.

    Raises:
        ValueError: shapes that do not fit, a share outside 0 to 1, a width below 1, an encoder that is no model of such
            images, or a patch that leaves fewer than 4 patches.
    """
    rank = check_input(input_shape, smallest=8, network="masked_autoencoder")
    sides, channels = tuple(input_shape[:-1]), input_shape[-1]
    if isinstance(hidden, bool) or not isinstance(hidden, int | float | np.number) or not 0 < hidden < 1:
        raise ValueError(f"Expected hidden as a share above 0 and below 1. Received {hidden!r}.")
    patch = max(2, round(min(sides) / 7)) if patch is None else patch
    if isinstance(patch, bool) or not hasattr(patch, "__index__") or patch < 1:
        raise ValueError(f"Expected patch as a whole number of pixels of at least 1. Received {patch!r}.")
    if isinstance(width, bool) or not hasattr(width, "__index__") or width < 1:
        raise ValueError(f"Expected width as a whole number of at least 1. Received {width!r}.")
    if encoder is not None:
        if not isinstance(encoder, keras.Model):
            raise ValueError(f"Expected encoder as a Keras model, or None. Received {type(encoder).__name__}.")
        taken = encoder.input_shape[1:] if isinstance(encoder.input_shape, tuple) else ()
        given = tuple(input_shape)
        if len(taken) != len(given) or any(one not in (None, two) for one, two in zip(taken, given, strict=True)):
            raise ValueError(f"Expected an encoder of images {given}. It takes {encoder.input_shape}.")
    hidden, patch, width = float(hidden), int(patch), int(width)
    if math.prod(-(-side // patch) for side in sides) < 4:
        raise ValueError(f"Expected a patch that leaves at least 4 patches in {sides}. Received {patch}.")
    if encoder is None:
        encoder = _convolutions(input_shape, seed)
    build = Builder(rank=rank, norm=None, seed=seed)

    image = keras.Input(input_shape, name="image")
    away = _hidden(build, image, patch, hidden)
    seen = layers.Multiply(name="seen")([image, layers.Rescaling(-1.0, 1.0, name="shown")(away)])
    code = layers.Identity(name="code")(encoder(seen))
    code, cells = _as_map(code, sides)
    x = build.conv(code, width, 3, name="decoder_conv")
    x = layers.Activation("relu", name="decoder")(x)
    factors = [-(-side // cell) for side, cell in zip(sides, cells, strict=True)]
    x = build.conv(x, math.prod(factors) * channels, 1, name="pixels")
    x = layers.Activation("linear", dtype="float32", name="reconstruction")(_unfolded(x, factors, sides, channels))
    return keras.Model(image, layers.Concatenate(name="filled")([x, away]), name="masked_autoencoder")


def _convolutions(input_shape: tuple[int, ...], seed: int) -> keras.Model:
    from medlab.models.classify import small_cnn

    network = small_cnn(input_shape, 2, seed=seed)
    return keras.Model(network.input, network.get_layer("stage4").output, name="encoder")


def _hidden(build: Builder, image, patch: int, share: float):
    """1 where a patch is hidden, (n, i, j[, k], 1): dropout of a grid of ones, as large as patches."""
    pool = layers.AveragePooling2D if build.rank == 2 else layers.AveragePooling3D
    grid = pool(patch, padding="same", name="patches")(keras.ops.ones_like(image[..., :1]))
    kept = layers.Dropout(share, seed=build.layer_seed("hidden"), name="drop_patches")(grid)
    grow = layers.UpSampling2D if build.rank == 2 else layers.UpSampling3D
    away = grow(patch, name="whole_patches")(keras.ops.cast(kept <= 0, "float32"))
    sides = image.shape[1:-1]
    away = away[(slice(None), *(slice(0, side) for side in sides))]
    return layers.Identity(name="hidden")(away)


def _as_map(code, sides: tuple[int, ...]):
    """The encoder's output as (n, i', j'[, k'], width), and its sides; tokens are laid out as the image is."""
    if len(code.shape) == len(sides) + 2 and None not in code.shape[1:-1]:
        return code, code.shape[1:-1]
    if len(code.shape) == 3 and code.shape[1]:
        share = (code.shape[1] / math.prod(sides)) ** (1 / len(sides))
        cells = tuple(round(side * share) for side in sides)
        if math.prod(cells) == code.shape[1]:
            return layers.Reshape((*cells, code.shape[-1]), name="laid_out")(code), cells
    raise ValueError(
        f"Expected an encoder that gives a map (n, {', '.join('ijk'[: len(sides)])}, width) or tokens of the image's "
        f"patches in their order, without a class token. It gives {code.shape}."
    )


def _unfolded(x, factors: list[int], sides: tuple[int, ...], channels: int):
    """Each cell's values as its own pixels: (n, i', j', fi * fj * c) to (n, i, j, c), cut to the image's sides."""
    ops, rank = keras.ops, len(sides)
    cells = x.shape[1:-1]
    x = ops.reshape(x, (-1, *cells, *factors, channels))
    order = [axis for pair in zip(range(1, rank + 1), range(rank + 1, 2 * rank + 1), strict=True) for axis in pair]
    x = ops.transpose(x, (0, *order, 2 * rank + 1))
    x = ops.reshape(x, (-1, *(a * b for a, b in zip(cells, factors, strict=True)), channels))
    return x[(slice(None), *(slice(0, side) for side in sides))]
