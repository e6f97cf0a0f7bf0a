"""The 18 sets of MedMNIST v2 at all their sizes.

In: a name and a size. Out: Cases with the official splits, whose images are opened by references such as
``breastmnist#train/12``. Source: Yang et al., MedMNIST v2, Sci Data 10:41 (2023); files: Zenodo record 10519652.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
import zlib
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from medlab.cases import NO_FINDING, Cases, Opener
from medlab.load import fetch
from medlab.load.errors import ReadError, check_size
from medlab.volume import Volume

CITATION = "Yang et al., MedMNIST v2, Scientific Data 10:41 (2023), doi 10.1038/s41597-022-01721-8"
_ADDRESS = "https://zenodo.org/records/10519652/files/{file}?download=1"
# Larger arrays are mapped from disk and not held in memory: training on 224 pixels takes up to 13 GiB.
MAPPED_FROM = 2**30
_SPLITS = {"train": "train", "val": "validation", "test": "test"}
_REFERENCE = re.compile(r"(?P<file>[a-z]+mnist(?:3d)?(?:_\d+)?)#(?P<split>train|val|test)/(?P<number>\d+)")


@dataclass(frozen=True)
class Facts:
    """What is known of a set without its file.

    ``task`` is "binary-class", "multi-class", "multi-label" or "ordinal-regression" (treated as multi-class);
    ``cases`` counts train, validation and test; ``md5`` has one checksum a size; ``shape`` says that the voxels are
    a shape drawn from images of that modality, not their gray values.
    """

    what: str
    task: str
    modality: str
    scenario: str
    cases: tuple[int, int, int]
    channels: int
    licence: str
    classes: tuple[str, ...]
    md5: dict[int, str]
    rank: int
    shape: bool = False


@cache
def sets() -> dict[str, Facts]:
    """All sets by name."""
    entries = json.loads(Path(__file__).with_name("medmnist_index.json").read_text(encoding="utf-8"))
    return {
        name: Facts(
            **{
                **entry,
                "cases": tuple(entry["cases"]),
                "classes": tuple(entry["classes"]),
                "md5": {int(size): md5 for size, md5 in entry["md5"].items()},
                "rank": 3 if name.endswith("3d") else 2,
            }
        )
        for name, entry in entries.items()
    }


def file_name(name: str, size: int) -> str:
    """Name of a set's file at one size."""
    return f"{name}.npz" if size == 28 else f"{name}_{size}.npz"


def cases(name: str, *, size: int | None = None, open: Opener | None = None) -> Cases:  # noqa: A002
    """A set with its official splits.

    Args:
        name: such as ``"breastmnist"`` or ``"breastmnist_64"``.
        size: pixels along a side, 28 by default.
        open: what opens the references.

    Raises:
        ReadError: a size that the set does not have, or a file that is not here, not the right one or damaged.
    """
    base, _, ending = name.partition("_")
    facts = sets()[base]
    size = int(ending or 28) if size is None else size
    if size not in facts.md5:
        raise ReadError(f"{base} comes in the sizes {', '.join(map(str, facts.md5))}. Received {size!r}.")
    stem = file_name(base, size).removesuffix(".npz")
    rows = []
    for split, ours in _SPLITS.items():
        labels = _array(stem, f"{split}_labels")
        names = _label_names(labels, facts)
        rows.append(
            pd.DataFrame(
                {
                    "id": [f"{split}-{number:06d}" for number in range(len(labels))],
                    "image": [f"{stem}#{split}/{number}" for number in range(len(labels))],
                    "label": names,
                    "split": ours,
                }
            )
        )
    info = {
        "modality": "SEG" if facts.shape else facts.modality, "task": facts.task, "scenario": facts.scenario,
        "licence": facts.licence, "citation": CITATION, "size": size, "rank": facts.rank,
    }  # fmt: skip
    table = pd.concat(rows, ignore_index=True)
    return Cases(table, list(facts.classes), base, facts.task == "multi-label", open, info)


def is_reference(text: str) -> bool:
    """Whether ``text`` is a reference of this module."""
    return _REFERENCE.fullmatch(text) is not None


