"""Generated images against real ones: how near the two distributions are.

In: features of real and of generated images, (n, d), such as :func:`medlab.explain.features` takes from an encoder of
medlab. Out: numbers with intervals. Values from two encoders cannot be
compared, nor with published ones, which are of an Inception network that has seen photographs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.evaluate import inputs

_ROWS = 512  # distances at a time


@dataclass(frozen=True)
class Kid:
    """A kernel distance with its interval.

    Attributes:
        value: unbiased, so that it lies about 0, and below as often as above, where there is no difference.
        low, high: 95 % interval.
        real, generated: how many images it is from.
    """

    value: float
    low: float
    high: float
    real: int
    generated: int

    def __str__(self) -> str:
        return f"{self.value:.4g} ({self.low:.4g} to {self.high:.4g})"


def fid(real: ArrayLike, generated: ArrayLike) -> float:
    """The Fréchet distance of two sets of features, taken as normally distributed: 0 if means and covariances agree.

    ``|m1 - m2|^2 + trace(S1 + S2 - 2 (S1 S2)^(1/2))`` (Dowson and Landau, J Multivar Anal 1982;12:450; Heusel et al.
    2017, NeurIPS). It is too large for few images, and the more so the more features there are: compare only values of
    equal numbers of images and of one encoder. It is no "FID" of the literature, whose features are Inception's.

    Args:
        real: (n, d) features of real images.
        generated: (m, d) features of generated images, of the same encoder.

    Returns:
        In squared units of the features, 0 or above.

    Raises:
        ValueError: features that are no (n, d) finite numbers, of unlike d, or of fewer than 2 images.
    """
    real, generated = _features(real, generated)
    between = ((real.mean(0) - generated.mean(0)) ** 2).sum()
    # The eigenvalues of S1 S2 are the squared singular values of X1' X2, with X the centered features by sqrt(n - 1):
    # no matrix root of a product that need not be symmetric.
    one, two = ((part - part.mean(0)) / np.sqrt(len(part) - 1) for part in (real, generated))
    roots = np.linalg.svd(_small(one) @ _small(two).T, compute_uv=False)
    return float(max(between + (one**2).sum() + (two**2).sum() - 2 * roots.sum(), 0.0))


def kid(
    real: ArrayLike, generated: ArrayLike, *, degree: int = 3, n: int = 200, confidence: float = 0.95, seed: int = 0
) -> Kid:
    """The kernel distance of two sets of features: the unbiased squared maximum mean discrepancy.

    The kernel is ``(x . y / d + 1)^degree`` (Bińkowski et al. 2018, ICLR; Gretton et al., JMLR 2012;13:723, lemma 6 for
    the estimate). The interval: ``n`` random halves of both sets, drawn without replacement, whose spread about the
    whole is that of the whole about the truth (Shao and Wu, Ann Stat 1989;17:1176, for half of the cases left out).

    Args:
        real: (n, d) features of real images.
        generated: (m, d) features of generated images, of the same encoder.
        degree: of the polynomial.
        n: halves.
        confidence: level of the interval.
        seed: of the halves.

    Raises:
        ValueError: features as for :func:`fid`; fewer than 4 images, which have no halves; a degree below 1, fewer
            than 2 halves, or features whose kernel is beyond all numbers.
    """
    real, generated = _features(real, generated)
    for name, value, least in (("degree", degree, 1), ("n", n, 2), ("seed", seed, 0)):
        if isinstance(value, bool) or not hasattr(value, "__index__") or value < least:
            raise ValueError(f"Expected {name} to be a whole number of at least {least}. Received {value!r}.")
    if min(len(real), len(generated)) < 4:
        raise ValueError(f"Expected at least 4 images of each kind. Received {len(real)} and {len(generated)}.")
    if not isinstance(confidence, float | np.floating) or not 0 < confidence < 1:
        raise ValueError(f"Expected confidence between 0 and 1. Received {confidence!r}.")
    largest = max(np.abs(real).max(), np.abs(generated).max())
    if degree * np.log10(largest**2 + 1 if largest < 1e100 else 1e200) > 290:
        raise ValueError(
            f"Features up to {largest:.3g} are too large for a kernel of degree {degree}. Divide both by one number."
        )
    within_real = _kernel(real, real, degree)
    within_made = _kernel(generated, generated, degree)
    across = _kernel(real, generated, degree)
    for table in (within_real, within_made):
        np.fill_diagonal(table, 0.0)
    value = _mmd(within_real, within_made, across, np.ones(len(real)), np.ones(len(generated)))
    random, halves = np.random.default_rng(seed), np.empty(n)
    for number in range(n):
        chosen = [np.zeros(count) for count in across.shape]
        for mark in chosen:
            mark[random.permutation(len(mark))[: len(mark) // 2]] = 1
        halves[number] = _mmd(within_real, within_made, across, *chosen)
    low, high = np.quantile(halves, [(1 - confidence) / 2, (1 + confidence) / 2])
    # Halves are unbiased too: what their mean is off the whole is chance of the draw.
    shift = value - halves.mean()
    return Kid(value, float(low + shift), float(high + shift), len(real), len(generated))


def precision_recall(real: ArrayLike, generated: ArrayLike, *, k: int = 3) -> tuple[float, float]:
    """How many generated images lie among the real ones, and how many real ones among the generated.

    A set's region is the union of balls about its points, each out to its ``k``-th neighbor in the same set
    (Kynkäänniemi et al. 2019, NeurIPS). Two halves of one set do not reach 1, and an outlier enlarges its region: look
    at ``precision_recall(real_a, real_b)`` for what is possible.

    Args:
        real: (n, d) features of real images.
        generated: (m, d) features of generated images, of the same encoder. Take n = m.
        k: neighbors.

    Returns:
        Precision: share of generated images in the region of the real ones (quality). Recall: share of real images in
        the region of the generated ones (variety).

    Raises:
        ValueError: features as for :func:`fid`; or not more than ``k`` images.
    """
    real, generated = _features(real, generated)
    if isinstance(k, bool) or not hasattr(k, "__index__") or not 1 <= k < min(len(real), len(generated)):
        raise ValueError(
            f"Expected k from 1 to below the number of images ({len(real)} and {len(generated)}). Received {k!r}."
        )
    return _inside(generated, real, k), _inside(real, generated, k)


def _features(real: ArrayLike, generated: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    pair = []
    for name, part in (("real", real), ("generated", generated)):
        values = inputs.floats(part, name)
        if values.ndim != 2 or len(values) < 2 or not values.shape[1] or not np.isfinite(values).all():
            raise ValueError(
                f"Expected {name} as (n, d) finite features of at least 2 images (medlab.explain.features gives them). "
                f"Received shape {values.shape}{'' if np.isfinite(values).all() else ' with NaN or infinity'}."
            )
        pair.append(values)
    if pair[0].shape[1] != pair[1].shape[1]:
        raise ValueError(
            f"Expected features of one encoder. Received {pair[0].shape[1]} and {pair[1].shape[1]} of an image."
        )
    return pair[0], pair[1]


def _small(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """A matrix with the same x' x and no more rows than columns."""
    return np.linalg.qr(x, mode="r") if len(x) > x.shape[1] else x


