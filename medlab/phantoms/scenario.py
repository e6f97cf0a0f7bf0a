"""Scenario: what every phantom data set says of itself, and the rules that its arguments keep.

In: arguments as a user gives them. Out: the same, complete and in range, or an error that names what is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medlab.volume import Volume

EASIEST, HARDEST = 0.25, 4.0
"""Range of the severity."""


@dataclass(frozen=True, eq=False)
class Scenario:
    """One phantom data set: what it is called, what it shows, and how a case is made.

    Attributes:
        name: such as ``"phantom:lung-nodule"``.
        classes: such as ``("healthy", "nodule")``; the order numbers the labels.
        modality: DICOM code of the default: ``"CT"``, ``"MR"``, ``"DX"``.
        anatomy: one word, such as ``"chest"``.
        topic: ``"tumor"``, ``"cardiovascular"``, ``"orthopedic"`` or ``"neurological"``.
        regions: names of the mask's values 0, 1, ...; the first is ``"background"``.
        sizes: for each rank that makes sense: default, least and most voxels along the longest side of the volume from
            which the image is taken, which sets the voxel's size; other sides may be shorter. The first rank is the
            default.
        choices: further text options with their values; the first value is the default.
        domains: plain names of scanner, protocol or site; the first is the default. A domain changes how a patient
            looks, never who it is: label, anatomy and lesion stay.
        version: raised whenever the same arguments give another image or mask; older files in the cache are not used.
        note: what is real, what is simulated and what must not be concluded, in plain sentences; the first says what it
            is.
        parameters: ``parameters(index, *, severity, seed, domain, healthy=False)``: the truth of one case as plain
            values, with ``"label"``, a class name; made without making the image.
        render: ``render(index, *, rank, size, severity, seed, domain, healthy=False, **choices)``: image and labels on
            the same grid. ``healthy``: the same patient and noise without the finding; a case of the first class is
            its own twin (:mod:`medlab.phantoms.twins`).
        narrower: for a rank at which not every value of a choice makes sense, those that do; the first is its default
            there, as ``{3: {"technique": ("ct",)}}``.
        window: name, center and width in HU of the window (``medlab.standardize.PRESETS``) that shows what the set is
            about, where it is CT.
    """

    name: str
    classes: tuple[str, ...]
    modality: str
    anatomy: str
    topic: str
    regions: tuple[str, ...]
    sizes: Mapping[int, tuple[int, int, int]]
    choices: Mapping[str, tuple[str, ...]]
    domains: tuple[str, ...]
    version: int
    note: str
    parameters: Callable[..., Mapping[str, Any]]
    render: Callable[..., tuple[Volume, Volume]]
    narrower: Mapping[int, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    window: tuple[str, float, float] | None = None

    def options(self, **given: Any) -> dict[str, Any]:
        """All arguments of :attr:`render` but the index, those that are left out with their defaults.

        Args:
            **given: any of ``rank``, ``size`` (None for the rank's default), ``severity``, ``domain``, ``seed`` and the
                scenario's own choices; texts in any case, as "T1" for "t1".

        Returns:
            In the order rank, size, the choices, severity, domain, seed; texts as the scenario spells them.

        Raises:
            ValueError: an unknown name, or a value out of its range; the message says which.
        """
        self._check_names(given)
        rank = given.get("rank")
        rank = next(iter(self.sizes)) if rank is None else rank
        if not whole(rank) or rank not in self.sizes:
            known = " or ".join(f"{one} ({'slices' if one == 2 else 'volumes'})" for one in self.sizes)
            raise ValueError(f"Expected rank {known}. Received {rank!r}.")
        default, least, most = self.sizes[rank]
        size = given.get("size")
        size = default if size is None else size
        if not whole(size) or not least <= size <= most:
            raise ValueError(f"Expected a size from {least} to {most} for rank {rank}. Received {size!r}.")
        chosen = {}
        allowed = {**self.choices, **self.narrower.get(rank, {}), "domain": self.domains}
        for key, values in allowed.items():
            asked = given.get(key, values[0])
            spelled = {value.lower(): value for value in values}
            chosen[key] = spelled.get(asked.lower()) if isinstance(asked, str) else None
            if chosen[key] is None:
                there = f" for rank {rank}" if key in self.narrower.get(rank, {}) else ""
                raise ValueError(f"Expected a {key} of {', '.join(values)}{there}. Received {asked!r}.")
        severity, seed = given.get("severity", 1.0), given.get("seed", 0)
        check_severity(severity)
        check_number(seed, "seed")
        domain = chosen.pop("domain")
        return {
            "rank": int(rank), "size": int(size), **chosen,
            "severity": float(severity), "domain": domain, "seed": int(seed),
        }  # fmt: skip

    def _check_names(self, given: Mapping[str, Any]) -> None:
        known = ("rank", "size", *self.choices, "severity", "domain", "seed")
        unknown = sorted(set(given) - set(known))
        if "difficulty" in unknown:
            raise ValueError(f"'difficulty' is called severity now: severity={given['difficulty']!r}.")
        if unknown:
            raise ValueError(f"{self.name} does not know {', '.join(unknown)}. It knows {', '.join(known)}.")


def check_severity(severity: float) -> None:
    """Raises a ValueError unless ``severity`` is a number from ``EASIEST`` to ``HARDEST``."""
    number = isinstance(severity, int | float | np.number) and not isinstance(severity, bool)
    if not number or not (math.isfinite(severity) and EASIEST <= severity <= HARDEST):
        raise ValueError(f"Expected a severity from {EASIEST:g} to {HARDEST:g}. Received {severity!r}.")


def check_number(number: int, name: str) -> None:
    """Raises a ValueError unless ``number`` is a whole number from 0 that fits 31 bits."""
    if not whole(number) or not 0 <= number < 2**31:
        raise ValueError(f"Expected {'an' if name[0] in 'aeiou' else 'a'} {name} of 0 or above. Received {number!r}.")


def whole(number: Any) -> bool:
    """Whether ``number`` is an integer and no truth value."""
    return isinstance(number, int | np.integer) and not isinstance(number, bool)
