"""The numbers in a DICOM file: NumPy reads plain pixels, GDCM (inside SimpleITK) compressed ones, pydicom the rest.

In: an opened file. Out: its stored numbers as an array, and their scaling. It knows nothing of places.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_color_lut, pixel_array
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from medlab.load import codestream
from medlab.load.dicom_header import File, Frame
from medlab.load.errors import ReadError, check_size

# Measured on two busy cores, medians. 17 plain slices of 128 x 88 from an open header: NumPy 0.7 ms, pydicom (which
# reads the file anew) 9 ms. Four compressed slices of 256 x 256, GDCM and pydicom with pylibjpeg: JPEG lossless 10 to
# 14 and 15 to 21 ms, JPEG-LS 15 to 17 and 30 to 32, JPEG 2000 alike (38 to 41), RLE 29 to 38 and 5 to 6, so RLE goes to
# pydicom. Without pylibjpeg, which medlab does not need, pydicom decodes neither JPEG lossless nor JPEG-LS; GDCM does.
_PLAIN = (ImplicitVRLittleEndian, ExplicitVRLittleEndian)
_BY_PYDICOM = (RLELossless, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
_LAYOUT = (
    "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
)  # fmt: skip


def stored(file: File) -> np.ndarray:
    """The stored numbers of all frames: (frame, row, column[, 3]); black is always the lowest, colors are RGB.

    Raises:
        ReadError: cut off, too large, or in a compression that neither GDCM nor pydicom undoes.
    """
    shape = (file.frames, file.rows, file.columns)
    count = file.frames * file.rows * file.columns * file.samples
    size = file.path.stat().st_size
    if file.syntax in _PLAIN:
        check_size(file.path, count * file.allocated // 8, stored=size - file.offset)
    else:  # a black frame packs well: no limit below 256 MiB
        check_size(file.path, count * file.allocated // 8, stored=max(size, 1 << 18), compressed=True)
    gray = file.photometric.startswith("MONOCHROME") and file.samples == 1
    if file.syntax in _PLAIN and gray:
        array = _from_bytes(file, count)
    elif file.syntax in (*_PLAIN, *_BY_PYDICOM):
        array = _by_pydicom(file)
    else:
        _check_fragments(file, size)
        try:
            array = _by_gdcm(file)
        except RuntimeError:
            array = _by_pydicom(file)
    array = array.reshape(shape if gray else (*shape, 3))
    return _black_lowest(array, file) if gray else array


def output_type(frames: Sequence[Frame]) -> np.dtype:
    """The smallest type that holds every scaled number exactly: uint8, int16, uint16 or int32; else float32.

    It follows from the header alone, so that all slices agree.
    """
    lowest = highest = 0.0
    for bits, signed, slope, intercept in {(f.file.bits, f.file.signed, f.slope, f.intercept) for f in frames}:
        if slope != int(slope) or intercept != int(intercept):
            return np.dtype(np.float32)
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        ends = (low * slope + intercept, high * slope + intercept)
        lowest, highest = min(lowest, *ends), max(highest, *ends)
    for name in ("uint8", "int16", "uint16", "int32"):
        if np.iinfo(name).min <= lowest and highest <= np.iinfo(name).max:
            return np.dtype(name)
    return np.dtype(np.float32)


def scaled(array: np.ndarray, frame: Frame, dtype: np.dtype) -> np.ndarray:
    """``array`` x slope + intercept (PS3.3, C.7.6.16.2.9), in ``dtype``; exact where that is a type of integers."""
    if frame.slope == 1 and frame.intercept == 0:
        return array.astype(dtype)
    if dtype == np.int16 and frame.slope == 1 and array.dtype.itemsize <= 2:
        # Wraps around and back again: the sum fits, as output_type made sure.
        return array.astype(np.int16) + np.int16(frame.intercept)
    return (array * np.float64(frame.slope) + frame.intercept).astype(dtype)


def narrow(array: np.ndarray) -> np.ndarray:
    """int32 as int16 where the values allow it: many CT headers announce 16 bits and use 12."""
    if array.dtype == np.int32 and array.min() >= -32768 and array.max() <= 32767:
        return array.astype(np.int16, order="K")
    return array


def _from_bytes(file: File, count: int) -> np.ndarray:
    """Uncompressed gray pixels, straight from their place in the file."""
    with file.path.open("rb") as stream:
        stream.seek(file.offset)
        element = stream.read(12)
        if element[:4] != b"\xe0\x7f\x10\x00":
            raise ReadError(f"{file.path} holds no pixel data, or is cut off before them. Copy it again.")
        stream.seek(file.offset + (12 if element[4:6] in (b"OW", b"OB") else 8))
        array = np.fromfile(stream, f"<{'i' if file.signed else 'u'}{file.allocated // 8}", count)
    if array.size < count:
        raise ReadError(f"{file.path} is truncated: {count} pixels announced, {array.size} found. Copy it again.")
    return array


def _check_fragments(file: File, size: int) -> None:
    """Raises unless the compressed frames lie within the file and the first has the size that the header tells.

    A decoder reserves memory by these numbers: damage in one byte could ask for gigabytes.
    """
    first = b""
    with file.path.open("rb") as stream:
        place, number = file.offset + 12, 0
        while True:  # the table of offsets, then fragments, then a delimiter (PS3.5, A.4)
            stream.seek(place)
            item = stream.read(8)
            length = int.from_bytes(item[4:], "little")
            if item[:4] == b"\xfe\xff\xdd\xe0" or (not item and number > 1):  # some writers forget the delimiter
                break
            if item[:4] != b"\xfe\xff\x00\xe0" or place + 8 + length > size:
                raise ReadError(f"{file.path} is truncated or damaged within its compressed pixels. Copy it again.")
            if number == 1:
                first = stream.read(min(length, 1 << 16))
            place, number = place + 8 + length, number + 1
    found = codestream.announced(first)
    if found is not None and found != (file.rows, file.columns, file.samples):
        raise ReadError(
            f"{file.path} announces {file.rows} x {file.columns} pixels of {file.samples} sample(s), its compressed "
            f"image {found[0]} x {found[1]} of {found[2]}. It is damaged; copy it again."
        )


def _by_pydicom(file: File) -> np.ndarray:
    try:
        with pydicom.config.disable_value_validation():
            whole = pydicom.dcmread(file.path, force=True)
            if "TransferSyntaxUID" not in whole.file_meta:
                whole.file_meta.TransferSyntaxUID = file.syntax
            array = pixel_array(whole)
            if file.photometric == "PALETTE COLOR":
                array = apply_color_lut(array, whole)
    except Exception as error:  # of many kinds; their text may hold bytes of the header
        name = getattr(file.syntax, "name", file.syntax)
        raise ReadError(
            f"{file.path} ({name}) is damaged or in a compression that cannot be undone ({type(error).__name__})."
        ) from None
    return array


def _by_gdcm(file: File) -> np.ndarray:
    """Compressed pixels, decoded by GDCM; where it would scale them by rules of its own, from a copy without scaling.

    Raises:
        RuntimeError: GDCM cannot decode them.
    """
    scaling = any(
        name in file.header for name in ("RescaleSlope", "RescaleIntercept", "PerFrameFunctionalGroupsSequence")
    )
    if not scaling and file.photometric != "MONOCHROME1":
        return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(file.path), imageIO="GDCMImageIO"))
    with pydicom.config.disable_value_validation():
        whole = pydicom.dcmread(file.path, specific_tags=[*_LAYOUT, "PixelData"])
        bare = Dataset()
        for name in _LAYOUT:
            if name in whole:
                bare[name] = whole[name]
        if str(bare.get("PhotometricInterpretation", "")).startswith("MONOCHROME"):
            bare.PhotometricInterpretation = "MONOCHROME2"
        if "PixelData" not in whole:
            raise ReadError(f"{file.path} holds no pixel data, or is cut off before them. Copy it again.")
        bare["PixelData"] = whole["PixelData"]
        bare.SOPClassUID, bare.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
        bare.file_meta = FileMetaDataset()
        bare.file_meta.TransferSyntaxUID = file.syntax
        bare.file_meta.MediaStorageSOPClassUID = bare.SOPClassUID
        bare.file_meta.MediaStorageSOPInstanceUID = bare.SOPInstanceUID
        with tempfile.TemporaryDirectory(prefix="medlab-") as folder:
            copy = Path(folder, "pixels.dcm")
            bare.save_as(copy, enforce_file_format=True)
            return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(copy), imageIO="GDCMImageIO"))


def _black_lowest(array: np.ndarray, file: File) -> np.ndarray:
    """``array`` with unused high bits cleared and MONOCHROME1, where 0 is white, turned around."""
    number = array.dtype.type
    if file.bits < 8 * array.dtype.itemsize:
        array = array & number((1 << file.bits) - 1)
        if file.signed:
            sign = number(1 << (file.bits - 1))
            array = (array ^ sign) - sign
    if file.photometric == "MONOCHROME1":
        array = ~array if file.signed else number((1 << file.bits) - 1) - array
    return array
