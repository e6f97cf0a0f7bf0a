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
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medlab import runs
from medlab.backend import keras
from medlab.train import feed, fitting, losses, score

PREFIX = {"validation": "val_", "test": "test_"}
_JUDGED = (losses.BINARY, losses.MULTICLASS, losses.MULTILABEL)


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
    """

    row: dict[str, Any]
    probabilities: dict[str, np.ndarray]
    history: pd.DataFrame
    choices: dict[str, str]
    stopped: str | None = None
    model: keras.Model | None = None


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

    def result(self) -> Outcome:
        """What the training gave: done now, or read from its folder.

        Raises:
            ValueError: the folder holds one of other data or settings; as fit.
        """
        words = {name: _words(one) for name, one in self.settings.items() if name not in self.loose}
        asked = {"data": self.data, "seed": self.seed, **words}
        kept = self._kept(asked)
        if kept is not None:
            return kept
        made = self._train()
        if self.folder is not None:
            with (self.folder / "part.npz.part").open("wb") as stream:
                np.savez(stream, **made.probabilities)
            (self.folder / "part.npz.part").replace(self.folder / "part.npz")
            history = made.history.to_dict("records")
            facts = {"row": made.row, "history": history, "choices": made.choices, "stopped": made.stopped}
            text = json.dumps({"asked": asked, **runs.plain(facts)})
            (self.folder / "part.json.part").write_text(text, encoding="utf-8")
            (self.folder / "part.json.part").replace(self.folder / "part.json")
        return made

    def _kept(self, asked: dict[str, Any]) -> Outcome | None:
        note = None if self.folder is None else self.folder / "part.json"
        if note is None or not note.is_file():
            return None
        content = json.loads(note.read_text(encoding="utf-8"))
        before = content["asked"]
        other = [name for name in sorted({*before, *asked}) if before.get(name) != asked.get(name)]
        if other:
            raise ValueError(
                f"The finished training in {self.folder} had other {', '.join(other)}. Give the same, another run "
                "folder, or delete this one."
            )
        with np.load(self.folder / "part.npz", allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        row = {name: np.nan if value is None else value for name, value in content["row"].items()}
        history = pd.DataFrame(content["history"]).astype(float).astype({"epoch": int})
        return Outcome(row, arrays, history, content["choices"], content["stopped"])

    def _train(self) -> Outcome:
        model = new_model(self.make_model, self.seed)
        folder = {} if self.folder is None else {"run": self.folder, "resume": not self.loose}
        with _without_retracing_warnings():
            fit = fitting.fit(
                model, self.train, self.validation, **{**self.settings, "seed": self.seed, "progress": False, **folder}
            )  # fmt: skip
        best = fit.history.iloc[fit.best_epoch - 1]
        row = {name: float(best[name]) for name in fit.history if name.startswith("val_") and not np.isnan(best[name])}
        objective = losses.choose(fit.model, feed.labels(self.train), self.settings.get("loss", "auto"))
        arrays = {}
        for name, data in self.judged.items() if objective.task in _JUDGED else ():
            y, arrays[name] = predictions(fit.model, data, objective, self.settings.get("batch_size", 32))
            row |= scores(y, arrays[name], PREFIX[name])
        row |= {"best_epoch": fit.best_epoch, "epochs": len(fit.history), "seconds": float(fit.history.seconds.sum())}
        outcome = Outcome(row, arrays, fit.history, fit.choices, fit.stopped, fit.model if self.keep_model else None)
        del fit, model
        gc.collect()
        return outcome


def new_model(make_model: Callable[..., keras.Model], seed: int) -> keras.Model:
    """A model of ``make_model``, which is given the seed where it takes an argument.

    Raises:
        ValueError: it gives something else than a Keras model.
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
    return model


def predictions(
    model: keras.Model, data: Any, objective: losses.Objective, batch_size: int = 64
) -> tuple[np.ndarray, np.ndarray]:
    """The labels of ``data`` and the model's probabilities, (n,) for a binary task, else (n, classes)."""
    truth, outputs = [], []
    for x, y in feed.batches(feed.check(data, model, name="judged"), max(batch_size, 64)):
        # Called and not predicted: Keras would compile a function for each model, which takes longer than a small set.
        outputs.append(np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(model(x, training=False), "float32"))))
        truth.append(y)
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


def _words(value: Any) -> str:
    text = repr(value)
    return getattr(value, "__qualname__", type(value).__qualname__) if " at 0x" in text else text
