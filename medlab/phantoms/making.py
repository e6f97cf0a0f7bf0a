"""Making: many cases at once, in parallel processes, into the cache on disk.

In: a data set's name and parameters. Out: a filled cache, so that what opens the cases later only reads.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import IO, Any

import pandas as pd

from medlab.phantoms import scenario, store

# A process of its own that imports this file alone: no fork of a framework's threads, and no second run of the user's
# script, as multiprocessing's spawn would need a guard against.
_START = (
    "import json, sys; asked = json.loads(sys.argv[1]); sys.path[:] = asked.pop('path'); "
    "from medlab.phantoms import making; making.serve(**asked)"
)


def make(
    name: str, *, n: int = 1000, workers: int | None = None, progress: bool = True, **options: Any
) -> pd.DataFrame:
    """The table of :func:`medlab.phantoms.cases`, after every case was made and put into the cache on disk.

    Args:
        name: one of ``NAMES``.
        n: number of cases.
        workers: processes that make them; by default one a processor core, and none but this one where there is little
            to do.
        progress: whether a line tells how far it is.
        **options: as in :func:`medlab.phantoms.cases`.

    Returns:
        One row a case.

    Raises:
        ValueError: as :func:`medlab.phantoms.cases`, or workers below 1.
        RuntimeError: one of the processes stopped; the message ends with what it said.
    """
    if workers is not None and (not scenario.whole(workers) or workers < 1):
        raise ValueError(f"Expected at least 1 worker, or None. Received {workers!r}.")
    table = store.cases(name, n=n, **options)
    given = store.find(name).options(**options)
    # A new process reads the template of the head first, which takes as long as a hundred slices or ten volumes.
    wanted = max(1, min(_cores(), n // (100 if given["rank"] == 2 else 10))) if workers is None else int(workers)
    workers = min(wanted, n)
    from tqdm.auto import tqdm

    with tqdm(total=n, desc=name, unit="case", disable=not progress) as line:
        for _ in _here(name, range(n), given) if workers == 1 else _elsewhere(name, n, given, workers):
            line.update()
    return table


def serve(name: str, first: int, step: int, n: int, given: dict[str, Any]) -> None:
    """What each process does: makes every ``step``-th case and says so, a line each."""
    for _ in _here(name, range(first, n, step), given):
        sys.stdout.write(".\n")
        sys.stdout.flush()


def _here(name: str, indices: range, given: dict[str, Any]) -> Iterator[int]:
    for index in indices:
        store.ensure(name, index, given)
        yield index


def _elsewhere(name: str, n: int, given: dict[str, Any], workers: int) -> Iterator[None]:
    """One item a case that some process made."""
    running: list[subprocess.Popen] = []
    lines: queue.Queue[tuple[int, str | None]] = queue.Queue()

    def listen(number: int, stream: IO[str]) -> None:
        for text in stream:
            lines.put((number, text))
        lines.put((number, None))

    said = [""] * workers
    try:
        for number in range(workers):
            asked = {"path": sys.path, "name": name, "first": number, "step": workers, "n": n, "given": given}
            command = [sys.executable, "-c", _START, json.dumps(asked)]
            running.append(
                subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
                )
            )
            threading.Thread(target=listen, args=(number, running[-1].stdout), daemon=True).start()
        left = workers
        while left:
            number, text = lines.get()
            if text == ".\n":
                yield
            elif text is not None:
                said[number] += text
            else:
                left -= 1
                if running[number].wait() != 0:
                    raise RuntimeError(f"A process that makes {name} stopped. It said: {said[number].strip()[-2000:]}")
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
