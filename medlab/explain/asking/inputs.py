"""Inputs: what a model takes, checked: the images that are explained, and whatever else a case consists of.

In: x as the user gives it, an array, or several in the structure of the model's input. Out: the images as float32, the
other inputs beside them, and batches of cases.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.backend import keras

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Inputs:
    """``x`` for a model with several images as inputs, and which of them is to be explained.

    A model with one image beside numbers or words needs none of this: its image is explained.

    Args:
        x: arrays (n, ...) in the structure of the model's input: a list, or a dictionary with the inputs' names.
        explain: the key, the position or the name of the input that is explained. All others stay as they are.
    """

    x: Any
    explain: str | int

    def __len__(self) -> int:
        return len(keras.tree.flatten(self.x)[0])


@dataclass(frozen=True)
class Given:
    """Cases as a model takes them.

    Attributes:
        images: (n, i, j[, k], c) float32, the input that is explained.
        others: the other inputs, (n, ...) each, in the order of the model's inputs.
        place: where among them the images belong.
        structure: the model's input, with anything in the place of its tensors.
    """

    images: Array
    others: tuple[NDArray, ...] = ()
    place: int = 0
    structure: Any = field(default=0, compare=False)

    def arranged(self, images: Any, others: tuple[Any, ...]) -> Any:
        """Tensors in the structure that the model takes."""
        flat = [*others[: self.place], images, *others[self.place :]]
        return keras.tree.pack_sequence_as(self.structure, flat)


def given(model: keras.Model, x: Any) -> Given:
    """``x`` checked and taken apart.

    Raises:
        ValueError: the model is not built, ``x`` has not the shape or structure that it expects, it is not made of
            numbers, it holds NaN or infinity, or several inputs are images and none is named.
    """
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"Expected a keras.Model, then x. Received {type(model).__name__}"
            + (": read it from its file with medlab.models.load." if isinstance(model, str) else ".")
        )
    if not model.built:
        raise ValueError(f"{model.name!r} has no weights yet. Build, train or load it before explaining.")
    named, x = (x.explain, x.x) if isinstance(x, Inputs) else (None, x)
    tensors = _tensors(model)
    single = not isinstance(x, Mapping | list | tuple) or (isinstance(x, list | tuple) and _is_array(x))
    if tensors is None:
        structure = 0 if single else x
        shapes: list[Any] = [None] * (1 if single else len(keras.tree.flatten(x)))
        names = [str(place) for place in range(len(shapes))]
    else:
        structure = getattr(model, "input", 0)
        shapes, names = [tuple(one.shape) for one in tensors], [one.name for one in tensors]
    if single and len(shapes) > 1:
        raise ValueError(
            f"{model.name!r} has {len(shapes)} inputs ({', '.join(names)}). Expected x as a list or dictionary of as "
            f"many arrays. Received one array."
        )
    flat = [x] if single else _flat(x, structure, names)
    arrays = [_checked(one) for one in flat]
    if named is None and len(arrays) == 1:
        place = 0
    else:
        place = _place(named, arrays, names, x)
    images = _fitting(arrays[place], shapes[place]).astype(np.float32, copy=False)
    others = tuple(arrays[:place] + arrays[place + 1 :])
    for name, one, shape in zip(names, arrays, shapes, strict=True):
        if one.ndim == 0 or len(one) != len(images):
            lengths = [len(one) if one.ndim else "a number" for one in arrays]
            raise ValueError(f"Expected {len(images)} cases in each input. Received {lengths}.")
        # Keras itself adds or takes away a last axis of length 1.
        alike = (one, one[..., None], one[..., 0] if one.shape[-1] == 1 else one)
        if not any(_has_shape(like, shape) for like in alike):
            raise ValueError(
                f"Expected input {name!r} of shape (n, {', '.join(str(size) for size in shape[1:])}). "
                f"Received {one.shape}."
            )
    return Given(images, others, place, structure)


def replaced(model: keras.Model, x: Any, images: Array) -> Any:
    """``x`` with other images, (n, i, j[, k], c), in the place of those that are explained."""
    cases = given(model, x)
    return Inputs(cases.arranged(images, cases.others), cases.place) if cases.others else images


def check_images(model: keras.Model, x: ArrayLike) -> Array:
    """The images of ``x`` that are explained, as float32 (n, i, j[, k], c); errors as :func:`given`."""
    return given(model, x).images


def input_shape(model: keras.Model) -> tuple[int | None, ...] | None:
    """The shape of the model's one input, with None for the batch; None where the model does not say.

    Raises:
        ValueError: the model is not built, or it has several inputs.
    """
    if not model.built:
        raise ValueError(f"{model.name!r} has no weights yet. Build, train or load it before explaining.")
    tensors = _tensors(model)
    if tensors is None:
        return None
    if len(tensors) != 1:
        raise ValueError(f"Expected a model with one input. {model.name!r} has {len(tensors)}: give x too.")
    return tuple(tensors[0].shape)


def parts_of(x: NDArray, batch_size: int | None = None, *, tail_only: bool = False) -> Iterator[slice]:
    """Slices that cut ``x`` into batches of (nearly) equal size, so that a backend compiles for few shapes.

    By default a batch has at most 64 cases and 2**18 pixels or 2**17 voxels: larger ones were no faster on a CPU, and
    Keras holds the outputs of all layers of a forward pass (a 3-D ResNet on 32 volumes of 32 x 32 x 32: 5 GB). Where
    only a network's tail is differentiated (``tail_only``) a compiled program holds less, and 2**20 pixels were faster:
    Grad-CAM of 16 images of 224 x 224 through ResNet50 took 1.12 instead of 1.30 times a forward pass.
    """
    if batch_size is None:
        positions = (2**20 if tail_only else 2**18) if x.ndim == 4 else 2**17
        batch_size = min(64, max(1, positions // max(1, math.prod(x.shape[1:-1]))))
    if batch_size < 1:
        raise ValueError(f"Expected a batch size of at least 1. Received {batch_size}.")
    if len(x):
        even = math.ceil(len(x) / math.ceil(len(x) / batch_size))
        for start in range(0, len(x), even):
            yield slice(start, min(start + even, len(x)))


def _tensors(model: keras.Model) -> list[Any] | None:
    """The model's symbolic inputs in order; None for a subclassed model."""
    try:
        return keras.tree.flatten(model.inputs) or None
    except (AttributeError, ValueError):
        return None


