"""Values: an image's numbers as float32, checked, and the range in which they can lie.

In: one image Volume. Out: arrays and bounds that the steps of this room compute with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medlab.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST = float(np.finfo(np.float32).max)


def finite(volume: Volume) -> NDArray[np.float32]:
    """The array as float32, after making sure that it is an image without NaN.

    Raises:
        ValueError: no Volume, a label map, NaN, infinity, or a value that float32 cannot hold.
    """
    if require_volume(volume).kind != "image":
        raise ValueError("Expected an image. Received a label map, whose numbers are names and must stay as they are.")
    return as_float32(volume.array)


def require_volume(found: Any) -> Volume:
    """What was given, after making sure that it is a Volume.

    Raises:
        ValueError: it is something else, such as an array.
    """
    if not isinstance(found, Volume):
        raise ValueError(f"Expected a Volume. Received {type(found).__name__}; make one, medlab.volume.Volume(array).")
    return found


def as_float32(array: NDArray) -> NDArray[np.float32]:
    """The array as float32, the same object where it is.

    Raises:
        ValueError: NaN, infinity, or a value that float32 cannot hold.
    """
    if array.dtype.kind != "f":
        return array.astype(np.float32)
    if not np.isfinite(array).all():
        raise ValueError("Expected finite values. The image holds NaN or infinity; mend it with medlab.clean.repair.")
    if array.dtype.itemsize > 4 and max(-float(array.min()), float(array.max())) > LARGEST:
        raise ValueError(
            f"Expected values within 3.4e38, the largest of float32. Received {array.min():.3g} to {array.max():.3g}; "
            "divide the array first."
        )
    return array.astype(np.float32, copy=False)


def full_range(volume: Volume) -> tuple[float, float]:
    """The values between which an image can lie: (0, 255) for 8 bits, (0, 1) for booleans, else its own extremes."""
    known = {np.dtype(np.uint8): (0.0, 255.0), np.dtype(bool): (0.0, 1.0)}.get(volume.array.dtype)
    return known or (float(volume.array.min()), float(volume.array.max()))


def to_unit(array: NDArray, low: float, high: float) -> NDArray[np.float32]:
    """The array with ``low`` mapped to 0 and ``high`` to 1, clipped to [0, 1]."""
    out = array - np.float32(low)
    out *= np.float32(1 / (high - low))
    return np.clip(out, 0, 1, out=out)


def channels(array: NDArray, out: NDArray, rank: int) -> list[tuple[NDArray, NDArray]]:
    """Views of each channel of an array and of its result."""
    if array.ndim == rank:
        return [(array, out)]
    return [(array[..., c], out[..., c]) for c in range(array.shape[-1])]
