"""Plan: how to train on a data set of this size, by stated rules.

In: the number of training cases, the shape of one image, the number of classes. Out: a network, epochs and batch
size, each with its reason. It trains nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Plan:
    """What :func:`plan` proposes.

    Attributes:
        model: name of a function of ``medlab.models``.
        epochs: how often every training case is seen.
        batch_size: cases a step.
        augment: whether the training images are changed at random.
        reasons: one line for each of the above, by its name.
        settings: further arguments of the model's function.
        fit: further arguments of :func:`medlab.train.fit`.
    """

    model: str
    epochs: int
    batch_size: int
    augment: bool
    reasons: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)
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
    epochs = int(min(max(round(16_800 / cases), 10), 40))
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
