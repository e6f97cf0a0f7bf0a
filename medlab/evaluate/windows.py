"""Sliding windows: a segmentation of a whole image from a network that sees a window of it at a time.

In: a Keras model that gives every voxel its classes, and one image. Out: probabilities or labels on the image's grid.
"""

from __future__ import annotations

import itertools
import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.evaluate.predictions import activation, steps

if TYPE_CHECKING:
    import keras

OUTPUTS = ("probabilities", "labels", "logits")

_MODES = ("gaussian", "constant")
_MULTIPLES = (2, 4, 8, 16, 32, 64, 128)
"""Sides that networks with strides may need: a U-Net of five levels takes multiples of 16 or 32."""
_FITTING: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
"""Of each network the windows that were asked for, and what they were rounded up to."""
_SPREAD = 1 / 8
"""Standard deviation of the Gaussian weights, as a share of the window."""
_VOXELS = 1_100_000
"""Voxels in one batch of windows by default: activations of a U-Net then stay below about 2 GB."""


def sliding_window(
    model: keras.Model,
    volume: ArrayLike | Any,
    window: int | Sequence[int] | None = None,
    overlap: float = 0.5,
    *,
    mode: str = "gaussian",
    mirror: bool | Sequence[int] = False,
    batch_size: int | None = None,
    output: str = "probabilities",
    progress: bool = False,
) -> NDArray:
    """What the model says of every voxel of an image, from overlapping windows.

    Each voxel's logits are the weighted mean over the windows that hold it, and over their mirror images; of the means
    the softmax is taken, or the sigmoid where classes may overlap (one output, or a network whose name ends in
    ``_multi_label``). Of a model that ends in a softmax or sigmoid itself, its probabilities are averaged. Windows lie
    evenly from edge to edge. An image smaller than the window is padded with its smallest value, as
    ``standardize.crop_or_pad`` does, and the result is cropped back.

    Args:
        model: a Keras model from (n, i, j[, k], c) to (n, i, j[, k], classes).
        volume: a Volume or an array (i, j[, k]) or (i, j[, k], c), standardized as in training.
        window: voxels along each axis, or one number for all; None: the model's own input, or the whole image where
            the model takes any size. Where a network that takes any size needs a multiple of its strides, the window is
            rounded up to it.
        overlap: share of a window that its neighbor covers, at least; 0 to below 1.
        mode: ``"gaussian"``: a window counts most in its middle (standard deviation 1/8 of the window); ``"constant"``:
            everywhere the same.
        mirror: True or the spatial axes (0, 1, 2): the mean over all flips along them, at 2, 4 or 8 times the cost.
        batch_size: windows at a time; None: as many as have a million voxels together.
        output: ``"probabilities"``; ``"labels"``, the most probable class, with which memory stays that of the labels
            and one row of windows; or ``"logits"``, the weighted means.
        progress: show a progress bar.

    Returns:
        (i, j[, k], classes) float32, summing to 1 over the classes; their sigmoids where classes may overlap. Labels:
        (i, j[, k]), uint8, or uint16 beyond 256 classes; of a model with one output 1 from a probability of 0.5.

    Raises:
        ValueError: an image, window or number of channels that the model does not take; an overlap outside 0 to below
            1; NaN in the image or the output; an output that is no map of the window.

    Source: Isensee et al., Nat Methods 2021;18:203 (nnU-Net), supplement: half a window as step, Gaussian weights of
    sigma 1/8, mirroring.
    """
    _check_words(overlap, mode, output, batch_size)
    image, rank = _image(model, volume)
    shape = image.shape[:rank]
    window = _window(model, window, shape)
    window = _rounded_up(model, window, image.shape[-1])
    padded, inside = _pad(image, window, rank)
    flips = _flips(mirror, rank)
    starts = [_starts(size, length, overlap) for size, length in zip(padded.shape, window, strict=False)]
    weights = [_weights(of, length, size, mode) for of, length, size in zip(starts, window, padded.shape, strict=False)]
    places = list(itertools.product(*(range(len(of)) for of in starts)))
    own = activation(model)
    several = str(getattr(model, "name", "")).endswith("_multi_label")
    if batch_size is None:
        batch_size = max(1, _VOXELS // math.prod(window))
    batch_size = min(batch_size, len(places))

    def corner(place: tuple[int, ...]) -> tuple[slice, ...]:
        return tuple(slice(of[at], of[at] + length) for of, at, length in zip(starts, place, window, strict=True))

    result = rows = None
    done = 0  # planes along the first axis that no later window reaches
    for batch, values in _forward(model, padded, places, corner, flips, batch_size, progress, own):
        if result is None:
            if several and output == "labels" and values.shape[-1] > 1:
                raise ValueError(
                    'Expected output "probabilities" for a network of overlapping classes (named ..._multi_label), of '
                    "which a voxel may have several. Take sliding_window(...) >= 0.5."
                )
            rows = np.zeros((window[0], *padded.shape[1:rank], values.shape[-1]), np.float32)
            result = np.empty(*_kind(padded.shape[:rank], values.shape[-1], output))
        for place, value in zip(batch, values, strict=True):
            start = starts[0][place[0]]
            if start > done:
                result[done:start] = _finish(rows[: start - done], own, output, several)
                rows = np.concatenate([rows[start - done :], np.zeros_like(rows[: start - done])])
                done = start
            for axis, at in enumerate(place):
                value = value * weights[axis][at].reshape([-1 if axis == other else 1 for other in range(rank + 1)])
            rows[(slice(None), *corner(place)[1:])] += value
    result[done:] = _finish(rows, own, output, several)
    return result[inside]


def _forward(
    model: keras.Model,
    image: NDArray,
    places: list[tuple[int, ...]],
    corner: Callable[[tuple[int, ...]], tuple[slice, ...]],
    flips: list[tuple[int, ...]],
    batch_size: int,
    progress: bool,
    own: str | None,
) -> Iterator[tuple[list[tuple[int, ...]], NDArray[np.float32]]]:
    """Batches of windows' places with what the model says of them, the mean over all flips."""
    batch = np.zeros((batch_size, *(part.stop - part.start for part in corner(places[0])), image.shape[-1]), np.float32)
    for start in steps(len(places), batch_size, progress, "windows"):
        chosen = places[start : start + batch_size]
        for row, place in enumerate(chosen):  # the last batch is filled up: one shape is compiled once
            batch[row] = image[corner(place)]
        total = 0
        for flip in flips:
            axes = tuple(axis + 1 for axis in flip)
            said = _call(model, np.ascontiguousarray(np.flip(batch, axes)))
            total = total + np.flip(said, axes)
        values = (total / len(flips) if len(flips) > 1 else total)[: len(chosen)]
        if not np.isfinite(values).all():
            raise ValueError("Expected finite outputs. The model gives NaN or infinity; its training has failed.")
        yield chosen, values


def _call(model: keras.Model, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    said = np.asarray(model.predict_on_batch(batch))
    if said.ndim != batch.ndim or said.shape[:-1] != batch.shape[:-1]:
        raise ValueError(
            f"Expected a model that gives every voxel its classes, {batch.shape[1:-1]} + (classes,) for a window of "
            f"{batch.shape[1:-1]}. This one gives {said.shape[1:]}; is it a classifier?"
        )
    return said.astype(np.float32, copy=False)


def _finish(logits: NDArray[np.float32], own: str | None, output: str, several: bool) -> NDArray:
    """The output of finished planes."""
    from scipy.special import expit, softmax

    outputs = logits.shape[-1]
    if output == "labels":
        return logits.argmax(axis=-1) if outputs > 1 else logits[..., 0] >= (0 if own is None else 0.5)
    if own is not None or output == "logits":
        return logits
    return softmax(logits, axis=-1) if outputs > 1 and not several else expit(logits)


def _kind(shape: tuple[int, ...], outputs: int, output: str) -> tuple[tuple[int, ...], type]:
    """Shape and type of the result."""
    if output == "labels":
        return shape, np.uint8 if outputs <= 256 else np.uint16
    return (*shape, outputs), np.float32


def _starts(size: int, window: int, overlap: float) -> list[int]:
    """Where windows begin along one axis: evenly from edge to edge, at most ``window * (1 - overlap)`` apart."""
    step = max(1, math.floor(window * (1 - overlap)))
    count = math.ceil((size - window) / step) + 1
    return [round(at) for at in np.linspace(0, size - window, count)]


def _weights(starts: list[int], window: int, size: int, mode: str) -> list[NDArray[np.float32]]:
    """The weights along one axis of every window's voxels; those of all windows at one voxel sum to 1.

    Windows lie on a grid, and the weight of a voxel is the product of its axes' weights. So is the sum over windows:
    dividing axis by axis, nothing has to be divided voxel by voxel in the end.
    """
    from_middle = (np.arange(window) - (window - 1) / 2) / (window * _SPREAD)
    weight = np.exp(-(from_middle**2) / 2) if mode == "gaussian" else np.ones(window)
    total = np.zeros(size)
    for start in starts:
        total[start : start + window] += weight
    return [(weight / total[start : start + window]).astype(np.float32) for start in starts]


def _flips(mirror: bool | Sequence[int], rank: int) -> list[tuple[int, ...]]:
    """The axes of every flip, none first."""
    if not isinstance(mirror, bool | np.bool_) and (isinstance(mirror, str) or np.ndim(mirror) != 1):
        raise ValueError(f"Expected mirror True, False or axes among {tuple(range(rank))}. Received {mirror!r}.")
    axes = (tuple(range(rank)) if mirror else ()) if isinstance(mirror, bool | np.bool_) else tuple(mirror)
    if len(set(axes)) < len(axes) or any(axis not in range(rank) for axis in axes):
        raise ValueError(f"Expected mirror True, False or axes among {tuple(range(rank))}. Received {mirror!r}.")
    return [flip for number in range(len(axes) + 1) for flip in itertools.combinations(axes, number)]


def _pad(image: NDArray, window: tuple[int, ...], rank: int) -> tuple[NDArray, tuple[slice, ...]]:
    """The image at least as large as the window, and where in it the image lies."""
    short = [max(0, length - size) for size, length in zip(image.shape, window, strict=False)]
    before = [-(-one // 2) for one in short]
    inside = tuple(slice(first, first + size) for first, size in zip(before, image.shape, strict=False))
    if not any(short):
        return image, inside
    padded = np.empty((*(size + more for size, more in zip(image.shape, short, strict=False)), image.shape[-1]),
                      image.dtype)  # fmt: skip
    padded[...] = image.min(axis=tuple(range(rank)))
    padded[inside] = image
    return padded, inside


def _image(model: keras.Model, volume: Any) -> tuple[NDArray, int]:
    """The image as (i, j[, k], c) float32, and its rank."""
    expected = getattr(model, "input_shape", None)
    if isinstance(expected, list | dict):
        raise ValueError(f"Expected a model of one input. This one takes {len(expected)}; call it yourself.")
    array = np.asarray(getattr(volume, "array", volume))
    if array.dtype.kind not in "biuf":
        raise ValueError(f"Expected an image as numbers. Received type {array.dtype}.")
    rank = getattr(volume, "rank", None) if expected is None else len(expected) - 2
    if rank not in (2, 3):
        raise ValueError(
            f"Expected a model of pictures (n, i, j, c) or volumes (n, i, j, k, c). Its input is {expected}."
        )
    if array.ndim == rank:
        array = array[..., None]
    if array.ndim != rank + 1:
        raise ValueError(
            f"Expected one image of {rank} axes, and one of channels where there are several. Received shape "
            f"{array.shape}; of many images give one after the other."
        )
    if expected is not None and expected[-1] not in (None, array.shape[-1]):
        raise ValueError(
            f"Expected an image of {expected[-1]} channel(s) for this model. Received {array.shape[-1]}, shape "
            f"{array.shape}."
        )
    if not array.size:
        raise ValueError(f"Expected at least one voxel. Received shape {array.shape}.")
    if not np.isfinite(array).all():
        raise ValueError("Expected a finite image. It has NaN or infinity; clean.repair mends such images.")
    return array, rank


def _window(model: keras.Model, window: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    rank = len(shape)
    own = getattr(model, "input_shape", None) or (None,) * (rank + 2)
    own = own[1:-1]
    if window is None:
        return tuple(size if of is None else of for of, size in zip(own, shape, strict=True))
    found = (window,) * rank if np.ndim(window) == 0 else tuple(window)
    if len(found) != rank or not all(isinstance(one, int | np.integer) and one >= 1 for one in found):
        raise ValueError(
            f"Expected a window of {rank} whole numbers above 0, or one for all axes. Received {window!r} for an image "
            f"of {shape}."
        )
    if any(of not in (None, length) for of, length in zip(own, found, strict=True)):
        raise ValueError(f"Expected the window that this model takes, {own}. Received {found}.")
    return tuple(int(one) for one in found)


def _rounded_up(model: keras.Model, window: tuple[int, ...], channels: int) -> tuple[int, ...]:
    """The window with sides that a network of open sides can take: a U-Net halves and doubles them without a rest.

    Sides that the network fixes stay. Where no size fits, the window stays, for the network to say why.
    """
    own = (getattr(model, "input_shape", None) or (1,))[1:-1]
    if None not in own:
        return window
    known = _FITTING.setdefault(model, {})
    if window not in known:
        tries = (
            tuple(
                -(-length // multiple) * multiple if of is None else of for length, of in zip(window, own, strict=True)
            )
            for multiple in (1, *_MULTIPLES)
        )
        known[window] = next((sides for sides in tries if _takes(model, sides, channels)), window)
    return known[window]


def _takes(model: keras.Model, sides: tuple[int, ...], channels: int) -> bool:
    """Whether a network makes a map of these sides; nothing is computed."""
    from medlab.backend import keras

    layer = keras.layers.Lambda(lambda x: model(x, training=False))  # a functional model's own answer asks no layer
    try:
        made = layer.compute_output_shape((1, *sides, channels))
    except Exception:  # whatever a layer says of sides that it cannot join
        return False
    return tuple(made[1:-1]) == sides


def _check_words(overlap: float, mode: str, output: str, batch_size: int | None) -> None:
    if not isinstance(overlap, int | float | np.number) or not 0 <= overlap < 1:
        raise ValueError(f"Expected an overlap from 0 to below 1, such as 0.5. Received {overlap!r}.")
    for name, value, known in (("mode", mode, _MODES), ("output", output, OUTPUTS)):
        if value not in known:
            raise ValueError(f"Expected {name} among {', '.join(known)}. Received {value!r}.")
    if batch_size is not None and (not isinstance(batch_size, int | np.integer) or batch_size < 1):
        raise ValueError(f"Expected a batch size of at least 1. Received {batch_size!r}.")
