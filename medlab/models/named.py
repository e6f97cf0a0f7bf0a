"""Named: a network by its name, for notebooks and tables of experiments.

In: a name, the shape of one image and the number of classes. Out: what the function of that name makes.
"""

from __future__ import annotations

import difflib
import inspect
from typing import Any

from medlab.backend import keras

NETWORKS = (
    "baseline_cnn", "conv_lstm", "densenet121", "projection", "resnet", "slice_mean", "slice_rnn", "small_cnn",
    "two_and_half_d", "unet", "vit",
)  # fmt: skip
"""The functions of ``medlab.models`` from (input_shape, classes) to a network."""


def make(name: str, input_shape: tuple[int, ...], classes: int = 2, **settings: Any) -> keras.Model:
    """The network that ``medlab.models.<name>`` makes, or :func:`medlab.models.backbone` where Keras has the name.

    Args:
        name: one of ``models.NETWORKS``, or of ``keras.applications``, such as ``"EfficientNetB0"``.
        input_shape: (i, j[, k], c).
        classes: number of classes.
        **settings: what else the function takes.

    Raises:
        ValueError: an unknown name or setting (the message lists what there is), or as the function itself.
    """
    from medlab import models
    from medlab.models.applications import backbone, names

    if name in NETWORKS:
        function, first = getattr(models, name), ()
    elif name in names():
        function, first = backbone, (name,)
    else:
        near = difflib.get_close_matches(str(name), [*NETWORKS, *names()], 1)
        raise ValueError(
            f"Expected a network of {', '.join(NETWORKS)}, or one of keras.applications such as EfficientNetB0. "
            f"Received {name!r}." + (f" Did you mean {near[0]!r}?" if near else "")
        )
    known = [one for one, kind in inspect.signature(function).parameters.items() if kind.kind is kind.KEYWORD_ONLY]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise ValueError(f"{name} has no setting {unknown[0]!r}. It has {', '.join(known)}.")
    return function(*first, input_shape, classes, **settings)
