"""Artifacts of radiography: few photons, scattered photons, blades and grids between tube and detector.

Bright is taken for dense, as radiographs are usually shown: between the smallest and the largest value attenuation
grows evenly from 0 to ``depth``, and exp(-attenuation) of the photons reach the detector. A constant image shows
nothing that attenuates and stays as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medlab.augment.levels import as_image, axis_of, fraction_of, generator, level, positive
from medlab.augment.quanta import photon_counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEPTH = 4.0
"""Attenuation at the largest value: exp(-4) = 2 % of the photons get through. Chosen."""
# What severity 0, 1, ..., 5 means; between whole numbers it is interpolated.
_EXPOSURE = (0, 0.02, 0.035, 0.06, 0.1, 0.16)  # 1 / root of the photons a pixel
_SCATTER = (0, 0.2, 0.5, 1, 2, 4)  # scattered to primary photons
_BLADES = (0, 0.05, 0.12, 0.2, 0.3, 0.42)  # part of the area
_GRID = (0, 0.06, 0.12, 0.2, 0.32, 0.5)  # modulation of the photons


def exposure(
    array: NDArray,
    *,
    severity: float = 3,
    photons: float | None = None,
    depth: float = DEPTH,
    rng: np.random.Generator | int,
) -> NDArray[np.float32]:
    """The image of too short an exposure: photons vary by Poisson's law, most where little gets through.

    The brightness stays, as detectors adjust it; what is lost is lost in noise (quantum mottle).

    Args:
        array: (i, j[, k], c).
        severity: 0 to 5: no noise, then 2500, 816, 278, 100, 39 photons a pixel where nothing is in the way.
        photons: that number, above 0, in place of severity.
        depth: attenuation at the largest value.
        rng: source of randomness; the same state gives each pixel the same luck at another dose.

    Source: I. A. Cunningham, R. Shaw, J. Opt. Soc. Am. A 16(3), 1999, 621-632 (Poisson statistics of image quanta). A
    pixel that no photon reaches counts as one photon.
    """
    image, p, scale = _attenuation(array, depth)
    rng = generator(rng)
    if photons is None:
        relative = level(severity, _EXPOSURE)
        sent = 1 / relative**2 if relative else np.inf
    elif photons > 0:
        sent = float(photons)
    else:
        raise ValueError(f"Expected photons above 0. Received {photons!r}.")
    if scale == 0 or np.isinf(sent):
        return image
    counts = np.maximum(photon_counts(sent * np.exp(-p, dtype=np.float64), rng), 1)
    return image + scale * (-np.log(counts / sent) - p).astype(np.float32)


def scatter(
    array: NDArray,
    *,
    severity: float = 3,
    ratio: float | None = None,
    width: float = 0.1,
    depth: float = DEPTH,
    rng: np.random.Generator | None = None,
) -> NDArray[np.float32]:
    """The image under a veil of scattered photons, which takes contrast most where it is dense; nothing is random.

    Scattered photons are the primary ones blurred: what arrives is (I + ratio blur(I)) / (1 + ratio).

    Args:
        array: (i, j[, k], c).
        severity: 0 to 5: ratios 0, 0.2, 0.5, 1, 2, 4.
        ratio: scattered to primary photons over the whole image, in place of severity.
        width: standard deviation of the blur in parts of the longest side.
        depth: attenuation at the largest value.
        rng: not used.

    Source: J. M. Boone, J. A. Seibert, Med. Phys. 15(5), 1988, 721-725 (scatter as a convolution; here a Gaussian).
    """
    from scipy import ndimage

    image, p, scale = _attenuation(array, depth)
    amount = level(severity, _SCATTER) if ratio is None else positive("ratio", ratio)
    if scale == 0 or amount == 0:
        return image
    primary = np.exp(-p)
    sigma = [positive("width", width) * max(image.shape[:-1])] * (image.ndim - 1) + [0]
    arriving = (primary + np.float32(amount) * ndimage.gaussian_filter(primary, sigma, mode="nearest")) / (1 + amount)
    return image + scale * (-np.log(arriving) - p).astype(np.float32)


def collimation(
    array: NDArray, *, severity: float = 3, fraction: float | None = None, rng: np.random.Generator | int
) -> NDArray[np.float32]:
    """The image with its margins covered: blades are closed too far, and the shutter shows them in the smallest value.

    Args:
        array: (i, j[, k], c); the blades close along the first two axes.
        severity: 0 to 5: 0, 5, 12, 20, 30, 42 % of the area are covered.
        fraction: that part, in place of severity.
        rng: shares what is covered among the four sides; the same state shares alike at another severity.

    Source: DICOM PS3.3, C.7.6.11 Display Shutter Module (covered areas are shown in one gray value).
    """
    image = as_image(array)
    rng = generator(rng)
    part = level(severity, _BLADES) if fraction is None else fraction_of(fraction)
    shares = rng.random(2)
    if part == 0:
        return image
    covered = 1 - np.sqrt(1 - part)
    low = image.min()
    image -= low
    for axis in range(2):
        n = image.shape[axis]
        first = covered * shares[axis] * n
        last = n - covered * (1 - shares[axis]) * n
        voxel = np.arange(n)
        seen = np.clip(np.minimum(voxel + 1, last) - np.maximum(voxel, first), 0, 1).astype(np.float32)
        image *= seen.reshape(tuple(-1 if one == axis else 1 for one in range(image.ndim)))
    image += low
    return image


def grid_lines(
    array: NDArray,
    *,
    severity: float = 3,
    strength: float | None = None,
    period: float | None = None,
    axis: int | None = None,
    depth: float = DEPTH,
    rng: np.random.Generator | int,
) -> NDArray[np.float32]:
    """The image with the shadow of an anti-scatter grid that stood still: fine stripes, often aliased to wider ones.

    Args:
        array: (i, j[, k], c).
        severity: 0 to 5: photons vary by 0, 6, 12, 20, 32, 50 % either way.
        strength: that part, from 0 to below 1, in place of severity.
        period: pixels from one stripe to the next, 2 or more; drawn between 2.2 and 8 by default.
        axis: across the stripes, 0 or 1; drawn by default.
        depth: attenuation at the largest value.
        rng: source of randomness; the same state gives the same stripes at another strength.

    Source: D. M. Gauntt, G. T. Barnes, Med. Phys. 33(6), 2006, 1668-1677.
    """
    image, _, scale = _attenuation(array, depth)
    rng = generator(rng)
    amount = level(severity, _GRID) if strength is None else positive("strength", strength)
    if amount >= 1:
        raise ValueError(f"Expected a strength below 1. Received {strength!r}.")
    drawn, phase, chosen = rng.uniform(2.2, 8), rng.uniform(0, 2 * np.pi), int(rng.integers(2))
    pixels = drawn if period is None else positive("period", period)
    if pixels < 2:
        raise ValueError(f"Expected a period of 2 pixels or more. Received {period!r}.")
    axis = axis_of(axis, image, chosen)
    wave = np.log1p(amount * np.cos(2 * np.pi * np.arange(image.shape[axis]) / pixels + phase)).astype(np.float32)
    return image - scale * wave.reshape(tuple(-1 if one == axis else 1 for one in range(image.ndim)))


def _attenuation(array: NDArray, depth: float) -> tuple[NDArray[np.float32], NDArray[np.float32], np.float32]:
    """The image, its attenuation from 0 to ``depth``, and the image's units in one unit of it; 0 where constant."""
    if not depth > 0:
        raise ValueError(f"Expected depth above 0. Received {depth!r}.")
    image = as_image(array)
    low, high = image.min(), image.max()
    scale = np.float32((high - low) / depth)
    return image, (image - low) / (scale or np.float32(1)), scale
