"""Phantom data sets: tables of cases, and references that name one case.

In: a data set's name and parameters, or a reference. Out: a table made without making images, or a Volume.
"""

from __future__ import annotations

import functools
import re
from dataclasses import asdict
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import pandas as pd

from medlab.phantoms import brain, cache, mixture, plan
from medlab.volume import Volume

NAMES = ("phantom:brain-tumor",)

MOST_CASES = 100_000

_REFERENCE = re.compile(r"(?P<name>phantom:[a-z-]+)\?(?P<query>[^#]*)#(?P<index>\d{1,9})")
_TYPES = {"rank": int, "size": int, "sequence": str, "difficulty": float, "seed": int, "n": int}
_NUMBER = re.compile(r"\d+(\.\d+)?")


def cases(
    name: str,
    *,
    n: int = 1000,
    rank: int = 2,
    size: int | None = None,
    sequence: str = "flair",
    difficulty: float = 1.0,
    seed: int = 0,
) -> pd.DataFrame:
    """The table of a phantom data set; no image is made yet.

    Args:
        name: one of ``NAMES``.
        n: number of cases, each of a patient of its own; half are healthy (of an odd number, one more or less). Case k
            is the same for every n.
        rank: 2 for axial slices, 3 for volumes.
        size: voxels along one side of the 240 mm field of view; 128 by default for slices, 64 for volumes.
        sequence: ``"flair"``, ``"t1"``, ``"t1c"`` (T1 after a contrast agent) or ``"t2"``. The patients stay the same.
        difficulty: 0.25 to 4; above 1 tumors are smaller and fainter, noise and look-alikes more.
        seed: another seed gives other patients.

    Returns:
        One row a case: id, patient, image and mask (references), label, and the parameters of
        :class:`medlab.phantoms.plan.Parameters`. ``attrs`` has ``classes``, ``modality``,
        ``anatomy`` and ``regions``, the names of the mask's values 0, 1, ...

    Raises:
        ValueError: an unknown name, or an argument out of its range.
    """
    _check_name(name)
    _check_n(n)
    size = brain.check(0, rank=rank, size=size, sequence=sequence, difficulty=difficulty, seed=seed)
    query = f"rank={rank}&size={size}&sequence={sequence}&difficulty={_text(difficulty)}&seed={seed}&n={n}"
    rows = []
    for index in range(n):
        identity = f"brain-{index:04d}"
        reference = f"{name}?{query}#{index}"
        row = {"id": identity, "patient": identity, "image": reference, "mask": reference}
        rows.append(row | asdict(plan.parameters(index, difficulty=difficulty, seed=seed)))
    table = pd.DataFrame(rows)
    regions = sorted(mixture.LABELS, key=mixture.LABELS.get)
    table.attrs = {"classes": list(plan.CLASSES), "modality": "MR", "anatomy": "brain", "regions": regions}
    return table


def open_reference(reference: str, *, kind: str = "image") -> Volume:
    """The image (``kind="image"``) or mask (``"labels"``) that a reference of :func:`cases` names.

    Raises:
        ValueError: it is no such reference, or a parameter is unknown, given twice or out of its range.
    """
    if kind not in ("image", "labels"):
        raise ValueError(f"Expected kind 'image' or 'labels'. Received {kind!r}.")
    index, options = parse(reference)
    values = tuple(options[key] for key in ("rank", "size", "sequence", "difficulty", "seed"))
    image, mask = _arrays(index, *values)
    image, mask, _ = brain.volumes(image, mask, index, *values)
    chosen = image if kind == "image" else mask
    return chosen.replace(array=chosen.array.copy())


def parse(reference: str) -> tuple[int, dict[str, Any]]:
    """Index and complete parameters that a reference names.

    Args:
        reference: such as ``phantom:brain-tumor?rank=2&size=128&sequence=flair&difficulty=1&seed=0&n=1000#17``; what is
            left out has its default.

    Raises:
        ValueError: as :func:`open_reference`.
    """
    match = _REFERENCE.fullmatch(reference)
    if not match:
        example = "phantom:brain-tumor?rank=2&size=128&sequence=flair&difficulty=1&seed=0&n=1000#17"
        raise ValueError(f"Expected a reference such as {example!r}. Received {reference!r}.")
    _check_name(match["name"])
    options: dict[str, Any] = {"rank": 2, "size": None, "sequence": "flair", "difficulty": 1.0, "seed": 0, "n": 1000}
    seen = set()
    try:
        pairs = parse_qsl(match["query"], keep_blank_values=True, strict_parsing=bool(match["query"]))
    except ValueError:
        raise ValueError(f"Expected key=value joined by & after the '?'. Received {reference!r}.") from None
    for key, text in pairs:
        if key not in _TYPES or key in seen:
            raise ValueError(f"Expected each of {', '.join(_TYPES)} once at most. Received {key!r} in {reference!r}.")
        seen.add(key)
        kind = _TYPES[key]
        if kind is not str and not (_NUMBER if kind is float else re.compile(r"\d{1,10}")).fullmatch(text):
            raise ValueError(f"Expected a number for {key!r}. Received {text!r} in {reference!r}.")
        options[key] = kind(text)
    index = int(match["index"])
    n = options.pop("n")
    _check_n(n)
    if index >= n:
        raise ValueError(f"Expected a case from 0 to {n - 1}. Received {index} in {reference!r}.")
    options["size"] = brain.check(index, **options)
    return index, options


@functools.lru_cache(maxsize=16)
def _arrays(
    index: int, rank: int, size: int, sequence: str, difficulty: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Image and mask from the cache on disk, or made now and put there. Image and mask are asked for one by one."""
    key = f"brain-tumor-{plan.VERSION}-{rank}-{size}-{sequence}-{_text(difficulty)}-{seed}"
    shape = (size,) * rank
    found = cache.load(key, index, ((np.dtype(np.int16), shape), (np.dtype(np.uint8), shape)))
    if found is None:
        found = brain.render(index, rank, size, sequence, difficulty, seed)
        cache.save(key, index, found)
    return found


def _text(number: float) -> str:
    """The shortest text that reads as the same number: 1 for 1.0."""
    return repr(float(number)).removesuffix(".0")


def _check_name(name: str) -> None:
    if name not in NAMES:
        raise ValueError(f"Expected one of {', '.join(NAMES)}. Received {name!r}.")


def _check_n(n: int) -> None:
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or not 1 <= n <= MOST_CASES:
        raise ValueError(f"Expected n from 1 to {MOST_CASES} cases. Received {n!r}.")
