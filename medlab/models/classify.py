"""Networks that classify whole images: a classic baseline, a small CNN and residual networks.

In: the shape of one image (i, j[, k], c) and the number of classes. Out: a functional ``keras.Model`` from images
(n, i, j[, k], c) to logits (n, classes), or (n, 1) for two classes. Layers are named by their role.
"""

from __future__ import annotations

from medlab.backend import keras
from medlab.models.blocks import Builder, check_input, count_outputs, halvings, is_small, network_name

layers = keras.layers

_RESNETS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


def baseline_cnn(
    input_shape: tuple[int, ...], classes: int = 2, *, multi_label: bool = False, seed: int = 0
) -> keras.Model:
    """The classic first network: Conv 64 3x3, MaxPool 2x2, Dense 1024, Dense 1.

    Nearly all of its weights lie in the dense layer: at 224x224x3 these are 111 * 111 * 64 * 1024 = 807 million,
    3.2 GB in float32 and four times that while Adam trains them. It shows what the other networks are better at.

    Args:
        input_shape: (i, j, c), each side at least 4 pixels.
        classes: number of classes; two give one logit, unless ``multi_label``.
        multi_label: one image may show several classes: always one logit a class.
        seed: start of the random weights.

    Returns:
        Layers ``stage1``, ``pool``, ``flatten``, ``features``, ``logits``.

    Raises:
        ValueError: not a 2-D shape, an image that is too small, or fewer than two classes.
    """
    check_input(input_shape, smallest=4, network="baseline_cnn", ranks=(2,))
    outputs = count_outputs(classes, multi_label=multi_label)
    build = Builder(rank=2, norm=None, seed=seed)
    start = {
        name: keras.initializers.GlorotUniform(build.layer_seed(name)) for name in ("stage1", "features", "logits")
    }
    image = keras.Input(input_shape, name="image")
    x = layers.Conv2D(64, 3, activation="relu", kernel_initializer=start["stage1"], name="stage1")(image)
    x = layers.MaxPooling2D(2, name="pool")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(1024, activation="relu", kernel_initializer=start["features"], name="features")(x)
    logits = layers.Dense(outputs, kernel_initializer=start["logits"], name="logits")(x)
    return keras.Model(image, logits, name=network_name("baseline_cnn", multi_label))


def small_cnn(
    input_shape: tuple[int, ...],
    classes: int = 2,
    *,
    width: int = 16,
    norm: str | None = "batch",
    dropout: float = 0.2,
    multi_label: bool = False,
    seed: int = 0,
) -> keras.Model:
    """Eight 3x3 convolutions in four stages, pooling over the whole image, one linear layer.

    Images above 64 pixels are halved in the first stage, all are halved in the second and third; the last stage keeps
    the size, so that a class activation map has 16 x 16 cells for an image of 128 x 128 and 7 x 7 for one of 28 x 28.
    Images above 64 pixels are pooled to average and maximum, since a finding may be small in them; others to the
    average alone.

    Args:
        input_shape: (i, j, c) or (i, j, k, c), each side at least 8.
        classes: number of classes; two give one logit, unless ``multi_label``.
        width: channels of the first stage; the others have 2, 4 and 8 times as many.
        norm: ``"batch"``, ``"group"`` or None.
        dropout: share of features dropped in training, 0 to below 1.
        multi_label: one image may show several classes: always one logit a class.
        seed: start of the random weights and of dropout.

    Returns:
        Layers ``stem``, ``stage1`` ... ``stage4`` (the last convolutional map), ``features``, ``logits``.

    Raises:
        ValueError: a shape of another rank, an image that is too small, or too few classes.
    """
    rank = check_input(input_shape, smallest=8, network="small_cnn")
    outputs = count_outputs(classes, multi_label=multi_label)
    build = Builder(rank=rank, norm=norm, seed=seed)
    image = keras.Input(input_shape, name="image")
    strides = (1 if is_small(input_shape) else 2, 2, 2, 1)
    # So that a heat map of the last stage lies where it belongs.
    ways = halvings(tuple(input_shape[:-1]), strides.count(2))
    x = image
    for stage, stride in enumerate(strides, start=1):
        first = "stem" if stage == 1 else f"stage{stage}_first"
        both_sides = ways.pop(0) if stride == 2 else False
        x = build.conv_norm_relu(x, width * 2 ** (stage - 1), 3, stride=stride, both_sides=both_sides, name=first)
        x = build.conv_norm_relu(x, width * 2 ** (stage - 1), 3, name=f"stage{stage}")
    head = build.head if is_small(input_shape) else build.head_with_peaks
    return keras.Model(image, head(x, outputs, dropout=dropout), name=network_name("small_cnn", multi_label))


