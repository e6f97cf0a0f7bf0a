"""Question: a model, its cases and what is asked about them; every map and every score is an answer to one.

In: any Keras model, x as the user gives it, and a target. Out: the images, and for changed images of the same cases
the target's score and its gradient, as NumPy arrays, in compiled batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.backend import keras
from medlab.explain.asking.inputs import given, parts_of
from medlab.explain.asking.network import Network
from medlab.explain.asking.targets import Target, of_part

Array = NDArray[np.float32]
Cases = slice | NDArray[np.intp]


class Question:
    """What the model's answer for each case rests on.

    Args:
        model: a built Keras model; not changed.
        x: (n, i, j[, k], c) images, standardized as the model expects; for a model with several inputs all of them,
            in the structure of its input (see :class:`medlab.explain.Inputs`).
        target: class index, (n,) of them, None for the class predicted for ``x``, a function of the output, or for a
            model with several outputs one of these by the output's name, ``{"grade": 2}``.
        batch_size: cases at a time; by default at most 64, fewer of large images.

    Attributes:
        images: (n, i, j[, k], c) float32, the images that are explained.
        size: (i, j[, k]).
        target: (n,) class indices, or the function; None is settled to the classes predicted for ``x``.

    Raises:
        ValueError: images of another shape or with NaN, or a target out of range.
    """

    def __init__(
        self, model: keras.Model, x: ArrayLike | Any, target: Target = None, *, batch_size: int | None = None
    ) -> None:
        self.model = model
        cases = given(model, x)
        self.images: Array = cases.images
        self.others = cases.others
        self.size = self.images.shape[1:-1]
        self.batch_size = batch_size
        self._asked = target
        if len(self.images):
            self.network = Network.of(model, cases)
            self._asked = self.network.check(target, len(self.images))

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def target(self) -> Target:
        """(n,) class indices, or the function; None is settled to the classes predicted for ``x``."""
        if len(self.images) == 0:
            return self._asked
        return self.network.settle(self.images, self._asked, self.batch_size, self.others)

    def parts(self, *, tail_only: bool = False) -> Iterator[slice]:
        """Slices that cut the cases into batches of (nearly) equal size; see :func:`parts_of`."""
        return parts_of(self.images, self.batch_size, tail_only=tail_only)

    def answers(self, images: Array, cases: Cases, *, probability: bool = False) -> Array:
        """How strongly the model speaks for the target.

        Args:
            images: (m, i, j[, k], c), such as cases with something covered; all are run at once.
            cases: a slice or (m,) indices: which cases of the question these are. A case may come several times.
            probability: the probability of the target's class instead of its logit, as the model itself gives it where
                its output is one; an output of logits goes through softmax, or sigmoid if it is one number. A target
                that is a function gives its own value either way, of the logits.

        Returns:
            (m,) float32.
        """
        target = of_part(self.target, cases)
        return self.network.answers(_float(images), self._others(cases), target, probability=probability)

    def slope(self, images: Array, cases: Cases, *, under: Callable[[Any], Any] = nullcontext) -> Array:
        """The gradient of each score with respect to its own image, of the shape of ``images``; see :meth:`answers`.

        ``under`` is a module's function of the model that gives a context, in which the model runs.
        """
        return self.network.slope(_float(images), self._others(cases), self._of(images, cases), under=under)

    def at_layers(self, paths: Sequence[str], cases: slice, combine: Callable[[Any, Any], Any]) -> list[Array]:
        """What ``combine`` makes of the features and gradients of layers; see :meth:`Network.at_layers`."""
        images = self.images[cases]
        return self.network.at_layers(images, self._others(cases), self._of(images, cases), paths, combine)

    def features(self, layer: str, cases: Cases) -> Array:
        """(m, a, b[, c], channels) float32: the output of ``layer``, one of :func:`medlab.explain.layers`."""
        return self.network.features(self.images[cases], self._others(cases), layer)

    def _others(self, cases: Cases) -> tuple[NDArray, ...]:
        return tuple(one[cases] for one in self.others)

    def _of(self, images: Array, cases: Cases) -> Target:
        """The target of the cases; None as long as the images are their own, because then the winner needs no run."""
        if self._asked is None and "target" not in vars(self) and isinstance(cases, slice):
            own = self.images[cases]
            if images is self.images or (
                images.shape == own.shape and images.ctypes.data == own.ctypes.data and images.strides == own.strides
            ):
                return None
        return of_part(self.target, cases)


def _float(images: Array) -> Array:
    return np.asarray(images, np.float32)
