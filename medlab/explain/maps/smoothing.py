"""Smoothing: the gradient of an image seen through noise, its mean and its variance.

In: any Keras model and images (n, i, j[, k], c). Out: heat maps (n, i, j[, k]) float32, of the images' own size.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.backend import keras
from medlab.explain.asking.question import Question
from medlab.explain.asking.targets import Target
from medlab.explain.maps import copies

Array = NDArray[np.float32]


def smooth_grad(
    model: keras.Model,
    x: ArrayLike,
    *,
    target: Target = None,
    n: int = 16,
    noise: float = 0.15,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool | None = None,
) -> Array:
    """The size of the mean gradient over noisy copies of the image, the largest over the channels.

    For a linear model it equals :func:`medlab.explain.maps.attribution.saliency`.

    Args:
        model: a built Keras model; not changed.
        x: (n, i, j[, k], c) images, standardized as the model expects; several inputs: :class:`medlab.explain.Inputs`.
        target: class index, (n,) of them, None for the class predicted for ``x`` (without noise), or a function of
            the output.
        n: noisy copies a case, at least 1.
        noise: standard deviation of the Gaussian noise as a share of each image's own range, largest minus smallest
            value; the paper recommends 0.1 to 0.2.
        seed: of the noise. Every case meets the same noise, whatever its place in ``x``.
        batch_size: images at a time; by default at most 64, fewer of large images.
        progress: shows a progress bar; None does so when it takes long and a person looks on.

    Returns:
        (n, i, j[, k]) float32, 0 or above, not normalized. A constant image has no range, so its map is its saliency.

    Raises:
        ValueError: as :func:`medlab.explain.maps.attribution.saliency`, ``n`` below 1, or a negative ``noise``.

    Source: Smilkov et al., "SmoothGrad: removing noise by adding noise", 2017.
    """
    question, slopes = _slopes(model, x, target, n, 1, noise, seed, batch_size, progress, "SmoothGrad")
    total = np.zeros(question.images.shape, np.float32)
    for cases, slope in slopes:
        copies.gather(total, cases, slope)
    return np.abs(total / n).max(axis=-1)


def var_grad(
    model: keras.Model,
    x: ArrayLike,
    *,
    target: Target = None,
    n: int = 16,
    noise: float = 0.15,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool | None = None,
) -> Array:
    """The variance of the gradient over noisy copies of the image, the largest over the channels.

    It is high where the score depends on the voxel and on what stands around it; for a linear model it is 0.

    Args:
        model: as :func:`smooth_grad`.
        x: as :func:`smooth_grad`.
        target: as :func:`smooth_grad`.
        n: noisy copies a case, at least 2.
        noise: as :func:`smooth_grad`.
        seed: as :func:`smooth_grad`; the same noise as there.
        batch_size: as :func:`smooth_grad`.
        progress: as :func:`smooth_grad`.

    Returns:
        (n, i, j[, k]) float32, 0 or above: the mean squared distance from the mean gradient. 0 for a constant image.

    Raises:
        ValueError: as :func:`smooth_grad`, with ``n`` below 2.

    Source: Adebayo et al., "Local explanation methods for deep neural networks lack sensitivity to parameter values",
    ICLR workshop 2018.
    """
    question, slopes = _slopes(model, x, target, n, 2, noise, seed, batch_size, progress, "VarGrad")
    seen = np.zeros(len(question), int)
    mean = np.zeros(question.images.shape, np.float32)
    squares = np.zeros(question.images.shape, np.float32)
    for cases, slope in slopes:  # Welford's update: the mean of the squares minus the square of the mean would cancel
        for case, one in zip(cases, slope, strict=True):
            seen[case] += 1
            off = one - mean[case]
            mean[case] += off / np.float32(seen[case])
            squares[case] += off * (one - mean[case])
    return (squares / np.float32(n)).max(axis=-1)


def _slopes(
    model: keras.Model,
    x: ArrayLike,
    target: Target,
    n: int,
    least: int,
    noise: float,
    seed: int,
    batch_size: int | None,
    progress: bool | None,
    what: str,
) -> tuple[Question, Iterator[tuple[NDArray[np.intp], Array]]]:
    """The question, and batches of (cases, gradients at noisy copies of them)."""
    copies.check_count(n, least, "as n the number of noisy copies")
    if not (np.isfinite(noise) and noise >= 0):
        raise ValueError(f"Expected as noise a share of the image's range, 0 or above. Received {noise}.")
    question = Question(model, x, target, batch_size=batch_size)

    def batches() -> Iterator[tuple[NDArray[np.intp], Array]]:
        for cases, copy, count in copies.rounds(question, n, what=what, progress=progress):
            noisy = question.images[cases]
            for row, number in enumerate(copy[:count]):
                draw = np.random.default_rng((seed, number)).standard_normal(noisy.shape[1:], np.float32)
                noisy[row] += np.float32(noise * np.ptp(noisy[row])) * draw
            yield cases[:count], question.slope(noisy, cases)[:count]

    return question, batches()
