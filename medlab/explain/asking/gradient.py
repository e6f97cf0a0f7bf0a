"""Gradient: the derivative of a number with respect to tensors, on the backend that Keras runs on.

This is the only place where medlab differentiates; it has one branch a backend, because Keras has no common call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from medlab.backend import keras


def of(function: Callable[[Any], tuple[Any, Any]], x: Any) -> tuple[Any, Any, Any]:
    """The value of ``function`` at ``x``, what it returns beside it, and the gradient of the value.

    Args:
        function: takes tensors like ``x`` and returns (a number, anything else made of tensors). Written with
            ``keras.ops``; Keras layers that it calls keep their state.
        x: array or tensor of floats, or a list or tuple of them.

    Returns:
        (number, the rest, tensors of the shapes of ``x``). Where the number does not depend on ``x`` the gradient is 0.

    Raises:
        NotImplementedError: Keras runs on a backend other than TensorFlow and JAX.
    """

    def stateless(x: Any) -> tuple[Any, Any]:
        if keras.backend.backend() != "jax":
            return function(x)
        with keras.StatelessScope():
            return function(x)

    return within(stateless, keras.tree.map_structure(keras.ops.convert_to_tensor, x))


def within(function: Callable[[Any], tuple[Any, Any]], x: Any) -> tuple[Any, Any, Any]:
    """As :func:`of`, for tensors inside a compiled program, which looks after the state of layers itself."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        # Weights are not watched: nothing is kept in memory but what lies between x and the number.
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            value, rest = function(x)
        slope = tape.gradient(value, x, unconnected_gradients="zero")
        return value, rest, keras.tree.map_structure(tf.convert_to_tensor, slope)
    if backend == "jax":
        import jax

        (value, rest), slope = jax.value_and_grad(function, has_aux=True)(x)
        return value, rest, slope
    raise NotImplementedError(
        f"Gradients need Keras on TensorFlow or JAX. Received the backend {backend!r}. Set KERAS_BACKEND "
        "before Keras is imported."
    )
