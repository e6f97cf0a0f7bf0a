"""Doctor: what this machine offers to medlab, and what is missing and how to get it.

In: nothing. Out: findings, each with its remedy. It changes nothing and asks no network.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import medlab


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: its name.
        good: whether all is well.
        text: what was found, and what to do where all is not well.
        needed: whether medlab cannot work without it.
    """

    what: str
    good: bool
    text: str
    needed: bool = False


def examine() -> list[Finding]:
    """All findings, in the order a reader needs them. Loading the backend for it takes some seconds."""
    return [
        Finding("Python", sys.version_info >= (3, 11), f"{platform.python_version()} ({platform.system()})", True),
        Finding("medlab", True, medlab.__version__),
        _packages(),
        *_computing(),
        _memory(),
        _notebooks(),
        _kernel(),
        *_data(),
        _cache(),
    ]


def _packages() -> Finding:
    """Whether every dependency that medlab declares is installed in a fitting version."""
    try:
        from packaging.requirements import Requirement

        declared = [Requirement(text) for text in importlib.metadata.requires("medlab") or []]
    except importlib.metadata.PackageNotFoundError:
        return Finding("packages", False, "medlab itself is not installed: pip install -e .", True)
    wrong, right = [], []
    for one in declared:
        if one.marker and not one.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(one.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{one.name} is missing")
            continue
        if one.specifier.contains(version, prereleases=True):
            right.append(f"{one.name} {version}")
        else:
            wrong.append(f"{one.name} is {version}, needed {one.specifier}")
    if wrong:
        return Finding("packages", False, "; ".join(wrong) + ". Run pip install -e . again.", True)
    shown = [text for text in right if re.match(r"(keras|tensorflow|numpy|jupyterlab|ipywidgets) ", text)]
    return Finding("packages", True, f"all {len(right)} fit: {', '.join(shown)}", True)


def _computing() -> list[Finding]:
    try:
        from medlab.backend import keras
    except Exception as error:
        return [Finding("backend", False, f"Keras does not start: {error}", True)]
    from medlab import train

    backend = keras.backend.backend()
    # The smallest network of the kind that is trained: the choice depends on its layers.
    small = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(1, 3), keras.layers.Flatten()])
    setup = train.devices.choose(small)
    remedy = "" if setup.kind != "cpu" else ". With an NVIDIA GPU: pip install 'medlab[gpu]'"
    return [
        Finding("backend", True, f"{backend} {importlib.metadata.version(backend)}, Keras {keras.__version__}"),
        Finding("device", setup.kind != "cpu", setup.device + remedy),
        Finding("precision", True, f"{setup.precision} ({setup.reason})"),
    ]


def _memory() -> Finding:
    import psutil

    total, free = psutil.virtual_memory().total / 2**30, psutil.virtual_memory().available / 2**30
    text = f"{free:.1f} of {total:.1f} GiB free"
    return Finding("memory", free >= 4, text if free >= 4 else f"{text}; the study takes about 2, volumes more")


def _notebooks() -> Finding:
    from medlab import notebook

    try:
        place = notebook.folder()
    except ValueError as error:
        return Finding("notebooks", False, str(error), True)
    return Finding("notebooks", True, f"{len(list(place.glob('*.ipynb')))} in {place}")


def _kernel() -> Finding:
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        command = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        return Finding(
            "Jupyter kernel", False, "there is no kernel python3: python -m ipykernel install --sys-prefix", True
        )
    same = Path(command).name == command or Path(command).resolve() == Path(sys.executable).resolve()
    text = "python3, this Python" if same else f"python3 is {command}: python -m ipykernel install --sys-prefix"
    return Finding("Jupyter kernel", same, text)


def _data() -> list[Finding]:
    from medlab import load

    named = os.environ.get("MEDLAB_DATA")
    if not named:
        text = "MEDLAB_DATA is not set: named data sets are fetched, or set it to a folder that holds their files"
        place = Finding("data folder", False, text)
    elif not Path(named).is_dir():
        place = Finding("data folder", False, f"MEDLAB_DATA is {named}, which is no folder")
    else:
        place = Finding("data folder", True, f"MEDLAB_DATA is {named}")
    table = load.datasets()
    here = table[table["here"]]["name"].tolist()
    return [place, Finding("data sets", bool(here), f"{len(here)} of {len(table)} are here: {', '.join(here)}")]


def _cache() -> Finding:
    import pooch

    place = Path(os.environ.get("MEDLAB_CACHE") or pooch.os_cache("medlab"))
    parent = next(one for one in (place, *place.parents) if one.exists())
    if os.access(parent, os.W_OK):
        return Finding("cache", True, str(place))
    return Finding("cache", False, f"{place} cannot be written: set MEDLAB_CACHE to a folder that can")
