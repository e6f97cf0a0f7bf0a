"""Question: a model, its cases and what is asked about them; every map and every score is an answer to one.

In: any Keras model, x as the user gives it, and a target. Out: the images, and for changed images of the same cases
the target's score and its gradient, as NumPy arrays, in batches.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.backend import keras
from medlab.explain import gradient
from medlab.explain.network import Network, check_images, parts_of
from medlab.explain.targets import Target, scores

Array = NDArray[np.float32]
Cases = slice | NDArray[np.intp]


class Question:
    """What the model's answer for each case rests on.

    Args:
        model: a built Keras model; not changed.
        x: (n, i, j[, k], c) images, standardized as the model expects.
        target: class index, (n,) of them, None for the class predicted for ``x``, or a function of the output.
        batch_size: cases at a time; by default at most 64, fewer of large images.

    Attributes:
        images: (n, i, j[, k], c) float32, the images that are explained.
        size: (i, j[, k]).
        target: (n,) class indices, or the function; None is settled to the classes predicted for ``x``.

    Raises:
        ValueError: images of another shape or with NaN, or a target out of range.
    """

    def __init__(
        self, model: keras.Model, x: ArrayLike, target: Target = None, *, batch_size: int | None = None
    ) -> None:
        self.model = model
        self.images: Array = check_images(model, x)
        self.size = self.images.shape[1:-1]
        self.batch_size = batch_size
        self.target = target
        if len(self.images):
            self.network = Network(model, self.images)
            self.target = self.network.settle(self.images, target, batch_size)

    def __len__(self) -> int:
        return len(self.images)

    def parts(self) -> Iterator[slice]:
        """Slices that cut the cases into batches of (nearly) equal size."""
        return parts_of(self.images, self.batch_size)

    def answers(self, images: Array, cases: Cases, *, probability: bool = False) -> Array:
        """How strongly the model speaks for the target.

        Args:
            images: (m, i, j[, k], c), such as cases with something covered; all are run at once.
            cases: a slice or (m,) indices: which cases of the question these are. A case may come several times.
            probability: the probability of the target's class instead of its logit. A target that is a function
                gives its own value either way.

        Returns:
            (m,) float32.
        """
        score = self.network.probabilities if probability else scores
        output = self.network(keras.ops.convert_to_tensor(images))
        return keras.ops.convert_to_numpy(score(output, self._of(cases)))

    def slope(self, images: Array, cases: Cases) -> Array:
        """The gradient of each score with respect to its own image, of the shape of ``images``; see :meth:`answers`."""
        target = self._of(cases)

        def score(x):
            return keras.ops.sum(scores(self.network(x), target)), 0

        return keras.ops.convert_to_numpy(gradient.of(score, images)[2])

    def _of(self, cases: Cases) -> Target:
        return self.target[cases] if isinstance(self.target, np.ndarray) else self.target
