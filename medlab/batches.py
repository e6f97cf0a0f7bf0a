"""Batches: the hub where cases, standardization and augmentation meet and become tensors.

In: cases, a split, a recipe. Out: arrays (n, i, j[, k], c) float32 with labels or masks, whole or batch by batch. Keras
is imported when :class:`Batches` is first used.
"""

from __future__ import annotations

import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from medlab import standardize
from medlab.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medlab.cases import Cases
    from medlab.standardize import Recipe


def recipe_for(cases: Cases, recipe: Recipe | str | Mapping[str, Any] | None = "auto") -> Recipe:
    """The recipe with which these cases are standardized.

    Args:
        cases: their modality decides where ``recipe`` is ``"auto"``: ``cases.info["modality"]``, else that of the first
            image. CT of 8 bits is a picture that was windowed before, not HU: it gets the recipe ``"scale"``.
        recipe: ``"auto"``, a modality or a name (see ``standardize.recipes()``), the dict of ``Recipe.to_dict``, a
            :class:`~medlab.standardize.Recipe`, or None for ``"none"``.

    Raises:
        ValueError: an unknown name, step or argument.
    """
    if isinstance(recipe, standardize.Recipe):
        return recipe
    if recipe is None:
        return standardize.recipe("none")
    if isinstance(recipe, Mapping):
        return standardize.Recipe.from_dict(recipe)
    if recipe != "auto":
        return standardize.recipe(recipe)
    modality = cases.info.get("modality")
    if modality is None or str(modality).upper() == "CT":
        first = cases.volume(cases.ids[0])
        modality = modality or first.modality
        if modality is not None and str(modality).upper() == "CT" and first.array.dtype in (np.uint8, bool):
            return standardize.recipe("scale")
    try:
        return standardize.recipe(modality)
    except ValueError:
        return standardize.recipe("percentile")


def images(
    cases: Cases,
    split: str | None = None,
    *,
    recipe: Recipe | str | Mapping[str, Any] | None = "auto",
    size: int | Sequence[int] | None = None,
) -> NDArray[np.float32]:
    """The images of a split alone, for sets without labels; see :func:`arrays`."""
    part = cases.subset(split)
    steps = _with_size(recipe_for(cases, recipe), size, lambda: cases.volume(part.ids[0]).rank)
    return _stack(_standardized(part, steps), len(part), np.float32, part.ids, size)


