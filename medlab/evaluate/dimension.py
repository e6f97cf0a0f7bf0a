"""Dimension: how many numbers features really need, though they come as vectors of hundreds.

In: (n, d) features or images. Out: intrinsic dimensions with intervals, and the variance that components explain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.evaluate import inputs

METHODS = ("twonn", "mle")


@dataclass(frozen=True)
class Dimension:
    """An intrinsic dimension.

    Attributes:
        value: the estimate.
        low: lower end of its 95 % interval.
        high: upper end.
        method: ``"twonn"`` or ``"mle"``.
        n: points that it rests on.
        left_out: points left out, since another point lies in the same place.
    """

    value: float
    low: float
    high: float
    method: str
    n: int
    left_out: int


def intrinsic_dimension(x: ArrayLike, *, method: str = "twonn", neighbors: int = 20, trimmed: float = 0.1) -> Dimension:
    """How many coordinates would describe the points near each point.

    TwoNN takes each point's distances r1 and r2 to its first and second neighbor: r2 / r1 follows a Pareto distribution
    whose exponent is the dimension. The exponent is the slope of the line through the origin that Facco et al. fit to
    -log(1 - F) against log(r2 / r1), the largest ratios left out. The estimate of Levina and Bickel takes ``neighbors``
    of each point and averages the inverse of its estimates, as MacKay and Ghahramani proposed. TwoNN sees the smallest
    scale, where noise counts as dimensions. Both assume that points lie evenly within the neighborhood, and come out
    too low near edges and where the dimension is high for the number of points: a normal distribution in 20 dimensions
    gives 16.5 (TwoNN) and 15.2 from 2,000 points.

    Args:
        x: (n, ...) features or images, n at least 4 different ones; flattened. A common offset and the unit do not
            matter, as far as float64 tells the points apart.
        method: ``"twonn"`` or ``"mle"``.
        neighbors: of each point, for ``"mle"``: 3 or more, fewer than there are points. More average more, over a
            larger neighborhood.
        trimmed: share of the largest ratios that TwoNN's fit leaves out, 0 or above and below 1.

    Returns:
        The dimension. Its interval says how far chance among the points moves it, and nothing about the bias above:
        for TwoNN from the gamma distribution of an exponent's estimate from n independent ratios; for ``"mle"`` from
        the mean of the points' inverse estimates plus and minus 1.96 standard errors. Points share neighbors, so that
        it is too narrow, the second one by far.

    Raises:
        ValueError: fewer than four different points, values that are not finite, an unknown method, or neighbors or a
            share out of range.

    Source: Facco et al., Scientific Reports 7:12140 (2017); Levina and Bickel, NIPS 17 (2004); MacKay and Ghahramani,
        comment on it (2005).
    """
    if method not in METHODS:
        raise ValueError(f"Expected a method among {', '.join(METHODS)}. Received {method!r}.")
    points, left_out = _different(x)
    n = len(points)
    if n < 4:
        raise ValueError(f"Expected at least 4 different points. Received {n}, and {left_out} that repeat them.")
    if method == "twonn":
        if not _is_number(trimmed) or not 0 <= trimmed < 1:
            raise ValueError(f"Expected a share to leave out of 0 or above and below 1. Received {trimmed!r}.")
        distances = _distances(points, 2)
        return Dimension(*_two_neighbors(distances, trimmed), method, n, left_out)
    if not _is_whole(neighbors) or not 3 <= neighbors < n:
        raise ValueError(
            f"Expected 3 or more neighbors, a whole number, fewer than the {n} different points. "
            f"Received {neighbors!r}."
        )
    return Dimension(*_likelihood(_distances(points, neighbors)), method, n, left_out)


def explained_variance(x: ArrayLike, components: int | None = None) -> NDArray[np.float64]:
    """The share of the variance that the first 1, 2, ... principal components explain together.

    Args:
        x: (n, ...) features or images, n at least 2; flattened.
        components: how many; None: all, min(n - 1, d).

    Returns:
        (components,) rising to 1.

    Raises:
        ValueError: fewer than two points, values that are not finite, points that are all alike, or more components
            than there are.
    """
    points = _flat(x)
    n, d = points.shape
    most = min(n - 1, d)
    if components is not None and not _is_whole(components):
        raise ValueError(f"Expected components as a whole number. Received {components!r}.")
    if components is not None and not 1 <= components <= most:
        raise ValueError(f"Expected 1 to {most} components of {n} points with {d} values. Received {components}.")
    # The smaller of the two products has the same eigenvalues.
    product = points @ points.T if n < d else points.T @ points
    variances = np.clip(np.linalg.eigvalsh(product)[::-1][:most], 0, None)
    if not np.ptp(points, axis=0).any():
        raise ValueError("Expected points that differ. All are alike: there is no variance to explain.")
    return (np.cumsum(variances) / variances.sum())[:components]


def components_needed(x: ArrayLike, share: float = 0.95) -> int:
    """The least number of principal components that explain a share of the variance.

    Args:
        x: as :func:`explained_variance`.
        share: above 0, up to 1.

    Raises:
        ValueError: a share out of range, or as :func:`explained_variance`.
    """
    if not _is_number(share) or not 0 < share <= 1:
        raise ValueError(f"Expected a share above 0 and up to 1, such as 0.95. Received {share!r}.")
    return int(np.searchsorted(explained_variance(x), share - 1e-12)) + 1


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _flat(x: ArrayLike) -> NDArray[np.float64]:
    points = inputs.floats(x, "points (n, ...)")
    if points.ndim < 2 or len(points) < 2 or points.size == 0:
        raise ValueError(f"Expected points (n, ...), at least two. Received shape {points.shape}.")
    if not np.isfinite(points).all():
        raise ValueError("Expected finite values. Some are NaN or infinite.")
    return centered(points.reshape(len(points), -1))[0]


def centered(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """(n, d) finite points less their mean, brought near a standard deviation of 1, and the power of 2 taken out.

    Squares of what comes out neither overflow nor vanish, whatever the unit. Powers of 2 leave every digit as it is.
    """
    first = _power(np.abs(points).max())
    points = np.ldexp(points, -first)
    points = points - points.mean(axis=0)
    second = _power(np.abs(points).max())
    points = np.ldexp(points, -second)
    third = _power(np.sqrt((points**2).mean()))
    return np.ldexp(points, -third), first + second + third


def _power(value: float) -> int:
    """The power of 2 that ``value`` lies near; 0 for 0."""
    return int(np.frexp(value)[1])


def _different(x: ArrayLike) -> tuple[NDArray[np.float64], int]:
    points = _flat(x)
    once = np.unique(points, axis=0)
    return once, len(points) - len(once)


def _distances(points: NDArray[np.float64], neighbors: int) -> NDArray[np.float64]:
    """(n, neighbors) distances of each point to its nearest others, ascending, above 0."""
    from sklearn.neighbors import NearestNeighbors

    found = NearestNeighbors(n_neighbors=min(neighbors + 2, len(points) - 1)).fit(points)
    nearest = found.kneighbors(return_distance=False)
    # The search takes |a|² - 2ab + |b|², which loses small distances: those of the cases found are computed anew.
    distances = np.stack([np.linalg.norm(points - points[one], axis=1) for one in nearest.T], axis=1)
    return np.maximum(np.sort(distances, axis=1)[:, :neighbors], np.finfo(np.float64).tiny)


def _two_neighbors(distances: NDArray[np.float64], trimmed: float) -> tuple[float, float, float]:
    from scipy.stats import gamma

    n = len(distances)
    ratios = np.sort(np.log(distances[:, 1] / distances[:, 0]))
    kept = max(int(np.floor(n * (1 - trimmed))), 2)
    kept = min(kept, n - 1)  # the last has F = 1
    x, y = ratios[:kept], -np.log1p(-np.arange(1, kept + 1) / n)
    if not (x**2).sum():
        raise ValueError("Expected points whose two nearest neighbors lie at unlike distances. All lie on a grid.")
    value = float((x * y).sum() / (x**2).sum())
    low, high = gamma.ppf([0.025, 0.975], n) / n
    return value, float(value * low), float(value * high)


def _likelihood(distances: NDArray[np.float64]) -> tuple[float, float, float]:
    # Of k neighbors k - 1 ratios count; their mean is the unbiased inverse of the dimension at this point.
    inverse = np.log(distances[:, -1:] / distances[:, :-1]).mean(axis=1)
    mean, error = float(inverse.mean()), float(inverse.std(ddof=1) / np.sqrt(len(inverse)))
    if not mean:
        raise ValueError("Expected points whose neighbors lie at unlike distances. All lie at the same.")
    return 1 / mean, 1 / (mean + 1.96 * error), 1 / max(mean - 1.96 * error, np.finfo(np.float64).tiny)
