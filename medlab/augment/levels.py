"""Levels: what artifacts ask of their arguments, and what a severity means in between whole numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medlab.augment.numbering import seed_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

NOISE = (0, 0.1, 0.2, 0.35, 0.5, 0.75)
"""Standard deviations of the image, at severity 0 to 5."""
CHANNELS = 16
"""More channels than this in an array of three axes are taken for the slices of a volume without a channel axis."""


def as_image(array: ArrayLike) -> NDArray[np.float32]:
    """A float32 copy, after making sure that it is one image with a channel axis."""
    if hasattr(array, "array") and hasattr(array, "affine"):
        raise ValueError(
            "Expected an array (i, j[, k], c). Received a Volume: give volume.array, with [..., None] where it has no "
            "channel axis, and put the result back with volume.replace(array=...)."
        )
    image = np.array(array, np.float32)
    if image.ndim not in (3, 4) or image.size == 0:
        raise ValueError(f"Expected one image (i, j[, k], c) with a channel axis. Received shape {image.shape}.")
    if image.ndim == 3 and image.shape[-1] > CHANNELS:
        raise ValueError(
            f"Expected one image (i, j[, k], c) with a channel axis. Received shape {image.shape}, which would be a "
            f"picture of {image.shape[-1]} channels. To a volume add [..., None]; give a picture of more than "
            f"{CHANNELS} channels in parts."
        )
    if not np.isfinite(image).all():
        raise ValueError("Expected finite values. The image holds NaN or infinity.")
    return image


def generator(rng: np.random.Generator | int) -> np.random.Generator:
    """The source of randomness; a whole number is the seed of a new one."""
    if isinstance(rng, np.random.Generator):
        return rng
    try:
        return np.random.default_rng(seed_of(rng))
    except ValueError:
        raise ValueError(
            "Expected rng as a numpy Generator, such as numpy.random.default_rng(0), or a seed of 0 or above. "
            f"Received {rng!r}."
        ) from None


def level(severity: float, levels: tuple[float, ...]) -> float:
    """The strength that a severity stands for, interpolated between whole numbers."""
    if not 0 <= severity <= 5:
        raise ValueError(f"Expected a severity between 0 (unharmed) and 5. Received {severity!r}.")
    return float(np.interp(severity, range(6), levels))


def positive(name: str, value: float) -> float:
    """The value, after making sure that it is finite and 0 or above."""
    if not (np.isfinite(value) and value >= 0):
        raise ValueError(f"Expected {name} of 0 or above. Received {value!r}.")
    return float(value)


def fraction_of(value: float) -> float:
    """The value, after making sure that it lies between 0 and 1."""
    if not 0 <= value <= 1:
        raise ValueError(f"Expected a fraction between 0 and 1. Received {value!r}.")
    return float(value)


def axis_of(axis: int | None, image: NDArray, default: int) -> int:
    """The spatial axis that was asked for, or the default."""
    chosen = default if axis is None else axis
    if chosen not in range(image.ndim - 1):
        raise ValueError(f"Expected an axis between 0 and {image.ndim - 2}. Received {axis!r}.")
    return chosen
