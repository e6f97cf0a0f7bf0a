"""Guards: what went wrong in a training, why as far as it can be known, and what to do.

In: a loss that is not finite, an error of the backend, a disk. Out: errors of one sentence each.
"""

from __future__ import annotations

import contextlib
import errno
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medlab.backend import keras

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_GROWN_IN_VALIDATION = 1e4
"""The same of the validation loss, which a network with running statistics may begin with much higher."""
_LARGEST = 1e15
"""A weight above this is no longer of use: its square is near the end of float32."""
_GROWN = 100.0
"""A mean loss this many times (1 + that of the first step) has run away: cross-entropy starts near log(classes)."""


_LARGE_IMAGES = 1e4
"""Images beyond this are the likelier cause of a broken loss than the learning rate."""


class DivergedError(ValueError):
    """The loss became NaN or infinite, or grew without end."""


class OutOfMemoryError(ValueError):
    """The device has not enough memory for a step."""


class DiskFullError(ValueError):
    """The disk has no room for the state or the model; what was saved before is whole."""


class LossGuard:
    """Looks at the loss after every step, so that a broken training does not run on for hours.

    Args:
        batches: the training batches, to look at the one that broke it.
        precision: of the arithmetic.
        known_scale: whether the loss is a cross-entropy or overlap, whose size is known.
    """

    def __init__(self, batches: Any, precision: str, *, known_scale: bool) -> None:
        self.batches, self.precision, self.known_scale = batches, precision, known_scale
        self.first = self.least = self.last = math.nan
        self.total = 0

    def go_on(self, first: float, epochs: int) -> None:
        """After a training is resumed: the loss of its first epoch, and how many there have been."""
        self.first = self.least = first
        self.total = epochs * len(self.batches)

    def start_epoch(self) -> None:
        """The running mean of the loss starts anew."""
        self.sum, self.steps = 0.0, 0

    def broken(self, mean: float, *, epoch: int, rate: Callable[[], float]) -> str | None:
        """What is wrong after a step, or None.

        Args:
            mean: of the losses of this epoch's steps so far.
            epoch: its number, from 1.
            rate: gives the learning rate of the step.
        """
        self.steps += 1
        self.total += 1
        if not math.isfinite(mean):
            return f"The loss became {mean} {self._where(epoch, rate())}: {self._reason(rate())}"
        loss, self.sum = mean * self.steps - self.sum, mean * self.steps
        if math.isnan(self.first):
            self.first = self.least = loss
        self.least, self.last = min(self.least, loss), loss
        enough = self.steps >= min(10, len(self.batches)) and (self.total >= 10 or epoch > 1)
        if self.known_scale and enough and mean > _GROWN * (1 + abs(self.first)):
            return (
                f"The loss grew from {self.first:.3g} to {mean:.3g} {self._where(epoch, rate())}: the learning rate is "
                f"too large. Take {_tenth(rate())} or less."
            )
        return None

    def spoiled(self, weights: Sequence[np.ndarray], *, epoch: int, rate: Callable[[], float]) -> str | None:
        """What is wrong with the weights after an epoch, or None: the last step's fault is in no loss yet."""
        if all(one.dtype.kind != "f" or np.all(np.abs(one) < _LARGEST) for one in weights):
            return None
        large = largest_of_batch(self.batches, 0)
        cause = f"the images reach {large:.3g}. Standardize them (medlab.standardize) to a few units around 0."
        if large <= _LARGE_IMAGES:
            cause = f"the learning rate is the likely cause. Take {_tenth(rate())} or less."
        return f"The weights became NaN, infinite or beyond {_LARGEST:.0e} {self._where(epoch, rate())}: {cause}"

    def broken_in_validation(self, loss: float, *, epoch: int, rate: Callable[[], float]) -> str | None:
        """What is wrong with the validation loss of an epoch, or None."""
        if not math.isfinite(loss):
            return (
                f"The validation loss became {loss} after epoch {epoch} (learning rate {rate():.3g}, {self.precision}):"
                f" the weights ran away, or validation labels or images do not fit. Take {_tenth(rate())} or less."
            )
        if self.known_scale and loss > _GROWN_IN_VALIDATION * (1 + abs(self.first)):
            return (
                f"The validation loss reached {loss:.3g} after epoch {epoch}, where training began at {self.first:.3g} "
                f"(learning rate {rate():.3g}): the learning rate is too large. Take {_tenth(rate())} or less."
            )
        return None

    def _where(self, epoch: int, rate: float) -> str:
        return f"in step {self.steps} of epoch {epoch} (learning rate {rate:.3g}, {self.precision})"

    def _reason(self, rate: float) -> str:
        faulty = faults_of_batch(self.batches, self.steps - 1)
        if faulty:
            return f"the data: {faulty}"
        grown = not math.isnan(self.last) and self.last > 2 * self.least + 0.1 * abs(self.first)
        if grown:
            return (
                f"the loss had grown from {self.least:.3g} to {self.last:.3g} before, so that the learning rate is too "
                f"large. Take {_tenth(rate)} or less."
            )
        if math.isnan(self.first):
            large = largest_of_batch(self.batches, self.steps - 1)
            if large > _LARGE_IMAGES:
                return f"the images reach {large:.3g}. Standardize them (medlab.standardize) to a few units around 0."
            return (
                "it was so from the first step, before anything was learned. Look at the loss function and at the "
                "model's start, and at layers such as log, sqrt or division."
            )
        if self.precision != "float32":
            return (
                "images and labels are finite and the loss had not grown before, so that 16-bit arithmetic is the "
                f"likely cause. Take precision='float32'; if it happens again, a learning rate of {_tenth(rate)}."
            )
        return (
            "images and labels are finite and the arithmetic is float32, so that the learning rate is the likely "
            f"cause. Take {_tenth(rate)} or less, or a smaller clip."
        )


