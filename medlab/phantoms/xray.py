"""X-ray physics: attenuation by energy, the Beer-Lambert law over a spectrum, scatter, and photon noise.

In: grams of each material per square centimeter along a ray, or densities. Out: transmitted shares, Hounsfield units,
pictures as a detector gives them. It knows no anatomy.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

ENERGIES = (30.0, 40.0, 50.0, 60.0, 80.0, 100.0)
"""Photon energies (keV) that stand for a spectrum."""

# Total mass attenuation (with coherent scattering), cm2/g, at ENERGIES: Hubbell and Seltzer, NIST Standard Reference
# Database 126 (NISTIR 5632, 1995); bone is cortical bone of ICRU Report 44, 1.92 g/cm3.
MASS_ATTENUATION = {
    "water": (0.3756, 0.2683, 0.2269, 0.2059, 0.1837, 0.1707),
    "bone": (1.331, 0.6655, 0.4242, 0.3148, 0.2229, 0.1855),
    "iodine": (8.561, 22.10, 12.32, 7.579, 3.510, 1.942),
}

BONE_DENSITY = 1.92  # g/cm3, cortical bone of ICRU Report 44

# Shares of the detected photons at ENERGIES. Chosen: smooth curves below the tube's peak energy that harden with it, as
# a filtered tungsten tube's do, without its characteristic lines; not measured on a tube.
SPECTRA = {
    "55 kV": (0.25, 0.45, 0.30, 0.00, 0.00, 0.00),
    "70 kV": (0.10, 0.36, 0.34, 0.20, 0.00, 0.00),
    "85 kV": (0.04, 0.26, 0.32, 0.26, 0.12, 0.00),
    "100 kV": (0.02, 0.18, 0.28, 0.28, 0.21, 0.03),
    "120 kV": (0.01, 0.10, 0.20, 0.28, 0.28, 0.13),
    "140 kV": (0.00, 0.05, 0.14, 0.24, 0.33, 0.24),
}


def transmission(paths: Mapping[str, ArrayLike], spectrum: str) -> NDArray[np.float32]:
    """The share of the photons that pass, by the Beer-Lambert law summed over the spectrum.

    Args:
        paths: for materials of ``MASS_ATTENUATION``, the mass along each ray, g/cm2; arrays of one shape.
        spectrum: one of ``SPECTRA``.

    Returns:
        sum over E of w(E) exp(-sum over m of mu_m(E) paths_m), from 0 to 1; 1 where nothing is in the way.

    Raises:
        ValueError: an unknown material or spectrum, or no material.
    """
    weights = _spectrum(spectrum)
    if not paths:
        raise ValueError("Expected the path of at least one material. Received none.")
    columns = [(_material(name), np.asarray(path, np.float32)) for name, path in paths.items()]
    result = np.zeros(np.broadcast_shapes(*(path.shape for _, path in columns)), np.float32)
    for index, weight in enumerate(weights):
        if weight:
            exponent = sum(np.float32(values[index]) * path for values, path in columns)
            result += np.float32(weight) * np.exp(-exponent)
    return result


def effective(material: str, spectrum: str) -> float:
    """The mass attenuation (cm2/g) that a thin layer shows in a spectrum: the mean over its photons.

    Raises:
        ValueError: an unknown material or spectrum.
    """
    return float(np.dot(_material(material), _spectrum(spectrum)))


def hounsfield(densities: Mapping[str, ArrayLike], spectrum: str) -> NDArray[np.float32]:
    """Hounsfield units of a mixture without noise or blur: 1000 (mu / mu_water - 1); nothing gives -1000, water 0.

    Args:
        densities: for materials of ``MASS_ATTENUATION``, g/cm3 of the voxel.
        spectrum: one of ``SPECTRA``; the mean attenuation of its photons counts.

    Raises:
        ValueError: an unknown material or spectrum.
    """
    water = effective("water", spectrum)
    total = sum(np.asarray(rho, np.float32) * np.float32(effective(name, spectrum)) for name, rho in densities.items())
    return np.float32(1000 / water) * total - np.float32(1000)


def expose(
    paths: Mapping[str, ArrayLike],
    spectrum: str,
    *,
    photons: float,
    scatter: float,
    reach: float,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """What a flat detector counts behind a patient, by the count behind nothing.

    Args:
        paths: as in :func:`transmission`, (rows, columns).
        spectrum: one of ``SPECTRA``.
        photons: detected in a pixel with nothing in the way, above 0.
        scatter: scattered by unscattered photons behind the patient, 0 or above, in the mean. Scatter is modeled as a
            blurred copy of the primary image, which is smooth as true scatter but ignores where it arises.
        reach: deviation in pixels of the Gaussian that blurs it.
        rng: of the noise.

    Returns:
        (rows, columns) float32 above 0: counts by ``photons``, with Poisson noise; a pixel without any photon is
        given half of one, so that a logarithm exists.
    """
    from scipy import ndimage

    primary = transmission(paths, spectrum)
    blurred = ndimage.gaussian_filter(primary, reach, mode="nearest", truncate=2.5)
    counts = rng.poisson((primary + np.float32(scatter) * blurred).astype(np.float64) * photons)
    return (np.maximum(counts, 0.5) / photons).astype(np.float32)


def present(
    counts: NDArray, *, reach: float, detail: float, spread: float, middle: float, bits: int = 12
) -> NDArray[np.uint16]:
    """Counts as a radiograph for the eye: bone is bright, and the broad differences are held back.

    The logarithm is taken, its broad part (a Gaussian's) is compressed to half, the rest is multiplied by ``detail``,
    and the brightness is set so that the middle of the picture is gray, as automatic processing does. So the mean
    of a picture says little about what is in it.

    Args:
        counts: as :func:`expose` gives them.
        reach: deviation in pixels of what is broad.
        detail: factor of all that is finer.
        spread: gray levels by the unit of the logarithm, as a share of the range.
        middle: gray of the median, as a share of the range.
        bits: 12 gives 0 to 4095.
    """
    from scipy import ndimage

    dark = -np.log(counts)
    broad = ndimage.gaussian_filter(dark, reach, mode="nearest", truncate=2.5)
    shown = 0.5 * broad + np.float32(detail) * (dark - broad)
    rows, columns = (slice(n // 6, n - n // 6) for n in shown.shape)
    gray = middle + spread * (shown - np.median(shown[rows, columns]))
    return np.rint(np.clip(gray, 0, 1) * (2**bits - 1)).astype(np.uint16)


def _material(name: str) -> tuple[float, ...]:
    if name not in MASS_ATTENUATION:
        raise ValueError(f"Expected a material of {', '.join(MASS_ATTENUATION)}. Received {name!r}.")
    return MASS_ATTENUATION[name]


def _spectrum(name: str) -> tuple[float, ...]:
    if name not in SPECTRA:
        raise ValueError(f"Expected a spectrum of {', '.join(SPECTRA)}. Received {name!r}.")
    return SPECTRA[name]
