"""Regions: what a segmentation is asked, class by class and place by place.

In: the number of a class and masks on the grid of the model's output. Out: a target for every method of this room, and
heat maps of all classes at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.backend import keras
from medlab.explain.asking.inputs import Inputs, given
from medlab.explain.asking.question import Question
from medlab.explain.maps import cam

Array = NDArray[np.float32]


class Region:
    """A target: the mean logit of one class within a region; made by :func:`region`.

    Attributes:
        label: the class.
        values: (n, ...) float32, the weight of each position of the output, one row a case; None for all alike.
    """

    def __init__(self, label: int, values: Any = None) -> None:
        self.label, self.values = label, values

    def of(self, cases: slice | NDArray[np.intp]) -> Region:
        """The target of some of the cases; a case may come several times."""
        return self if self.values is None else Region(self.label, self.values[cases])

    def mirrored(self, axes: tuple[int, ...], rank: int) -> Region:
        """The target for images of ``rank`` axes that are mirrored along ``axes``: its masks are mirrored with them.

        Raises:
            ValueError: the masks have other axes than the images, so that nobody can say how they lie.
        """
        if self.values is None or not axes:
            return self
        if self.values.ndim != rank + 1:
            raise ValueError(
                f"Expected masks with the {rank} axes of the image, to mirror them with it. Received masks of shape "
                f"(n, {', '.join(map(str, self.values.shape[1:]))})."
            )
        return Region(self.label, np.ascontiguousarray(np.flip(self.values, tuple(axis + 1 for axis in axes))))

    def __call__(self, y: Any) -> Any:
        """(n,) the mean logit in the region, 0 where it is empty."""
        ops = keras.ops
        if not hasattr(y, "shape"):
            raise ValueError('Expected one output. The model has several: give target={"its name": region(...)}.')
        if len(y.shape) < 3:
            raise ValueError(f"Expected an output (n, ..., classes) with positions. Received {tuple(y.shape)}.")
        channels = y.shape[-1]
        if self.label > max(channels, 2) - 1:
            raise ValueError(f"Expected a label from 0 to {max(channels, 2) - 1}. Received {self.label}.")
        logit = y[..., self.label] if channels > 1 else y[..., 0] * (1.0 if self.label else -1.0)
        logit = ops.cast(logit, "float32")
        axes = tuple(range(1, len(logit.shape)))
        if self.values is None:
            return ops.mean(logit, axis=axes)
        weights = ops.convert_to_tensor(self.values)
        if tuple(weights.shape[1:]) != tuple(logit.shape[1:]):
            raise ValueError(
                f"Expected masks on the grid of the output, (n, {', '.join(map(str, logit.shape[1:]))}). Received "
                f"(n, {', '.join(map(str, weights.shape[1:]))})."
            )
        return ops.sum(logit * weights, axis=axes) / ops.maximum(ops.sum(weights, axis=axes), 1.0)


def region(label: int, masks: ArrayLike | None = None) -> Region:
    """A target for segmentation, recurrent and other models that answer position by position.

    The score of a case is the mean logit of the class within its mask, as Seg-Grad-CAM sums it: "what in the image
    makes the model say liver here?" For what the model itself found take its own answer,
    ``masks=prediction == label``. Of a model with several outputs one is named: ``target={"mask": region(2)}``.

    Args:
        label: class, the last axis of the output; with one channel 1 is the foreground and 0, its logit negated, the
            background.
        masks: (n, ...) on the grid of the output, inside where not 0: a region for each case. None: all positions.

    Returns:
        The target; one with masks fits as many cases as there are masks. Where a mask is empty the score is 0 and so
        is the map.

    Raises:
        ValueError: a label that is no whole number of 0 or above, or masks with NaN. What does not fit the model's
            output is told when the target is used.

    Source: Vinogradova, Dibrov and Myers, "Towards interpretable semantic segmentation via gradient-weighted class
    activation mapping", AAAI 2020; there the logits are summed.
    """
    if isinstance(label, bool) or not isinstance(label, int | np.integer) or label < 0:
        raise ValueError(f"Expected as label a class, a whole number of 0 or above. Received {label!r}.")
    values = None
    if masks is not None:
        found = np.asarray(masks)
        if found.dtype.kind not in "fiub" or found.ndim < 2 or (found.dtype.kind == "f" and np.isnan(found).any()):
            raise ValueError(f"Expected masks (n, ...) of numbers without NaN. Received {found.dtype} {found.shape}.")
        values = (found != 0).astype(np.float32)
    return Region(int(label), values)


def class_maps(
    model: keras.Model,
    x: ArrayLike,
    *,
    labels: Sequence[int] | None = None,
    masks: ArrayLike | None = None,
    method: Callable[..., Array] = cam.grad_cam,
    batch_size: int | None = None,
    **options: Any,
) -> Array:
    """For every class of a segmentation one heat map: what made the model find this class where it found it.

    Args:
        model: a built Keras model from images to (n, i, j[, k], classes); not changed.
        x: (n, i, j[, k], c) images, standardized as the model expects.
        labels: classes; None for all, with one channel the foreground alone, ``[1]``.
        masks: (n, ...) label maps on the grid of the output, such as the truth: the region of a class is where they
            have its number. None: the model's own answer for ``x``.
        method: a function of this room that makes heat maps.
        batch_size: cases at a time; by default at most 64, fewer of large images.
        **options: of ``method``, such as ``layer``.

    Returns:
        (n, labels, i, j[, k]) float32; 0 for a class that is nowhere in a case.

    Raises:
        ValueError: a model without positions in its output, or as :func:`region` and ``method``.
    """
    cases = given(model, x)
    if not len(cases.images):  # one blank case tells which classes there are
        blank = [np.zeros((1, *one.shape[1:]), one.dtype) for one in (cases.images, *cases.others)]
        one = cases.arranged(blank[0], tuple(blank[1:]))
        shown = class_maps(model, Inputs(one, cases.place) if cases.others else one, labels=labels, method=_nothing)
        return np.zeros((0, *shown.shape[1:]), np.float32)
    question = Question(model, x, region(0), batch_size=batch_size)
    if len(question.network.output_shapes) != 1 or len(question.network.output_shape) < 3:
        raise ValueError(
            f"Expected a model with one output (n, ..., classes) with positions. {model.name!r} gives "
            f"{', '.join(map(str, question.network.output_shapes))}. Of several outputs ask for one with "
            'target={"its name": region(...)}.'
        )
    channels = question.network.output_shape[-1]
    found = np.asarray(masks) if masks is not None else _labels(question)
    wanted = list(labels) if labels is not None else list(range(channels)) if channels > 1 else [1]
    maps = [
        method(model, x, target=region(label, found == label), batch_size=batch_size, **options) for label in wanted
    ]
    return np.stack(maps, axis=1)


def _nothing(model: keras.Model, x: Any, **options: Any) -> Array:
    """No heat for any case."""
    return np.zeros(given(model, x).images.shape[:-1], np.float32)


def _labels(question: Question) -> NDArray[np.intp]:
    """(n, ...) the class that wins at each position."""
    y = question.network.outputs(question.images, question.batch_size, question.others)
    return (y[..., 0] >= 0).astype(np.intp) if y.shape[-1] == 1 else y.argmax(axis=-1)
