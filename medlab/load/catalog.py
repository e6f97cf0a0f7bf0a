"""dataset, datasets and open_reference: names and paths to Cases, references to Volumes.

In: the name of a MedMNIST set or phantom, a folder or a CSV. Out: Cases whose images are opened one by one.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medlab.cases import Cases
from medlab.load import fetch, files, medmnist, relabel
from medlab.load.errors import ReadError
from medlab.volume import Volume

if TYPE_CHECKING:
    import pandas as pd

    from medlab.phantoms import Scenario

_PHANTOM = "phantom:"
_FOLDER_OPTIONS = ("patient_pattern", "modality", "mask_values")
_CSV_OPTIONS = ("root", "unlabeled", "modality", "mask_values")


def dataset(
    name_or_path: str | os.PathLike,
    *,
    size: int | None = None,
    classes: Sequence[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
    **options: Any,
) -> Cases:
    """Cases from a named data set, a folder or a CSV.

    Args:
        name_or_path: a name of :func:`datasets` (``"pneumoniamnist"``, ``"phantom:brain-tumor"``), a folder of class
            folders, a folder with images and masks, a CSV of paths and labels, or the name of such a folder or CSV in
            ``$MEDLAB_DATA``.
        size: pixels along a side. MedMNIST: 28, 64, 128 or 224, in 3-D 28 or 64. Phantoms: any. Files keep theirs.
        classes: all class names in the order that numbers them; in a binary task the second is the positive one.
        limit: at most so many cases of each split, drawn by ``seed`` in the proportions of the classes (each class
            that is there keeps at least one as far as the limit allows).
        seed: of a phantom's cases and of the limit's choice.
        **options: phantoms: ``rank``, ``n``, ``severity``, ``domain`` and each one's own, such as ``sequence`` (see
            :func:`medlab.phantoms.cases`; :func:`medlab.phantoms.make` makes many beforehand, in parallel). Folders:
            ``patient_pattern`` (regular expression whose groups name the patient), ``modality`` (DICOM code of pictures
            that cannot say it),
            ``mask_values`` (what masks hold where it is not 0, 1, 2, ..., in that order: ``[0, 255]``). CSV: ``root``,
            ``unlabeled``, ``modality``, ``mask_values``.

    Returns:
        Cases with the given splits, if any; ids of files are pseudonyms.

    Raises:
        ReadError: an unknown name (the closest are shown), no such file, or what makes up the set is not in order.
        ValueError: an unknown option or a limit below 1.
    """
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | np.integer) or limit < 1):
        raise ValueError(f"Expected a limit of at least 1 case a split, or None. Received {limit!r}.")
    text = os.fspath(name_or_path)
    lower = text.lower()
    if lower.startswith(_PHANTOM):
        found = _phantom(lower, size, seed, options)
        found = _reorder(found, classes)
    elif lower.partition("_")[0] in medmnist.sets() and _is_size(lower.partition("_")[2]):
        _check_options(text, options, ())
        found = _reorder(medmnist.cases(lower, size=size, open=open_reference), classes)
    else:
        found = _from_files(_place(text), classes, options)
    return _limited(found, limit, seed)


def datasets() -> pd.DataFrame:
    """One row a named data set; nothing is fetched.

    Returns:
        Columns: name, what, modality (DICOM code), task, scenario (tumor, cardiovascular, orthopedic, neurological,
        other), rank, classes and cases (counts; cases missing where any number is made), licence, here (whether a file
        of it is on this machine), sizes (pixels along a side), sizes_here.
    """
    import pandas as pd

    from medlab import phantoms

    rows = []
    for name in phantoms.NAMES:
        found = phantoms.find(name)
        rows.append(
            {
                "name": name, "what": found.note.partition(". ")[0], **_phantom_facts(found),
                "rank": ", ".join(map(str, sorted(found.sizes))), "classes": len(found.classes), "cases": pd.NA,
                "licence": "Apache-2.0", "here": True, "sizes": "any", "sizes_here": "any",
            }
        )  # fmt: skip
    sets = medmnist.sets()
    present = fetch.here({medmnist.file_name(name, size) for name, facts in sets.items() for size in facts.md5})
    for name, facts in sets.items():
        sizes = [size for size in facts.md5 if medmnist.file_name(name, size) in present]
        rows.append(
            {
                "name": name, "what": facts.what, "modality": facts.modality, "task": facts.task,
                "scenario": facts.scenario, "rank": str(facts.rank), "classes": len(facts.classes),
                "cases": sum(facts.cases), "licence": facts.licence, "here": bool(sizes),
                "sizes": ", ".join(map(str, facts.md5)), "sizes_here": ", ".join(map(str, sizes)),
            }
        )  # fmt: skip
    return pd.DataFrame(rows).astype({"cases": "Int64", "here": bool})


def open_reference(reference: str, *, kind: str = "image", modality: str | None = None) -> Volume:
    """The Volume that a reference in a case table names.

    Args:
        reference: a path, ``breastmnist#train/12``, or ``phantom:brain-tumor?...#17``.
        kind: ``"image"`` or ``"labels"``.
        modality: DICOM code for files that do not say it themselves.

    Raises:
        ReadError: it cannot be opened; the message says why.
    """
    text = os.fspath(reference)
    if text.startswith(_PHANTOM):
        from medlab import phantoms

        return phantoms.open_reference(text, kind=kind)
    if medmnist.is_reference(text):
        return medmnist.open_reference(text, kind=kind)
    volume = files.read(text, kind=kind)
    if modality is not None and volume.modality is None:
        volume = volume.replace(modality=modality)
    return volume


def is_reference(text: str) -> bool:
    """Whether ``text`` names an image that is not a file of its own."""
    return text.startswith(_PHANTOM) or medmnist.is_reference(text)


def _phantom(name: str, size: int | None, seed: int, options: dict[str, Any]) -> Cases:
    from medlab import phantoms

    if name not in phantoms.NAMES:
        raise ReadError(_unknown(name))
    found = phantoms.find(name)
    if "difficulty" not in options:  # what it is called now is told by the scenario
        _check_options(name, options, ("n", "rank", *found.choices, "severity", "domain"))
    table = phantoms.cases(name, size=size, seed=seed, **options)
    info = {**_phantom_facts(found), "licence": "Apache-2.0", **options, "seed": seed}
    if any(options.get(key, values[0]) != values[0] for key, values in found.choices.items()):
        info["modality"] = open_reference(table["image"].iloc[0]).modality  # a CT set may be seen as radiographs
    if info["modality"] == "CT" and found.window:
        info["window"] = found.window[0]
    info |= {"regions": list(found.regions), "note": found.note}
    table.attrs = {}
    return Cases(table, list(found.classes), name, False, open_reference, info, phantoms.healthy_twins)


def _phantom_facts(found: Scenario) -> dict[str, str]:
    task = "binary-class" if len(found.classes) == 2 else "multi-class"
    return {"modality": found.modality, "task": task, "scenario": found.topic}


def _from_files(path: Path, classes: Sequence[str] | None, options: dict[str, Any]) -> Cases:
    from medlab.load import folder

    options = dict(options)
    modality = options.get("modality")
    if modality is not None and (not isinstance(modality, str) or not 2 <= len(modality) <= 16):
        raise ValueError(f"Expected a DICOM modality such as 'DX', 'MR' or 'US'. Received {modality!r}.")
    opener = partial(open_reference, modality=modality) if modality else open_reference
    if options.get("mask_values") is not None:
        opener = partial(relabel.opened, opener, relabel.check(options["mask_values"]))
    _check_options(path.name, options, _FOLDER_OPTIONS if path.is_dir() else _CSV_OPTIONS)
    options.pop("modality", None)
    options.pop("mask_values", None)
    if path.is_dir():
        found = folder.read_folder(path, classes=classes, open=opener, **options)
    elif path.suffix.lower() == ".csv":
        found = folder.read_csv(path, classes=classes, open=opener, **options)
    else:
        raise ReadError(
            f"{path} is one file. Open an image with medlab.load.read; a data set is a folder or a CSV, or has a name "
            "that medlab.load.datasets() lists."
        )
    return Cases(
        found.table, found.classes, found.name, found.multi_label, opener, {"modality": modality} if modality else {}
    )


def _place(text: str) -> Path:
    """The folder or file that ``text`` means: a path, or a name in ``$MEDLAB_DATA``."""
    path = Path(text).expanduser()
    if path.exists():
        return path.absolute()
    data = fetch.data_folder()
    if data is not None and not path.is_absolute() and ".." not in path.parts and (data / path).exists():
        return (data / path).absolute()
    if path.suffix or len(path.parts) > 1:
        raise ReadError(f"No such file or folder: {path}. Check the path; relative ones start from {Path.cwd()}.")
    raise ReadError(_unknown(text))


def _unknown(text: str) -> str:
    from medlab import phantoms

    names = [*phantoms.NAMES, *medmnist.sets()]
    close = difflib.get_close_matches(text.lower(), names, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(map(repr, close))}? " if close else ""
    return f"No data set, folder or CSV {text!r}. {hint}Named sets: {', '.join(names)}."


def _check_options(name: str, options: dict[str, Any], known: Sequence[str]) -> None:
    unknown = sorted(set(options) - set(known))
    if unknown:
        there = f"{', '.join(known)}, " if known else ""
        raise ValueError(f"{name} does not know {', '.join(unknown)}. It knows {there}size, classes, limit and seed.")


def _is_size(text: str) -> bool:
    return text == "" or text.isdecimal()


def _reorder(found: Cases, classes: Sequence[str] | None) -> Cases:
    """The same cases with their classes numbered in another order."""
    if classes is None:
        return found
    if sorted(classes) != sorted(found.classes):
        raise ReadError(
            f"Expected all classes of {found.name!r} in some order, {found.classes}. Received {list(classes)}."
        )
    return Cases(found.table, list(classes), found.name, found.multi_label, found.open, found.info, found.twinned)


def _limited(found: Cases, limit: int | None, seed: int) -> Cases:
    """At most ``limit`` cases a split, stratified by label, in table order."""
    if limit is None:
        return found
    table = found.table
    splits = table["split"].fillna("") if "split" in table else table["id"].map(lambda _: "")
    random = np.random.default_rng(seed)
    kept: list[int] = []
    for split in sorted(splits.unique()):
        rows = np.flatnonzero(splits == split)
        if len(rows) <= limit:
            kept += rows.tolist()
            continue
        labels = table["label"].iloc[rows].fillna("").to_numpy(object)
        names, counts = np.unique(labels.astype(str), return_counts=True)
        shares = _shares(counts, limit)
        for name, share in zip(names, shares, strict=True):
            kept += random.choice(rows[labels == name], share, replace=False).tolist()
    return found.with_table(table.iloc[sorted(kept)])


def _shares(counts: np.ndarray, limit: int) -> np.ndarray:
    """How many of each class make ``limit`` together: in proportion, one at least, largest remainders rounded up."""
    exact = counts * limit / counts.sum()
    shares = np.floor(exact).astype(int)
    rare = np.argsort(counts, kind="stable")
    if limit >= len(counts):
        shares = np.maximum(shares, 1)
    while shares.sum() > limit:
        shares[np.argmax(shares - exact)] -= 1
    for index in np.argsort(shares - exact, kind="stable"):
        if shares.sum() == limit:
            break
        if shares[index] < counts[index]:
            shares[index] += 1
    for index in rare:  # what is left over where classes ran out
        take = min(counts[index] - shares[index], limit - shares.sum())
        shares[index] += max(take, 0)
    return shares
