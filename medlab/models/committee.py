"""Ensemble: several trained models as one, whose answer is their average.

In: models with the same input and output. Out: a functional ``keras.Model`` with logits, used, saved and explained as
any other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from medlab.backend import keras

layers = keras.layers

AVERAGES = ("probability", "logit")


def ensemble(
    models: Sequence[keras.Model],
    *,
    average: str = "probability",
    multi_label: bool | None = None,
    name: str = "ensemble",
) -> keras.Model:
    """One model whose logits are those of the members' average.

    With ``average="probability"`` one logit is the log-odds of the mean probability, several are the logarithm of the
    mean softmax (each label's own log-odds where ``multi_label``), both computed from logits without leaving them, so
    that a sure member does not overflow. With ``"logit"`` it is the mean logit: the geometric mean of odds. Members
        that end in a sigmoid or softmax give their logits back by the logarithm, as far as float32 tells them apart.

    Args:
        models: two or more models (n, i, j[, k], c) -> (n, outputs); their layers and weights are shared with the
            result, not copied. A committee of networks that start from several seeds is a deep ensemble
            (Lakshminarayanan et al. 2017).
        average: ``"probability"`` or ``"logit"``.
        multi_label: the outputs are independent labels. None: as the members' names say, which end in
            ``_multi_label``.
        name: of the result; ``_multi_label`` is added where it is one.

    Returns:
        Each member is a layer ``member1``, ``member2``, ...; the last layer is ``logits``.

    Raises:
        ValueError: fewer than two models, inputs or outputs of different shape, tasks that differ, an unknown average.
    """
    models = list(models)
    if average not in AVERAGES:
        raise ValueError(f"Expected average to be one of {AVERAGES}. Received {average!r}.")
    shape, outputs = _check(models)
    multi_label = _multi_label(models) if multi_label is None else multi_label
    independent = multi_label or outputs == 1
    image = keras.Input(shape, name="image")
    logits = []
    for number, model in enumerate(models, start=1):
        member = keras.Model(model.inputs[0], model.outputs[0], name=f"member{number}")
        logits.append(_as_logits(member(image), _activation(model), independent, model.name))
    together = keras.ops.stack(logits, axis=0)
    if average == "logit":
        mean = keras.ops.mean(together, axis=0)
    elif independent:
        # Log-odds of the mean probability: the mean of sigmoids over the mean of their complements.
        yes = keras.ops.logsumexp(keras.ops.log_sigmoid(together), axis=0)
        no = keras.ops.logsumexp(keras.ops.log_sigmoid(keras.ops.negative(together)), axis=0)
        mean = keras.ops.subtract(yes, no)
    else:
        mean = keras.ops.logsumexp(keras.ops.log_softmax(together, axis=-1), axis=0) - math.log(len(models))
    out = layers.Activation("linear", dtype="float32", name="logits")(mean)
    return keras.Model(image, out, name=f"{name}_multi_label" if multi_label else name)


def _check(models: list[keras.Model]) -> tuple[tuple[int, ...], int]:
    """The shape of one image and the number of outputs, which all members share."""
    if len(models) < 2:
        raise ValueError(f"Expected two models or more. Received {len(models)}; a single model needs no ensemble.")
    if len({id(model) for model in models}) < len(models):
        raise ValueError("Expected different models. Received the same one twice; give it once.")
    for model in models:
        if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
            raise ValueError(f"Expected functional or Sequential Keras models, built. Received {model!r}.")
        if len(model.inputs) != 1 or len(model.outputs) != 1 or len(model.outputs[0].shape) != 2:
            raise ValueError(
                f"Expected models of one image input and one output (n, outputs). {model.name!r} is not one."
            )
    shapes = [tuple(model.inputs[0].shape[1:]) for model in models]
    outputs = [model.outputs[0].shape[1] for model in models]
    if len(set(shapes)) > 1 or len(set(outputs)) > 1:
        raise ValueError(
            "Expected models of the same input and outputs. Received inputs "
            f"{', '.join(map(str, shapes))} and {', '.join(map(str, outputs))} outputs."
        )
    return shapes[0], outputs[0]


def _multi_label(models: list[keras.Model]) -> bool:
    found = {model.name.endswith("_multi_label") for model in models}
    if len(found) > 1:
        raise ValueError(
            "Expected models of one task. Some are for several labels a case, others for one class: "
            f"{', '.join(model.name for model in models)}. Where the names mislead, say multi_label=True or False."
        )
    return found.pop()


def _activation(model: keras.Model) -> str | None:
    """``"sigmoid"`` or ``"softmax"`` where the model ends in one."""
    operation: Any = model
    while isinstance(operation, keras.Model):
        operation = operation.outputs[0]._keras_history.operation
    named = getattr(getattr(operation, "activation", None), "__name__", type(operation).__name__).lower()
    return named if named in ("sigmoid", "softmax") else None


def _as_logits(output: Any, activation: str | None, independent: bool, name: str) -> Any:
    """A member's output as float32 logits."""
    output = keras.ops.cast(output, "float32")
    if activation is None:
        return output
    if (activation == "sigmoid") != independent:
        raise ValueError(
            f"Expected members that fit the task. {name!r} ends in a {activation}, which gives "
            f"{'exclusive classes' if activation == 'softmax' else 'independent labels (multi_label=True)'}."
        )
    least = 1e-7 if independent else 1e-30
    log = keras.ops.log(keras.ops.maximum(output, least))
    return log - keras.ops.log(keras.ops.maximum(1 - output, least)) if independent else log
