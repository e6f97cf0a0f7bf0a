"""Scaling: gradients of models that compute in float16, which cannot hold the small numbers of many positions.

In: a compiled program that multiplies the scores with a factor before it differentiates. Out: its results, for each
case with the largest power of two for which nothing overflowed. Other models are run once, with the factor 1.

Half precision ends at 6e-8 below and 65,504 above: the slope of a mean over 512 x 512 positions is not in it. A factor
moves the numbers up on the way back through the model and is taken out again in float32; as a power of two it changes
no digit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medlab.backend import keras

_FACTORS = (2.0**15, 2.0**10, 2.0**5, 1.0)


def in_half(model: keras.Model) -> bool:
    """Whether some layer of ``model`` computes in float16."""
    return any(getattr(layer, "compute_dtype", None) == "float16" for layer in model._flatten_layers())


def scaled(
    program: Callable[..., Sequence[NDArray]], arrays: tuple[NDArray, ...], *, half: bool
) -> list[NDArray[np.float32]]:
    """What ``program`` returns for (factors, *arrays), less its last result.

    Args:
        program: takes (n,) factors first and returns arrays (n, ...), the last one :func:`finite`.
        arrays: (n, ...) each.
        half: whether the model computes in float16.
    """
    n = len(arrays[0])
    *results, good = program(np.full(n, _FACTORS[0] if half else 1, np.float32), *arrays)
    if not half or good.all():
        return list(results)
    results = [np.array(one) for one in results]
    for factor in _FACTORS[1:]:
        *found, now = program(np.full(n, factor, np.float32), *arrays)
        better = ~good & now if factor > 1 else ~good
        for one, new in zip(results, found, strict=True):
            one[better] = new[better]
        good = good | now
        if good.all():
            break
    return results


def unscaled(slope: Any, scale: Any) -> Any:
    """(n, ...) ``slope`` as float32, divided by the (n,) factors."""
    slope = keras.ops.cast(slope, "float32")
    return slope / keras.ops.reshape(scale, (-1, *[1] * (len(slope.shape) - 1)))


def finite(*slopes: Any) -> Any:
    """(n,) whether all of each case's slopes are finite."""
    found = [keras.ops.all(keras.ops.isfinite(one), axis=tuple(range(1, len(one.shape)))) for one in slopes]
    return keras.ops.all(keras.ops.stack(found), axis=0)
