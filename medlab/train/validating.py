"""Validating: how good a model is on the validation set, measured batch by batch.

In: a model and the validation set. Out: the row of an epoch, and the order in which epochs rank. Outputs of
segmentation are judged case by case and not kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from medlab.backend import keras
from medlab.train import feed, labels, losses, score

if TYPE_CHECKING:
    from medlab.train.loop import Job

_ROOM = 4_000_000
"""Values of images that validation holds at once where the batches of training are smaller than 64."""


def measure(model: keras.Model, job: Job) -> dict[str, float]:
    """val_loss, and what the task is judged by: val_auc and val_accuracy, or val_dice; empty without validation set."""
    if job.validation is None:
        return {}
    objective = job.objective
    total, cases, outputs, truth, overlaps = 0.0, 0, [], [], []
    for x, y in feed.batches(job.validation, _batch_size(job)):
        out = job.setup.predict(model, x)
        value = objective.plain_loss(objective.encode(y), out)
        total += len(x) * float(keras.ops.convert_to_numpy(keras.ops.mean(value)))
        cases += len(x)
        if objective.task == losses.SEGMENTATION:
            if feed.has_masks(job.validation, y):
                losses.check_labels(y, objective, name="validation")
            overlaps.append(score.dice(y, out))
        elif objective.task != losses.OTHER:
            outputs.append(out)
            truth.append(labels.indices(y) if objective.task == losses.MULTICLASS else y)
    row = {"val_loss": total / cases}
    if overlaps:
        known = np.concatenate(overlaps)
        known = known[~np.isnan(known)]
        row["val_dice"] = float(known.mean()) if known.size else math.nan
    if outputs:
        y = np.concatenate(truth)
        p = score.probabilities(np.concatenate(outputs), objective.task, logits=objective.logits)
        row |= {"val_auc": score.auc(y, p), "val_accuracy": score.accuracy(y, p)}
    return row


def rank(row: Mapping[str, Any]) -> tuple[float, float]:
    """Larger is better: by AUC or Dice, on equal ones by loss; by loss alone where they are undefined."""
    first = row.get("val_dice", row.get("val_auc", math.nan))
    loss = row.get("val_loss", math.nan)
    return (-math.inf if math.isnan(first) else first, -math.inf if math.isnan(loss) else -loss)


def _batch_size(job: Job) -> int:
    """At least that of training; up to 64 where images are small. Masks: that of training, outputs are as large."""
    if job.objective.task == losses.SEGMENTATION or isinstance(job.validation, keras.utils.PyDataset):
        return job.batch_size
    return max(job.batch_size, min(64, _ROOM // math.prod(np.shape(job.validation[0])[1:])))
