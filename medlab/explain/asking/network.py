"""Network: a Keras model after one look at how it runs, ready to answer in compiled batches.

In: any Keras model and cases as it takes them. Out: its layers with a feature map, its output before the last sigmoid
or softmax, and for batches of NumPy arrays a score a case, its gradient, or what a layer says. What is compiled is kept
with the model and made anew when the model's layers have changed; changed weights need nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medlab.backend import keras
from medlab.explain.asking import ends, gradient, inside, kept, scaling, targets
from medlab.explain.asking.compiled import LOCK, Program
from medlab.explain.asking.inputs import Given, given, parts_of
from medlab.explain.asking.targets import Target

Array = NDArray[np.float32]
Others = tuple[Any, ...]


class Network:
    """A model after one look at how it runs.

    Args:
        model: a built Keras model.
        x: (n, i, j[, k], c) float32, n at least 1, or all inputs in the model's structure; only the first case is run.
    """

    def __init__(self, model: keras.Model, x: Any) -> None:
        self.model = model
        self._given = x if isinstance(x, Given) else given(model, x)
        self.rank = self._given.images.ndim - 2
        self._programs: dict[Any, Program] = {}
        first = [one[:1] for one in (self._given.images, *self._given.others)]
        arranged = lambda images, *others: self._given.arranged(images, others)  # noqa: E731
        with LOCK:
            calls, self._ends, self._form = ends.look(model, arranged, first)
        self._heads = list({id(end.head): end.head for end in self._ends if end.head is not None}.values())
        self._outputs_of = _output_names(model, self._form)
        self.output_shapes = [end.shape for end in self._ends]
        self._half = scaling.in_half(model)
        self._spatial = {call.path: (call.layer, call.shape[1:]) for call in inside.spatial(calls, self.rank)}
        self._given = Given(self._given.images[:0], (), self._given.place, self._given.structure)

    @classmethod
    def of(cls, model: keras.Model, cases: Given) -> Network:
        """The network of ``model`` for such cases: the one that is known, if the model's layers are as they were."""
        form = (cases.images.shape[1:], tuple((one.shape[1:], one.dtype.str) for one in cases.others), cases.place)
        with LOCK:
            return kept.of(model).get(form, lambda: cls(model, cases))

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of the first output for one case, with the axis of cases."""
        return self.output_shapes[0]

    @property
    def layers(self) -> list[str]:
        """The layers with a feature map over the image, in the order in which they run."""
        return list(self._spatial)

    def layer_shape(self, name: str | None) -> tuple[str, tuple[int, ...]]:
        """The path of layer ``name`` (None: the last) and the shape of its output for one case: (i, j[, k], c).

        Raises:
            ValueError: there is no such layer, or none at all.
        """
        if not self._spatial:
            raise ValueError(
                f"Expected a model with a layer whose output is a feature map over the {self.rank} axes of the image. "
                f"{self.model.name!r} has none: use saliency, integrated_gradients or occlusion."
            )
        if name is None:
            name = next(reversed(self._spatial))
        if name not in self._spatial:
            raise ValueError(f"There is no layer {name!r} to take a map at. There are: {', '.join(self._spatial)}.")
        layer, shape = self._spatial[name]
        if getattr(layer, "data_format", "channels_last") == "channels_first":
            raise ValueError(f"Expected channels last. Layer {name!r} has its channels first.")
        return name, shape

    def __call__(self, x: Any, others: Others = ()) -> Any:
        """The output for tensors, in inference mode, before the last sigmoid or softmax, as float32; see ``ends``."""
        with inside.replaced({}, self._heads):
            output = self.model(self._given.arranged(x, others), training=False)
        return self._logits(output)

    def tapped(self, x: Any, others: Others, probes: dict[str, Any]) -> tuple[Any, list[Any]]:
        """As a call, with ``probes`` added to the outputs of layers; also returns those outputs, as float32."""
        seen: dict[str, Any] = {}

        def tap(path: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
            def tapping(call: Callable[..., Any]) -> Callable[..., Any]:
                def tapped_call(*args: Any, **kwargs: Any) -> Any:
                    output = call(*args, **kwargs)
                    seen[path] = keras.ops.cast(output, "float32")
                    return output + keras.ops.cast(probes[path], output.dtype)

                return tapped_call

            return tapping

        with inside.replaced({self._spatial[path][0]: tap(path) for path in probes}, self._heads):
            output = self.model(self._given.arranged(x, others), training=False)
        return self._logits(output), [seen[path] for path in probes]

    def answers(self, images: Array, others: Others, target: Target, *, probability: bool = False) -> Array:
        """(m,) float32: the score of each case, or the probability of its class; see :meth:`probabilities`."""
        if len(images) == 0:
            return np.zeros(0, np.float32)
        if callable(target):
            tensors = [keras.ops.convert_to_tensor(one) for one in self._outputs(images, others)]
            value = self.probabilities if probability else targets.scores
            return keras.ops.convert_to_numpy(value(self._packed(tensors), target))
        score = self.probabilities if probability else targets.scores
        kind, asked = _asked(target)

        def answer(x: Any, *rest: Any) -> tuple[Any]:
            return (score(self(x, rest[: len(others)]), *(rest[len(others) :] or (None,))),)

        return self._program(("answers", kind, probability), answer)(images, *others, *asked)[0]

    def slope(
        self, images: Array, others: Others, target: Target, *, under: Callable[[Any], Any] = nullcontext
    ) -> Array:
        """The gradient of each case's score with respect to its image, of the shape of ``images``.

        ``under`` is a module's function of the model that gives a context, in which the model runs, such as one where
        some of its layers have another gradient.
        """
        if len(images) == 0:
            return np.zeros_like(images)
        kind, asked, score = self._differentiable(images, others, target)

        def slope(scale: Any, x: Any, *rest: Any) -> tuple[Any, ...]:
            def total(x: Any) -> tuple[Any, tuple[()]]:
                with under(self.model):
                    output = self(x, rest[: len(others)])
                return keras.ops.sum(scale * score(output, *rest[len(others) :])), ()

            found = gradient.within(total, x)[2]
            return scaling.unscaled(found, scale), scaling.finite(found)

        program = self._program(("slope", kind, under), slope)
        return scaling.scaled(program, (images, *others, *asked), half=self._half)[0]

    def at_layers(
        self, images: Array, others: Others, target: Target, paths: Sequence[str], combine: Callable[[Any, Any], Any]
    ) -> list[Array]:
        """What ``combine`` makes of the features and their gradients at each layer of ``paths``: (m, ...) each.

        Args:
            images: (m, i, j[, k], c).
            others: the other inputs of these cases.
            target: (m,) class indices, None, or a function of the output.
            paths: of :attr:`layers`.
            combine: a module's function of (features, gradients of the score), both (m, a, b[, c], channels) tensors.
        """
        kind, asked, score = self._differentiable(images, others, target)
        shapes = [self.layer_shape(path)[1] for path in paths]

        def maps(scale: Any, x: Any, *rest: Any) -> tuple[Any, ...]:
            def total(probes: list[Any]) -> tuple[Any, list[Any]]:
                output, features = self.tapped(x, rest[: len(others)], dict(zip(paths, probes, strict=True)))
                return keras.ops.sum(scale * score(output, *rest[len(others) :])), features

            probes = [keras.ops.zeros((keras.ops.shape(x)[0], *shape)) for shape in shapes]
            _, features, slopes = gradient.within(total, probes)
            found = (combine(one, scaling.unscaled(slope, scale)) for one, slope in zip(features, slopes, strict=True))
            return *found, scaling.finite(*slopes)

        program = self._program(("maps", *paths, combine, kind), maps)
        return scaling.scaled(program, (images, *others, *asked), half=self._half)

    def features(self, images: Array, others: Others, path: str) -> Array:
        """(m, a, b[, c], channels) float32: the output of layer ``path``."""

        def features(x: Any, *rest: Any) -> tuple[Any]:
            return (self.tapped(x, rest, {path: 0.0})[1][0],)

        return self._program(("features", path), features)(images, *others)[0]

    def outputs(self, x: Array, batch_size: int | None = None, others: Others = ()) -> Any:
        """The output of :meth:`__call__` for all of ``x``, in batches."""
        parts = [self._outputs(x[part], tuple(one[part] for one in others)) for part in parts_of(x, batch_size)]
        return self._packed([np.concatenate(one) for one in zip(*parts, strict=True)])

    def check(self, target: Target, n: int) -> Target:
        """``target`` for ``n`` cases as None, a callable or (n,) class indices; see :func:`targets.check`."""
        return targets.check(target, n, self.output_shapes, self._outputs_of)

    def settle(self, x: Array, target: Target, batch_size: int | None = None, others: Others = ()) -> Target:
        """The target as :meth:`check` gives it, with None turned into the classes predicted for ``x``."""
        target = self.check(target, len(x))
        if target is None:
            return targets.predicted(self.outputs(x, batch_size, others))
        if isinstance(target, targets.OneOutput) and target.target is None:
            output = keras.tree.flatten(self.outputs(x, batch_size, others))[target.place]
            return targets.OneOutput(target.place, targets.predicted(output))
        return target

    def probabilities(self, output: Any, target: Target) -> Any:
        """One number a case, (n,): the probability of the target class; a target function's own value."""
        end = self._ends[0]
        if isinstance(target, targets.OneOutput):
            output, end = keras.tree.flatten(output)[target.place], self._ends[target.place]
            target = target.target
        if callable(target):
            return targets.scores(output, target)
        if len(output.shape) == 1 or output.shape[1] == 1:
            return keras.ops.sigmoid(targets.scores(output, target))
        squash = keras.ops.sigmoid if end.squash == "sigmoid" else keras.ops.softmax
        return targets.scores(squash(output), target)

    def _logits(self, output: Any) -> Any:
        """What the model returned with its heads open, as float32 and before all of its sigmoids and softmaxes."""
        flat = [keras.ops.cast(one, "float32") for one in keras.tree.flatten(output)]
        return self._packed([end.logit(one) for end, one in zip(self._ends, flat, strict=True)])

    def _outputs(self, images: Array, others: Others) -> list[Array]:
        def outputs(x: Any, *others: Any) -> tuple[Any, ...]:
            return tuple(keras.tree.flatten(self(x, others)))

        return self._program(("outputs",), outputs)(images, *others)

    def _packed(self, flat: list[Any]) -> Any:
        """The outputs in the structure in which the model returns them."""
        return keras.tree.pack_sequence_as(self._form, flat)

    def _differentiable(
        self, images: Array, others: Others, target: Target
    ) -> tuple[str, tuple[Array, ...], Callable[..., Any]]:
        """How the score is computed inside a program: its name, the arrays it needs, and the function.

        A user's function runs plainly on the outputs, so that it may be anything; its gradient there goes into the
        program in its place.
        """
        if not callable(target):
            kind, asked = _asked(target)
            return kind, asked, targets.scores if asked else lambda output: targets.scores(output, None)

        def total(tensors: list[Any]) -> tuple[Any, tuple[()]]:
            return keras.ops.sum(targets.scores(self._packed(tensors), target)), ()

        pulls = gradient.of(total, self._outputs(images, others))[2]
        return "function", tuple(keras.ops.convert_to_numpy(pull) for pull in pulls), _pulled

    def _program(self, key: Any, function: Callable[..., tuple[Any, ...]]) -> Program:
        if key not in self._programs:
            self._programs.setdefault(key, Program(function, self.model))
        return self._programs[key]


def _output_names(model: keras.Model, output: Any) -> list[str | int]:
    """How each output is called: by its key, else by its name, else by its place."""
    flat = keras.tree.flatten(output)
    if isinstance(output, Mapping) and len(output) == len(flat):
        return sorted(output)
    names = list(getattr(model, "output_names", None) or ())
    return names if len(names) == len(flat) and len(set(names)) == len(names) else list(range(len(flat)))


def _asked(target: Target) -> tuple[str, tuple[NDArray, ...]]:
    return ("winner", ()) if target is None else ("classes", (target,))


def _pulled(output: Any, *pulls: Any) -> Any:
    """(n,) the outputs times the gradients of a score with respect to them: a score with the same gradient."""
    products = zip(keras.tree.flatten(output), pulls, strict=True)
    return sum(keras.ops.sum(one * pull, axis=tuple(range(1, len(one.shape)))) for one, pull in products)
