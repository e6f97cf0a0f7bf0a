"""NRRD (.nrrd, .nhdr): raw, gzip, bzip2, ascii and hex, attached and detached data, channels on any axis.

In: a file. Out: a Volume in RAS. SimpleITK reads neither bzip2 nor a fourth axis beside a three-dimensional space;
the format is short enough to be read here (http://teem.sourceforge.net/nrrd/format.html, the sections named below).
"""

from __future__ import annotations

import bz2
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from medlab import geometry
from medlab.load.errors import ReadError, check_size
from medlab.load.itk import GEOMETRY_KEY, beside
from medlab.volume import Volume

# Section 5, basic field "type": every spelling, as a NumPy type.
_TYPES = {
    "i1": "signed char, int8, int8_t", "u1": "uchar, unsigned char, uint8, uint8_t",
    "i2": "short, short int, signed short, signed short int, int16, int16_t",
    "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    "i4": "int, signed int, int32, int32_t", "u4": "uint, unsigned int, uint32, uint32_t",
    "i8": "longlong, long long, long long int, signed long long, signed long long int, int64, int64_t",
    "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
    "f4": "float", "f8": "double",
}  # fmt: skip
_DTYPE = {name: code for code, names in _TYPES.items() for name in names.split(", ")}
# Section 6, "space": how its axes lie in RAS.
_SPACES = {
    "right-anterior-superior": (1, 1, 1), "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1), "las": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1), "lps": (-1, -1, 1),
}  # fmt: skip


def read(path: Path, *, kind: str = "image") -> Volume:
    """The Volume in an NRRD file, in the stored type (float64 as float32).

    Raises:
        ReadError: damaged, shorter than its header says, of an encoding, type or number of axes that is not known.
    """
    fields, offset = _header(path)
    try:
        array = _array(path, fields, offset)
        return _volume(array, fields, kind)
    except ReadError:
        raise
    except (KeyError, ValueError, IndexError) as error:
        raise ReadError(f"{path} has a damaged NRRD header ({type(error).__name__}: {error}).") from error


def _header(path: Path) -> tuple[dict[str, str], int | None]:
    """The fields, names in lower case, and where attached data start; None where the data are in another file."""
    fields: dict[str, str] = {}
    with path.open("rb") as stream:
        stream.readline(64)
        for _ in range(2000):
            line = stream.readline(65536)
            text = line.decode("utf-8", "replace").strip()
            if not text:
                break
            name, found, value = text.partition(":")
            if text.startswith("#") or not found:
                continue
            if value.startswith("="):  # a key and its value; of these only our own mark matters
                if name == GEOMETRY_KEY:
                    fields[name] = value[1:]
                continue
            fields[name.strip().lower().replace(" ", "")] = value.strip()
            if fields.get("datafile", "").upper().startswith("LIST"):
                break
        offset = stream.tell()
    return fields, None if "datafile" in fields else offset


def _array(path: Path, fields: dict[str, str], offset: int | None) -> np.ndarray:
    """The stored numbers, first axis fastest."""
    sizes = [int(size) for size in fields["sizes"].split()]
    name = fields["type"].lower()
    if name not in _DTYPE:
        raise ReadError(f"{path} has the NRRD type {name!r}. Expected one of {', '.join(sorted(_DTYPE))}.")
    dtype = np.dtype(_DTYPE[name]).newbyteorder(">" if fields.get("endian", "").lower() == "big" else "<")
    held = path
    if offset is None:
        data = fields["datafile"]
        if data.upper().startswith("LIST") or "%" in data:
            raise ReadError(f"{path} spreads its image over several files. Save it as one .nrrd file.")
        held, offset = beside(path, data), 0
    if min(sizes) < 1 or int(fields["dimension"]) != len(sizes):
        raise ReadError(f"{path} announces an image of sizes {sizes} and dimension {fields['dimension']}.")
    count = int(np.prod(sizes, dtype=object))
    encoding = {"gz": "gzip", "bz2": "bzip2", "txt": "ascii", "text": "ascii"}.get(
        fields["encoding"].lower(), fields["encoding"].lower()
    )
    stored = held.stat().st_size - offset
    needed = count * dtype.itemsize
    limit = {"raw": needed, "gzip": needed, "ascii": 2 * count - 1, "hex": 2 * needed}.get(encoding)
    check_size(held, limit or needed, stored=stored if limit else None, compressed=encoding == "gzip")
    lines, skip = int(fields.get("lineskip", 0)), int(fields.get("byteskip", 0))
    if skip < -1 or lines < 0 or (skip == -1 and encoding not in ("raw", "gzip", "bzip2")):
        raise ReadError(f"{path} has the byte skip {skip} and line skip {lines}. NRRD allows -1 (raw data) and more.")
    with held.open("rb") as stream:
        stream.seek(offset)
        for _ in range(lines):
            stream.readline()
        if encoding == "raw":
            stream.seek(-needed if skip == -1 else skip, 2 if skip == -1 else 1)
            flat = np.fromfile(stream, dtype, count)
        elif encoding in ("gzip", "bzip2"):
            inner = zlib.decompressobj(31) if encoding == "gzip" else bz2.BZ2Decompressor()
            flat = np.frombuffer(_unpack(held, inner, stream.read(), needed, skip), dtype)
        elif encoding == "ascii":
            flat = np.array(stream.read()[skip:].replace(b",", b" ").split(), dtype="f8" if dtype.kind == "f" else "i8")
            flat = flat[:count].astype(dtype)
        elif encoding == "hex":
            flat = np.frombuffer(bytes.fromhex(stream.read()[skip:].decode("ascii"))[:needed], dtype)
        else:
            raise ReadError(f"{path} has the NRRD encoding {encoding!r}. Expected raw, gzip, bzip2, ascii or hex.")
    if flat.size != count:
        raise ReadError(f"{held} is truncated: {count} numbers announced, {flat.size} found. Copy it again.")
    target = np.float32 if dtype.kind == "f" else dtype.newbyteorder("=")
    return flat.astype(target, copy=not flat.flags.writeable).reshape(sizes, order="F")


