"""Affine algebra on NumPy: where a voxel lies in the world.

In: 4 x 4 matrices that map voxel indices (i, j, k) to millimeters in RAS+: x grows to the patient's right, y to the
front, z to the head. Out: new matrices and points. It never touches image arrays.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

# DICOM and ITK count x to the left and y to the back (LPS); NIfTI counts to the right and front (RAS).
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

_POSITIVE = "RAS"
_NEGATIVE = "LPI"


def check(affine: ArrayLike) -> NDArray[np.float64]:
    """A float64 copy of ``affine``, after making sure that it is one.

    Args:
        affine: (4, 4) matrix, voxel index to mm in RAS+.

    Returns:
        (4, 4) float64, never the same memory as the argument.

    Raises:
        ValueError: it is not 4 x 4, not finite, its last row is not (0, 0, 0, 1), or it cannot be inverted.
    """
    matrix = np.array(affine, dtype=np.float64)
    if matrix.shape != (4, 4):
        raise ValueError(f"Expected a 4 x 4 affine. Received shape {matrix.shape}.")
    if not np.isfinite(matrix).all():
        raise ValueError("Expected a finite affine. Received one with NaN or infinity.")
    if not np.array_equal(matrix[3], [0, 0, 0, 1]):
        raise ValueError(f"Expected (0, 0, 0, 1) as the last row of the affine. Received {tuple(matrix[3].tolist())}.")
    # Relative to the spacings, so that an image in micrometers is not taken for a flat one.
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    if lengths.min() == 0 or abs(np.linalg.det(matrix[:3, :3] / lengths)) < 1e-6:
        raise ValueError("Expected an affine that can be inverted. Received one whose axes lie in one plane.")
    return matrix


def spacing(affine: ArrayLike) -> NDArray[np.float64]:
    """Millimeters from one voxel to the next along i, j and k: (3,), above 0."""
    return np.linalg.norm(np.asarray(affine, np.float64)[:3, :3], axis=0)


def origin(affine: ArrayLike) -> NDArray[np.float64]:
    """World position of voxel (0, 0, 0): (3,) mm in RAS+."""
    return np.array(affine, np.float64)[:3, 3]


def direction(affine: ArrayLike) -> NDArray[np.float64]:
    """Unit vectors of the voxel axes as columns: (3, 3)."""
    return np.asarray(affine, np.float64)[:3, :3] / spacing(affine)


def axis_codes(affine: ArrayLike) -> str:
    """Where each voxel axis points, as three letters of R/L, A/P, S/I, such as ``"RAS"``.

    An oblique axis gets the letter of the world axis that it follows most; each world axis is used once (the largest
    cosine first, as nibabel's ``aff2axcodes`` does for all but degenerate matrices).
    """
    cosines = direction(affine)
    letters = [""] * 3
    left = np.abs(cosines)
    for _ in range(3):
        world, voxel = np.unravel_index(np.argmax(left), left.shape)
        letters[voxel] = (_POSITIVE if cosines[world, voxel] > 0 else _NEGATIVE)[world]
        left[world, :] = -1
        left[:, voxel] = -1
    return "".join(letters)


def from_parts(spacing: ArrayLike, origin: ArrayLike = (0, 0, 0), direction: ArrayLike | None = None) -> NDArray:
    """The affine with the given spacing (3,) mm, origin (3,) mm and direction (3, 3), by default the identity."""
    matrix = np.eye(4)
    cosines = np.eye(3) if direction is None else np.asarray(direction, np.float64)
    matrix[:3, :3] = cosines * np.asarray(spacing, np.float64)
    matrix[:3, 3] = origin
    return check(matrix)


def translation(offset: ArrayLike) -> NDArray[np.float64]:
    """The affine that adds ``offset`` (3,) to a point."""
    matrix = np.eye(4)
    matrix[:3, 3] = offset
    return matrix


def scaling(factors: ArrayLike) -> NDArray[np.float64]:
    """The affine that multiplies a point's coordinates by ``factors`` (3,)."""
    return np.diag([*np.broadcast_to(np.asarray(factors, np.float64), 3), 1.0])


def compose(*affines: ArrayLike) -> NDArray[np.float64]:
    """One affine that does what ``affines`` do from right to left: ``compose(A, B)`` applies B first."""
    matrix = np.eye(4)
    for affine in affines:
        matrix = matrix @ np.asarray(affine, np.float64)
    return matrix


def invert(affine: ArrayLike) -> NDArray[np.float64]:
    """The affine that undoes ``affine``.

    Raises:
        ValueError: as :func:`check`.
    """
    return np.linalg.inv(check(affine))


def apply(affine: ArrayLike, points: ArrayLike) -> NDArray[np.float64]:
    """``points`` moved by ``affine``: (..., 3) in, (..., 3) float64 out.

    Raises:
        ValueError: the points' last axis is not 3 long.
    """
    coordinates = np.asarray(points, np.float64)
    if coordinates.shape[-1:] != (3,):
        raise ValueError(f"Expected points of shape (..., 3). Received shape {coordinates.shape}.")
    matrix = np.asarray(affine, np.float64)
    return coordinates @ matrix[:3, :3].T + matrix[:3, 3]


def lps_to_ras(affine: ArrayLike) -> NDArray[np.float64]:
    """An affine to mm in LPS+ (DICOM, ITK) turned into one to RAS+; the same call turns it back."""
    return LPS_TO_RAS @ check(affine)
