"""Probabilities from a Keras model, whatever its head: one logit, several, or an activation of its own.

In: a model and images. Out: float64 probabilities. It only uses what Keras offers on every backend.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.evaluate.variants import flips

if TYPE_CHECKING:
    import keras

_TRANSPARENT = ("Activation", "Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze")
"""Layers after a head that leave its values as they are (``Activation`` only if it is linear)."""


def predict(
    model: keras.Model,
    x: ArrayLike,
    *,
    batch_size: int | None = None,
    multi_label: bool | None = None,
    tta: str | Sequence[Callable[[NDArray], NDArray]] | None = None,
    average: str = "probability",
    progress: bool = False,
) -> NDArray[np.float64]:
    """The model's probabilities.

    medlab's models give logits, which a sigmoid (one output, or ``multi_label``) or a softmax turns into
    probabilities here. A model that ends in a sigmoid or softmax itself is recognized and left as it is.

    Args:
        model: any Keras model of one image input and one output (n, outputs).
        x: (n, i, j[, k], c) images, as the model was trained on them.
        batch_size: cases at a time; by default 64, fewer where they are large (a volume of 128 voxels a side: 2).
        multi_label: the outputs are independent labels, of which a case may show several. None: what the model's name
            says, which ends in ``_multi_label`` for those of ``medlab.models`` that were made so.
        tta: test-time augmentation: functions from a batch to a batch of the same shape, such as
            :func:`medlab.evaluate.flips` and :func:`medlab.evaluate.shifts` give; or ``"flips"``, mirrored along every
            combination of axes. The answers for the batch itself and for each of them are averaged.
        average: of what: ``"probability"`` or ``"logit"`` (the geometric mean of the odds).
        progress: show a progress bar.

    Returns:
        (n,) probability of the positive class for one output; else (n, outputs), rows summing to 1 unless
        ``multi_label``.

    Raises:
        ValueError: no cases, NaN or infinity in ``x`` or in the model's output, a shape that the model does not take,
            a model whose own activation contradicts ``multi_label``, an unknown ``tta`` or ``average``, a function of
            ``tta`` that changes the shape.
    """
    from medlab.backend import keras

    if multi_label is None:
        multi_label = str(getattr(model, "name", "")).endswith("_multi_label")

    if average not in ("probability", "logit"):
        raise ValueError(f'Expected average "probability" or "logit". Received {average!r}.')
    x = np.asarray(x)
    _check_images(model, x, batch_size)
    views = [lambda batch: batch, *_variants(tta, x.ndim - 2)]
    batch_size = batch_of(x) if batch_size is None else batch_size
    own = activation(model)
    parts = []
    for start in steps(len(x), batch_size, progress, "predict"):
        batch = x[start : start + batch_size].astype(np.float32, copy=False)
        if not np.isfinite(batch).all():
            bad = start + np.flatnonzero(~np.isfinite(batch.reshape(len(batch), -1)).all(axis=1))
            raise ValueError(
                f"Expected finite images. Case {bad[0]} has NaN or infinity; "
                "clean.faults finds such images and clean.repair mends them."
            )
        outputs = []
        for view in views:
            seen = np.asarray(view(batch))
            if seen.shape != batch.shape:
                raise ValueError(
                    f"Expected test-time augmentation to keep the shape. A function made {seen.shape} of {batch.shape}."
                )
            outputs.append(keras.ops.convert_to_numpy(keras.ops.cast(model(seen, training=False), "float32")))
        probabilities = [_probabilities(one, own, multi_label) for one in outputs]
        if average == "logit" and len(outputs) > 1:
            probabilities = [_probabilities(np.mean([_logits(one, own) for one in outputs], axis=0), None, multi_label)]
        parts.append(np.mean(probabilities, axis=0))
    return np.concatenate(parts)


def activation(model: keras.Model) -> str | None:
    """``"sigmoid"`` or ``"softmax"`` where the model ends in one, else None: its output is taken for logits.

    Layers that leave values as they are (a linear activation, a cast, a reshape) are looked through, and so is a model
    inside the model.
    """
    from medlab.backend import keras

    outputs = getattr(model, "outputs", None)
    if not outputs:  # a subclassed model: its last layer is the best that is known
        found = _activation_of(model.layers[-1]) if getattr(model, "layers", None) else None
        return found if found in ("sigmoid", "softmax") else None
    tensor = outputs[0]
    while tensor is not None:
        operation = tensor._keras_history.operation
        if isinstance(operation, keras.Model):
            return activation(operation)
        found = _activation_of(operation)
        if found in ("sigmoid", "softmax"):
            return found
        if type(operation).__name__ not in _TRANSPARENT or found not in ("linear", None):
            return None
        sources = operation._inbound_nodes[tensor._keras_history.node_index].input_tensors
        tensor = sources[0] if sources else None
    return None


def batch_of(x: NDArray) -> int:
    """How many cases to take at a time: 64, or as many as have 4 million values together, at least one."""
    return int(np.clip(4_200_000 // max(1, x[0].size), 1, 64))


def steps(n: int, size: int, progress: bool, what: str) -> range:
    """The first index of each batch, with a progress bar on request."""
    starts = range(0, n, size)
    if not progress:
        return starts
    if os.environ.get("MEDLAB_HEADLESS"):  # a widget would leave an empty place in the executed notebook
        from tqdm import tqdm
    else:
        from tqdm.auto import tqdm

    return tqdm(starts, desc=what, unit="batch", leave=False)


def _activation_of(operation: object) -> str | None:
    """The name of a layer's activation; ``keras.ops.sigmoid`` and the layer ``Softmax`` are named by their class."""
    function = getattr(operation, "activation", None)
    if function is not None:
        return getattr(function, "__name__", type(function).__name__).lower()
    name = type(operation).__name__.lower()
    return name if name in ("sigmoid", "softmax") else None


