"""Backbone: a network of ``keras.applications`` for medical images, wired flat, with weights from where the user says.

In: a network's name, the shape of one image (i, j, c), the number of classes. Out: a functional ``keras.Model`` with
logits. Which values pretrained weights expect is known here, family by family.
"""

from __future__ import annotations

import inspect
import os
import re
import socket
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medlab.backend import keras
from medlab.models import files
from medlab.models.blocks import Builder, check_input, count_outputs, network_name
from medlab.models.photographs import INSIDE, photograph, rescale_inside

layers = keras.layers

_WAIT = 20.0
"""Seconds without an answer after which a download is given up."""


def backbone(
    name: str,
    input_shape: tuple[int, ...],
    classes: int = 2,
    *,
    weights: str | Path | None = None,
    values: str | tuple[float, float] | None = "auto",
    trainable: bool = True,
    dropout: float = 0.2,
    multi_label: bool = False,
    seed: int = 0,
) -> keras.Model:
    """A network of ``keras.applications`` for 2-D images, with a head of its own.

    Its layers lie flat in the model, so that each can be reached by name (Grad-CAM, freezing). Batch normalization
    keeps its statistics with momentum 0.9, as in medlab's own networks: with the 0.99 to 0.999 of these networks they
    do not arrive in the few steps that a small set gives.

    Without weights, images reach the network as they are, with any number of channels. Pretrained weights expect
    photographs: the values of ``values`` are brought to black and white, then to what the family was trained on, and
    a single channel is repeated to three, in the model's first layers, so that medlab's standardized images are what
    it takes.

    Args:
        name: such as ``"EfficientNetB0"``, ``"EfficientNetV2B0"``, ``"ConvNeXtTiny"``, ``"ResNet50"``,
            ``"DenseNet121"``, ``"MobileNetV3Small"``.
        input_shape: (i, j, c), each side at least 32 (75 for Inception, 71 for Xception).
        classes: number of classes; two give one logit, unless ``multi_label``.
        weights: None for random ones; ``"imagenet"``, which Keras downloads once; a file ``.h5`` or ``.weights.h5``
            of this network's weights without its head (such as Keras' own ``*_notop.h5``); or a ``.keras`` file of
            a model of :func:`backbone`, whose head is left out if it has other classes.
        values: (black, white): which values of the images stand for black and white in a photograph. ``"auto"``:
            (-1, 1), as most recipes of ``medlab.standardize`` give them, for ``"imagenet"`` and ``.h5`` files; what
            the model in a ``.keras`` file has; None without weights. For z-scores take (-2, 2): ImageNet's own
            deviation from its mean is about a quarter of the interval. None: images are not changed.
        trainable: False freezes all but the head; its batch normalization then keeps its statistics.
        dropout: share of features dropped in training, 0 to below 1.
        multi_label: one image may show several classes: always one logit a class.
        seed: start of the random weights and of dropout.

    Returns:
        The network's layers under Keras' names, then ``features`` and ``logits``.

    Raises:
        ValueError: an unknown name, another rank, an image that is too small, channels that pretrained weights do not
            take, weights that cannot be fetched, read or do not fit.

    Source: the papers that ``help(keras.applications.<name>)`` names.
    """
    make = _function(name)
    check_input(input_shape, smallest=1, network=name, ranks=(2,))
    outputs = count_outputs(classes, multi_label=multi_label)
    if not isinstance(weights, str | Path | None):
        raise ValueError(f'Expected weights as None, "imagenet" or a path. Received {weights!r}.')
    source = files.load(weights) if _is_model(weights) else None
    interval = _interval(values, weights, source)
    image = keras.Input(input_shape, name="image")
    x = image if interval is None else photograph(image, name, interval)
    if interval is None and INSIDE.match(name):
        x = layers.Rescaling(255.0, name="undo_rescaling")(x)
    trunk = _trunk(make, name, x, imagenet=weights == "imagenet", wanted=tuple(input_shape))
    if weights is None or source is not None:
        _start(trunk, seed)
    for layer in _layers(trunk):
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.9
        layer.trainable = trainable
    logits = Builder(rank=2, seed=seed).head(trunk.output, outputs, dropout=dropout)
    model = keras.Model(image, logits, name=network_name(name, multi_label))
    if source is not None:
        _copy(source, model, trunk, weights)
    elif weights not in (None, "imagenet"):
        _read(trunk, model, name, weights)
    return model


def names() -> list[str]:
    """The names that :func:`backbone` takes."""
    found = vars(keras.applications)
    return sorted(name for name, value in found.items() if name[0].isupper() and inspect.isfunction(value))


def _function(name: str) -> Any:
    if name not in names():
        raise ValueError(f"Expected a network of keras.applications: {', '.join(names())}. Received {name!r}.")
    return getattr(keras.applications, name)


def _is_model(weights: str | Path | None) -> bool:
    return weights not in (None, "imagenet") and Path(weights).suffix == ".keras"


def _interval(
    values: str | tuple[float, float] | None, weights: str | Path | None, source: keras.Model | None
) -> tuple[float, float] | None:
    """Which values are black and white, or None where images are to stay as they are."""
    if isinstance(values, str) and values == "auto":
        if source is not None:
            scaled = [layer for layer in source.layers if layer.name == "black_to_white"]
            if not scaled:
                return None
            black = -scaled[0].offset / scaled[0].scale
            return black, black + 1 / scaled[0].scale
        return None if weights is None else (-1.0, 1.0)
    if values is None:
        return None
    try:
        black, white = (float(value) for value in values)
    except (TypeError, ValueError):
        black = white = 0.0
    if not black < white:
        raise ValueError(f'Expected values "auto", None or (black, white) in rising order. Received {values!r}.')
    return black, white


