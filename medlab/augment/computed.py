"""Artifacts of computed tomography: what goes wrong in the projections of each slice.

The image's smallest value is taken for air. The image is scaled so that its densest ray lets exp(-depth) of the photons
through; only the error of the projections is reconstructed and added, so that the image itself loses no sharpness.
Slices are (i, j); in 3-D they lie along k.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medlab.augment import projection
from medlab.augment.levels import as_image, generator, level, positive
from medlab.augment.quanta import photon_counts

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

DEPTH = 6.0
"""Attenuation of the densest ray, about that of 30 cm of water at 0.02 / mm."""
# What severity 0, 1, ..., 5 means; between whole numbers it is interpolated.
_POISSON = (0, 0.004, 0.008, 0.014, 0.022, 0.035)  # 1 / root of the photons a ray
_SPREAD = (0, 0.1, 0.18, 0.26, 0.36, 0.5)  # half the spectrum attenuates this much more, half less
_METAL = (0, 1, 2, 3.5, 5.5, 8)  # attenuation across the metal
_RING = (0, 0.02, 0.04, 0.07, 0.11, 0.17)  # deviation of a detector element's error, in attenuation


def poisson_noise(
    array: NDArray,
    *,
    severity: float = 3,
    photons: float | None = None,
    depth: float = DEPTH,
    rng: np.random.Generator | int,
) -> NDArray[np.float32]:
    """The image of a scan with few photons: counts vary by Poisson's law, most where little gets through.

    Args:
        array: (i, j[, k], c); a constant image has nothing that attenuates and stays as it is.
        severity: 0 to 5: no noise, then 62500, 15625, 5100, 2070, 816 photons a ray.
        photons: photons that are sent along each ray, above 0, in place of severity.
        depth: attenuation of the densest ray.
        rng: source of randomness; the same state gives each ray the same luck at another dose.

    Source: B. R. Whiting et al., Med. Phys. 33(9), 2006, 3290-3303 (statistics of CT data). A ray that no photon
    survives counts as one photon.
    """
    sent = _photons(severity, photons)

    def wrong(p: NDArray) -> NDArray:
        counts = photon_counts(sent * np.exp(-p, dtype=np.float64), rng)
        return -np.log(np.maximum(counts, 1) / sent) - p

    image = as_image(array)
    rng = generator(rng)
    return image if np.isinf(sent) else _with_error(image, wrong, depth)


def beam_hardening(
    array: NDArray,
    *,
    severity: float = 3,
    spread: float | None = None,
    depth: float = DEPTH,
    rng: np.random.Generator | None = None,
) -> NDArray[np.float32]:
    """The image with a shadow in the middle and between dense parts: soft rays die first; nothing is random.

    Half the photons are attenuated 1 + spread times, half 1 - spread times as much, so that a ray of attenuation p is
    measured as p - log cosh(spread p). One factor for all rays then keeps the mean, as calibration does.

    Args:
        array: (i, j[, k], c); a constant image stays as it is.
        severity: 0 to 5: spreads 0, 0.1, 0.18, 0.26, 0.36, 0.5.
        spread: from 0 to below 1, in place of severity.
        depth: attenuation of the densest ray.
        rng: not used.

    Source: R. A. Brooks, G. Di Chiro, Phys. Med. Biol. 21(3), 1976, 390-398 (polychromatic beam; here two energies).
    """
    image = as_image(array)
    amount = level(severity, _SPREAD) if spread is None else positive("spread", spread)
    if amount >= 1:
        raise ValueError(f"Expected a spread below 1. Received {spread!r}.")

    def wrong(p: NDArray) -> NDArray:
        measured = p - hardening(p, amount)
        return measured * (p.sum(dtype=np.float64) / measured.sum(dtype=np.float64)) - p

    return image if amount == 0 else _with_error(image, wrong, depth)


def metal_streak(
    array: NDArray,
    *,
    severity: float = 3,
    density: float | None = None,
    depth: float = DEPTH,
    rng: np.random.Generator | int,
) -> NDArray[np.float32]:
    """The image with a piece of metal and the streaks that go out from it: hardening and too few photons behind it.

    A round rod, 3 % of the longer side in radius and at least one voxel, stands at a random place among the brighter
    half of the voxels (anywhere among those of the largest value where they are more than half); in 3-D in half of the
    slices. Where it is, the image has its largest value.

    Args:
        array: (i, j[, k], c); a constant image stays as it is.
        severity: 0 to 5: attenuation 0, 1, 2, 3.5, 5.5, 8 across the metal.
        density: that attenuation, in place of severity; 0 is no metal.
        depth: attenuation of the densest ray without metal.
        rng: source of randomness; the same state gives the same place at another severity.

    Source: B. De Man et al., IEEE Trans. Nucl. Sci. 46(3), 1999, 691-696.
    """
    image = as_image(array)
    rng = generator(rng)
    amount = level(severity, _METAL) if density is None else positive("density", density)
    first = image[..., 0]
    places = np.argwhere(first > np.median(first))
    if not len(places) and first.max() > first.min():  # more than half of the voxels hold the largest value
        places = np.argwhere(first == first.max())
    drawn, shift = rng.random(), rng.random()
    if amount == 0 or not len(places):
        return image
    place = places[int(drawn * len(places))]
    rows, columns = image.shape[:2]
    radius = max(1.0, 0.03 * max(rows, columns))
    distance = np.hypot(np.arange(rows)[:, None] - place[0], np.arange(columns) - place[1])
    rod = np.clip(radius + 0.5 - distance, 0, 1).astype(np.float32)
    across = projection.project(rod.reshape(-1, 1), (rows, columns))
    across *= amount / across.max()
    part: tuple = (slice(None), slice(None))
    if image.ndim == 4:
        n = image.shape[2]
        length = (n + 1) // 2
        start = int(np.clip(place[2] - int(shift * length), 0, n - length))
        part += (slice(start, start + length),)

    def wrong(p: NDArray) -> NDArray:
        total = p + across
        sent = 1e5
        measured = total - hardening(total, 0.2) + hardening(p, 0.2)
        counts = photon_counts(sent * np.exp(-measured, dtype=np.float64), rng)
        return np.where(across > 0, -np.log(np.maximum(counts, 1) / sent) - total, 0)

    out = image.copy()
    out[part] = _with_error(image[part], wrong, depth, low=float(image.min()))
    shaped = rod.reshape(rows, columns, *(1,) * (image.ndim - 2))
    out[part] = np.where(shaped > 0.5, image.max(), out[part])
    return out


def ring(
    array: NDArray,
    *,
    severity: float = 3,
    strength: float | None = None,
    depth: float = DEPTH,
    rng: np.random.Generator | int,
) -> NDArray[np.float32]:
    """The image with rings: detector elements that measure too much or too little in every view of a full turn.

    Args:
        array: (i, j[, k], c); a constant image stays as it is.
        severity: 0 to 5: deviation of an element's error 0, 0.02, 0.04, 0.07, 0.11, 0.17 in attenuation.
        strength: that deviation, in place of severity.
        depth: attenuation of the densest ray.
        rng: source of randomness; the same state gives the same rings at another strength.

    Source: J. Sijbers, A. Postnov, Phys. Med. Biol. 49(14), 2004, N247-N253.
    """
    image = as_image(array)
    rng = generator(rng)
    amount = level(severity, _RING) if strength is None else positive("strength", strength)

    def wrong(p: NDArray) -> NDArray:
        error = rng.standard_normal(p.shape[1:], np.float32) * np.float32(amount)
        # A view from behind sees the same rays through the elements on the other side.
        return np.broadcast_to((error + error[::-1]) / np.float32(np.sqrt(2)), p.shape)

    return image if amount == 0 else _with_error(image, wrong, depth)


def hardening(p: NDArray, spread: float) -> NDArray:
    """How much attenuation a beam of two energies misses: log cosh(spread p), without overflow."""
    return np.logaddexp(spread * p, -spread * p) - np.log(2)


def _photons(severity: float, photons: float | None) -> float:
    if photons is None:
        relative = level(severity, _POISSON)
        return 1 / relative**2 if relative else np.inf
    if not photons > 0:
        raise ValueError(f"Expected photons above 0. Received {photons!r}.")
    return float(photons)


def _with_error(
    image: NDArray[np.float32], wrong: Callable[[NDArray], NDArray], depth: float, low: float | None = None
) -> NDArray[np.float32]:
    """The image and what becomes of the error that its projections have; ``low`` is air."""
    if not depth > 0:
        raise ValueError(f"Expected depth above 0. Received {depth!r}.")
    low = image.min() if low is None else low
    if image.max() <= low:
        return image.copy()
    shape = image.shape[:2]
    p = projection.project((image - low).reshape(shape[0] * shape[1], -1), shape)
    scale = np.float32(depth / p.max())
    error = projection.reconstruct(wrong(p * scale), shape).reshape(image.shape)
    return image + error / scale
