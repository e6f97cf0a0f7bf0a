"""Artifacts of magnetic resonance that arise in k-space: ghosts, motion, spikes and ringing.

The image's smallest value is taken for no signal. k-space is the image's Fourier transform, as of a fully sampled
Cartesian scan; the image is its magnitude.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medlab.augment import spatial
from medlab.augment.levels import as_image, axis_of, fraction_of, generator, level, positive

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What severity 0, 1, ..., 5 means; between whole numbers it is interpolated.
_GHOSTS = (0, 0.15, 0.3, 0.5, 0.75, 1.0)  # modulation of the lines; a ghost has half of it
_MOTION = (0, 1.0, 2.0, 3.5, 5.0, 8.0)  # degrees, and percent of the image's length
_SPIKE = (0, 0.15, 0.3, 0.5, 0.8, 1.2)  # standard deviations of the image
_CUT = (1, 0.7, 0.55, 0.42, 0.32, 0.24)  # part of k-space along each axis that is kept


def ghosting(
    array: NDArray,
    *,
    severity: float = 3,
    strength: float | None = None,
    period: float | None = None,
    axis: int | None = None,
    phase: float | None = None,
    rng: np.random.Generator | int,
) -> NDArray[np.float32]:
    """The image with ghosts: the signal swells and fades with breath or pulse while k-space is filled line by line.

    Line m of k-space is multiplied by 1 + strength cos(2 pi m / period + phase); this puts two copies of the image,
    each strength / 2 strong, the image's length / period away on either side, around the edge.

    Args:
        array: (i, j[, k], c).
        severity: 0 to 5: strengths 0, 0.15, 0.3, 0.5, 0.75, 1.
        strength: 0 or above, in place of severity.
        period: lines from one swell to the next, above 1; drawn between 2 and 6 by default.
        axis: along which the lines follow each other (phase encoding); drawn by default.
        phase: radians; drawn by default.
        rng: source of randomness; the same state gives the same ghosts at another strength.

    Source: M. L. Wood, R. M. Henkelman, Med. Phys. 12(2), 1985, 143-151.
    """
    image = as_image(array)
    rng = generator(rng)
    amount = level(severity, _GHOSTS) if strength is None else positive("strength", strength)
    axis = axis_of(axis, image, int(rng.integers(image.ndim - 1)))
    drawn = rng.uniform(2, 6), rng.uniform(0, 2 * np.pi)
    lines = drawn[0] if period is None else positive("period", period)
    if lines <= 1:
        raise ValueError(f"Expected a period above 1 line. Received {period!r}.")
    if amount == 0:
        return image
    number = np.fft.fftfreq(image.shape[axis]) * image.shape[axis]
    swell = 1 + amount * np.cos(2 * np.pi * number / lines + (drawn[1] if phase is None else phase))
    low = image.min()
    space = _lines(image - low, axis)
    return np.abs(_image_of(space * _along(swell, axis, image.ndim), axis)) + low


def motion(
    array: NDArray,
    *,
    severity: float = 3,
    rotation: float | None = None,
    translation: float | None = None,
    moves: int = 4,
    axis: int | None = None,
    rng: np.random.Generator | int,
) -> NDArray[np.float32]:
    """The image of a patient who moved during the scan: parts of k-space come from other poses.

    Lines are filled from one end of k-space to the other; between them the patient takes a new pose ``moves`` times.
    The middle of k-space is that of the pose at rest, so that the image stays where it was. What comes into the image
    from outside repeats its outermost voxels, so that a cropped image takes no border from a small movement.

    Args:
        array: (i, j[, k], c).
        severity: 0 to 5: at most 0, 1, 2, 3.5, 5, 8 degrees, and as many percent of the image's length.
        rotation: at most this many degrees about each axis, in place of severity (translation is then 0 unless given).
        translation: at most this part of the image's length, in place of severity (rotation is then 0 unless given).
        moves: new poses, 1 or more.
        axis: along which the lines follow each other (phase encoding); drawn by default.
        rng: source of randomness; the same state gives the same movement at another strength.

    Source: R. Shaw et al., Proc. MIDL 2019, PMLR 102, 427-436.
    """
    image = as_image(array)
    rng = generator(rng)
    amount = level(severity, _MOTION)
    given = rotation is not None or translation is not None
    degrees = positive("rotation", rotation or 0.0) if given else amount
    part = positive("translation", translation or 0.0) if given else amount / 100
    if moves < 1:
        raise ValueError(f"Expected at least 1 move. Received {moves!r}.")
    shape = image.shape[:-1]
    rank = len(shape)
    axis = axis_of(axis, image, int(rng.integers(rank)))
    draws = rng.uniform(-1, 1, (moves + 1, 3 + rank))
    # One move somewhere in each of equally long parts of the scan.
    times = (np.arange(moves) + rng.random(moves)) / moves
    if degrees == part == 0:
        return image
    n = shape[axis]
    when = (np.fft.fftfreq(n) * n + n // 2) / n  # 0 to 1, the middle of k-space at 0.5
    pose_of = np.searchsorted(times, when, side="right")
    draws[np.searchsorted(times, 0.5 if n > 1 else when[0], side="right")] = 0
    still = np.zeros((moves + 1, rank), bool)
    matrices = spatial.matrices(
        shape, flip=still, angles=np.deg2rad(degrees) * draws[:, : 1 if rank == 2 else 3],
        scale=np.ones((moves + 1, rank)), shear=np.zeros((moves + 1, rank * (rank - 1))),
        shift=part * np.asarray(shape) * draws[:, 3:],
    )  # fmt: skip
    low = image.min()
    signal = image - low
    space = np.empty(image.shape, np.complex64)
    for pose in np.unique(pose_of):
        seen = spatial.warp(signal[None], matrices[pose : pose + 1], fill="edge")[0] if draws[pose].any() else signal
        rows = (slice(None),) * axis + (pose_of == pose,)
        space[rows] = _lines(seen, axis)[rows]
    return np.abs(_image_of(space, axis)) + low


def spike(
    array: NDArray,
    *,
    severity: float = 3,
    strength: float | None = None,
    frequency: tuple[float, ...] | None = None,
    rng: np.random.Generator | int,
) -> NDArray[np.float32]:
    """The image under stripes: one point of k-space is far too strong, as after a spark in the scanner room.

    Args:
        array: (i, j[, k], c).
        severity: 0 to 5: stripes of 0, 0.15, 0.3, 0.5, 0.8, 1.2 standard deviations of the image.
        strength: height of the stripes in units of the image, in place of severity.
        frequency: cycles a voxel along each axis, taken to the next point of k-space; by default drawn so that a
            stripe is 3 to 10 voxels wide where the image is large enough.
        rng: source of randomness; the same state gives the same stripes at another strength.

    Source: M. J. Graves, D. G. Mitchell, J. Magn. Reson. Imaging 38(2), 2013, 269-287 (artifacts in practice).
    """
    image = as_image(array)
    rng = generator(rng)
    amount = (
        level(severity, _SPIKE) * image.std(dtype=np.float64) if strength is None else positive("strength", strength)
    )
    shape = np.array(image.shape[:-1])
    direction = rng.standard_normal(len(shape))
    drawn = direction / np.linalg.norm(direction) * rng.uniform(0.1, 0.33)
    phase = rng.uniform(0, 2 * np.pi)
    if frequency is not None and len(frequency) != len(shape):
        raise ValueError(f"Expected {len(shape)} frequencies in cycles a voxel. Received {frequency!r}.")
    if amount == 0:
        return image
    cycles = np.round((drawn if frequency is None else np.asarray(frequency)) * shape) / shape
    wave = np.full((1,) * len(shape), np.exp(1j * phase))
    for axis, (n, f) in enumerate(zip(shape, cycles, strict=True)):
        wave = wave * _along(np.exp(2j * np.pi * f * np.arange(n)), axis, len(shape))
    low = image.min()
    return np.abs(image - low + (amount * wave[..., None]).astype(np.complex64)) + low


def gibbs_ringing(
    array: NDArray,
    *,
    severity: float = 3,
    fraction: float | None = None,
    rng: np.random.Generator | None = None,
) -> NDArray[np.float32]:
    """The image of a scan that left out the outer part of k-space: edges ring; nothing about it is random.

    Args:
        array: (i, j[, k], c).
        severity: 0 to 5: 100, 70, 55, 42, 32, 24 % of k-space along each axis are kept.
        fraction: that part, above 0 to 1, in place of severity.
        rng: not used.

    Source: E. Kellner et al., Magn. Reson. Med. 76(5), 2016, 1574-1581 (truncation of k-space as a convolution).
    """
    from scipy import fft

    image = as_image(array)
    part = level(severity, _CUT) if fraction is None else fraction_of(fraction)
    if part == 1:
        return image
    low = image.min()
    space = fft.fftn(image - low, axes=range(image.ndim - 1))
    for axis, n in enumerate(image.shape[:-1]):
        # The line at the edge is kept in part, so that the cut moves steadily.
        kept = np.clip(part * n / 2 + 0.5 - np.abs(np.fft.fftfreq(n) * n), 0, 1).astype(np.float32)
        if n % 2 == 0:
            kept[n // 2] *= 2  # both outermost lines in one, of which at most half counts at either end
        space *= _along(kept if n > 1 else np.ones(1), axis, image.ndim)
    return np.abs(fft.ifftn(space, axes=range(image.ndim - 1))).astype(np.float32) + low


def _lines(image: NDArray, axis: int) -> NDArray[np.complex64]:
    """k-space along one axis: lines can be exchanged there without the other axes being transformed."""
    from scipy import fft

    return fft.fft(image, axis=axis)


def _image_of(space: NDArray, axis: int) -> NDArray[np.complex64]:
    from scipy import fft

    return fft.ifft(space, axis=axis).astype(np.complex64, copy=False)


def _along(values: NDArray, axis: int, ndim: int) -> NDArray:
    """Values along one axis of an array of ``ndim`` axes; single precision stays single."""
    shaped = values.reshape(tuple(-1 if one == axis else 1 for one in range(ndim)))
    return shaped.astype(np.float32) if shaped.dtype == np.float64 else shaped
