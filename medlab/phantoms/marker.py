"""Marker: a shortcut planted on purpose, as the letters that radiographers lay beside a patient.

In: images and labels as arrays. Out: the same images with a bright letter in a corner of some of one class, and where
it is. A network that learns the letter is right for the wrong reason; so can be seen whether an explanation says so.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def plant_marker(
    x: ArrayLike, y: ArrayLike, *, label: int = 1, share: float = 0.5, side: int | None = None, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The images with a bright letter L on a dark ground in one corner of a share of the cases of one class.

    Letter and ground are as bright and as dark as the brightest and the darkest voxel of all images, so that the letter
    is seen on any image. It lies at the far end of the first two axes; in a volume it is in every slice.

    Args:
        x: (n, i, j[, k], c) images; not changed.
        y: (n,) class indices.
        label: class whose cases are marked.
        share: of its cases, 0 to 1; which ones is drawn. The number is rounded up, so that above 0 one has it.
        side: of the letter in voxels, at least 3; by default a tenth of the shorter of the two axes, at least 3. The
            ground is a third of it wider at each end.
        seed: of the draw.

    Returns:
        The images (n, i, j[, k], c) float32, and where letter and ground are, (n, i, j[, k]) bool.

    Raises:
        ValueError: ``x`` or ``y`` of another shape, values that are not finite, a share out of range, no case of the
            class, or a letter that does not fit.
    """
    images = np.array(x, np.float32)
    labels = np.asarray(y)
    if images.ndim not in (4, 5):
        raise ValueError(f"Expected x of shape (n, i, j[, k], c). Received {images.shape}.")
    if labels.shape != images.shape[:1]:
        raise ValueError(f"Expected y of shape ({len(images)},), one class index a case. Received {labels.shape}.")
    if not np.isfinite(images).all():
        raise ValueError("Expected finite images. Received x with NaN or infinity.")
    if not 0 <= share <= 1:
        raise ValueError(f"Expected a share from 0 to 1. Received {share}.")
    of_class = np.flatnonzero(labels == label)
    if not len(of_class):
        raise ValueError(f"Expected cases of class {label} to mark. Received classes {np.unique(labels).tolist()}.")
    shortest = min(images.shape[1:3])
    side = max(3, shortest // 10) if side is None else side
    gap = max(1, side // 3)
    if not 3 <= side <= shortest - 2 * gap:
        raise ValueError(f"Expected a side of 3 to about {shortest // 2} voxels. Received {side}.")
    chosen = np.random.default_rng(seed).permutation(of_class)[: int(np.ceil(share * len(of_class)))]
    sign = np.full((side + 2 * gap,) * 2, images.min())
    sign[gap : gap + side, gap : gap + side][_letter(side)] = images.max()
    spread = (1,) * (images.ndim - 3)  # over slices, and over channels
    images[chosen, -len(sign) :, -len(sign) :] = sign.reshape(*sign.shape, *spread)
    marks = np.zeros(images.shape[:-1], bool)
    marks[chosen, -len(sign) :, -len(sign) :] = True
    return images, marks


def _letter(side: int) -> NDArray[np.bool_]:
    """(side, side) an L as it is seen on a screen: rows first."""
    thick = max(1, side // 3)
    letter = np.zeros((side, side), bool)
    letter[:, :thick] = letter[-thick:] = True
    return letter
