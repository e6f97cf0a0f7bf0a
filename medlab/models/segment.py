"""Networks that segment: a U-Net in 2-D and 3-D, with strides and kernels for each axis.

In: the shape of one image (i, j[, k], c) and the number of classes. Out: a functional ``keras.Model`` from images
(n, i, j[, k], c) to logits (n, i, j[, k], classes). It plans nothing: see :func:`medlab.train.plan_segmentation`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from medlab.backend import keras
from medlab.models.blocks import Builder

layers = keras.layers

NORMS = ("instance", "group", "batch", None)
_WIDEST = {2: 512, 3: 320}
"""Most channels of a level in 2-D and 3-D (Isensee et al. 2021)."""
_LEAST = 4
"""Fewest voxels along an axis on the deepest level that the network chooses itself (Isensee et al. 2021)."""
_DEEPEST = 5
"""Most levels that the network chooses itself."""


def unet(
    input_shape: tuple[int | None, ...],
    classes: int,
    *,
    width: int = 16,
    levels: int | None = None,
    strides: Sequence[int | Sequence[int]] | None = None,
    kernels: Sequence[int | Sequence[int]] | None = None,
    residual: bool = True,
    norm: str | None = "instance",
    dropout: float = 0.0,
    seed: int = 0,
) -> keras.Model:
    """A U-Net (Ronneberger et al. 2015; Cicek et al. 2016) with the choices of nnU-Net (Isensee et al. 2021).

    Each level of the encoder has two convolutions, with a shortcut around them where ``residual``; the first of them
    has the stride. Each level of the decoder is a transposed convolution, the encoder's map beside it and two
    convolutions. Any fixed size of image fits: where a side is no multiple of the strides, the decoder's maps lose
    the voxels that the strides have added at the end.

    Args:
        input_shape: (i, j, c) or (i, j, k, c). A side may be None: then images of any size are taken whose side is a
            multiple of the product of the strides along it.
        classes: number of classes, background included, also for two: one logit a class and voxel.
        width: channels of the first level; each further level has twice as many, at most 512 in 2-D and 320 in 3-D.
        levels: number of sizes the image is looked at in. None: those of ``strides``; else as many as leave at least
            4 voxels along each axis, at most 5 (4 where a side is None).
        strides: one a level but the first, whole numbers or one a axis, such as ``[(2, 2, 1), (2, 2, 2)]`` for slices
            that lie far apart. None: 2 along each axis that keeps at least 4 voxels.
        kernels: sides of the convolutions, one a level, odd, whole numbers or one a axis. None: 3.
        residual: shortcuts around the two convolutions of the encoder's levels (He et al. 2016).
        norm: ``"instance"``, ``"group"``, ``"batch"`` or None.
        dropout: share of channels dropped after each level of the encoder in training, 0 to below 1.
        seed: start of the random weights and of dropout.

    Returns:
        Layers ``encode1`` (full size), ``encode2``, ..., ``bottom``; ``decode1`` (full size), ``decode2`` (after the
        first stride), ...; ``logits``.

    Raises:
        ValueError: a shape of another rank, strides or kernels that do not fit it, an image too small for the levels,
            too few classes, an unknown norm.
    """
    rank = _check_shape(input_shape)
    _check_numbers(classes, width, dropout, norm)
    sides = tuple(input_shape[:-1])
    steps = _strides(sides, levels, strides)
    sizes = _kernels(rank, len(steps) + 1, kernels)
    _check_depth(sides, steps, norm)
    net = _Net(Builder(rank=rank, norm=None, seed=seed), norm, residual, dropout)
    widths = [min(width * 2**level, max(width, _WIDEST[rank])) for level in range(len(sizes))]

    image = keras.Input(input_shape, name="image")
    x, skips = image, []
    for level, (channels, kernel) in enumerate(zip(widths, sizes, strict=True), start=1):
        stride = (1,) * rank if level == 1 else steps[level - 2]
        name = "bottom" if level == len(sizes) else f"encode{level}"
        x = net.encode(x, channels, kernel, stride, name=name)
        skips.append(x)
    for level in range(len(sizes) - 1, 0, -1):
        x = net.decode(
            x, skips[level - 1], widths[level - 1], sizes[level - 1], steps[level - 1], name=f"decode{level}"
        )
    logits = net.conv(x, int(classes), 1, bias=True, name="logits")
    return keras.Model(image, logits, name="unet")


@dataclass(frozen=True)
class _Net:
    """What the levels of one U-Net share."""

    build: Builder
    norm: str | None
    residual: bool
    dropout: float

    def encode(self, x, width: int, kernel: tuple[int, ...], stride: tuple[int, ...], *, name: str):
        """Two convolutions, the first with the stride; the activation after them has the name."""
        y = self.conv(x, width, kernel, stride, name=f"{name}_first_conv")
        y = self.activate(self.normalize(y, name=f"{name}_first_norm"), name=f"{name}_first")
        y = self.normalize(self.conv(y, width, kernel, name=f"{name}_last_conv"), name=f"{name}_last_norm")
        if self.residual:
            if x.shape[-1] != width or max(stride) > 1:
                if max(stride) > 1:
                    x = self.build.every(x, stride, name=f"{name}_shortcut_pick")
                x = self.conv(x, width, 1, name=f"{name}_shortcut_conv")
                x = self.normalize(x, name=f"{name}_shortcut_norm")
            y = layers.Add(name=f"{name}_add")([x, y])
        if not self.dropout:
            return self.activate(y, name=name)
        y = self.activate(y, name=f"{name}_last")
        drop = layers.SpatialDropout2D if self.build.rank == 2 else layers.SpatialDropout3D
        return drop(self.dropout, seed=self.build.layer_seed(f"{name}_dropout"), name=name)(y)

    def decode(self, x, skip, width: int, kernel: tuple[int, ...], stride: tuple[int, ...], *, name: str):
        """Enlarged by a transposed convolution, the encoder's map beside it, two convolutions."""
        kind = layers.Conv2DTranspose if self.build.rank == 2 else layers.Conv3DTranspose
        start = keras.initializers.HeNormal(seed=self.build.layer_seed(f"{name}_enlarge"))
        x = kind(width, stride, strides=stride, use_bias=False, kernel_initializer=start, name=f"{name}_enlarge")(x)
        x = self.fit(x, skip, name=f"{name}_fit")
        x = layers.Concatenate(name=f"{name}_pair")([skip, x])
        for part in ("first", "last"):
            x = self.normalize(self.conv(x, width, kernel, name=f"{name}_{part}_conv"), name=f"{name}_{part}_norm")
            x = self.activate(x, name=name if part == "last" else f"{name}_{part}")
        return x

    def fit(self, x, like, *, name: str):
        """Without the voxels at the end that an image whose side is no multiple of the stride has got."""
        extra = [
            0 if none in (None, side) else side - none
            for side, none in zip(x.shape[1:-1], like.shape[1:-1], strict=True)
        ]
        if not any(extra):
            return x
        crop = layers.Cropping2D if self.build.rank == 2 else layers.Cropping3D
        return crop(tuple((0, count) for count in extra), name=name)(x)

    def conv(self, x, width: int, kernel, stride=1, *, bias: bool | None = None, name: str):
        """A convolution that keeps the size at stride 1; a bias if no norm follows."""
        kind = layers.Conv2D if self.build.rank == 2 else layers.Conv3D
        initial = keras.initializers.GlorotUniform if name == "logits" else keras.initializers.HeNormal
        return kind(
            width,
            kernel,
            strides=stride,
            padding="same",
            use_bias=self.norm is None if bias is None else bias,
            kernel_initializer=initial(seed=self.build.layer_seed(name)),
            name=name,
        )(x)

    def normalize(self, x, *, name: str):
        """Instance normalization (Ulyanov et al. 2016) is group normalization with a group for each channel."""
        if self.norm == "instance":
            return layers.GroupNormalization(groups=-1, epsilon=1e-5, name=name)(x)
        return Builder(self.build.rank, self.norm, self.build.seed).normalize(x, name=name)

    def activate(self, x, *, name: str):
        return layers.LeakyReLU(negative_slope=0.01, name=name)(x)


