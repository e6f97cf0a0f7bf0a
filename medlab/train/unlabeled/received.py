"""Received: whether images without labels hold anything that can be learned.

In: images (n, i, j[, k], c). Out: nothing, or an error that says why not.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def alone(x: ArrayLike) -> NDArray:
    """The images as an array.

    Raises:
        ValueError: images and labels together, or images of several shapes.
    """
    if isinstance(x, tuple):
        raise ValueError(f"Expected images alone, without labels. Received a tuple of {len(x)}; give its first part.")
    try:
        return np.asarray(x)
    except ValueError:
        raise ValueError(
            "Expected images of one shape. Received several; medlab.batches.arrays brings them to one."
        ) from None


def check_differing(x: NDArray) -> None:
    """Raises where nothing tells the images, or the places of an image, apart.

    Args:
        x: (n, i, j[, k], c) finite images.

    Raises:
        ValueError: each image is of one value, or all images are the same.
    """
    flat = x.reshape(len(x), -1)
    if np.all(flat.max(axis=1) == flat.min(axis=1)):
        raise ValueError(
            "Every image is constant: there is nothing to learn from. Look at them (medlab.view.montage) and at what "
            "the recipe made of them."
        )
    if len(x) > 1 and np.all(flat == flat[:1]):
        raise ValueError("All images are the same: there is nothing to tell apart. Look at how they were loaded.")
