"""Faults of an image or of a data set, as a table with one row a fault.

In: a Volume or Cases. Out: a table of fault, severity, where, what_to_do; empty when all is well. Where a fault lies is
said by ids, slices and counts alone, never by paths or names. It changes nothing.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medlab.cases import Cases
from medlab.clean.image_checks import Fault, constant, image_faults, not_finite
from medlab.volume import Volume

COLUMNS = ("fault", "severity", "where", "what_to_do")

IMBALANCE = 10
"""Cases of the largest class for one of the smallest from which class-imbalance is reported: below that ratio, plain
training still sees several cases of each class in every batch of 32."""

MOVED = 0.1
"""Voxels by which a corner of a mask may lie beside that of its image: more is no rounding of a header any more."""


def faults(volume_or_cases: Volume | Cases) -> pd.DataFrame:
    """What is wrong with an image or a data set.

    Of an image: ``nan``, ``constant``, ``clipped``, ``missing-slice``, ``duplicate-slice``, ``uneven-spacing``,
    ``low-contrast``, ``low-snr``, ``wrong-range``.

    Of cases: ``duplicate-image``, ``leak`` (the same image, by its content, or the same patient in two splits),
    ``missing-file``, ``unreadable``, ``nan``, ``constant``, ``missing-label``, ``one-class``, ``empty-class``,
    ``class-imbalance``, ``empty-class-in-split``, ``shape-mismatch``, ``mask-geometry-mismatch``. Every image of the
    cases is opened once.

    Args:
        volume_or_cases: a Volume (a label map has no faults of its own), or Cases.

    Returns:
        Columns ``fault``, ``severity`` (``"error"`` for what makes results wrong, ``"warning"`` for what may),
        ``where`` (ids, slices, counts) and ``what_to_do``; no row where no fault was found.

    Raises:
        ValueError: something that is neither.
    """
    if isinstance(volume_or_cases, Volume):
        found: Iterable[Fault] = image_faults(volume_or_cases)
    elif isinstance(volume_or_cases, Cases):
        found = _case_faults(volume_or_cases)
    else:
        raise ValueError(f"Expected a Volume or Cases. Received {type(volume_or_cases).__name__}.")
    rows = sorted(found, key=lambda fault: fault[1] != "error")
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(object)


def _case_faults(cases: Cases) -> Iterator[Fault]:
    yield from _label_faults(cases)
    yield from _patient_leaks(cases)
    table = cases.table
    masks = table["mask"].tolist() if "mask" in table else [None] * len(table)
    seen: dict[str, list[int]] = defaultdict(list)
    shapes: dict[tuple[int, ...], list[str]] = defaultdict(list)
    troubles: dict[str, list[str]] = defaultdict(list)
    for row, (name, image, mask) in enumerate(_progress(list(zip(table["id"], table["image"], masks, strict=True)))):
        volume = _opened(cases, image, "image", name, troubles)
        if volume is None:
            continue
        shapes[volume.array.shape].append(name)
        seen[_content(volume)].append(row)
        if any(not_finite(volume)):
            troubles["nan"].append(name)
        elif any(constant(volume)):
            troubles["constant"].append(name)
        if mask is not None and not pd.isna(mask):
            drawn = _opened(cases, mask, "labels", name, troubles)
            if drawn is not None and not _same_place(volume, drawn):
                troubles["mask-geometry-mismatch"].append(name)
    yield from _duplicates(table, seen)
    for fault, names in troubles.items():
        severity, advice = _ADVICE[fault]
        yield fault, severity, some(names), advice
    if len(shapes) > 1:
        common = [(" x ".join(map(str, shape)), names) for shape, names in shapes.items()]
        common.sort(key=lambda item: -len(item[1]))
        text = "; ".join(f"{shape}: {len(names)} (e.g. {names[0]})" for shape, names in common[:3])
        more = f"; {len(common) - 3} more shapes" if len(common) > 3 else ""
        yield "shape-mismatch", "warning", text + more, "Bring them to one size: batches.arrays(..., size=...)."


_ADVICE = {
    "missing-file": ("error", "Put the file back, mend its path in the table, or drop the case."),
    "unreadable": ("error", "Open this case alone (cases.volume(id)): the error says what is wrong with the file."),
    "nan": ("error", "Mend the image with clean.repair, or drop the case."),
    "constant": ("error", "An image of one value shows nothing: find its source again, or drop the case."),
    "mask-geometry-mismatch": (
        "error",
        "Image and mask differ in shape or place: find the right mask, or standardize.match(mask, image).",
    ),
}


def _label_faults(cases: Cases) -> Iterator[Fault]:
    table = cases.table
    unlabeled = table["id"][table["label"].isna()].tolist()
    if unlabeled and len(unlabeled) == len(table) and cases.has_masks:
        return  # a set for segmentation: the masks are its labels
    if unlabeled:
        yield "missing-label", "error", some(unlabeled), "Label these cases, or drop them before training."
    labels = table["label"].dropna()
    parts = [set(text.split("|")) if cases.multi_label else {text} for text in labels]
    counts = Counter(dict.fromkeys(cases.classes, 0))
    counts.update(name for names in parts for name in names if name in counts)
    if not parts:
        return
    present = [name for name, number in counts.items() if number]
    if len(present) < 2 and not (cases.multi_label and present and counts[present[0]] < len(parts)):
        text = f"{present[0]}: {counts[present[0]]}" if present else "no case has any class"
        yield "one-class", "error", text, "Nothing can be learned from one class: add cases of another."
    elif present:
        large, small = max(present, key=counts.__getitem__), min(present, key=counts.__getitem__)
        if counts[large] >= IMBALANCE * counts[small]:
            text = f"{large}: {counts[large]}, {small}: {counts[small]}"
            advice = "Weight the classes (train.fit(class_weight='balanced')), and judge by AUC, not by accuracy."
            yield "class-imbalance", "warning", text, advice
    absent = [name for name, number in counts.items() if not number]
    if absent and len(present) > 1:
        yield "empty-class", "warning", some(absent), "No case has this class: leave it out of classes=[...]."
    if "split" in table and len(present) > 1:
        splits = table.loc[labels.index, "split"]
        for split in splits.dropna().unique():
            held = set().union(*(names for names, place in zip(parts, splits, strict=True) if place == split))
            empty = [name for name in present if name not in held]
            if empty:
                advice = "Split anew with clean.split, which keeps each class in each split."
                yield "empty-class-in-split", "error", f"{split}: {some(empty)}", advice


def _patient_leaks(cases: Cases) -> Iterator[Fault]:
    if "split" not in cases.table:
        return
    table = cases.table.dropna(subset=["split"])
    splits = table.groupby("patient")["split"].unique()
    for patient, places in splits[splits.map(len) > 1].items():
        text = f"patient {patient}: {', '.join(_ordered(places))}"
        yield "leak", "error", text, "The same patient is trained and tested on: split anew with clean.split."


def _duplicates(table: pd.DataFrame, seen: dict[str, list[int]]) -> Iterator[Fault]:
    """Identical images, and which of them stand in two splits or have two labels."""
    for rows in seen.values():
        if len(rows) < 2:
            continue
        group = table.iloc[rows]
        labels = sorted(set(group["label"].dropna()))
        text = some(group["id"].tolist()) + (f", labeled {' and '.join(labels)}" if len(labels) > 1 else "")
        advice = "Keep one of them" + (", after deciding which label is right." if len(labels) > 1 else ".")
        yield "duplicate-image", "error" if len(labels) > 1 else "warning", text, advice
        if "split" in table and group["split"].dropna().nunique() > 1:
            text = ", ".join(f"{row.id} ({row.split})" for row in group[["id", "split"]].head(5).itertuples())
            yield "leak", "error", f"image: {text}", "The same image stands in two splits: keep it in one."


def _opened(cases: Cases, reference: Any, kind: str, name: str, troubles: dict[str, list[str]]) -> Volume | None:
    """The image, or None and a note of why not. The error's own text could name a patient, so it is left out."""
    if reference is None or pd.isna(reference):
        troubles["missing-file"].append(name)
        return None
    try:
        return cases.open(reference, kind=kind) if cases.open else cases.volume(name)
    except Exception:
        path = Path(str(reference).split("#")[0])
        lost = path.is_absolute() and not path.exists()
        troubles["missing-file" if lost else "unreadable"].append(name)
        return None


