"""Masks: where an image shows something, found by the rule that suits its modality.

In: one image Volume. Out: labels on the same grid, 1 in the foreground. It draws no organ and no lesion.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medlab.standardize.values import finite, to_unit
from medlab.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

BODY = -500.0
"""HU between air (-1000) and soft tissue or fat (above -150); chosen."""
BORDER = 0.05
"""Share of the image's range up to which a row or column counts as collimated border; chosen."""
SCREEN = 0.02
"""Share of the range above which an ultrasound pixel was written by the scanner; chosen."""

_RADIOGRAPHS = ("DX", "CR", "RF", "XA", "IO", "PX")


def foreground(volume: Volume) -> Volume:
    """The mask of what is not background, by the volume's modality.

    - ``"CT"`` in HU: the largest body above -500 HU with what it encloses in each axial slice, so that the lungs are in
      it; all of a field of view without air. HU are recognized by values below -200, or below 0 in an image of signed
      integers or one that spans more than 255. What has none of these was windowed before, or was stored without its
      offset (air is 0), and is treated as MR.
    - ``"DX"``, ``"CR"``, ``"RF"``, ``"XA"``, ``"IO"``, ``"PX"``: all but the collimated border, the outer rows and
      columns whose values span at most 5 % of the image's range.
    - ``"US"``: the largest region above 2 % of the range, holes filled: the fan, without the text beside it.
    - All others, MR and mammograms among them: above Otsu's threshold. In MR the background is air and holds noise
      alone, so that statistics over the whole image depend on how much air the field of view shows. The threshold
      follows any change of scale and offset.

    The first of several channels is looked at.

    Returns:
        uint8 labels on the same grid: 1 in the foreground. A constant image, and one where the rule finds nothing, is
        all foreground.

    Raises:
        ValueError: a label map, or NaN.

    Source: N. Otsu, IEEE Trans. Syst. Man Cybern. 9(1), 1979, 62-66; 256 bins between the smallest and largest value.
    """
    array = finite(volume)
    first = array[..., 0] if array.ndim > volume.rank else array
    low, high = float(first.min()), float(first.max())
    modality = str(volume.modality or "").upper()
    if low == high:
        inside = np.ones(first.shape, bool)
    elif modality == "CT" and _hounsfield(volume.array.dtype, low, high):
        inside = _body(first, volume)
    elif modality in _RADIOGRAPHS and volume.rank == 2:
        inside = _exposed(first, BORDER * (high - low))
    elif modality == "US":
        inside = _largest(first > low + SCREEN * (high - low))
        inside = _filled(inside, volume.rank - 1 if volume.rank == 3 else None)
    else:
        inside = first > low + otsu(to_unit(first, low, high)) * (high - low)
    if not inside.any():
        inside = np.ones(first.shape, bool)
    return volume.replace(array=inside.astype(np.uint8), kind="labels")


def otsu(unit: NDArray) -> float:
    """Otsu's threshold of values in [0, 1], in (0, 1): the middle of the plateau that separates two classes best."""
    bins = (unit * np.float32(255)).astype(np.uint8).ravel()
    counts = np.zeros(256)
    for start in range(0, len(bins), 2**20):  # bincount widens to 8 bytes a voxel: piece by piece
        counts += np.bincount(bins[start : start + 2**20], minlength=256)
    levels = np.arange(256)
    below = counts.cumsum()[:-1]
    above = below[-1] + counts[-1] - below
    sum_below = (counts * levels).cumsum()[:-1]
    total = (counts * levels).sum()
    both = (below > 0) & (above > 0)
    gap = np.zeros(255)
    gap[both] = sum_below[both] / below[both] - (total - sum_below[both]) / above[both]
    between = below * above * gap**2
    best = np.flatnonzero(between >= between.max() * (1 - 1e-12))
    return float((best.mean() + 1) / 255)


def inside(volume: Volume, mask: Volume | NDArray | str | None) -> NDArray[np.bool_] | None:
    """Where statistics are taken: a mask's voxels above 0, those of :func:`foreground`, or None for all.

    Raises:
        ValueError: a word other than ``"foreground"``, a mask of another shape, or one without any voxel above 0.
    """
    if mask is None:
        return None
    if isinstance(mask, str):
        if mask != "foreground":
            raise ValueError(f"Expected a mask, 'foreground' or None. Received {mask!r}.")
        mask = foreground(volume)
    found = np.asarray(mask.array if isinstance(mask, Volume) else mask) > 0
    if found.shape != volume.shape:
        raise ValueError(f"Expected a mask of the image's shape {volume.shape}. Received {found.shape}.")
    if not found.any():
        raise ValueError("Expected a mask with at least one voxel above 0. It is empty; leave it out or draw it anew.")
    return found


def _hounsfield(kind: np.dtype, low: float, high: float) -> bool:
    """Whether values of CT can only be HU; not a windowed image, nor stored values whose air is 0."""
    signed = kind.kind == "i" and kind.itemsize > 1
    return low < -200 or (low < 0 and (signed or high - low > 255))


def _body(hu: NDArray, volume: Volume) -> NDArray[np.bool_]:
    axial = None
    if volume.rank == 3:
        codes = volume.orientation if volume.has_geometry else "  S"
        axial = next(axis for axis, letter in enumerate(codes) if letter in "SI")
    return _filled(_largest(hu > BODY), axial)


def _exposed(first: NDArray, least: float) -> NDArray[np.bool_]:
    """The rectangle between the first and the last row and column that hold any contrast."""
    rows, columns = (np.flatnonzero(np.ptp(first, axis=axis) > least) for axis in (1, 0))
    found = np.zeros(first.shape, bool)
    if len(rows) and len(columns):
        found[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return found


def _largest(found: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest connected part, of equals the first."""
    from scipy import ndimage

    numbers, parts = ndimage.label(found)
    if parts < 2:
        return found
    sizes = np.bincount(numbers.ravel())
    sizes[0] = 0
    return numbers == sizes.argmax()


def _filled(found: NDArray[np.bool_], axis: int | None) -> NDArray[np.bool_]:
    """The mask with its holes closed, slice by slice along ``axis``; None for a picture.

    A hole is background that is not connected with the border of its slice: one labeling of all slices at once.
    """
    from scipy import ndimage

    within = ndimage.generate_binary_structure(found.ndim, 1)
    if axis is not None:
        np.moveaxis(within, axis, 0)[[0, 2]] = False
    numbers, parts = ndimage.label(~found, within)
    outside = np.zeros(parts + 1, bool)
    for other in range(found.ndim):
        if other != axis:
            outside[np.unique(np.take(numbers, (0, -1), other))] = True
    outside[0] = False
    return ~outside[numbers]
