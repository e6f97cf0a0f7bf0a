"""MetaImage (.mha, .mhd) through SimpleITK, and the writing of NRRD and MetaImage.

In: a file. Out: a Volume, its place turned from LPS to RAS. NRRD is read in ``nrrd.py``.
"""

from __future__ import annotations

from pathlib import Path

import SimpleITK

from medlab.load.errors import ReadError, check_size
from medlab.volume import Volume, from_sitk

GEOMETRY_KEY = "medlab_geometry"
"""Header entry of a written Volume whose geometry is only assumed: neither format can say so of its affine."""

_BYTES = {"CHAR": 1, "UCHAR": 1, "SHORT": 2, "USHORT": 2, "INT": 4, "UINT": 4, "LONG": 8, "ULONG": 8,
          "LONG_LONG": 8, "ULONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}  # fmt: skip


def read(path: Path, *, kind: str = "image") -> Volume:
    """The Volume in a MetaImage file.

    Raises:
        ReadError: damaged, shorter than its header says, or with its data outside the header's folder.
    """
    header = _header(path)
    data = header.get("elementdatafile", "")
    if data.upper() == "LOCAL":
        stored = path.stat().st_size
    else:
        if data.upper().startswith("LIST") or "%" in data:
            raise ReadError(f"{path} spreads its image over several files. Save it as one .mha file.")
        held = beside(path, data)
        stored = held.stat().st_size
    try:
        sizes = [int(size) for size in header["dimsize"].split()]
        needed = _BYTES.get(header["elementtype"].removeprefix("MET_"), 1)
    except (KeyError, ValueError) as error:
        raise ReadError(f"{path} has a damaged MetaImage header (DimSize or ElementType: {error}).") from error
    for size in (*sizes, int(header.get("elementnumberofchannels", 1))):
        needed *= size
    check_size(path, needed, stored=stored, compressed=header.get("compresseddata", "").lower() == "true")
    try:
        image = SimpleITK.ReadImage(str(path), imageIO="MetaImageIO")
    except RuntimeError as error:
        raise ReadError(f"{path} is damaged ({_reason(error)}). Copy it again.") from error
    placed = {"transformmatrix", "rotation", "orientation"} & set(header)
    known = placed and header.get(GEOMETRY_KEY) != "assumed"
    return from_sitk(image, kind=kind, info={} if known else {"geometry": "assumed"})


def write(volume: Volume, path: Path) -> None:
    """Writes ``volume`` as NRRD or MetaImage, as the ending says; compressed.

    Raises:
        ValueError: SimpleITK cannot write it, such as an array of a type that the format lacks.
    """
    image = volume.to_sitk()
    if not volume.has_geometry:
        image.SetMetaData(GEOMETRY_KEY, "assumed")
    try:
        SimpleITK.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:
        raise ValueError(f"The Volume cannot be written as {path.suffix} ({_reason(error)}). Try .nii.gz.") from error


def beside(path: Path, name: str) -> Path:
    """The data file that a header names, if it lies in the header's folder: a header must not reach elsewhere.

    Raises:
        ReadError: it lies elsewhere, or does not exist.
    """
    held = (path.parent / name).resolve()
    if not held.is_relative_to(path.parent.resolve()):
        raise ReadError(f"{path} names a data file outside its folder ({name}). Put header and data side by side.")
    if not held.is_file():
        raise ReadError(f"{path} is a header without its image: put {name} beside it.")
    return held


def _header(path: Path) -> dict[str, str]:
    """The ``Key = value`` lines, keys in lower case, up to the data."""
    fields: dict[str, str] = {}
    with path.open("rb") as stream:
        for _ in range(200):
            line = stream.readline(4096)
            key, found, value = line.decode("latin-1").partition("=")
            if not found:
                break
            fields[key.strip().lower()] = value.strip()
            if key.strip().lower() == "elementdatafile":
                return fields
    raise ReadError(f"{path} has a damaged MetaImage header: ElementDataFile is missing.")


def _reason(error: RuntimeError) -> str:
    return str(error).strip().splitlines()[-1].strip()
