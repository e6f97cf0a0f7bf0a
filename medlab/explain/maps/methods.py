"""Methods: the functions of this room that make heat maps, by name, and the maps that anyone can draw without a model.

In: a name, a function, or several of them. Out: functions (model, x, *, target, batch_size) -> (n, i, j[, k]).
Nothing is imported before it is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.explain.maps.draws import generator_of

Method = Callable[..., NDArray[np.float32]]
Methods = str | Method | Sequence[str | Method] | Mapping[str, str | Method]

# Functions of ``medlab.explain``; what it exports them from is said there.
METHODS = (
    "grad_cam", "grad_cam_plus_plus", "hires_cam", "layer_cam", "xgrad_cam", "score_cam", "eigen_cam",
    "saliency", "input_times_gradient", "integrated_gradients", "smooth_grad", "var_grad",
    "guided_backprop", "guided_grad_cam", "occlusion", "rise", "attention_rollout",
)  # fmt: skip


def find(method: str | Method) -> Method:
    """The function that ``method`` names; a function is returned as it is.

    Raises:
        ValueError: there is no such method.
    """
    if callable(method):
        return method
    if method not in METHODS:
        raise ValueError(f"There is no method {method!r}. There are: {', '.join(METHODS)}.")
    return getattr(importlib.import_module("medlab.explain"), method)


def chosen(methods: Methods) -> dict[str, Method]:
    """The functions of several methods, by name.

    Args:
        methods: one or several names or functions; a mapping of names of your own; or ``"all"`` there are.

    Raises:
        ValueError: no names or functions, there is no such method, or two have the same name.
    """
    if isinstance(methods, Mapping):
        return {str(name): find(method) for name, method in methods.items()}
    if isinstance(methods, str) and methods == "all":
        methods = tuple(METHODS)
    if isinstance(methods, str) or callable(methods):
        methods = (methods,)
    if not isinstance(methods, Sequence | set | frozenset):
        raise ValueError(
            f'Expected methods as names or functions, several of them, a mapping, or "all". Received {methods!r}.'
        )
    found: dict[str, Method] = {}
    for method in methods:
        name = method if isinstance(method, str) else getattr(method, "__name__", repr(method))
        if name in found:
            raise ValueError(
                f"Expected methods of different names. Received {name!r} twice: give a mapping of names of your own, "
                'such as {"early": partial(grad_cam, layer="stage1")}.'
            )
        found[name] = find(method)
    return found


def edges(x: ArrayLike) -> NDArray[np.float32]:
    """How strong the edges of the images are: (n, i, j[, k]) length of the Gaussian gradient, sigma 1 voxel.

    A heat map that anyone can draw without the model; sums over the channels of ``x`` (n, i, j[, k], c).
    """
    from scipy import ndimage

    images = np.asarray(x, np.float32)
    result = np.zeros(images.shape[:-1], np.float32)
    for case, channel in np.ndindex(len(images), images.shape[-1]):
        result[case] += ndimage.gaussian_gradient_magnitude(images[case, ..., channel], 1.0, mode="nearest")
    return result


def noise(x: ArrayLike, seed: int = 0) -> NDArray[np.float32]:
    """Heat that is chance: (n, i, j[, k]) uniform noise from 0 to 1 for images ``x`` (n, i, j[, k], c)."""
    result = np.zeros(np.shape(x)[:-1], np.float32)
    for heat, image in zip(result, np.asarray(x, np.float32), strict=True):
        heat[:] = generator_of(image, seed).random(heat.shape, np.float32)
    return result
