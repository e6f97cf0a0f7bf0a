"""Transformer: an image as a row of patches that look at one another.

In: the shape of one image (i, j[, k], c) and the number of classes. Out: a functional ``keras.Model`` from images
(n, i, j[, k], c) to logits. It is made of Keras' own layers: a saved one loads without medlab.
"""

from __future__ import annotations

import numpy as np

from medlab.backend import keras
from medlab.models.blocks import Builder, check_input, count_outputs, network_name

layers = keras.layers

POOLS = ("mean", "token")
_MOST_TOKENS = 4096  # their attention takes 64 MB a head and case


def vit(
    input_shape: tuple[int, ...],
    classes: int = 2,
    *,
    patch: int | tuple[int, ...] | None = None,
    width: int = 64,
    depth: int = 4,
    heads: int = 4,
    pool: str = "mean",
    dropout: float = 0.1,
    multi_label: bool = False,
    seed: int = 0,
) -> keras.Model:
    """A vision transformer (Dosovitskiy et al. 2021), small enough for small data, in 2-D and 3-D.

    Each patch becomes a token by one linear map, gets a learned vector for its place, and passes ``depth`` blocks of
    attention and a dense layer, each behind a layer normalization and beside a connection around it. A transformer
    knows nothing of images beforehand: on a few thousand of them a convolutional network is the one to beat.

    Args:
        input_shape: (i, j, c) or (i, j, k, c), each side a multiple of ``patch``.
        classes: number of classes; two give one logit, unless ``multi_label``.
        patch: side of a patch in pixels, or one an axis; None: the largest of 2, 4, 8 and 16 that divides every side
            and leaves at least 8 patches along each, else the smallest that divides.
        width: size of a token, a multiple of ``heads``; the dense layer of a block has four times as many.
        depth: number of blocks.
        heads: of the attention.
        pool: ``"mean"`` of all tokens, or ``"token"``: a class token that goes through the blocks with them.
        dropout: share of features dropped in training, 0 to below 1, after each attention and dense layer.
        multi_label: one image may show several classes: always one logit a class.
        seed: start of the random weights and of dropout.

    Returns:
        Layers ``patches`` (a map of the patches over the image), ``block1_attention``, ``block1`` ..., ``tokens``
        (n, tokens, width), ``features``, ``logits``. :func:`medlab.explain.attention_rollout` shows where it looks.

    Raises:
        ValueError: sides that are no multiples of the patch, a width that is no multiple of ``heads``, an unknown pool,
            a single patch, more than 4,096 tokens, or as the other networks.
    """
    rank = check_input(input_shape, smallest=4, network="vit")
    outputs = count_outputs(classes, multi_label=multi_label)
    for name, value in (("width", width), ("depth", depth), ("heads", heads)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"Expected {name} to be a whole number of at least 1. Received {value!r}.")
    if width % heads:
        raise ValueError(f"Expected a width that is a multiple of heads. Received width {width} and {heads} heads.")
    if pool not in POOLS:
        raise ValueError(f"Expected pool to be one of {POOLS}. Received {pool!r}.")
    if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise ValueError(f"Expected dropout from 0 to below 1. Received {dropout!r}.")
    sides = _sides(tuple(input_shape[:-1]), patch)
    build = Builder(rank=rank, norm=None, seed=seed)

    image = keras.Input(input_shape, name="image")
    kind = layers.Conv2D if rank == 2 else layers.Conv3D
    start = keras.initializers.GlorotUniform(build.layer_seed("patches"))
    x = kind(width, sides, strides=sides, kernel_initializer=start, name="patches")(image)
    x = layers.Reshape((-1, width), name="row")(x)
    if pool == "token":
        x = layers.ZeroPadding1D((1, 0), name="class_token")(x)  # the vector of its place makes it what it is
    place = keras.ops.cumsum(keras.ops.ones_like(x[:, :, 0], dtype="int32"), axis=1) - 1
    start = keras.initializers.TruncatedNormal(stddev=0.02, seed=build.layer_seed("places"))
    x = x + layers.Embedding(x.shape[1], width, embeddings_initializer=start, name="places")(place)
    x = _drop(build, x, dropout, "places_dropout")
    for number in range(1, depth + 1):
        x = _block(build, x, width, heads, dropout, f"block{number}")
    x = layers.LayerNormalization(epsilon=1e-6, name="tokens")(x)
    x = (
        layers.GlobalAveragePooling1D(name="features")(x)
        if pool == "mean"
        else layers.Identity(name="features")(x[:, 0])
    )
    model = keras.Model(image, build.linear(x, outputs, dropout=dropout), name=network_name("vit", multi_label))
    _draw_attention(build, model)
    return model