def _unpack(path: Path, inner: Any, packed: bytes, needed: int, skip: int) -> bytearray:
    """``needed`` bytes after ``skip`` (-1: the last ones), never many more in memory, and the checksum at the end."""
    out, dropped = bytearray(), 0
    try:
        rest = packed
        while True:
            out += inner.decompress(rest, 1 << 24)
            if skip < 0:
                del out[:-needed]
            elif dropped < skip:
                cut = min(skip - dropped, len(out))
                del out[:cut]
                dropped += cut
            else:
                del out[needed:]
            if inner.eof:
                return out
            rest = getattr(inner, "unconsumed_tail", b"")
            if not rest and getattr(inner, "needs_input", True):
                raise EOFError("it ends before its checksum")
    except (zlib.error, OSError, EOFError) as error:
        raise ReadError(f"{path} is truncated or damaged ({error}). Copy it again.") from error


def _volume(array: np.ndarray, fields: dict[str, str], kind: str) -> Volume:
    """``array`` with its channel axis last and its affine from the space fields."""
    info: dict[str, str] = {}
    vectors = _vectors(fields["spacedirections"]) if "spacedirections" in fields else None
    kinds = fields.get("kinds", "").lower().split()
    if vectors is not None:
        spatial = [axis for axis, vector in enumerate(vectors) if vector is not None]
    elif len(kinds) == array.ndim and "domain" in kinds:
        spatial = [axis for axis, name in enumerate(kinds) if name in ("domain", "space")]
    else:
        spatial = list(range(min(array.ndim, 3)))
    others = [axis for axis in range(array.ndim) if axis not in spatial]
    if len(spatial) == 4 and not others:
        spatial, others = spatial[:3], spatial[3:]
    if len(spatial) not in (2, 3) or len(others) > 1:
        raise ReadError(f"Expected 2 or 3 spatial axes and at most one more. Received NRRD sizes {fields['sizes']}.")
    array = array.transpose(spatial + others)
    rank = len(spatial)
    affine = np.eye(4)
    space = fields.get("space", "").lower()
    if vectors is not None and rank == 3 and len(vectors[spatial[0]]) == 3:
        affine[:3, :3] = np.transpose([vectors[axis] for axis in spatial])
        if "spaceorigin" in fields:
            affine[:3, 3] = _vectors(fields["spaceorigin"])[0]
        if space in _SPACES:
            affine = np.diag([*_SPACES[space], 1.0]) @ affine
        else:
            info["geometry"] = "assumed"
    else:
        info["geometry"] = "assumed"
        steps = [float(step) for step in fields.get("spacings", "").split()]
        if vectors is not None:
            steps = [np.linalg.norm(vector) if vector else 1.0 for vector in vectors]
        for number, axis in enumerate(spatial):
            if axis < len(steps) and np.isfinite(steps[axis]) and steps[axis] > 0:
                affine[number, number] = steps[axis]
    if fields.get(GEOMETRY_KEY) == "assumed":
        info["geometry"] = "assumed"
    if rank == 2:  # stored (column, row)
        array = array.swapaxes(0, 1)
        affine = geometry.scaling((affine[1, 1], affine[0, 0], 1))
    if kind == "labels" and array.dtype.kind == "f":
        whole = np.rint(array)
        if not np.array_equal(whole, array):
            raise ReadError("Expected whole numbers in a label map. Received fractions or NaN; is it an image?")
        array = whole.astype(np.int32)
    return Volume(array, affine, kind, info=info, rank=rank)


def _vectors(text: str) -> list[tuple[float, ...] | None]:
    """``(1,0,0) none (0,0,2)`` as a list of tuples and None."""
    parts = re.findall(r"\(([^)]*)\)|(none)", text, flags=re.IGNORECASE)
    return [None if missing else tuple(float(number) for number in inside.split(",")) for inside, missing in parts]
