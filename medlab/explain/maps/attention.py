"""Attention: where a transformer looked, from its first layer to its last.

In: a model with attention layers of Keras, anywhere inside, and images (n, i, j[, k], c). Out: heat maps
(n, i, j[, k]).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlab.backend import keras
from medlab.explain.asking.inputs import given, parts_of
from medlab.explain.asking.inside import replaced
from medlab.explain.asking.network import Network
from medlab.explain.asking.targets import Target
from medlab.explain.maps.cam import upsample

Array = NDArray[np.float32]

LAYERS = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)
_MOST_EXTRA = 8  # class, distillation and register tokens; chosen


def attention_rollout(
    model: keras.Model,
    x: ArrayLike,
    *,
    target: Target = None,
    heads: str = "mean",
    grid: tuple[int, ...] | None = None,
    class_token: bool | None = None,
    batch_size: int | None = None,
) -> Array:
    """Attention followed through all layers, from what the head of a transformer reads back to the patches.

    In each layer the heads are averaged and half of the weight stays where it is, for the connection around the
    layer; the layers are multiplied. The map tells where the network looked: it is the same for every class, and
    knows nothing of what the values did to the answer.

    Args:
        model: a built Keras model with ``MultiHeadAttention`` or ``GroupQueryAttention`` layers in which tokens look at
            one another, in any nesting; not changed. Fused (flash) attention is opened for the call.
        x: (n, i, j[, k], c) images, standardized as the model expects.
        target: ignored: it is there so that this function can be called like the others.
        heads: ``"mean"``, ``"max"`` or ``"min"`` of the heads of a layer.
        grid: patches along each axis; None: as a feature map before the attention has them, else in the proportions of
            the image.
        class_token: whether the head reads the first token (the class token) or the mean of all patches. None: the
            first token where there are more tokens than patches.
        batch_size: cases at a time; by default at most 64, fewer of large images.

    Returns:
        (n, i, j[, k]) float32, 0 or above: shares of the attention by patch, brought to the size of the image.

    Raises:
        ValueError: no attention among the image's tokens, layers with different numbers of tokens (windows, merged
            patches), a grid that does not fit, or unusable images.

    Source: Abnar and Zuidema, "Quantifying attention flow in transformers", ACL 2020, section 3, attention rollout.
    """
    rules = {"mean": keras.ops.mean, "max": keras.ops.max, "min": keras.ops.min}
    if heads not in rules:
        raise ValueError(f"Expected heads one of {', '.join(rules)}. Received {heads!r}.")
    cases = given(model, x)
    images, others = cases.images, cases.others
    size = images.shape[1:-1]
    attending = [layer for layer in model._flatten_layers() if isinstance(layer, LAYERS)]
    if not attending:
        raise ValueError(
            f"Expected a model with MultiHeadAttention or GroupQueryAttention layers. {model.name!r} has none: use "
            "grad_cam or saliency."
        )
    heat = np.zeros(images.shape[:-1], np.float32)
    if not len(images):
        return heat
    network = Network.of(model, cases)
    tokens = _check(network, attending, images[:1], tuple(one[:1] for one in others))
    patches = _grid(tokens, size, network, grid)
    extra = tokens - math.prod(patches)
    first = extra > 0 if class_token is None else class_token
    if first and not extra:
        raise ValueError(f"Expected a class token beside {tokens} patches. There is none: class_token=False.")

    def weights(x: Any, *others: Any) -> tuple[Any, ...]:
        return tuple(_merged(scores, tokens, rules[heads]) for scores in _run(network, attending, x, others))

    program = network._program(("attention", heads), weights)
    still = np.eye(tokens, dtype=np.float32)
    for part in parts_of(images, batch_size):
        flow = still
        for layer in program(images[part], *(one[part] for one in others)):
            flow = (layer / np.maximum(layer.sum(axis=2, keepdims=True), 1e-12) + still) / 2 @ flow
        seen = flow[:, 0, extra:] if first else flow[:, extra:, extra:].mean(axis=1)
        heat[part] = upsample(seen.reshape(-1, *patches), size)
    return heat


def _run(network: Network, attending: list[Any], x: Any, others: tuple[Any, ...]) -> list[Any]:
    """The weights of each attention that runs, in order, as the layers have them."""
    seen: list[Any] = []
    with replaced({layer: _opened(seen) for layer in attending}):
        network(x, others)
    return seen


def _check(network: Network, attending: list[Any], image: Array, others: tuple[NDArray, ...]) -> int:
    """The number of tokens, the same in each layer that runs for one case."""
    seen = _run(network, attending, *keras.tree.map_structure(keras.ops.convert_to_tensor, (image, others)))
    shapes = [tuple(scores.shape) for scores in seen]
    # (1, heads, positions that look, positions that are seen); attention over two axes has two of each.
    counts = {
        (shape[0], math.prod(shape[2 : 1 + len(shape) // 2]), math.prod(shape[1 + len(shape) // 2 :]))
        for shape in shapes
    }
    first, look, other = next(iter(counts), (0, 0, 0))
    if len(counts) != 1 or first != 1 or look != other:
        raise ValueError(
            "Expected attention among all tokens of an image, as many in each layer. Received for one case weights of "
            f"shape {', '.join(map(str, shapes))}: the way through windows, merged patches or two sequences is not "
            "defined. Use grad_cam or saliency."
        )
    return look


def _merged(scores: Any, tokens: int, rule: Callable[..., Any]) -> Any:
    """(n, tokens, tokens) float32 over the heads: rows look, columns are seen."""
    scores = keras.ops.cast(scores, "float32")
    return rule(keras.ops.reshape(scores, (-1, scores.shape[1], tokens, tokens)), axis=1)


def _opened(seen: list[Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """What makes a layer's call note its attention weights, which a fused kernel never has as a whole."""

    def tap(call: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(call)

        def tapped_call(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(*args, **kwargs)
            asked = given.arguments.get("return_attention_scores", False)
            given.arguments["return_attention_scores"] = True
            place = vars(call.__self__)
            fused = place.get("_flash_attention")
            place["_flash_attention"] = False
            try:
                output, scores = call(*given.args, **given.kwargs)
            finally:
                place["_flash_attention"] = fused
            seen.append(scores)
            return (output, scores) if asked else output

        return tapped_call

    return tap


def _grid(tokens: int, size: tuple[int, ...], network: Network, given: tuple[int, ...] | None) -> tuple[int, ...]:
    """Patches along each axis of the image."""
    if given is not None:
        patches = tuple(given)
        if len(patches) != len(size) or not 0 <= tokens - math.prod(patches) <= _MOST_EXTRA:
            raise ValueError(f"Expected a grid of {len(size)} axes for {tokens} tokens. Received {given!r}.")
        return patches
    maps = [network.layer_shape(name)[1][:-1] for name in network.layers]
    even = {
        tuple(math.ceil(side / step) if up else side // step for side in size)
        for step in range(1, max(size) + 1)
        for up in (False, True)
    }
    for extra in range(_MOST_EXTRA + 1):
        for patches in [*reversed(maps), *sorted(even)]:
            if math.prod(patches) == tokens - extra and tokens > extra:
                return patches
    raise ValueError(
        f"Expected tokens that lie on a grid over the image {size}. There are {tokens}: give `grid`, the number of "
        "patches along each axis."
    )
