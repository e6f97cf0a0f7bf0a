"""Scoring: one score of one method at a time, from what all scores of a table share.

In: a question, masks, other models. Out: one number a case, (n,).
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.backend import keras
from medlab.explain.asking.question import Question
from medlab.explain.checks import alike, curves, faithful, localize, removal, robust, sanity
from medlab.explain.maps.guided import SanityWarning
from medlab.explain.maps.methods import Method

Values = NDArray[np.float64]

LOCALIZATION = ("pointing_game", "mass_inside", "iou", "pixel_auprc")
CHEAP = (*LOCALIZATION, "deletion", "insertion", "sparseness", "randomization")
COSTLY = ("road", "infidelity", "mu_fidelity", "max_sensitivity", "cascade", "seconds")
WITH_MODELS = ("label_randomization", "repeatability", "reproducibility")
SCORES = (*LOCALIZATION, "deletion", "insertion", "road", "infidelity", "mu_fidelity", "sparseness", "max_sensitivity",
          "randomization", "cascade", *WITH_MODELS, "seconds")  # fmt: skip


@dataclass
class Work:
    """What every score of one table is made from."""

    question: Question
    x: ArrayLike
    masks: NDArray[np.bool_] | None
    steps: int
    seed: int
    blank: keras.Model | None = None
    models: dict[str, list[keras.Model]] = field(default_factory=dict)

    @cached_property
    def patches(self) -> faithful.Regions:
        """Covered once, for the maps of all methods."""
        return faithful.patches(self.question, seed=self.seed)

    @cached_property
    def subsets(self) -> faithful.Regions:
        """As :attr:`patches`, for mu-fidelity."""
        return faithful.subsets(self.question, seed=self.seed)

    @property
    def options(self) -> dict[str, Any]:
        """What every method is given."""
        return {"target": self.question.target, "batch_size": self.question.batch_size}

    def mapped(self, model: keras.Model, method: Method) -> NDArray[np.float32]:
        """The heat maps of ``method`` for the classes that the scored model predicts."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SanityWarning)  # here it is measured
            return np.asarray(method(model, self.x, **self.options), np.float32)

    def of_heat(self, title: str, heat: NDArray) -> Values | None:
        """The score ``title`` of heat maps, (n,); None where it is one of methods and not of maps."""
        if title in LOCALIZATION:
            return getattr(localize, title)(heat, self.masks)
        question, seed = self.question, self.seed
        rules: dict[str, Callable[[], Values]] = {
            "deletion": lambda: curves.curve_of(question, heat, "deletion", self.steps, "mean", seed).auc,
            "insertion": lambda: curves.curve_of(question, heat, "insertion", self.steps, "blur", seed).auc,
            "road": lambda: removal.road_of(question, heat, seed=seed).gap,
            "infidelity": lambda: faithful.infidelity_of(self.patches, heat),
            "mu_fidelity": lambda: faithful.mu_fidelity_of(self.subsets, heat),
            "sparseness": lambda: robust.sparseness(heat),
        }
        return rules[title]() if title in rules else None

    def of_method(self, title: str, method: Method, heat: NDArray) -> Values:
        """The score ``title`` of a method, (n,), whose maps for the scored model are ``heat``."""
        model, n = self.question.model, len(self.question)
        if title == "randomization":
            return self._alike(heat, [self.blank] if self.blank is not None else [], method, "rank")
        if title == "label_randomization":
            return self._alike(heat, self.models[title], method, "rank")
        if title in self.models:
            return self._alike(heat, self.models[title], method, "ssim")
        if title == "cascade":
            with contextlib.suppress(sanity.CopyError):
                steps = sanity.cascade(model, self.x, method, seed=self.seed, **self.options).alike
                return steps.mean(axis=1)
            return np.full(n, np.nan)
        if title == "max_sensitivity":
            return robust.sensitivity_of(self.question, self.x, method, heat, seed=self.seed, options=self.options)
        start = time.perf_counter()
        self.mapped(model, method)
        return np.full(n, (time.perf_counter() - start) / n)

    def _alike(self, heat: NDArray, models: list[keras.Model], method: Method, measure: alike.Measure) -> Values:
        """The likeness of ``heat`` and the maps of other models, averaged over the models; NaN without a model."""
        if not models:
            return np.full(len(heat), np.nan)
        return np.mean([alike.likeness(heat, self.mapped(one, method), measure) for one in models], axis=0)
