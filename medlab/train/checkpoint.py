"""Checkpoint: what a training leaves in its run folder after every epoch, and how it goes on from there.

In: the state of a training. Out: ``model.keras`` (best weights), ``history.csv``, ``last.npz`` (everything needed to
go on), ``run.json``. No pickle is written or read.
"""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medlab.backend import keras

COLUMNS = (
    "epoch",
    "loss",
    "val_loss",
    "val_auc",
    "val_accuracy",
    "val_dice",
    "learning_rate",
    "seconds",
)


@dataclass
class State:
    """Where a training stands after an epoch.

    Attributes:
        rows: the history so far, one row an epoch.
        best_epoch: the epoch with the best score, 0 before the first.
        best_score: its (validation AUC or Dice, minus validation loss), larger is better.
        best_weights: the model's weights then.
        stopped: why nothing is left to do although there would be epochs, or None.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    best_score: tuple[float, float] = (-np.inf, -np.inf)
    best_weights: list[np.ndarray] = field(default_factory=list)
    stopped: str | None = None

    @property
    def epoch(self) -> int:
        """Epochs that are done."""
        return len(self.rows)

    def history(self) -> pd.DataFrame:
        """One row an epoch with the columns ``COLUMNS``; what was not measured is NaN.

        A segmentation has val_dice in place of val_auc and val_accuracy.
        """
        table = pd.DataFrame(self.rows, columns=list(COLUMNS))
        segmented = any("val_dice" in row for row in self.rows)
        return table.drop(columns=["val_auc", "val_accuracy"] if segmented else ["val_dice"])


def save(folder: Path, state: State, variables: list[Any], settings: Mapping[str, Any]) -> None:
    """Writes ``last.npz`` and ``history.csv`` whole or not at all.

    Args:
        folder: the run folder.
        state: where the training stands.
        variables: the variables of model and optimizer, in an order that is the same at every start; none where the
            training is over.
        settings: what the training was asked to do.
    """
    note = {
        "settings": dict(settings),
        "rows": state.rows,
        "best_epoch": state.best_epoch,
        "best_score": list(state.best_score),
        "stopped": state.stopped,
    }
    part = folder / "last.part"
    # As np.savez would, but with one array in memory at a time.
    with zipfile.ZipFile(part, "w", allowZip64=True) as archive:
        _write(archive, "note", np.frombuffer(json.dumps(note).encode(), np.uint8))
        for number, variable in enumerate(variables):
            _write(archive, f"variable_{number}", array(variable))
        for number, weight in enumerate(state.best_weights):
            _write(archive, f"best_{number}", weight)
    part.replace(folder / "last.npz")
    part = folder / "history.part"
    state.history().to_csv(part, index=False, lineterminator="\n")
    part.replace(folder / "history.csv")


def read(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
    """The note and the arrays of ``last.npz``; None where there is none.

    Raises:
        ValueError: the file is damaged.
    """
    file = folder / "last.npz"
    if not file.is_file():
        return None
    try:
        with np.load(file, allow_pickle=False) as content:
            note = json.loads(content["note"].tobytes())
            return note, {name: content[name] for name in content.files if name != "note"}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{file} cannot be read ({error}). Delete it to start anew.") from None


def load(folder: Path, variables: list[Any], settings: Mapping[str, Any]) -> State | None:
    """Puts back what ``save`` wrote into ``variables``, and says where the training stood.

    Returns:
        None where the folder has no state yet.

    Raises:
        ValueError: the state belongs to other settings (the message names them), or the file is damaged.
    """
    found = read(folder)
    if found is None:
        return None
    note, arrays = found
    before = note["settings"]
    wanted = json.loads(json.dumps(dict(settings)))
    other = [name for name in sorted({*before, *wanted}) if before.get(name) != wanted.get(name)]
    if other:
        said = "; ".join(f"{name}: {_short(before.get(name))} there, {_short(wanted.get(name))} now" for name in other)
        raise ValueError(
            f"The training in {folder} had other settings ({said}). "
            "Resume with the same settings, or train anew with resume=False or another run folder."
        )
    if "variable_0" in arrays:
        for number, variable in enumerate(variables):
            variable.assign(arrays[f"variable_{number}"])
    best = [arrays[f"best_{number}"] for number in range(sum(name.startswith("best_") for name in arrays))]
    return State(note["rows"], note["best_epoch"], tuple(note["best_score"]), best, note.get("stopped"))


def clear(folder: Path) -> None:
    """Removes what an earlier training left, so that nothing of it is taken for the new one's."""
    for name in ("last.npz", "history.csv", "model.keras"):
        (folder / name).unlink(missing_ok=True)


def save_model(model: keras.Model, path: Path) -> None:
    """Writes ``model`` as a .keras file, whole or not at all."""
    part = path.with_name("part.keras")
    with warnings.catch_warnings():
        # Keras hands its variables to np.array, whose argument copy they do not know yet.
        warnings.filterwarnings(
            "ignore", message="__array__ implementation doesn't accept a copy", category=DeprecationWarning
        )
        model.save(part)
    part.replace(path)


def array(variable: Any) -> np.ndarray:
    """The value of a Keras variable as an array of its own, which later steps do not change."""
    return np.array(np.asarray(variable))  # np.array alone warns: Keras variables do not know its copy argument


def _write(archive: zipfile.ZipFile, name: str, values: np.ndarray) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
        np.lib.format.write_array(stream, values, allow_pickle=False)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
