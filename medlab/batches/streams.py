"""Streams: the batches of a split, made while the model trains.

In: cases, a split, a recipe, an augmentation. Out: a ``keras.utils.PyDataset``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medlab.backend import keras
from medlab.batches.whole import image_array, mask_array, masks_there, named, recipe_for, with_size

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Batches(keras.utils.PyDataset):
    """Batches of a split for ``model.fit``, standardized, augmented and shuffled.

    Each standardized case is kept in memory up to ``cache_mb``, so that later epochs read no file. What happens to
    a case in an epoch depends on the seeds, the epoch and the case alone, not on batch size or order.

    Args:
        cases: the data set.
        split: ``"train"``, ``"validation"``, ``"test"``, or None for all cases.
        recipe: see :func:`recipe_for`.
        augment: a policy of ``medlab.augment``, for training only.
        batch_size: cases in a batch; the last batch may be smaller.
        seed: decides the order of the cases.
        size: see :func:`arrays`.
        masks: give masks (n, i, j[, k]) as the target in place of labels.
        shuffle: another order in each epoch.
        cache_mb: memory for standardized cases, MiB.
    """

    def __init__(
        self, cases, split=None, *, recipe="auto", augment=None, batch_size=32, seed=0, size=None, masks=False,
        shuffle=True, cache_mb=2048, workers=2, max_queue_size=8,
    ):  # fmt: skip
        super().__init__(workers=workers, use_multiprocessing=False, max_queue_size=max_queue_size)
        if batch_size < 1:
            raise ValueError(f"Expected a batch size of at least 1. Received {batch_size}.")
        self.cases = cases.subset(split)
        self.recipe = with_size(recipe_for(cases, recipe), size, lambda: cases.volume(self.cases.ids[0]).rank)
        self.augment, self.batch_size, self.seed, self.shuffle = augment, int(batch_size), int(seed), shuffle
        self._ids, self._images = self.cases.ids, self.cases.table["image"].tolist()
        self._masks = masks_there(self.cases) if masks else None
        self._y = None if masks else self.cases.y()
        self._shape: tuple[int, ...] | None = None
        self._cache: dict[int, tuple[NDArray, NDArray | None]] = {}
        self._room = cache_mb * 2**20
        self.epoch = 0
        self._order = self._new_order()

    def __len__(self) -> int:
        return -(-len(self.cases) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[NDArray, NDArray]:
        if not 0 <= index < len(self):
            raise IndexError(f"Expected a batch number below {len(self)}. Received {index}.")
        rows = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        found = [self._case(int(row)) for row in rows]
        x = np.stack([image for image, _ in found])
        mask = None if self._masks is None else np.stack([mask for _, mask in found])
        if self.augment is not None:
            keys = np.stack([rows, np.full(len(rows), self.epoch)], 1)
            x, mask = self.augment(x, mask, keys=keys)
        return x, (self._y[rows] if mask is None else mask)

    def on_epoch_end(self) -> None:
        """The next epoch has another order."""
        self.start_epoch(self.epoch + 1)

    def start_epoch(self, epoch: int) -> None:
        """Draws the order of ``epoch``: a training that is resumed goes on as if it had not been interrupted."""
        self.epoch = epoch
        self._order = self._new_order()

    def _new_order(self) -> NDArray[np.int64]:
        n = len(self.cases)
        return np.random.default_rng([self.seed, self.epoch]).permutation(n) if self.shuffle else np.arange(n)

    def _case(self, row: int) -> tuple[NDArray, NDArray | None]:
        """One standardized case, from memory where it is."""
        if row in self._cache:
            return self._cache[row]
        name = self._ids[row]
        image = named(name, lambda: image_array(self.cases, self._images[row], self.recipe))
        mask = None
        if self._masks is not None:
            mask = named(name, lambda: mask_array(self.cases, self._masks[row], self.recipe, self._images[row]))
            if mask.shape != image.shape[:-1]:
                raise ValueError(f"Case {name!r}: the mask has shape {mask.shape}, the image {image.shape[:-1]}.")
        if self._shape is None:
            self._shape = image.shape
        if image.shape != self._shape:
            raise ValueError(
                f"Expected images of one shape. Case {name!r} has {image.shape}, others {self._shape}; pass size=..."
            )
        size = image.nbytes + (0 if mask is None else mask.nbytes)
        if size <= self._room:
            self._room -= size
            self._cache[row] = image, mask
        return image, mask
