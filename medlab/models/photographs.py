"""Photographs: which values the weights of ``keras.applications`` expect, family by family.

In: images whose black and white are known. Out: the same as photographs in the values that a family was trained on.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from medlab.backend import keras

layers = keras.layers

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CAFFE_MEAN = (123.68, 116.779, 103.939)
"""ImageNet's channels red, green, blue: mean and deviation from 0 to 1, mean from 0 to 255."""

_INTERVAL = re.compile("^(MobileNet|Inception|Xception|NASNet|ResNet.*V2)")
_NEARLY = re.compile("^EfficientNetV2[SML]")
_DEVIATIONS = re.compile("^(DenseNet|ConvNeXt|EfficientNetV2B)")
_BLUE_FIRST = re.compile("^(VGG|ResNet)")
INSIDE = re.compile("^EfficientNetB")
"""What the families were trained on: -1 to 1; -1 to 255 / 128 - 1; ImageNet's deviations from its mean; 0 to 255 less
ImageNet's mean, blue first; 0 to 255, scaled inside the network."""


def photograph(image: Any, name: str, interval: tuple[float, float]) -> Any:
    """Images (n, i, j, 1 or 3) as photographs in the values that the family was trained on, three channels."""
    black, white = interval
    channels = image.shape[-1]
    if channels not in (1, 3):
        raise ValueError(
            f"Pretrained weights take images of one channel or three. Received {channels}; give weights=None, or "
            "choose channels."
        )
    x = layers.Rescaling(1 / (white - black), -black / (white - black), name="black_to_white")(image)
    if channels == 1:
        x = layers.Concatenate(name="gray_to_color")([x, x, x])
    if _DEVIATIONS.match(name):
        scale = [1 / deviation for deviation in _DEVIATION]
        offset = [-mean / deviation for mean, deviation in zip(_MEAN, _DEVIATION, strict=True)]
    elif _INTERVAL.match(name):
        scale, offset = 2.0, -1.0
    elif _NEARLY.match(name):
        scale, offset = 255 / 128, -1.0
    elif _BLUE_FIRST.match(name):
        x = keras.ops.flip(x, axis=-1)
        scale, offset = 255.0, [-mean for mean in reversed(_CAFFE_MEAN)]
    elif INSIDE.match(name):
        scale, offset = 255.0, 0.0
    else:
        raise ValueError(
            f"It is not known which values the weights of {name} expect. Bring the images to them and give values=None."
        )
    return layers.Rescaling(scale, offset, name="as_trained")(x)


def rescale_inside(trunk: keras.Model, name: str, path: Path) -> None:
    """EfficientNetB0 to B7: divides by the root of ImageNet's deviations once more, as their training did.

    Keras puts a layer for this into a network only where it loads ``weights="imagenet"`` itself; here it goes into
    the variance. Files that Keras 3 wrote come from networks that need no such thing.
    """
    if not INSIDE.match(name) or path.name.endswith(".weights.h5"):
        return
    inside = next(layer for layer in trunk.layers if isinstance(layer, layers.Normalization))
    inside.adapt_variance.assign(inside.adapt_variance * keras.ops.convert_to_tensor(_DEVIATION))
    inside.finalize_state()
