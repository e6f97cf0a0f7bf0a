"""DICOM headers: one file opened without its pixels, its image planes, and the facts that identify nobody.

In: a path. Out: a File, its Frames with place (LPS, mm) and scaling, and a dict of acquisition facts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian

from medlab.load.errors import ReadError

FACTS = (
    "BodyPartExamined", "ViewPosition", "PatientPosition", "Manufacturer", "ManufacturerModelName",
    "SeriesDescription", "ImageType", "KVP", "XRayTubeCurrent", "Exposure", "ConvolutionKernel", "GantryDetectorTilt",
    "SliceThickness", "SpacingBetweenSlices", "ReconstructionDiameter", "MagneticFieldStrength", "MRAcquisitionType",
    "ScanningSequence", "SequenceVariant", "RepetitionTime", "EchoTime", "InversionTime", "EchoTrainLength",
    "FlipAngle", "DiffusionBValue", "ContrastBolusAgent", "WindowCenter", "WindowWidth", "Units",
    "BurnedInAnnotation", "LossyImageCompression",
)  # fmt: skip
"""The only header fields that reach ``Volume.info``: how the image was taken, never of whom, when, where or by whom."""

_NEEDED = (
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "Modality", "Rows", "Columns",
    "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "RescaleSlope", "RescaleIntercept", "PixelPaddingValue",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "ImagerPixelSpacing", "PatientOrientation",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip


# As numbers: pydicom would look each name up again for each file.
_TAGS = tuple(Tag(name) for name in (*_NEEDED, *FACTS))


@dataclass(frozen=True, eq=False)
class File:
    """A DICOM file: its header without pixels, and what is asked of it for every slice, asked once.

    Attributes:
        path: the file.
        header: the data set up to the pixels, with the fields needed here alone.
        offset: the byte where the pixel element starts.
        syntax: UID of the transfer syntax; the default one where a file without preamble names none.
        rows, columns, frames, samples: size of the image; rows or columns 0 where there is none.
        allocated, bits, signed: bits a number takes, bits it uses, and whether it may be negative.
        photometric: "MONOCHROME2", "RGB", ...
    """

    path: Path
    header: Dataset
    offset: int
    syntax: str
    rows: int
    columns: int
    frames: int
    samples: int
    allocated: int
    bits: int
    signed: bool
    photometric: str


@dataclass(frozen=True)
class Frame:
    """One image plane: where its pixels are, where it lies (LPS, mm), and how its numbers are scaled."""

    file: File
    number: int
    position: np.ndarray | None
    orientation: np.ndarray | None
    spacing: np.ndarray | None
    slope: float
    intercept: float


def open_file(path: Path) -> File | None:
    """A file's header and where its pixels start; None if it is no DICOM file.

    Raises:
        ReadError: DICOM, but without an image or cut off within its header.
    """
    try:
        with path.open("rb") as stream, pydicom.config.disable_value_validation():
            head = stream.read(132)
            stream.seek(0)
            if head[128:] != b"DICM" and head[:2] not in (b"\x02\x00", b"\x08\x00"):
                return None
            header = pydicom.dcmread(stream, force=True, stop_before_pixels=True, specific_tags=list(_TAGS))
            if "SOPClassUID" not in header:
                return None
            return _file(path, header, stream.tell())
    except Exception as error:  # pydicom raises many kinds; their text may hold bytes of the header
        raise ReadError(f"{path} has a damaged DICOM header ({type(error).__name__}). Copy it again.") from None


def _file(path: Path, header: Dataset, offset: int) -> File:
    def number(name: str, default: int = 0) -> int:
        return int(header.get(name) or default)

    syntax = getattr(getattr(header, "file_meta", None), "TransferSyntaxUID", None) or ImplicitVRLittleEndian
    allocated = number("BitsAllocated")
    return File(
        path, header, offset, syntax, number("Rows"), number("Columns"), number("NumberOfFrames", 1),
        number("SamplesPerPixel", 1), allocated, number("BitsStored", allocated), bool(number("PixelRepresentation")),
        str(header.get("PhotometricInterpretation", "MONOCHROME2")),
    )  # fmt: skip


def _require_image(file: File) -> None:
    if not (file.rows > 0 and file.columns > 0 and file.allocated):
        raise ReadError(
            f"{file.path} holds no image (it is of the class {file.header['SOPClassUID'].repval}): rows, columns or "
            "bits are not told."
        )
    if file.allocated not in (8, 16, 32) or file.samples not in (1, 3, 4) or not 0 < file.bits <= file.allocated:
        raise ReadError(
            f"{file.path} has {file.samples} sample(s) of {file.bits} in {file.allocated} bits a pixel. Expected 1 "
            "or 3 samples in 8, 16 or 32 bits; a DICOM segmentation can be converted to NIfTI first."
        )


def planes(file: File) -> list[Frame]:
    """The image planes of a file; enhanced multi-frame objects tell each one's place in functional groups."""
    _require_image(file)
    header = file.header
    count = file.frames
    per_frame = header.get("PerFrameFunctionalGroupsSequence")
    with pydicom.config.disable_value_validation():
        if per_frame is None:
            if count > 1:
                raise ReadError(
                    f"{file.path} is a film of {count} frames without places: images over time, not a volume. "
                    "Save single frames as files of their own."
                )
            return [_frame(file, 0, [header])]
        if len(per_frame) != count:
            raise ReadError(f"{file.path} announces {count} frames and describes {len(per_frame)}. Copy it again.")
        shared = [group for item in header.get("SharedFunctionalGroupsSequence") or [] for group in _groups(item)]
        return [_frame(file, number, [*_groups(item), *shared, header]) for number, item in enumerate(per_frame)]


