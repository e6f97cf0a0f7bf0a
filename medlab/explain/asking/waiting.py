"""Waiting: a progress bar for work that takes long, and silence for work that does not."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def bar(items: Iterable[Item], what: str, unit: str, progress: bool | None, total: int | None = None) -> Iterator[Item]:
    """``items``, with a progress bar on the way.

    Args:
        items: what is worked on, one after the other.
        what: what is being done, the bar's title.
        unit: what one item is.
        progress: True shows the bar, False does not; None shows it after 3 seconds, where somebody looks: in a
            terminal or in a notebook.
        total: the number of items, where ``items`` has no length.
    """
    in_notebook = "ipykernel" in sys.modules and not os.environ.get("MEDLAB_HEADLESS")
    watched = in_notebook or (sys.stderr is not None and sys.stderr.isatty())
    if not (watched if progress is None else progress):
        yield from items
        return
    if in_notebook:
        from tqdm.auto import tqdm
    else:  # a widget would leave an empty place in a notebook that is run without a reader
        from tqdm import tqdm

    yield from tqdm(items, desc=what, unit=unit, total=total, leave=False, delay=3 if progress is None else 0)