def open_reference(reference: str, *, kind: str = "image") -> Volume:
    """The image that a reference such as ``organmnist3d_64#test/3`` names.

    Returns:
        A picture (row, column[, 3]) or a volume (i, j, k) of uint8, its place in the patient unknown.

    Raises:
        ReadError: no such reference, or its file cannot be had.
    """
    match = _REFERENCE.fullmatch(reference)
    base = match["file"].partition("_")[0] if match else None
    if base not in sets():
        raise ReadError(f"{reference!r} is no MedMNIST reference. Expected one such as 'breastmnist#train/12'.")
    facts = sets()[base]
    images = _array(match["file"], f"{match['split']}_images")
    number = int(match["number"])
    if number >= len(images):
        raise ReadError(f"{reference!r} does not exist: that split has {len(images)} images, counted from 0.")
    array = images[number]
    if facts.rank == 3 and array.ndim == 4 and array.shape[-1] == 1:
        array = array[..., 0]
    return Volume(
        array,
        kind=kind,
        modality="SEG" if facts.shape else facts.modality,
        info={"geometry": "assumed"},
        rank=facts.rank,
    )


def _label_names(labels: np.ndarray, facts: Facts) -> list[str]:
    """Class names of each case, joined by ``|`` where there may be several."""
    if facts.task == "multi-label":
        return ["|".join(n for n, yes in zip(facts.classes, row, strict=True) if yes) or NO_FINDING for row in labels]
    return [facts.classes[int(number)] for number in labels.reshape(len(labels))]


def _array(stem: str, key: str) -> np.ndarray:
    """One array of a set's file, read once and kept read-only; the least used of twelve is dropped."""
    return _read_array(stem, key, os.environ.get("MEDLAB_DATA"), os.environ.get("MEDLAB_CACHE"))


@lru_cache(maxsize=12)
def _read_array(stem: str, key: str, *_where: str | None) -> np.ndarray:
    array = read_npz(_path(stem, *_where), key)
    if array.flags.writeable:
        array.flags.writeable = False
    return array


@lru_cache(maxsize=64)
def _path(stem: str, *_where: str | None) -> Path:
    base, _, size = stem.partition("_")
    name = f"{stem}.npz"
    if base not in sets() or int(size or 28) not in sets()[base].md5:
        raise ReadError(f"There is no MedMNIST file {name}.")
    return fetch.file(name, md5=sets()[base].md5[int(size or 28)], url=_ADDRESS.format(file=name))


def read_npz(path: Path, key: str) -> np.ndarray:
    """One array of an ``.npz`` file, never unpickled; a large one is unpacked once and mapped from the cache folder.

    Raises:
        ReadError: no such array, pickled objects in it, too large for memory or disk, or a damaged file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            held = {entry.filename: entry for entry in archive.infolist()}
            entry = held.get(f"{key}.npy")
            if entry is None:
                raise ReadError(f"{path} has no array {key!r}. It has {', '.join(sorted(held)) or 'none'}.")
            if entry.file_size > MAPPED_FROM:
                return _mapped(path, archive, entry)
            check_size(path, entry.file_size, stored=entry.compress_size, compressed=True)
            with archive.open(entry) as stream:
                return np.lib.format.read_array(stream, allow_pickle=False)
    except ReadError:
        raise
    except ValueError as error:
        if "allow_pickle" in str(error) or "Object arrays" in str(error):
            raise ReadError(
                f"{path} holds pickled Python objects in {key!r}, which could run code when loaded: refused. "
                "Save it again as plain numbers, np.savez(path, name=array.astype(...))."
            ) from error
        raise ReadError(f"{path} is damaged ({error}). Fetch it again.") from error
    except (zipfile.BadZipFile, OSError, EOFError, zlib.error) as error:
        raise ReadError(f"{path} is damaged, or there is no room for it ({error}).") from error


def _mapped(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    """The array as a memory map of a file in the cache folder, unpacked there the first time."""
    target = fetch.cache() / f"{path.stem}-{entry.filename.removesuffix('.npy')}-{entry.CRC:08x}.npy"
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".part-{os.getpid()}-{target.name}")
        try:
            with archive.open(entry) as packed, part.open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked, 1 << 22)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    return np.load(target, mmap_mode="r", allow_pickle=False)