def resnet(
    input_shape: tuple[int, ...],
    classes: int = 2,
    *,
    depth: int = 18,
    width: int = 64,
    stem_stride: int | None = None,
    norm: str | None = "batch",
    dropout: float = 0.0,
    multi_label: bool = False,
    seed: int = 0,
) -> keras.Model:
    """A residual network (He et al. 2016) of 10, 18, 34 or 50 layers, in 2-D or 3-D.

    Images of at most 64 pixels get a 3x3 first convolution that keeps their size (as the paper's CIFAR networks);
    larger ones the 7x7 convolution and the maximum, both of stride 2. Halvings pad so that the last map lies over
    what it looks at (:func:`medlab.models.blocks.halvings`); the paper says nothing about this.

    Args:
        input_shape: (i, j, c) or (i, j, k, c), each side at least 8.
        classes: number of classes; two give one logit, unless ``multi_label``.
        depth: 10 (one unit a stage), 18 or 34 (two 3x3 a unit), 50 (bottleneck units).
        width: channels of the first stage, 64 in the paper; the others have 2, 4 and 8 times as many.
        stem_stride: how many times smaller the first stage is than the image: 1 (a 3x3 convolution), 2 (one of stride
            2) or 4 (7x7 and the maximum). None: 1 up to 64 pixels, else 4. Volumes of 28 voxels a side train eight
            times as fast with 2.
        norm: ``"batch"``, ``"group"`` or None.
        dropout: share of features dropped in training, 0 to below 1.
        multi_label: one image may show several classes: always one logit a class.
        seed: start of the random weights and of dropout.

    Returns:
        Layers ``stem``, ``stage1`` ... ``stage4`` (the last convolutional map), ``features``, ``logits``.

    Raises:
        ValueError: another depth, stride or rank, an image that is too small, or too few classes.
    """
    if depth not in _RESNETS:
        raise ValueError(f"Expected depth to be one of {tuple(_RESNETS)}. Received {depth!r}.")
    rank = check_input(input_shape, smallest=8, network="resnet")
    outputs = count_outputs(classes, multi_label=multi_label)
    build = Builder(rank=rank, norm=norm, seed=seed)
    image = keras.Input(input_shape, name="image")
    if stem_stride not in (None, 1, 2, 4):
        raise ValueError(f"Expected stem_stride 1, 2, 4 or None. Received {stem_stride!r}.")
    stride = stem_stride or (1 if is_small(input_shape) else 4)
    both_sides = halvings(tuple(input_shape[:-1]), {1: 3, 2: 4, 4: 5}[stride])
    if stride == 1:
        x = build.conv_norm_relu(image, width, 3, name="stem")
    elif stride == 2:
        x = build.conv_norm_relu(image, width, 3, stride=2, both_sides=both_sides.pop(0), name="stem")
    else:
        x = build.conv_norm_relu(image, width, 7, stride=2, both_sides=both_sides.pop(0), name="stem")
        x = build.pool(x, both_sides=both_sides.pop(0), name="pool")
    for stage, units in enumerate(_RESNETS[depth], start=1):
        for unit in range(1, units + 1):
            name = f"stage{stage}" if unit == units else f"stage{stage}_unit{unit}"
            halve = stage > 1 and unit == 1
            x = build.residual(
                x,
                width * 2 ** (stage - 1),
                bottleneck=depth == 50,
                stride=2 if halve else 1,
                both_sides=both_sides.pop(0) if halve else False,
                name=name,
            )
    return keras.Model(image, build.head(x, outputs, dropout=dropout), name=network_name(f"resnet{depth}", multi_label))
