"""Projections of slices along parallel rays, and filtered back-projection.

In: slices as columns. Out: sinograms, and slices again. Some views are done at a time, so that no large matrix is held.
The unit of length is a voxel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csc_array

_ENTRIES = 2**22
"""Weights that are held at a time in each direction: 32 MB."""


def detectors(shape: tuple[int, int]) -> int:
    """Detector elements, one voxel wide, that see all of a slice from every side."""
    return int(np.ceil(np.hypot(*shape))) + 2


def angles(shape: tuple[int, int]) -> NDArray[np.float64]:
    """Angles over half a turn in radians, as many as the longer side has voxels, but 32 to 180, and an even number.

    They begin half a step from 0, so that no ray runs along the border of two voxels.
    """
    count = int(np.clip(max(shape), 32, 180)) // 2 * 2
    return (np.arange(count) + 0.5) * np.pi / count


def project(slices: NDArray, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Line integrals along each ray, exact for square voxels of one value each.

    Args:
        slices: (rows * columns, n) float32.
        shape: (rows, columns).

    Returns:
        (views, detectors, n) float32.
    """
    slices = np.ascontiguousarray(slices, np.float32)
    return np.concatenate([views @ slices for views in _views(shape, _lengths)]).reshape(
        -1, detectors(shape), slices.shape[1]
    )


def reconstruct(sinogram: NDArray, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Filtered back-projection with the ramp filter.

    Args:
        sinogram: (views, detectors, n).
        shape: (rows, columns).

    Returns:
        (rows * columns, n) float32.

    Source: A. C. Kak, M. Slaney, Principles of Computerized Tomographic Imaging, IEEE Press, 1988, section 3.3 (the
    filter is equation 61, sampled in space).
    """
    from scipy import fft

    views, count, n = sinogram.shape
    length = fft.next_fast_len(2 * count, real=True)
    distance = np.abs(np.rint(np.fft.fftfreq(length) * length))
    kernel = np.zeros(length)
    kernel[0] = 0.25
    odd = distance % 2 == 1
    kernel[odd] = -1 / (np.pi * distance[odd]) ** 2
    response = np.real(fft.rfft(kernel)).astype(np.float32)
    spectrum = fft.rfft(np.asarray(sinogram, np.float32), length, axis=1)
    spectrum *= response[:, None]
    filtered = fft.irfft(spectrum, length, axis=1)[:, :count]
    rows = filtered.reshape(-1, n)
    result = np.zeros((shape[0] * shape[1], n), np.float32)
    done = 0
    for part in _views(shape, _shares):
        result += part.T @ rows[done : done + part.shape[0]]
        done += part.shape[0]
    return result * np.float32(np.pi / views)


def _views(shape: tuple[int, int], kind: Callable) -> Iterator[csc_array]:
    """The weights of some views at a time, with at most ``_ENTRIES`` entries; those of small slices are kept."""
    count, each = len(angles(shape)), max(1, _ENTRIES // (2 * shape[0] * shape[1]))
    if count <= each:
        yield _kept(shape, kind)
        return
    for first in range(0, count, each):
        yield _weights(shape, kind, first, min(first + each, count))


@lru_cache(maxsize=2)
def _kept(shape: tuple[int, int], kind: Callable) -> csc_array:
    return _weights(shape, kind, 0, len(angles(shape)))


def _weights(shape: tuple[int, int], kind: Callable, first: int, last: int) -> csc_array:
    """(views * detectors, rows * columns): in each view a voxel meets at most two neighboring elements."""
    from scipy import sparse

    rows, columns = shape
    count = detectors(shape)
    row = np.arange(rows, dtype=np.float32)[:, None, None] - np.float32((rows - 1) / 2)
    column = np.arange(columns, dtype=np.float32)[:, None] - np.float32((columns - 1) / 2)
    angle = angles(shape)[first:last].astype(np.float32)
    place = row * np.cos(angle) + column * np.sin(angle) + np.float32((count - 1) / 2)
    element = place.astype(np.int32)
    data, indices = np.empty((*place.shape, 2), np.float32), np.empty((*place.shape, 2), np.int32)
    data[..., 0], data[..., 1] = kind(place - element, angle)
    element += np.arange(last - first, dtype=np.int32) * count
    indices[..., 0] = element
    np.add(element, 1, out=indices[..., 1])
    pointers = np.arange(0, data.size + 1, 2 * (last - first), dtype=np.int32)
    return sparse.csc_array((data.ravel(), indices.ravel(), pointers), shape=((last - first) * count, rows * columns))


def _lengths(beyond: NDArray, angle: NDArray) -> tuple[NDArray, NDArray]:
    """How far the rays to the element before and the one after run inside a voxel that lies ``beyond`` the first."""
    cosine, sine = np.abs(np.cos(angle)), np.abs(np.sin(angle))
    half, slope = (cosine + sine) / 2, cosine * sine
    longest = 1 / np.maximum(cosine, sine)
    before, after = ((half - distance) / slope for distance in (beyond, 1 - beyond))
    return np.clip(before, 0, longest), np.clip(after, 0, longest)


def _shares(beyond: NDArray, angle: NDArray) -> tuple[NDArray, NDArray]:
    """Linear interpolation between the two elements."""
    return 1 - beyond, beyond
