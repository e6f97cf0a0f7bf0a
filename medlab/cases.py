"""Cases: a table of cases with their images, masks, labels and splits.

In: a pandas table and a function that opens an image reference. Out: labels as arrays, Volumes one by one, CSV.
It knows no file format: ``medlab.load`` supplies the opener.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medlab.volume import Volume

SPLITS = ("train", "validation", "test")
SPLIT_NAMES = {
    "train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
"""What files and folders call the splits, in lower case."""
NO_FINDING = "none"
"""Label of a multi-label case that shows none of the classes; several findings are joined by ``|``."""

_PUBLISHED = r"(?:phantom:|[a-z0-9_]+#)"
"""How the reference to an image of a phantom or a published set begins; no path of a file does."""

Opener = Callable[..., Volume]


@dataclass(frozen=True, eq=False)
class Cases:
    """A set of cases.

    Attributes:
        table: one row a case. Always there: ``id`` (text, unique), ``patient`` (text), ``image`` (a path or a
            reference that ``medlab.load`` can open), ``label`` (a class name; for multi-label the names joined by
            ``|`` or ``none``; missing where unknown). Often there: ``mask`` (as ``image``), ``split``.
        classes: the class names; the index of a name is its number. In a binary task the second is the positive one.
        name: name of the data set.
        multi_label: whether one case may show several classes.
        open: ``open(reference, kind="image" | "labels") -> Volume``.
        info: what else is known: modality, licence, citation, ...
        twinned: a function from a table to that of the healthy twins, where there are any; see :meth:`twins`.

    Raises:
        ValueError: a column is missing, an id is not unique, a label is not among the classes, a split is unknown.
    """

    table: pd.DataFrame
    classes: list[str]
    name: str = "cases"
    multi_label: bool = False
    open: Opener | None = field(default=None, repr=False)
    info: dict[str, Any] = field(default_factory=dict)
    twinned: Callable[[pd.DataFrame], pd.DataFrame] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        table = self.table.reset_index(drop=True).copy()
        missing = [name for name in ("id", "image") if name not in table]
        if missing:
            raise ValueError(f"Expected the columns id and image. Missing: {missing}; there are {list(table.columns)}.")
        if not len(table):
            raise ValueError(f"Expected at least one case in {self.name!r}. The table is empty.")
        table["id"] = table["id"].astype(str)
        if "patient" not in table:
            table["patient"] = table["id"]
        table["patient"] = table["patient"].fillna(table["id"]).astype(str)
        if "label" not in table:
            table["label"] = None
        repeated = table["id"][table["id"].duplicated()].unique()
        if len(repeated):
            raise ValueError(f"Expected each id once. These come several times: {_some(repeated)}.")
        classes = [str(name) for name in self.classes]
        table["label"] = table["label"].map(lambda value: None if pd.isna(value) else str(value)).astype(object)
        table.loc[table["label"].isna(), "label"] = None
        known = set(classes) | ({NO_FINDING} if self.multi_label else set())
        for row in table[["id", "label"]].itertuples():
            if row.label is None:
                continue
            if not known.issuperset(self._parts(row.label)):
                raise ValueError(
                    f"Expected a label among {sorted(known)}. Case {row.id!r} has {row.label!r}; "
                    "mend the table or name all classes with classes=[...]."
                )
        if "split" in table:
            unknown = set(table["split"].dropna()) - set(SPLITS)
            if unknown:
                raise ValueError(f"Expected the splits {SPLITS}. Received {sorted(map(str, unknown))}.")
        object.__setattr__(self, "table", table)
        object.__setattr__(self, "classes", classes)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def ids(self) -> list[str]:
        """The ids in table order."""
        return self.table["id"].tolist()

    @property
    def has_masks(self) -> bool:
        """Whether any case has a mask."""
        return "mask" in self.table and bool(self.table["mask"].notna().any())

    def preview(self, rows: int | None = None) -> pd.DataFrame:
        """The table as it may be shown and stored: nothing that could name a patient.

        Of files only id, patient, label and split are left: paths and further columns may hold names and dates. Of
        phantoms and published sets, whose references are no paths, all other columns too.
        """
        kept = [name for name in ("id", "patient", "label", "split") if name in self.table]
        if self.table["image"].str.match(_PUBLISHED).all():
            kept += [name for name in self.table if name not in (*kept, "image", "mask")]
        shown = self.table[kept]
        return shown if rows is None else shown.head(rows)

    def row(self, id: str) -> pd.Series:  # noqa: A002 - everyone's name
        """The table's row of one case.

        Raises:
            KeyError: there is no such case; the message names some that exist.
        """
        hits = np.flatnonzero(self.table["id"].to_numpy() == str(id))
        if not len(hits):
            raise KeyError(f"No case {id!r} in {self.name!r}. There are {_some(self.ids)}.")
        return self.table.iloc[hits[0]]

    def volume(self, id: str) -> Volume:  # noqa: A002
        """The image of one case.

        Raises:
            KeyError: there is no such case.
        """
        return self._open(self.row(id)["image"], "image")

    def mask(self, id: str) -> Volume | None:  # noqa: A002
        """The mask of one case, kind ``"labels"``, or None where it has none."""
        reference = self.row(id).get("mask")
        return None if reference is None or pd.isna(reference) else self._open(reference, "labels")

    def twin(self, id: str) -> Volume:  # noqa: A002
        """The image of the same patient with the same noise and without the finding; of a healthy case its own image.

        Raises:
            KeyError: there is no such case.
            ValueError: these cases are no phantoms.
        """
        return self.subset(ids=[id]).twins().volume(id)

    def twins(self) -> Cases:
        """The same cases without their findings: image, mask, label and parameters; id, patient and split stay.

        Raises:
            ValueError: these cases are no phantoms: of a real patient there is no other image.
        """
        if self.twinned is None:
            raise ValueError(f"{self.name!r} has no healthy twins: only the phantoms of medlab.load.dataset have.")
        return replace(self, table=self.twinned(self.table))

    def _open(self, reference: str, kind: str) -> Volume:
        if self.open is None:
            raise ValueError(f"These cases cannot open images. Load {self.name!r} with medlab.load.dataset.")
        return self.open(reference, kind=kind)

    def y(self) -> np.ndarray:
        """The labels as numbers.

        Returns:
            (n,) int64 class indices, or (n, classes) int64 of 0 and 1 for a multi-label set.

        Raises:
            ValueError: a case has no label; the message names it.
        """
        unlabeled = self.table["id"][self.table["label"].isna()]
        if len(unlabeled):
            raise ValueError(f"{len(unlabeled)} case(s) have no label: {_some(unlabeled)}. Label or drop them.")
        if not self.multi_label:
            index = {name: number for number, name in enumerate(self.classes)}
            return self.table["label"].map(index).to_numpy(np.int64)
        found = [set(label.split("|")) for label in self.table["label"]]
        return np.array([[int(name in names) for name in self.classes] for names in found], np.int64)

    def ids_of(self, label: str) -> list[str]:
        """The ids of the cases that show one class, in table order.

        Raises:
            ValueError: it is not one of the classes.
        """
        if label not in self.classes:
            raise ValueError(f"Expected one of the classes {self.classes}. Received {label!r}.")
        shows = self.table["label"].map(lambda text: isinstance(text, str) and label in self._parts(text))
        return self.table["id"][shows].tolist()

    def counts(self) -> pd.DataFrame:
        """Cases of each class (rows) in each split (columns; only ``all`` while there are no splits)."""
        members = {name: self.table["id"].isin(self.ids_of(name)) for name in self.classes}
        unlabeled = self.table["label"].isna()
        if unlabeled.any():
            members["(no label)"] = unlabeled
        columns = {"all": pd.Series(True, self.table.index)}
        if "split" in self.table:
            columns = {split: self.table["split"] == split for split in SPLITS} | columns
        counted = {
            split: [int((rows & member).sum()) for member in members.values()] for split, rows in columns.items()
        }
        return pd.DataFrame(counted, index=pd.Index(members, name="class"))

    def _parts(self, label: str) -> list[str]:
        return label.split("|") if self.multi_label else [label]

    def subset(self, split: str | None = None, *, ids: list[str] | None = None) -> Cases:
        """The cases of one split, or those with the given ids in their order.

        Raises:
            ValueError: the split is unknown, not assigned yet, or empty.
            KeyError: an id does not exist.
        """
        if ids is not None:
            rows = [self.row(one).name for one in ids]
            return replace(self, table=self.table.loc[rows])
        if split is None:
            return self
        if split not in SPLITS:
            raise ValueError(f"Expected a split of {SPLITS}. Received {split!r}.")
        if "split" not in self.table:
            raise ValueError(
                f"{self.name!r} has no splits yet. Assign them: cases = cases.with_table(ml.clean.split(cases.table))."
            )
        part = self.table[self.table["split"] == split]
        if not len(part):
            raise ValueError(f"No case of {self.name!r} is in the split {split!r}.")
        return replace(self, table=part)

    def with_table(self, table: pd.DataFrame) -> Cases:
        """The same set with another table."""
        return replace(self, table=table)

    def to_csv(self, path: str | Path) -> None:
        """Writes the table to a CSV file, with the data set's name and classes as ``# key: value`` lines before it."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"# name: {self.name}", f"# classes: {'|'.join(self.classes)}", f"# multi_label: {self.multi_label}"]
        body = self.table.to_csv(index=False, lineterminator="\n")
        target.write_text("\n".join(lines) + "\n" + body, encoding="utf-8")


