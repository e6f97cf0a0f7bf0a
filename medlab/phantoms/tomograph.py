"""Tomographs: how the same head looks in CT under another dose, kernel or calibration.

In: attenuation on a grid in HU. Out: the image that a scanner gives. Nothing is projected; noise has the spectrum of
filtered back-projection.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Protocol:
    """A CT scanner with its protocol: factors and differences, chosen.

    Attributes:
        number: of the domain; goes into the seed of the noise.
        noise: factor on the noise.
        power: exponent of the noise's amplitude over spatial frequency: 0.5 is that of filtered back-projection.
        roll_off: share of the highest frequency at which the kernel has fallen to 1/e.
        edges: how much the kernel sharpens.
        shift: HU, of everything but air.
        cupping: HU by which the middle is too low for want of a correction of beam hardening.
    """

    number: int = 0
    noise: float = 1.0
    power: float = 0.5
    roll_off: float = 0.55
    edges: float = 0.0
    shift: float = 0.0
    cupping: float = 0.0


DOMAINS = {
    "reference": Protocol(),
    "low-dose": Protocol(1, noise=2.0),
    "sharp-kernel": Protocol(2, noise=1.8, roll_off=1.2, edges=0.8),
    "other-scanner": Protocol(3, noise=0.8, roll_off=0.4, shift=3.0, cupping=4.0),
}
"""By name: standard dose and kernel; a quarter of the dose; a kernel for bone; a smooth one, calibrated otherwise."""


def acquire(
    image: NDArray, protocol: Protocol, noise: float, axes: tuple[NDArray, NDArray, NDArray], rng: np.random.Generator
) -> NDArray[np.int16]:
    """The image as a scanner gives it: kernel, calibration and noise; HU.

    The noise power of filtered back-projection grows with the spatial frequency until the kernel's roll-off: Riederer,
    Pelc and Chesler, Phys Med Biol 23:446 (1978).

    Args:
        image: (i, j, k) HU; k is along the table.
        protocol: the scanner.
        noise: deviation in HU, before the protocol's factor.
        axes: places along x, y and z, mm.
        rng: of the noise.
    """
    rows, columns = image.shape[:2]
    radius = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None]) / 0.5
    kernel = np.exp(-((radius / protocol.roll_off) ** 2))
    amplitude = radius**protocol.power * kernel
    weight = np.full(radius.shape, 2.0)
    weight[:, 0] = 1
    if columns % 2 == 0:
        weight[:, -1] = 1
    amplitude *= noise * protocol.noise / np.sqrt((weight * amplitude**2).sum() / (rows * columns))
    filters = 1 + protocol.edges * radius**2 * np.exp(-((radius / 0.8) ** 2))
    grain = rng.standard_normal(image.shape, np.float32)
    result = np.empty(image.shape, np.float32)
    for k in range(image.shape[2]):
        spectrum = np.fft.rfft2(grain[:, :, k]) * amplitude
        if protocol.edges:
            spectrum += np.fft.rfft2(image[:, :, k]) * filters
            result[:, :, k] = np.fft.irfft2(spectrum, s=(rows, columns))
        else:
            result[:, :, k] = image[:, :, k] + np.fft.irfft2(spectrum, s=(rows, columns))
    if protocol.shift or protocol.cupping:
        x, y = (axis - axis.mean() for axis in axes[:2])
        cup = protocol.shift - protocol.cupping * np.exp(-(x[:, None] ** 2 + y[None] ** 2) / (2 * 45.0**2))
        result += np.where(image > -500, cup[..., None], 0).astype(np.float32)
    return np.rint(result).clip(-1024, 3071).astype(np.int16)
