"""Feed: the training and validation cases as batches whose order and augmentation follow from seed and epoch alone.

In: arrays (x, y) or a ``keras.utils.PyDataset``. Out: PyDatasets for Keras. It changes no array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from medlab.backend import keras
from medlab.train import labels as labels_of
from medlab.train import losses

Augment = Callable[..., tuple[np.ndarray, Any]]
Mix = Callable[..., tuple[np.ndarray, np.ndarray]]


class Feed(keras.utils.PyDataset):
    """Batches of one epoch. All have the same size: the last one is filled up with cases of the epoch's beginning.

    Args:
        x: (n, i, j[, k], c) images.
        y: (n, ...) labels as the user has them.
        encode: labels to what the loss wants.
        weights: (classes,) weight of each class, or None.
        augment: ``augment(x, keys=keys) -> (x, mask)``; keys (n, 3) int64 are seed, epoch and number of the case.
        batch_size: cases a batch; fewer where there are fewer.
        seed: start of order and keys.
        mix: ``mix(x, y, keys=keys, seed=seed) -> (x, y)`` on the augmented images and encoded labels, such as
            :func:`medlab.augment.mixup`; or None.
        masks: whether ``y`` are masks (n, i, j[, k]), which change with the images:
            ``augment(x, mask, keys=keys) -> (x, mask)``.
    """

    def __init__(
        self,
        x: np.ndarray,
        y: np.ndarray,
        *,
        encode: Callable[[np.ndarray], np.ndarray],
        weights: np.ndarray | None = None,
        augment: Augment | None = None,
        batch_size: int = 32,
        seed: int = 0,
        mix: Mix | None = None,
        masks: bool = False,
    ) -> None:
        super().__init__(workers=1)
        self.masks = masks
        self.x, self.y, self.encode, self.weights, self.augment, self.mix = x, y, encode, weights, augment, mix
        self.size = min(batch_size, len(x))
        self.seed = seed
        self.failure: BaseException | None = None
        self.image_shape = tuple(np.shape(x)[1:])
        self.part = slice(None)
        self.start_epoch(0)

    def share(self, devices: int, processes: int, rank: int) -> None:
        """From here on gives, of each batch, the part that process ``rank`` feeds to its devices."""
        self.part = _part(self.size, processes, rank)

    def start_epoch(self, epoch: int) -> None:
        """Draws the order of ``epoch``, the same however often it is asked for."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.x))
        missing = -len(order) % self.size
        self.order = np.concatenate([order, order[:missing]])
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.order) // self.size

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        try:
            return self._batch(index)
        except BaseException as error:
            # TensorFlow calls this from its own threads and passes on only the text of an error.
            self.failure = error
            raise

    def cases_of(self, index: int) -> np.ndarray:
        """Numbers of the cases in a batch."""
        return self.order[index * self.size : (index + 1) * self.size]

    def _batch(self, index: int) -> tuple[np.ndarray, ...]:
        # Whom a case is mixed with depends on the whole batch, whichever part of it this process feeds.
        rows = self.cases_of(index) if self.mix else self.cases_of(index)[self.part]
        x, y = np.asarray(self.x[rows], np.float32), self.y[rows]
        keys = np.stack([np.full_like(rows, self.seed), np.full_like(rows, self.epoch), rows], axis=1)
        if self.augment is not None:
            x, y = _augmented(self.augment, x, y, keys, self.masks)
        if self.mix is not None:
            x, y = self.mix(x, self.encode(y), keys=keys, seed=self.seed)
            return x[self.part], y[self.part]
        return _with_weights(x, y, self.encode, self.weights)


