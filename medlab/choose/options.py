"""Options: the candidates of an experiment.

In: dicts of what a user wants to try, or the shape and size of the data. Out: candidates with a name each, checked
before anything is trained.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medlab import models

FACTORS = ("model", "optimizer", "learning_rate", "schedule", "loss", "augment")
"""What most experiments vary, in the order in which reasons are given."""
_FOR_MASKS = ("unet",)
_DEFAULTS = {"optimizer": "adamw", "learning_rate": "auto", "schedule": "cosine", "loss": "auto", "augment": True}
_OURS = ("seed", "run", "progress", "resume", "epochs", "max_seconds", "tensorboard")


@dataclass(frozen=True, eq=False)
class Candidate:
    """One thing to try.

    Attributes:
        name: how it is called in the table.
        model: a network by its name, as :func:`medlab.models.make` takes it, or ``make_model(seed)``.
        model_settings: further arguments of that function.
        settings: what :func:`medlab.train.fit` takes; ``augment`` may be True or False.
    """

    name: str
    model: str | Callable
    model_settings: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model_name(self) -> str:
        """The network in words, such as ``"resnet10"``."""
        return _model_name(self.model, self.model_settings)

    def factor(self, name: str) -> str:
        """A factor's value as text: of ``"model"``, or of a setting of fit."""
        if name == "model":
            return self.model_name
        return _said(name, {**_DEFAULTS, **self.settings}.get(name))

    def factors(self) -> dict[str, str]:
        """Every factor that this candidate sets or that most experiments vary."""
        return {name: self.factor(name) for name in (*FACTORS, *sorted(set(self.settings) - set(FACTORS)))}

    def maker(self, input_shape: tuple[int, ...], classes: int, multi_label: bool) -> Callable:
        """``make_model(seed)``."""
        if callable(self.model):
            return self.model
        more = {**({"multi_label": True} if multi_label else {}), **self.model_settings}

        def make(seed: int) -> Any:
            settings = dict(more)
            name = settings.pop("name") if self.model == "backbone" else self.model
            return models.make(name, tuple(input_shape), classes, **settings, seed=seed)

        return make


def candidates(
    input_shape: tuple[int, ...],
    classes: int = 2,
    *,
    rarest: float = 0.5,
    count: int = 6,
    multi_label: bool = False,
) -> list[dict[str, Any]]:
    """A sensible list to start from, as dicts that can be changed before the experiment.

    The first is the plan's own choice, a small network with AdamW at the rule's rate; each of the others changes one
    thing about it, so that the table tells what that thing is worth.

    Args:
        input_shape: (i, j, c) or (i, j, k, c).
        classes: number of classes.
        rarest: share of the rarest class in training; below 0.3, balanced class weights are tried.
        count: how many, at most.
        multi_label: several labels a case.
    """
    if len(input_shape) not in (3, 4):
        raise ValueError(f"Expected (i, j, c) or (i, j, k, c). Received {input_shape}.")
    volume = len(input_shape) == 4
    base = {"model": "small_cnn", **({"model_settings": {"width": 8}} if volume else {})}
    ten = {"model": "resnet", "model_settings": {"depth": 10, "width": 16 if volume else 32}}
    found = [base]
    if volume:
        found += [{"model": "slice_rnn"}, ten, {"model": "slice_mean"}]
    else:
        found += [_pretrained(input_shape)] if _pretrained(input_shape) else []
        found += [ten]
    found += [{**base, "optimizer": "nesterov"}, {**base, "augment": False}, {**base, "learning_rate": 3e-3}]
    if rarest < 0.3 and not multi_label:
        found.insert(3, {**base, "class_weight": "balanced"})
    if not multi_label:
        found += [{**base, "label_smoothing": 0.1}]
    found += [{**base, "optimizer": "lion"}]
    if not volume:
        found += [{"model": "resnet", "model_settings": {"depth": 18}}]
    return found[: max(1, count)]


def read(wanted: Sequence[Mapping[str, Any] | str]) -> list[Candidate]:
    """Candidates of a user's dicts, or names of networks.

    Raises:
        ValueError: none, one that is no dict, an unknown network or setting, two that are alike.
    """
    if isinstance(wanted, str | Mapping) or not isinstance(wanted, Sequence) or not len(wanted):
        raise ValueError(
            f'Expected "auto" or a list of candidates such as {{"model": "small_cnn"}}. Received {wanted!r}.'
        )
    made = [_read(one) for one in wanted]
    names = [one.name for one in made]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"Two candidates are alike: {', '.join(map(repr, twice))}. Drop one, or give each a name.")
    return made


