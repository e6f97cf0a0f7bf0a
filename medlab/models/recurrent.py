"""Recurrent: networks that read a volume as a sequence of slices, and the same without an order to compare with.

In: the shape of one volume (i, j, k, c), slices along k, and the number of classes. Out: a functional ``keras.Model``
from volumes (n, i, j, k, c) to logits. Volumes of fewer slices are padded with whole slices of ``mask_value``: those
are not read, so that the answer is the same however many there are, before or after the others.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from medlab.backend import keras
from medlab.models.blocks import Builder, check_input, count_outputs, network_name
from medlab.models.classify import small_cnn
from medlab.models.slicewise import Encoder, encode_slices, pool_slices

if TYPE_CHECKING:
    import numpy as np

layers = keras.layers

CELLS = {"gru": layers.GRU, "lstm": layers.LSTM}
POOLS = ("last", "mean", "attention")


def slice_rnn(
    input_shape: tuple[int, ...],
    classes: int = 2,
    *,
    encoder: Encoder = "small_cnn",
    width: int = 8,
    cell: str = "gru",
    units: int | None = None,
    bidirectional: bool = True,
    pool: str = "last",
    mask_value: float | None = 0.0,
    norm: str | None = "batch",
    dropout: float = 0.2,
    multi_label: bool = False,
    seed: int = 0,
) -> keras.Model:
    """One 2-D network for all slices, whose features a GRU or LSTM reads from one end to the other.

    Args:
        input_shape: (i, j, k, c): k slices, as many as the longest volume has. No weight depends on k: the weights of
            a network for 20 slices fit one for 60 (``other.set_weights(model.get_weights())``).
        classes: number of classes; two give one logit, unless ``multi_label``.
        encoder: the 2-D network: ``"small_cnn"`` of this ``width`` and ``norm``, or another name, a model or a function
            from (i, j, c) to a model, with a width and normalization of its own.
        width: channels of the first stage of small_cnn; the others have 2, 4 and 8 times as many.
        cell: ``"gru"`` (Cho et al. 2014) or ``"lstm"`` (Hochreiter and Schmidhuber 1997).
        units: size of its state, in each direction; None for four times the width.
        bidirectional: read from both ends, with weights for each (Schuster and Paliwal 1997).
        pool: ``"last"``: the state after the last slice, of each direction; ``"mean"``: the mean of its states at all
            slices; ``"attention"``: their sum, weighted by gated attention (see :func:`slice_mean`).
        mask_value: slices that have this value everywhere are skipped: the padding of shorter volumes, and empty
            slices wherever they are. None reads them all.
        norm: ``"batch"``: statistics over the slices of a batch, of which skipped ones are no part: a slice of the same
            volume stands in for each. ``"group"`` normalizes each slice by itself, so that an empty one looks as strong
            as any: on volumes of the brain phantom slice_mean then learned next to nothing. None for none.
        dropout: share of features dropped in training, 0 to below 1.
        multi_label: one volume may show several classes: always one logit a class.
        seed: start of the random weights and of dropout.

    Returns:
        Layers ``slices`` (maps over the volume), ``per_slice`` (n, k, features), ``states`` (n, k, ...) unless
        ``pool="last"``, ``features``, ``logits``; with attention ``attention`` (n, k), which :func:`slice_weights`
        reads. A volume without any slice to read has features 0, so that its logits are the last layer's bias.

    Raises:
        ValueError: not a 3-D shape, slices that are too small, an unknown cell or pool, or too few classes.
    """
    if cell not in CELLS:
        raise ValueError(f"Expected cell to be one of {tuple(CELLS)}. Received {cell!r}.")
    if pool not in POOLS:
        raise ValueError(f"Expected pool to be one of {POOLS}. Received {pool!r}.")
    build, volume, sequence, read, outputs = _start(
        input_shape, classes, encoder, width, mask_value, norm, multi_label, seed, name="slice_rnn"
    )
    # cuDNN takes only masks that end, and no volume without a slice; other masks need the plain loop.
    settings = {"return_sequences": pool != "last", "use_cudnn": "auto" if read is None else False}

    def direction(name: str, **more: Any) -> keras.layers.Layer:
        return CELLS[cell](
            4 * width if units is None else units,
            kernel_initializer=keras.initializers.GlorotUniform(build.layer_seed(name)),
            recurrent_initializer=keras.initializers.Orthogonal(seed=build.layer_seed(f"{name}_recurrent")),
            name=name,
            **settings,
            **more,
        )

    role = "features" if pool == "last" else "states"
    reader = direction("forward" if bidirectional else role)
    if bidirectional:
        reader = layers.Bidirectional(reader, backward_layer=direction("backward", go_backwards=True), name=role)
    states = reader(sequence, mask=read)
    if read is not None and pool != "last":  # the product also drops the mask that Keras attaches
        states = states * keras.ops.expand_dims(keras.ops.cast(read, "float32"), -1)
    features = states if pool == "last" else _combine(build, states, read, pool)
    name = network_name(f"slice_rnn_{cell}", multi_label)
    return keras.Model(volume, build.linear(features, outputs, dropout=dropout), name=name)


def slice_mean(
    input_shape: tuple[int, ...],
    classes: int = 2,
    *,
    encoder: Encoder = "small_cnn",
    width: int = 8,
    pool: str = "mean",
    mask_value: float | None = 0.0,
    norm: str | None = "batch",
    dropout: float = 0.2,
    multi_label: bool = False,
    seed: int = 0,
) -> keras.Model:
    """One 2-D network for all slices, whose features are averaged: the order of the slices means nothing to it.

    What a network that reads slices in order has to beat. With attention it learns which slices count: the weights are
    softmax over slices of w (tanh(V h) * sigmoid(U h)) (Ilse, Tomczak and Welling, ICML 2018, equation 9).

    Args:
        input_shape: (i, j, k, c), as :func:`slice_rnn` takes it, and all that follow.
        classes: number of classes.
        encoder: the 2-D network.
        width: channels of its first stage.
        pool: ``"mean"`` or ``"attention"``.
        mask_value: value of slices that are left out; None for none.
        norm: normalization of the encoder.
        dropout: share of features dropped in training.
        multi_label: one volume may show several classes.
        seed: start of the random weights and of dropout.

    Returns:
        Layers ``slices``, ``per_slice``, ``features``, ``logits``, and with attention ``attention`` (n, k).

    Raises:
        ValueError: as :func:`slice_rnn`.
    """
    if pool not in POOLS[1:]:
        raise ValueError(f"Expected pool to be one of {POOLS[1:]}. Received {pool!r}.")
    build, volume, sequence, read, outputs = _start(
        input_shape, classes, encoder, width, mask_value, norm, multi_label, seed, name="slice_mean"
    )
    features = _combine(build, sequence, read, pool)
    name = network_name("slice_mean" if pool == "mean" else "slice_attention", multi_label)
    return keras.Model(volume, build.linear(features, outputs, dropout=dropout), name=name)


def conv_lstm(
    input_shape: tuple[int, ...],
    classes: int = 2,
    *,
    width: int = 8,
    bidirectional: bool = True,
    mask_value: float | None = 0.0,
    norm: str | None = "batch",
    dropout: float = 0.2,
    multi_label: bool = False,
    seed: int = 0,
) -> keras.Model:
    """An LSTM whose state is a map: it remembers where in the slice something was (Shi et al. 2015).

    Each slice is made four times smaller by two convolutions of stride 2, the ConvLSTM reads the maps in order, and
    its last maps are pooled to average and maximum.

    Args:
        input_shape: (i, j, k, c), as :func:`slice_rnn` takes it, and all that follow.
        classes: number of classes.
        width: channels of the first convolution; the second and the state have twice as many.
        bidirectional: read from both ends.
        mask_value: value of slices that are skipped; None for none.
        norm: ``"batch"``, ``"group"`` or None.
        dropout: share of features dropped in training.
        multi_label: one volume may show several classes.
        seed: start of the random weights and of dropout.

    Returns:
        Layers ``slices`` (maps over the volume), ``states`` (i/4, j/4, channels), ``features``, ``logits``.

    Raises:
        ValueError: as :func:`slice_rnn`.
    """
    shape = _check_shape(input_shape, width, "conv_lstm")
    outputs = count_outputs(classes, multi_label=multi_label)
    build = Builder(rank=2, norm=norm, seed=seed)

    def stem(shape: tuple[int, int, int]) -> keras.Model:
        image = keras.Input(shape, name="slice")
        x = build.conv_norm_relu(image, width, 3, stride=2, both_sides=True, name="stem")
        return keras.Model(image, build.conv_norm_relu(x, 2 * width, 3, stride=2, name="stage1"))

    volume = keras.Input(shape, name="volume")
    maps, read = _encode(volume, stem, mask_value, seed)

    def direction(name: str, **more: Any) -> keras.layers.Layer:
        return layers.ConvLSTM2D(
            2 * width,
            3,
            padding="same",
            kernel_initializer=keras.initializers.GlorotUniform(build.layer_seed(name)),
            recurrent_initializer=keras.initializers.Orthogonal(seed=build.layer_seed(f"{name}_recurrent")),
            name=name,
            **more,
        )

    reader = direction("forward" if bidirectional else "states")
    if bidirectional:
        reader = layers.Bidirectional(reader, backward_layer=direction("backward", go_backwards=True), name="states")
    if read is not None:  # on JAX Keras does not spread a mask over the axes of a map
        read = keras.ops.expand_dims(read, (2, 3, 4))
    state = reader(layers.Permute((3, 1, 2, 4), name="in_order")(maps), mask=read)
    name = network_name("conv_lstm", multi_label)
    return keras.Model(volume, build.head_with_peaks(state, outputs, dropout=dropout), name=name)


def slice_weights(model: keras.Model, x: np.ndarray, *, batch_size: int = 32) -> np.ndarray:
    """How much each slice counted, (n, k): 0 or above, with the sum 1 a volume (0 where no slice was read).

    Args:
        model: a network made with ``pool="attention"``.
        x: (n, i, j, k, c).
        batch_size: volumes at a time.

    Raises:
        ValueError: the model has no layer ``attention``.
    """
    if "attention" not in {layer.name for layer in model.layers}:
        raise ValueError(f'Expected a model with the layer "attention": pool="attention". {model.name!r} has none.')
    weights = keras.Model(model.input, model.get_layer("attention").output)
    return weights.predict(x, batch_size=batch_size, verbose=0).reshape(len(x), -1)


def _check_shape(input_shape: tuple[int, ...], width: int, network: str) -> tuple[int, ...]:
    """The shape, after checks: a number of slices that is not given has a reason and a way out of its own."""
    if isinstance(width, bool) or not hasattr(width, "__index__") or width < 1:
        raise ValueError(f"Expected width to be a whole number of at least 1. Received {width!r}.")
    shape = tuple(input_shape)
    if len(shape) == 4 and shape[2] is None:
        raise ValueError(
            f"Expected a number of slices k in input_shape (i, j, k, c). Received {shape}: give that of the longest "
            "volume, and pad shorter ones with whole slices of mask_value, which are not read."
        )
    whole = len(shape) == 4 and not isinstance(shape[2], bool) and hasattr(shape[2], "__index__") and shape[2] > 0
    if not whole:
        check_input(shape, smallest=8, network=network, ranks=(3,))  # says what is wrong
    check_input((shape[0], shape[1], shape[3]), smallest=8, network=f"{network}'s encoder", ranks=(2,))
    return shape


def _start(
    input_shape: tuple[int, ...],
    classes: int,
    encoder: Encoder,
    width: int,
    mask_value: float | None,
    norm: str | None,
    multi_label: bool,
    seed: int,
    *,
    name: str,
) -> tuple[Builder, Any, Any, Any, int]:
    """Builder, input, features of each slice (n, k, f), which slices to read (n, k) or None, number of logits."""
    shape = _check_shape(input_shape, width, name)
    outputs = count_outputs(classes, multi_label=multi_label)
    build = Builder(rank=2, norm=norm, seed=seed)

    def narrow(shape: tuple[int, int, int]) -> keras.Model:
        return small_cnn(shape, width=width, norm=norm, seed=seed)

    volume = keras.Input(shape, name="volume")
    maps, read = _encode(volume, narrow if encoder == "small_cnn" else encoder, mask_value, seed)
    return build, volume, pool_slices(maps, peaks=True), read, outputs


def _encode(volume: Any, encoder: Encoder, mask_value: float | None, seed: int) -> tuple[Any, Any]:
    """Maps of all slices (n, a, b, k, channels), and which slices to read (n, k), None for all."""
    if mask_value is None:
        return encode_slices(volume, encoder, seed=seed), None
    if not isinstance(mask_value, int | float) or not math.isfinite(mask_value):
        raise ValueError(f"Expected mask_value to be a finite number, or None to read all. Received {mask_value!r}.")
    read = keras.ops.any(keras.ops.not_equal(volume, mask_value), axis=(1, 2, 4))
    return encode_slices(_fill(volume, read), encoder, seed=seed), read


def _fill(volume: Any, read: Any) -> Any:
    """The volume with its own slices, one after the other, in place of those that are not read.

    What the encoder makes of them is thrown away; but batch normalization sees slices that are real.
    """
    ops = keras.ops
    i, j, k, c = volume.shape[1:]
    place = ops.arange(k)
    real_first = ops.argsort(ops.where(read, place, place + k), axis=1)
    count = ops.maximum(ops.sum(ops.cast(read, "int32"), axis=1, keepdims=True), 1)
    gap = ops.maximum(ops.cumsum(1 - ops.cast(read, "int32"), axis=1) - 1, 0)
    other = ops.take_along_axis(real_first, ops.mod(gap, count), axis=1)
    case = ops.cumsum(ops.ones_like(count), axis=0) - 1  # 0, 1, ... n - 1, whatever n will be
    source = ops.reshape(case * k + ops.where(read, place, other), (-1,))
    slices = ops.reshape(ops.transpose(volume, (0, 3, 1, 2, 4)), (-1, i, j, c))
    filled = ops.reshape(ops.take(slices, source, axis=0), (-1, k, i, j, c))
    return ops.transpose(filled, (0, 2, 3, 1, 4))


def _combine(build: Builder, sequence: Any, read: Any, pool: str) -> Any:
    """``features``: the mean of a sequence (n, k, f) over the slices that are read, or their sum by attention."""
    if pool == "mean" and read is None:
        return layers.GlobalAveragePooling1D(name="features")(sequence)
    if pool == "mean":
        chosen = keras.ops.cast(read, "float32")
        weights = chosen / keras.ops.maximum(keras.ops.sum(chosen, axis=1, keepdims=True), 1.0)
    else:
        weights = _attention(build, sequence, read)
    return layers.Dot(axes=1, name="features")([sequence, weights])


def _attention(build: Builder, sequence: Any, read: Any) -> Any:
    """``attention``: weights (n, k) of gated attention; 0 for slices that are not read."""

    def dense(units: int, activation: str | None, name: str) -> keras.layers.Layer:
        start = keras.initializers.GlorotUniform(build.layer_seed(name))
        return layers.Dense(units, activation=activation, use_bias=False, kernel_initializer=start, name=name)

    units = max(8, sequence.shape[-1] // 4)
    content = dense(units, "tanh", "attention_content")(sequence)
    gate = dense(units, "sigmoid", "attention_gate")(sequence)
    score = dense(1, None, "attention_score")(layers.Multiply(name="attention_gated")([content, gate]))
    score = layers.Reshape((sequence.shape[1],), name="attention_scores")(score)
    # The scores are bounded by the sum of |w|. Keras' softmax has no answer for a volume without any slice to read.
    power = keras.ops.exp(score - keras.ops.max(score, axis=1, keepdims=True))
    if read is not None:
        power = power * keras.ops.cast(read, "float32")
    total = keras.ops.sum(power, axis=1, keepdims=True)
    return layers.Identity(name="attention")(power / keras.ops.where(total > 0, total, 1.0))
