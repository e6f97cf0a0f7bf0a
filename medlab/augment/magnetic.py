"""Artifacts of magnetic resonance in the image: noise, uneven coils, thick slices.

The image's smallest value is taken for no signal. What goes wrong in k-space is in kspace.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medlab.augment.fields import smooth_field
from medlab.augment.levels import NOISE, as_image, axis_of, generator, level, positive

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What severity 0, 1, ..., 5 means; between whole numbers it is interpolated.
_BIAS = (0, 0.15, 0.3, 0.45, 0.6, 0.8)  # deviation of the field's logarithm
_THICK = (1, 1.5, 2, 3, 4, 6)  # voxels a slice


def rician_noise(
    array: NDArray, *, severity: float = 3, std: float | None = None, rng: np.random.Generator | int
) -> NDArray[np.float32]:
    """The image as a magnitude of a complex signal with Gaussian noise in both parts, as MR scanners deliver it.

    The image's smallest value is taken for no signal; noise lifts it.

    Args:
        array: (i, j[, k], c).
        severity: 0 to 5: 0, 0.1, 0.2, 0.35, 0.5, 0.75 standard deviations of the image.
        std: standard deviation of each part's noise in units of the image, in place of severity.
        rng: source of randomness.

    Source: H. Gudbjartsson, S. Patz, Magn. Reson. Med. 34(6), 1995, 910-914.
    """
    image = as_image(array)
    rng = generator(rng)
    strength = level(severity, NOISE) * image.std(dtype=np.float64) if std is None else positive("std", std)
    if strength == 0:
        return image
    low = image.min()
    real = image - low + np.float32(strength) * rng.standard_normal(image.shape, np.float32)
    imaginary = np.float32(strength) * rng.standard_normal(image.shape, np.float32)
    return np.hypot(real, imaginary) + low


def bias_field(
    array: NDArray, *, severity: float = 3, strength: float | None = None, rng: np.random.Generator | int
) -> NDArray[np.float32]:
    """The image, counted from its smallest value, times a smooth field: the uneven sensitivity of MR coils.

    The field's logarithm is a random polynomial of degree 3 in the coordinates, with mean 0.

    Args:
        array: (i, j[, k], c).
        severity: 0 to 5: deviation of the field's logarithm 0, 0.15, 0.3, 0.45, 0.6, 0.8.
        strength: that deviation, in place of severity.
        rng: source of randomness; the same state gives the same field at another strength.

    Source: K. Van Leemput et al., IEEE Trans. Med. Imaging 18(10), 1999, 885-896 (polynomial model).
    """
    image = as_image(array)
    rng = generator(rng)
    deviation = level(severity, _BIAS) if strength is None else positive("strength", strength)
    field = smooth_field(image.shape[:-1], rng.standard_normal, deviation)
    if field is None:
        return image
    low = image.min()
    return low + (image - low) * np.exp(field)[..., None]


def thick_slices(
    array: NDArray,
    *,
    severity: float = 3,
    thickness: float | None = None,
    axis: int | None = None,
    rng: np.random.Generator | None = None,
) -> NDArray[np.float32]:
    """The image as if taken in thick slices: the mean over each of them, linear in between; nothing is random.

    Args:
        array: (i, j[, k], c).
        severity: 0 to 5: slices of 1, 1.5, 2, 3, 4, 6 voxels.
        thickness: voxels a slice, 1 or above, in place of severity.
        axis: across the slices; by default the last spatial axis in 3-D, rows in 2-D.
        rng: not used.

    Source: B. Billot et al., Med. Image Anal. 86, 2023, 102789 (slice thickness as averaging, then upsampling).
    """
    image = as_image(array)
    size = level(severity, _THICK) if thickness is None else positive("thickness", thickness)
    if size < 1:
        raise ValueError(f"Expected slices of 1 voxel or more. Received thickness {thickness!r}.")
    axis = axis_of(axis, image, image.ndim - 2 if image.ndim == 4 else 0)
    n = image.shape[axis]
    if size == 1 or n == 1:
        return image
    voxel = np.arange(n)
    start = np.arange(int(np.ceil(n / size)))[:, None] * size
    shared = np.clip(np.minimum(voxel + 1, start + size) - np.maximum(voxel, start), 0, None)
    shared /= shared.sum(1, keepdims=True)
    middle = shared @ voxel
    between = np.stack([np.interp(voxel, middle, one) for one in np.eye(len(middle))], 1)
    out = np.tensordot((between @ shared).astype(np.float32), image, (1, axis))
    return np.ascontiguousarray(np.moveaxis(out, 0, axis))