def _is_array(x: Any) -> bool:
    """Whether nested lists are one array of numbers, not a list of inputs."""
    return len(x) > 0 and not hasattr(x[0], "ndim") and not isinstance(x[0], Mapping)


def _flat(x: Any, structure: Any, names: list[str]) -> list[Any]:
    """The arrays of ``x`` in the order of the model's inputs."""
    if isinstance(x, Mapping):
        keys = list(structure) if isinstance(structure, Mapping) else names
        if set(x) == set(keys):
            return keras.tree.flatten(dict(x)) if isinstance(structure, Mapping) else [x[name] for name in names]
        if set(x) == set(names):
            return [x[name] for name in names]
        raise ValueError(f"Expected x with the inputs {', '.join(map(str, keys))}. Received {', '.join(map(str, x))}.")
    flat = keras.tree.flatten(x)
    if len(flat) != len(names):
        hint = " Are these the cases? Stack them: np.stack(x)." if len(names) == 1 else ""
        raise ValueError(f"Expected x with {len(names)} inputs ({', '.join(names)}). Received {len(flat)}.{hint}")
    return flat


def _checked(x: ArrayLike) -> NDArray:
    """An array of finite numbers; float64 becomes float32."""
    array = np.asarray(x)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"Expected an array of numbers. Received dtype {array.dtype}.")
    if array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)
    if not np.isfinite(array).all():
        raise ValueError("Expected finite images. Received x with NaN or infinity: repair it before explaining.")
    return array


def _place(named: str | int | None, arrays: list[NDArray], names: list[str], x: Any) -> int:
    """Which input is explained."""
    keys = sorted(x) if isinstance(x, Mapping) and set(x) != set(names) else names
    if named is not None:
        places = {**dict(enumerate(range(len(names)))), **{key: place for place, key in enumerate(keys)}}
        places |= {name: place for place, name in enumerate(names)}
        if named not in places:
            raise ValueError(f"There is no input {named!r} to explain. There are: {', '.join(map(str, keys))}.")
        return places[named]
    images = [place for place, array in enumerate(arrays) if array.ndim in (4, 5)]
    if len(images) != 1:
        found = ", ".join(f"{key} {array.shape}" for key, array in zip(keys, arrays, strict=True))
        raise ValueError(
            f"Expected one input of images, (n, i, j[, k], c). Received {found}: name the one to explain with "
            "explain.Inputs(x, explain=...)."
        )
    return images[0]


def _has_shape(array: NDArray, shape: tuple[int | None, ...] | None) -> bool:
    """Whether ``array`` has the shape that an input says, as far as it says one."""
    return shape is None or (
        len(shape) == array.ndim and all(b in (None, a) for a, b in zip(array.shape[1:], shape[1:], strict=True))
    )


def _fitting(array: NDArray, shape: tuple[int | None, ...] | None) -> NDArray:
    """``array``, if it has the shape of the model's input."""
    if array.ndim not in (4, 5) or not _has_shape(array, shape):
        expected = "(n, i, j[, k], c)" if shape is None else f"(n, {', '.join(str(size) for size in shape[1:])})"
        raise ValueError(f"Expected x of shape {expected}. Received {array.shape}.")
    return array
