"""Baseline: what a straight line through the pixels can do, the floor that a network has to beat.

In: training and test tensors. Out: probabilities for the test cases. It sees neither models nor files.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def pixel_baseline(
    train: tuple[ArrayLike, ArrayLike], x: ArrayLike, *, side: int | None = None, most: int = 5000, seed: int = 0
) -> NDArray[np.float64]:
    """Probabilities of a logistic regression on small copies of the images.

    Args:
        train: x (n, i, j[, k], c) and y, (n,) class indices or (n, classes) 0/1.
        x: (m, i, j[, k], c) cases to judge.
        side: voxels along each axis of the small copies; by default 28 in 2-D and 12 in 3-D. Means over blocks.
        most: training cases used at most, drawn with ``seed``.
        seed: see above.

    Returns:
        (m,) probabilities of class 1, or (m, classes).

    Raises:
        ValueError: images of different shapes, or training cases of one class only.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    known, y = np.asarray(train[0]), np.asarray(train[1])
    asked = np.asarray(x)
    if known.shape[1:] != asked.shape[1:] or len(known) != len(y):
        raise ValueError(
            f"Expected images of one shape, and a label each. Received x {known.shape} with {len(y)} labels, "
            f"and {asked.shape} to judge."
        )
    if y.ndim == 1 and len(np.unique(y)) < 2:
        raise ValueError(f"Expected training cases of two classes at least. All {len(y)} are of class {y[:1]}.")
    side = side or (28 if known.ndim == 4 else 12)
    kept = np.sort(np.random.default_rng(seed).permutation(len(known))[:most])
    # Standardized pixels with a strong penalty: there are often more pixels than cases.
    line = LogisticRegression(C=0.01, max_iter=500)
    model = make_pipeline(StandardScaler(), line if y.ndim == 1 else OneVsRestClassifier(line))
    model.fit(_small(known[kept], side), y[kept])
    p = model.predict_proba(_small(asked, side))
    if y.ndim == 2:
        return p
    classes = model.classes_
    full = np.zeros((len(asked), int(max(classes.max(), 1)) + 1))
    full[:, classes] = p
    return full[:, 1] if full.shape[1] == 2 else full


def _small(x: NDArray, side: int) -> NDArray[np.float32]:
    """(n, features): means over blocks, about ``side`` of them along each spatial axis."""
    small = x.astype(np.float32)
    for axis in range(1, x.ndim - 1):
        edges = np.linspace(0, x.shape[axis], min(side, x.shape[axis]) + 1).round().astype(int)
        sums = np.add.reduceat(small, edges[:-1], axis=axis)
        widths = np.diff(edges).reshape([-1 if one == axis else 1 for one in range(x.ndim)])
        small = sums / widths
    return small.reshape(len(x), -1)
