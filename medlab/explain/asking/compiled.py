"""Compiled: a function of batches, traced once and kept, on the backend that Keras runs on.

In: a function of tensors, all with the axis of cases first. Out: the same function on NumPy arrays. TensorFlow traces
it for any number of cases; JAX for each, so that a batch is filled up to a size that it knows. What cannot be traced
runs as it is written. This is the only place where explanations are compiled.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medlab.backend import keras

Tensors = tuple[Any, ...]
# Held while a model runs with some of its layers changed, which is while it is traced: a model is shared by threads.
LOCK = threading.RLock()


class Program:
    """``function``, compiled when it is first called with arrays of a form.

    Args:
        function: takes tensors and returns a tuple of tensors, all (n, ...) with the same n.
        model: whose weights ``function`` reads. Their values are looked up at each call.
        any_number: whether it is traced for any number of cases where the backend can; else each number anew, which
            ``function`` then knows.
    """

    def __init__(self, function: Callable[..., Tensors], model: keras.Model, *, any_number: bool = True) -> None:
        self._function = function
        self._variables = model.variables
        self._any_number = any_number
        self._made: dict[Any, Callable[..., Sequence[Any]]] = {}
        self._met: set[Any] = set()

    def __call__(self, *arrays: NDArray) -> list[NDArray]:
        """What ``function`` returns for ``arrays``, as NumPy arrays."""
        n = len(arrays[0])
        form = tuple((array.shape[1:], array.dtype.str) for array in arrays)
        size = self._size(form, n)
        if size > n:
            arrays = tuple(np.concatenate([array, np.repeat(array[-1:], size - n, axis=0)]) for array in arrays)
        key = (form, size)
        if key not in self._made:
            with LOCK:
                if key not in self._made:
                    run, results = self._first(arrays)
                    self._made[key] = run
                    return [keras.ops.convert_to_numpy(result)[:n] for result in results]
        return [keras.ops.convert_to_numpy(result)[:n] for result in self._made[key](*arrays)]

    def _size(self, form: Any, n: int) -> int:
        """The number of cases to run for ``n``: on JAX a size that is compiled, as long as compiling costs more.

        That is so if less than as much again is added, or if the size is asked for the first time, such as the rest
        at the end of many batches.
        """
        if keras.backend.backend() != "jax":
            return -1 if self._any_number else n
        known = min((size for known, size in self._made if known == form and size >= n), default=None)
        again = (form, n) in self._met
        self._met.add((form, n))
        return n if known is None or (again and known > 2 * n) else known

    def _first(self, arrays: tuple[NDArray, ...]) -> tuple[Callable[..., Sequence[Any]], Sequence[Any]]:
        """The compiled function and its results for ``arrays``; the plain function where it cannot be traced."""
        make = {"tensorflow": self._tensorflow, "jax": self._jax}.get(keras.backend.backend())
        if make is not None:
            try:
                run = make(arrays)
                return run, run(*arrays)
            except Exception:  # whatever a model's own code raises under tracing: run plainly, an error shows itself
                pass
        return self._plain, self._plain(*arrays)

    def _plain(self, *arrays: NDArray) -> Tensors:
        return self._function(*(keras.ops.convert_to_tensor(array) for array in arrays))

    def _tensorflow(self, arrays: tuple[NDArray, ...]) -> Callable[..., Sequence[Any]]:
        import tensorflow as tf

        forms = [
            tf.TensorSpec((None if self._any_number else len(array), *array.shape[1:]), array.dtype) for array in arrays
        ]
        traced = tf.function(self._function, autograph=False).get_concrete_function(*forms)
        return lambda *arrays: traced(*(tf.convert_to_tensor(array) for array in arrays))

    def _jax(self, arrays: tuple[NDArray, ...]) -> Callable[..., Sequence[Any]]:
        import jax

        def stateless(values: list[Any], *tensors: Any) -> Tensors:
            with keras.StatelessScope(state_mapping=list(zip(self._variables, values, strict=True))):
                return self._function(*tensors)

        traced = jax.jit(stateless)
        return lambda *arrays: traced([variable.value for variable in self._variables], *arrays)
