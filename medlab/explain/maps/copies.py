"""Rounds: changed copies of cases, run in full batches however few cases there are.

In: a question and the number of copies a case. Out: batches of (case, copy), all of one size, so that 32 steps or
1000 masks of a single image fill the batches, a backend compiles once, and memory does not grow with the copies.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from medlab.explain.asking import waiting
from medlab.explain.asking.inputs import parts_of
from medlab.explain.asking.question import Question

Array = NDArray[np.float32]
Indices = NDArray[np.intp]


def rounds(
    question: Question, copies: int, *, what: str, progress: bool | None = None, chosen: Indices | None = None
) -> Iterator[tuple[Indices, Indices, int]]:
    """Batches of rows, case after case, each copy of a case once.

    Args:
        question: whose ``batch_size`` is the number of images at a time.
        copies: how many changed copies each case has.
        what: the name beside the progress bar.
        progress: as :func:`medlab.explain.asking.waiting.bar`.
        chosen: the cases to run, in order; None runs all.

    Yields:
        (m,) cases, (m,) copies, and how many of the m rows count: the last batch is filled up with its last row.
    """
    chosen = np.arange(len(question)) if chosen is None else chosen
    total = len(chosen) * copies
    if total == 0:
        return
    size = batch_of(question, total)
    for start in waiting.bar(range(0, total, size), what, "batch", progress):
        rows = np.minimum(np.arange(start, start + size), total - 1)
        yield chosen[rows // copies], rows % copies, min(size, total - start)


def check_count(count: int, least: int, what: str) -> None:
    """Raises ValueError unless ``count`` is a whole number of at least ``least``; ``what`` names it."""
    if not isinstance(count, int | np.integer) or count < least:
        raise ValueError(f"Expected {what}, a whole number of at least {least}. Received {count}.")


def batch_of(question: Question, total: int) -> int:
    """How many images to run at a time, of ``total`` images like those of ``question``."""
    first = question.images[0]
    return next(parts_of(np.broadcast_to(first, (total, *first.shape)), question.batch_size)).stop


def gather(sums: Array, cases: Indices, values: Array) -> None:
    """Adds each of ``values`` (m, ...) to the sum of its case, in place; ``cases`` (m,) are in order."""
    for case in np.unique(cases):
        sums[case] += values[cases == case].sum(axis=0)
