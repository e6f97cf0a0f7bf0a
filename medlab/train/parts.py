"""Parts: one of several trainings that belong together, from its model to its probabilities.

In: a function that makes the model, data, settings. Out: a row of numbers and the probabilities of the cases it is
judged on; what is finished in a run folder is read from there.
"""

from __future__ import annotations

import contextlib
import gc
import inspect
import json
import logging
import weakref
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medlab import runs
from medlab.backend import keras
from medlab.train import feed, fitting, identity, labels, losses, received, score
from medlab.train.keeper import BY_HAND

PREFIX = {"validation": "val_", "test": "test_"}
JUDGED = (losses.BINARY, losses.MULTICLASS, losses.MULTILABEL)
_MADE: weakref.WeakSet = weakref.WeakSet()
"""Models that were made for trainings and are still alive."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a training gave.

    Attributes:
        row: the validation values of the epoch that was kept, test_auc and test_accuracy, best_epoch, epochs, seconds.
        probabilities: of each judged set, by its name: (n,) for a binary task, else (n, classes).
        history: one row an epoch.
        choices: what fit chose, one line each.
        stopped: why it ended early, or None.
        model: the trained model where it was asked for and trained now.
        fresh: whether it was trained now and not read.
    """

    row: dict[str, Any]
    probabilities: dict[str, np.ndarray]
    history: pd.DataFrame
    choices: dict[str, str]
    stopped: str | None = None
    model: keras.Model | None = None
    fresh: bool = False

    @property
    def by_hand(self) -> bool:
        """Whether someone pressed Stop, so that no further training should begin."""
        return self.stopped == BY_HAND


