"""Pretraining: a network learns to see from images without labels, before it is shown the few that have them.

In: a Keras network and images. Out: the same network with trained weights up to its features.
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
from medlab.train.unlabeled import tasks
from medlab.train.unlabeled.heads import as_functional, outputs_of
from medlab.train.unlabeled.views import Views

TASKS = ("masked", "simclr", "byol")
_COLLAPSED = 0.1
"""Codes whose spread is below this are nearly alike for all images; chosen."""


@dataclass(frozen=True, eq=False)
class Pretraining:
    """A finished pretraining.

    Attributes:
        model: the model given; its weights up to ``layer`` are trained, its last layer is as it was.
        network: what was trained around it: the masked autoencoder, or the projector of the views.
        history: one row an epoch: epoch, loss, learning_rate, seconds; what needs validation cases is NaN.
        layer: the layer whose output the task trained.
        spread: how far the codes of different images point apart, 0 (all alike: collapsed) to 1
            (:func:`spread_of`); NaN for ``"masked"``, which cannot collapse.
        seconds: wall time of this call's epochs.
        choices: one line each.
        stopped: why it ended before the last epoch, or None.
        run: its run folder, or None.
    """

    model: keras.Model
    network: keras.Model
    history: pd.DataFrame
    layer: str
    spread: float
    seconds: float
    choices: dict[str, str] = field(repr=False)
    stopped: str | None = None
    run: runs.Run | None = None


def pretrain(
    model: keras.Model,
    x: np.ndarray,
    *,
    task: str = "simclr",
    epochs: int = 20,
    batch_size: int = 128,
    augment: Callable | None = None,
    layer: str | None = None,
    hidden: float = 0.6,
    patch: int | None = None,
    temperature: float = 0.5,
    momentum: float = 0.99,
    width: int = 64,
    learning_rate: str | float = 1e-3,
    optimizer: str = "adamw",
    seed: int = 0,
    run: str | Path | runs.Run | None = None,
    resume: bool = False,
    progress: bool = True,
    precision: str = "auto",
    devices: Any = "auto",
    max_seconds: float | None = None,
) -> Pretraining:
    """Trains ``model`` up to its features on images without labels.

    ``"masked"`` hides patches and fills them in: it needs no views and works with small batches. ``"simclr"`` compares
    two views of a case with those of all others in its batch. ``"byol"`` compares them with a slower copy of the
    network, without others. What the views change is what the features no longer tell: rotations, contrast and noise
    of the modality's policy, never what a diagnosis may rest on.

    Args:
        model: a classifier such as ``medlab.models.small_cnn`` makes, functional or Sequential, trained in place.
        x: (n, i, j[, k], c) standardized images, at least 2; for ``"masked"`` 1.
        task: ``"masked"``, ``"simclr"`` or ``"byol"``.
        epochs: how often every image is seen.
        batch_size: cases a step; fewer where there are fewer.
        augment: what makes a view, ``augment(x, keys=keys) -> (x, mask)``; None: rotation by 15 degrees, scale by
            1.3, shift by a tenth, brightness, contrast, gamma and noise (:func:`medlab.augment.policy`), nothing
            mirrored; for ``"masked"`` the images as they are.
        layer: where the features are; None: ``features``, or what the last dense layer is given. For ``"masked"`` the
            map or tokens before it: the last layer of spatial shape.
        hidden: share of the patches that ``"masked"`` hides.
        patch: their side in pixels; None: a seventh of the shortest side.
        temperature: of ``"simclr"``, above 0.
        momentum: of the slower copy of ``"byol"``, from 0 to below 1.
        width: of the codes that are compared.
        learning_rate: as :func:`medlab.train.fit`.
        optimizer: as there.
        seed: as there.
        run: as there; ``model.keras`` is ``model`` itself.
        resume: as there.
        progress: as there: one line an epoch; in Jupyter a bar with the curve and a stop button.
        precision: as there.
        devices: as there.
        max_seconds: as there.

    Returns:
        The pretraining. Then :func:`medlab.train.linear_probe` or :func:`medlab.train.fit` with the labels.

    Raises:
        ValueError: an unknown task, images that are all the same or constant, fewer images or a smaller batch than
            the task compares, a network without such a layer; as ``fit``.
    """
    x = received.alone(x)
    whole = as_functional(model)
    _check(whole, x, task, batch_size, epochs, temperature=temperature, momentum=momentum, width=width)
    shape = tuple(x.shape[1:])
    code = _output(whole, layer, spatial=task == "masked")
    encoder = keras.Model(whole.input, code, name="encoder")
    if task == "masked":
        made = tasks.masked(_filling(encoder, shape, hidden, patch, seed), hidden)
        changes = [augment]
    else:
        make = tasks.simclr if task == "simclr" else tasks.byol
        made = make(encoder, shape, int(width), temperature if task == "simclr" else momentum)
        view = augment or _views(len(shape) - 1, seed)
        changes = [view, view]
    data = Views(x, changes, batch_size=batch_size, seed=seed, target=task == "masked")
    fit = fitting.fit(
        made.network, data, epochs=epochs, loss=made.loss, learning_rate=learning_rate, optimizer=optimizer, seed=seed,
        run=run, resume=resume, progress=progress, precision=precision, devices=devices, max_seconds=max_seconds,
        ema=None, saved=model,
    )  # fmt: skip
    spread = np.nan if task == "masked" else spread_of(made.network, x[:: max(1, len(x) // 256)])
    if spread < _COLLAPSED:
        warnings.warn(
            f"The codes of different images are nearly the same (spread {spread:.3f} of 1): {task} has collapsed. "
            "Take more or other images, stronger views (augment=...), a smaller learning rate, or task='masked'.",
            UserWarning, stacklevel=2,
        )  # fmt: skip
    name = code._keras_history.operation.name
    choices = {"task": made.reason, **fit.choices}
    return Pretraining(
        model, made.network, fit.history, name, spread, fit.seconds, choices, fit.stopped, fit.run
    )  # fmt: skip


def spread_of(network: keras.Model, x: np.ndarray) -> float:
    """How far the codes of different images point apart: 0 where all are alike, 1 as far as they can.

    The standard deviation of each value of the codes, scaled to length 1, over images, times the root of their number
    (Chen and He 2021, figure 2).

    Args:
        network: what :mod:`medlab.train.unlabeled.tasks` makes, from (n, 2, i, j[, k], c) to codes (n, ..., width).
        x: (n, i, j[, k], c).
    """
    codes = outputs_of(network, np.broadcast_to(x[:, None], (len(x), 2, *x.shape[1:])))[:, -1].astype(np.float64)
    length = np.linalg.norm(codes, axis=1, keepdims=True)
    units = codes / np.where(length > 0, length, 1.0)
    return float(units.std(axis=0).mean() * np.sqrt(codes.shape[1]))


def _filling(encoder: keras.Model, shape: tuple[int, ...], hidden: float, patch: int | None, seed: int) -> keras.Model:
    from medlab import models

    return models.masked_autoencoder(shape, encoder=encoder, hidden=hidden, patch=patch, seed=seed)


def _views(rank: int, seed: int) -> Callable:
    """What two views differ by where nothing is asked for; chosen, and nothing of it mirrors."""
    from medlab import augment

    return augment.policy(
        "gentle", rank=rank, seed=seed, flip=(), rotation=15.0, scale=0.3, translation=0.1, brightness=0.5,
        contrast=0.5, gamma=0.4, noise=0.2,
    )  # fmt: skip


def _output(model: keras.Model, layer: str | None, *, spatial: bool) -> Any:
    """The tensor that is trained: of ``layer``, or the features, or the last map before them."""
    if layer is not None:
        try:
            return model.get_layer(layer).output
        except ValueError:
            names = ", ".join(one.name for one in model.layers[-8:])
            raise ValueError(f"{model.name!r} has no layer {layer!r}. Its last ones are {names}.") from None
    outputs = [one.output for one in model.layers if not isinstance(getattr(one, "output", None), list | tuple | None)]
    if spatial:
        deep = [one for one in outputs if len(one.shape) == len(model.input_shape) and None not in one.shape[1:-1]]
        tokens = [one for one in outputs if len(one.shape) == 3]
        found = tokens if tokens and len(model.input_shape) > 3 else deep
        if found and found[-1] is not model.input:
            return found[-1]
    else:
        dense = [one for one in model.layers if isinstance(one, keras.layers.Dense)]
        if "features" in [one.name for one in model.layers]:
            return model.get_layer("features").output
        if dense:
            return dense[-1].input
    raise ValueError(
        f"{model.name!r} does not say where its features are: give layer=... the name of "
        + ("a layer that gives a map (n, i, j[, k], width)." if spatial else "the layer before its last one.")
    )


def _check(model: Any, x: np.ndarray, task: str, batch_size: int, epochs: int, **numbers: float) -> None:
    if task not in TASKS:
        raise ValueError(f"Expected task to be one of {TASKS}. Received {task!r}.")
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise ValueError(
            f"Expected a functional Keras model. Received {model!r}; medlab.models.make makes one by name."
        )
    if x.ndim < 4 or x.dtype.kind not in "biuf" or tuple(x.shape[1:]) != tuple(model.input_shape[1:]):
        raise ValueError(
            f"The model takes images of shape {('n', *model.input_shape[1:])}. Received {x.dtype} of shape {x.shape}."
        )
    if not np.isfinite(x).all():
        raise ValueError("Images hold NaN or infinity. Find them with medlab.clean.faults, mend them or drop them.")
    least = 1 if task == "masked" else 2
    for name, value in (("batch_size", batch_size), ("images", len(x))):
        if isinstance(value, bool) or not hasattr(value, "__index__") or value < least:
            why = "" if task == "masked" else f": {task} compares cases with one another"
            raise ValueError(f"Expected {name} of at least {least} for {task}{why}. Received {value!r}.")
    received.check_differing(x)
    wishes.check_reals(temperature=numbers["temperature"], momentum=numbers["momentum"])
    if not numbers["temperature"] > 0:
        raise ValueError(f"Expected temperature above 0. Received {numbers['temperature']!r}.")
    if not 0 <= numbers["momentum"] < 1:
        raise ValueError(f"Expected momentum from 0 to below 1. Received {numbers['momentum']!r}.")
    if task == "masked" and (abs(x.mean()) > 3 or x.std() > 10):
        warnings.warn(
            f"The images have a mean of {x.mean():.3g} and a deviation of {x.std():.3g}: what is hidden is shown as 0, "
            "the mean of standardized images. Standardize them (medlab.standardize, medlab.batches.arrays).",
            UserWarning, stacklevel=3,
        )  # fmt: skip
    if isinstance(numbers["width"], bool) or not hasattr(numbers["width"], "__index__") or numbers["width"] < 1:
        raise ValueError(f"Expected width as a whole number of at least 1. Received {numbers['width']!r}.")
