"""Outcome: what a GAN's training leaves: the generator, its history, its samples as they became, what looks wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medlab import runs
from medlab.train.guards import DivergedError

if TYPE_CHECKING:
    from numpy.typing import NDArray

COLUMNS = ("epoch", "discriminator_loss", "generator_loss", "diversity", "seconds")

COLLAPSED = 0.25
"""Diversity below which the samples are called alike. Chosen: a good run had 0.5 and more, a collapsed one 0.2."""

_SIDE = 16


@dataclass(frozen=True, eq=False)
class GanFit:
    """A finished training of a GAN.

    Attributes:
        gan: the GAN given; its generator has the running mean of the weights.
        history: one row an epoch: epoch, discriminator_loss, generator_loss (means over its steps), diversity of the
            samples (:func:`diversity`), seconds.
        samples: epoch -> images of the same latents (:attr:`latents`) after that epoch; the first, the last, and some
            between at growing distances.
        latents: (n, latent).
        labels: (n,) classes of the samples, or None.
        seconds: wall time.
        device: what it ran on.
        choices: one line each: device, loss, augmentation, learning rates, running mean.
        warnings: what looks wrong, in words; empty where nothing does.
        stopped: why it ended before the last epoch, or None.
        run: its run folder, or None.
    """

    gan: Any
    history: pd.DataFrame
    samples: dict[int, NDArray[np.float32]] = field(repr=False)
    latents: NDArray[np.float32] = field(repr=False)
    labels: NDArray[np.int32] | None = field(repr=False)
    seconds: float
    device: str
    choices: dict[str, str] = field(repr=False)
    warnings: tuple[str, ...] = ()
    stopped: str | None = None
    run: runs.Run | None = None


class GanDivergedError(DivergedError):
    """A GAN's losses or weights ran away.

    Attributes:
        fit: the :class:`GanFit` as it was after the last epoch in which all was finite, with its samples; the generator
            has its weights of then. None where not one epoch was done.
    """

    fit: GanFit | None = None


def coarse(images: NDArray[Any]) -> NDArray[np.float64]:
    """Images as rows of numbers, averaged over blocks to at most 16 pixels a side: noise and small detail go."""
    x = np.asarray(images, np.float64)
    for axis in range(1, x.ndim - 1):
        block = -(-x.shape[axis] // _SIDE)
        if block > 1:
            starts = np.arange(0, x.shape[axis], block)
            sizes = np.diff([*starts, x.shape[axis]])
            shape = [-1 if one == axis else 1 for one in range(x.ndim)]
            x = np.add.reduceat(x, starts, axis=axis) / sizes.reshape(shape)
    return x.reshape(len(x), -1)


def nearest(rows: NDArray[np.float64]) -> float:
    """The mean distance of a row to the nearest other one."""
    from scipy.spatial.distance import cdist

    apart = cdist(rows, rows)  # no difference of squares, which has noise of its own where rows are alike
    np.fill_diagonal(apart, np.inf)
    return float(apart.min(1).mean())


def diversity(samples: NDArray[Any], of_real: float) -> float:
    """How far apart samples lie, where as many real images have 1: 0 if all are alike, or each has a twin.

    The mean distance of a sample to the nearest other one, of images averaged to at most 16 pixels a side. A generator
    that makes three different images only has 0 too.

    Args:
        samples: (n, i, j[, k], c).
        of_real: :func:`nearest` of as many real images, all different.
    """
    return nearest(coarse(samples)) / of_real


def shown_epochs(epochs: int) -> set[int]:
    """About ten epochs whose samples are kept: the first, the last, and between them at growing distances."""
    return {round(epoch) for epoch in np.geomspace(1, epochs, 10).tolist()}
