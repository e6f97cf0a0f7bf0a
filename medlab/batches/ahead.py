"""Ahead: work on many cases in order, the next ones prepared by threads, and their arrays stacked.

In: a function of one case, the cases. Out: its results in order, or one array. It knows no image.
"""

from __future__ import annotations

import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def stack(found: Iterator[NDArray], n: int, dtype: type, ids: list[str], size: Any) -> NDArray:
    """The arrays as one, after making sure that they share a shape."""
    out = None
    for number, array in enumerate(found):
        if out is None:
            out = np.empty((n, *array.shape), dtype)
        elif array.shape != out.shape[1:]:
            what = "pass size=..., a recipe with crop_or_pad or resize" if size is None else "pick cases of one kind"
            raise ValueError(
                f"Expected images of one shape. Case {ids[0]!r} has {out.shape[1:]}, case {ids[number]!r} has "
                f"{array.shape}; {what}."
            )
        out[number] = array
    return out


def in_order(work: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    """``work`` of each item in order; threads prepare the next few where one takes long enough to pay for it."""
    left = iter(items)
    for item in itertools.islice(left, 2):  # the second time imports are done and files of the set are open
        start = time.perf_counter()
        result = work(item)
        seconds = time.perf_counter() - start
        yield result
    if (os.cpu_count() or 1) < 2 or seconds < 2e-3:
        yield from map(work, left)
        return
    threads = min(os.cpu_count() or 1, 8)
    waiting: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in left:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def with_bar(found: Iterator[Any], n: int, what: str) -> Iterator[Any]:
    """The same items with a bar on standard error once it has taken two seconds."""
    from tqdm import tqdm

    return iter(tqdm(found, total=n, desc=what, delay=2, leave=False))
