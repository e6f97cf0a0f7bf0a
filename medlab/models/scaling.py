"""Scaling: how autoencoders make an image smaller step by step and larger again, whatever its sides, in 2-D and 3-D.

In: a Keras tensor (n, i, j[, k], c). Out: another one. Names of the layers follow from those given.
"""

from __future__ import annotations

import numpy as np

from medlab.backend import keras
from medlab.models.blocks import Builder

layers = keras.layers

_LEAST = 4
"""Fewest pixels along an axis that a halving may leave."""
_DEEPEST = 4
"""Most halvings that a network chooses itself."""


def halve(build: Builder, x, width: int, step: tuple[int, ...], *, name: str):
    """A 3x3 convolution whose stride may differ between axes, normalization, ReLU."""
    kind = layers.Conv2D if build.rank == 2 else layers.Conv3D
    start = keras.initializers.HeNormal(seed=build.layer_seed(f"{name}_conv"))
    x = kind(
        width, 3, strides=step, padding="same", use_bias=build.norm is None, kernel_initializer=start,
        name=f"{name}_conv",
    )(x)  # fmt: skip
    return layers.Activation("relu", name=name)(build.normalize(x, name=f"{name}_norm"))


def enlarge(x, step: tuple[int, ...], sides: tuple[int, ...], *, name: str):
    """Each pixel repeated ``step`` times along each axis, and cut at the end to ``sides``."""
    if max(step) > 1:
        kind = layers.UpSampling2D if len(sides) == 2 else layers.UpSampling3D
        x = kind(step, name=f"{name}_enlarge")(x)
    extra = [now - side for now, side in zip(x.shape[1:-1], sides, strict=True)]
    if not any(extra):
        return x
    crop = layers.Cropping2D if len(sides) == 2 else layers.Cropping3D
    return crop(tuple((0, count) for count in extra), name=f"{name}_fit")(x)


def output(build: Builder, x, channels: int, *, name: str = "reconstruction", start: str | None = None):
    """A linear 3x3 convolution to the channels of the images; ``start`` names its initial weights."""
    kind = layers.Conv2D if build.rank == 2 else layers.Conv3D
    start = start or keras.initializers.GlorotUniform(seed=build.layer_seed(name))
    return kind(channels, 3, padding="same", kernel_initializer=start, name=name)(x)


def halving_steps(sides: tuple[int, ...], levels: int | None) -> tuple[tuple[int, ...], ...]:
    """One stride an axis for each halving: 2 where that leaves at least 4 pixels.

    Raises:
        ValueError: more halvings than the longest side has room for.
    """
    if levels is not None:
        check_count("levels", levels)
    steps: list[tuple[int, ...]] = []
    while len(steps) < (levels or _DEEPEST):
        step = tuple(2 if side >= 2 * _LEAST else 1 for side in sides)
        if max(step) == 1:
            break
        steps.append(step)
        sides = tuple(-(-side // one) for side, one in zip(sides, step, strict=True))
    if levels is not None and len(steps) < levels:
        raise ValueError(
            f"The images have room for {len(steps)} halving(s), each of which leaves at least {_LEAST} pixels. "
            f"Received levels={levels}. Take fewer levels or larger images."
        )
    return tuple(steps)


def check_count(name: str, value: int) -> None:
    """Raises a ValueError unless ``value`` is a whole number of at least 1."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
        what = "; a code of no numbers says nothing about an image" if name == "latent" else ""
        raise ValueError(f"Expected {name} to be a whole number of at least 1. Received {value!r}{what}.")


def check_real(name: str, value: float, *, least: float | None = None, open_end: bool = False) -> None:
    """Raises a ValueError unless ``value`` is a finite number of at least ``least``, or above it where ``open_end``."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool) and np.isfinite(value)
    if not number or (least is not None and (value < least or (open_end and value == least))):
        bound = "" if least is None else f" {'above' if open_end else 'of at least'} {least:g}"
        raise ValueError(f"Expected {name} as a number{bound}. Received {value!r}.")
