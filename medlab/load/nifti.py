"""NIfTI-1 and NIfTI-2, single files and header-image pairs, through nibabel.

In: a file. Out: a Volume with the header's scaling applied, its affine in mm; and back.
"""

from __future__ import annotations

import gzip
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import nibabel
import numpy as np

from medlab import geometry
from medlab.load.errors import ReadError, check_size
from medlab.volume import Volume, from_nibabel

# nibabel hands the affine over in the header's unit.
_MILLIMETERS = {1: 1000.0, 3: 0.001}  # the codes of meter and micrometer


def read(path: Path, *, kind: str = "image") -> Volume:
    """The Volume in a NIfTI file; float32 where the header scales, else the stored type.

    Raises:
        ReadError: damaged, too short for its header, of complex numbers, or with more than four axes that matter.
    """
    with ExitStack() as stack:
        with path.open("rb") as start:
            compressed = start.read(2) == b"\x1f\x8b"
        stream = stack.enter_context((gzip.open if compressed else open)(path, "rb"))
        try:
            image = _open(path, stream)
        except (nibabel.spatialimages.HeaderDataError, nibabel.filebasedimages.ImageFileError, EOFError, OSError) as e:
            raise ReadError(f"{path} has a damaged NIfTI header ({e}). Copy it again.") from e
        stored_type = image.header.get_data_dtype()
        if min(image.shape, default=0) < 1:
            raise ReadError(f"{path} announces an empty image of shape {image.shape}.")
        if stored_type.kind == "c":
            raise ReadError(f"{path} holds complex numbers. Save its magnitude or its phase as an image of its own.")
        held = Path(image.file_map["image"].filename or path)
        if not held.exists():
            raise ReadError(f"{path} is a header without its image: put {held.name} beside it.")
        needed = int(np.prod(image.shape, dtype=object)) * stored_type.itemsize
        check_size(path, needed, stored=held.stat().st_size, compressed=compressed or held.suffix == ".gz")
        try:
            plain = _plain(image)
            # To the end of the file, where gzip keeps its checksum; what follows the image is not kept.
            while held == path and compressed and stream.read(1 << 20):
                pass
        except (EOFError, OSError, zlib.error) as error:
            raise ReadError(f"{path} is truncated or damaged ({error}). Copy it again.") from error
        return from_nibabel(plain, kind=kind)


def write(volume: Volume, path: Path) -> None:
    """Writes ``volume`` as NIfTI-1; compressed where the name ends in .gz."""
    image = volume.to_nibabel()
    if not volume.has_geometry:
        # Given an affine, nibabel would write it down as known.
        image = nibabel.Nifti1Image(image.dataobj, None, image.header)
    nibabel.save(image, path)


def _open(path: Path, stream: IO[bytes]) -> nibabel.Nifti1Image:
    """The image with its header read and its data still in the file."""
    head = stream.read(348)
    stream.seek(0)
    if head[344:348] == b"ni1\0" or head[4:8] == b"ni2\0":  # the image is in a file of its own
        return nibabel.load(path, mmap=False)
    # The header's first number is its size, which tells the version.
    version = nibabel.Nifti2Image if int.from_bytes(head[:4], "little") in (540, 0x1C020000) else nibabel.Nifti1Image
    holder = nibabel.FileHolder(fileobj=stream)
    # No memory map: an array that outlives its file is worth one copy.
    return version.from_file_map({"header": holder, "image": holder}, mmap=False)


def _plain(image: nibabel.Nifti1Image) -> nibabel.Nifti1Image:
    """The same image with the axes, colors, unit and type that a Volume has; its data are read here, once."""
    header, raw = image.header, image.dataobj
    array = np.asarray(raw.get_unscaled())
    if array.dtype.fields:  # RGB24 and RGBA32: (i, j, k) of (R, G, B[, A]); transparency is dropped
        array = np.stack([array[name] for name in array.dtype.names[:3]], axis=-1)
    elif (raw.slope, raw.inter) != (1, 0):
        # Slice by slice in float64, so that the whole is held in float32 alone.
        scaled = np.empty(array.shape, np.float32, order="F")
        for last in range(array.shape[-1]):
            scaled[..., last] = array[..., last] * np.float64(raw.slope) + np.float64(raw.inter)
        array = scaled
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    while array.ndim < 3:
        array = array[..., None]
    affine = np.array(image.affine, np.float64)
    if header["sform_code"] == 0 and header["qform_code"] == 0:
        # The standard's "method 1": spacing alone; where the patient's sides are is not told.
        zooms = [zoom if np.isfinite(zoom) and zoom > 0 else 1.0 for zoom in (*header.get_zooms()[:3], 1, 1)]
        affine = geometry.scaling(zooms[:3])
    factor = _MILLIMETERS.get(int(header["xyzt_units"]) & 7)
    if factor:
        affine = geometry.scaling((factor, factor, factor)) @ affine
    plain = nibabel.Nifti1Image(array, affine, dtype=array.dtype)
    for code in ("sform_code", "qform_code"):
        plain.header[code] = header[code]
    return plain
