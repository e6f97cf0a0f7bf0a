"""Computed tomography: parallel projections of slices and their filtered back-projection, beam hardening and noise.

In: densities of soft tissue and bone on square slices. Out: the same slices in Hounsfield units, as a scanner
reconstructs them. Square pixels, parallel rays, no helical motion, no scatter.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from medlab.phantoms import xray

KERNELS = ("soft", "sharp")


def scan(
    water: NDArray,
    bone: NDArray,
    spacing: float,
    *,
    spectrum: str,
    photons: float,
    kernel: str,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Slices as a scanner reconstructs them, in Hounsfield units.

    The spectrum is transmitted by :func:`medlab.phantoms.xray.transmission`, counted with Poisson noise, corrected for
    the beam hardening of water (not of bone: dense bone keeps its streaks) and back-projected.

    Args:
        water: (n, n) or (n, n, slices), g/cm3 of what attenuates as water.
        bone: the same shape, g/cm3 of cortical bone.
        spacing: mm between pixels.
        spectrum: one of ``xray.SPECTRA``.
        photons: detected by one detector cell in one view with nothing in the way; 0 gives no noise.
        kernel: ``"soft"`` (ramp with a Hann window) or ``"sharp"`` (ramp alone).
        rng: of the noise.

    Returns:
        float32 of the shape of ``water``; vacuum is -1000, water 0.

    Raises:
        ValueError: slices that are not square, or an unknown kernel or spectrum.
    """
    if water.shape != bone.shape or water.ndim not in (2, 3) or water.shape[0] != water.shape[1]:
        raise ValueError(f"Expected square slices of one shape. Received shapes {water.shape} and {bone.shape}.")
    if kernel not in KERNELS:
        raise ValueError(f"Expected a kernel of {', '.join(KERNELS)}. Received {kernel!r}.")
    n, shape = len(water), water.shape
    both = np.concatenate([one.reshape(n, n, -1).astype(np.float32) for one in (water, bone)], 2)
    sinogram = project(both) * np.float32(spacing / 10)  # g/cm2
    half = both.shape[2] // 2
    passed = xray.transmission({"water": sinogram[..., :half], "bone": sinogram[..., half:]}, spectrum)
    if photons > 0:
        passed = np.maximum(rng.poisson(passed.astype(np.float64) * photons), 0.5) / photons
    depth, blocked = _hardening(spectrum)
    lengths = np.interp(-np.log(passed), blocked, depth).astype(np.float32)  # cm of water
    density = back_project(lengths, n, kernel) * np.float32(10 / spacing)
    return (1000 * density - 1000).reshape(shape)


