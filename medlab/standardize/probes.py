"""Probes: whether a step takes its arguments, asked when a recipe is made and not at the first image.

In: a step with its arguments. Out: nothing, or an error that names the step. No image of a wanted size is made.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from medlab.standardize import space
from medlab.volume import Volume

_SIZES = {"resample": "spacing", "resize": "shape", "crop_or_pad": "shape"}


def probe(step: str, function: Callable[..., Volume], arguments: dict[str, Any]) -> None:
    """Makes sure that a step takes its arguments, by doing it on a volume of 2 x 2 x 2 voxels.

    A mask given as an array is left out, since it belongs to one image; sizes are checked by themselves, and may be
    those of pictures.

    Raises:
        ValueError: an argument is missing, or the step refuses one.
    """
    parameters = inspect.signature(function).parameters.values()
    required = [one.name for one in parameters if one.default is one.empty and one.name != "volume"]
    missing = [name for name in required if name not in arguments]
    if missing:
        raise ValueError(f"{step!r} needs {' and '.join(missing)}. Give {step}={{{missing[0]!r}: ...}}.")
    tiny = Volume(np.arange(8, dtype=np.float32).reshape(2, 2, 2))
    tried = dict(arguments)
    if not isinstance(tried.get("mask"), str | None):
        tried.pop("mask")
    try:
        if step in _SIZES:
            key = _SIZES[step]
            rank = 2 if isinstance(tried[key], list | tuple) and len(tried[key]) == 2 else 3
            if key == "shape":
                space.whole_shape(tried[key], rank)
            else:
                space.per_axis(tried[key], rank, "a spacing in mm")
            tried[key] = 2 if key == "shape" else 1.0
        function(tiny, **tried)
    except (ValueError, TypeError, AttributeError) as error:
        text = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise ValueError(f"Step {step!r} cannot be done with {text or 'no argument'}. {error}") from error