@dataclass
class Part:
    """One training and what is judged by it; read from its folder where it is finished there.

    Attributes:
        make_model: as :func:`medlab.train.repeat` takes it.
        seed: of weights and order.
        train: as fit takes it.
        validation: as fit takes it.
        judged: sets to predict, by the names in ``PREFIX``.
        settings: what else fit takes.
        folder: its run folder, or None.
        data: what tells these data from others.
        loose: settings that may be others when it is read again; such a training does not go on where it was
            interrupted but begins anew.
        keep_model: whether the outcome holds the model.
        said: the settings in words, where they were put into words before the first training.
    """

    make_model: Callable[..., keras.Model]
    seed: int
    train: Any
    validation: Any
    judged: Mapping[str, Any]
    settings: Mapping[str, Any]
    folder: Path | None
    data: str
    loose: tuple[str, ...] = ()
    keep_model: bool = False
    said: Mapping[str, str] | None = None

    def result(self) -> Outcome:
        """What the training gave: done now, or read from its folder.

        Raises:
            ValueError: the folder holds one of another model, other data or settings; as fit.
        """
        said = told(self.settings) if self.said is None else self.said
        asked = {"data": self.data, "seed": self.seed, **{n: one for n, one in said.items() if n not in self.loose}}
        model = new_model(self.make_model, self.seed)
        asked |= identity.of_model(model)
        kept = self._kept(asked)
        if kept is not None:
            return kept
        self._begin(asked)
        made = self._train(model)
        del model
        gc.collect()
        # What was stopped by hand is not finished: fit goes on with it the next time.
        if self.folder is not None and not made.by_hand:
            with (self.folder / "part.npz.part").open("wb") as stream:
                np.savez(stream, **made.probabilities)
            (self.folder / "part.npz.part").replace(self.folder / "part.npz")
            history = made.history.to_dict("records")
            facts = {"row": made.row, "history": history, "choices": made.choices, "stopped": made.stopped}
            text = json.dumps({"asked": asked, **runs.plain(facts)})
            (self.folder / "part.json.part").write_text(text, encoding="utf-8")
            (self.folder / "part.json.part").replace(self.folder / "part.json")
        return made

    def _begin(self, asked: dict[str, Any]) -> None:
        """Notes what was asked for; an interrupted training goes on with the same alone."""
        if self.folder is None or self.loose:
            return
        note = self.folder / "begun.json"
        if note.is_file() and (self.folder / "last.npz").is_file():
            self._compare(json.loads(note.read_text(encoding="utf-8")), asked, "interrupted")
        note.write_text(json.dumps(asked), encoding="utf-8")

    def _compare(self, before: dict[str, Any], asked: dict[str, Any], state: str) -> None:
        other = [name for name in sorted({*before, *asked}) if before.get(name) != asked.get(name)]
        if "start weights" in other and self._starts_alike(before.get("start weights"), asked["start weights"]):
            other.remove("start weights")
        if "model" in other and "start weights" in other:
            other.remove("start weights")
        if other:
            names = ["model (its start weights)" if name == "start weights" else name for name in other]
            raise ValueError(
                f"The {state} training in {self.folder} had other {', '.join(names)}. Give the same, another run "
                "folder, or delete this one."
            )

    def _starts_alike(self, before: Any, now: Any) -> bool:
        """Also where the start follows from no seed, so that it cannot be compared."""
        if identity.same_start(before, now):
            return True
        again = identity.of_model(new_model(self.make_model, self.seed))["start weights"]
        return not identity.same_start(again, now)

    def _kept(self, asked: dict[str, Any]) -> Outcome | None:
        note = None if self.folder is None else self.folder / "part.json"
        if note is None or not note.is_file():
            return None
        content = json.loads(note.read_text(encoding="utf-8"))
        self._compare(content["asked"], asked, "finished")
        with np.load(self.folder / "part.npz", allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        row = {name: np.nan if value is None else value for name, value in content["row"].items()}
        history = pd.DataFrame(content["history"]).astype(float).astype({"epoch": int})
        return Outcome(row, arrays, history, content["choices"], content["stopped"])

    def _train(self, model: keras.Model) -> Outcome:
        folder = {} if self.folder is None else {"run": self.folder, "resume": not self.loose}
        with _without_retracing_warnings():
            fit = fitting.fit(
                model, self.train, self.validation, **{**self.settings, "seed": self.seed, "progress": False, **folder}
            )  # fmt: skip
        best = fit.history.iloc[fit.best_epoch - 1]
        row = {name: float(best[name]) for name in fit.history if name.startswith("val_") and not np.isnan(best[name])}
        objective = losses.choose(fit.model, feed.labels(self.train), self.settings.get("loss", "auto"))
        arrays = {}
        for name, data in self.judged.items() if objective.task in JUDGED else ():
            y, arrays[name] = predictions(fit.model, data, objective, self.settings.get("batch_size", 32), name)
            row |= scores(y, arrays[name], PREFIX[name])
        row |= {"best_epoch": fit.best_epoch, "epochs": len(fit.history), "seconds": float(fit.history.seconds.sum())}
        kept = fit.model if self.keep_model else None
        return Outcome(row, arrays, fit.history, fit.choices, fit.stopped, kept, fresh=True)


def new_model(make_model: Callable[..., keras.Model], seed: int) -> keras.Model:
    """A model of ``make_model``, which is given the seed where it takes an argument.

    Raises:
        ValueError: it gives something else than a Keras model, or one that it gave before.
    """
    try:
        takes = [one for one in inspect.signature(make_model).parameters.values() if one.default is one.empty]
        named = "seed" in inspect.signature(make_model).parameters
    except (TypeError, ValueError):
        takes, named = [], False
    keras.utils.set_random_seed(seed % 2**32)
    model = make_model(seed=seed) if named else make_model(seed) if takes else make_model()
    if not isinstance(model, keras.Model):
        raise ValueError(f"Expected make_model to give a Keras model. It gave {type(model).__name__}.")
    if any(model is one for one in _MADE):
        raise ValueError(
            f"make_model gave the same model {model.name!r} twice, so that one training would begin with the weights "
            "of another. It must make a new model each time it is called."
        )
    _MADE.add(model)
    return model


def predictions(
    model: keras.Model, data: Any, objective: losses.Objective, batch_size: int = 64, name: str = "judged"
) -> tuple[np.ndarray, np.ndarray]:
    """The labels of ``data`` and the model's probabilities, (n,) for a binary task, else (n, classes)."""
    truth, outputs = [], []
    for x, y in feed.batches(received.check(data, model, name=name), max(batch_size, 64)):
        # Called and not predicted: Keras would compile a function for each model, which takes longer than a small set.
        outputs.append(np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(model(x, training=False), "float32"))))
        truth.append(labels.indices(y) if objective.task == losses.MULTICLASS else y)
    p = score.probabilities(np.concatenate(outputs), objective.task, logits=objective.logits)
    return np.concatenate(truth), p[:, 0] if p.shape[1] == 1 else p


def scores(y: np.ndarray, p: np.ndarray, prefix: str) -> dict[str, float]:
    """AUC and accuracy of probabilities, their names after ``prefix``."""
    return {f"{prefix}auc": score.auc(y, p), f"{prefix}accuracy": score.accuracy(np.asarray(y), p)}


@contextlib.contextmanager
def _without_retracing_warnings() -> Iterator[None]:
    """Many networks in one session: TensorFlow compiles each once, and after a few warns of repeated compiling."""

    def keep(record: logging.LogRecord) -> bool:
        return "retracing" not in record.getMessage()

    logger = logging.getLogger("tensorflow")
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


def data_key(*sets: Any) -> str:
    """Eight digits that change with the data; of a PyDataset with its labels alone."""
    total = 0
    for data in sets:
        if data is None:
            continue
        arrays = [feed.labels(data)] if isinstance(data, keras.utils.PyDataset) else data
        for one in arrays:
            total = zlib.crc32(np.ascontiguousarray(one), zlib.crc32(str(np.shape(one)).encode(), total))
    return f"{total:08x}"


def told(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings in words, to be compared with those of a run folder."""
    return {name: identity.words(one) for name, one in settings.items()}