def _check_shape(shape: tuple[int | None, ...]) -> int:
    whole = all(
        side is None or (not isinstance(side, bool) and hasattr(side, "__index__") and side > 0) for side in shape
    )
    if len(shape) not in (3, 4) or not whole or shape[-1] is None:
        raise ValueError(
            "Expected input_shape (i, j, c) or (i, j, k, c) in positive whole numbers, without the axis of cases; "
            f"a side (not c) may be None. Received {shape!r}."
        )
    return len(shape) - 1


def _check_numbers(classes: int, width: int, dropout: float, norm: str | None) -> None:
    if isinstance(classes, bool) or not hasattr(classes, "__index__") or classes < 2:
        raise ValueError(
            f"Expected at least 2 classes. Received {classes!r}; the background counts as one, "
            "so that one organ has classes=2."
        )
    if isinstance(width, bool) or not hasattr(width, "__index__") or width < 1:
        raise ValueError(f"Expected width to be a positive whole number. Received {width!r}.")
    if not 0 <= dropout < 1:
        raise ValueError(f"Expected dropout from 0 to below 1. Received {dropout!r}.")
    if norm not in NORMS:
        raise ValueError(f"Expected norm to be one of {NORMS}. Received {norm!r}.")


def _strides(sides: tuple[int | None, ...], levels: int | None, strides: Sequence | None) -> list[tuple[int, ...]]:
    """One stride an axis for each level but the first."""
    rank = len(sides)
    if levels is not None and (isinstance(levels, bool) or not hasattr(levels, "__index__") or levels < 2):
        raise ValueError(f"Expected at least two levels. Received {levels!r}.")
    if strides is not None:
        steps = [_per_axis(stride, rank, "strides") for stride in strides]
        if not steps or (levels is not None and len(steps) != levels - 1):
            wanted = "at least one" if levels is None else str(levels - 1)
            raise ValueError(
                f"Expected strides to hold {wanted} entries, one a level but the first. Received {len(steps)}."
            )
        return steps
    if None in sides:
        return [(2,) * rank] * ((levels or 4) - 1)
    steps, now = [], sides
    while len(steps) + 1 < (levels or _DEEPEST):
        step = tuple(2 if side >= 2 * _LEAST else 1 for side in now)
        if max(step) == 1:
            break
        steps.append(step)
        now = tuple(-(-side // one) for side, one in zip(now, step, strict=True))
    if (levels is not None and len(steps) + 1 < levels) or not steps:
        raise ValueError(
            f"Images of {' x '.join(map(str, sides))} have room for {len(steps) + 1} level(s): each needs at least "
            f"{_LEAST} voxels along an axis. Received levels={levels}. Take fewer levels or larger images, or give "
            "strides."
        )
    return steps


def _kernels(rank: int, levels: int, kernels: Sequence | None) -> list[tuple[int, ...]]:
    if kernels is None:
        return [(3,) * rank] * levels
    sizes = [_per_axis(kernel, rank, "kernels") for kernel in kernels]
    if len(sizes) != levels:
        raise ValueError(f"Expected one kernel for each of {levels} levels. Received {len(sizes)}.")
    if any(side % 2 == 0 for size in sizes for side in size):
        raise ValueError(f"Expected kernels with odd sides. Received {kernels!r}.")
    return sizes


def _per_axis(value: int | Sequence[int], rank: int, what: str) -> tuple[int, ...]:
    found = tuple(value) if isinstance(value, Sequence) else (value,) * rank
    if len(found) != rank or any(isinstance(one, bool) or not hasattr(one, "__index__") or one < 1 for one in found):
        raise ValueError(f"Expected {what} of positive whole numbers, one or {rank} a level. Received {value!r}.")
    return found


def _check_depth(sides: tuple[int | None, ...], steps: list[tuple[int, ...]], norm: str | None) -> None:
    """Refuses strides that are longer than the map they meet, and a bottom of a single voxel under instance norm."""
    now = sides
    for number, step in enumerate(steps, start=1):
        if any(side is not None and side < one for side, one in zip(now, step, strict=True)):
            raise ValueError(
                f"Stride {step} of level {number + 1} is longer than its map of {now} voxels. "
                "Take fewer levels or smaller strides, or larger images."
            )
        now = tuple(None if side is None else -(-side // one) for side, one in zip(now, step, strict=True))
    if norm == "instance" and None not in now and prod(now) == 1:
        raise ValueError(
            "The deepest level has a single voxel, which instance normalization turns into a constant. "
            "Take fewer levels, norm='group' or larger images."
        )
