"""Received: the images and labels of a training as they were given, checked before anything is made of them.

In: a pair of arrays or a PyDataset, and the model they are for. Out: the same, or an error that says what does not fit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.backend import keras


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
    if x.ndim >= 4 and len(getattr(model, "output_shape", None) or ()) == x.ndim and y.ndim < 3:
        raise ValueError(
            f"The model gives images of shape {model.output_shape}, and the {name} labels have shape {y.shape}. The "
            "target of an autoencoder is its input: data=(x, x); that of a segmentation a mask on the images' grid."
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


def _channels(model: keras.Model) -> int:
    shape = getattr(model, "output_shape", None)
    return shape[-1] or 0 if isinstance(shape, tuple) and shape and not isinstance(shape[0], tuple | list) else 0


def alone(x: ArrayLike) -> NDArray:
    """The images as an array.

    Raises:
        ValueError: images and labels together, or images of several shapes.
    """
    if isinstance(x, tuple):
        raise ValueError(f"Expected images alone, without labels. Received a tuple of {len(x)}; give its first part.")
    try:
        return np.asarray(x)
    except ValueError:
        raise ValueError(
            "Expected images of one shape. Received several; medlab.batches.arrays brings them to one."
        ) from None


def check_differing(x: NDArray) -> None:
    """Raises where nothing tells the images, or the places of an image, apart.

    Args:
        x: (n, i, j[, k], c) finite images.

    Raises:
        ValueError: each image is of one value, or all images are the same.
    """
    flat = x.reshape(len(x), -1)
    if np.all(flat.max(axis=1) == flat.min(axis=1)):
        raise ValueError(
            "Every image is constant: there is nothing to learn from. Look at them (medlab.view.montage) and at how "
            "they were loaded."
        )
    if len(x) > 1 and np.all(flat == flat[:1]):
        raise ValueError("All images are the same: there is nothing to tell apart. Look at how they were loaded.")
