"""A densely connected network that classifies whole images, in 2-D and 3-D.

In: the shape of one image (i, j[, k], c) and the number of classes. Out: a functional ``keras.Model`` with logits.
"""

from __future__ import annotations

from collections.abc import Sequence

from medlab.backend import keras
from medlab.models.blocks import Builder, check_input, count_outputs, halvings, is_small, network_name

layers = keras.layers


def densenet121(
    input_shape: tuple[int, ...],
    classes: int = 2,
    *,
    growth: int = 32,
    units: Sequence[int] = (6, 12, 24, 16),
    norm: str | None = "batch",
    dropout: float = 0.0,
    multi_label: bool = False,
    seed: int = 0,
) -> keras.Model:
    """A densely connected network of 121 layers (Huang et al. 2017, DenseNet-BC with compression 0.5), 2-D or 3-D.

    Every unit (1x1, then 3x3 convolution, each after normalization and ReLU) sees what all units of its stage before
    it have made, and adds ``growth`` channels. Between stages a 1x1 convolution halves the channels and an average the
    size. Images of at most 64 pixels get a 3x3 first convolution that keeps their size; larger ones the 7x7
    convolution and the maximum, both of stride 2.

    Args:
        input_shape: (i, j, c) or (i, j, k, c), each side at least 8.
        classes: number of classes; two give one logit, unless ``multi_label``.
        growth: channels that a unit adds, 32 in the paper; even.
        units: how many a stage has, four numbers; (6, 12, 32, 32) makes the paper's network of 169 layers.
        norm: ``"batch"``, ``"group"`` or None.
        dropout: share of features dropped in training, 0 to below 1.
        multi_label: one image may show several classes: always one logit a class.
        seed: start of the random weights and of dropout.

    Returns:
        Layers ``stem``, ``stage1`` ... ``stage4`` (the last convolutional map), ``features``, ``logits``.

    Raises:
        ValueError: a growth that is not even and positive, units that are not four, another rank, an image that is too
            small, or too few classes.
    """
    if isinstance(growth, bool) or not hasattr(growth, "__index__") or growth < 2 or growth % 2:
        raise ValueError(f"Expected growth to be an even number of channels. Received {growth!r}.")
    if len(units) != 4 or any(isinstance(n, bool) or not hasattr(n, "__index__") or n < 1 for n in units):
        raise ValueError(f"Expected four numbers of units, at least 1 each. Received {units!r}.")
    rank = check_input(input_shape, smallest=8, network="densenet121")
    outputs = count_outputs(classes, multi_label=multi_label)
    build = Builder(rank=rank, norm=norm, seed=seed)
    image = keras.Input(input_shape, name="image")
    if is_small(input_shape):
        x = build.conv_norm_relu(image, 2 * growth, 3, name="stem")
    else:
        stem_both, pool_both = halvings(tuple(input_shape[:-1]), 2)
        x = build.conv_norm_relu(image, 2 * growth, 7, stride=2, both_sides=stem_both, name="stem")
        x = build.pool(x, both_sides=pool_both, name="pool")
    for stage, count in enumerate(units, start=1):
        last = stage == 4
        for unit in range(1, count + 1):
            name = f"stage{stage}" if unit == count and not last else f"stage{stage}_unit{unit}"
            new = _norm_relu_conv(build, x, 4 * growth, 1, name=f"{name}_reduce")
            new = _norm_relu_conv(build, new, growth, 3, name=f"{name}_new")
            x = layers.Concatenate(name=name)([x, new])
        if not last:
            # The mean of each pair of pixels lies over the pair: nothing is shifted.
            x = _norm_relu_conv(build, x, x.shape[-1] // 2, 1, name=f"between{stage}")
            average = layers.AveragePooling2D if rank == 2 else layers.AveragePooling3D
            x = average(2, padding="same", name=f"between{stage}_average")(x)
    x = layers.Activation("relu", name="stage4")(build.normalize(x, name="stage4_norm"))
    name = network_name(f"densenet{2 * sum(units) + 5}", multi_label)
    return keras.Model(image, build.head(x, outputs, dropout=dropout), name=name)


def _norm_relu_conv(build: Builder, x, width: int, kernel: int, *, name: str):
    x = build.normalize(x, name=f"{name}_norm")
    x = layers.Activation("relu", name=f"{name}_relu")(x)
    return build.conv(x, width, kernel, name=f"{name}_conv")
