"""Crops: training on patches cut at random from volumes too large, or too different in shape, to be fed whole.

In: cases with masks, a recipe, the size of a patch. Out: a ``keras.utils.PyDataset`` of (x, mask) batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from medlab.backend import keras
from medlab.batches.whole import image_array, mask_array, masks_there, named, recipe_for

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Patches(keras.utils.PyDataset):
    """Batches of patches with their masks.

    A share of the patches is centered on a voxel of a structure, each structure of the case equally often, so that a
    small one is seen in training (Isensee et al. 2021, nnU-Net, oversample a third of each batch); the others lie
    anywhere. Which patch is cut follows from the seed, the epoch and the case alone. A case smaller than the patch is
    padded on both sides, the image with its smallest value, the mask with background.

    Args:
        cases: the data set, with a mask for each case.
        split: ``"train"``, ``"validation"``, ``"test"``, or None for all cases.
        patch: voxels along each spatial axis.
        recipe: see :func:`recipe_for`.
        augment: a policy of ``medlab.augment``, for training only.
        batch_size: patches in a batch; every batch has as many.
        per_case: patches cut from each case in an epoch.
        foreground: share of patches centered on a structure, 0 to 1.
        seed: decides order and places.
        fixed: the same patches in every epoch, for validation.
        cache_mb: memory for standardized cases, MiB; others are read again.

    Raises:
        ValueError: no patch of the images' rank, a number out of its range, or a case without mask.
    """

    def __init__(
        self, cases, split=None, *, patch: Sequence[int], recipe="auto", augment=None, batch_size=2, per_case=1,
        foreground=1 / 3, seed=0, fixed=False, cache_mb=2048, workers=2, max_queue_size=8,
    ):  # fmt: skip
        super().__init__(workers=workers, use_multiprocessing=False, max_queue_size=max_queue_size)
        for name, value in (("batch_size", batch_size), ("per_case", per_case)):
            if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
                raise ValueError(f"Expected {name} to be a whole number of at least 1. Received {value!r}.")
        if not 0 <= foreground <= 1:
            raise ValueError(f"Expected foreground as a share from 0 to 1. Received {foreground!r}.")
        self.cases = cases.subset(split)
        self.recipe = recipe_for(cases, recipe)
        rank = cases.volume(self.cases.ids[0]).rank
        if len(patch) != rank or any(not hasattr(side, "__index__") or side < 1 for side in patch):
            raise ValueError(f"Expected a patch of {rank} whole numbers above 0. Received {patch!r}.")
        self.patch = tuple(int(side) for side in patch)
        self.augment, self.per_case, self.foreground = augment, int(per_case), float(foreground)
        self.seed, self.fixed = int(seed), fixed
        self._ids, self._images = self.cases.ids, self.cases.table["image"].tolist()
        self._masks = masks_there(self.cases)
        self.batch_size = int(min(batch_size, len(self._ids) * self.per_case))
        self._cache: dict[int, tuple[NDArray, NDArray]] = {}
        self._room = cache_mb * 2**20
        self.start_epoch(0)

    def __len__(self) -> int:
        return len(self._order) // self.batch_size

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        if not 0 <= index < len(self):
            raise IndexError(f"Expected a batch number below {len(self)}. Received {index}.")
        numbers = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        epoch = 0 if self.fixed else self.epoch
        cut = [self._cut(int(number), epoch) for number in numbers]
        x, mask = np.stack([image for image, _ in cut]), np.stack([labels for _, labels in cut])
        if self.augment is not None:
            keys = np.stack([np.full_like(numbers, self.seed), np.full_like(numbers, epoch), numbers], 1)
            x, mask = self.augment(x, mask, keys=keys)
        return x, mask

    @property
    def y(self) -> NDArray[np.int32]:
        """The masks of the first batch: what labels look like here."""
        return self[0][1]

    def on_epoch_end(self) -> None:
        """The next epoch has another order and other places."""
        self.start_epoch(self.epoch + 1)

    def start_epoch(self, epoch: int) -> None:
        """Draws the order of ``epoch``; the last batch is filled up with patches of the epoch's beginning."""
        self.epoch = epoch
        total = len(self._ids) * self.per_case
        if self.fixed:
            order = np.arange(total)
        else:
            order = np.random.default_rng([self.seed, epoch]).permutation(total)
        self._order = np.concatenate([order, order[: -total % self.batch_size]])

    def _cut(self, number: int, epoch: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        image, mask = self._case(number % len(self._ids))
        random = np.random.default_rng([self.seed, epoch, number, 1])
        start = self._corner(mask, random)
        place = tuple(slice(a, a + side) for a, side in zip(start, self.patch, strict=True))
        return image[place], mask[place]

    def _corner(self, mask: NDArray, random: np.random.Generator) -> list[int]:
        """The first voxel of a patch that lies in the volume whole."""
        most = [length - side for length, side in zip(mask.shape, self.patch, strict=True)]
        structures = np.unique(mask[mask > 0]) if random.random() < self.foreground else ()
        if not len(structures):
            return [int(random.integers(0, last + 1)) for last in most]
        places = np.flatnonzero(mask == random.choice(structures))
        middle = np.unravel_index(random.choice(places), mask.shape)
        return [int(np.clip(at - side // 2, 0, last)) for at, side, last in zip(middle, self.patch, most, strict=True)]

    def _case(self, row: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """One standardized case, at least as large as a patch, from memory where it is."""
        if row in self._cache:
            return self._cache[row]
        name = self._ids[row]
        image = named(name, lambda: image_array(self.cases, self._images[row], self.recipe))
        mask = named(name, lambda: mask_array(self.cases, self._masks[row], self.recipe, self._images[row]))
        if mask.shape != image.shape[:-1]:
            raise ValueError(f"Case {name!r}: the mask has shape {mask.shape}, the image {image.shape[:-1]}.")
        lacking = [max(0, side - length) for side, length in zip(self.patch, mask.shape, strict=True)]
        if any(lacking):
            sides = [(lack // 2, lack - lack // 2) for lack in lacking]
            image = np.pad(image, [*sides, (0, 0)], constant_values=image.min())
            mask = np.pad(mask, sides)
        if image.nbytes + mask.nbytes <= self._room:
            self._room -= image.nbytes + mask.nbytes
            self._cache[row] = image, mask
        return image, mask
