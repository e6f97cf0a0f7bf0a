"""Stability: how much of a model's skill is left when images get worse.

In: a predictor, images and truth. Out: the metric under noise, blur, contrast change and lost pixels or slices, at
five severities, as a table, a curve and one number. The images themselves are never changed.
"""

from __future__ import annotations

import html
import os
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from medlab.evaluate import inputs, interval, metrics
from medlab.evaluate.predictions import batch_of
from medlab.evaluate.predictions import predict as predict_model
from medlab.evaluate.result import NAMES, count, number

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

Artifact = Callable[..., NDArray]
"""``artifact(array, *, severity, rng) -> array`` on one case (i, j[, k], c)."""


@dataclass(frozen=True, eq=False, repr=False)
class Stability:
    """A metric on ever worse images.

    Attributes:
        table: index (artifact, severity), the first row ``("clean", 0)``; columns ``value``, ``low``, ``high`` of the
            metric, ``drop`` (clean minus corrupted; above 0 the artifact hurts) with ``drop_low`` and ``drop_high``
            on the same resamples, ``accuracy``, ``flips`` (share of cases whose call changes) and ``n``.
        summary: ``metric``, ``clean`` (its value on the images as they are), ``stability`` (mean of the metric over
            artifacts and severities divided by ``clean``: 1 is unharmed), ``mean_drop``, ``worst`` (the artifact
            with the largest mean drop), ``worst_drop``, ``mean_flips``.
        metric: the metric's name.
        n: number of cases.
        patients: number of patients.
        confidence: level of the intervals.
        notes: what a reader has to know.
    """

    table: pd.DataFrame
    summary: dict[str, Any]
    metric: str
    n: int
    patients: int
    confidence: float
    notes: list[str] = field(default_factory=list)

    def plot(self) -> Figure:
        """The metric over severity, one curve an artifact, as a matplotlib Figure."""
        from medlab import view

        return view.stability_curve(self, metric=self.metric)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types: the summary, and the table by artifact; an undefined number is None."""
        columns = [name for name in self.table.columns if name != "n"]
        artifacts: dict[str, list[dict[str, float | int | None]]] = {}
        for (artifact, severity), row in self.table.drop("clean", level="artifact").iterrows():
            entry = {"severity": int(severity)} | {name: number(row[name]) for name in columns}
            artifacts.setdefault(artifact, []).append(entry)
        plain = {name: number(value) if isinstance(value, float) else value for name, value in self.summary.items()}
        facts = {"n": self.n, "patients": self.patients, "confidence": self.confidence}
        return {**plain, **facts, "artifacts": artifacts, "notes": list(self.notes)}

    def __str__(self) -> str:
        wide = self._wide()
        lines = [self._headline(), wide.to_string(float_format=lambda value: f"{value:.3f}")]
        return "\n".join(lines + [f"  - {note}" for note in self.notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        table = self._wide().to_html(float_format=lambda value: f"{value:.3f}", border=0)
        return f"<p>{html.escape(self._headline())}</p>{table}" + (f"<ul>{notes}</ul>" if notes else "")

    def _wide(self) -> pd.DataFrame:
        """One row an artifact, one column a severity, the clean value in each row."""
        harmed = self.table["value"].drop("clean", level="artifact")
        wide = harmed.unstack("severity").reindex(harmed.index.unique("artifact"))
        wide.insert(0, 0, self.summary["clean"])
        return wide

    def _headline(self) -> str:
        name = NAMES[self.metric]
        text = f"{name} by artifact and severity, {count(self.n, 'case')}; clean {self.summary['clean']:.3f}"
        if self.summary["worst"] is None:
            return text
        return (
            f"{text}, stability {self.summary['stability']:.3f}, worst: {self.summary['worst']} "
            f"(mean drop {self.summary['worst_drop']:.3f})"
        )


def stability(
    predict: Callable[[NDArray], ArrayLike] | keras.Model,
    x: ArrayLike,
    y: ArrayLike,
    *,
    modality: str | None,
    severities: Iterable[int] = (1, 2, 3, 4, 5),
    artifacts: Mapping[str, Artifact] | None = None,
    metric: str = "auc",
    groups: ArrayLike | None = None,
    seed: int = 0,
    n: int = 500,
    confidence: float = 0.95,
    threshold: float = 0.5,
    progress: bool = True,
) -> Stability:
    """The metric under each artifact at each severity.

    Args:
        predict: a function from images (m, i, j[, k], c) to probabilities (m,) or (m, classes), or a Keras model,
            which goes through :func:`medlab.evaluate.predict`.
        x: (n, i, j[, k], c) images as the model gets them.
        y: (n,) class indices, or (n, classes) of 0 and 1.
        modality: DICOM code such as ``"MR"`` or ``"CT"``, which chooses the artifacts, or None.
        severities: whole numbers from 1 (slight) to 5 (hard even for a reader); 0, the clean images, is always there.
        artifacts: name -> ``artifact(array, *, severity, rng) -> array`` on one case; by default those of
            ``medlab.augment`` for the modality. Another choice does not change the noise of those that stay.
        metric: ``"auc"`` or another row of :func:`medlab.evaluate.classification` where higher is better. Where AUC
            is undefined (one class), accuracy is taken and a note says so.
        groups: (n,) patient of each case, for the intervals.
        seed: the same seed gives each case the same artifact, whatever the batches. A case keeps its random pattern
            over the severities, so that a curve shows severity and not luck.
        n: number of resamples; the same patients are drawn for every artifact and for the clean images.
        confidence: level of the intervals.
        threshold: a case is called positive from this probability.
        progress: show a progress bar.

    Returns:
        A Stability. At most one batch of changed images is held at a time.

    Raises:
        ValueError: no cases, lengths that differ, NaN, a severity outside 0 to 5, no artifacts, a metric where lower
            is better, an artifact that changes the shape or gives NaN.

    Source: severities and averaging over them after Hendrycks and Dietterich, ICLR 2019 (ImageNet-C), and MedMNIST-C
    (Di Salvo et al., 2024). Those divide errors by a reference model's; here the skill that is left is divided by the
    skill on clean images, which needs no reference. A model that guesses is perfectly stable: read it beside the AUC.
    """
    interval.check_level(confidence, n)
    x = np.asarray(x)
    levels = _levels(severities)
    if metric not in metrics.METRICS or metric in metrics.LOWER_IS_BETTER:
        allowed = ", ".join(name for name in metrics.METRICS if name not in metrics.LOWER_IS_BETTER)
        raise ValueError(f"Expected a metric among {allowed}. Received {metric!r}.")
    if x.ndim not in (4, 5) or not len(x):
        raise ValueError(f"Expected images (n, i, j[, k], c), at least one. Received shape {x.shape}.")
    if len(x) != len(np.asarray(y)):
        raise ValueError(
            f"Expected one label for each image. Received {len(x)} images and {len(np.asarray(y))} labels."
        )
    chosen = _standard(modality, x.ndim - 2) if artifacts is None else dict(artifacts)
    if not chosen or "clean" in chosen:
        raise ValueError(f"Expected at least one artifact, none named clean. Received {list(chosen)}.")
    ask, size = _predictor(predict, np.asarray(y).ndim == 2), batch_of(x)

    def judge(pixels: Callable[[int, int], NDArray], only: tuple[str, ...]) -> tuple[inputs.Task, interval.Sample]:
        p = np.concatenate([np.asarray(ask(pixels(start, start + size))) for start in range(0, len(x), size)])
        task = inputs.check(y, p)
        return task, interval.draw(task, groups, n=n, seed=seed, threshold=threshold, only=only)

    notes = []
    clean_task, clean = judge(lambda start, stop: x[start:stop], tuple(dict.fromkeys((metric, "accuracy"))))
    if np.isnan(clean.values[0][metric]):
        notes.append(f"{NAMES[metric]} is undefined for these cases: accuracy is shown instead.")
        metric = "accuracy"
    only = tuple(dict.fromkeys((metric, "accuracy")))
    group, patients = inputs.patients(groups, len(x))

    def row(task: inputs.Task, sample: interval.Sample) -> tuple[float, ...]:
        value, draws = sample.values[0][metric], sample.draws[0][metric]
        options = {"threshold": threshold, "confidence": confidence, "n": n, "seed": seed}
        limits = interval.limits(metric, value, draws, task, group, **options)
        drop = clean.values[0][metric] - value
        drop_limits = interval.percentiles(clean.draws[0][metric] - draws, confidence)
        flips = float((_calls(task, threshold) != _calls(clean_task, threshold)).any(axis=1).mean())
        return value, *limits, drop, *drop_limits, sample.values[0]["accuracy"], flips, len(x)

    rows = {("clean", 0): row(clean_task, clean)}
    for name, level in _with_progress([(name, level) for name in chosen for level in levels], progress):
        rows[name, level] = row(*judge(_corrupted(x, chosen[name], name, level, seed), only))
    columns = ["value", "low", "high", "drop", "drop_low", "drop_high", "accuracy", "flips", "n"]
    index = pd.MultiIndex.from_tuples(rows, names=["artifact", "severity"])
    table = pd.DataFrame(list(rows.values()), index=index, columns=columns)
    return Stability(table, _summary(table, metric), metric, len(x), patients, confidence, notes)


def _summary(table: pd.DataFrame, metric: str) -> dict[str, Any]:
    harmed = table[table.index.get_level_values("severity") > 0]
    clean = float(table.loc[("clean", 0), "value"])
    result = {"metric": metric, "clean": clean}
    if not len(harmed):
        return result | {"stability": 1.0, "mean_drop": 0.0, "worst": None, "worst_drop": 0.0, "mean_flips": 0.0}
    by_artifact = harmed.groupby(level="artifact", sort=False)[["value", "drop", "flips"]].mean()
    worst = by_artifact["drop"].idxmax()
    return result | {
        "stability": float((by_artifact["value"] / clean).mean()) if clean else np.nan,
        "mean_drop": float(by_artifact["drop"].mean()),
        "worst": str(worst),
        "worst_drop": float(by_artifact.loc[worst, "drop"]),
        "mean_flips": float(by_artifact["flips"].mean()),
    }


def _corrupted(x: NDArray, artifact: Artifact, name: str, severity: int, seed: int) -> Callable[[int, int], NDArray]:
    """A function that gives cases ``start`` to ``stop`` with the artifact, each from a generator of its own."""
    key = zlib.crc32(name.encode())

    def batch(start: int, stop: int) -> NDArray:
        cases = x[start:stop]
        changed = np.empty(cases.shape, np.float32)
        for offset, case in enumerate(cases):
            generator = np.random.default_rng([seed, key, start + offset])
            result = np.asarray(artifact(case.copy(), severity=severity, rng=generator))
            if result.shape != case.shape or not np.isfinite(result).all():
                raise ValueError(
                    f"Expected a finite array of shape {case.shape} from the artifact {name!r} at severity {severity}. "
                    f"Received shape {result.shape}{'' if result.shape != case.shape else ' with NaN or infinity'}."
                )
            changed[offset] = result
        return changed

    return batch


def _standard(modality: str | None, rank: int) -> dict[str, Artifact]:
    from medlab.augment import artifacts

    return artifacts.standard(modality, rank)


def _predictor(predict: Any, multi_label: bool) -> Callable[[NDArray], ArrayLike]:
    """The function itself, or a Keras model turned into one."""
    import sys

    keras = sys.modules.get("keras")  # a Keras model cannot exist unless Keras is loaded
    if keras is not None and isinstance(predict, keras.Model):
        return lambda images: predict_model(predict, images, multi_label=multi_label)
    if not callable(predict):
        raise ValueError(f"Expected a function or a Keras model. Received {type(predict).__name__}.")
    return predict


def _levels(severities: Iterable[int]) -> list[int]:
    levels = list(severities)
    if not levels or any(level not in range(6) for level in levels):
        raise ValueError(f"Expected severities among 1, 2, 3, 4 and 5. Received {levels}.")
    return sorted({int(level) for level in levels} - {0})


def _calls(task: inputs.Task, threshold: float) -> NDArray:
    """(n, decisions) what each case is called."""
    called = task.p.argmax(axis=1) if task.kind == "multi-class" else task.p >= threshold
    return called.reshape(task.n, -1)


def _with_progress(work: list[tuple[str, int]], progress: bool) -> Iterable[tuple[str, int]]:
    if not progress:
        return work
    if os.environ.get("MEDLAB_HEADLESS"):  # a widget would leave an empty place in the executed notebook
        from tqdm import tqdm
    else:
        from tqdm.auto import tqdm

    return tqdm(work, desc="stability", unit="artifact", leave=False)
