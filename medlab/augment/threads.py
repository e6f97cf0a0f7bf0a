"""Threads: the same work for each part of a batch, side by side where that pays."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

ENOUGH = 200_000
"""Voxels from which threads pay; below them starting the threads takes longer than they save."""


def each(work: Callable[[T], object], tasks: Iterable[T], voxels: int) -> None:
    """Calls ``work`` for each task. SciPy's and NumPy's loops leave the interpreter free meanwhile.

    The result must not depend on who does which task: then it does not depend on the number of cores.
    """
    tasks = list(tasks)
    cores = min(os.cpu_count() or 1, len(tasks), 8)
    if voxels < ENOUGH or cores < 2:
        for task in tasks:
            work(task)
        return
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(work, tasks))
