"""Feed: the training and validation cases as batches whose order and augmentation follow from seed and epoch alone.

In: arrays (x, y) or a ``keras.utils.PyDataset``. Out: PyDatasets for Keras. It changes no array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from medlab.backend import keras
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
    ) -> None:
        super().__init__(workers=1)
        self.x, self.y, self.encode, self.weights, self.augment = x, y, encode, weights, augment
        self.size = min(batch_size, len(x))
        self.seed = seed
        self.failure: BaseException | None = None
        self.start_epoch(0)

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

    def _batch(self, index: int) -> tuple[np.ndarray, ...]:
        rows = self.order[index * self.size : (index + 1) * self.size]
        x = np.asarray(self.x[rows], np.float32)
        if self.augment is not None:
            keys = np.stack([np.full_like(rows, self.seed), np.full_like(rows, self.epoch), rows], axis=1)
            x = _augmented(self.augment, x, keys)
        return _with_weights(x, self.y[rows], self.encode, self.weights)


class Wrapped(keras.utils.PyDataset):
    """A user's PyDataset with its labels encoded and weighted; it is told the epoch if it has ``start_epoch``."""

    def __init__(self, dataset: keras.utils.PyDataset, *, encode: Callable, weights: np.ndarray | None = None) -> None:
        super().__init__(
            workers=dataset.workers,
            use_multiprocessing=dataset.use_multiprocessing,
            max_queue_size=dataset.max_queue_size,
        )
        self.dataset, self.encode, self.weights = dataset, encode, weights
        self.failure: BaseException | None = None

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
        except BaseException as error:
            self.failure = error
            raise
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
    """All labels of ``data``: of a PyDataset its attribute ``y`` where it has one, else read batch by batch."""
    if isinstance(data, keras.utils.PyDataset):
        known = getattr(data, "y", None)
        if known is not None and not callable(known):
            return np.asarray(known)
        return np.concatenate([np.asarray(data[index][1]) for index in range(len(data))])
    return np.asarray(data[1])


def batches(data: tuple | keras.utils.PyDataset, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every case once, in order: (x, y) batches for validation."""
    if isinstance(data, keras.utils.PyDataset):
        for index in range(len(data)):
            yield data[index][0], np.asarray(data[index][1]) if len(data[index]) > 1 else None
        return
    x, y = data
    for start in range(0, len(x), batch_size):
        yield np.asarray(x[start : start + batch_size], np.float32), np.asarray(y[start : start + batch_size])


def check(data: Any, model: keras.Model, *, name: str) -> tuple | keras.utils.PyDataset:
    """``data`` as a pair of arrays or a PyDataset, after checks.

    Raises:
        ValueError: neither of them; empty; lengths differ; NaN or infinity; a shape that the model does not take.
    """
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
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise ValueError(f"Expected as many {name} labels as images. Received x {x.shape} and y {y.shape}.")
    if not len(x):
        raise ValueError(f"Expected at least one {name} case. Received x {x.shape}.")
    _check_shape(x.shape, model, name=name)
    if x.dtype.kind not in "biuf":
        raise ValueError(f"Expected {name} images of numbers. Received dtype {x.dtype}.")
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


def _augmented(augment: Augment, x: np.ndarray, keys: np.ndarray) -> np.ndarray:
    new, _ = augment(x, keys=keys)
    new = np.asarray(new, np.float32)
    if new.shape != x.shape:
        raise ValueError(f"Expected augment to keep the shape {x.shape}. It gave {new.shape}.")
    return new


def _with_weights(x: np.ndarray, y: np.ndarray, encode: Callable, weights: np.ndarray | None) -> tuple[np.ndarray, ...]:
    if weights is None:
        return x, encode(y)
    return x, encode(y), weights[np.asarray(y, np.int64).reshape(-1)]


def class_counts(y: np.ndarray, objective: losses.Objective) -> str:
    """Cases of each class as text, for the first line of a training."""
    if objective.task in (losses.BINARY, losses.MULTICLASS):
        counts = np.bincount(np.asarray(y, np.int64).reshape(-1), minlength=max(2, objective.outputs))
        return " + ".join(map(str, counts))
    return str(len(y))


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
    if not isinstance(data, keras.utils.PyDataset):
        return Feed(*data, encode=objective.encode, weights=weights, augment=augment, batch_size=batch_size, seed=seed)
    if augment is not None:
        raise ValueError("A PyDataset augments by itself: give augment to it (medlab.batches.Batches), not to fit.")
    return Wrapped(data, encode=objective.encode, weights=weights)
