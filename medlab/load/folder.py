"""Cases from a user's own files: class folders, images with masks, or a CSV of paths and labels.

In: a folder or a CSV. Out: Cases whose ids are pseudonyms, so that no file name reaches an output. No image is opened.
"""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from medlab import cases as case_table
from medlab.cases import SPLIT_NAMES, Cases, Opener, class_order, pseudonym
from medlab.load.errors import ReadError
from medlab.load.files import ENDINGS, is_bare_dicom

_IMAGES = ("images", "image", "imagestr", "img", "imgs")
_MASKS = ("masks", "mask", "labels", "label", "labelstr", "segmentations", "segmentation", "annotations")
_LAYOUTS = (
    "Expected a folder with one subfolder a class (also inside train, validation and test), or with the subfolders "
    "images and masks (or labels), or a CSV with the columns image and label."
)


def read_folder(
    folder: Path,
    *,
    classes: Sequence[str] | None = None,
    patient_pattern: str | None = None,
    open: Opener | None = None,  # noqa: A002
) -> Cases:
    """Cases from class folders or from images and masks.

    Args:
        folder: subfolders are the classes, or the splits with the classes in them, or images and masks whose names
            agree up to the ending (nnU-Net's ``_0000`` is allowed). A subfolder of DICOM files is one case.
        classes: the class names in order; by default the folders' names sorted, numbers by size. For masks:
            what 0, 1, ... mean.
        patient_pattern: regular expression searched in each file's name; its groups together (or the whole match)
            name the patient. Where it does not match, and without it, each image is a patient of its own.
        open: what opens the references.

    Raises:
        ReadError: no layout that is known, one class only, a class folder that is not among ``classes`` or lies beside
            the splits, no images, a mask without image, or a pattern that matches nothing.
    """
    inside = _folders(folder)
    names = {name.lower(): name for name in inside}
    images = next((names[name] for name in _IMAGES if name in names), None)
    masks = next((names[name] for name in _MASKS if name in names), None)
    if images and masks:
        rows = _pairs(folder / images, folder / masks)
        found: list[str] = list(classes or [])
    else:
        splits = {name: SPLIT_NAMES[name.lower()] for name in inside if name.lower() in SPLIT_NAMES}
        if splits:
            astray = [name for name in inside if name not in splits and _images(folder / name)]
            if astray:
                raise ReadError(
                    f"{folder} has the split(s) {_some(list(splits))} and, beside them, {len(astray)} more folder(s) "
                    f"of images ({_some(astray)}). Move them into a split, or out of the folder."
                )
            rows = [{**row, "split": ours} for name, ours in splits.items() for row in _by_class(folder / name)]
        else:
            rows = _by_class(folder)
        found = _ordered(class_order(row["label"] for row in rows), classes, folder)
    table = pd.DataFrame(rows)
    relative = [Path(path).relative_to(folder).as_posix() for path in table["image"]]
    table.insert(0, "id", [pseudonym(name) for name in relative])
    table["patient"] = _patients(relative, table["id"].tolist(), patient_pattern, folder)
    columns = ["id", "patient", *(name for name in ("image", "mask", "label", "split") if name in table)]
    return Cases(table[columns], found, folder.name, False, open)


def read_csv(
    path: Path,
    *,
    classes: Sequence[str] | None = None,
    root: str | os.PathLike | None = None,
    unlabeled: str = "raise",
    open: Opener | None = None,  # noqa: A002
) -> Cases:
    """Cases from a CSV with the columns image and, as far as known, label, id, patient, split, mask.

    Args:
        path: the CSV. One that ``Cases.to_csv`` wrote keeps its ids, classes and name; in others ids and patients
            become pseudonyms.
        classes: the class names in order; by default the labels sorted, numbers by size.
        root: the folder that relative paths start from, by default the CSV's own. They must not lead out of it;
            absolute paths are taken as they are.
        unlabeled: ``"raise"`` or ``"keep"`` cases without a label.
        open: what opens the references.

    Raises:
        ReadError: no such file, no column image or label, a missing file or label, a label outside the classes, one
            class only, or a relative path that leaves the folder.
    """
    if unlabeled not in ("raise", "keep"):
        raise ValueError(f"Expected unlabeled 'raise' or 'keep'. Received {unlabeled!r}.")
    try:
        loaded = case_table.read_csv(path, classes=list(classes) if classes is not None else None, open=open)
    except (ValueError, UnicodeDecodeError, pd.errors.ParserError) as error:
        raise ReadError(f"{path}: {error}") from error
    table = loaded.table.copy()
    if table["label"].isna().all() and unlabeled == "raise" and "mask" not in table:
        raise ReadError(
            f"{path}: no case has a label. Expected a column named label with the class of each case. The columns are "
            f"{_columns(path)}. Name it so, or load the cases with unlabeled='keep'."
        )
    if table["label"].notna().any() or classes is not None:
        lost = table["id"][table["label"].isna()].tolist()
        if lost and unlabeled == "raise" and "mask" not in table:
            raise ReadError(
                f"{path}: {len(lost)} case(s) have no label ({_some(lost)}). Label or drop them, or load them with "
                "unlabeled='keep'."
            )
        if len(loaded.classes) < 2:
            raise ReadError(f"{path} has one class only ({_some(loaded.classes)}); two are needed to tell them apart.")
    start = Path(root).expanduser() if root is not None else path.parent
    missing: list[str] = []
    for column in ("image", "mask"):
        if column in table:
            table[column] = [_resolve(path, start, text, missing) for text in table[column]]
    if table["image"].isna().any():
        raise ReadError(
            f"{path}: {int(table['image'].isna().sum())} case(s) have no image path. Complete or drop them."
        )
    if missing:
        raise ReadError(
            f"{path}: {len(missing)} file(s) do not exist ({_some(missing)}). Relative paths start from {start}."
        )
    with path.open(encoding="utf-8-sig") as stream:
        ours = stream.readline().startswith("# name: ")
    if not ours:
        table["id"] = [pseudonym(name) for name in table["id"]]
        table["patient"] = [pseudonym(name) for name in loaded.table["patient"]]
    return loaded.with_table(table)


