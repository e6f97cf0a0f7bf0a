"""Phantom data sets: tables of cases, and references that name one case.

In: a data set's name and parameters, or a reference. Out: a table made without making images, or a Volume.
"""

from __future__ import annotations

import functools
import importlib
import re
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import pandas as pd

from medlab.phantoms import cache, scenario
from medlab.phantoms.scenario import Scenario
from medlab.volume import Volume

HOMES = {
    "phantom:brain-tumor": "brain:TUMOR",
    "phantom:lung-nodule": "lung:NODULE",
    "phantom:cardiomegaly": "heart:CARDIOMEGALY",
    "phantom:stenosis": "vessels:STENOSIS",
    "phantom:fracture": "bone:FRACTURE",
    "phantom:ms-lesions": "sclerosis:LESIONS",
    "phantom:stroke": "stroke:STROKE",
    "phantom:hippocampus": "hippocampus:ATROPHY",
}
"""Where each data set is made: file and object; the file is imported when it is first asked for."""

NAMES = tuple(HOMES)

MOST_CASES = 100_000

_REFERENCE = re.compile(r"(?P<name>phantom:[a-z-]+)\?(?P<query>[^#]*)#(?P<index>\d{1,9})")
_TWINS = ("healthy",)
_TYPES = {"rank": int, "size": int, "severity": float, "seed": int, "n": int}
_WHOLE, _DECIMAL = re.compile(r"\d{1,10}"), re.compile(r"\d{1,9}(\.\d{1,20})?")
_LAYOUT = 2  # of a cached case