def faults_of_batch(batches: Any, index: int) -> str:
    """What is not finite in a batch, in words; empty where all is, or where it cannot be asked for again."""
    try:
        batch = batches[index]
    except Exception:
        return ""
    for what, values in zip(("images", "labels", "weights"), batch, strict=False):
        values = np.asarray(values)
        if values.dtype.kind != "f" or np.isfinite(values).all():
            continue
        bad = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))
        cases = getattr(batches, "cases_of", lambda index: None)(index)
        said = f"cases {cases[bad][:5].tolist()}" if cases is not None else f"places {bad[:5].tolist()} in the batch"
        source = " as the augmentation gives them" if getattr(batches, "augment", None) is not None else ""
        return f"{what} of {said} hold NaN or infinity{source}. Mend them (medlab.clean.faults) or leave them out."
    return ""


def largest_of_batch(batches: Any, index: int) -> float:
    """The largest absolute value of the images of a batch; 0 where it cannot be asked for again."""
    try:
        return float(np.abs(np.asarray(batches[index][0])).max())
    except Exception:
        return 0.0


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the backend, or Python, says that memory is exhausted."""
    if isinstance(error, MemoryError) or type(error).__name__ in ("ResourceExhaustedError", "OutOfMemoryError"):
        return not isinstance(error, OutOfMemoryError)
    text = str(error)
    return "RESOURCE_EXHAUSTED" in text or "OOM when allocating" in text or "out of memory" in text.lower()


def out_of_memory(
    model: keras.Model, shape: Sequence[int], *, batch_size: int, precision: str, room: float | None = None
) -> str:
    """What is said when memory is exhausted: what was asked for, and a batch that would fit.

    Args:
        model: the model.
        shape: (i, j[, k], c) of one image.
        batch_size: cases a step.
        precision: of the arithmetic.
        room: bytes that are there, where known.
    """
    fixed, each = memory_needed(model, shape, precision)
    size = " x ".join(map(str, shape[:-1])) + (f" ({shape[-1]} channels)" if shape[-1] != 1 else "")
    text = (
        f"Out of memory with batch_size={batch_size}, images of {size}, {precision}: a step holds about "
        f"{_bytes(fixed + batch_size * each)}, {_bytes(each)} of it for each case."
    )
    fits = batch_size // 2
    if room is not None:
        while fits >= 1 and fixed + fits * each > 0.7 * room:
            fits //= 2
    if fits >= 1:
        return text + (
            f" Take batch_size={fits} with accumulate={-(-batch_size // fits)}: the same steps of the weights, in less "
            "memory."
            + (" precision='mixed_bfloat16' halves it where the device has it." if precision == "float32" else "")
        )
    return text + " Not even one case fits: take smaller images or patches, or a narrower network."


def memory_needed(model: keras.Model, shape: Sequence[int], precision: str) -> tuple[float, float]:
    """Bytes that a training step holds whatever the batch, and bytes for each case: an estimate.

    Each weight four times (itself, gradient, two moments of the optimizer), and the output of each layer twice (for the
    backward pass, and its gradient).
    """
    values, seen = 0.0, set()
    for layer in model._flatten_layers(include_self=False, recursive=True):
        for node in getattr(layer, "_inbound_nodes", []):
            for tensor in node.output_tensors:
                if id(tensor) not in seen and not isinstance(layer, keras.Model):
                    seen.add(id(tensor))
                    values += _size(tensor.shape, model.input_shape, shape)
    values = max(values, math.prod(shape))
    return 16.0 * model.count_params(), 2.0 * values * (4 if precision == "float32" else 2)


def _size(made: Sequence[int | None], taken: Sequence[int | None], shape: Sequence[int]) -> float:
    """Values of one case's tensor; sides that the model leaves open are taken as the image's."""
    open_sides = dict(enumerate(shape))
    return math.prod(side if side is not None else open_sides.get(axis, 1) for axis, side in enumerate(made[1:]))


@contextlib.contextmanager
def room_to_write(folder: Path, what: str, done: str) -> Iterator[None]:
    """Inside, a file is written; a full disk becomes an error that says what to free, and no part of a file stays.

    Args:
        folder: where it is written.
        what: what is written, for the message.
        done: what is safe, for the message.

    Raises:
        DiskFullError: the disk, the quota or the limit of a file's size is reached.
    """
    try:
        yield
    except Exception as error:
        if not _disk_is_full(error):
            raise
        part = sum(file.stat().st_size for file in (folder / "last.part", folder / "part.keras") if file.is_file())
        for name in ("last.part", "part.keras", "history.part"):
            (folder / name).unlink(missing_ok=True)
        free = shutil.disk_usage(folder).free
        raise DiskFullError(
            f"No room to write {what} in {folder}: the disk, your quota or a limit of file size is full "
            f"({_bytes(part)} of it were written; {_bytes(free)} are free now). {done} Free some space, such as "
            "old run folders, and call fit again with resume=True."
        ) from error


def _disk_is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that led to it, says that nothing more can be written."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if any(f"errno = {number}" in str(error) for number in _FULL):  # as HDF5 says it
            return True
        error = error.__cause__ or error.__context__
    return False


def _tenth(rate: float) -> str:
    return f"learning_rate={rate / 10:.1g}"


def _bytes(count: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"
