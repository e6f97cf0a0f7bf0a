"""Device: a 2-D policy as Keras's own preprocessing layers, which run on the accelerator inside the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

    from medlab.augment.rules import Policy


def layers(policy: Policy, *, value_range: tuple[float, float] | None = None) -> keras.Sequential:
    """Keras layers that mirror, turn, scale and move images as a 2-D policy does, in training only.

    They fit where a GPU waits for the processor. A :class:`Policy` does more: one interpolation in place of one a
    layer, masks, elastic deformation, shear, brightness, gamma, bias field, noise, and the same change for the same
    key; all these have no counterpart here. Scales are drawn evenly, not evenly in their logarithm.

    Args:
        policy: of rank 2, such as ``augment.policy("DX", rank=2, seed=0)``; its seed is that of the layers.
        value_range: (low, high) of the images; contrast is changed only where it is given, since Keras clips values to
            it, and so is ``fill="minimum"``, which becomes its low end.

    Returns:
        ``keras.Sequential``, to be put before a model or as its first layer; it changes nothing for a policy
        that has none of these changes.

    Raises:
        ValueError: a policy of rank 3, one that crops or is meant for part of the cases; ``fill="minimum"`` without
            ``value_range``.
    """
    if policy.rank != 2:
        raise ValueError(f"Expected a policy of rank 2: Keras has no layers for volumes. Received rank {policy.rank}.")
    if policy.crop is not None or policy.space_probability != 1 or policy.intensity_probability != 1:
        raise ValueError("Expected a policy without crop and with both probabilities 1. Call the policy itself.")
    if policy.fill == "minimum" and value_range is None:
        raise ValueError('Expected value_range=(low, high) for fill="minimum". Received None.')
    from medlab.backend import keras

    outside = {"fill_mode": "nearest"}
    if policy.fill == "minimum":
        outside = {"fill_mode": "constant", "fill_value": float(value_range[0])}
    stack, seed = [], policy.seed
    if policy.flip:
        sides = {(0,): "vertical", (1,): "horizontal"}
        stack.append(keras.layers.RandomFlip(sides.get(tuple(policy.flip), "horizontal_and_vertical"), seed=seed))
    if policy.rotation:
        part = min(policy.rotation, 180) / 360  # of a full turn, either way
        stack.append(keras.layers.RandomRotation(part, seed=seed + 1, **outside))
    if policy.scale:
        # Keras counts how much more is seen: 0.1 shows 1.1 times as much, so that all is smaller.
        factor = (1 / (1 + policy.scale) - 1, policy.scale)
        stack.append(keras.layers.RandomZoom(factor, seed=seed + 2, **outside))
    if policy.translation:
        part = policy.translation
        stack.append(keras.layers.RandomTranslation(part, part, seed=seed + 3, **outside))
    if policy.contrast and value_range is not None:
        factor = (1 - 1 / (1 + policy.contrast), min(policy.contrast, 1.0))
        stack.append(keras.layers.RandomContrast(factor, value_range=tuple(value_range), seed=seed + 4))
    return keras.Sequential(stack or [keras.layers.Identity()], name="augment")
