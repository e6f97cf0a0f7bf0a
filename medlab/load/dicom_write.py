r"""Volumes written as DICOM series: CT or MR images, one file a slice, with no field that identifies anybody.

In: a Volume of rank 3. Out: a new folder. The files are marked DERIVED\\SECONDARY and carry new UIDs.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pydicom.valuerep import format_number_as_ds

from medlab import geometry
from medlab.volume import Volume

_CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage}
# No free text: a series description may name somebody.
_TEXTS = ("BodyPartExamined", "PatientPosition")
_NUMBERS = {
    "CT": ("KVP", "SliceThickness"),
    "MR": ("RepetitionTime", "EchoTime", "InversionTime", "FlipAngle", "MagneticFieldStrength", "SliceThickness"),
}
# Type 2 attributes of the patient, study and equipment modules: present and empty, as PS3.5, 7.4.3 asks.
_EMPTY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName", "Manufacturer", "PositionReferenceIndicator", "Laterality",
)  # fmt: skip


def write(volume: Volume, folder: Path) -> None:
    """Writes ``volume`` as a series into a new or empty folder: ``IMG0001.dcm`` and so on.

    Integers of up to 16 bits are stored exactly. Others are scaled to 16 bits over their own range (Rescale Slope and
    Intercept), with an error of at most half a step: range / 131070. Reading the folder gives the same image again;
    slices come back in the order of their normal, so the third axis is turned around where the axes are left-handed.

    Args:
        volume: rank 3, one channel, modality CT or MR, kind image, axes at right angles, finite values.
        folder: where to; it must not exist or be empty.

    Raises:
        ValueError: anything else, or a folder with files in it; nothing is written.
    """
    _check(volume, folder)
    stored, slope, intercept = _to_16_bits(volume.array)
    lps = geometry.lps_to_ras(volume.affine)
    series = _series_header(volume, lps, slope, intercept, signed=stored.dtype == np.int16)
    part = folder.with_name(f".part-{os.getpid()}-{folder.name}")
    try:
        part.mkdir(parents=True)
        for number in range(stored.shape[2]):
            _slice(series, stored[:, :, number], lps, number).save_as(
                part / f"IMG{number + 1:04d}.dcm", enforce_file_format=True
            )
        if folder.is_dir():
            folder.rmdir()
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _check(volume: Volume, folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"Expected a new or empty folder for a DICOM series. {folder} exists and is not empty.")
    if volume.kind != "image" or volume.rank != 3 or volume.channels != 1:
        raise ValueError(
            f"Expected an image of three axes and one channel for DICOM. Received {volume!r}; write .nii.gz or .nrrd."
        )
    if volume.modality not in _CLASSES:
        raise ValueError(
            f"Expected the modality CT or MR for DICOM. Received {volume.modality!r}; set it with "
            "volume.replace(modality='MR'), or write .nii.gz."
        )
    if not volume.has_geometry:
        raise ValueError(
            "Expected an image whose place in the patient is known: DICOM cannot say 'unknown', and sides would be "
            "invented. Write .nii.gz, or set the affine and drop info['geometry']."
        )
    cosines = geometry.direction(volume.affine)
    if np.abs(cosines.T @ cosines - np.eye(3)).max() > 1e-3:
        raise ValueError("Expected axes at right angles for DICOM. Straighten the Volume with standardize.resample.")
    if not np.isfinite(volume.array).all():
        raise ValueError("Expected finite values for DICOM. Received NaN or infinity; mend them with clean.repair.")


def _to_16_bits(array: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Numbers of 16 bits, and the slope and intercept that lead back."""
    if array.ndim == 4:
        array = array[..., 0]
    low, high = float(array.min()), float(array.max())
    if array.dtype.kind != "f" or np.array_equal(array, np.rint(array)):
        if low >= -32768 and high <= 32767:
            return array.astype(np.int16), 1.0, 0.0
        if low >= 0 and high <= 65535:
            return array.astype(np.uint16), 1.0, 0.0
    # The header holds 16 characters: scale by what will be read from it, not by what was meant.
    slope = float(format_number_as_ds((high - low) / 65535)) if high > low else 1.0
    intercept = float(format_number_as_ds(low))
    scaled = np.rint((array.astype(np.float64) - intercept) / slope)
    return np.clip(scaled, 0, 65535).astype(np.uint16), slope, intercept


def _series_header(volume: Volume, lps: np.ndarray, slope: float, intercept: float, *, signed: bool) -> Dataset:
    """What all slices share."""
    header = Dataset()
    for name in _EMPTY:
        setattr(header, name, "")
    header.SOPClassUID = _CLASSES[volume.modality]
    header.Modality = volume.modality
    header.StudyInstanceUID, header.SeriesInstanceUID, header.FrameOfReferenceUID = (generate_uid() for _ in range(3))
    header.SeriesNumber = 1
    header.ImageType = ["DERIVED", "SECONDARY", "AXIAL" if volume.modality == "CT" else "OTHER"]
    for name in _TEXTS:
        if isinstance(volume.info.get(name), str):
            setattr(header, name, volume.info[name])
    for name in _NUMBERS[volume.modality]:
        if isinstance(volume.info.get(name), int | float):
            setattr(header, name, _decimal(volume.info[name]))
    if volume.modality == "MR":
        header.ScanningSequence, header.SequenceVariant, header.ScanOptions, header.MRAcquisitionType = (
            "RM",
            "NONE",
            "",
            "",
        )
        for name in ("RepetitionTime", "EchoTime", "EchoTrainLength"):
            if name not in header:
                setattr(header, name, None)
    else:
        header.RescaleType = "HU"
        header.AcquisitionNumber = None
        if "KVP" not in header:
            header.KVP = None
    cosines, spacing = geometry.direction(lps), geometry.spacing(lps)
    header.ImageOrientationPatient = [_decimal(value) for value in (*cosines[:, 0], *cosines[:, 1])]
    header.PixelSpacing = [_decimal(spacing[1]), _decimal(spacing[0])]
    header.SpacingBetweenSlices = _decimal(spacing[2])
    if "SliceThickness" not in header:
        header.SliceThickness = _decimal(spacing[2])
    header.Rows, header.Columns = volume.shape[1], volume.shape[0]
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated = header.BitsStored = 16
    header.HighBit, header.PixelRepresentation = 15, int(signed)
    if volume.modality == "CT" or (slope, intercept) != (1.0, 0.0):
        header.RescaleSlope, header.RescaleIntercept = _decimal(slope), _decimal(intercept)
    return header


def _slice(series: Dataset, array: np.ndarray, lps: np.ndarray, number: int) -> Dataset:
    """One slice (column, row) as a data set with its place."""
    header = Dataset()
    header.update(series)
    header.SOPInstanceUID = generate_uid()
    header.InstanceNumber = number + 1
    header.ImagePositionPatient = [_decimal(value) for value in geometry.apply(lps, (0, 0, number))]
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    header.PixelData = np.ascontiguousarray(array.T).astype("<u2" if array.dtype == np.uint16 else "<i2").tobytes()
    header["PixelData"].VR = "OW"
    return header


def _decimal(value: Any) -> str:
    """A number as text of at most 16 characters, as DICOM's decimal strings are."""
    return format_number_as_ds(float(value))
