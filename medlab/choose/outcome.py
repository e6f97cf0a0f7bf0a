"""Outcome: what an experiment found.

In: trainings that are done. Out: an object with a table, curves, the choice, its reasons and pictures; the test cases
are judged by it once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medlab.choose.options import Candidate
from medlab.train import parts, progress

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

    from medlab.evaluate import Evaluation


@dataclass(frozen=True, eq=False)
class Trial:
    """One training of a candidate.

    Attributes:
        candidate: what was trained.
        round: its round, from 0.
        seed: its seed.
        outcome: what it gave, None where it failed.
        failed: why it failed, or None.
        folder: its run folder, or None.
    """

    candidate: Candidate
    round: int
    seed: int
    outcome: parts.Outcome | None
    failed: str | None
    folder: Path | None

    @property
    def auc(self) -> float:
        """Validation AUC of the epoch that was kept."""
        return math.nan if self.outcome is None else self.outcome.row.get("val_auc", math.nan)

    @property
    def rank(self) -> tuple[float, float]:
        """Larger is better: AUC, on equal AUC the smaller validation loss."""
        if self.outcome is None:
            return (-math.inf, -math.inf)
        loss = self.outcome.row.get("val_loss", math.inf)
        return (-math.inf if math.isnan(self.auc) else self.auc, -loss)

    @property
    def p(self) -> np.ndarray:
        """Its probabilities of the validation cases."""
        return self.outcome.probabilities["validation"]

    @property
    def hurried(self) -> bool:
        """Whether its time was over before the first epoch was."""
        return self.outcome is not None and (self.outcome.stopped or "").endswith("before the first epoch was over")


@dataclass(frozen=True, eq=False)
class Experiment:
    """What :func:`medlab.choose.experiment` found.

    Attributes:
        table: one row a candidate, best first: its settings, the last ``round`` it was in, epochs, seconds, weights,
            ``auc`` of validation there with its interval ``low`` to ``high`` over patients (one seed), ``mean`` and
            ``sd`` over the seeds of a finalist, ``behind`` the choice after an equal training, with the paired
            interval ``behind_low`` to ``behind_high``, and the ``verdict``.
        curves: one row an epoch of each training: candidate, round, seed, epoch, seconds, loss, val_loss, val_auc,
            learning_rate.
        best: the candidate that was chosen.
        reasons: two sentences on each choice, by its name.
        settings: for :func:`medlab.train.fit`, with ``epochs``.
        make_model: ``make_model(seed)`` of the choice.
        model: the choice as it was trained in the last round.
        notes: what a reader has to know.
        seconds: of the whole experiment.
        timed: whether the budget was a time, so that the numbers depend on the machine.
        run: its folder, or None.
    """

    table: pd.DataFrame
    curves: pd.DataFrame = field(repr=False)
    best: Candidate
    reasons: dict[str, str]
    settings: dict[str, Any]
    make_model: Callable = field(repr=False)
    model: keras.Model = field(repr=False)
    notes: list[str]
    seconds: float
    timed: bool = True
    run: Path | None = None
    _judged: dict[str, str] = field(default_factory=dict, repr=False)

    def plot(self) -> Figure:
        """The curves of all candidates, round by round, and below them the table's intervals."""
        from medlab.choose import drawing

        return drawing.overview(self.table, self.curves, over="seconds" if self.timed else "epoch")

    def explain(self) -> str:
        """The reasons and notes as text."""
        lines = [f"{name.replace('_', ' ')}: {text}" for name, text in self.reasons.items()]
        return "\n".join(lines + [f"Note: {note}" for note in self.notes])

    def judge(self, x: np.ndarray, y: np.ndarray, *, groups: Any = None, classes: Any = None) -> Evaluation:
        """The choice on the test cases, once: the first number in which nothing was decided on the cases it is of.

        Args:
            x: (n, i, j[, k], c) test images.
            y: (n,) or (n, classes) their labels.
            groups: (n,) the patient of each case.
            classes: class names.

        Raises:
            ValueError: it was judged on other cases before: whoever looks twice begins to choose by test cases.
        """
        from medlab import evaluate

        key = parts.data_key((x, y))
        before = self._judged.get("key") or self._noted()
        if before not in (None, key):
            raise ValueError(
                "The choice was judged on other test cases before. A second test set turns the first into validation "
                "data; report the first, or run a new experiment."
            )
        multi_label = np.ndim(y) == 2 and np.shape(y)[1] > 1
        p = evaluate.predict(self.model, x, multi_label=multi_label)
        found = evaluate.classification(y, p, groups=groups, classes=classes)
        if before is None:
            self._judged["key"] = key
            if self.run is not None:
                (self.run / "judged.json").write_text(json.dumps({"test": key}), encoding="utf-8")
            row = found.table.loc["auc"]
            progress.say(
                f"judged once, on {len(x)} test cases that decided nothing before: {self.best.name}, AUC "
                f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
            )
        return found

    def _noted(self) -> str | None:
        file = None if self.run is None else self.run / "judged.json"
        return json.loads(file.read_text(encoding="utf-8"))["test"] if file is not None and file.is_file() else None
