"""Rounds: a classifier that is trained on its own answers, where it was sure of them.

In: a classifier, labeled and unlabeled images. Out: one training after another, the last of which it keeps.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from medlab.backend import keras
from medlab.train import checkpoint, fitting, score
from medlab.train.unlabeled.heads import outputs_of
from medlab.train.unlabeled.views import changed, fingerprint, parts_of
from medlab.train.unlabeled.views import rounds as drawn


def in_rounds(
    model: keras.Model, labeled: tuple, others: np.ndarray, weak: Callable, steps: int, epochs: int, batch_size: int,
    threshold: float, rounds: int, run: Any, max_seconds: float | None, shared: dict[str, Any],
) -> list[fitting.Fit]:  # fmt: skip
    """A training on the labeled images, then ``rounds`` on these and the ones that the model was sure of."""
    x, y = labeled
    folder = None if run is None else Path(getattr(run, "path", run))
    start, fits = _start(model, folder, shared["resume"]), []
    left = max_seconds
    for number in range(rounds + 1):
        images, classes = x, y
        if number:
            p = probabilities_of(model, others)
            sure = p.max(axis=1) >= threshold
            if not sure.any():
                warnings.warn(
                    f"No unlabeled image is sure enough: the largest probability is {p.max():.3f}, the threshold "
                    f"{threshold:g}. The training on the labeled ones is kept; take a lower threshold or more steps.",
                    UserWarning, stacklevel=3,
                )  # fmt: skip
                break
            again = copies(len(x), int(sure.sum()))
            images = np.concatenate([x] * again + [others[sure]])
            classes = np.concatenate([y] * again + [p[sure].argmax(axis=1)])
            model.set_weights(start)
        size = min(batch_size, len(images))
        data = _Steps(images, classes, weak, size, steps, parts_of(steps, epochs), shared["seed"])
        part = None if folder is None else folder / f"round{number}"
        budget = None if left is None else left / (rounds + 1 - number)
        fits.append(fitting.fit(model, data, epochs=parts_of(steps, epochs), run=part, max_seconds=budget, **shared))
        if left is not None:
            left = max(left - fits[-1].seconds, 0.01)
        if fits[-1].stopped == "stopped by hand":
            break
    return fits


def _start(model: keras.Model, folder: Path | None, resume: bool) -> list[np.ndarray]:
    """The weights that every round begins with: those of the model, or where a training is resumed, of its begin."""
    weights = [checkpoint.array(one) for one in model.weights]
    if folder is None:
        return weights
    file = folder / "start.npz"
    if resume and file.is_file():
        with np.load(file, allow_pickle=False) as kept:
            found = [kept[name] for name in kept.files]
        if [one.shape for one in found] != [one.shape for one in weights]:
            raise ValueError(f"{folder} is of another network. Give its own, another run folder, or resume=False.")
        model.set_weights(found)
        return found
    for old in folder.glob("round[0-9]*"):  # of an earlier training in this folder: nothing of it is to be resumed
        checkpoint.clear(old)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(file, *weights)
    return weights


def copies(known: int, guessed: int) -> int:
    """How often each labeled case is laid beside ``guessed`` ones, so that they are about as many and not drowned."""
    return max(1, round(guessed / known))


class _Steps(keras.utils.PyDataset):
    """Labeled cases in epochs of a number of steps that their count does not set."""

    def __init__(
        self, x: np.ndarray, y: np.ndarray, change: Callable, size: int, steps: int, epochs: int, seed: int
    ) -> None:
        super().__init__(workers=1)
        self.x, self.y, self.change, self.size, self.seed = x, y, change, size, seed
        self.steps = steps // epochs
        self.fingerprint = fingerprint(x, changes=[change])
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        """Draws the order of ``epoch``."""
        self.epoch, self.order = epoch, drawn(len(self.x), self.steps * self.size, (self.seed, epoch))

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self.order[index * self.size : (index + 1) * self.size]
        key = (self.seed, self.epoch, index)
        return changed(np.asarray(self.x[rows], np.float32), np.arange(self.size), self.change, key), self.y[rows]


def probabilities_of(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """(n, classes) probabilities of images by a model with logits."""
    out = outputs_of(model, x)
    if out.shape[1] == 1:
        out = np.hstack([np.zeros_like(out), out])
    return score.probabilities(out, "multiclass", logits=True)
