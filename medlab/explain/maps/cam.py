"""Class activation maps: where the features of one layer speak for the target.

In: any Keras model and images (n, i, j[, k], c). Out: heat maps (n, i, j[, k]) float32, 0 or above, not normalized,
brought to the size of the images by linear interpolation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.backend import keras
from medlab.explain.asking import branches
from medlab.explain.asking.inputs import given, input_shape
from medlab.explain.asking.network import Network
from medlab.explain.asking.question import Question
from medlab.explain.asking.targets import Target

Array = NDArray[np.float32]


def layers(model: keras.Model, x: ArrayLike | None = None) -> list[str]:
    """The layers a class activation map can be taken at, in the order in which they run.

    A layer inside another is written with its way, ``"backbone/conv5"``. Left out are layers that make no features
    (pooling, padding, dropout, ...), layers whose map has a single position, layers that run more than once, and
    the output itself.

    Args:
        model: a built Keras model with one image input.
        x: (n, i, j[, k], c) images, needed only by a subclassed model that does not know its input's shape.

    Raises:
        ValueError: the model has no weights yet, has several inputs, or does not say its input's shape.
    """
    if x is not None:
        return Network.of(model, given(model, x)).layers
    shape = input_shape(model)
    if shape is None:
        raise ValueError(f"{model.name!r} does not say the shape of its input. Call layers(model, x) with images.")
    if len(shape) not in (4, 5):
        raise ValueError(f"Expected a model of images, input (n, i, j[, k], c). Its input is {shape}.")
    usual = 64 if len(shape) == 4 else 32
    example = np.zeros((1, *(size or usual for size in shape[1:])), np.float32)
    return Network.of(model, given(model, example)).layers


def grad_cam(
    model: keras.Model,
    x: ArrayLike,
    *,
    target: Target = None,
    layer: str | Sequence[str] | None = None,
    batch_size: int | None = None,
) -> Array:
    """Grad-CAM: ReLU of the feature maps summed with the mean of their gradients as weights.

    The score that is differentiated is the model's output before a last sigmoid or softmax. Where that cannot be had
    (the model uses the probability itself, shares the layer, averages members, or computes it without a layer) it is
    the probability's own logit log(p / (1 - p)), for a softmax log p. One logit stands for class 1 and, negated, for
    class 0. Layers run in inference mode (batch normalization, dropout).

    Args:
        model: a built Keras model, Sequential, functional, subclassed or with models inside; not changed.
        x: (n, i, j[, k], c) images, standardized as the model expects; of a model with several inputs all of them, in
            the structure of its input (see :class:`medlab.explain.Inputs`).
        target: class index, (n,) of them, None for the predicted class, or a function of the output, written with
            ``keras.ops``, that keeps the axis of cases. Of a model with several outputs one of these by the output's
            name, ``{"grade": 2}``, or a function of all.
        layer: one of :func:`layers`; by default the last. Where the output comes from several last maps side by side
            (the members of an ensemble, the planes of projections) the maps taken at each are added. A list of names
            fuses the maps taken at them: each is divided by its largest value in a case, because gradients differ in
            size from layer to layer, and their mean is taken, so that a fused map lies between 0 and 1.
        batch_size: cases at a time; by default at most 64, fewer of large images.

    Returns:
        (n, i, j[, k]) float32, 0 or above, not normalized; 0 where nothing speaks for the target. A map lies on the
        grid of its image: ``load.write(volume.replace(array=heat[0]), "heat.nii.gz")`` saves it with the affine of the
        Volume that the image came from.

    Raises:
        ValueError: images of another shape or with NaN, an unknown layer, a target out of range, or a model
            without a feature map.

    Source: Selvaraju et al., "Grad-CAM", ICCV 2017, eqs. 1 and 2.
    """
    return _maps(_grad_cam, model, x, target, layer, batch_size)


def hires_cam(
    model: keras.Model,
    x: ArrayLike,
    *,
    target: Target = None,
    layer: str | Sequence[str] | None = None,
    batch_size: int | None = None,
) -> Array:
    """HiResCAM: ReLU of the sum over channels of features times their gradients, position by position.

    Arguments, result and errors as :func:`grad_cam`. Exact where one dense layer follows the feature map.

    Source: Draelos and Carin, "Use HiResCAM instead of Grad-CAM", 2020, eq. 5.
    """
    return _maps(_hires_cam, model, x, target, layer, batch_size)


def layer_cam(
    model: keras.Model,
    x: ArrayLike,
    *,
    target: Target = None,
    layer: str | Sequence[str] | None = None,
    batch_size: int | None = None,
) -> Array:
    """LayerCAM: ReLU of the sum over channels of features times the positive part of their gradients.

    Arguments, result and errors as :func:`grad_cam`. Meant for early layers too, where maps are finer.

    Source: Jiang et al., "LayerCAM", IEEE TIP 2021, eqs. 5 to 7.
    """
    return _maps(_layer_cam, model, x, target, layer, batch_size)


def grad_cam_plus_plus(
    model: keras.Model,
    x: ArrayLike,
    *,
    target: Target = None,
    layer: str | Sequence[str] | None = None,
    batch_size: int | None = None,
) -> Array:
    """Grad-CAM++: as Grad-CAM, with positions weighted so that several objects count alike.

    Arguments, result and errors as :func:`grad_cam`. The score goes through an exponential, as in the paper; its
    common factor exp(score) is left out, which scales a case's map and changes nothing within it.

    Source: Chattopadhay et al., "Grad-CAM++", WACV 2018, eqs. 5, 6 and 19.
    """
    return _maps(_grad_cam_plus_plus, model, x, target, layer, batch_size)


def xgrad_cam(
    model: keras.Model,
    x: ArrayLike,
    *,
    target: Target = None,
    layer: str | Sequence[str] | None = None,
    batch_size: int | None = None,
) -> Array:
    """XGrad-CAM: as Grad-CAM, with the gradients weighted by the share of the feature map that lies at each position.

    Arguments, result and errors as :func:`grad_cam`. A feature map that sums to 0 has no shares and no weight.

    Source: Fu et al., "Axiom-based Grad-CAM", BMVC 2020, eqs. 8 and 9.
    """
    return _maps(_xgrad_cam, model, x, target, layer, batch_size)


def upsample(maps: Array, shape: tuple[int, ...]) -> Array:
    """Maps at another size, by linear interpolation with pixels as areas.

    Both sizes cover the same image, edge to edge: a 2 x 2 map covers the quarters. Beyond the outermost centers the
    outermost value is kept.

    Args:
        maps: (n, a, b[, c]).
        shape: (i, j[, k]), the new size.

    Returns:
        (n, i, j[, k]) float32.
    """
    result = np.asarray(maps, np.float32)
    for axis, size in enumerate(shape, start=1):
        weights = _interpolation(result.shape[axis], size)
        result = np.moveaxis(np.tensordot(weights, result, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(result)


def _interpolation(old: int, new: int) -> Array:
    """(new, old): each new center as a mean of the two old centers around it."""
    position = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    return np.maximum(0, 1 - np.abs(position[:, None] - np.arange(old))).astype(np.float32)


def _maps(
    combine: Callable[[Any, Any], Any],
    model: keras.Model,
    x: ArrayLike,
    target: Target,
    layer: str | Sequence[str] | None,
    batch_size: int | None,
) -> Array:
    """Heat maps made by ``combine`` from the features (n, a, b[, c], channels) of layers and their gradients."""
    question = Question(model, x, target, batch_size=batch_size)
    heat = np.zeros((len(question), *question.size), np.float32)
    if len(question) == 0:
        return heat
    paths, fused = chosen(question, layer)
    for part in question.parts(tail_only=True):
        maps = question.at_layers(paths, part, combine)
        heat[part] = fuse([upsample(np.maximum(one, 0), question.size) for one in maps], fused)
    return heat


def chosen(question: Question, layer: str | Sequence[str] | None) -> tuple[list[str], bool]:
    """The layers that maps are taken at, and whether they are fused rather than added.

    Raises:
        ValueError: no layer, or one that the model does not have.
    """
    network = question.network
    names = [layer] if layer is None or isinstance(layer, str) else layer
    if not isinstance(names, Sequence) or not all(one is None or (isinstance(one, str) and one) for one in names):
        raise ValueError(f"Expected as layer a name, a list of names, or None for the last. Received {layer!r}.")
    fused = layer is not None and not isinstance(layer, str)
    if fused:
        paths: list[Any] = list(dict.fromkeys(layer))
        if not paths:
            raise ValueError("Expected a layer or a list of layers. Received an empty list.")
    else:
        paths = [layer] if layer else branches.last_maps(question.model, network.layers) or [None]
    return [network.layer_shape(path)[0] for path in paths], fused


def fuse(maps: Sequence[Array], fused: bool) -> Array:
    """One map from those of several layers: their sum, or the mean of each divided by its largest value."""
    if not fused:
        return np.sum(maps, axis=0)
    total = np.zeros_like(maps[0])
    for one in maps:
        largest = one.max(axis=tuple(range(1, one.ndim)), keepdims=True)
        total += np.divide(one, largest, out=np.zeros_like(one), where=largest > 0)
    return total / np.float32(len(maps))


def _grad_cam(features: Any, slope: Any) -> Any:
    return _weighted(features, keras.ops.mean(slope, axis=_positions(slope), keepdims=True))


def _hires_cam(features: Any, slope: Any) -> Any:
    return _weighted(features, slope)


def _layer_cam(features: Any, slope: Any) -> Any:
    return _weighted(features, keras.ops.maximum(slope, 0))


def _xgrad_cam(features: Any, slope: Any) -> Any:
    positions = _positions(slope)
    whole = keras.ops.sum(features, axis=positions, keepdims=True)
    return _weighted(features, _ratio(keras.ops.sum(features * slope, axis=positions, keepdims=True), whole))


def _grad_cam_plus_plus(features: Any, slope: Any) -> Any:
    positions = _positions(slope)
    below = 2 * slope**2 + keras.ops.sum(features, axis=positions, keepdims=True) * slope**3
    share = _ratio(slope**2, below)
    return _weighted(features, keras.ops.sum(share * keras.ops.maximum(slope, 0), axis=positions, keepdims=True))


def _weighted(features: Any, weights: Any) -> Any:
    return keras.ops.sum(features * weights, axis=-1)


def _positions(maps: Any) -> tuple[int, ...]:
    return tuple(range(1, len(maps.shape) - 1))


def _ratio(above: Any, below: Any) -> Any:
    """``above / below``, 0 where ``below`` is 0."""
    empty = below == 0
    return keras.ops.where(empty, 0.0, above / keras.ops.where(empty, 1.0, below))
