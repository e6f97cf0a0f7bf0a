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
        masks: bool = False,
    ) -> None:
        super().__init__(workers=1)
        self.masks = masks
        self.x, self.y, self.encode, self.weights, self.augment = x, y, encode, weights, augment
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
        rows = self.cases_of(index)[self.part]
        x, y = np.asarray(self.x[rows], np.float32), self.y[rows]
        if self.augment is not None:
            keys = np.stack([np.full_like(rows, self.seed), np.full_like(rows, self.epoch), rows], axis=1)
            x, y = _augmented(self.augment, x, y, keys, self.masks)
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


def check(data: Any, model: keras.Model, *, name: str) -> tuple | keras.utils.PyDataset:
    """``data`` as a pair of arrays or a PyDataset, after checks.

    Raises:
        ValueError: neither of them; empty; lengths differ; NaN or infinity; a shape that the model does not take.
    """
    if not isinstance(model, keras.Model):
        hint = (
            "call the function and give what it returns" if callable(model) else "medlab.models.make makes one by name"
        )
        raise ValueError(f"Expected a Keras model. Received {model!r}; {hint}.")
    if isinstance(data, keras.utils.PyDataset):
        if not len(data):
            raise ValueError(f"Expected at least one {name} batch. The PyDataset has none.")
        first = data[0]
        if not isinstance(first, tuple | list) or len(first) not in (2, 3):
            raise ValueError(f"Expected (x, y) or (x, y, weight) batches in the {name} PyDataset.")
        _check_shape(np.shape(first[0]), model, name=name)
        return data
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise ValueError(f"Expected {name} data as (x, y) arrays or a keras PyDataset. Received {type(data).__name__}.")
    x, y = np.asarray(data[0]), np.asarray(data[1])
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim == x.ndim >= 4 and y.shape[-1] == 1 and y.dtype.kind in "biu" and _channels(model) > 1:
        y = y[..., 0]
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise ValueError(f"Expected as many {name} labels as images. Received x {x.shape} and y {y.shape}.")
    if not len(x):
        raise ValueError(f"Expected at least one {name} case. Received x {x.shape}.")
    _check_shape(x.shape, model, name=name)
    if x.dtype.kind not in "biuf":
        raise ValueError(f"Expected {name} images of numbers. Received dtype {x.dtype}.")
    if 3 <= y.ndim == x.ndim - 1 and y.shape != x.shape[:-1]:
        raise ValueError(
            f"Expected {name} masks on the grid of their images. Received x {x.shape} and y {y.shape}; "
            "medlab.batches.masks gives masks on it."
        )
    bad = [case for case in range(len(x)) if not np.isfinite(x[case]).all()] if x.dtype.kind == "f" else []
    if bad:
        raise ValueError(
            f"{len(bad)} of {len(x)} {name} images hold NaN or infinity, the first are cases {bad[:5]}. "
            "Find them with medlab.clean.faults and mend them with medlab.clean.repair, or drop them."
        )
    return x, y


def _check_shape(shape: tuple[int, ...], model: keras.Model, *, name: str) -> None:
    expected = getattr(model, "input_shape", None) if getattr(model, "inputs", None) else None
    if expected is None:
        raise ValueError(
            f"Expected a model that knows its input: functional, or Sequential with keras.Input first. {model.name!r} "
            "does not; wrap it: image = keras.Input(shape); keras.Model(image, model(image))."
        )
    if not isinstance(expected, tuple):
        raise ValueError(f"Expected a model with one input. Received inputs of shape {expected}.")
    fits = len(shape) == len(expected) and all(b in (None, a) for a, b in zip(shape[1:], expected[1:], strict=True))
    if not fits:
        raise ValueError(
            f"The model takes images of shape {('n', *expected[1:])}. Received {name} images of shape {shape}; "
            "resize them (medlab.standardize.resize), add the axis of channels, or make the model for their shape."
        )


def _part(size: int, processes: int, rank: int) -> slice:
    return slice(rank * size // processes, (rank + 1) * size // processes)


def _channels(model: keras.Model) -> int:
    shape = getattr(model, "output_shape", None)
    return shape[-1] or 0 if isinstance(shape, tuple) and shape and not isinstance(shape[0], tuple | list) else 0


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
) -> Feed | Wrapped:
    """The training batches of ``data``.

    Raises:
        ValueError: ``augment`` beside a PyDataset, which augments by itself.
    """
    if augment is not None and not callable(augment):
        raise ValueError(
            f"Expected augment as a function augment(x, keys=keys) -> (x, mask), such as medlab.augment.policy gives, "
            f"or None. Received {augment!r}."
        )
    if not isinstance(data, keras.utils.PyDataset):
        return Feed(
            *data, encode=objective.encode, weights=weights, augment=augment, batch_size=batch_size, seed=seed,
            masks=objective.task == losses.SEGMENTATION,
        )  # fmt: skip
    if augment is not None:
        raise ValueError("A PyDataset augments by itself: give augment to it (medlab.batches.Batches), not to fit.")
    unseen = objective.task == losses.SEGMENTATION
    look = (lambda y: losses.check_labels(y, objective, name="(batch of) training")) if unseen else None
    return Wrapped(data, encode=objective.encode, weights=weights, check=look)
