"""Rehearsal: strategies for asking, tried on cases whose labels are known, against labels asked for at random.

In: a function that makes the model, a pool with all labels, a test set. Out: the test AUC against the number of labels.
"""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medlab.backend import keras
from medlab.label import received
from medlab.label.asking import METHODS, next_cases


@dataclass(frozen=True, eq=False)
class Simulation:
    """Strategies side by side.

    Attributes:
        table: one row a training: method, seed, round, labels, auc.
        summary: one row a method and number of labels: method, labels, auc (mean over seeds), low, high (its t
            interval; NaN for one seed), seeds.
        gain: one row a method but ``"random"``: the AUC less that of random with the same seed, averaged over all
            rounds after the first; low, high (t interval over seeds), seeds.
        asked: (method, seed) -> (labels,) numbers of cases in the order in which they were labeled.
    """

    table: pd.DataFrame
    summary: pd.DataFrame
    gain: pd.DataFrame
    asked: dict[tuple[str, int], NDArray[np.intp]] = field(repr=False)


def simulate(
    make_model: Callable[[int], keras.Model],
    pool: tuple[NDArray, NDArray],
    test: tuple[NDArray, NDArray],
    validation: tuple[NDArray, NDArray] | None = None,
    *,
    methods: Sequence[str] = ("random", "entropy", "bald", "core_set"),
    start: int = 20,
    step: int = 20,
    rounds: int = 4,
    seeds: int | Sequence[int] = (0, 1, 2),
    draws: int = 10,
    confidence: float = 0.95,
    progress: bool = True,
    **settings: Any,
) -> Simulation:
    """Trains on ``start`` labels, asks for ``step`` more by each method, trains anew, and so on.

    All methods of a seed begin with the same cases and the same first model. Each round trains a new model on all
    labels so far, so that the methods differ in the cases alone.

    Args:
        make_model: ``make_model(seed)`` gives a new model; for ``"bald"`` one with Dropout layers.
        pool: x (n, i, j[, k], c) and all labels y (n,), which are looked at only where a method asks.
        test: x and y on which each model is judged.
        validation: as :func:`medlab.train.fit` takes it. Its labels are used too and are not counted.
        methods: of :data:`medlab.label.METHODS`; ``"random"`` is added where it is missing.
        start: labels at the beginning: one of each class, the others at random.
        step: labels a round.
        rounds: how often is asked.
        seeds: one whole simulation each; a number n is 0 to n - 1.
        draws: of the model, for ``"bald"``.
        confidence: level of the intervals over seeds, between 0 and 1.
        progress: one line a training.
        **settings: what else fit takes; ``epochs`` is needed.

    Raises:
        ValueError: fewer labels at the start than classes, more labels than the pool has, an unknown method, no seed or
            one twice, a ``make_model`` that takes no seed, labels or settings that cannot be used.
    """
    from medlab import evaluate, train
    from medlab.train.progress import say

    _check_maker(make_model)
    x, y = np.asarray(pool[0]), received.class_indices(pool[1])
    names = _methods(methods)
    seeds = list(range(seeds)) if isinstance(seeds, int) and not isinstance(seeds, bool) else list(seeds)
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"Expected different seeds, at least one. Received {seeds!r}.")
    start, step, rounds = (
        received.whole_number(*one) for one in ((start, 1, "start"), (step, 1, "step"), (rounds, 1, "rounds"))
    )
    _enough(x, y, start, step, rounds)
    if "epochs" not in settings or "seed" in settings:
        raise ValueError("Expected epochs, and no seed (seeds gives them), among the settings of the training.")

    def learn(chosen: NDArray[np.intp], seed: int) -> tuple[keras.Model, float]:
        data = (x[chosen], y[chosen])
        model = train.fit(make_model(seed), data, validation, seed=seed, progress=False, **settings).model
        return model, float(evaluate.auc(test[1], evaluate.predict(model, test[0])))

    rows, asked = [], {}
    for seed in seeds:
        first = _first(y, start, seed)
        begun = learn(first, seed)
        for name in names:
            chosen, (model, auc) = first, begun
            for number in range(rounds + 1):
                if number:
                    new = next_cases(
                        model, x, method=name, count=step, labeled=chosen, draws=draws,
                        seed=zlib.crc32(f"{seed}/{name}/{number}".encode()),
                    )  # fmt: skip
                    chosen = np.concatenate([chosen, new.indices])
                    model, auc = learn(chosen, seed)
                rows.append({"method": name, "seed": seed, "round": number, "labels": len(chosen), "auc": auc})
                if progress:
                    say(f"seed {seed}, {name}, {len(chosen)} labels: test AUC {auc:.3f}")
            asked[name, seed] = chosen
    table = pd.DataFrame(rows)
    return Simulation(table, _summary(table, confidence), _gain(table, confidence), asked)