def pseudonym(text: str) -> str:
    """A short name (12 hexadecimal digits of SHA-256) that stands for ``text`` in outputs, always the same.

    Whoever guesses ``text`` can check the guess: a number of few digits is found by trying. The environment variable
    ``MEDLAB_SALT``, a secret text that is mixed in, prevents that; runs made with one salt are opened with the same.
    """
    return hashlib.sha256((os.environ.get("MEDLAB_SALT", "") + text).encode()).hexdigest()[:12]


def class_order(names: Iterable[str]) -> list[str]:
    """Each name once, in the order that numbers the classes: whole numbers by size, other names as text."""
    unique = sorted(set(names))
    if all(re.fullmatch(r"[+-]?[0-9]+", name) for name in unique):
        unique.sort(key=int)
    return unique


def read_csv(path: str | Path, *, classes: list[str] | None = None, open: Opener | None = None) -> Cases:  # noqa: A002
    """Cases from a CSV file; ``medlab.load.dataset(path)`` also makes their images readable.

    Args:
        path: a CSV with the columns of :class:`Cases`; ``id`` defaults to the row's number. Where ``Cases.to_csv``
            did not write it, spaces around names and cells are dropped, and splits may be called as in
            ``SPLIT_NAMES``.
        classes: the class names in order; by default those of the file's header lines, else the labels in
            :func:`class_order`.
        open: what opens an image reference.

    Raises:
        ValueError: no such file, no ``image`` column, or as :class:`Cases`.
    """
    source = Path(path)
    if not source.is_file():
        raise ValueError(f"No such file: {source}. Give the path of a CSV with the columns image and label.")
    header: dict[str, str] = {}
    with source.open(encoding="utf-8-sig") as stream:
        for line in stream:
            if not line.startswith("# ") or ": " not in line:
                break
            key, value = line[2:].rstrip("\n").split(": ", 1)
            header[key] = value
    ours = "name" in header
    form = {"skiprows": len(header), "encoding": "utf-8-sig", "skipinitialspace": not ours}
    names = [name.strip() for name in pd.read_csv(source, nrows=0, **form).columns]
    known = [name for name in ("id", "patient", "image", "label", "mask", "split") if name in names]
    table = pd.read_csv(
        source, header=0, names=names, dtype=dict.fromkeys(known, str), keep_default_na=False,
        na_values={name: [""] for name in known if name != "id"}, **form,
    )  # fmt: skip
    if not ours:
        for name in known:
            table[name] = table[name].str.strip()
        if "split" in table:
            table["split"] = table["split"].map(lambda name: SPLIT_NAMES.get(str(name).lower(), name))
    if "image" not in table:
        raise ValueError(f"Expected a column image in {source}. There are {list(table.columns)}.")
    if "id" not in table:
        table.insert(0, "id", [f"{number:05d}" for number in range(len(table))])
    multi_label = header.get("multi_label") == "True"
    if classes is None and "classes" in header:
        classes = header["classes"].split("|")
    if classes is None and "label" in table:
        classes = class_order(table["label"].dropna())
    return Cases(table, classes or [], header.get("name", source.stem), multi_label, open)


def _some(names: Any) -> str:
    """The first few of many names, for a message."""
    names = [str(name) for name in names]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