def _check_images(model: keras.Model, x: NDArray, batch_size: int | None) -> None:
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"Expected a batch size of at least 1. Received {batch_size!r}.")
    if x.dtype.kind not in "biuf":
        raise ValueError(f"Expected images as numbers. Received type {x.dtype}.")
    expected = getattr(model, "input_shape", None)
    if isinstance(expected, list | dict):
        raise ValueError(f"Expected a model of one input. This one takes {len(expected)}; call it yourself.")
    if expected is not None:
        fits = x.ndim == len(expected) and all(
            want is None or want == have for want, have in zip(expected[1:], x.shape[1:], strict=True)
        )
        if not fits:
            raise ValueError(
                f"Expected images of shape {_shape(expected)} for this model. Received {_shape(x.shape)}; "
                "one case needs a leading axis (x[None]), and batches.arrays(size=...) gives another size."
            )
    if not len(x):
        raise ValueError("Expected at least one case. Received none; is the split empty?")


def _shape(shape: Sequence[int | None]) -> str:
    return "(" + ", ".join("n" if size is None else str(size) for size in shape) + ")"


def _variants(tta: str | Sequence[Callable] | None, rank: int) -> list[Callable[[NDArray], NDArray]]:
    """The functions that ``tta`` stands for."""
    if tta is None:
        return []
    if isinstance(tta, str):
        if tta != "flips":
            raise ValueError(f'Expected tta "flips", a list of functions or None. Received {tta!r}.')
        return flips(*range(rank))
    functions = [tta] if callable(tta) else list(tta)
    if not all(callable(one) for one in functions):
        raise ValueError(f"Expected functions from a batch to a batch as tta, such as flips(1). Received {tta!r}.")
    return functions


def _logits(output: NDArray, own: str | None) -> NDArray[np.float64]:
    """The output as logits; of a model's own probabilities as far as float32 tells them apart."""
    from scipy.special import logit

    values = output.astype(np.float64)
    if own == "softmax":
        return np.log(np.maximum(values, 1e-38))
    return values if own is None else logit(np.clip(values, 1e-38, 1 - 2.0**-25))


def _probabilities(output: NDArray, own: str | None, multi_label: bool) -> NDArray[np.float64]:
    from scipy.special import expit, softmax

    values = output.astype(np.float64)
    if values.ndim != 2:
        raise ValueError(f"Expected a model that gives (n, outputs). This one gives shape {values.shape}.")
    if not np.isfinite(values).all():
        raise ValueError("Expected finite outputs. The model gives NaN or infinity; its training has failed.")
    outputs = values.shape[1]
    if own == "softmax" and (outputs == 1 or multi_label):
        what = "of one output is 1 for every image" if outputs == 1 else "excludes several labels a case"
        raise ValueError(f"Expected a head that fits the task. This model ends in a softmax, which {what}.")
    if own == "sigmoid" and outputs > 1 and not multi_label:
        raise ValueError(
            f"Expected exclusive classes. This model ends in a sigmoid with {outputs} outputs, which are independent "
            "labels: pass multi_label=True."
        )
    if own is None:
        values = softmax(values, axis=1) if outputs > 1 and not multi_label else expit(values)
    return values[:, 0] if outputs == 1 and not multi_label else values
