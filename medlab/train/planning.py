"""Plan: how to train on a data set of this size, by stated rules.

In: the number of training cases, the shape of one image, the number of classes. Out: a network, epochs, batch size and
how far images are changed at random, each with its reason. It trains nothing. Segmentation: ``plan_segmentation``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

_TINY = 64
"""Pixels a side up to which the networks keep an image's size in their first stage."""
_VOXELS = 32**3
"""Voxels up to which a residual network of full size in its first stage is affordable on a CPU."""


@dataclass(frozen=True)
class Plan:
    """What :func:`plan` proposes.

    Attributes:
        model: name of a function of ``medlab.models``.
        epochs: how often every training case is seen.
        batch_size: cases a step.
        augment: whether the training images are changed at random.
        reasons: one line for each of the above, by its name.
        settings: further arguments of the network's function, such as ``{"width": 32}``.
        policy: what to change in the modality's policy of :func:`medlab.augment.policy`.
        fit: further arguments of :func:`medlab.train.fit`.
    """

    model: str
    epochs: int
    batch_size: int
    augment: bool
    reasons: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)
    policy: dict[str, Any] = field(default_factory=dict)
    fit: dict[str, Any] = field(default_factory=dict)


def plan(cases: int, input_shape: tuple[int, ...], classes: int) -> Plan:
    """A plan for ``cases`` training images of ``input_shape`` (i, j[, k], c) and so many classes.

    Raises:
        ValueError: no case, or a shape that is no image's.
    """
    if cases < 1 or classes < 2:
        raise ValueError(f"Expected at least one case and two classes. Received {cases} and {classes}.")
    if len(input_shape) not in (3, 4):
        raise ValueError(f"Expected (i, j, c) or (i, j, k, c). Received {input_shape}.")
    sides = input_shape[:-1]
    if len(sides) == 3 and math.prod(sides) <= _VOXELS:
        return _small_volumes(cases)
    if len(sides) == 2 and max(sides) <= _TINY:
        return _small_images(cases)
    return _images(cases)


def _images(cases: int) -> Plan:
    epochs = _rounds(cases, seen=16_800, least=10, most=40)
    return Plan(
        model="small_cnn",
        epochs=epochs,
        batch_size=32 if cases < 2000 else 64,
        augment=True,
        reasons={
            "model": "small_cnn: on small sets it was as good as a residual network, in less time",
            "epochs": f"{epochs}: about 17,000 images seen, at least 10 and at most 40 rounds",
            "batch_size": "32, or 64 from 2,000 cases on",
            "augment": "yes: plausible variants of few images; pneumoniamnist gained 0.03 AUC by it",
        },
    )


def _small_images(cases: int) -> Plan:
    epochs = _rounds(cases, seen=90_000, least=10, most=40)
    return Plan(
        model="small_cnn",
        settings={"width": 32},
        epochs=epochs,
        batch_size=32 if cases < 2000 else 64,
        augment=True,
        reasons={
            "model": "small_cnn, 32 wide: on small images a step is cheap, and it trains four times as fast as a "
            "residual network as wide",
            "epochs": f"{epochs}: about 90,000 small images seen, at least 10 and at most 40 rounds",
            "batch_size": "32, or 64 from 2,000 cases on",
            "augment": "yes: plausible variants of few images; pneumoniamnist gained 0.03 AUC by it",
        },
    )


def _small_volumes(cases: int) -> Plan:
    epochs = _rounds(cases, seen=36_000, least=10, most=30)
    return Plan(
        model="resnet",
        settings={"width": 16},
        epochs=epochs,
        batch_size=32,
        augment=True,
        reasons={
            "model": "resnet, 16 wide: for small volumes deep and narrow",
            "epochs": f"{epochs}: about 36,000 volumes seen, at least 10 and at most 30 rounds",
            "batch_size": "32",
            "augment": "yes: plausible variants of few volumes",
        },
    )


def _rounds(cases: int, *, seen: int, least: int, most: int) -> int:
    """Epochs in which about ``seen`` images pass, within bounds."""
    return int(min(max(round(seen / cases), least), most))
