"""Volumes through 2-D networks: slices with their neighbors as channels, and projections.

In: the shape of one volume (i, j, k, c) and the number of classes. Out: a functional ``keras.Model`` from volumes
(n, i, j, k, c) to logits. Any 2-D network can be the encoder, also one with pretrained weights.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from medlab.backend import keras
from medlab.models.blocks import Builder, check_input, count_outputs, is_small, network_name
from medlab.models.classify import small_cnn
from medlab.models.slicewise import Encoder, encode_slices, pool_slices, slice_encoder

layers = keras.layers

AVERAGES = ("mean", "attention")
KINDS = ("max", "mean")


def two_and_half_d(
    input_shape: tuple[int, ...],
    classes: int = 2,
    *,
    encoder: Encoder = "small_cnn",
    width: int = 16,
    slices: int = 3,
    average: str = "mean",
    dropout: float = 0.2,
    multi_label: bool = False,
    seed: int = 0,
) -> keras.Model:
    """Each slice with its neighbors as channels, one 2-D network for all, the average over slices.

    The network sees ``slices`` slices at a time, in as many channels: with one channel in the volume and three slices,
    an encoder for colors. At either end the outermost slice stands for the missing ones.

    Args:
        input_shape: (i, j, k, c), slices along k.
        classes: number of classes; two give one logit, unless ``multi_label``.
        encoder: a 2-D network for images (i, j, slices * c): ``"small_cnn"``, ``"resnet"``, ``"densenet121"``, a name
            of ``keras.applications``, a model, or a function from that shape to a model. Without its head.
        width: channels of the first stage of ``"small_cnn"``; other encoders have their own.
        slices: how many it sees at a time: odd.
        average: ``"mean"``, or ``"attention"``: weights that add up to 1, learned from each slice's features (Ilse et
            al., "Attention-based deep multiple instance learning", 2018, eqs. 7 and 8). They are the output of layer
            ``attention`` (n, k, 1).
        dropout: share of features dropped in training, 0 to below 1.
        multi_label: one volume may show several classes: always one logit a class.
        seed: start of the random weights and of dropout.

    Returns:
        Layers ``slices_encoder`` (the 2-D network), ``slices`` (its last maps over the volume, (n, a, b, k, channels)),
        ``per_slice`` (n, k, channels), ``features``, ``logits``.

    Raises:
        ValueError: another rank, an even number of slices or more than k, an encoder that does not fit, an unknown
            average, too few classes.
    """
    check_input(input_shape, smallest=1, network="two_and_half_d", ranks=(3,))
    outputs = count_outputs(classes, multi_label=multi_label)
    depth = input_shape[2]
    if isinstance(slices, bool) or not hasattr(slices, "__index__") or not 1 <= slices <= depth or slices % 2 == 0:
        raise ValueError(f"Expected slices to be an odd number of at most {depth}. Received {slices!r}.")
    if average not in AVERAGES:
        raise ValueError(f"Expected average to be one of {AVERAGES}. Received {average!r}.")
    if encoder == "small_cnn":
        encoder = functools.partial(small_cnn, width=width, seed=seed)
    build = Builder(rank=3, seed=seed)
    volume = keras.Input(input_shape, name="image")
    x = _with_neighbors(volume, slices) if slices > 1 else volume
    features = pool_slices(encode_slices(x, encoder, seed=seed), peaks=not is_small(input_shape[:2] + input_shape[-1:]))
    if average == "attention":
        features = _attention(build, features)
    else:
        features = layers.GlobalAveragePooling1D(name="features")(features)
    logits = build.linear(features, outputs, dropout=dropout)
    return keras.Model(volume, logits, name=network_name("two_and_half_d", multi_label))


def projection(
    input_shape: tuple[int, ...],
    classes: int = 2,
    *,
    encoder: Encoder = "small_cnn",
    kind: str = "max",
    planes: Sequence[int] = (0, 1, 2),
    shared: bool = False,
    dropout: float = 0.2,
    multi_label: bool = False,
    seed: int = 0,
) -> keras.Model:
    """The volume projected along each axis, a 2-D network for each projection, their features side by side.

    A maximum intensity projection (Napel et al., Radiology 185:607, 1992) shows what is bright as seen from one side.
    A heat map of it is the same all along the axis, and that of the network adds up those of its planes.

    Args:
        input_shape: (i, j, k, c).
        classes: number of classes; two give one logit, unless ``multi_label``.
        encoder: a 2-D network as :func:`two_and_half_d` takes it, for the images that are left when an axis is gone.
            A name or a function makes one for each plane, a model is one for all.
        kind: ``"max"`` or ``"mean"`` along the axis.
        planes: the axes to project along: 0 leaves (j, k), 1 leaves (i, k), 2 leaves (i, j).
        shared: one network for all planes, whose images must then be of one size; a model always is.
        dropout: share of features dropped in training, 0 to below 1.
        multi_label: one volume may show several classes: always one logit a class.
        seed: start of the random weights and of dropout.

    Returns:
        Layers ``plane0`` ... (the last map of each projection, which ``plane0_encoder`` ... made), ``features``,
        ``logits``.

    Raises:
        ValueError: another rank, an unknown kind, planes that are not different axes, an encoder that does not fit,
            a shared one for images of several sizes, too few classes.
    """
    check_input(input_shape, smallest=1, network="projection", ranks=(3,))
    outputs = count_outputs(classes, multi_label=multi_label)
    try:
        planes = tuple(planes)
    except TypeError:
        planes = (planes,)
    if kind not in KINDS:
        raise ValueError(f"Expected kind to be one of {KINDS}. Received {kind!r}.")
    if not planes or len(set(planes)) < len(planes) or not set(planes) <= {0, 1, 2}:
        raise ValueError(f"Expected planes to be different axes of 0, 1 and 2. Received {planes!r}.")
    planes = tuple(int(plane) for plane in planes)
    build = Builder(rank=3, seed=seed)
    volume = keras.Input(input_shape, name="image")
    project = keras.ops.max if kind == "max" else keras.ops.mean
    images = [project(volume, axis=plane + 1) for plane in planes]
    shapes = {tuple(image.shape[1:]) for image in images}
    shared = shared or isinstance(encoder, keras.Model)
    if shared and len(shapes) > 1:
        raise ValueError(
            f"Expected projections of one size for a shared encoder. Received {sorted(shapes)}; give volumes of equal "
            "sides, or an encoder for each plane (a name or a function, shared=False)."
        )
    common = slice_encoder(encoder, shapes.pop(), seed=seed) if shared else None
    features = []
    for plane, image in zip(planes, images, strict=True):
        shape = tuple(image.shape[1:])
        trunk = common or slice_encoder(
            encoder, shape, seed=build.layer_seed(f"plane{plane}") % 2**31, name=f"plane{plane}_encoder"
        )
        # One position along the axis that is gone, so that the map lies over the volume.
        maps = layers.Activation("linear", name=f"plane{plane}")(keras.ops.expand_dims(trunk(image), axis=plane + 1))
        features.append(layers.GlobalAveragePooling3D(name=f"plane{plane}_average")(maps))
        if not is_small(shape):
            features.append(layers.GlobalMaxPooling3D(name=f"plane{plane}_peak")(maps))
    together = layers.Concatenate(name="features")(features) if len(features) > 1 else features[0]
    logits = build.linear(together, outputs, dropout=dropout)
    return keras.Model(volume, logits, name=network_name(f"projection_{kind}", multi_label))


def _with_neighbors(volume, slices: int):
    """Volumes (n, i, j, k, c) with the slices around each as channels, (n, i, j, k, slices * c)."""
    reach, depth = slices // 2, volume.shape[3]
    first, last = volume[:, :, :, :1], volume[:, :, :, -1:]
    long = keras.ops.concatenate([*[first] * reach, volume, *[last] * reach], axis=3)
    return keras.ops.concatenate([long[:, :, :, start : start + depth] for start in range(slices)], axis=-1)


def _attention(build: Builder, features):
    """The mean of (n, k, channels) over k with weights that the features decide, (n, channels)."""

    def start(name: str):
        return keras.initializers.GlorotUniform(seed=build.layer_seed(name))

    hidden = layers.Dense(64, activation="tanh", kernel_initializer=start("attention_hidden"), name="attention_hidden")
    score = layers.Dense(1, use_bias=False, kernel_initializer=start("attention_score"), name="attention_score")
    weights = layers.Softmax(axis=1, name="attention")(score(hidden(features)))
    return layers.Flatten(name="features")(layers.Dot(axes=1, name="attention_sum")([weights, features]))
