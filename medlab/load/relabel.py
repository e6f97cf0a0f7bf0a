"""Relabel: masks whose values are not 0, 1, 2, ..., such as the 0 and 255 of drawing programs, numbered so.

In: the values in their order. Out: an opener whose masks hold their places in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from medlab.volume import Volume


def check(values: Any) -> tuple[int, ...]:
    """The values as whole numbers, background first.

    Raises:
        ValueError: no list of at least two different whole numbers.
    """
    whole = isinstance(values, list | tuple) and all(
        not isinstance(value, bool) and hasattr(value, "__index__") for value in values
    )
    if not whole or len(values) < 2 or len(set(values)) != len(values):
        raise ValueError(
            "Expected mask_values as a list of different whole numbers, background first, such as [0, 255]. "
            f"Received {values!r}."
        )
    return tuple(int(value) for value in values)


def opened(opener: Callable[..., Volume], values: Sequence[int], reference: str, *, kind: str = "image") -> Volume:
    """What ``opener`` opens; in masks, ``values[0]`` has become 0, ``values[1]`` 1, and so on.

    Raises:
        ValueError: a mask holds another value.
    """
    volume = opener(reference, kind=kind)
    if kind != "labels":
        return volume
    found = np.unique(volume.array)
    other = [int(value) for value in found if value not in values]
    if other:
        raise ValueError(f"Expected masks of the values {list(values)}. One also holds {other[:5]}.")
    order = np.argsort(values)
    places = np.searchsorted(np.asarray(values)[order], volume.array)
    return volume.replace(array=order[places].astype(np.uint8 if len(values) <= 256 else np.int32))