def _groups(item: Dataset) -> list[Dataset]:
    """The items of the functional group sequences of one frame (PS3.3, C.7.6.16)."""
    return [element.value[0] for element in item if element.VR == "SQ" and len(element.value)]


def _frame(file: File, number: int, places: list[Dataset]) -> Frame:
    """One plane, each fact taken from the first of ``places`` that has it."""

    def numbers(name: str, count: int) -> np.ndarray | None:
        for place in places:
            value = place.get(name)
            if value is not None and np.size(value) == count:
                array = np.asarray(value, np.float64).reshape(count)
                return array if np.isfinite(array).all() else None
        return None

    try:
        slope, intercept = numbers("RescaleSlope", 1), numbers("RescaleIntercept", 1)
        spacing = numbers("PixelSpacing", 2)
        if spacing is None:
            spacing = numbers("ImagerPixelSpacing", 2)
        if spacing is not None and spacing.min() <= 0:
            spacing = None
        return Frame(
            file, number, numbers("ImagePositionPatient", 3), numbers("ImageOrientationPatient", 6), spacing,
            1.0 if slope is None or slope[0] == 0 else float(slope[0]),
            0.0 if intercept is None else float(intercept[0]),
        )  # fmt: skip
    except (TypeError, ValueError) as error:
        raise ReadError(f"{file.path} has a damaged DICOM header ({type(error).__name__}). Copy it again.") from None


def facts(header: Dataset, frame: Frame) -> dict[str, Any]:
    """The acquisition facts of the first plane as plain Python values."""
    found: dict[str, Any] = {}
    for name in FACTS:
        value = header.get(name)
        if value is None or value == "" or (np.ndim(value) and not len(value)):
            continue
        found[name] = (
            [_plain(part) for part in value] if isinstance(value, pydicom.multival.MultiValue) else _plain(value)
        )
    if header.get("Modality") == "CT" and header.get("RescaleIntercept") is not None:
        found["units"] = "HU"
    padding = header.get("PixelPaddingValue")
    if isinstance(padding, int):
        found["padding"] = padding * frame.slope + frame.intercept
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, int | np.integer):
        return int(value)
    try:
        return float(value) if not isinstance(value, str) else str(value)
    except (TypeError, ValueError):
        return str(value)
