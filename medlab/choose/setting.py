"""Setting: what all trainings of an experiment share, checked before the first, and one training of it.

In: data, candidates. Out: trials.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from medlab import augment, runs, train
from medlab.backend import keras
from medlab.choose import options
from medlab.choose.options import Candidate
from medlab.choose.outcome import Trial
from medlab.train import beforehand, feed, folds, parts, progress


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
        said: each candidate's settings in words, as they were before the first training.
        stopped: a sentence, once someone pressed Stop.
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
    said: dict[str, dict[str, str]] = field(default_factory=dict)
    stopped: str = ""

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
    beforehand.known(common)
    _check_sets(training, validation)
    dataset = not isinstance(training, tuple | list)
    first = training[0][0] if dataset else training[0]
    shape, y = tuple(np.shape(first)[1:]), truth(training)
    if y.ndim > 2 or len(shape) not in (3, 4):
        raise ValueError(
            f"Expected images (n, i, j[, k], c) with labels (n,) or (n, classes). Received images of shape {shape} "
            f"and labels {y.shape}. For masks compare settings with train.repeat."
        )
    multi_label = y.ndim == 2 and y.shape[1] > 1
    _check_classes(y, truth(validation))
    classes = y.shape[1] if multi_label else int(y.max()) + 1
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


def _check_sets(training: Any, validation: Any) -> None:
    for name, data in (("training", training), ("validation", validation)):
        dataset = isinstance(data, keras.utils.PyDataset)
        if not dataset and not (isinstance(data, tuple | list) and len(data) == 2):
            raise ValueError(
                f"Expected {name} cases as (x, y) arrays or a keras PyDataset. Received {type(data).__name__}."
            )
        y = truth(data) if not dataset or len(data) else np.empty(0)
        if not y.size:
            why = "nothing can be learned without" if name == "training" else "the choice is made on them"
            raise ValueError(f"Expected {name} cases: {why}. Received none.")
        if y.dtype.kind not in "biuf":
            raise ValueError(
                f"Expected {name} labels of numbers: class indices from 0. Received dtype {y.dtype}, such as "
                f"{y.reshape(-1)[0]!r}. Turn names into indices: numpy.unique(names, return_inverse=True)[1]."
            )
        if y.dtype.kind == "f" and y.ndim == 1 and np.isnan(y).any():
            raise ValueError(f"{int(np.isnan(y).sum())} {name} case(s) have NaN as label. Drop them.")


def _check_classes(y: np.ndarray, held_out: np.ndarray) -> None:
    """Refuses validation labels that training does not have, or that rank nothing."""
    if y.shape[1:] != held_out.shape[1:]:
        raise ValueError(
            f"Expected validation labels of shape {('n', *y.shape[1:])}, as in training. Received {held_out.shape}."
        )
    if y.ndim == 1:
        new = sorted(set(np.unique(held_out).tolist()) - set(np.unique(y).tolist()))
        if new:
            raise ValueError(
                f"Validation has the labels {new}, which training does not have: {np.unique(y).tolist()}. Mend the "
                "labels, or divide the cases anew (medlab.clean.split)."
            )
    if (held_out == held_out[:1]).all():
        raise ValueError(
            f"All {len(held_out)} validation cases have the same label {held_out[0].tolist()}: no AUC is defined, so "
            "that nothing can be ranked. Add validation cases of another class."
        )


def check_groups(groups: Any, count: int) -> None:
    """Refuses patients that are not one for each of ``count`` validation cases.

    Raises:
        ValueError: another number of them, or cases without one.
    """
    if groups is not None and len(folds.numbers(groups)) != count:
        raise ValueError(f"Expected one patient for each of the {count} validation cases. Received {len(groups)}.")


def check(wanted: Sequence[Candidate], shared: Setting) -> dict[str, int]:
    """Makes each network and optimizer once, so that a mistake is found before the first training; their weights."""
    weights = {}
    for one in wanted:
        try:
            maker = one.maker(shared.shape, shared.classes, shared.multi_label)
            beforehand.maker(maker)
            model = parts.new_model(maker, shared.seed)
            settings = {**settings_of(one, shared), "epochs": shared.epochs}
            beforehand.check(model, shared.data, shared.validation, {}, settings)
        except (ValueError, TypeError) as error:
            raise ValueError(f"Candidate {one.name!r}: {error}") from error
        shared.said[one.name] = parts.told(settings)
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
    ours = {"epochs", "ema", "max_seconds"}
    folder = None
    if shared.folder is not None:
        folder = runs.open(shared.folder / f"round-{number + 1}" / f"{_slug(one.name)}-seed-{seed}").path
    part = parts.Part(
        one.maker(shared.shape, shared.classes, shared.multi_label), seed, shared.data, shared.validation,
        {"validation": shared.validation}, settings, folder, f"{shared.key} {one.name}",
        loose=("max_seconds",) if seconds is not None else (), keep_model=keep,
        said={**shared.said[one.name], **parts.told({name: settings[name] for name in ours & set(settings)})},
    )  # fmt: skip
    began = time.perf_counter()
    try:
        made = part.result()
    except (train.DivergedError, train.OutOfMemoryError) as error:
        shared.say(f"  {one.name}: out: {str(error).split('. ')[0]}")
        return Trial(one, number, seed, None, str(error), folder)
    if made.fresh:
        shared.apart.append(max(0.0, time.perf_counter() - began - made.row["seconds"]))
    auc = made.row.get("val_auc", math.nan)
    again = "" if seed == shared.seed else f", seed {seed}"
    shared.say(f"  {one.name}{again}: AUC {auc:.3f}, {made.row['epochs']} epochs, {made.row['seconds']:.1f} s")
    if made.by_hand:
        shared.stopped = f"Stopped by hand in round {number + 1}, in {one.name} (seed {seed})."
    return Trial(one, number, seed, made, None, folder)


def lean(done: Sequence[Trial], *, none: bool = False) -> list[Trial]:
    """The trainings of a round with the model of the best alone, or with none, so that they take less memory."""
    best = None if none else max(done, key=lambda trial: trial.rank)
    return [
        trial if trial is best or trial.outcome is None else replace(trial, outcome=replace(trial.outcome, model=None))
        for trial in done
    ]


def warm_up(seed: int) -> None:
    """A throwaway training, so that the first candidate does not pay for the start of the framework."""
    image = keras.Input((8, 8, 1))
    model = keras.Model(image, keras.layers.Dense(1)(keras.layers.GlobalAveragePooling2D()(image)))
    data = np.zeros((4, 8, 8, 1), np.float32), np.array([0, 1, 0, 1])
    train.fit(model, data, data, epochs=1, seed=seed, progress=False)


def _slug(name: str) -> str:
    return "".join(sign if sign.isalnum() or sign in "._-" else "-" for sign in name)
