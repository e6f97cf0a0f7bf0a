"""Files: a trained model from a ``.keras`` file, without running any code that the file brings.

In: a path. Out: a ``keras.Model``. Lambda layers and pickled functions are refused, whatever Keras' own settings say.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medlab.backend import keras

_CODE = ("Lambda", "__lambda__")
_UNKNOWN = re.compile(
    r"Could not locate (\w+ '[^']*')|Could not deserialize '([^']+)'|parent module (\S+) cannot be imported"
)
_PARTS = ("config.json", "model.weights.h5")


def load(path: str | Path) -> keras.Model:
    """The model of a ``.keras`` file, not compiled.

    Args:
        path: what ``model.save`` or :func:`medlab.train.fit` wrote. Layers of other packages than Keras are found where
            their package was imported before and registers them (``keras.saving.register_keras_serializable``).

    Raises:
        ValueError: there is no such file; it is of another kind, damaged or incomplete; it holds a Lambda layer or
            pickled code; it needs a class that is not registered.
    """
    if not isinstance(path, str | Path):
        raise ValueError(f"Expected the path of a .keras file. Received {path!r}.")
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ValueError(f"Expected the path of a .keras file. {path} {what}.")
    if path.suffix != ".keras":
        raise ValueError(
            f"Expected a .keras file. Received {path.name!r}: old .h5 models, SavedModel folders and pickles may carry "
            "code that runs while they are read. Save it as .keras where it was made (model.save('model.keras')); "
            "weights alone (.weights.h5) go into a network that is built first: model.load_weights(path)."
        )
    config = _config(path)
    config.pop("compile_config", None)  # a loss or metric is not read
    for part in _walk(config):
        if part.get("class_name") in _CODE or _is_code(part):
            layer = part.get("config", {})
            name = f" {layer['name']!r}" if isinstance(layer, dict) and "name" in layer else ""
            raise ValueError(
                f"{path.name} holds a Lambda{name}: Python code that would run here, and could do anything. It was "
                "not loaded. Whoever made the model can replace the Lambda by layers or functions of keras.ops, which "
                "are saved by name."
            )
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # zipfile, h5py and Keras raise many kinds
        unknown = _UNKNOWN.search(str(error))
        if unknown:
            what = next(part for part in unknown.groups() if part)
            raise ValueError(
                f"{path.name} needs {what}, which is not here. Import the package that defines and registers it "
                "(keras.saving.register_keras_serializable) before loading; of Keras' own, a newer version may have it."
            ) from error
        raise ValueError(_damaged(path, error)) from error


def _config(path: Path) -> dict[str, Any]:
    """What the file says the model is made of."""
    try:
        with zipfile.ZipFile(path) as archive:
            missing = sorted(set(_PARTS) - set(archive.namelist()))
            if missing:
                raise ValueError(_damaged(path, f"it lacks {' and '.join(missing)}"))
            config = json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, EOFError, OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(_damaged(path, error)) from error
    if not isinstance(config, dict):
        raise ValueError(_damaged(path, "its config.json describes no model"))
    return config


def _is_code(part: dict[str, Any]) -> bool:
    """Whether it is a function as Keras writes one where it is an activation: its code, defaults and closure."""
    value = part.get("value")
    return set(part) == {"value"} and isinstance(value, list) and len(value) == 3 and isinstance(value[0], str)


def _damaged(path: Path, reason: Any) -> str:
    first = str(reason).strip().splitlines()[0] if str(reason).strip() else type(reason).__name__
    return f"{path.name} cannot be read as a Keras model ({first[:300]}). It is damaged or incomplete: copy it again."


def _walk(content: Any) -> Iterator[dict[str, Any]]:
    """Every dictionary in nested JSON."""
    waiting = [content]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
