"""Plan of a segmentation from the data's fingerprint: shapes, spacings, shares of the classes.

In: shapes (n, rank) in voxels and spacings (n, rank) in mm of the training images. Out: spacing, patch, batch, strides,
kernels, epochs, each with its reason, by the published rules of nnU-Net (Isensee et al. 2021, Nature Methods 18:203).
It reads and trains nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

ANISOTROPIC = 3.0
"""A coarse axis has more than this many times the spacing of every other one, and as many times fewer voxels."""
LEAST = 4
"""Fewest voxels along an axis on the deepest level."""
STEPS = 1560
"""Training steps: 24 rounds of 130 hippocampi in batches of two."""
RATE = 2e-3
"""Peak learning rate of AdamW."""


@dataclass(frozen=True)
class SegmentationPlan:
    """What :func:`plan_segmentation` proposes.

    Attributes:
        spacing: mm, to resample all images to.
        median_shape: voxels of the median image at that spacing.
        patch_size: voxels of one training image, a multiple of the strides' product along each axis.
        batch_size: patches a step.
        strides: one a level but the first, one number an axis.
        kernels: one a level, one number an axis.
        width: channels of the first level.
        epochs: rounds over the training cases, one patch a case.
        learning_rate: its peak, for AdamW.
        foreground: share of patches that are to hold foreground for certain, 0 where a patch is a whole image.
        loss: name of a loss of ``medlab.train.regions``.
        augment: name of a policy of ``medlab.augment``.
        reasons: one line for each of the above, by its name.
    """

    spacing: tuple[float, ...]
    median_shape: tuple[int, ...]
    patch_size: tuple[int, ...]
    batch_size: int
    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]
    width: int
    epochs: int
    learning_rate: float
    foreground: float
    loss: str
    augment: str
    reasons: dict[str, str]

    @property
    def levels(self) -> int:
        """Number of sizes at which the network looks at an image."""
        return len(self.kernels)

    def network(self) -> dict[str, Any]:
        """Keywords for ``models.unet((*plan.patch_size, channels), classes, **plan.network())``."""
        return {"width": self.width, "strides": self.strides, "kernels": self.kernels}

    @property
    def model(self) -> str:
        """Name of a function of ``medlab.models``."""
        return "unet"

    @property
    def settings(self) -> dict[str, Any]:
        """As :meth:`network`, by the name that the plan of a classification has."""
        return self.network()

    @property
    def fit(self) -> dict[str, Any]:
        """Further arguments of :func:`medlab.train.fit`."""
        return {"loss": self.loss, "learning_rate": self.learning_rate}


def plan_segmentation(
    shapes: Sequence[Sequence[int]],
    spacings: Sequence[Sequence[float]],
    classes: int,
    *,
    shares: Sequence[float] | None = None,
    voxels: int = 2**18,
    width: int = 8,
) -> SegmentationPlan:
    """A plan for training images of these shapes and spacings.

    Args:
        shapes: (n, rank) voxels of each image, rank 2 or 3, without channels.
        spacings: (n, rank) mm between voxels.
        classes: number of classes, background included.
        shares: share of the voxels of each class in the training masks, background first; None where it is unknown.
        voxels: of one step, batch times patch: what memory and patience allow. On two CPU cores 2^18 voxels of a 3-D
            network of width 8 take a quarter of a second; GPUs take 2^22.
        width: channels of the first level.

    Returns:
        The plan.

    Raises:
        ValueError: shapes and spacings that do not fit each other, images too small for two levels, a budget too
            small for two patches.
    """
    sizes, steps = _check(shapes, spacings, classes, shares, voxels, width)
    reasons: dict[str, str] = {}
    spacing, reasons["spacing"] = _spacing(sizes, steps)
    median = np.median(sizes * steps / spacing, axis=0)
    patch, strides, kernels = _patch(median, spacing, voxels)
    whole = all(side >= typical for side, typical in zip(patch, np.floor(median), strict=True))
    reasons["median_shape"] = "the median of the images at this spacing"
    reasons["patch_size"] = (
        "the median image, up to a multiple of the strides" if whole
        else f"as cubic in mm as the images allow, so that two of them are at most {voxels:,} voxels"
    )  # fmt: skip
    batch, reasons["batch_size"] = _batch(median, patch, len(sizes), voxels)
    axes = " x ".join(str(prod(stride[axis] for stride in strides)) for axis in range(len(patch)))
    reasons["strides"] = (
        f"each axis is halved while it keeps {LEAST} voxels and is no more than twice as coarse in mm as the finest: "
        f"{len(kernels)} levels, {axes} times smaller in the end"
    )
    coarse = any(1 in kernel for kernel in kernels)
    reasons["kernels"] = (
        "1 along an axis that is more than twice as coarse as the finest, 3 from where it no longer is" if coarse
        else "3 along each axis: no axis is more than twice as coarse as another"
    )  # fmt: skip
    reasons["width"] = f"{width}, as given; each level has twice as many channels"
    epochs = int(np.clip(round(STEPS * batch / len(sizes)), 10, 500))
    reasons["epochs"] = (
        f"about {STEPS:,} steps, at least 10 and at most 500 rounds: {epochs} rounds of {len(sizes)} cases"
    )
    reasons["learning_rate"] = (
        f"{RATE:g}, found on the hippocampus in batches of two; each voxel is a case of its own, so that the batch "
        "matters little"
    )
    reasons["foreground"] = (
        "a patch is a whole image" if whole else "a third, so that no step is without foreground (nnU-Net's share)"
    )
    reasons["loss"] = _loss(shares)
    reasons["augment"] = "small turns, scales and changes of intensity; not mirrored, since most organs have a side"
    return SegmentationPlan(
        spacing=tuple(float(step) for step in spacing), median_shape=tuple(round(side) for side in median.tolist()),
        patch_size=patch, batch_size=batch, strides=strides, kernels=kernels, width=int(width), epochs=epochs,
        learning_rate=RATE, foreground=0.0 if whole else 1 / 3, loss="dice_ce", augment="gentle", reasons=reasons,
    )  # fmt: skip


def _check(shapes, spacings, classes, shares, voxels, width) -> tuple[np.ndarray, np.ndarray]:
    sizes, steps = np.asarray(shapes, np.float64), np.asarray(spacings, np.float64)
    if sizes.ndim != 2 or sizes.shape != steps.shape or sizes.shape[1] not in (2, 3) or not len(sizes):
        raise ValueError(
            "Expected shapes and spacings (n, 2) or (n, 3), one row an image, without channels. "
            f"Received {sizes.shape} and {steps.shape}."
        )
    if not (np.isfinite(sizes) & np.isfinite(steps) & (sizes >= 1) & (steps > 0)).all():
        raise ValueError("Expected shapes of at least one voxel and spacings above 0 mm, all finite.")
    if isinstance(classes, bool) or not hasattr(classes, "__index__") or classes < 2:
        raise ValueError(f"Expected at least two classes, background included. Received {classes!r}.")
    if shares is not None and (len(shares) != classes or min(shares) < 0 or not 0.99 < sum(shares) < 1.01):
        raise ValueError(f"Expected {classes} shares of 0 or above that sum to 1. Received {list(shares)}.")
    for name, value in (("voxels", voxels), ("width", width)):
        if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
            raise ValueError(f"Expected {name} to be a positive whole number. Received {value!r}.")
    return sizes, steps


def _spacing(sizes: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, str]:
    """The median spacing; along a coarse axis the 10th percentile, but no finer than the other axes."""
    spacing, shape = np.median(steps, axis=0), np.median(sizes, axis=0)
    axis = int(spacing.argmax())
    others = np.delete(spacing, axis)
    coarse = spacing[axis] > ANISOTROPIC * others.max()
    if not (coarse and shape[axis] * ANISOTROPIC < np.delete(shape, axis).min()):
        return spacing, "the median of the training images along each axis"
    spacing = spacing.copy()
    spacing[axis] = max(np.percentile(steps[:, axis], 10), others.max())
    return spacing, (
        f"the median of the training images; the 10th percentile along axis {axis}, which is more than "
        f"{ANISOTROPIC:g} times as coarse as the others, so that few slices have to be invented"
    )


def _patch(median: np.ndarray, spacing: np.ndarray, voxels: int) -> tuple[tuple[int, ...], tuple, tuple]:
    """Patch, strides and kernels: the median image, or the largest part of it, as cubic as can be, that fits twice."""
    wanted = median.copy()
    if 2 * prod(wanted.tolist()) > voxels:
        low, high = 0.0, float((median * spacing).max())
        for _ in range(60):
            side = (low + high) / 2
            low, high = (side, high) if 2 * np.minimum(median, side / spacing).prod() <= voxels else (low, side)
        wanted = np.minimum(median, low / spacing)
    while True:
        strides, kernels = _levels(wanted, spacing)
        total = np.prod(np.array(strides), axis=0) if strides else np.ones(len(wanted), int)
        patch = np.maximum(np.ceil(np.round(wanted / total, 6)), 1).astype(int) * total
        if 2 * patch.prod() <= voxels:
            break
        wanted = _smaller(patch, total, spacing, voxels)
        if wanted is None or not strides:
            raise ValueError(
                f"Two patches of {' x '.join(map(str, patch))} voxels are more than the {voxels:,} voxels of a step. "
                "Allow more voxels, or resample to a coarser spacing."
            )
    if not strides:
        raise ValueError(
            f"The median image of {' x '.join(map(str, np.round(median).astype(int)))} voxels is too small for two "
            f"levels of at least {LEAST} voxels along an axis. Resample the images to a finer spacing."
        )
    return tuple(int(side) for side in patch), strides, kernels


def _smaller(patch: np.ndarray, total: np.ndarray, spacing: np.ndarray, voxels: int) -> np.ndarray | None:
    """The patch with one axis smaller by a step, or several where they are alike; None where none can be.

    The largest such patch that fits twice; where none does, the one that is shortest in mm along its longest axis.
    """
    alike = {(side, step): (patch == side) & (spacing == step) for side, step in zip(patch, spacing, strict=True)}
    found = [patch - total * axes for axes in alike.values() if (patch > total)[axes].all()]
    fitting = [one for one in found if 2 * one.prod() <= voxels]
    if fitting:
        return max(fitting, key=lambda one: one.prod()).astype(np.float64)
    return min(found, key=lambda one: (one * spacing).max(), default=None)


def _levels(patch: np.ndarray, spacing: np.ndarray) -> tuple[tuple, tuple]:
    """Strides and kernels: fine axes are halved first, until the axes have about the same spacing."""
    size, step = np.array(patch, np.float64), np.array(spacing, np.float64)
    strides: list[tuple[int, ...]] = []
    kernels = [_kernel(step)]
    while True:
        possible = size >= 2 * LEAST
        if not possible.any():
            break
        chosen = possible & (step < 2 * step[possible].min())
        if chosen.sum() == 1 and len(size) > 1 and size[chosen][0] < 3 * LEAST:
            break
        stride = np.where(chosen, 2, 1)
        size, step = size / stride, step * stride
        strides.append(tuple(stride.tolist()))
        kernels.append(tuple(max(*pair) for pair in zip(_kernel(step), kernels[-1], strict=True)))
    return tuple(strides), tuple(kernels)


def _kernel(step: np.ndarray) -> tuple[int, ...]:
    return tuple(np.where(step < 2 * step.min(), 3, 1).tolist())


def _batch(median: np.ndarray, patch: tuple[int, ...], cases: int, voxels: int) -> tuple[int, str]:
    """As many patches as fit, at most a twentieth of the training voxels, at least two."""
    fit = voxels // prod(patch)
    share = int(0.05 * cases * float(median.prod()) / prod(patch))
    batch = max(2, min(fit, share))
    if batch == fit:
        return batch, f"as many patches as {voxels:,} voxels hold"
    return batch, f"at most 5 % of the voxels of {cases} training images a step, at least two patches"


def _loss(shares: Sequence[float] | None) -> str:
    text = "Dice + cross-entropy: Dice counts small regions as much as large ones, cross-entropy gives smooth gradients"
    if shares is None:
        return text
    least = min(shares[1:])
    return f"{text}; the smallest class has {100 * least:.2g} % of the voxels"