def _trunk(make: Any, name: str, x: Any, *, imagenet: bool, wanted: tuple[int, ...]) -> keras.Model:
    """The network without its head and its own preprocessing, on the tensor ``x``."""
    settings: dict[str, Any] = {"include_top": False, "input_tensor": x, "input_shape": tuple(x.shape[1:])}
    if "include_preprocessing" in inspect.signature(make).parameters:
        settings["include_preprocessing"] = False
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="This model usually expects 1 or 3 input channels")
            # MobileNet warns that ImageNet weights of 224 pixels are taken for other sizes, which is meant.
            warnings.filterwarnings("ignore", message="`input_shape` is undefined or non-square")
            if not imagenet:
                return make(weights=None, **settings)
            with _patience():
                return make(weights="imagenet", **settings)
    except ValueError as error:
        if "at least" in str(error) and "size" in str(error):
            least = (re.search(r"at least\s+(\d+)", str(error)) or ["", "32"])[1]
            raise ValueError(
                f"{name} needs images of at least {least} pixels a side. Received input_shape {wanted}; enlarge the "
                "images (medlab.standardize.resize) or take a smaller network."
            ) from None
        if not imagenet or ("mismatch" not in str(error) and "hash" not in str(error)):
            raise
        raise ValueError(_offline(name, error)) from error
    except Exception as error:
        if not imagenet:
            raise
        raise ValueError(_offline(name, error)) from error


def _offline(name: str, error: Exception) -> str:
    """What to do where ImageNet's weights cannot be had."""
    address = re.search(r"https?://\S+?(?=:? |$)", str(error))
    home = Path(os.environ.get("KERAS_HOME", Path("~/.keras").expanduser()))
    if home.exists() and not os.access(home, os.W_OK):
        home = Path(tempfile.gettempdir()) / ".keras"
    what = "the file that keras.applications names"
    if address:
        what = f"{address[0]} under the name {address[0].rsplit('/', 1)[1]}"
    return (
        f"The ImageNet weights of {name} are not on this machine and could not be fetched ({error}). With a "
        f"connection elsewhere, download {what}, put it into {home / 'models'}, or give its path as weights=...; "
        "weights=None starts from random ones."
    )


@contextmanager
def _patience() -> Iterator[None]:
    """Inside, a connection that does not answer is an error after some seconds: Keras' download waits for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_WAIT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _layers(trunk: keras.Model) -> list[keras.layers.Layer]:
    """All layers, also those within others, in the order in which they were made."""
    return [layer for layer in trunk._flatten_layers(include_self=False) if not isinstance(layer, keras.Model)]


def _start(trunk: keras.Model, seed: int) -> None:
    """Draws the random weights again, each layer's from the seed and its number; no global generator is touched."""
    for number, layer in enumerate(_layers(trunk)):
        for kind in ("kernel", "depthwise", "pointwise"):
            initializer = getattr(layer, f"{kind}_initializer", None)
            # A depthwise convolution calls its weights "kernel", a separable one "depthwise_kernel".
            variable = getattr(layer, f"{kind}_kernel", None if kind == "pointwise" else getattr(layer, "kernel", None))
            if variable is None or not hasattr(initializer, "seed"):
                continue
            own = zlib.crc32(f"{seed}/{number}/{kind}".encode())
            seeded = type(initializer).from_config({**initializer.get_config(), "seed": own})
            setattr(layer, f"{kind}_initializer", seeded)
            variable.assign(seeded(variable.shape, dtype=variable.dtype))
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            own = zlib.crc32(f"{seed}/{number}/dropout".encode())
            generator.state.assign(keras.ops.convert_to_tensor([own, 0], generator.state.dtype))


def _read(trunk: keras.Model, model: keras.Model, name: str, path: str | Path) -> None:
    """Takes the weights of an ``.h5`` file into the network."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"There is no weights file {path.name!r} in {path.parent}.")
    if path.suffix != ".h5":
        raise ValueError(f"Expected weights in a .h5, .weights.h5 or .keras file. Received {path.name!r}.")
    problems = []
    for target in (model, trunk):
        try:
            target.load_weights(path)
        except Exception as error:  # h5py and Keras raise many kinds
            problems.append(f"{type(error).__name__}: {str(error).strip().splitlines()[0]}")
        else:
            rescale_inside(trunk, name, path)
            return
    raise ValueError(
        f"The weights in {path.name} do not fit {name} on {model.input_shape[1:]}, neither with its head nor "
        f"without ({problems[1]}). Is it the file of this network without its head, and is it complete?"
    )


def _copy(source: keras.Model, model: keras.Model, trunk: keras.Model, path: Any) -> None:
    """Takes the weights of another backbone; of its head only where it has the same classes."""
    theirs, ours = _layers(source), _layers(model)
    theirs, ours = ([layer for layer in some if layer.weights] for some in (theirs, ours))
    shapes = [[tuple(one.shape) for one in layer.weights] for layer in theirs]
    wanted = [[tuple(one.shape) for one in layer.weights] for layer in ours]
    same_head = shapes[-1:] == wanted[-1:]
    if len(theirs) != len(ours) or shapes[:-1] != wanted[:-1]:
        raise ValueError(
            f"The model in {Path(path).name} ({source.name}, input {source.input_shape[1:]}) is not a backbone like "
            f"{model.name} on {model.input_shape[1:]}: its layers have other weights."
        )
    for here, there in list(zip(ours, theirs, strict=True))[: None if same_head else -1]:
        here.set_weights(there.get_weights())
        if isinstance(here, layers.Normalization):
            here.finalize_state()
