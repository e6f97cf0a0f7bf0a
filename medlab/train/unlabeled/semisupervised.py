"""Semi-supervised: a classifier learns from a few labeled images and many without labels at once.

In: a Keras classifier, labeled and unlabeled images. Out: the classifier, and what the unlabeled ones were taken for.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medlab import runs
from medlab.backend import keras
from medlab.train import fitting, received, wishes
from medlab.train.unlabeled import consistency
from medlab.train.unlabeled.heads import final_activation
from medlab.train.unlabeled.probing import classes_of
from medlab.train.unlabeled.rounds import in_rounds, probabilities_of
from medlab.train.unlabeled.views import Beside, parts_of

METHODS = ("fixmatch", "mean_teacher", "pseudo_label")


@dataclass(frozen=True, eq=False)
class SemiSupervised:
    """A finished semi-supervised training.

    Attributes:
        model: the model given, trained.
        history: one row an epoch; of pseudo-labels one after another, with the column ``round``.
        probabilities: (m, classes) what the trained model says of the unlabeled images.
        taken: (m,) whether it is sure enough of them for the threshold.
        seconds: wall time of the epochs.
        choices: one line each.
        stopped: why it ended before the last epoch, or None.
        run: its run folder, or None; of pseudo-labels None, for each round has a folder of its own in it.
    """

    model: keras.Model
    history: pd.DataFrame
    probabilities: np.ndarray
    taken: np.ndarray
    seconds: float
    choices: dict[str, str] = field(repr=False)
    stopped: str | None = None
    run: runs.Run | None = None


def fit_semisupervised(
    model: keras.Model,
    labeled: tuple[np.ndarray, np.ndarray],
    unlabeled: np.ndarray,
    *,
    method: str = "fixmatch",
    steps: int = 600,
    epochs: int = 10,
    batch_size: int = 32,
    ratio: int = 2,
    weak: Callable | None = None,
    strong: Callable | None = None,
    threshold: float = 0.95,
    weight: float | None = None,
    momentum: float = 0.99,
    rounds: int = 2,
    learning_rate: str | float = 1e-3,
    optimizer: str = "adamw",
    ema: str | float | None = "auto",
    seed: int = 0,
    run: str | Path | runs.Run | None = None,
    resume: bool = False,
    progress: bool = True,
    precision: str = "auto",
    devices: Any = "auto",
    max_seconds: float | None = None,
) -> SemiSupervised:
    """Trains ``model`` on labeled and unlabeled images together.

    ``"fixmatch"``: what the network says of a weak view, if it is sure, is the label of a strong view of the same case.
    ``"mean_teacher"``: the network must say of the strong view what its own running mean says of the weak one.
    ``"pseudo_label"``: trained on the labeled ones, it labels the others it is sure of, and is trained on both
    (Lee 2013), ``rounds`` times. No validation set is asked for: where labels are few, they are for training, and the
    running mean of the weights at the end is kept.

    Args:
        model: a functional classifier with logits, (n, 1) or (n, classes); trained in place, from the weights it has.
        labeled: x (n, i, j[, k], c) and y (n,) class indices, of every class at least one.
        unlabeled: (m, i, j[, k], c); the labeled images may stand among them.
        method: ``"fixmatch"``, ``"mean_teacher"`` or ``"pseudo_label"``.
        steps: of the weights in all; for pseudo-labels in each round, and as many before.
        epochs: parts that they are shown in, or the nearest number that divides ``steps``; none of them is a round
            through the images.
        batch_size: labeled images a step.
        ratio: unlabeled images for each labeled one in a step.
        weak: ``augment(x, keys=keys) -> (x, mask)`` for labeled images and weak views; None: small movements
            (:func:`medlab.augment.policy`), nothing mirrored.
        strong: the same for strong views; None: the same movements further, with contrast, gamma and noise.
        threshold: probability from which an answer is taken as a label; above 1 / classes and at most 1.
        weight: of the unlabeled loss; None: 1, for the mean teacher 10, each risen to within the first third.
        momentum: of the mean teacher's running mean.
        rounds: of pseudo-labels.
        learning_rate: as :func:`medlab.train.fit`.
        optimizer: as there.
        ema: as there.
        seed: as there.
        run: as there; of pseudo-labels a folder ``round0``, ``round1``, ... each.
        resume: as there.
        progress: as there.
        precision: as there.
        devices: as there.
        max_seconds: as there, for all rounds together.

    Raises:
        ValueError: an unknown method, no unlabeled image or constant ones, other shapes, NaN, a class without a label,
            a threshold that every answer would pass, a momentum or weight out of range, a model without logits; as
            ``fit``.

    Warns:
        UserWarning: pseudo-labels where the model is sure of no image; images of different units.
    """
    (x, y), others = _check(
        model, labeled, unlabeled, method, threshold, momentum, weight, steps=steps, epochs=epochs, ratio=ratio,
        rounds=rounds, batch_size=batch_size,
    )  # fmt: skip
    shape = tuple(x.shape[1:])
    weak, strong = weak or _policy(len(shape) - 1, seed, 1.0), strong or _policy(len(shape) - 1, seed, 2.0)
    shared = {
        "learning_rate": learning_rate, "optimizer": optimizer, "ema": ema, "seed": seed, "resume": resume,
        "progress": progress, "precision": precision, "devices": devices,
    }  # fmt: skip
    if method == "pseudo_label":
        fits = in_rounds(
            model, (x, y), others, weak, steps, epochs, batch_size, threshold, rounds, run, max_seconds, shared
        )
    else:
        teacher = method == "mean_teacher"
        network = consistency.together(model, shape, ratio, momentum=momentum if teacher else None)
        weight = (10.0 if teacher else 1.0) if weight is None else weight
        loss = consistency.Consistent(ratio, weight=weight, threshold=None if teacher else threshold)
        epochs = parts_of(steps, epochs)
        data = Beside(
            (x, y), others, weak, strong, batch_size=batch_size, ratio=ratio, steps=steps // epochs, ramp=epochs / 3,
            seed=seed,
        )  # fmt: skip
        fits = [
            fitting.fit(
                network, data, epochs=epochs, loss=loss, run=run, max_seconds=max_seconds, saved=model, **shared
            )
        ]
    p = probabilities_of(model, others)
    last = fits[-1]
    history = pd.concat(
        [one.history.assign(round=number) for number, one in enumerate(fits)], ignore_index=True
    ) if method == "pseudo_label" else last.history  # fmt: skip
    said = {
        "fixmatch": f"strong views learn what weak views say where the probability is at least {threshold:g}",
        "mean_teacher": f"views agree with the running mean of the weights (momentum {momentum:g})",
        "pseudo_label": f"{rounds} rounds on its own answers of at least {threshold:g}",
    }[method]
    choices = {"method": f"{method}: {said}", "labels": f"{len(y)}, beside {len(others)} images without"}
    choices |= last.choices
    return SemiSupervised(
        model, history, p, p.max(axis=1) >= threshold, sum(one.seconds for one in fits), choices, last.stopped,
        fits[0].run if method != "pseudo_label" else None,
    )  # fmt: skip


def _policy(rank: int, seed: int, much: float) -> Callable:
    """Movements and intensities, twice as far for strong views; chosen, and nothing of it mirrors."""
    from medlab import augment

    return augment.policy(
        "gentle", rank=rank, seed=seed, flip=(), rotation=10.0 * much, scale=0.12 * much, translation=0.06 * much,
        brightness=0.25 * much, contrast=0.25 * much, gamma=0.2 * much, noise=0.1 * (much - 1),
    )  # fmt: skip


def _check(
    model: Any,
    labeled: Any,
    unlabeled: Any,
    method: str,
    threshold: float,
    momentum: float,
    weight: float | None,
    **counts: int,
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    if method not in METHODS:
        raise ValueError(f"Expected method to be one of {METHODS}. Received {method!r}.")
    for name, value in counts.items():
        if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
            raise ValueError(f"Expected {name} as a whole number of at least 1. Received {value!r}.")
    x, y = received.check(labeled, model, name="labeled")
    shape = model.output_shape
    if len(shape) != 2 or model.name.endswith("_multi_label"):
        raise ValueError(
            f"Expected a classifier of one class a case, with logits (n, classes). {model.name!r} gives {shape}."
        )
    ends = final_activation(model)
    if ends != "linear":
        raise ValueError(f"Expected a model with logits. {model.name!r} ends in {ends}: leave it away.")
    classes = max(2, shape[-1])
    y = classes_of(y, classes)
    others = received.alone(unlabeled)
    if not others.ndim or not len(others) or others.shape[1:] != x.shape[1:]:
        raise ValueError(
            f"Expected at least one unlabeled image of shape {x.shape[1:]}. Received {others.shape}; without any, "
            "medlab.train.fit trains on the labeled ones."
        )
    if others.dtype.kind not in "biuf" or not np.isfinite(others).all():
        raise ValueError("Unlabeled images hold NaN, infinity or no numbers. Find them with medlab.clean.faults.")
    received.check_differing(others)
    known, unknown = (float(np.asarray(part, np.float32).std()) for part in (x, others))
    if max(known, unknown) > 10 * min(known, unknown) > 0:
        warnings.warn(
            f"Labeled images have a deviation of {known:.3g}, unlabeled ones of {unknown:.3g}: in other units, it "
            "seems. Standardize both in the same way (medlab.batches.arrays).",
            UserWarning, stacklevel=3,
        )  # fmt: skip
    wishes.check_reals(threshold=threshold, momentum=momentum, weight=weight)
    if not 0 <= momentum < 1:
        raise ValueError(f"Expected momentum from 0 to below 1. Received {momentum!r}.")
    if weight is not None and not (np.isfinite(weight) and weight >= 0):
        raise ValueError(f"Expected weight of 0 or above, or None. Received {weight!r}.")
    if not 1 / classes < threshold <= 1:
        raise ValueError(
            f"Expected threshold above 1/{classes}, which every answer reaches, and at most 1. Received {threshold!r}."
        )
    return (x, y), others
