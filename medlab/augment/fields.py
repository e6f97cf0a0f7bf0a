"""Smooth random fields: polynomials of degree 3 in the coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

DEGREE = 3


def smooth_field(shape: Sequence[int], draw: Callable[[int], NDArray], deviation: float) -> NDArray[np.float32] | None:
    """A random polynomial of degree 3 in the coordinates, with mean 0 and this standard deviation over the image.

    Args:
        shape: voxels along the 2 or 3 axes.
        draw: gives n numbers, the polynomial's coefficients, such as ``rng.standard_normal``.
        deviation: 0 or above.

    Returns:
        float32 of ``shape``, or None where there is no field: deviation 0, or a single voxel.
    """
    rank = len(shape)
    powers = [one for one in np.ndindex(*(DEGREE + 1,) * rank) if 1 <= sum(one) <= DEGREE]
    coefficients = np.zeros((DEGREE + 1,) * rank)
    coefficients[tuple(zip(*powers, strict=True))] = draw(len(powers))
    along = [np.vander(np.linspace(-1, 1, n) if n > 1 else np.zeros(1), 2 * DEGREE + 1, increasing=True) for n in shape]
    # Mean and variance follow from the few coefficients: the mean of a product of powers is the product of their means.
    means = [axis.mean(0) for axis in along]
    mean = _sum(coefficients, [one[: DEGREE + 1] for one in means])
    coefficients[(0,) * rank] = -mean
    square = np.zeros((2 * DEGREE + 1,) * rank)
    terms = [(one, coefficients[one]) for one in np.ndindex(*coefficients.shape) if coefficients[one]]
    for one, first in terms:
        for other, second in terms:
            square[tuple(np.add(one, other))] += first * second
    variance = _sum(square, means)
    if not deviation or variance <= 1e-12:
        return None
    result = (coefficients * (deviation / np.sqrt(variance))).astype(np.float32)
    for axis in along:  # each turn takes the first axis of powers and puts an axis of voxels last
        result = np.tensordot(result, axis[:, : DEGREE + 1].astype(np.float32), (0, 1))
    return result


def _sum(coefficients: NDArray, factors: list[NDArray]) -> float:
    for factor in factors:
        coefficients = np.tensordot(factor, coefficients, 1)
    return float(coefficients)
