"""Generated images against real ones: how near the two distributions are, and whether training images were copied.

In: features of real and of generated images, (n, d), such as :func:`medlab.explain.features` takes from an encoder of
medlab; for :func:`memorization` also the images. Out: numbers with intervals. Values from two encoders cannot be
compared, nor with published ones, which are of an Inception network that has seen photographs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

_ROWS = 512  # distances at a time
_EXACT = 1e-6  # of a typical distance: nearer is the same image
_TWIN = 1e-2  # of a typical distance: training images nearer to each other count as one image
_COPY = 0.05  # ratio below which an image of held_out is called a training image
_LEAST_SPREAD = 0.02  # of the logarithms of ratios: a scale of ratios that are all alike


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


@dataclass(frozen=True, eq=False)
class Memorization:
    """Whether generated images are copies of training images.

    Attributes:
        nearest: (n,) number of the training image that lies nearest to each generated one.
        distances: (n,) to it.
        ratios: (n,) that distance by the mean one to the next nearest other image: 0 for a copy, near 1 where several
            training images are as near.
        held_out_distances, held_out_ratios: (m,) the same of real images that were not trained on.
        threshold: ratios below this are flagged: the ``level`` quantile of the held-out ones.
        flagged: (n,) bool; exact copies are flagged too.
        share: of the generated images that is flagged.
        expected: share of held-out images that is flagged by the same rule.
        p: of as many flags or more, were generated images no nearer than held-out ones (Fisher's exact test, one side).
        exact: how many are exact copies.
        p_lowest: of a ratio as low as the lowest one among as many images, were they as held-out ones.
        passed: whether there are not too many flags (p is above 0.05), no single ratio is far below all held-out ones
            (p_lowest is above 0.01), and there is no exact copy.
    """

    nearest: NDArray[np.intp]
    distances: NDArray[np.float64] = field(repr=False)
    ratios: NDArray[np.float64] = field(repr=False)
    held_out_distances: NDArray[np.float64] = field(repr=False)
    held_out_ratios: NDArray[np.float64] = field(repr=False)
    threshold: float
    flagged: NDArray[np.bool_] = field(repr=False)
    share: float
    expected: float
    p: float
    exact: int
    p_lowest: float
    passed: bool

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "FAILED"
        return (
            f"memorization {verdict}: {self.flagged.sum()} of {len(self.flagged)} generated images lie much nearer to "
            f"one training image than to others ({100 * self.share:.1f} %; of held-out images "
            f"{100 * self.expected:.1f} %; p = {self.p:.2g}), {self.exact} of them exact copies; lowest ratio "
            f"{self.ratios.min():.2g}, of held-out images {self.held_out_ratios.min():.2g} (p = {self.p_lowest:.2g})"
        )


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


def memorization(
    train: ArrayLike, held_out: ArrayLike, generated: ArrayLike, *, neighbors: int = 10, level: float = 0.01
) -> Memorization:
    """Whether generated images are nearer to single training images than real, unseen images are.

    A generator makes smooth images, and a smooth image is near to all: so not the distance to the nearest training
    image is judged but its ratio to the mean distance to the next ``neighbors`` (as Carlini et al. 2023, USENIX
    Security, do). The scale are real images that were not trained on, of other patients than those in ``train``. Two
    things are looked at: how many ratios are low, and how low the lowest is, for one copy among many new images is a
    copy still. For the second, the lowest tenth of the held-out ratios (ten of them at least) is taken for the tail of
    a power law, as it is where points lie evenly (Hill, Ann Stat 1975;3:1163), with the doubt that few ratios leave.
    Training images that repeat, but for a hundredth of a usual distance, count as one. It finds images copied as a
    whole; a copied detail, or a copy shifted or mirrored, it finds only in features that do
    not see the difference. Passing is no proof of privacy.

    Args:
        train: (n, ...) images, which are compared after each is standardized, so that a change of brightness or
            contrast hides nothing; or (n, d) features, which are compared as they are.
        held_out: (m, ...) real images that were not trained on, 20 or more.
        generated: (g, ...) generated images.
        neighbors: next nearest training images.
        level: share of held-out images below the threshold; of few held-out images rather more (of 20, one).

    Raises:
        ValueError: unlike shapes, NaN, too few different images, held-out images that were trained on, or a level that
            is not between 0 and 0.5.
    """
    from scipy.stats import fisher_exact

    parts = [np.asarray(part, np.float64) for part in (train, held_out, generated)]
    names = ("train", "held_out", "generated")
    for name, part in zip(names, parts, strict=True):
        if part.ndim < 2 or part.shape[1:] != parts[0].shape[1:] or not np.isfinite(part).all():
            shapes = ", ".join(f"{one} {tuple(each.shape)}" for one, each in zip(names, parts, strict=True))
            raise ValueError(f"Expected three sets of finite images or features of one shape. {name} is not: {shapes}.")
    if not isinstance(level, float | np.floating) or not 0 < level < 0.5:
        raise ValueError(f"Expected level between 0 and 0.5. Received {level!r}.")
    if isinstance(neighbors, bool) or not hasattr(neighbors, "__index__") or not 1 <= neighbors < len(parts[0]):
        raise ValueError(
            f"Expected neighbors from 1 to below the {len(parts[0])} training images. Received {neighbors!r}."
        )
    if len(parts[1]) < 20 or not len(parts[2]):
        raise ValueError(
            f"Expected at least 20 held-out and 1 generated image. Received {len(parts[1])} and {len(parts[2])}."
        )
    library, unseen, made = [*map(_rows, parts)]
    first = np.sort(np.unique(library, axis=0, return_index=True)[1])
    if neighbors >= len(first):
        raise ValueError(
            f"Expected neighbors from 1 to below the {len(first)} different training images. Received {neighbors!r}."
        )
    library = library[first]
    _, far, ratio, near = _nearest(unseen, library, neighbors)
    copied = (ratio < _COPY) | (far <= _EXACT * np.median(far))
    if copied.mean() > 0.1:
        raise ValueError(
            f"{copied.sum()} of {len(copied)} held-out images are training images, or nearly so: they cannot say how "
            "near an unseen image lies. Take images of patients that are not in train (medlab.clean splits by patient)."
        )
    far, ratio = far[~copied], ratio[~copied]
    nearest, distances, ratios, _ = _nearest(made, library, neighbors, near)
    threshold = float(np.quantile(ratio, level))
    exact = distances <= _EXACT * np.median(far)
    flagged = (ratios < threshold) | exact
    alike = ratio < threshold
    counts = [[flagged.sum(), (~flagged).sum()], [alike.sum(), (~alike).sum()]]
    p = float(fisher_exact(counts, alternative="greater")[1])
    p_lowest = _chance_of_lowest(ratios, ratio)
    return Memorization(
        first[nearest], distances, ratios, far, ratio, threshold, flagged, float(flagged.mean()), float(alike.mean()),
        p, int(exact.sum()), p_lowest, bool(p > 0.05 and p_lowest > 0.01 and not exact.any()),
    )  # fmt: skip


def _chance_of_lowest(ratios: NDArray[np.float64], held_out: NDArray[np.float64]) -> float:
    """How likely the lowest of ``ratios`` would be as low as it is, were they drawn as the held-out ones are."""
    logs, lowest = np.sort(np.log(np.maximum(held_out, 1e-300))), np.log(max(ratios.min(), 1e-300))
    count = min(max(10, len(logs) // 10), len(logs) - 1)
    start = logs[count]
    if lowest >= start:
        return 1.0
    # The depths below the start are exponential; that of a new one, their mean being estimated, has this tail.
    spread = max(float((start - logs[:count]).mean()), _LEAST_SPREAD)
    single = count / len(logs) * (1 + (start - lowest) / (count * spread)) ** -count
    return float(-np.expm1(len(ratios) * np.log1p(-single)))


def _features(real: ArrayLike, generated: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    pair = []
    for name, part in (("real", real), ("generated", generated)):
        values = np.asarray(part, np.float64)
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


def _rows(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Images as rows of mean 0 and standard deviation 1, a constant one as zeros; features as they are."""
    if x.ndim == 2:
        return x
    rows = x.reshape(len(x), -1)
    rows = rows - rows.mean(1, keepdims=True)
    spread = rows.std(1, keepdims=True)
    return rows / np.where(spread > 1e-12, spread, 1.0)


def _nearest(
    rows: NDArray[np.float64], library: NDArray[np.float64], neighbors: int, near: float | None = None
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64], float]:
    """Of each row: the nearest of the library, its distance, and that by the mean distance to the next other ones.

    What lies within ``near`` of the nearest is that image again; None: a hundredth of the usual distance from ``rows``
    to the next ones, which is given back last.
    """
    nearest, next_ones = np.empty(len(rows), np.intp), np.zeros(len(rows))
    left, reach = np.arange(len(rows)), neighbors + 1
    while len(left):
        reach = min(reach, len(library))
        places, distances = _neighbors(rows[left], library, reach)
        near = float(_TWIN * np.median(distances[:, -1])) if near is None else near
        first = library[places[:, 0]]
        other = np.stack([np.linalg.norm(library[place] - first, axis=1) > near for place in places.T], axis=1)
        taken = other & (other.cumsum(1) <= neighbors)
        count = taken.sum(1)
        done = (count == neighbors) | (reach == len(library))
        nearest[left[done]] = places[done, 0]
        next_ones[left[done]] = ((distances * taken).sum(1) / np.maximum(count, 1))[done]
        left, reach = left[~done], 2 * reach
    # The squared expansion that finds them is not exact near 0, where it matters most.
    distance = np.sqrt(((rows - library[nearest]) ** 2).sum(1))
    ratio = np.where(next_ones > 0, distance / np.where(next_ones > 0, next_ones, 1), 1.0)
    return nearest, distance, ratio, near


def _neighbors(
    rows: NDArray[np.float64], library: NDArray[np.float64], count: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """(n, count) the nearest of the library, the nearest first, and their distances."""
    lengths, places, distances = (library**2).sum(1), [], []
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        squares = (part**2).sum(1)[:, None] + lengths - 2 * part @ library.T
        found = np.argpartition(squares, count - 1, axis=1)[:, :count]
        values = np.take_along_axis(squares, found, axis=1)
        order = np.argsort(values, axis=1, kind="stable")
        places.append(np.take_along_axis(found, order, axis=1))
        distances.append(np.sqrt(np.maximum(np.take_along_axis(values, order, axis=1), 0)))
    return np.concatenate(places), np.concatenate(distances)
