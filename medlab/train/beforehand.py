"""Beforehand: what several trainings will be given, checked before the first of them.

In: a model, data, settings of ``fit``. Out: the objective, or an error that fit would only raise later.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from medlab.backend import keras
from medlab.train import feed, fitting, losses, optimize, received, schedules, supervision, wishes


def check(
    model: keras.Model, train: Any, validation: Any, judged: Mapping[str, Any], settings: Mapping[str, Any]
) -> losses.Objective:
    """The objective of the trainings, after checks of all data and settings.

    Args:
        model: one of the models.
        train: as :func:`medlab.train.fit` takes it.
        validation: as well.
        judged: other sets, by their names in messages.
        settings: what else fit takes.

    Raises:
        ValueError: what fit would refuse, or labels and images that the models cannot be judged on.
    """
    wish = {**_defaults(), **settings}
    known(settings)
    fitting._check_numbers(epochs=wish["epochs"], batch_size=wish["batch_size"], accumulate=wish["accumulate"])
    data = received.check(train, model, name="training")
    y = feed.labels(data)
    objective = losses.choose(model, y, wish["loss"], label_smoothing=wish["label_smoothing"])
    losses.check_labels(y, objective, whole=not feed.has_masks(data, y))
    for name, one in {"validation": validation, **judged}.items():
        if one is not None:
            _check_set(received.check(one, model, name=name), y, objective, name)
    supervision.levels(model, wish["deep_supervision"], segmentation=objective.task == losses.SEGMENTATION)
    weights, _ = losses.class_weights(y, wish["class_weight"], objective)
    feed.feeds(data, objective, weights, wish["augment"], wish["batch_size"], 0, wish["mix"])
    rate, named = wish["learning_rate"], isinstance(wish["optimizer"], str)
    if named:
        wishes.momentum(wish["ema"], 100, model)
    wishes.patience(wish["patience"], wish["epochs"], validation is not None)
    optimize.make(
        wish["optimizer"], learning_rate="auto" if named and rate == "find" else rate, schedule=wish["schedule"],
        steps=10, batch_size=wish["batch_size"], warmup=wish["warmup"], weight_decay=wish["weight_decay"],
        clip_norm=wish["clip"], accumulation=wish["accumulate"], model=model,
    )  # fmt: skip
    if not named:
        schedules.build(wish["schedule"], 1.0, 10)
    return objective


def known(settings: Mapping[str, Any]) -> None:
    """Refuses what is no setting of fit.

    Raises:
        ValueError: it names what was meant.
    """
    names = list(_defaults())
    for name in settings:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            raise ValueError(
                f"{name!r} is no setting of medlab.train.fit. It has {', '.join(names)}."
                + (f" Did you mean {near[0]!r}?" if near else "")
            )


def maker(make_model: Callable) -> None:
    """Refuses what makes no models.

    Raises:
        ValueError: a model, or something that cannot be called.
    """
    if isinstance(make_model, keras.Model) or not callable(make_model):
        raise ValueError(
            "Expected make_model, a function that makes a new model for each training, such as "
            f"lambda seed: medlab.models.small_cnn((28, 28, 1), seed=seed). Received {type(make_model).__name__}."
        )


def _defaults() -> dict[str, Any]:
    ours = ("model", "train", "validation")
    return {name: one.default for name, one in inspect.signature(fitting.fit).parameters.items() if name not in ours}


def _check_set(data: Any, y: np.ndarray, objective: losses.Objective, name: str) -> None:
    own, wanted = _flat(feed.labels(data)), _flat(y)
    if own.dtype.kind not in "biuf":
        raise ValueError(
            f"Expected {name} labels of numbers, as in training. Received dtype {own.dtype}. Turn names into the "
            "indices that training has."
        )
    masks = objective.task == losses.SEGMENTATION
    if own.ndim != wanted.ndim or not (masks or own.shape[1:] == wanted.shape[1:]):
        raise ValueError(
            f"Expected {name} labels of shape {('n', *wanted.shape[1:])}, as in training. Received {own.shape}."
        )
    losses.check_labels(own, objective, name=name)


def _flat(y: Any) -> np.ndarray:
    y = np.asarray(y)
    return y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