def _content(volume: Volume) -> str:
    """A digest of values and shape; the type does not count, so that 8 and 16 bits of the same image agree."""
    array = np.ascontiguousarray(volume.array)
    if array.dtype.kind in "biu" and array.dtype != np.uint8 and array.min() >= 0 and array.max() <= 255:
        array = array.astype(np.uint8)
    digest = hashlib.blake2b(str(array.shape).encode(), digest_size=16)
    digest.update(array.dtype.kind.replace("b", "u").encode())
    digest.update(array.view(np.uint8) if array.flags.c_contiguous and array.ndim else array.tobytes())
    return digest.hexdigest()


def _same_place(volume: Volume, mask: Volume) -> bool:
    """Whether image and mask share their shape and, where both know it, their place."""
    if volume.shape != mask.shape:
        return False
    if not (volume.has_geometry and mask.has_geometry):
        return True
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array([*volume.shape, 1][:3]) - 1)
    homogeneous = np.c_[corners, np.ones(len(corners))]
    moved = np.linalg.norm((homogeneous @ (volume.affine - mask.affine).T)[:, :3], axis=1)
    return bool(moved.max() <= MOVED * min(volume.spacing))


def some(names: Iterable[Any]) -> str:
    """The first few of many names, with their number."""
    listed = [str(name) for name in names]
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")


def _ordered(splits: Iterable[str]) -> list[str]:
    order = ("train", "validation", "test")
    return sorted(map(str, splits), key=lambda name: order.index(name) if name in order else len(order))


def _progress(rows: list[Any]) -> Iterator[Any]:
    from tqdm import tqdm

    return iter(tqdm(rows, desc="images checked", delay=2, leave=False))
