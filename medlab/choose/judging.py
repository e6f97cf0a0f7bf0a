"""Judging: the table of an experiment, and what in it may be chance.

In: trainings that are done, the truth of the validation cases. Out: an Experiment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medlab import evaluate
from medlab.backend import keras
from medlab.choose import words
from medlab.choose.options import FACTORS, Candidate
from medlab.choose.outcome import Experiment, Trial

CHOSEN, NOISE, WORSE, UNKNOWN, FAILED = "chosen", "within noise", "worse", "cannot be told", "failed"
_FEW = 20
"""Fewer validation cases than this in the rarest class, and a note says that the intervals are wide."""


def conclude(
    trials: Sequence[Trial],
    *,
    y: np.ndarray,
    groups: Any,
    seed: int,
    facts: dict[str, Any],
    settings_of: Callable[[Candidate], dict[str, Any]],
    maker_of: Callable[[Candidate], Callable],
    folder: Path | None,
    epochs: int,
) -> Experiment:
    """The experiment that these trainings make.

    Args:
        trials: all trainings.
        y: truth of the validation cases.
        groups: their patients, or None.
        seed: of the intervals.
        facts: weights by candidate, seconds, and whether it ran against the clock.
        settings_of: what fit was given for a candidate.
        maker_of: its ``make_model``.
        folder: run folder.
        epochs: most epochs of a training.
    """
    best = _winner(trials)
    rows = _rows(trials, best, y, groups, seed, facts["weights"])
    table = pd.DataFrame(rows).set_index("candidate")
    own = [trial for trial in trials if trial.candidate is best and trial.outcome is not None]
    last = max(own, key=lambda trial: (trial.round, -trial.seed))
    timed = facts["timed"]
    settings = {**settings_of(best), "epochs": epochs if timed else len(last.outcome.history)}
    return Experiment(
        table, _curves(trials), best, words.reasons(trials, table, best, _compared(trials, y, groups, seed)), settings,
        maker_of(best), _model(last), _notes(trials, table, y, timed), facts["seconds"], timed, folder,
    )  # fmt: skip


def _winner(trials: Sequence[Trial]) -> Candidate:
    """The best mean AUC over the seeds, among those with the most seeds in the last round."""
    last = max(trial.round for trial in trials)
    seeds = {}
    for trial in trials:
        if trial.round == last and trial.outcome is not None:
            seeds.setdefault(trial.candidate, []).append(trial)
    most = max(map(len, seeds.values()))
    finalists = {one: found for one, found in seeds.items() if len(found) == most}
    return max(finalists, key=lambda one: tuple(np.mean([trial.rank for trial in finalists[one]], axis=0)))


def _rows(
    trials: Sequence[Trial], best: Candidate, y: np.ndarray, groups: Any, seed: int, weights: dict[str, int]
) -> list[dict[str, Any]]:
    rows = []
    compared = _compared(trials, y, groups, seed)
    for one in dict.fromkeys(trial.candidate for trial in trials):
        own = [trial for trial in trials if trial.candidate is one]
        row: dict[str, Any] = {"candidate": one.name, **{name: one.factor(name) for name in FACTORS}}
        last = max(own, key=lambda trial: (trial.round, -trial.seed))
        row |= {"round": last.round + 1, "weights": weights[one.name]}
        if last.outcome is None:
            blank = ("epochs", "seconds", "auc", "low", "high", "mean", "sd", "behind", "behind_low", "behind_high")
            row |= {**dict.fromkeys(blank, np.nan), "learning_rate": np.nan, "seeds": 0, "verdict": FAILED}
            rows.append({**row, "_rank": (-1, -1, 0.0)})
            continue
        value, low, high = evaluate.bootstrap("auc", y, last.p, groups=groups, seed=seed)
        same = [trial.auc for trial in own if trial.round == last.round and trial.outcome is not None]
        row |= {"learning_rate": words.rate(last), "loss": words.value(one, "loss", trials)}
        row |= {"epochs": len(last.outcome.history), "seconds": last.outcome.row["seconds"]}
        row |= {"auc": value, "low": low, "high": high, "seeds": len(same), "mean": float(np.mean(same))}
        row["sd"] = float(np.std(same, ddof=1)) if len(same) > 1 else np.nan
        if one is best:
            row |= {"behind": 0.0, "behind_low": np.nan, "behind_high": np.nan, "verdict": CHOSEN}
        else:
            difference = compared(best, one)
            row |= {"behind": difference.difference, "behind_low": difference.low, "behind_high": difference.high}
            row["verdict"] = verdict(difference)
        row["_rank"] = (last.round + (one is best) * 100, len(same), row["mean"])
        rows.append(row)
    rows.sort(key=lambda row: row["_rank"], reverse=True)
    for row in rows:
        del row["_rank"]
    return rows


def verdict(difference: evaluate.Comparison) -> str:
    """What a paired comparison with the choice says of the other candidate."""
    if np.isnan(difference.low):
        return UNKNOWN
    return NOISE if difference.low <= 0 else WORSE


def _compared(trials: Sequence[Trial], y: np.ndarray, groups: Any, seed: int) -> Callable:
    """A function from two candidates to their paired comparison after the last round that both were in."""
    first = {}
    for trial in sorted(trials, key=lambda trial: -trial.seed):
        if trial.outcome is not None:
            first[trial.candidate, trial.round] = trial
    binary = y.ndim == 1 and y.max() <= 1
    kept: dict[tuple, evaluate.Comparison] = {}

    def compare(a: Candidate, b: Candidate) -> evaluate.Comparison | None:
        both = [number for one, number in first if one is a and (b, number) in first]
        if not both:
            return None
        if (a, b) not in kept:
            one, two = first[a, max(both)].p, first[b, max(both)].p
            test = "delong" if binary else "bootstrap"
            kept[a, b] = evaluate.compare(y, one, two, test=test, groups=groups, seed=seed)
        return kept[a, b]

    return compare


def _curves(trials: Sequence[Trial]) -> pd.DataFrame:
    parts = []
    for trial in trials:
        if trial.outcome is None:
            continue
        history = trial.outcome.history
        columns = [name for name in ("epoch", "loss", "val_loss", "val_auc", "learning_rate") if name in history]
        part = history[columns].assign(seconds=history["seconds"].cumsum())
        part.insert(0, "candidate", trial.candidate.name)
        part.insert(1, "round", trial.round + 1)
        part.insert(2, "seed", trial.seed)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _model(trial: Trial) -> keras.Model:
    if trial.outcome.model is not None:
        return trial.outcome.model
    return keras.models.load_model(trial.folder / "model.keras", compile=False, safe_mode=True)


def _notes(trials: Sequence[Trial], table: pd.DataFrame, y: np.ndarray, timed: bool) -> list[str]:
    notes = []
    counts = y.sum(axis=0) if y.ndim == 2 else np.bincount(y.astype(int))
    least = int(min(counts.min(), (len(y) - counts).min())) if y.ndim == 2 else int(counts.min())
    if least < _FEW:
        notes.append(
            f"The rarest class has {least} validation cases: the intervals are wide, and the order of the candidates "
            "says little. More validation cases would help more than more candidates."
        )
    near = [name for name, row in table.iterrows() if row["verdict"] in (NOISE, UNKNOWN)]
    if near:
        notes.append(
            f"{len(near)} of {len(table) - 1} other candidates {'is' if len(near) == 1 else 'are'} within noise of "
            f"the choice: {'; '.join(near)}."
        )
    for trial in trials:
        if trial.failed and trial.seed == min(other.seed for other in trials):
            notes.append(f"{trial.candidate.name} failed: {trial.failed.split('. ')[0]}.")
    hurried = list(dict.fromkeys(trial.candidate.name for trial in trials if trial.hurried))
    if hurried:
        notes.append(f"In the time given {'; '.join(hurried)} got through no epoch: judged by speed above all.")
    if timed:
        notes.append("The budget was a time: on another machine, or a busier one, the numbers differ.")
    return notes
