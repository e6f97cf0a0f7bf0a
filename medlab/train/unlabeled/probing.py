"""Probing: what a network's features are worth, read off by one linear layer.

In: a network and labeled images. Out: the same network, its last layer fitted to its features and nothing else changed.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass

import numpy as np

from medlab.backend import keras
from medlab.train import labels, received
from medlab.train.unlabeled.heads import as_functional, last_dense, outputs_of

STRENGTHS = tuple(10.0**power for power in range(-4, 3))
"""The inverse penalties that are tried."""


@dataclass(frozen=True, eq=False)
class Probe:
    """A fitted last layer.

    Attributes:
        model: the model given; only its last layer has changed.
        strength: the inverse of the penalty, scikit-learn's C.
        reason: how it was chosen, in one line.
        seconds: wall time.
    """

    model: keras.Model
    strength: float
    reason: str
    seconds: float


def linear_probe(
    model: keras.Model,
    train: tuple[np.ndarray, np.ndarray],
    *,
    strength: float | None = None,
    class_weight: str | None = None,
    seed: int = 0,
) -> Probe:
    """Fits the last layer of ``model`` by logistic regression on what it is given, and leaves the rest as it is.

    The standard measure of features that were learned without labels, and the better start of fine-tuning: a random
    last layer would first pull the features apart (Kumar et al. 2022).

    Args:
        model: a functional or Sequential classifier of one class a case that ends in a ``Dense`` layer, with or without
            sigmoid or softmax.
        train: x (n, i, j[, k], c) and y (n,) class indices, of every class at least one.
        strength: the inverse of the L2 penalty on standardized features; None: the one of 1e-4 to 100 with the least
            log loss in cross-validation by cases, of up to 5 parts; 0.01 where a class has a single case.
        class_weight: ``"balanced"`` or None.
        seed: of the parts.

    Raises:
        ValueError: labels that are not class indices, a class without a case, a model that does not end in ``Dense`` or
            knows several labels a case.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    began = time.perf_counter()
    x, y = received.check(train, model, name="training")
    last, ends = last_dense(model)
    if model.name.endswith("_multi_label") or (ends == "sigmoid" and last.units > 1):
        raise ValueError(f"Expected a classifier of one class a case. {model.name!r} has several labels a case.")
    classes = max(2, last.units)
    y = classes_of(y, classes)
    if class_weight not in (None, "balanced"):
        raise ValueError(f'Expected class_weight "balanced" or None. Received {class_weight!r}.')
    real = isinstance(strength, int | float | np.number) and not isinstance(strength, bool)
    if strength is not None and not (real and strength > 0):
        raise ValueError(f"Expected strength above 0, or None. Received {strength!r}.")
    features = outputs_of(keras.Model(as_functional(model).input, last.input), x).astype(np.float64)
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    if not last.use_bias:  # what cannot be shifted is not centered, and the plane goes through 0
        mean, deviation = np.zeros_like(mean), np.sqrt(np.mean(features**2, axis=0))
    deviation = np.where(deviation > 1e-6 * (1 + np.abs(mean)), deviation, 1.0)
    standard = (features - mean) / deviation
    least = int(np.bincount(y, minlength=classes).min())
    regression = LogisticRegression(max_iter=1000, class_weight=class_weight, fit_intercept=last.use_bias)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if strength is None and least > 1:
            parts = StratifiedKFold(min(5, least), shuffle=True, random_state=seed)
            grid = GridSearchCV(regression, {"C": STRENGTHS}, scoring="neg_log_loss", cv=parts).fit(standard, y)
            fitted, strength = grid.best_estimator_, float(grid.best_params_["C"])
            reason = f"C = {strength:g}: the least log loss in cross-validation of {parts.get_n_splits()} parts"
        else:
            reason = "as given" if strength else "C = 0.01: a class has a single case, so none could be left out"
            strength = float(strength or 0.01)
            fitted = regression.set_params(C=strength).fit(standard, y)
    kernel, bias = fitted.coef_.T / deviation[:, None], fitted.intercept_ - (fitted.coef_ / deviation) @ mean
    if last.units == 2 and kernel.shape[1] == 1:
        kernel, bias = np.hstack([-kernel, kernel]) / 2, np.concatenate([-bias, bias]) / 2
    last.set_weights([kernel.astype(np.float32), bias.astype(np.float32)][: 2 if last.use_bias else 1])
    return Probe(model, strength, reason, time.perf_counter() - began)


def classes_of(y: np.ndarray, classes: int) -> np.ndarray:
    """Class indices (n,), every class with at least one case.

    Raises:
        ValueError: anything else, with what is missing.
    """
    y = labels.indices(np.asarray(y)) if np.ndim(y) == 2 and labels.is_one_hot(np.asarray(y)) else np.asarray(y)
    whole = y.ndim == 1 and y.dtype.kind in "biuf" and np.isfinite(y).all() and not np.any(y != np.floor(y))
    if not whole or (len(y) and (y.min() < 0 or y.max() >= classes)):
        some = ", ".join(map(str, np.unique(y.astype(str))[:5])) if y.ndim == 1 else f"shape {y.shape}"
        hint = ""
        if y.dtype.kind in "if" and not np.all(y >= 0):  # -1 or NaN, as others mark cases without a label
            hint = " Leave cases without a label out; fit_semisupervised takes their images as unlabeled."
        raise ValueError(
            f"Expected labels (n,) as class indices 0 to {classes - 1}. Received {y.dtype} such as {some}.{hint}"
        )
    counts = np.bincount(y.astype(int), minlength=classes)
    if not counts.all():
        absent = np.flatnonzero(counts == 0).tolist()
        raise ValueError(
            f"Expected at least one labeled case of each of {classes} classes. Received {len(y)} labels with none of "
            f"class {', '.join(map(str, absent))}: label one, or leave the class out of the model."
        )
    return y.astype(int)