def _columns(path: Path) -> list[str]:
    """The names of a CSV's columns as they are written."""
    with path.open(encoding="utf-8-sig") as stream:
        line = next(line for line in stream if not line.startswith("# "))
    return [name.strip() for name in next(csv.reader([line]))]


def _folders(folder: Path) -> list[str]:
    return sorted(e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith((".", "__")))


def _by_class(folder: Path) -> list[dict[str, str]]:
    """One row a case below each class folder."""
    rows = []
    for name in _folders(folder):
        found = _images(folder / name)
        if not found:
            raise ReadError(f"{folder / name} holds no images. {_LAYOUTS}")
        rows += [{"image": str(path), "label": name} for path in found]
    if not rows:
        files = Counter(Path(e.name).suffix.lower() or "no ending" for e in os.scandir(folder) if e.is_file())
        what = ", ".join(f"{n} of {ending}" for ending, n in files.most_common(5)) or "nothing"
        raise ReadError(f"{folder} has no class folders; it holds {what}. {_LAYOUTS}")
    return rows


def _images(folder: Path) -> list[Path]:
    """Image files below a folder in order of names; a folder of DICOM files inside it stands for one case."""
    found: list[Path] = []
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        files = sorted(name for name in files if not name.startswith("."))
        bare = {name for name in files if is_bare_dicom(Path(here, name))}
        known = [name for name in files if name in bare or name.lower().endswith(ENDINGS)]
        slices = [name for name in known if name in bare or name.lower().endswith((".dcm", ".ima"))]
        if Path(here) != folder and known and slices == known:
            found.append(Path(here))
            folders.clear()
        else:
            found += [Path(here, name) for name in known]
    return found


def _ordered(found: list[str], classes: Sequence[str] | None, folder: Path) -> list[str]:
    """The classes in the wanted order."""
    if classes is not None:
        unknown = sorted(set(found) - set(classes))
        if unknown:
            raise ReadError(f"{folder} has the class folders {found}; not among classes={list(classes)}: {unknown}.")
        found = list(classes)
    if len(found) < 2:
        raise ReadError(f"{folder} has one class only ({_some(found)}); two are needed to tell them apart. {_LAYOUTS}")
    return found


def _pairs(images: Path, masks: Path) -> list[dict[str, str | None]]:
    """Images and masks whose names agree."""
    pictures = {_stem(path): path for path in _images(images)}
    if not pictures:
        raise ReadError(f"{images} holds no images. {_LAYOUTS}")
    drawn = {_stem(path): path for path in _images(masks)}
    if not set(drawn) & set(pictures):  # nnU-Net: image case_0000.nii.gz, label case.nii.gz
        pictures = {name.removesuffix("_0000"): path for name, path in pictures.items()}
    alone = sorted(set(drawn) - set(pictures))
    if alone:
        raise ReadError(
            f"{masks}: {len(alone)} mask(s) have no image of the same name in {images.name} ({_some(alone)}). "
            "Rename or remove them."
        )
    if not drawn:
        raise ReadError(f"{masks} holds no masks. {_LAYOUTS}")
    return [
        {"image": str(path), "mask": str(drawn[name]) if name in drawn else None} for name, path in pictures.items()
    ]


def _stem(path: Path) -> str:
    """A file's name without its ending, however many parts it has."""
    name = path.name
    ending = max((e for e in ENDINGS if name.lower().endswith(e)), key=len, default="")
    return name[: len(name) - len(ending)] if ending else name


def _patients(relative: list[str], ids: list[str], pattern: str | None, folder: Path) -> list[str]:
    if pattern is None:
        return ids
    try:
        wanted = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"Expected a regular expression as patient_pattern. {pattern!r} is none: {error}.") from None
    matches = [wanted.search(name.rsplit("/", 1)[-1]) for name in relative]
    if not any(matches):
        raise ReadError(f"No file name in {folder} matches patient_pattern={pattern!r}.")
    return [
        pseudonym("|".join(group or "" for group in match.groups()) if match.groups() else match[0]) if match else one
        for match, one in zip(matches, ids, strict=True)
    ]


def _resolve(table: Path, start: Path, text: str | None, missing: list[str]) -> str | None:
    """An absolute path, or a reference as it is; names of files that do not exist are added to ``missing``."""
    if text is None or pd.isna(text):
        return None
    from medlab.load.catalog import is_reference

    if is_reference(text):
        return text
    path = Path(text).expanduser()
    if not path.is_absolute():
        path = Path(os.path.normpath(start.absolute() / path))
        if not path.is_relative_to(os.path.normpath(start.absolute())):
            raise ReadError(
                f"{table} names a file outside its folder ({text}). Write its absolute path, or pass root=... as the "
                "folder that relative paths start from."
            )
    if not path.exists():
        missing.append(text)
    return str(path)


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(str, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "") or "none"
