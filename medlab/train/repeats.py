"""Repeats: the same training with other seeds, or on other parts of the cases.

In: a function that makes the model, arrays, what ``fit`` takes. Out: a table with one row a training, its spread, and
the probabilities. It shows how far a single number can be trusted.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medlab import runs
from medlab.backend import keras
from medlab.train import beforehand, feed, labels, parts
from medlab.train import folds as division
from medlab.train.progress import say


@dataclass(frozen=True, eq=False)
class Repeats:
    """The same training with several seeds.

    Attributes:
        table: one row a seed: seed, the validation values of the epoch that was kept, test_auc and test_accuracy where
            there is a test set, best_epoch, epochs, seconds.
        summary: one row a column of the table: mean, sd (n - 1 in its denominator; NaN for one seed), lowest, highest.
        validation: (seeds, n) or (seeds, n, classes) probabilities of the validation cases, None where none were made.
        test: the same for the test cases.
        ensemble: val_auc, val_accuracy, test_auc, test_accuracy of the mean of the seeds' probabilities.
        folders: the run folder of each seed, with its ``model.keras``; empty where no run was given.
    """

    table: pd.DataFrame
    summary: pd.DataFrame
    validation: np.ndarray | None = field(repr=False)
    test: np.ndarray | None = field(repr=False)
    ensemble: dict[str, float]
    folders: list[Path]

    def models(self) -> list[keras.Model]:
        """The trained models, read from their run folders.

        Raises:
            ValueError: there was no run folder, so that none were kept.
        """
        if not self.folders:
            raise ValueError("The models were not kept. Give repeat a run folder: run=...")
        return [keras.models.load_model(one / "model.keras", compile=False, safe_mode=True) for one in self.folders]


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """A training on each of several parts of the cases, judged on the cases it has not seen.

    Attributes:
        table: one row a fold: fold, cases and patients held out, auc, accuracy, best_epoch, epochs, seconds.
        summary: mean, sd, lowest, highest over the folds.
        fold: (n,) the fold in which each case was held out.
        probabilities: (n,) or (n, classes) out of fold: of each case, by the model that has not seen its patient.
        pooled: auc and accuracy of these over all cases. Their AUC ranks cases of different models against each other,
            and may be below the mean of the folds.
        notes: what a reader has to know.
        folders: the run folder of each fold; empty where no run was given.
    """

    table: pd.DataFrame
    summary: pd.DataFrame
    fold: np.ndarray = field(repr=False)
    probabilities: np.ndarray = field(repr=False)
    pooled: dict[str, float]
    notes: list[str]
    folders: list[Path]


def repeat(
    make_model: Callable[..., keras.Model],
    train: tuple | keras.utils.PyDataset,
    validation: tuple | keras.utils.PyDataset,
    test: tuple | keras.utils.PyDataset | None = None,
    *,
    seeds: int | Sequence[int] = (0, 1, 2),
    run: str | Path | runs.Run | None = None,
    progress: bool = True,
    **settings: Any,
) -> Repeats:
    """The same training once for each seed: of the weights, the order of the cases and their augmentation.

    Args:
        make_model: ``make_model(seed)`` gives a new model; one without arguments is called after the global generators
            were seeded.
        train: as :func:`medlab.train.fit` takes it.
        validation: as well; the epoch to keep is chosen on it, so that its scores are a little too good.
        test: cases on which each model is judged once, or None.
        seeds: one training each; a number n is 0 to n - 1.
        run: folder with one run ``seed-<n>`` for each. What is finished there is not trained again, and what was
            interrupted goes on.
        progress: one line a seed.
        **settings: what else fit takes; ``epochs`` is needed.

    Raises:
        ValueError: before the first training: no seed or one twice, a model in place of make_model or the same model
            twice, data (also of the test) or settings that fit refuses; a run folder of another model, other data or
            settings.
        DivergedError: as fit, of the first seed that does.

    Where someone presses Stop, the seeds after that are not trained.
    """
    seeds = _seeds(seeds)
    _refuse(settings)
    beforehand.maker(make_model)
    beforehand.check(parts.new_model(make_model, seeds[0]), train, validation, {"test": test}, settings)
    said = parts.told(settings)
    data = parts.data_key(train, validation, test)
    judged = {name: one for name, one in (("validation", validation), ("test", test)) if one is not None}
    rows, outputs, folders = [], {name: [] for name in judged}, []
    for number, seed in enumerate(seeds, start=1):
        part = parts.Part(
            make_model, seed, train, validation, judged, settings, _folder(run, f"seed-{seed}"), data, said=said
        )
        made = part.result()
        rows.append({"seed": seed, **made.row})
        for name, p in made.probabilities.items():
            outputs[name].append(p)
        folders += [] if part.folder is None else [part.folder]
        _tell(progress, f"seed {seed} ({number} of {len(seeds)})", made.row)
        if made.by_hand:
            say(f"stopped by hand in seed {seed}: {len(seeds) - number} of {len(seeds)} seeds were not trained")
            break
    stacked = {name: np.stack(kept) if kept else None for name, kept in outputs.items()}
    ensemble = {}
    for name, p in stacked.items():
        if p is not None:
            ensemble |= parts.scores(feed.labels(judged[name]), p.mean(axis=0), parts.PREFIX[name])
    table = pd.DataFrame(rows)
    return Repeats(
        table, _summary(table, "seed"), stacked.get("validation"), stacked.get("test"), ensemble, folders
    )  # fmt: skip


def cross_validate(
    make_model: Callable[..., keras.Model],
    x: np.ndarray,
    y: np.ndarray,
    *,
    groups: Sequence | np.ndarray | None = None,
    folds: int = 5,
    stratify: bool = True,
    inner: float = 0.15,
    seed: int = 0,
    run: str | Path | runs.Run | None = None,
    progress: bool = True,
    **settings: Any,
) -> CrossValidation:
    """Out-of-fold predictions of all cases: each by a model that has seen no case of its patient.

    Of the cases that are not held out, a part is set aside to choose the epoch on, so that the held-out fold is judged
    only.

    Args:
        make_model: as in :func:`repeat`.
        x: (n, i, j[, k], c) images.
        y: (n,) class indices or (n, classes) 0/1.
        groups: (n,) the patient of each case; None: every case is a patient of its own.
        folds: parts into which the patients are divided.
        stratify: as nearly the same share of each class in every fold as the patients allow.
        inner: share of the other patients on which the epoch is chosen; 0 keeps the last weights.
        seed: of the folds, the weights and the order.
        run: folder with one run ``fold-<n>`` each, as in :func:`repeat`.
        progress: one line a fold.
        **settings: what else fit takes; ``epochs`` is needed.

    Raises:
        ValueError: before the first training: masks, cases without a patient, fewer patients than folds, lengths that
            differ, data or settings that fit refuses; a run folder of another model, other data or settings.
        DivergedError: as fit.

    Where someone presses Stop, the folds after that are not trained: their probabilities are NaN, and a note says so.

    Source:
        Kohavi 1995; folds by ``sklearn.model_selection.StratifiedGroupKFold``.
    """
    _refuse(settings)
    beforehand.maker(make_model)
    x, y = np.asarray(x), np.asarray(y)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    _need_classes(y.ndim <= 2)
    fold, inside, groups, notes = _divide(x, y, groups, folds, stratify, inner, seed)
    data = f"{parts.data_key((x, y))} {zlib.crc32(fold.tobytes()):08x} {zlib.crc32(inside.tobytes()):08x}"
    objective = beforehand.check(parts.new_model(make_model, seed), (x, y), None, {}, settings)
    _need_classes(objective.task in parts.JUDGED)
    for number in range(folds):
        try:
            labels.check_labels(y[(fold != number) & ~inside[number]], objective)
        except ValueError as error:
            raise ValueError(f"Fold {number}: {error}") from error
    said = parts.told(settings)
    rows, folders, p = [], [], None
    for number in range(folds):
        out = fold == number
        own = ~out & ~inside[number]
        held = (x[inside[number]], y[inside[number]]) if inside[number].any() else None
        part = parts.Part(
            make_model, seed, (x[own], y[own]), held, {"test": (x[out], y[out])}, settings,
            _folder(run, f"fold-{number}"), data, said=said,
        )  # fmt: skip
        made = part.result()
        row = {name.removeprefix("test_"): value for name, value in made.row.items() if not name.startswith("val_")}
        rows.append({"fold": number, "cases": int(out.sum()), "patients": len(np.unique(groups[out])), **row})
        p = np.full((len(x), *made.probabilities["test"].shape[1:]), np.nan) if p is None else p
        p[out] = made.probabilities["test"]
        folders += [] if part.folder is None else [part.folder]
        _tell(progress, f"fold {number + 1} of {folds}", row)
        if made.by_hand:
            notes.append(f"Stopped by hand in fold {number + 1} of {folds}: what comes after it was not trained.")
            say(notes[-1])
            break
    done = np.isfinite(p.reshape(len(p), -1)).all(axis=1)
    table = pd.DataFrame(rows)
    return CrossValidation(
        table, _summary(table, "fold", "cases", "patients"), fold, p, parts.scores(y[done], p[done], ""), notes,
        folders,
    )  # fmt: skip


def _need_classes(fits: bool) -> None:
    if not fits:
        raise ValueError(
            "Cross-validation needs a model with class outputs: labels (n,) or (n, classes), not masks or a task of "
            "a loss of your own. Train on medlab.train.folds.divide's parts instead."
        )


def _seeds(seeds: Any) -> list[int]:
    """The seeds, each a whole number of at least 0 and once."""
    wanted = range(seeds) if hasattr(seeds, "__index__") and not isinstance(seeds, bool) else seeds
    numbers = list(wanted) if isinstance(wanted, Iterable) and not isinstance(wanted, str) else []
    whole = all(hasattr(one, "__index__") and not isinstance(one, bool) and one >= 0 for one in numbers)
    if not numbers or not whole or len(set(numbers)) < len(numbers):
        raise ValueError(f"Expected at least one seed, each once, whole numbers of at least 0. Received {seeds!r}.")
    return [int(one) for one in numbers]


def _divide(
    x: np.ndarray, y: np.ndarray, groups: Any, count: int, stratify: bool, inner: float, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """The fold of each case, and for each fold (folds, n) the cases on which its epoch is chosen."""
    if len(x) != len(y):
        raise ValueError(f"Expected as many labels as images. Received {len(x)} images and {len(y)} labels.")
    if not 0 <= inner < 0.6:
        raise ValueError(f"Expected inner from 0 to below 0.6. Received {inner!r}.")
    groups = np.arange(len(x)) if groups is None else division.numbers(groups)
    fold, notes = division.divide(y, groups, folds=count, stratify=stratify, seed=seed)
    inside = np.zeros((count, len(x)), bool)
    for number in range(count) if inner else ():
        rest = np.flatnonzero(fold != number)
        count_inside = min(max(2, round(1 / inner)), len(np.unique(groups[rest])))
        if count_inside >= 2:
            cut, _ = division.divide(y[rest], groups[rest], folds=count_inside, stratify=stratify, seed=seed)
            inside[number, rest[cut == 0]] = True
    return fold, inside, groups, notes


def _summary(table: pd.DataFrame, *without: str) -> pd.DataFrame:
    """Mean, sd, lowest and highest of each column."""
    values = table.drop(columns=list(without)).astype(float)
    columns = {"mean": values.mean(), "sd": values.std(ddof=1), "lowest": values.min(), "highest": values.max()}
    return pd.DataFrame(columns)


def _tell(shown: bool, which: str, row: Mapping[str, Any]) -> None:
    names = {"val_auc": "validation AUC", "test_auc": "test AUC", "auc": "AUC", "val_dice": "validation Dice"}
    said = ", ".join(f"{text} {row[name]:.4f}" for name, text in names.items() if name in row)
    if shown:
        say(f"{which}: {said or 'done'}, best epoch {row['best_epoch']}, {row['seconds']:.1f} s")


def _folder(run: str | Path | runs.Run | None, name: str) -> Path | None:
    return None if run is None else runs.open(runs.open(run).path / name).path


def _refuse(settings: Mapping[str, Any]) -> None:
    given = sorted({"seed", "resume"} & set(settings))
    if given:
        raise ValueError(
            f"{' and '.join(given)} cannot be given here: each training has its own seed and goes on by itself."
        )
    if "epochs" not in settings:
        raise ValueError("Expected epochs=..., how often every training case is seen, as medlab.train.fit takes it.")
