"""Setting: what all trainings of an experiment share, checked before the first, and one training of it.

In: data, candidates. Out: trials.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medlab import augment, runs, train
from medlab.backend import keras
from medlab.choose import options
from medlab.choose.options import Candidate
from medlab.choose.outcome import Trial
from medlab.train import feed, losses, optimize, parts, progress, schedules


@dataclass
class Setting:
    """What all trainings of an experiment share.

    Attributes:
        data: training cases.
        validation: validation cases.
        shape: of one image.
        classes: number of classes.
        multi_label: whether a case may have several labels.
        policy: augmentation for candidates that augment.
        common: settings of fit for all.
        seed: of the first training of each candidate.
        folder: run folder, or None.
        key: what tells these data from others.
        shown: whether progress is said.
        epochs: most epochs of a training.
        deadline: when the time is over, or None.
        apart: seconds that trainings took beside their epochs.
    """

    data: tuple
    validation: tuple
    shape: tuple[int, ...]
    classes: int
    multi_label: bool
    policy: Any
    common: dict[str, Any]
    seed: int
    folder: Path | None
    key: str
    shown: bool
    epochs: int
    deadline: float | None
    apart: list[float] = field(default_factory=list)

    def say(self, text: str) -> None:
        """A line of progress."""
        if self.shown:
            progress.say(text)


def prepare(
    training: Any, validation: Any, modality: str | None, common: dict, seed: int, run: Any, shown: bool,
    epochs: int | None, deadline: float | None,
) -> Setting:  # fmt: skip
    """The setting of an experiment's arguments.

    Raises:
        ValueError: data that are no classified images, or settings that are the experiment's own.
    """
    own = sorted(set(common) & set(options._OURS))
    if own:
        raise ValueError(f"{', '.join(own)} cannot be given to all candidates: the experiment decides it.")
    dataset = not isinstance(training, tuple | list)
    first = training[0][0] if dataset else training[0]
    shape, y = tuple(np.shape(first)[1:]), truth(training)
    if y.ndim > 2 or len(shape) not in (3, 4):
        raise ValueError(
            f"Expected images (n, i, j[, k], c) with labels (n,) or (n, classes). Received images of shape {shape} "
            f"and labels {y.shape}. For masks compare settings with train.repeat."
        )
    if not len(truth(validation)):
        raise ValueError("Expected validation cases: the choice is made on them. Received none.")
    multi_label = y.ndim == 2 and y.shape[1] > 1
    classes = y.shape[1] if multi_label else int(max(y.max(), truth(validation).max())) + 1
    policy = None if dataset else augment.policy(modality, rank=len(shape) - 1, seed=seed)
    wanted = train.plan(len(y), shape, max(classes, 2)).epochs if epochs is None else int(epochs)
    folder = None if run is None else runs.open(run).path
    return Setting(
        training, validation, shape, max(classes, 2), multi_label, policy, dict(common), seed, folder,
        parts.data_key(training, validation), shown, wanted, deadline,
    )  # fmt: skip


def truth(data: Any) -> np.ndarray:
    """All labels, (n,) or (n, classes)."""
    y = np.asarray(feed.labels(data))
    return y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y


def check(wanted: Sequence[Candidate], shared: Setting) -> dict[str, int]:
    """Makes each network and optimizer once, so that a mistake is found before the first training; their weights."""
    weights = {}
    for one in wanted:
        try:
            model = parts.new_model(one.maker(shared.shape, shared.classes, shared.multi_label), shared.seed)
            settings = settings_of(one, shared)
            y = feed.labels(shared.data)
            objective = losses.choose(
                model, y, settings.get("loss", "auto"), label_smoothing=settings.get("label_smoothing", 0.0)
            )
            losses.check_labels(y, objective)
            rate = settings.get("learning_rate", "auto")
            optimize.make(
                settings.get("optimizer", "adamw"), learning_rate="auto" if rate == "find" else rate, steps=10
            )
            schedules.build(settings.get("schedule", "cosine"), 1.0, 10)
        except (ValueError, TypeError) as error:
            raise ValueError(f"Candidate {one.name!r}: {error}") from error
        weights[one.name] = model.count_params()
    return weights


def settings_of(one: Candidate, shared: Setting) -> dict[str, Any]:
    """What fit is given: the common settings, the candidate's, and a policy where it augments."""
    settings = {"patience": None, **shared.common, **one.settings}
    wish = settings.get("augment", True)
    if wish is True:
        settings["augment"] = shared.policy
    elif wish is False:
        settings["augment"] = None
    return settings


def trial(
    one: Candidate, number: int, seed: int, shared: Setting, seconds: float | None, length: int, *, keep: bool
) -> Trial:
    """One training; a candidate that diverges or does not fit the memory is out, with the reason."""
    settings = {**settings_of(one, shared), "epochs": length}
    if seconds is not None:
        # A running mean over a share of all epochs would lag behind where the time allows few of them.
        settings = {"ema": None, **settings, "max_seconds": seconds}
    folder = None
    if shared.folder is not None:
        folder = runs.open(shared.folder / f"round-{number + 1}" / f"{_slug(one.name)}-seed-{seed}").path
    part = parts.Part(
        one.maker(shared.shape, shared.classes, shared.multi_label), seed, shared.data, shared.validation,
        {"validation": shared.validation}, settings, folder, f"{shared.key} {one.name}",
        loose=("max_seconds",) if seconds is not None else (), keep_model=keep,
    )  # fmt: skip
    began = time.perf_counter()
    try:
        made = part.result()
    except (train.DivergedError, train.OutOfMemoryError) as error:
        shared.say(f"  {one.name}: out: {str(error).split('. ')[0]}")
        return Trial(one, number, seed, None, str(error), folder)
    if made.model is not None or folder is None:  # trained now and not read
        shared.apart.append(max(0.0, time.perf_counter() - began - made.row["seconds"]))
    auc = made.row.get("val_auc", math.nan)
    again = "" if seed == shared.seed else f", seed {seed}"
    shared.say(f"  {one.name}{again}: AUC {auc:.3f}, {made.row['epochs']} epochs, {made.row['seconds']:.1f} s")
    return Trial(one, number, seed, made, None, folder)


def warm_up(seed: int) -> None:
    """A throwaway training, so that the first candidate does not pay for the start of the framework."""
    image = keras.Input((8, 8, 1))
    model = keras.Model(image, keras.layers.Dense(1)(keras.layers.GlobalAveragePooling2D()(image)))
    data = np.zeros((4, 8, 8, 1), np.float32), np.array([0, 1, 0, 1])
    train.fit(model, data, data, epochs=1, seed=seed, progress=False)


def _slug(name: str) -> str:
    return "".join(sign if sign.isalnum() or sign in "._-" else "-" for sign in name)