def _read(one: Mapping[str, Any] | str | Candidate) -> Candidate:
    from medlab import train

    if isinstance(one, Candidate):
        return one
    if isinstance(one, str):
        one = {"model": one}
    if not isinstance(one, Mapping):
        raise ValueError(f'Expected a candidate as a dict such as {{"model": "small_cnn"}}. Received {one!r}.')
    rest = dict(one)
    model, more = rest.pop("model", "small_cnn"), dict(rest.pop("model_settings", {}))
    name = rest.pop("name", None)
    if isinstance(model, str):
        _check_network(model, more)
    if not isinstance(model, str) and not callable(model):
        raise ValueError(f"Expected the name of a network or a function make_model(seed). Received {model!r}.")
    known = [key for key in inspect.signature(train.fit).parameters if key not in ("model", "train", "validation")]
    for key in rest:
        if key in _OURS:
            raise ValueError(f"{key!r} is the experiment's own: give it to experiment, not to a candidate.")
        if key not in known:
            near = difflib.get_close_matches(key, [*known, "model", "model_settings", "name"], 1)
            raise ValueError(
                f"A candidate has the unknown setting {key!r}. Expected model, model_settings, name, or what train.fit "
                "takes." + (f" Did you mean {near[0]!r}?" if near else "")
            )
    return Candidate(name or _name(model, more, rest), model, more, rest)


def _check_network(name: str, more: Mapping[str, Any]) -> None:
    from medlab.models import applications

    if name in _FOR_MASKS:
        raise ValueError(
            f"{name!r} is for segmentation, and an experiment compares classifiers. Compare its settings with "
            "medlab.train.repeat, or choose another network."
        )
    if name == "backbone":
        if "name" not in more:
            raise ValueError('Expected model_settings={"name": ...} with a name of keras.applications for "backbone".')
        return
    own = [known for known in models.NETWORKS if known not in _FOR_MASKS]
    if name not in own and name not in applications.names():
        near = difflib.get_close_matches(name, [*own, *applications.names()], 1)
        raise ValueError(
            f"Expected a network of {', '.join(own)}, one of keras.applications such as EfficientNetB0, or a function "
            f"make_model(seed). Received {name!r}." + (f" Did you mean {near[0]!r}?" if near else "")
        )


def _name(model: str | Callable, more: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    said = [_said(key, value) for key, value in settings.items() if value != _DEFAULTS.get(key)]
    return ", ".join([_model_name(model, more), *said])


def _model_name(model: str | Callable, more: Mapping[str, Any]) -> str:
    if callable(model):
        return getattr(model, "__name__", "model").replace("<lambda>", "model")
    rest = dict(more)
    name = str(rest.pop("name", model)) if model == "backbone" else model
    if model == "resnet":
        name += str(rest.pop("depth", 18))
    pretrained = " (pretrained)" if rest.pop("weights", None) else ""
    return name + pretrained + "".join(f" {key} {value}" for key, value in rest.items())


def _said(key: str, value: Any) -> str:
    """A setting's value in a table."""
    if key == "augment":
        return "augmented" if value is not None and value is not False else "not augmented"
    if key == "learning_rate":
        return "rule" if value == "auto" else "range test" if value == "find" else f"rate {value:g}"
    if key in ("optimizer", "loss", "schedule"):
        return value if isinstance(value, str) else getattr(value, "__name__", type(value).__name__)
    return f"no {key.replace('_', ' ')}" if value is None else f"{key.replace('_', ' ')} {value}"


def _pretrained(input_shape: tuple[int, ...]) -> dict[str, Any] | None:
    """A pretrained network where its weights lie in Keras' own cache and the images are large enough for it."""
    if min(input_shape[:2]) < 64 or input_shape[-1] not in (1, 3):
        return None
    cache = Path.home() / ".keras" / "models"
    for name, file in (("EfficientNetB0", "efficientnetb0_notop.h5"), ("MobileNetV2", "mobilenet_v2_*_no_top.h5")):
        if next(cache.glob(file), None):
            return {"model": "backbone", "model_settings": {"name": name, "weights": "imagenet"}, "learning_rate": 3e-4}
    return None
