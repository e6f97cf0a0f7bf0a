"""Copying: whether generated images are training images, or nearly so.

In: training, unseen and generated images, or features of them. Out: which are too near to a training image, and how
likely that is by chance.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.evaluate import inputs

_ROWS = 512  # distances at a time
_EXACT = 1e-6  # of a typical distance: nearer is the same image
_TWIN = 1e-2  # of a typical distance: training images nearer to each other count as one image
_COPY = 0.05  # ratio below which an image of held_out is called a training image
_LEAST_SPREAD = 0.02  # of the logarithms of ratios: a scale of ratios that are all alike


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
    not see the difference. Of features of two values it is too strict: of unseen points, a few in a hundred sets fail.
    Passing is no proof of privacy.

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

    names = ("train", "held_out", "generated")
    parts = [inputs.floats(part, name) for part, name in zip((train, held_out, generated), names, strict=True)]
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