def _check_maker(make_model: Any) -> None:
    if not callable(make_model) or isinstance(make_model, keras.Model):
        raise ValueError(
            "Expected make_model as a function that takes a seed and gives a new model. "
            f"Received {type(make_model).__name__}."
        )
    try:
        signature = inspect.signature(make_model)
    except ValueError:  # some functions that are written in C have none
        return
    try:
        signature.bind(0)
    except TypeError:
        raise ValueError(
            "Expected make_model to take a seed, and nothing else that must be given: make_model(seed) gives a new "
            f"model. Received a function that takes {signature}."
        ) from None


def _methods(methods: Sequence[str]) -> list[str]:
    names = [methods] if isinstance(methods, str) else list(methods)
    unknown = [one for one in names if one not in METHODS]
    if unknown or not names or len(set(names)) < len(names):
        raise ValueError(f"Expected methods among {METHODS}, each once. Received {names!r}.")
    return names if "random" in names else ["random", *names]


def _enough(x: NDArray, y: NDArray[np.int64], start: int, step: int, rounds: int) -> None:
    classes = len(np.unique(y))
    if len(x) != len(y):
        raise ValueError(f"Expected one label a case of the pool. Received {len(x)} cases and {len(y)} labels.")
    if classes < 2:
        raise ValueError(f"Expected a pool of two classes or more. All {len(y)} labels are {y[0]}.")
    if start < classes:
        raise ValueError(
            f"Expected at least one label of each class at the start. Received start={start} for {classes} classes."
        )
    if start + step * rounds > len(y):
        raise ValueError(
            f"Expected at most {len(y)} labels in all, as many as the pool has. Received start + step * rounds = "
            f"{start + step * rounds}."
        )


def _first(y: NDArray[np.int64], start: int, seed: int) -> NDArray[np.intp]:
    """``start`` cases, among them one of each class."""
    order = np.random.default_rng(seed).permutation(len(y))
    of_each = order[np.unique(y[order], return_index=True)[1]]
    rest = order[~np.isin(order, of_each)]
    return np.concatenate([of_each, rest])[:start]


def _summary(table: pd.DataFrame, confidence: float) -> pd.DataFrame:
    rows = [
        {"method": name, "labels": labels, **_mean(part["auc"], "auc", confidence)}
        for (name, labels), part in table.groupby(["method", "labels"], sort=False)
    ]
    summary = pd.DataFrame(rows)
    summary[["low", "high"]] = summary[["low", "high"]].clip(0, 1)  # no AUC lies beyond, whatever three seeds allow
    return summary


def _gain(table: pd.DataFrame, confidence: float) -> pd.DataFrame:
    later = table[table["round"] > 0].groupby(["method", "seed"], sort=False)["auc"].mean().unstack("seed")
    rows = [
        {"method": name, **_mean(later.loc[name] - later.loc["random"], "gain", confidence)}
        for name in later.index
        if name != "random"
    ]
    return pd.DataFrame(rows, columns=["method", "gain", "low", "high", "seeds"])


def _mean(values: pd.Series, name: str, confidence: float) -> dict[str, float]:
    from scipy.stats import t

    n = len(values)
    half = t.ppf((1 + confidence) / 2, n - 1) * values.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
    mean = float(values.mean())
    return {name: mean, "low": mean - half, "high": mean + half, "seeds": n}