class Wrapped(keras.utils.PyDataset):
    """A user's PyDataset with its labels encoded and weighted; it is told the epoch if it has ``start_epoch``.

    Args:
        dataset: batches (x, y) or (x, y, weight).
        encode: labels to what the loss wants.
        weights: (classes,) weight of each class, or None.
        check: refuses the labels of a batch that were not looked at before.
    """

    def __init__(
        self,
        dataset: keras.utils.PyDataset,
        *,
        encode: Callable,
        weights: np.ndarray | None = None,
        check: Callable[[np.ndarray], None] | None = None,
    ) -> None:
        super().__init__(
            workers=dataset.workers,
            use_multiprocessing=dataset.use_multiprocessing,
            max_queue_size=dataset.max_queue_size,
        )
        self.dataset, self.encode, self.weights, self.check = dataset, encode, weights, check
        self.failure: BaseException | None = None
        self.size, *self.image_shape = np.shape(dataset[0][0])
        self.devices, self.processes, self.rank = 1, 1, 0

    def share(self, devices: int, processes: int, rank: int) -> None:
        """From here on fills each batch up with its first cases, for ``devices`` to share it alike.

        Gives the part that process ``rank`` feeds to its own devices.
        """
        self.devices, self.processes, self.rank = devices, processes, rank

    def start_epoch(self, epoch: int) -> None:
        """Tells the data set which epoch begins, where it can be told."""
        if hasattr(self.dataset, "start_epoch"):
            self.dataset.start_epoch(epoch)
        elif hasattr(self.dataset, "epoch"):
            self.dataset.epoch = epoch

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        try:
            batch = self.dataset[index]
            if self.check is not None:
                self.check(batch[1])
        except BaseException as error:
            self.failure = error
            raise
        if self.devices > 1:
            rows = np.arange(len(batch[0]) + -len(batch[0]) % self.devices) % len(batch[0])
            rows = rows[_part(len(rows), self.processes, self.rank)]
            batch = tuple(np.asarray(part)[rows] for part in batch)
        if len(batch) == 3:
            return batch[0], self.encode(batch[1]), batch[2]
        return _with_weights(batch[0], batch[1], self.encode, self.weights)

    def on_epoch_begin(self) -> None:
        """Passed on."""
        self.dataset.on_epoch_begin()

    def on_epoch_end(self) -> None:
        """Passed on."""
        self.dataset.on_epoch_end()


def labels(data: tuple | keras.utils.PyDataset) -> np.ndarray:
    """All labels of ``data``: of a PyDataset its attribute ``y`` where it has one, else read batch by batch.

    Of a PyDataset of masks those of the first batch alone: they would take the memory and time of a whole epoch.
    """
    if not isinstance(data, keras.utils.PyDataset):
        return np.asarray(data[1])
    known = getattr(data, "y", None)
    if known is not None and not callable(known):
        return np.asarray(known)
    first = np.asarray(data[0][1])
    if has_masks(data, first):
        return first
    return np.concatenate([first, *(np.asarray(data[index][1]) for index in range(1, len(data)))])


def has_masks(data: tuple | keras.utils.PyDataset, y: np.ndarray) -> bool:
    """Whether ``y`` are labels of voxels in a PyDataset, which are looked at batch by batch and not all at once."""
    return isinstance(data, keras.utils.PyDataset) and y.ndim >= 3


