"""Losses for regions and for missing labels: Dice, Tversky, focal, boundary, masked cross-entropy.

In: plain numbers. Out: ``keras.losses.Loss`` objects for logits (n, i, j[, k], classes) and labels (n, i, j[, k]),
whole numbers, 0 = background, negative = ignored voxel; one value a case, averaged over the batch. Before training
``y = loss.encode(y, classes)`` (NumPy); a coarser output takes every second voxel of that, ``y[:, ::2, ::2]``.
"""

from __future__ import annotations

from collections.abc import Sequence

from medlab.backend import keras
from medlab.train.overlap import (
    Boundary,
    Dice,
    DiceCE,
    Focal,
    MaskedBCE,
    RegionLoss,
    Tversky,
    signed_distance,
)

__all__ = [
    "RegionLoss",
    "boundary",
    "dice",
    "dice_ce",
    "focal",
    "focal_tversky",
    "masked_bce",
    "signed_distance",
    "tversky",
]


def dice(*, background: bool = False, multi_label: bool = False, smooth: float = 1.0) -> keras.losses.Loss:
    """The soft Dice loss, one minus 2 |A n B| / (|A| + |B|) (Milletari et al. 2016, with sums of plain probabilities).

    For each case and class, then the mean over classes and over cases: large cases count no more than small ones. 0
    for a perfect and 1 for a disjoint segmentation. A class that is absent from the truth is judged by the sum S of its
    probabilities, as S / (S + smooth): 0 where it is not predicted either, near 1 where it fills many voxels.

    Args:
        background: whether class 0 counts as well; it is most of the image.
        multi_label: classes may overlap: sigmoid for softmax, no class is background, y is (n, i, j[, k], classes) 0/1
            where NaN or negative is unknown.
        smooth: voxels added to numerator and denominator.
    """
    return Dice(background=background, multi_label=multi_label, smooth=smooth)


def dice_ce(
    *,
    dice_weight: float = 1.0,
    ce_weight: float = 1.0,
    background: bool = False,
    multi_label: bool = False,
    smooth: float = 1.0,
) -> keras.losses.Loss:
    """Soft Dice plus cross-entropy, the loss of nnU-Net (Isensee et al. 2021).

    Args:
        dice_weight: factor of :func:`dice`.
        ce_weight: factor of the mean cross-entropy of a case's voxels.
        background: as in :func:`dice`; the cross-entropy always counts it.
        multi_label: as in :func:`dice`.
        smooth: as in :func:`dice`.
    """
    return DiceCE(
        dice_weight=dice_weight, ce_weight=ce_weight, background=background, multi_label=multi_label, smooth=smooth
    )


def tversky(
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    background: bool = False,
    multi_label: bool = False,
    smooth: float = 1.0,
) -> keras.losses.Loss:
    """One minus the Tversky index TP / (TP + alpha FP + beta FN) (Salehi et al. 2017); a half each gives Dice.

    Args:
        alpha: weight of false positives.
        beta: weight of false negatives: above alpha it finds more of a small lesion.
        background: as in :func:`dice`.
        multi_label: as in :func:`dice`.
        smooth: voxels added to numerator and denominator.
    """
    return Tversky(alpha=alpha, beta=beta, background=background, multi_label=multi_label, smooth=smooth)


def focal_tversky(
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    gamma: float = 0.75,
    background: bool = False,
    multi_label: bool = False,
    smooth: float = 1.0,
) -> keras.losses.Loss:
    """Each class's :func:`tversky` loss to the power ``gamma`` (Abraham and Khan 2019, who call 1/gamma gamma).

    Args:
        alpha: weight of false positives.
        beta: weight of false negatives.
        gamma: exponent above 0; below 1 it keeps pulling at classes that are nearly right.
        background: as in :func:`dice`.
        multi_label: as in :func:`dice`.
        smooth: voxels added to numerator and denominator.
    """
    return Tversky(
        alpha=alpha, beta=beta, gamma=gamma, background=background, multi_label=multi_label, smooth=smooth,
        name="focal_tversky",
    )  # fmt: skip


def focal(*, gamma: float = 2.0, alpha: Sequence[float] | None = None, multi_label: bool = False) -> keras.losses.Loss:
    """Cross-entropy times (1 - p)^gamma, p the probability of the truth (Lin et al. 2017): easy voxels count little.

    It serves whole-image classes too: logits (n, classes), or (n, 1) for two classes.

    Args:
        gamma: 0 is cross-entropy.
        alpha: weight of each class (softmax), or of each class where it is present (sigmoid; absent: 1 - alpha).
        multi_label: as in :func:`dice`.
    """
    return Focal(gamma=gamma, alpha=None if alpha is None else list(alpha), multi_label=multi_label)


def boundary(
    *,
    weight: float = 0.1,
    dice_weight: float = 1.0,
    background: bool = False,
    smooth: float = 1.0,
    spacing: Sequence[float] | None = None,
) -> keras.losses.Loss:
    """Soft Dice plus the boundary loss (Kervadec et al. 2019): a wrong voxel costs its distance to the true surface.

    The boundary term is the mean over voxels of phi (p - g): phi the signed distance to the surface of the truth g,
    negative inside. The paper drops the constant phi g; kept, it makes a perfect segmentation cost 0. For
    ``multi_label`` outputs use another loss.

    Args:
        weight: of the boundary term. Distances are large numbers: 0.01 to 0.1 beside Dice.
        dice_weight: factor of :func:`dice`; 0 for the boundary term alone, which finds the truth only from nearby.
        background: whether class 0 counts as well.
        smooth: as in :func:`dice`.
        spacing: mm between voxels along each axis; None measures in voxels.
    """
    return Boundary(
        weight=weight, dice_weight=dice_weight, background=background, smooth=smooth,
        spacing=None if spacing is None else list(spacing),
    )  # fmt: skip


def masked_bce() -> keras.losses.Loss:
    """Binary cross-entropy of the labels that are known: y (n, classes) 0/1 where NaN or negative is missing.

    For each case the mean over its known labels; a case without any costs 0. The labels may have axes of space too.
    """
    return MaskedBCE()
