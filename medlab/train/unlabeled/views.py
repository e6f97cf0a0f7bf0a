"""Views: batches in which a case comes several times, each time changed at random in another way.

In: images, perhaps a few labels. Out: PyDatasets of batches (n, views, i, j[, k], c). They change no array.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from medlab.backend import keras
from medlab.train import identity

Augment = Callable[..., tuple[np.ndarray, Any]]


class Views(keras.utils.PyDataset):
    """Batches in which every case comes once for each of ``changes``.

    Args:
        x: (n, i, j[, k], c) images.
        changes: one function a view, ``change(x, keys=keys) -> (x, mask)``, or None for the image as it is.
        batch_size: cases a batch; the last one is filled up with cases of the epoch's beginning.
        seed: start of the order and of the keys.
        target: whether the first view is also what the network should give, in place of zeros.
    """

    def __init__(
        self, x: np.ndarray, changes: Sequence[Augment | None], *, batch_size: int, seed: int, target: bool = False
    ) -> None:
        super().__init__(workers=1)
        self.x, self.changes, self.seed, self.target = x, tuple(changes), seed, target
        self.size = min(batch_size, len(x))
        self.y = np.zeros((len(x), 1), np.float32)
        self.fingerprint = fingerprint(x, changes=self.changes)
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        """Draws the order of ``epoch``, the same however often it is asked for."""
        self.epoch, self.order = epoch, shuffled(len(self.x), self.size, self.seed, epoch)

    def __len__(self) -> int:
        return len(self.order) // self.size

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self.order[index * self.size : (index + 1) * self.size]
        images = np.asarray(self.x[rows], np.float32)
        views = [changed(images, rows, change, (self.seed, self.epoch, n)) for n, change in enumerate(self.changes)]
        if self.target:
            return views[0], views[0]
        return np.stack(views, axis=1), np.zeros((len(rows), 1), np.float32)


class Beside(keras.utils.PyDataset):
    """Batches of labeled cases, each with some unlabeled ones in weak and strong views beside it.

    The images of a row are one labeled view, then ``ratio`` weak views of unlabeled cases, then ``ratio`` strong views
    of the same. An epoch has ``steps`` batches: there is no end to the unlabeled ones that few labels could set.

    Args:
        labeled: x (n, i, j[, k], c) and y (n,) class indices.
        unlabeled: (m, i, j[, k], c) images.
        weak: change of the labeled images and of the first view of the unlabeled.
        strong: change of their second view.
        batch_size: labeled cases a batch.
        ratio: unlabeled cases for each labeled one.
        steps: batches an epoch.
        ramp: epochs in which the share of the unlabeled loss rises to 1, as exp(-5 (1 - t)^2) (Laine and Aila 2017).
        seed: start of the order and of the keys.

    A batch's labels (n, 2) are the class and the share of the unlabeled loss.
    """

    def __init__(
        self,
        labeled: tuple[np.ndarray, np.ndarray],
        unlabeled: np.ndarray,
        weak: Augment | None,
        strong: Augment | None,
        *,
        batch_size: int,
        ratio: int,
        steps: int,
        ramp: float,
        seed: int,
    ) -> None:
        super().__init__(workers=1)
        self.x, self.classes = labeled
        self.unlabeled, self.weak, self.strong = unlabeled, weak, strong
        self.size, self.ratio, self.steps, self.ramp, self.seed = batch_size, ratio, steps, ramp, seed
        self.y = np.stack([self.classes, np.ones(len(self.classes))], axis=1).astype(np.float32)
        self.fingerprint = fingerprint(self.x, unlabeled, changes=(weak, strong))
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        """Draws the order of ``epoch``: as many rounds through the cases as its steps need."""
        self.epoch = epoch
        self.order = rounds(len(self.x), self.steps * self.size, (self.seed, epoch, 0))
        self.others = rounds(len(self.unlabeled), self.steps * self.size * self.ratio, (self.seed, epoch, 1))

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        size, many = self.size, self.size * self.ratio
        rows, others = self.order[index * size : (index + 1) * size], self.others[index * many : (index + 1) * many]
        # A case may come twice in an epoch: the place in the epoch is what its changes follow from.
        key = (self.seed, self.epoch, index)
        x = changed(np.asarray(self.x[rows], np.float32), np.arange(size), self.weak, (*key, 0))[:, None]
        images = np.asarray(self.unlabeled[others], np.float32)
        weak, strong = (
            changed(images, np.arange(many), change, (*key, number)).reshape(size, self.ratio, *images.shape[1:])
            for number, change in ((1, self.weak), (2, self.strong))
        )
        done = self.epoch + index / self.steps
        share = np.exp(-5 * max(0.0, 1 - done / self.ramp) ** 2) if self.ramp else 1.0
        y = np.stack([self.classes[rows], np.full(size, share)], axis=1).astype(np.float32)
        return np.concatenate([x, weak, strong], axis=1), y


def fingerprint(*images: np.ndarray, changes: Sequence[Augment | None]) -> str:
    """What a resumed training must have again: the images, and the changes where these tell what they are.

    A function does not: it may count its calls.
    """
    told = [text for text in map(repr, changes) if " at 0x" not in text]
    return " ".join([*(identity.words(np.asarray(one)) for one in images), *told])


def shuffled(count: int, size: int, seed: int, epoch: int) -> np.ndarray:
    """Every case once in the order of an epoch, filled up to whole batches with those of its beginning."""
    order = np.random.default_rng([seed, epoch]).permutation(count)
    return np.concatenate([order, order[: -count % size]])


def rounds(count: int, wanted: int, key: tuple[int, ...]) -> np.ndarray:
    """``wanted`` cases: each of ``count`` comes as often as any other, or once more."""
    rng = np.random.default_rng(key)
    return np.concatenate([rng.permutation(count) for _ in range(-(-wanted // count))])[:wanted]


def parts_of(steps: int, epochs: int) -> int:
    """The number of parts nearest to ``epochs`` into which ``steps`` can be divided without a rest."""
    return min(
        (part for part in range(1, steps + 1) if steps % part == 0), key=lambda part: (abs(part - epochs), -part)
    )


def changed(images: np.ndarray, rows: np.ndarray, change: Augment | None, key: tuple[int, ...]) -> np.ndarray:
    """The images after ``change``, each by a key of its own; a copy where there is no change.

    Raises:
        ValueError: ``change`` takes no keys, or gives no pair or another shape.
    """
    if change is None:
        return images.copy()
    keys = np.column_stack([np.full((len(rows), len(key)), key), rows])
    try:
        made = change(images, keys=keys)
    except TypeError as error:
        if "keys" not in str(error):
            raise
        raise ValueError(
            f"Expected a change of the images as a function (x, keys=keys) -> (x, None), such as medlab.augment.policy "
            f"gives. Received {getattr(change, '__name__', type(change).__name__)}, which takes no keys."
        ) from error
    if not isinstance(made, tuple | list) or len(made) != 2 or np.shape(made[0]) != images.shape:
        raise ValueError(
            f"Expected a change of the images as a function (x, keys=keys) -> (x, None) that keeps the shape "
            f"{images.shape}. It gave {type(made).__name__}{'' if not hasattr(made, 'shape') else f' {made.shape}'}."
        )
    return np.asarray(made[0], np.float32)