def batches(data: tuple | keras.utils.PyDataset, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every case once, in order: (x, y) batches for validation."""
    if isinstance(data, keras.utils.PyDataset):
        for index in range(len(data)):
            x, y, *_ = data[index]
            yield np.asarray(x), np.asarray(y)
        return
    x, y = data
    for start in range(0, len(x), batch_size):
        yield np.asarray(x[start : start + batch_size], np.float32), np.asarray(y[start : start + batch_size])


def _part(size: int, processes: int, rank: int) -> slice:
    return slice(rank * size // processes, (rank + 1) * size // processes)


def _augmented(
    augment: Augment, x: np.ndarray, y: np.ndarray, keys: np.ndarray, masks: bool
) -> tuple[np.ndarray, np.ndarray]:
    made = augment(x, y, keys=keys) if masks else augment(x, keys=keys)
    if not isinstance(made, tuple | list) or len(made) != 2:
        raise ValueError(
            "Expected augment to give a pair: the images and the masks, or None where there are no masks. It gave one "
            f"{type(made).__name__}; end it with: return x, {'mask' if masks else 'None'}."
        )
    new, mask = made
    new = np.asarray(new, np.float32)
    if new.shape != x.shape:
        raise ValueError(f"Expected augment to keep the shape {x.shape}. It gave {new.shape}.")
    if not masks:
        return new, y
    if np.shape(mask) != y.shape:
        raise ValueError(f"Expected augment to give masks of shape {y.shape}. It gave {np.shape(mask)}.")
    return new, np.asarray(mask)


def _with_weights(x: np.ndarray, y: np.ndarray, encode: Callable, weights: np.ndarray | None) -> tuple[np.ndarray, ...]:
    if weights is None:
        return x, encode(y)
    return x, encode(y), weights[labels_of.indices(y)]


def class_counts(data: tuple | keras.utils.PyDataset, y: np.ndarray, objective: losses.Objective) -> str:
    """Cases of each class as text, for the first line of a training."""
    if objective.task in (losses.BINARY, losses.MULTICLASS):
        counts = np.bincount(labels_of.indices(y), minlength=max(2, objective.outputs))
        return " + ".join(map(str, counts))
    return f"{len(data)} batches of" if has_masks(data, y) else str(len(y))


def feeds(
    data: tuple | keras.utils.PyDataset,
    objective: losses.Objective,
    weights: np.ndarray | None,
    augment: Augment | None,
    batch_size: int,
    seed: int,
    mix: Mix | None = None,
) -> Feed | Wrapped:
    """The training batches of ``data``.

    Raises:
        ValueError: ``augment`` or ``mix`` beside a PyDataset, which changes its images by itself; ``mix`` with class
            weights, with labels or a loss that know no shares, or that fails on the first two cases.
    """
    if mix is not None:
        _check_mix(mix, data, objective, weights)
    if augment is not None and not callable(augment):
        raise ValueError(
            f"Expected augment as a function augment(x, keys=keys) -> (x, mask), such as medlab.augment.policy gives, "
            f"or None. Received {augment!r}."
        )
    if not isinstance(data, keras.utils.PyDataset):
        return Feed(
            *data, encode=objective.encode, weights=weights, augment=augment, batch_size=batch_size, seed=seed,
            mix=mix, masks=objective.task == losses.SEGMENTATION,
        )  # fmt: skip
    if augment is not None:
        raise ValueError("A PyDataset augments by itself: give augment to it (medlab.batches.Batches), not to fit.")
    unseen = objective.task == losses.SEGMENTATION
    look = (lambda y: losses.check_labels(y, objective, name="(batch of) training")) if unseen else None
    return Wrapped(data, encode=objective.encode, weights=weights, check=look)


def _check_mix(mix: Any, data: Any, objective: losses.Objective, weights: np.ndarray | None) -> None:
    if not callable(mix):
        raise ValueError(
            f"Expected mix as a function mix(x, y, keys=keys, seed=seed) -> (x, y), such as medlab.augment.mixup, or "
            f"None. Received {mix!r}."
        )
    if isinstance(data, keras.utils.PyDataset):
        raise ValueError("A PyDataset mixes by itself: mix its batches there, not in fit.")
    two = np.array(data[0][:2], np.float32), objective.encode(data[1][:2])
    whole = objective.task in (losses.BINARY, losses.MULTICLASS, losses.MULTILABEL)
    if not whole or objective.partial:
        raise ValueError(
            "Expected labels of which shares can be taken, for mix: classes of whole images, all known. Received the "
            f"task {objective.task!r}{', labels partly unknown' if objective.partial else ''}."
        )
    if two[1].dtype.kind != "f":
        name = getattr(objective.loss, "name", None) or getattr(objective.loss, "__name__", "")
        raise ValueError(
            f"Expected a loss that takes shares of the classes, for mix. The loss {name} was given, with labels as "
            f'whole numbers ({two[1].dtype}) of shape {("n", *two[1].shape[1:])}: take loss="auto", or mix=None.'
        )
    if weights is not None:
        raise ValueError("Expected class_weight=None with mix: a mixed image belongs to no single class.")
    _try_mix(mix, *two)


def _try_mix(mix: Mix, x: np.ndarray, y: np.ndarray) -> None:
    """Mixes the first two cases, so that what is wrong with ``mix`` is said before a training starts."""
    expected = "Expected mix as a function mix(x, y, keys=keys, seed=seed) -> (x, y), such as medlab.augment.mixup."
    keys = np.stack([np.zeros(len(x), int), np.zeros(len(x), int), np.arange(len(x))], axis=1)
    try:
        made = mix(x.copy(), y.copy(), keys=keys, seed=0)
    except Exception as error:
        raise ValueError(f"{expected} On the first two cases it failed: {type(error).__name__}: {error}") from error
    if not isinstance(made, tuple | list) or len(made) != 2:
        raise ValueError(f"{expected} On the first two cases it gave no pair but {type(made).__name__}.")
    shapes = tuple(np.shape(one) for one in made)
    if shapes != (x.shape, y.shape):
        raise ValueError(f"{expected} Of the first two cases, {x.shape} and {y.shape}, it made {shapes}.")
