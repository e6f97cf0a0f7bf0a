"""Words: why a candidate was chosen, in two sentences on each choice, made of the experiment's numbers.

In: trainings, table, choice. Out: text by factor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from medlab.choose.options import FACTORS, Candidate
from medlab.choose.outcome import Trial

_NAMES = {"model": "network", "learning_rate": "learning rate", "augment": "augmentation"}


def reasons(trials: Sequence[Trial], table: pd.DataFrame, best: Candidate, compare: Callable) -> dict[str, str]:
    """Two sentences on each factor.

    Args:
        trials: all trainings.
        table: one row a candidate.
        best: the choice.
        compare: from two candidates to their paired comparison, None where they were never in one round.
    """
    others = [one for one in dict.fromkeys(trial.candidate for trial in trials) if one is not best]
    factors = dict.fromkeys([*FACTORS, *(name for one in [best, *others] for name in one.factors())])
    told = {}
    for name in factors:
        own = best.factor(name)
        rivals = [one for one in others if one.factor(name) != own]
        alone = [one for one in rivals if _differs_only(best, one, name)]
        if not rivals and name in ("schedule", "augment", *set(factors) - set(FACTORS)):
            continue
        first = _against(best, alone, name, compare, trials) if alone else _untested(name, best, rivals, table, trials)
        told[name] = f"{first} {_second(name, best, alone or rivals, trials, table)}"
    return told


def value(one: Candidate, name: str, trials: Sequence[Trial]) -> str:
    """A factor's value in words, with what ``"auto"`` came to."""
    found = _worked(one, trials)
    if found and name == "learning_rate" and one.factor(name) in ("rule", "range test"):
        return f"{rate(found[-1]):.2g} (the {one.factor(name)})"
    if found and name == "loss" and one.factor(name) == "auto":
        return found[-1].outcome.choices.get("loss", "auto").split(":")[0]
    return one.factor(name)


def rate(trial: Trial) -> float:
    """The peak of the learning rate, as fit says it."""
    try:
        return float(trial.outcome.choices["learning rate"].split(" ")[0])
    except (KeyError, ValueError):
        return float(trial.outcome.history["learning_rate"].max())


def _differs_only(a: Candidate, b: Candidate, name: str) -> bool:
    names = {*a.factors(), *b.factors()} - {name}
    return all(a.factor(other) == b.factor(other) for other in names)


def _against(best: Candidate, alone: Sequence[Candidate], name: str, compare: Callable, trials: Sequence[Trial]) -> str:
    """How the value did against the others, everything else alike."""
    known = [(one, compare(best, one)) for one in alone]
    lost = [value(one, name, trials) for one, difference in known if difference is None]
    own = value(best, name, trials)
    parts = [
        f"no AUC to compare with {value(one, name, trials)}"
        if np.isnan(difference.difference)
        else f"{difference.difference:+.3f} AUC over {value(one, name, trials)} "
        + (f"({difference.low:+.3f} to {difference.high:+.3f})" if not np.isnan(difference.low) else "(no interval)")
        for one, difference in known
        if difference is not None
    ]
    clear = [difference.low > 0 for _, difference in known if difference is not None]
    start = f"With all else alike, {own} had {' and '.join(parts)}" if parts else ""
    if start:
        start += (
            ": more than the noise of the validation cases."
            if all(clear)
            else ": within the noise of the validation cases, so that either would do."
            if not any(clear)
            else ": only some of this is more than noise."
        )
    if lost:
        start += f"{' ' if start else ''}{', '.join(lost)} failed where {own} did not."
    return start


def _untested(
    name: str, best: Candidate, rivals: Sequence[Candidate], table: pd.DataFrame, trials: Sequence[Trial]
) -> str:
    said, own = _NAMES.get(name, name).replace("_", " "), value(best, name, trials)
    if not rivals:
        return f"No other {said} than {own} was tried: this is the default, and no finding."
    top = max(rivals, key=lambda one: np.nan_to_num(table.loc[one.name, "mean"], nan=-1.0))
    return (
        f"No candidate differs from the choice in the {said} alone: {own} came with it; the best with another, "
        f"{top.name}, is {_verdict(table.loc[top.name])}."
    )


def _verdict(row: pd.Series) -> str:
    if np.isnan(row["behind"]):
        return "out: its training failed"
    limits = "" if np.isnan(row["behind_low"]) else f" ({row['behind_low']:+.3f} to {row['behind_high']:+.3f})"
    return f"{row['behind']:.3f} AUC behind it{limits}, {row['verdict']}"


def _second(
    name: str, best: Candidate, rivals: Sequence[Candidate], trials: Sequence[Trial], table: pd.DataFrame
) -> str:
    """What else the numbers say of this choice."""
    row = table.loc[best.name]
    if name == "model":
        size = f"It has {int(row['weights']):,} weights and went through the training cases {_pace(best, trials)}"
        other = next((one for one in rivals if one.model_name != best.model_name), None)
        if other is None:
            return size + "."
        return (
            f"{size}; {other.model_name} has {int(table.loc[other.name, 'weights']):,} and went {_pace(other, trials)}."
        )
    if name == "learning_rate":
        return f"Its peak was {row['learning_rate']:.2g}, at which {_fall(best, trials)}."
    if name == "optimizer":
        spread = row["sd"]
        if np.isnan(spread):
            return "It was trained with one seed, so that its own spread is not known."
        return (
            f"Over {int(row['seeds'])} seeds its AUC was {row['mean']:.3f} with a standard deviation of {spread:.3f}."
        )
    if name == "loss":
        text = _last(best, trials).outcome.choices.get("loss", "").partition(": ")[2]
        return f"Why it fits: {text}." if text else ""
    if name == "augment":
        return f"Between training and validation loss lay {_gap(best, trials)} at the end" + (
            f", with {rivals[0].name} {_gap(rivals[0], trials)}." if rivals and _worked(rivals[0], trials) else "."
        )
    epoch = int(_last(best, trials).outcome.row["best_epoch"])
    return f"The choice was best in epoch {epoch} of {int(row['epochs'])}."


def _worked(one: Candidate, trials: Sequence[Trial]) -> list[Trial]:
    return [trial for trial in trials if trial.candidate is one and trial.outcome is not None]


def _last(one: Candidate, trials: Sequence[Trial]) -> Trial:
    return max(_worked(one, trials), key=lambda trial: (trial.round, -trial.seed))


def _pace(one: Candidate, trials: Sequence[Trial]) -> str:
    found = _worked(one, trials)
    if not found:
        return "not once"
    history = found[-1].outcome.history
    each = float(history["seconds"].iloc[1:].median() if len(history) > 1 else history["seconds"].iloc[0])
    return f"in {each:.2g} s each time"


def _fall(one: Candidate, trials: Sequence[Trial]) -> str:
    loss = _last(one, trials).outcome.history["loss"].to_numpy()
    if len(loss) < 2:
        return f"the training loss was {loss[0]:.3f} after the only epoch"
    up = int((np.diff(loss) > 0.02 * loss[:-1]).sum())
    way = "without rising" if up == 0 else f"rising in {up} of {len(loss) - 1} steps"
    return f"the training loss fell from {loss[0]:.3f} to {loss[-1]:.3f} in {len(loss)} epochs, {way}"


def _gap(one: Candidate, trials: Sequence[Trial]) -> str:
    if not _worked(one, trials):
        return "nothing"
    end = _last(one, trials).outcome.history.iloc[-1]
    return f"{end['val_loss'] - end['loss']:+.3f}"
