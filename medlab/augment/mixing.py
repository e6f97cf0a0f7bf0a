"""Mixup and CutMix: two cases of a batch become one, and so do their labels.

In: a batch of images and labels. Out: new ones, the labels as shares of each class. A case's partner follows from the
set of keys in the batch, not from their order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medlab.augment.numbering import rows_of, seed_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def mixup(
    x: ArrayLike,
    y: ArrayLike,
    *,
    classes: int | None = None,
    alpha: float = 0.2,
    keys: ArrayLike | None = None,
    seed: int = 0,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Each image mixed with another one of the batch, voxel by voxel, and its label in the same proportion.

    Args:
        x: (n, i, j[, k], c), on a common scale of intensity.
        y: (n,) class indices, (n, classes) 0 and 1, or shares from 0 to 1; or (n,) 0 and 1, or shares, of one class.
        classes: number of classes, needed where ``y`` is (n,) indices above 1.
        alpha: the share of a case is drawn from Beta(alpha, alpha): near 0 almost only one of the two, 1 evenly.
        keys: (n,) or (n, m) integers of 0 or above, such as (epoch, case number), each once: with the seed and the
            other keys of the batch they decide everything. None takes the position in the batch.
        seed: decides, with the keys, all that is random.

    Returns:
        ``(x, y)`` float32: (n, i, j[, k], c), and (n, classes), or (n,) where ``y`` is one class. A batch of one case
        comes back unmixed.

    Raises:
        ValueError: lengths that differ, masks, class indices without ``classes``, alpha not above 0, a seed or keys
            that are no whole numbers of 0 or above.

    Source: H. Zhang et al., mixup: beyond empirical risk minimization, ICLR 2018.
    """
    x, y, partner, share, _ = _prepare(x, y, classes, alpha, keys, seed)
    wide = share.reshape(-1, *(1,) * (x.ndim - 1))
    return x * wide + x[partner] * (1 - wide), _blend(y, partner, share)


def cutmix(
    x: ArrayLike,
    y: ArrayLike,
    *,
    classes: int | None = None,
    alpha: float = 1.0,
    keys: ArrayLike | None = None,
    seed: int = 0,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Each image with a box of another one of the batch in its place, and its label in proportion to the box's size.

    Where the disease lies outside the box that is cut, or under the one that is put in, the label is wrong: for small
    lesions :func:`mixup` is the safer choice.

    Args:
        x: (n, i, j[, k], c), on a common scale of intensity.
        y: as in :func:`mixup`.
        classes: as in :func:`mixup`.
        alpha: the share of a case that stays is drawn from Beta(alpha, alpha); what the border of the image cuts off
            the box counts for the case.
        keys: as in :func:`mixup`.
        seed: as in :func:`mixup`.

    Returns:
        ``(x, y)`` as in :func:`mixup`.

    Raises:
        ValueError: as in :func:`mixup`.

    Source: S. Yun et al., CutMix, ICCV 2019, 6023-6032.
    """
    x, y, partner, share, random = _prepare(x, y, classes, alpha, keys, seed)
    if len(x) < 2:
        return x, y
    shape = np.array(x.shape[1:-1])
    out = x.copy()
    for case, other in enumerate(partner):
        half = shape * (1 - share[case]) ** (1 / len(shape)) / 2
        middle = random[case].random(len(shape)) * shape
        start, stop = (np.clip(np.rint(edge).astype(int), 0, shape) for edge in (middle - half, middle + half))
        box = tuple(slice(*ends) for ends in zip(start, stop, strict=True))
        out[(case, *box)] = x[(other, *box)]
        share[case] = 1 - np.prod(stop - start) / np.prod(shape)
    return out, _blend(y, partner, share)


def _prepare(
    x: ArrayLike, y: ArrayLike, classes: int | None, alpha: float, keys: ArrayLike | None, seed: int
) -> tuple[NDArray, NDArray, NDArray, NDArray, list[np.random.Generator]]:
    """Images, soft labels, each case's partner, its own share, and its random numbers."""
    x = np.array(x, np.float32)
    if x.ndim not in (4, 5):
        raise ValueError(f"Expected images (n, i, j[, k], c). Received shape {x.shape}.")
    if not (np.isfinite(alpha) and alpha > 0):
        raise ValueError(f"Expected alpha above 0. Received {alpha!r}.")
    y = _soft(np.asarray(y), len(x), classes)
    seed = seed_of(seed)
    rows = rows_of(np.arange(len(x)) if keys is None else keys, len(x))
    random = [np.random.default_rng([seed, *row]) for row in rows]
    draws = [(one.random(), one.beta(alpha, alpha)) for one in random]
    # In a ring, ordered by a random number of each: everyone gives to one and takes from another.
    order = sorted(range(len(x)), key=lambda case: (draws[case][0], rows[case]))
    partner = np.empty(len(x), int)
    partner[order] = np.roll(order, -1)
    return x, y, partner, np.array([share for _, share in draws], np.float32), random


def _soft(y: NDArray, n: int, classes: int | None) -> NDArray[np.float32]:
    if y.ndim not in (1, 2) or len(y) != n:
        raise ValueError(f"Expected labels (n,) or (n, classes) for {n} images. Received shape {y.shape}; masks of "
                         "voxels are not mixed.")  # fmt: skip
    if y.ndim == 1 and classes is not None:
        if y.dtype.kind not in "biu" or (n and not 0 <= int(y.min()) <= int(y.max()) < classes):
            raise ValueError(f"Expected class indices from 0 to {classes - 1}. Received {np.unique(y)[:10].tolist()}.")
        return np.eye(classes, dtype=np.float32)[y.astype(int)]
    soft = y.astype(np.float32)
    if n and not (soft.min() >= 0 and soft.max() <= 1):
        raise ValueError(
            f"Expected labels from 0 to 1. Received {np.unique(y)[:10].tolist()}; for class indices give classes=."
        )
    return soft


def _blend(y: NDArray[np.float32], partner: NDArray, share: NDArray[np.float32]) -> NDArray[np.float32]:
    weight = share if y.ndim == 1 else share[:, None]
    return (y * weight + y[partner] * (1 - weight)).astype(np.float32)
