"""DICOM files and series as Volumes: files grouped into series, their planes into one array.

In: a file or folder. Out: a Volume in RAS+ mm, CT in HU, with acquisition facts that identify nobody. Headers come from
``dicom_header.py``, pixels from ``dicom_pixels.py``, order and checks of slices from ``stack.py``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np

from medlab import geometry
from medlab.load import dicom_pixels, stack
from medlab.load.dicom_header import File, Frame, facts, open_file, planes
from medlab.load.errors import ReadError, check_size
from medlab.volume import Volume

# PS3.3, C.7.6.1.1.1: L, P, H (F) grow with LPS; here in RAS.
_SIDES = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "H": (0, 0, 1), "F": (0, 0, -1)}


def read_file(path: Path, *, kind: str = "image") -> Volume:
    """The image in one DICOM file: a picture (row, column[, c]), or a volume where the file holds many slices.

    A slice or radiograph keeps its real place in the patient where the header tells it.

    Raises:
        ReadError: not DICOM, no image in it, damaged, or a film over time.
    """
    with _damage_reported(path):
        return _read_file(path, kind)


def _read_file(path: Path, kind: str) -> Volume:
    file = open_file(path)
    if file is None:
        raise ReadError(f"{path} is not a DICOM file, or damaged. Copy it again, or give it the ending of its format.")
    frames = planes(file)
    if len(frames) > 1:
        return _volume(path, frames, kind=kind, gaps="raise", tilt="raise", fewest=2, repairs=[])
    return _picture(frames[0], kind)


def read_folder(
    folder: Path, *, series: int | str | None, gaps: str, tilt: str = "raise", fewest: int = 3, kind: str = "image"
) -> Volume:
    """The Volume that the files of one series make; one image alone is a picture.

    Raises:
        ReadError: no DICOM file, several series and none chosen, or slices that do not make one volume.
    """
    with _damage_reported(folder):
        return _read_folder(folder, series, gaps, tilt, fewest, kind)


@contextmanager
def _damage_reported(path: Path) -> Iterator[None]:
    """Turns whatever pydicom raises on damaged files into a ReadError.

    Only the kind of error is told: its text may hold bytes of the header, and with them a patient's name.
    """
    try:
        yield
    except (ReadError, MemoryError):
        raise
    except Exception as error:
        raise ReadError(f"{path} is damaged or not valid DICOM ({type(error).__name__}). Copy it again.") from None


def _read_folder(folder: Path, series: int | str | None, gaps: str, tilt: str, fewest: int, kind: str) -> Volume:
    found = _series(folder)
    files = found[_choose(folder, found, series)]
    unique = {str(file.header.get("SOPInstanceUID", file.path)): file for file in files}
    repairs = [f"{len(files) - len(unique)} repeated file(s) left out."] if len(unique) < len(files) else []
    frames = [frame for file in unique.values() for frame in planes(file)]
    if len(frames) == 1:
        return _picture(frames[0], kind)
    return _volume(folder, frames, kind=kind, gaps=gaps, tilt=tilt, fewest=fewest, repairs=repairs)


def _series(folder: Path) -> dict[str, list[File]]:
    """The image files below a folder by SeriesInstanceUID, in order of series number.

    Raises:
        ReadError: there is no file, no DICOM file, or one named .dcm is none.
    """
    series: dict[str, list[File]] = {}
    others: dict[str, int] = {}
    for path in _walk(folder):
        file = open_file(path)
        if file is None:
            if path.suffix.lower() in (".dcm", ".ima"):
                raise ReadError(f"{path} is named like a DICOM file but is none, or is damaged. Remove or mend it.")
            others[path.suffix.lower() or "no ending"] = others.get(path.suffix.lower() or "no ending", 0) + 1
        elif file.rows and file.columns:
            series.setdefault(str(file.header.get("SeriesInstanceUID", "")), []).append(file)
    if not series:
        if not others:
            raise ReadError(f"{folder} is empty: no file in it or below.")
        kinds = ", ".join(f"{count} of {ending}" for ending, count in sorted(others.items())[:5])
        raise ReadError(
            f"{folder} holds no DICOM images (files: {kinds}). Read a single file by its path, or open a folder of "
            "many cases with load.dataset."
        )

    def place(uid: str) -> tuple[int, str]:
        return int(series[uid][0].header.get("SeriesNumber") or 0), uid

    return {uid: series[uid] for uid in sorted(series, key=place)}


def _walk(folder: Path) -> Iterator[Path]:
    """Every visible file below ``folder`` in order of names, without the index file of a DICOM disk."""
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and name.upper() != "DICOMDIR":
                yield Path(here, name)


def _choose(folder: Path, found: dict[str, list[File]], series: int | str | None) -> str:
    """The UID of the wanted series."""
    uids = list(found)
    if series is None and len(uids) == 1:
        return uids[0]
    if isinstance(series, str) and series in found:
        return series
    if isinstance(series, int | np.integer) and not isinstance(series, bool) and 1 <= series <= len(uids):
        return uids[series - 1]
    lines = []
    for number, uid in enumerate(uids, 1):
        header = found[uid][0].header
        description = header.get("SeriesDescription")
        lines.append(
            f"  series={number}: {header.get('Modality', '?')}, number {header.get('SeriesNumber') or '?'}, "
            f"{len(found[uid])} images of {found[uid][0].rows} x {found[uid][0].columns}"
            + (f", {description}" if description else "")
        )
    asked = "Choose one" if series is None else f"There is no series {series!r}. Choose one"
    raise ReadError(f"{folder} holds {len(uids)} series. {asked} of these:\n" + "\n".join(lines))


def _picture(frame: Frame, kind: str) -> Volume:
    """One plane as a picture (row, column[, c]) with its place, if the header tells it."""
    header = frame.file.header
    array = dicom_pixels.scaled(dicom_pixels.stored(frame.file)[0], frame, dicom_pixels.output_type([frame]))
    array = dicom_pixels.narrow(array)
    info = facts(header, frame)
    spacing = np.ones(2) if frame.spacing is None else frame.spacing
    affine = geometry.scaling((*spacing, 1))
    thickness = float(header.get("SliceThickness") or 0) or float(spacing.mean())
    if frame.position is not None and frame.orientation is not None and frame.spacing is not None:
        try:
            step = stack.normal(frame.orientation) * thickness
        except ReadError as error:
            raise ReadError(f"{frame.file.path} {error}") from None
        affine = stack.plane(frame.position, frame.orientation, spacing, step)[:, [1, 0, 2, 3]]
    else:
        sides = [str(side)[:1].upper() for side in header.get("PatientOrientation") or []]
        vectors = [np.array(_SIDES[side], float) for side in sides if side in _SIDES]
        if len(vectors) == 2 and vectors[0] @ vectors[1] == 0:
            # The first letter is where a row runs, the second where a column runs (C.7.6.1.1.1).
            affine[:3, 0], affine[:3, 1] = vectors[1] * spacing[0], vectors[0] * spacing[1]
            affine[:3, 2] = np.cross(vectors[1], vectors[0])
            info["origin"] = "assumed"
        else:
            info["geometry"] = "assumed"
    return Volume(array, affine, kind, header.get("Modality") or None, info, rank=2)


def _volume(
    path: Path, frames: list[Frame], *, kind: str, gaps: str, tilt: str, fewest: int, repairs: list[str]
) -> Volume:
    """Planes as one volume (column, row, slice[, c])."""
    if len(frames) < fewest:
        raise ReadError(
            f"{path} holds only {len(frames)} slices; even spacing can be checked from 3 on. "
            f"Read one of the files, or accept them with fewest={len(frames)}."
        )
    shapes = {(frame.file.rows, frame.file.columns, frame.file.samples) for frame in frames}
    if len(shapes) > 1:
        sizes = ", ".join(f"{rows} x {columns}" for rows, columns, _ in sorted(shapes))
        raise ReadError(
            f"{path}: the series mixes slices of different size ({sizes}). "
            "Put the files of one size into a folder of their own."
        )
    lost = sum(frame.position is None or frame.orientation is None or frame.spacing is None for frame in frames)
    if lost:
        raise ReadError(
            f"{path}: {lost} of {len(frames)} images have no Image Position, Orientation or Pixel Spacing, so they are "
            "single pictures and not a volume. Read them one by one, or as cases with load.dataset."
        )
    try:
        layout = stack.arrange(
            np.array([f.position for f in frames]), np.array([f.orientation for f in frames]),
            np.array([f.spacing for f in frames]), gaps=gaps, tilt=tilt,
        )  # fmt: skip
    except ReadError as error:
        raise ReadError(f"{path}: the series {error}") from None
    ordered = [frames[index] for index in layout.order]
    dtype = dicom_pixels.output_type(ordered)
    rows, columns, samples = shapes.pop()
    shape = (len(layout.sources), rows, columns) + ((3,) if samples > 1 else ())
    check_size(path, int(np.prod(shape, dtype=object)) * dtype.itemsize)
    decoded = lru_cache(maxsize=2)(dicom_pixels.stored)

    def plane(index: int) -> np.ndarray:
        frame = ordered[index]
        return dicom_pixels.scaled(decoded(frame.file)[frame.number], frame, dtype)

    array = np.empty(shape, dtype)
    for target, (index, towards) in enumerate(layout.sources):
        if towards:
            mixed = (1 - towards) * plane(index).astype(np.float64) + towards * plane(index + 1)
            array[target] = mixed if dtype.kind == "f" else np.rint(mixed)
        else:
            array[target] = plane(index)
    info = facts(ordered[0].file.header, ordered[0])
    if repairs or layout.repairs:
        info["repairs"] = [*repairs, *layout.repairs]
    array = dicom_pixels.narrow(array).transpose((2, 1, 0, 3) if array.ndim == 4 else (2, 1, 0))
    return Volume(array, layout.affine, kind, ordered[0].file.header.get("Modality") or None, info, rank=3)
