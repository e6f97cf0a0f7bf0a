"""Numbering: the seed and the keys that decide what happens to each case of a batch."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def seed_of(seed: Any) -> int:
    """The seed, after making sure that it is a whole number of 0 or above."""
    try:
        number = operator.index(seed)
    except TypeError:
        number = -1
    if number < 0:
        raise ValueError(f"Expected seed as a whole number of 0 or above. Received {seed!r}.")
    return number


def rows_of(keys: ArrayLike, n: int) -> list[tuple[int, ...]]:
    """The key of each of ``n`` cases, from (n,) or (n, m) integers of 0 or above."""
    numbers = np.asarray(keys)
    if numbers.ndim not in (1, 2) or len(numbers) != n or (n and numbers.dtype.kind not in "iu"):
        raise ValueError(
            f"Expected {n} integer keys, (n,) or (n, m). Received shape {numbers.shape} and dtype {numbers.dtype}."
        )
    if numbers.size and numbers.min() < 0:
        raise ValueError(f"Expected keys of 0 or above. Received {int(numbers.min())}.")
    return [tuple(row) for row in numbers.reshape(n, -1).tolist()] if n else []
