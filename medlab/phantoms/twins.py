"""Twins: the same patient with the same noise and without the finding; what a model says of both differs by it alone.

In: references or a table of cases. Out: the references, tables and images of their healthy twins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from medlab.volume import Volume


def healthy_twin(reference: str, *, kind: str = "image") -> Volume:
    """The image (``kind="image"``) or mask (``"labels"``) of the healthy twin of a case.

    Person, pose, slice, texture, receive field and noise are those of the case; what is part of the finding is gone:
    the lesion, what it pushed away, the clot in its artery. The twin of an enlarged heart has a ratio as much below one
    half as it was above, that of a stenosis is nowhere narrow, that of a shrunken hippocampus has its volume before.

    Noise that is drawn as it is counted (photons) is carried over as the same deviation, in units of the expected
    one; where as many photons are expected it is the same number. Computed tomography spreads a difference over the
    slice, and the presentation of a radiograph follows its contents: there pixels far away differ a little.

    Args:
        reference: such as :func:`medlab.phantoms.cases` has them in the columns image and mask.
        kind: ``"image"`` or ``"labels"``.

    Returns:
        The Volume; that of a case of the first class (healthy, normal, intact) is the case itself.

    Raises:
        ValueError: it is no such reference.
    """
    from medlab.phantoms import store

    return store.open_reference(twin_reference(reference), kind=kind)


def twin_reference(reference: str) -> str:
    """The reference of a case's healthy twin: itself, with ``&twin=healthy``; unchanged where the case is healthy.

    Raises:
        ValueError: it is no reference of a phantom.
    """
    from medlab.phantoms import store

    name, index, options = store.parse(reference)
    patient = {key: options[key] for key in ("severity", "seed", "domain")}
    chosen = store.find(name)
    if "twin" in options or chosen.parameters(index, **patient)["label"] == chosen.classes[0]:
        return reference
    start, _, number = reference.rpartition("#")
    return f"{start}{'' if start.endswith('?') else '&'}twin=healthy#{number}"


def healthy_twins(table: pd.DataFrame) -> pd.DataFrame:
    """A table of cases with the image, mask, label and parameters of their healthy twins; the rest stays.

    Args:
        table: one row a case, its ``image`` a reference of :func:`medlab.phantoms.cases`.

    Raises:
        ValueError: an image is no reference of a phantom.
    """
    from medlab.phantoms import store

    result = table.copy()
    result["image"] = [twin_reference(text) for text in table["image"]]
    if "mask" in result:
        result["mask"] = [text if pd.isna(text) else twin_reference(text) for text in table["mask"]]
    facts = []
    for text in result["image"]:
        name, index, options = store.parse(text)
        patient = {key: options[key] for key in ("severity", "seed", "domain")}
        facts.append(store.find(name).parameters(index, **patient, healthy="twin" in options))
    for column in facts[0] if facts else ():
        if column in result:
            result[column] = [fact[column] for fact in facts]
    return result


def same_noise(rng: np.random.Generator, make: Callable[[Any], Any]) -> Any:
    """A generator that gives for a twin what ``rng`` gave for the case.

    The number of random bits that a count of photons takes depends on how many are expected. So the case is made once
    more and its numbers are kept.

    Args:
        rng: of the case's noise.
        make: makes the case with a generator.

    Returns:
        What has the methods of a Generator that the case has used; it can be used once, in the same order.
    """
    kept = _Kept(rng)
    make(kept)
    return _Again(kept.drawn)


class _Kept:
    """A generator whose numbers are kept."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self.drawn: list[tuple[str, Any, Any]] = []

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def draw(*args: Any, **kwargs: Any) -> Any:
            found = getattr(self._rng, method)(*args, **kwargs)
            self.drawn.append((method, args[0] if args else None, found))
            return found

        return draw


class _Again:
    """The same numbers once more; of counts the same deviations from what is expected."""

    def __init__(self, drawn: list[tuple[str, Any, Any]]) -> None:
        self._drawn = iter(drawn)

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def draw(*args: Any, **kwargs: Any) -> Any:
            before, expected, found = next(self._drawn)
            if before != method or (method != "poisson" and repr(args[:1]) != repr((expected,) if args else ())):
                raise RuntimeError(f"Expected {before} of {expected!r}, as in the case. Received {method} of {args!r}.")
            return _counts(found, expected, args[0]) if method == "poisson" else found

        return draw


def _counts(found: np.ndarray, before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Counts of photons where ``now`` are expected, with the deviations of those ``found`` where ``before`` were."""
    before, now = np.broadcast_arrays(np.asarray(before, np.float64), np.asarray(now, np.float64))
    unit = np.sqrt(np.divide(now, before, out=np.ones_like(now), where=before > 0))
    moved = np.maximum(np.rint(now + (found - before) * unit), 0).astype(found.dtype)
    return np.where(now == before, found, moved)