def find(name: str) -> Scenario:
    """The scenario of a data set.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in HOMES:
        raise ValueError(f"Expected one of {', '.join(NAMES)}. Received {name!r}.")
    file, _, found = HOMES[name].partition(":")
    return getattr(importlib.import_module(f"medlab.phantoms.{file}"), found)


def cases(name: str, *, n: int = 1000, **options: Any) -> pd.DataFrame:
    """The table of a phantom data set; no image is made yet.

    Args:
        name: one of ``NAMES``.
        n: number of cases, each of a patient of its own; half are healthy (of an odd number, one more or less). Case k
            is the same for every n.
        **options: ``rank`` (2 for slices or radiographs, 3 for volumes), ``size`` (voxels along the longest side; each
            rank has a default), ``severity`` (0.25 to 4; above 1 lesions are smaller and fainter, noise and
            look-alikes more), ``domain`` (scanner, protocol or site; the patients stay the same), ``seed`` (another
            seed gives other patients), and the scenario's own choices, such as ``sequence`` of an MR set. Texts may be
            given in any case; references and tables hold the scenario's own spelling.

    Returns:
        One row a case: id, patient, image and mask (references), label, and the parameters of the scenario. ``attrs``
        has ``classes``, ``modality``, ``anatomy``, ``regions`` (names of the mask's values 0, 1, ...) and ``note``.

    Raises:
        ValueError: an unknown name, or an argument out of its range.
    """
    chosen = find(name)
    _check_n(n)
    options = chosen.options(**options)
    patient = {key: options[key] for key in ("severity", "seed", "domain")}
    query = _query({**options, "n": n})
    prefix = re.split("[:-]", name)[1]
    rows = []
    for index in range(n):
        identity = f"{prefix}-{index:04d}"
        reference = f"{name}?{query}#{index}"
        row = {"id": identity, "patient": identity, "image": reference, "mask": reference}
        rows.append(row | dict(chosen.parameters(index, **patient)))
    table = pd.DataFrame(rows)
    table.attrs = {
        "classes": list(chosen.classes), "modality": chosen.modality, "anatomy": chosen.anatomy,
        "regions": list(chosen.regions), "note": chosen.note,
    }  # fmt: skip
    return table


def open_reference(reference: str, *, kind: str = "image") -> Volume:
    """The image (``kind="image"``) or mask (``"labels"``) that a reference of :func:`cases` names.

    Raises:
        ValueError: it is no such reference, or a parameter is unknown, given twice or out of its range.
    """
    if kind not in ("image", "labels"):
        raise ValueError(f"Expected kind 'image' or 'labels'. Received {kind!r}.")
    name, index, options = parse(reference)
    volume = _volumes(name, index, tuple(options.items()))[kind == "labels"]
    return volume.replace(array=volume.array.copy())


def parse(reference: str) -> tuple[str, int, dict[str, Any]]:
    """Name, index and complete options of the case that a reference names; ``"twin"`` among them if it is a twin.

    Args:
        reference: such as ``phantom:brain-tumor?rank=2&size=128&sequence=flair&severity=1&domain=reference&seed=0``
            ``&n=1000#17``; what is left out has its default.

    Raises:
        ValueError: as :func:`open_reference`.
    """
    match = _REFERENCE.fullmatch(reference)
    if not match:
        example = "phantom:brain-tumor?rank=2&size=128&severity=1&seed=0&n=1000#17"
        raise ValueError(f"Expected a reference such as {example!r}. Received {reference!r}.")
    chosen = find(match["name"])
    try:
        pairs = parse_qsl(match["query"], keep_blank_values=True, strict_parsing=bool(match["query"]))
    except ValueError:
        raise ValueError(f"Expected key=value joined by & after the '?'. Received {reference!r}.") from None
    given: dict[str, Any] = {}
    known = ("rank", "size", *chosen.choices, "severity", "domain", "seed", "n", "twin")
    for key, text in pairs:
        if key == "difficulty":
            raise ValueError(f"'difficulty' is called severity now. Received {reference!r}.")
        if key not in known or key in given:
            raise ValueError(f"Expected each of {', '.join(known)} once at most. Received {key!r} in {reference!r}.")
        kind = _TYPES.get(key, str)
        if kind is not str and not (_DECIMAL if kind is float else _WHOLE).fullmatch(text):
            raise ValueError(f"Expected a number for {key!r}. Received {text!r} in {reference!r}.")
        given[key] = kind(text)
    index, n = int(match["index"]), given.pop("n", 1000)
    twin = {key: given.pop(key) for key in ("twin",) if key in given}
    if twin and twin["twin"] not in _TWINS:
        raise ValueError(f"Expected a twin of {', '.join(_TWINS)}. Received {twin['twin']!r} in {reference!r}.")
    _check_n(n)
    if index >= n:
        raise ValueError(f"Expected a case from 0 to {n - 1}. Received {index} in {reference!r}.")
    return match["name"], index, {**chosen.options(**given), **twin}


@functools.lru_cache(maxsize=16)
def _volumes(name: str, index: int, options: tuple[tuple[str, Any], ...]) -> tuple[Volume, Volume]:
    """Image and mask from the cache on disk, or made now and put there. Image and mask are asked for one by one."""
    chosen, given = find(name), dict(options)
    key = f"{_LAYOUT}-{name}-{chosen.version}-{_query(given)}"
    found = cache.load(key, index)
    if found is None:
        healthy = {"healthy": True} if "twin" in given else {}
        image, labels = chosen.render(index, **{name: one for name, one in given.items() if name != "twin"}, **healthy)
        # The parameters are quickly had; a new one among them must not be missed because of an old file.
        about = {key: value for key, value in image.info.items() if key != "parameters"}
        facts = {"affine": image.affine.ravel().tolist(), "rank": image.rank, "modality": image.modality, "info": about}
        found = [image.array, labels.array], facts
        cache.save(key, index, *found)
    (image, labels), facts = found
    affine = np.array(facts["affine"]).reshape(4, 4)
    patient = {key: given[key] for key in ("severity", "seed", "domain")}
    parameters = chosen.parameters(index, **patient, **({"healthy": True} if "twin" in given else {}))
    info = {**facts["info"], "parameters": dict(parameters)}
    if chosen.window and facts["modality"] == "CT":
        info["window"] = chosen.window[1:]
    return (
        Volume(image, affine, "image", facts["modality"], info, facts["rank"]),
        Volume(labels, affine, "labels", facts["modality"], {}, facts["rank"]),
    )


def ensure(name: str, index: int, options: dict[str, Any]) -> None:
    """Makes sure that a case lies in the cache on disk."""
    _volumes(name, index, tuple(options.items()))


def _query(options: dict[str, Any]) -> str:
    return "&".join(f"{key}={_text(value) if key == 'severity' else value}" for key, value in options.items())


def _text(number: float) -> str:
    """The shortest text that reads as the same number: 1 for 1.0."""
    return repr(float(number)).removesuffix(".0")


def _check_n(n: int) -> None:
    if not scenario.whole(n) or not 1 <= n <= MOST_CASES:
        raise ValueError(f"Expected n from 1 to {MOST_CASES} cases. Received {n!r}.")
