"""Plan: how to train on a data set of this size, by stated rules.

In: the number of training cases, the shape of one image, the number of classes. Out: a network, epochs, batch size and
how far images are changed at random, each with its reason. It trains nothing. Segmentation: ``plan_segmentation``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

_TINY = 32
"""Pixels a side up to which a step is so cheap that training may be longer and, with many cases, the network wider."""
_MANY = 2000
"""Cases from which a step takes 64 of them."""


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
    if len(input_shape) not in (3, 4) or min(input_shape) < 1:
        raise ValueError(f"Expected (i, j, c) or (i, j, k, c), each at least 1. Received {input_shape}.")
    sides = input_shape[:-1]
    if max(sides) <= _TINY:
        return _small_images(cases) if len(sides) == 2 else _small_volumes(cases)
    return _images(cases)


def _images(cases: int) -> Plan:
    epochs = _rounds(cases, seen=16_800, least=10, most=40)
    return Plan(
        model="small_cnn",
        epochs=epochs,
        batch_size=64 if cases >= _MANY else 32,
        augment=True,
        reasons={
            "model": "small_cnn: on small sets it was as good as a residual network, in less time",
            "epochs": f"{epochs}: about 17,000 images seen, at least 10 and at most 40 rounds",
            "batch_size": "32, or 64 from 2,000 cases on",
            "augment": "yes: plausible variants of few images; pneumoniamnist gained 0.03 AUC by it",
        },
    )


def _small_images(cases: int) -> Plan:
    epochs = _rounds(cases, seen=56_000, least=10, most=40)
    many = cases >= _MANY
    return Plan(
        model="small_cnn",
        settings={"width": 32} if many else {},
        epochs=epochs,
        batch_size=64 if many else 32,
        augment=True,
        reasons={
            "model": "small_cnn, 32 wide: four times as fast as a residual network as wide; on pneumoniamnist "
            "test AUC 0.982 (3 seeds), 0.977 with 16 wide and fewer epochs"
            if many
            else "small_cnn: on small sets it was as good as a residual network, in less time",
            "epochs": f"{epochs}: about 56,000 small images seen, at least 10 and at most 40 rounds",
            "batch_size": "32, or 64 from 2,000 cases on",
            "augment": "yes: plausible variants of few images; pneumoniamnist gained 0.03 AUC by it",
        },
    )


def _small_volumes(cases: int) -> Plan:
    epochs = _rounds(cases, seen=36_000, least=10, most=40)
    return Plan(
        model="resnet",
        settings={"depth": 10, "width": 16, "stem_stride": 2},
        epochs=epochs,
        batch_size=32,
        augment=True,
        reasons={
            "model": "resnet of 10 layers, 16 wide, halved once at the start: a seventh of the time of full size",
            "epochs": f"{epochs}: about 36,000 small volumes seen, at least 10 and at most 40 rounds",
            "batch_size": "32",
            "augment": "yes: plausible variants of few volumes",
        },
    )


def _rounds(cases: int, *, seen: int, least: int, most: int) -> int:
    """Epochs in which about ``seen`` images pass, within bounds."""
    return int(min(max(round(seen / cases), least), most))