def _kernel(one: NDArray[np.float64], two: NDArray[np.float64], degree: int) -> NDArray[np.float64]:
    return (one @ two.T / one.shape[1] + 1) ** degree


def _mmd(
    within_real: NDArray[np.float64], within_made: NDArray[np.float64], across: NDArray[np.float64],
    real: NDArray[np.float64], made: NDArray[np.float64],
) -> float:  # fmt: skip
    """The unbiased estimate from those that are marked with 1."""
    n, m = real.sum(), made.sum()
    first = real @ within_real @ real / (n * (n - 1))
    second = made @ within_made @ made / (m * (m - 1))
    return float(first + second - 2 * (real @ across @ made) / (n * m))


def _inside(points: NDArray[np.float64], of: NDArray[np.float64], k: int) -> float:
    """Share of ``points`` in the region of ``of``."""
    # Features apart from their scale: distances are found as differences of products, which need small numbers.
    from scipy.spatial.distance import cdist

    radius = np.concatenate(
        [np.partition(cdist(of[start : start + _ROWS], of), k, axis=1)[:, k] for start in range(0, len(of), _ROWS)]
    )  # the point itself is at place 0
    hits = [(cdist(points[start : start + _ROWS], of) <= radius).any(1) for start in range(0, len(points), _ROWS)]
    return float(np.concatenate(hits).mean())
