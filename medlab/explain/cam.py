"""Class activation maps: where the features of one layer speak for the target.

In: any Keras model and images (n, i, j[, k], c). Out: heat maps (n, i, j[, k]) float32, 0 or above, not normalized,
brought to the size of the images by linear interpolation.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.backend import keras
from medlab.explain import branches, gradient
from medlab.explain.network import Network, check_images, input_shape, parts_of
from medlab.explain.targets import Target, of_part, scores

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
        return Network(model, check_images(model, x)).layers
    shape = input_shape(model)
    if shape is None:
        raise ValueError(f"{model.name!r} does not say the shape of its input. Call layers(model, x) with images.")
    if len(shape) not in (4, 5):
        raise ValueError(f"Expected a model of images, input (n, i, j[, k], c). Its input is {shape}.")
    usual = 64 if len(shape) == 4 else 32
    example = np.zeros((1, *(size or usual for size in shape[1:])), np.float32)
    return Network(model, example).layers


def grad_cam(
    model: keras.Model,
    x: ArrayLike,
    *,
    target: Target = None,
    layer: str | None = None,
    batch_size: int | None = None,
) -> Array:
    """Grad-CAM: ReLU of the feature maps summed with the mean of their gradients as weights.

    The score that is differentiated is the model's output before a last sigmoid or softmax. One logit stands for
    class 1 and, negated, for class 0. Layers run in inference mode (batch normalization, dropout).

    Args:
        model: a built Keras model, Sequential, functional, subclassed or with models inside; not changed.
        x: (n, i, j[, k], c) images, standardized as the model expects.
        target: class index, (n,) of them, None for the predicted class, or a function of the output, written with
            ``keras.ops``, that keeps the axis of cases.
        layer: one of :func:`layers`; by default the last. Where the output comes from several last maps side by side
            (the members of an ensemble, the planes of projections) the maps taken at each are added.
        batch_size: cases at a time; by default at most 64, fewer of large images.

    Returns:
        (n, i, j[, k]) float32, 0 or above, not normalized; 0 where nothing speaks for the target.

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
    layer: str | None = None,
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
    layer: str | None = None,
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
    layer: str | None = None,
    batch_size: int | None = None,
) -> Array:
    """Grad-CAM++: as Grad-CAM, with positions weighted so that several objects count alike.

    Arguments, result and errors as :func:`grad_cam`. The score goes through an exponential, as in the paper; its
    common factor exp(score) is left out, which scales a case's map and changes nothing within it.

    Source: Chattopadhay et al., "Grad-CAM++", WACV 2018, eqs. 5, 6 and 19.
    """
    return _maps(_grad_cam_plus_plus, model, x, target, layer, batch_size)


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
    combine: Callable[[Array, Array], Array],
    model: keras.Model,
    x: ArrayLike,
    target: Target,
    layer: str | None,
    batch_size: int | None,
) -> Array:
    """Heat maps made by ``combine`` from the features (n, a, b[, c], channels) of a layer and their gradients."""
    images = check_images(model, x)
    size = images.shape[1:-1]
    if len(images) == 0:
        return np.zeros((0, *size), np.float32)
    network = Network(model, images)
    target = network.check(target, len(images))
    paths = branches.last_maps(model, network.layers) if layer is None else [layer]
    taken = [network.layer_shape(path) for path in paths or [None]]
    heat = np.zeros(images.shape[:-1], np.float32)
    for part in parts_of(images, batch_size):
        batch = keras.ops.convert_to_tensor(images[part])
        for path, feature_shape in taken:

            def score(probe, batch=batch, part=part, path=path):
                output, features = network.tapped(batch, path, probe)
                return keras.ops.sum(scores(output, of_part(target, part))), features

            probe = np.zeros((len(images[part]), *feature_shape), np.float32)
            _, features, slope = gradient.of(score, probe)
            maps = combine(keras.ops.convert_to_numpy(features), keras.ops.convert_to_numpy(slope))
            heat[part] += upsample(np.maximum(maps, 0), size)
    return heat


def _grad_cam(features: Array, slope: Array) -> Array:
    weights = slope.mean(axis=tuple(range(1, slope.ndim - 1)))
    return np.einsum("n...c,nc->n...", features, weights)


def _hires_cam(features: Array, slope: Array) -> Array:
    return np.einsum("n...c,n...c->n...", features, slope)


def _layer_cam(features: Array, slope: Array) -> Array:
    return np.einsum("n...c,n...c->n...", features, np.maximum(slope, 0))


def _grad_cam_plus_plus(features: Array, slope: Array) -> Array:
    positions = tuple(range(1, slope.ndim - 1))
    below = 2 * slope**2 + features.sum(axis=positions, keepdims=True) * slope**3
    share = np.divide(slope**2, below, out=np.zeros_like(slope), where=below != 0)
    weights = (share * np.maximum(slope, 0)).sum(axis=positions)
    return np.einsum("n...c,nc->n...", features, weights)
