"""Halving: all candidates are trained a little, the better half longer, until few are left.

In: training and validation data, candidates, a budget of seconds or epochs. Out: an Experiment. Test cases have no way
in.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medlab import runs, train
from medlab.choose import judging, options, setting
from medlab.choose.options import Candidate
from medlab.choose.outcome import Experiment, Trial
from medlab.choose.setting import Setting

_SHORTEST = 4.0
"""Seconds below which a training is little more than the compiling of its network."""
_APART = 2.0
"""Seconds that a training takes beside its epochs, until it is known."""


def experiment(
    training: tuple,
    validation: tuple,
    *,
    candidates: str | Sequence[Mapping[str, Any] | str | Candidate] = "auto",
    budget_seconds: float | None = 60.0,
    epochs: int | None = None,
    rounds: str | int = "auto",
    seeds: int = 2,
    seed: int = 0,
    groups: Any = None,
    modality: str | None = None,
    run: str | Path | runs.Run | None = None,
    progress: bool = True,
    **common: Any,
) -> Experiment:
    """A small experiment on the data: which candidate is best, and whether that may be chance.

    Successive halving: in each round every candidate that is left is trained anew for the same time (or as many
    epochs), with a schedule of that length; the half with the better validation AUC goes on to a round twice as long.
    The two best of the last round are trained again with other seeds, and the better mean is chosen.

    Args:
        training: (x, y): (n, i, j[, k], c) images and (n,) class indices or (n, classes) 0/1; or a PyDataset.
        validation: the same form; everything is decided on these cases, so that they flatter the choice a little.
        candidates: ``"auto"`` (:func:`medlab.choose.candidates`), or a list of dicts: ``model`` (a name
            that :func:`medlab.models.make` takes, but no network for masks, or ``make_model(seed)``),
            ``model_settings``, ``name``, and what :func:`medlab.train.fit` takes, such as ``optimizer``,
            ``learning_rate``, ``loss``; ``augment`` may be True or False.
        budget_seconds: wall time of the whole experiment. Numbers then depend on how fast the machine was; and no
            running mean of the weights is kept (``ema=None``), which would lag behind in so short a time.
        epochs: those of the last round, in place of a time: the same seed gives the same numbers.
        rounds: how often to halve; 1 trains all candidates to the end. ``"auto"``: as often as the candidates, and
            the time, allow.
        seeds: trainings of each of the two finalists, with the seeds ``seed``, ``seed + 1``, ...
        seed: of weights, order, augmentation and intervals.
        groups: (n,) the patient of each validation case, for the intervals.
        modality: what :func:`medlab.augment.policy` takes, for candidates that augment; None: small changes only.
        run: folder for all trainings; what is finished there is not trained again.
        progress: a line a training.
        **common: what all candidates give to fit, such as ``batch_size``.

    Returns:
        The experiment: table, curves, best, reasons, settings, model.

    Raises:
        ValueError: candidates, data or settings that cannot be trained, found before the first training; a run folder
            of other networks; a budget in which no candidate got through its first epoch.
        DivergedError: every candidate diverged.

    Where someone presses Stop no further training begins, and what is there is judged.

    Source:
        Jamieson and Talwalkar 2016, Non-stochastic best arm identification and hyperparameter optimization.
    """
    began = time.perf_counter()
    if (budget_seconds is None) == (epochs is None) and budget_seconds != 60.0:
        raise ValueError("Expected either budget_seconds or epochs. Give one, and None for the other.")
    _check_budget(budget_seconds, epochs, seeds, rounds)
    limit = None if epochs is not None else began + float(budget_seconds)
    shared = setting.prepare(training, validation, modality, common, seed, run, progress, epochs, limit)
    y = setting.truth(validation)
    setting.check_groups(groups, len(y))
    wanted = _auto(shared, budget_seconds if limit else None) if _is_auto(candidates) else options.read(candidates)
    models = setting.check(wanted, shared)
    plan = _plan(len(wanted), rounds, seeds, budget_seconds if limit else None)
    shared.say(_introduction(wanted, plan, shared, budget_seconds))
    if limit:
        setting.warm_up(seed)
    trials, left = [], wanted
    for number, keep in enumerate(plan):
        last = number == len(plan) - 1
        seconds = _share(shared, len(left), number, plan, seeds)
        length = shared.epochs if limit else max(1, round(shared.epochs / 2 ** (len(plan) - 1 - number)))
        shared.say(_announce(number, plan, left, seconds, length))
        done = []
        for one in left:
            done.append(setting.trial(one, number, seed, shared, seconds, length, keep=True))
            if not last:
                done = setting.lean(done)
            if shared.stopped:
                break
        trials += done if last or shared.stopped else setting.lean(done, none=True)
        if shared.stopped:
            _ranked(done, number, None)
            break
        ranked = _ranked(done, number, seconds)
        if last and seeds > 1 and len(ranked) > 1:
            trials += _again(ranked[:2], number, shared, seconds, length, seeds)
        left = [trial.candidate for trial in ranked[:keep]]
        if not last:
            shared.say(f"  kept: {', '.join(one.name for one in left)}")
    facts = {"weights": models, "seconds": time.perf_counter() - began, "timed": limit is not None}
    made = judging.conclude(trials, y=y, groups=groups, seed=seed, facts=facts, **_for_result(shared))
    if shared.stopped:
        made.notes.insert(0, f"{shared.stopped} Not all candidates were trained alike, so that the order says little.")
    for line in made.notes:
        shared.say(f"note: {line}")
    return made


def vary(
    training: tuple,
    validation: tuple,
    factor: str,
    values: Sequence[Any],
    *,
    base: Mapping[str, Any] | None = None,
    budget_seconds: float | None = 60.0,
    epochs: int | None = None,
    **same: Any,
) -> Experiment:
    """One factor at a time: candidates that differ in ``factor`` alone, each trained to the end, with the same seeds.

    Args:
        training: as in :func:`experiment`.
        validation: as well.
        factor: ``"model"``, ``"optimizer"``, ``"learning_rate"``, ``"schedule"``, ``"loss"``, ``"augment"``,
            ``"batch_size"``, or another argument of :func:`medlab.train.fit`.
        values: what to try.
        base: everything else, a candidate's dict.
        budget_seconds: as in :func:`experiment`.
        epochs: as well.
        **same: what else experiment takes.

    Raises:
        ValueError: fewer than two values, or no list of them; as experiment.
    """
    values = list(values) if isinstance(values, Iterable) and not isinstance(values, str) else values
    if not isinstance(values, list) or len(values) < 2:
        raise ValueError(f"Expected at least two values of {factor!r} to compare. Received {values!r}.")
    listed = [{**(base or {}), factor: value} for value in values]
    same = {"rounds": 1, **same}
    return experiment(training, validation, candidates=listed, budget_seconds=budget_seconds, epochs=epochs, **same)


def _is_auto(candidates: Any) -> bool:
    return isinstance(candidates, str) and candidates == "auto"


def _check_budget(seconds: float | None, epochs: int | None, seeds: int, rounds: str | int) -> None:
    if epochs is None and not (isinstance(seconds, int | float) and math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"Expected budget_seconds above 0. Received {seconds!r}.")
    numbers = {"seeds": seeds}
    numbers |= {} if epochs is None else {"epochs": epochs}
    numbers |= {} if rounds == "auto" else {"rounds": rounds}
    for name, value in numbers.items():
        if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
            raise ValueError(f"Expected {name} to be a whole number of at least 1. Received {value!r}.")


def _auto(shared: Setting, seconds: float | None) -> list[Candidate]:
    y = setting.truth(shared.data)
    rarest = 0.5 if shared.multi_label else float(np.bincount(y.astype(int).reshape(-1)).min() / len(y))
    count = 6 if seconds is None else int(np.clip(seconds // 12, 2, 8))
    listed = options.candidates(
        shared.shape, shared.classes, rarest=rarest, count=count, multi_label=shared.multi_label
    )
    made = options.read(listed)
    return made if shared.policy is not None else [one for one in made if one.settings.get("augment", True)]


def _plan(count: int, rounds: str | int, seeds: int, seconds: float | None) -> list[int]:
    """How many candidates are kept after each round; the last round keeps one."""
    most = max(1, math.ceil(math.log2(count)))
    for length in range(most if rounds == "auto" else min(int(rounds), most), 0, -1):
        alive, kept = count, []
        for _ in range(length - 1):
            alive = max(2, math.ceil(alive / 2))
            kept.append(alive)
        if rounds != "auto" or seconds is None or length == 1:
            break
        if seconds / _work([count, *kept], seeds) - _APART >= _SHORTEST:
            break
    return [*kept, 1]


def _work(alive: Sequence[int], seeds: int) -> float:
    """Trainings, in units of one of the first round; those of each round are twice as long as before."""
    extra = min(2, alive[-1]) * (seeds - 1) if alive[-1] > 1 else 0
    return sum(count * 2.0**number for number, count in enumerate(alive)) + extra * 2.0 ** (len(alive) - 1)


def _share(shared: Setting, count: int, number: int, plan: Sequence[int], seeds: int) -> float | None:
    """Seconds of each training of this round: its part of the time that is left."""
    if shared.deadline is None:
        return None
    alive = [count, *plan[number:-1]]
    extra = min(2, alive[-1]) * (seeds - 1) if alive[-1] > 1 else 0
    trainings = sum(alive) + extra
    apart = float(np.mean(shared.apart)) if shared.apart else _APART
    left = shared.deadline - time.perf_counter() - trainings * apart
    return max(0.5, left / _work(alive, seeds))


def _again(
    best: Sequence[Trial], number: int, shared: Setting, seconds: float | None, length: int, seeds: int
) -> list[Trial]:
    shared.say(f"  the two best again, with {seeds - 1} more seed{'s' if seeds > 2 else ''}")
    more = range(shared.seed + 1, shared.seed + seeds)
    done = []
    for seed in more:
        for trial in best:
            if not shared.stopped:
                done.append(setting.trial(trial.candidate, number, seed, shared, seconds, length, keep=False))
    return done


def _ranked(done: Sequence[Trial], number: int, seconds: float | None) -> list[Trial]:
    """The trainings of a round that worked, best first."""
    worked = [trial for trial in done if trial.outcome is not None]
    if not worked:
        said = "; ".join(f"{trial.candidate.name}: {trial.failed.split('. ')[0]}" for trial in done)
        raise train.DivergedError(
            f"Every candidate failed in round {number + 1} ({said}). Give smaller learning rates, or look at the "
            "images: were they standardized?"
        )
    if seconds is not None and all(trial.hurried for trial in worked):
        raise ValueError(
            f"No candidate got through its first epoch in its {seconds:.1f} s. Give a larger budget_seconds, fewer "
            "candidates, fewer or smaller images, or epochs=... in place of a time."
        )
    return sorted(worked, key=lambda trial: trial.rank, reverse=True)


def _for_result(shared: Setting) -> dict[str, Any]:
    return {
        "settings_of": lambda one: setting.settings_of(one, shared),
        "maker_of": lambda one: one.maker(shared.shape, shared.classes, shared.multi_label),
        "folder": shared.folder,
        "epochs": shared.epochs,
    }


def _introduction(wanted: Sequence[Candidate], plan: Sequence[int], shared: Setting, seconds: float | None) -> str:
    n, m = len(setting.truth(shared.data)), len(setting.truth(shared.validation))
    budget = f"at most {shared.epochs} epochs each" if shared.deadline is None else f"about {seconds:g} s in all"
    return (
        f"{len(wanted)} candidate{'s' if len(wanted) > 1 else ''} on {n} training and {m} validation cases, "
        f"{len(plan)} round{'s' if len(plan) > 1 else ''}, {budget}"
    )


def _announce(number: int, plan: Sequence[int], left: Sequence[Candidate], seconds: float | None, length: int) -> str:
    each = f"{length} epochs each" if seconds is None else f"{seconds:.1f} s each"
    return f"round {number + 1} of {len(plan)}: {len(left)} candidate{'s' if len(left) > 1 else ''}, {each}"