def _block(build: Builder, x, width: int, heads: int, dropout: float, name: str):
    """Attention and a dense layer, each behind a normalization and beside a connection around it."""
    y = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_attention_norm")(x)
    y = layers.MultiHeadAttention(heads, width // heads, name=f"{name}_attention")(y, y)
    x = x + _drop(build, y, dropout, f"{name}_attention_dropout")
    y = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_dense_norm")(x)
    for part, units, activation in (("first", 4 * width, "gelu"), ("second", width, None)):
        start = keras.initializers.GlorotUniform(build.layer_seed(f"{name}_{part}"))
        y = layers.Dense(units, activation=activation, kernel_initializer=start, name=f"{name}_{part}")(y)
    return layers.Add(name=name)([x, _drop(build, y, dropout, f"{name}_dropout")])


def _drop(build: Builder, x, share: float, name: str):
    return layers.Dropout(share, seed=build.layer_seed(name), name=name)(x) if share else x


def _draw_attention(build: Builder, model: keras.Model) -> None:
    """Draws the matrices of all attention layers (Glorot and Bengio 2010).

    From one seed Keras would start query, key and value alike, and it counts heads like the positions of a filter.
    """
    for layer in model.layers:
        if not isinstance(layer, layers.MultiHeadAttention):
            continue
        for number, weight in enumerate(layer.weights):
            shape = tuple(weight.shape)
            if len(shape) < 3:
                continue  # biases start with 0
            out = number >= len(layer.weights) - 2
            inner, outer = (shape[0] * shape[1], shape[2]) if out else (shape[0], shape[1] * shape[2])
            limit = (6 / (inner + outer)) ** 0.5
            rng = np.random.default_rng([build.layer_seed(layer.name), number])
            weight.assign(rng.uniform(-limit, limit, shape).astype(np.float32))


def _sides(image: tuple[int, ...], patch: int | tuple[int, ...] | None) -> tuple[int, ...]:
    """The sides of a patch, checked."""
    if patch is None:
        fits = [side for side in (2, 4, 8, 16) if all(length % side == 0 for length in image)]
        many = [side for side in fits if min(image) // side >= 8]
        if not fits:
            raise ValueError(
                f"Expected sides that 2, 4, 8 or 16 divides. Received an image of {image}: give `patch`, or "
                "crop_or_pad the images."
            )
        patch = many[-1] if many else fits[0]
    sides = (patch,) * len(image) if isinstance(patch, int) else tuple(patch)
    whole = all(isinstance(side, int) and not isinstance(side, bool) and side >= 1 for side in sides)
    if not whole or len(sides) != len(image) or any(a % b for a, b in zip(image, sides, strict=True)):
        raise ValueError(f"Expected a patch that divides the sides of the image {image}. Received {patch!r}.")
    count = int(np.prod([a // b for a, b in zip(image, sides, strict=True)]))
    if not 2 <= count <= _MOST_TOKENS:
        raise ValueError(f"Expected 2 to {_MOST_TOKENS:,} patches. Received {count:,} of {sides} in {image}.")
    return sides
