"""Received: whether images and labels can train a GAN; each refusal says what came and what to do."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.train.adversarial.distorting import CHANGES
from medlab.train.adversarial.steps import LOSSES
from medlab.train.received import alone, check_differing

FEW = 10_000
"""Images below which ``augment="auto"`` distorts. Chosen."""


def images(gan: Any, x: ArrayLike) -> NDArray[np.float32]:
    """The images as float32, after checks.

    Raises:
        ValueError: another shape, fewer than two, NaN, values outside the GAN's range, or all images alike.
    """
    if not hasattr(gan, "generator") or not hasattr(gan, "discriminator"):
        raise ValueError(f"Expected a GAN of medlab.models.gan first. Received {type(gan).__name__}.")
    if isinstance(x, tuple):
        raise ValueError("Expected images and labels apart: fit_gan(gan, x, y). Received a tuple as x.")
    x = alone(x)
    shape = gan.generator.output_shape[1:]
    if x.ndim != len(shape) + 1 or x.shape[1:] != tuple(shape):
        raise ValueError(f"Expected images of shape (n, {', '.join(map(str, shape))}). Received {x.shape}.")
    if len(x) < 2:
        raise ValueError(f"Expected at least 2 images, to tell them apart. Received {len(x)}.")
    if x.dtype.kind not in "fiub":
        raise ValueError(f"Expected numbers. Received {x.dtype}.")
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise ValueError("The images hold NaN or infinity. Mend them (medlab.clean.faults) or leave them out.")
    low, high = gan.value_range
    room = 1e-3 * (high - low)
    if x.min() < low - room or x.max() > high + room:
        raise ValueError(
            f"The images reach from {x.min():.4g} to {x.max():.4g}, and this GAN makes values from {low:.4g} to "
            f"{high:.4g}. Clip the images, or make it with models.gan(..., value_range=({x.min():.4g}, {x.max():.4g}))."
        )
    check_differing(x)
    return x.astype(np.float32)


def labels(gan: Any, y: ArrayLike | None, count: int) -> NDArray[np.int32] | None:
    """The labels as whole numbers, or None.

    Raises:
        ValueError: labels for a GAN without classes, none for one with, other numbers than its classes, or a class
            without an image.
    """
    if not gan.classes:
        if y is not None:
            raise ValueError("This GAN has no classes, so it takes no labels. Make one with models.gan(classes=...).")
        return None
    if y is None:
        raise ValueError(f"This GAN has {gan.classes} classes: give y, a class index for each image.")
    y = np.asarray(y)
    if y.shape == (count, 1):
        y = y[:, 0]
    whole = y.dtype.kind in "iub" or (y.dtype.kind == "f" and np.isfinite(y).all() and (y == np.floor(y)).all())
    if y.shape != (count,) or not whole or y.min() < 0 or y.max() >= gan.classes:
        raise ValueError(
            f"Expected {count} class indices from 0 to {gan.classes - 1}. Received {y.dtype} of shape {y.shape} with "
            f"values such as {np.unique(y)[:5].tolist()}."
        )
    absent = sorted({*range(gan.classes)} - set(np.unique(y).astype(int).tolist()))
    if absent:
        raise ValueError(f"No image has the label {', '.join(map(str, absent))}. Take fewer classes, or give some.")
    return y.astype(np.int32)


def wholes(**numbers: Any) -> None:
    """Refuses what is no whole number of at least 1, for the seed 0."""
    for name, value in numbers.items():
        least = 0 if name == "seed" else 2 if name in ("batch_size", "samples") else 1
        if isinstance(value, bool) or not hasattr(value, "__index__") or value < least:
            raise ValueError(f"Expected {name} to be a whole number of at least {least}. Received {value!r}.")


def rates(learning_rate: Any) -> tuple[float, float]:
    """Those of generator and discriminator."""
    pair = learning_rate if isinstance(learning_rate, tuple | list) else (learning_rate,) * 2
    if len(pair) != 2 or not all(
        isinstance(one, int | float | np.number) and not isinstance(one, bool) and math.isfinite(one) and one > 0
        for one in pair
    ):
        raise ValueError(
            f"Expected learning_rate above 0, or a pair for generator and discriminator. Received {learning_rate!r}."
        )
    return float(pair[0]), float(pair[1])


def changes(augment: Any, count: int) -> tuple[tuple[str, ...], str]:
    """What distorts the images, and why.

    Raises:
        ValueError: an unknown change.
    """
    if augment == "auto":
        if count < FEW:
            return CHANGES, f"{', '.join(CHANGES)}: there are fewer than {FEW:,} images"
        return (), f"none: there are {count:,} images"
    if augment is None or augment is False:
        return (), "none, as given"
    chosen = (augment,) if isinstance(augment, str) else tuple(augment)
    if set(chosen) - set(CHANGES):
        raise ValueError(f'Expected augment "auto", None, or some of {CHANGES}. Received {augment!r}.')
    return tuple(one for one in CHANGES if one in chosen), f"{', '.join(chosen)}, as given"


def check_loss(loss: Any) -> None:
    """Refuses an unknown loss."""
    if loss not in LOSSES:
        raise ValueError(f"Expected loss to be one of {LOSSES}. Received {loss!r}.")