def grain(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """Noise of deviation 1 as a soft kernel leaves it, for images that are made without projections.

    In an axial plane the power of back-projected noise grows with the frequency until the kernel ends it (Kak and
    Slaney, chapter 3); from slice to slice it is independent.

    Args:
        shape: (x, y, z), or (x, z) for a plane along the body: there the power is summed over y.
        rng: of the noise.
    """
    from scipy import fft

    across, along = np.fft.fftfreq(256), np.fft.rfftfreq(shape[0])
    if len(shape) == 3:
        across = np.fft.fftfreq(shape[1])
    far = np.hypot(along[:, None], across)
    power = far * np.cos(np.pi * np.minimum(far, 0.5)) ** 4
    white = rng.standard_normal(shape, np.float32)
    if len(shape) == 2:
        response = np.sqrt(power.mean(1))[:, None].astype(np.float32)
        colored = fft.irfft(fft.rfft(white, axis=0) * response, shape[0], axis=0)
    else:
        response = np.sqrt(power)[..., None].astype(np.float32)
        colored = fft.irfft2(fft.rfft2(white, axes=(1, 0)) * response, (shape[1], shape[0]), axes=(1, 0))
    return (colored / max(float(colored.std()), 1e-6)).astype(np.float32, copy=False)


def views(n: int) -> int:
    """Number of projections over half a turn for slices of n pixels: a multiple of four, about 1.4 n."""
    return 4 * max(8, round(0.35 * n))


def cells(n: int) -> int:
    """Number of detector cells of one pixel's width that see the whole square."""
    return int(np.ceil(n * np.sqrt(2))) + 3


def project(slices: NDArray) -> NDArray[np.float32]:
    """Parallel projections over half a turn, in units of the pixel's side.

    View v at the angle a = pi v / views(n) sums over the lines x cos(a) + y sin(a) = t, x along the first axis.

    Args:
        slices: (n, n, m).

    Returns:
        (views, cells, m) float32.
    """
    n, _, m = slices.shape
    count, wide = views(n), cells(n)
    matrix = _rays(n)
    # The grid is the same after a quarter turn or a mirror: one eighth of the views serves all.
    quarter = count // 4
    turned = [slices, slices.transpose(1, 0, 2), slices[::-1].transpose(1, 0, 2), slices[::-1]]
    columns = np.concatenate([np.ascontiguousarray(one, np.float32).reshape(n * n, m) for one in turned], 1)
    found = (matrix.T @ columns).reshape(quarter + 1, wide, 4, m)
    # a, 90 - a, 90 + a and 180 - a degrees in turn.
    result = np.empty((count, wide, m), np.float32)
    steps = np.arange(quarter + 1)
    for group, view in enumerate(_directions(count)):
        result[view % count] = found[steps, :, group]
    result[0] = found[0, :, 0]  # 180 degrees is 0 degrees mirrored
    return result


def back_project(sinogram: NDArray, n: int, kernel: str = "sharp") -> NDArray[np.float32]:
    """Filtered back-projection of what :func:`project` gives: (views, cells, m) to (n, n, m) float32.

    Source: Kak and Slaney, Principles of Computerized Tomographic Imaging (1988), chapter 3: the ramp is sampled in
    space (equation 61), so that the mean of the image is right.
    """
    count, wide, m = sinogram.shape
    filtered = _filter(sinogram, kernel)
    quarter = count // 4
    stacked = np.empty((quarter + 1, wide, 4, m), np.float32)
    steps = np.arange(quarter + 1)
    for group, view in enumerate(_directions(count)):
        half = np.where((steps == 0) | (steps == quarter), 0.5, 1.0).astype(np.float32)[:, None, None]
        rows = filtered[view % count]
        stacked[:, :, group] = half * np.where((view == count)[:, None, None], rows[:, ::-1], rows)
    columns = (_rays(n) @ stacked.reshape(-1, 4 * m)).reshape(n, n, 4, m)
    zero, one, two, three = (columns[:, :, group] for group in range(4))
    total = zero + one.transpose(1, 0, 2) + two.transpose(1, 0, 2)[::-1] + three[::-1]
    return total * np.float32(np.pi / count)


def _directions(count: int) -> tuple[NDArray, ...]:
    """Numbers of the views a, 90 - a, 90 + a and 180 - a degrees for the steps a = 0 to 45 degrees."""
    steps = np.arange(count // 4 + 1)
    return steps, count // 2 - steps, count // 2 + steps, count - steps


@functools.lru_cache(maxsize=2)
def _rays(n: int):
    """Share of each pixel in each detector cell for views of 0 to 45 degrees: sparse (n * n, views * cells)."""
    from scipy import sparse

    count, wide = views(n), cells(n)
    place = np.arange(n) - (n - 1) / 2
    angles = np.arange(count // 4 + 1) * np.pi / count
    t = (np.cos(angles) * place[:, None, None] + np.sin(angles) * place[None, :, None]).reshape(n * n, -1) + (
        wide - 1
    ) / 2
    nearest = np.rint(t)
    offset = (nearest - t).astype(np.float32)
    wide_half = ((np.cos(angles) + np.sin(angles)) / 2).astype(np.float32)
    flat_half = ((np.cos(angles) - np.sin(angles)) / 2).astype(np.float32)
    edges = [_shadow(offset + step, wide_half, flat_half) for step in (-0.5, 0.5)]
    shares = np.stack([edges[0], edges[1] - edges[0], 1 - edges[1]], -1).reshape(-1)
    column = nearest.astype(np.int32) + (np.arange(len(angles), dtype=np.int32) * wide)
    columns = np.stack([column - 1, column, column + 1], -1).reshape(-1)
    starts = np.arange(n * n + 1, dtype=np.int32) * (3 * len(angles))
    return sparse.csr_array((shares, columns, starts), shape=(n * n, len(angles) * wide))


def _shadow(t: NDArray, wide: NDArray, flat: NDArray) -> NDArray[np.float32]:
    """Share of a unit pixel's shadow below t: the integral of a trapezoid, ``wide`` and ``flat`` half its sides."""
    slope = np.maximum(wide - flat, 1e-6)
    top = 1 / (wide + flat)
    rise = np.clip(t + wide, 0, slope)
    level = np.clip(t + flat, 0, 2 * flat)
    fall = np.clip(t - flat, 0, slope)
    return (top * (rise**2 / (2 * slope) + level + fall - fall**2 / (2 * slope))).astype(np.float32)


def _filter(sinogram: NDArray, kernel: str) -> NDArray[np.float32]:
    from scipy import fft

    wide = sinogram.shape[1]
    long = fft.next_fast_len(2 * wide, real=True)
    response = _response(long, kernel)[:, None]
    changed = fft.irfft(fft.rfft(sinogram, long, axis=1) * response, long, axis=1)
    return changed[:, :wide].astype(np.float32, copy=False)


@functools.lru_cache(maxsize=8)
def _response(long: int, kernel: str) -> NDArray[np.float32]:
    steps = np.minimum(np.arange(long), long - np.arange(long))
    ramp = np.zeros(long)
    ramp[0] = 0.25
    odd = steps % 2 == 1
    ramp[odd] = -1 / (np.pi * steps[odd]) ** 2
    response = np.fft.rfft(ramp).real
    if kernel == "soft":
        response *= 0.5 + 0.5 * np.cos(2 * np.pi * np.fft.rfftfreq(long))
    return response.astype(np.float32)


@functools.lru_cache(maxsize=8)
def _hardening(spectrum: str) -> tuple[NDArray, NDArray]:
    """Depths of water (cm) and what they block (-ln of the transmission): the correction for beam hardening."""
    depth = np.concatenate([np.linspace(-2, 0, 3)[:-1], np.linspace(0, 80, 400)])
    blocked = np.empty_like(depth)
    blocked[2:] = -np.log(xray.transmission({"water": depth[2:]}, spectrum).astype(np.float64))
    blocked[:2] = depth[:2] * xray.effective("water", spectrum)  # noise may count more than nothing blocks
    return depth, blocked