def arrays(
    cases: Cases,
    split: str | None = None,
    *,
    recipe: Recipe | str | Mapping[str, Any] | None = "auto",
    size: int | Sequence[int] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """A split whole: each image standardized by itself, and the labels.

    Args:
        cases: the data set.
        split: ``"train"``, ``"validation"``, ``"test"``, or None for all cases.
        recipe: see :func:`recipe_for`.
        size: voxels along each spatial axis, one number or one for each: images are resized to it. None keeps the
            common shape of the images.

    Returns:
        ``x`` (n, i, j[, k], c) float32 and ``y`` (n,) int64 class indices, or (n, classes) 0/1 for a multi-label set.

    Raises:
        ValueError: an unknown or empty split, a case without label, images of several shapes with no size given, NaN in
            an image (the message names the case).
    """
    y = cases.subset(split).y()
    return images(cases, split, recipe=recipe, size=size), y


def masks(
    cases: Cases,
    split: str | None = None,
    *,
    recipe: Recipe | str | Mapping[str, Any] | None = "auto",
    size: int | Sequence[int] | None = None,
) -> NDArray[np.int32]:
    """The masks of a split on the grid of :func:`arrays`: the recipe's spatial steps, nearest neighbor.

    Returns:
        (n, i, j[, k]) int32 class numbers, 0 for background.

    Raises:
        ValueError: a case without mask, or as :func:`arrays`.
    """
    part = cases.subset(split)
    pairs = zip(part.ids, _masks_there(part), strict=True)
    steps = _with_size(recipe_for(cases, recipe), size, lambda: cases.volume(part.ids[0]).rank)
    found = _ahead(lambda pair: _named(pair[0], lambda: _mask_array(part, pair[1], steps)), pairs)
    return _stack(_progress(found, len(part), "masks"), len(part), np.int32, part.ids, size)


def _standardized(part: Cases, steps: Recipe) -> Iterator[NDArray]:
    """Each image of the cases as (i, j[, k], c) float32."""
    pairs = zip(part.ids, part.table["image"], strict=True)
    found = _ahead(lambda pair: _named(pair[0], lambda: _image_array(part, pair[1], steps)), pairs)
    return _progress(found, len(part), "images")


def _image_array(part: Cases, reference: str, steps: Recipe) -> NDArray[np.float32]:
    volume = steps(_open(part, reference, "image"))
    return volume.array if volume.array.ndim > volume.rank else volume.array[..., None]


def _mask_array(part: Cases, reference: str, steps: Recipe) -> NDArray[np.int32]:
    mask = steps.on_labels(_open(part, reference, "labels"))
    if mask.array.ndim > mask.rank:
        raise ValueError(f"Expected a mask without channels. Received shape {mask.array.shape}.")
    return mask.array.astype(np.int32, copy=False)


def _open(part: Cases, reference: str, kind: str) -> Volume:
    if part.open is None:
        raise ValueError(f"These cases cannot open images. Load {part.name!r} with medlab.load.dataset.")
    return part.open(reference, kind=kind)


def _named(case: str, make: Callable[[], NDArray]) -> NDArray:
    """The array of one case; an error says which case it was."""
    try:
        return make()
    except ValueError as error:
        raise ValueError(f"Case {case!r}: {error}") from error


def _masks_there(part: Cases) -> list[str]:
    if "mask" not in part.table:
        raise ValueError(f"{part.name!r} has no masks: its table has no column mask.")
    missing = part.table["id"][part.table["mask"].isna()].tolist()
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise ValueError(f"{len(missing)} case(s) have no mask: {', '.join(missing[:5])}{more}. Drop them first.")
    return part.table["mask"].tolist()


def _with_size(steps: Recipe, size: int | Sequence[int] | None, rank: Callable[[], int]) -> Recipe:
    """The recipe with a last spatial step to ``size``."""
    if size is None:
        return steps
    numbers = np.atleast_1d(np.asarray(size))
    if len(numbers) == 1:
        numbers = np.repeat(numbers, rank())
    return steps.change(resize={"shape": tuple(int(n) for n in numbers)})


def _stack(found: Iterator[NDArray], n: int, dtype: type, ids: list[str], size: Any) -> NDArray:
    """The arrays as one, after making sure that they share a shape."""
    out = None
    for number, array in enumerate(found):
        if out is None:
            out = np.empty((n, *array.shape), dtype)
        elif array.shape != out.shape[1:]:
            what = "pass size=..., a recipe with crop_or_pad or resize" if size is None else "pick cases of one kind"
            raise ValueError(
                f"Expected images of one shape. Case {ids[0]!r} has {out.shape[1:]}, case {ids[number]!r} has "
                f"{array.shape}; {what}."
            )
        out[number] = array
    return out


def _ahead(work: Callable[[Any], NDArray], items: Iterable[Any]) -> Iterator[NDArray]:
    """``work`` of each item in order; threads prepare the next few where one takes long enough to pay for it."""
    left = iter(items)
    for item in itertools.islice(left, 2):  # the second time imports are done and files of the set are open
        start = time.perf_counter()
        result = work(item)
        seconds = time.perf_counter() - start
        yield result
    if (os.cpu_count() or 1) < 2 or seconds < 2e-3:
        yield from map(work, left)
        return
    threads = min(os.cpu_count() or 1, 8)
    waiting: deque[Future[NDArray]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in left:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _progress(found: Iterator[Any], n: int, what: str) -> Iterator[Any]:
    """The same items with a bar on standard error once it has taken two seconds."""
    from tqdm import tqdm

    return iter(tqdm(found, total=n, desc=what, delay=2, leave=False))


def __getattr__(name: str) -> Any:
    if name == "Batches":
        globals()["Batches"] = _batches_class()
        return globals()["Batches"]
    raise AttributeError(f"medlab.batches has no {name!r}.")


def _batches_class() -> type:
    """The class :class:`Batches`, made when it is first asked for because its base lives in Keras."""
    from medlab.backend import keras

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
            self.recipe = _with_size(recipe_for(cases, recipe), size, lambda: cases.volume(self.cases.ids[0]).rank)
            self.augment, self.batch_size, self.seed, self.shuffle = augment, int(batch_size), int(seed), shuffle
            self._ids, self._images = self.cases.ids, self.cases.table["image"].tolist()
            self._masks = _masks_there(self.cases) if masks else None
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
            image = _named(name, lambda: _image_array(self.cases, self._images[row], self.recipe))
            mask = None
            if self._masks is not None:
                mask = _named(name, lambda: _mask_array(self.cases, self._masks[row], self.recipe))
                if mask.shape != image.shape[:-1]:
                    raise ValueError(f"Case {name!r}: the mask has shape {mask.shape}, the image {image.shape[:-1]}.")
            if self._shape is None:
                self._shape = image.shape
            if image.shape != self._shape:
                raise ValueError(
                    f"Expected images of one shape. Case {name!r} has {image.shape}, others {self._shape}; "
                    "pass size=..."
                )
            size = image.nbytes + (0 if mask is None else mask.nbytes)
            if size <= self._room:
                self._room -= size
                self._cache[row] = image, mask
            return image, mask

    Batches.__module__ = __name__
    Batches.__qualname__ = "Batches"
    return Batches
