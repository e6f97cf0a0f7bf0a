"""read and write: one image file or DICOM folder to a Volume and back.

A file's format is told from its content, not from its name. Each format has its own module here.
"""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path

from medlab.load.errors import ReadError
from medlab.volume import Volume

READABLE = (
    "DICOM, NIfTI (.nii, .nii.gz, .hdr + .img), NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd), PNG, JPEG, TIFF, BMP"
)
ENDINGS = (
    ".dcm", ".ima", ".nii", ".nii.gz", ".hdr", ".nrrd", ".nhdr", ".mha", ".mhd",
    ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp",
)  # fmt: skip
"""File name endings of images, for lists of files; reading itself looks at the content."""

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "picture"),
    (b"\xff\xd8\xff", "picture"),
    (b"II*\x00", "picture"),
    (b"MM\x00*", "picture"),
    (b"II+\x00", "picture"),
    (b"MM\x00+", "picture"),
    (b"BM", "picture"),
    (b"NRRD000", "nrrd"),
)
_OTHERS = (
    (b"PK\x03\x04", "a zip archive (as .npz is); a MedMNIST set is opened by its name, load.dataset('breastmnist')"),
    (b"\x89HDF\r\n", "an HDF5 file"),
    (b"%PDF", "a PDF document"),
    (b"GIF8", "a GIF picture"),
    (b"\x93NUMPY", "a NumPy array; wrap it yourself, Volume(np.load(path, allow_pickle=False))"),
)


def read(
    path: str | os.PathLike,
    *,
    series: int | str | None = None,
    gaps: str = "raise",
    kind: str = "image",
    tilt: str = "raise",
    fewest: int = 3,
) -> Volume:
    """The image in a file or in a folder of DICOM files.

    Args:
        path: a file of any readable format, told by its content, or a folder with DICOM files at any depth.
        series: which series of a DICOM folder: its number in the list that the error shows (from 1), or its
            SeriesInstanceUID. Not needed where there is one.
        gaps: what to do where slices of a DICOM series are missing or unevenly spaced: ``"raise"``, or
            ``"interpolate"`` linearly along the slice normal, recorded in ``info["repairs"]``.
        kind: ``"image"``, or ``"labels"`` for a mask of whole numbers.
        tilt: what to do with a DICOM series of a tilted gantry: ``"raise"``, or ``"keep"`` the slices as they lie in
            an affine with oblique third axis, which ``standardize.resample`` straightens.
        fewest: a DICOM series of several but fewer slices is refused. From three on, even spacing can be checked.

    Returns:
        A volume (i, j, k[, c]) with its affine in mm RAS+, or a picture (row, column[, c]). Four-dimensional images
        have their fourth axis as channels. CT comes in HU. Where a file says nothing about its place in the patient,
        ``info["geometry"]`` is ``"assumed"``.

    Raises:
        ReadError: ``path`` is no path, there is nothing at it, it is no image, damaged, too large for the memory, or
            its slices do not make one volume; the message says which and what to do.
        ValueError: an unknown ``gaps``, ``kind`` or ``tilt``.
    """
    for name, value, known in (
        ("gaps", gaps, ("raise", "interpolate")),
        ("kind", kind, ("image", "labels")),
        ("tilt", tilt, ("raise", "keep")),
    ):
        if value not in known:
            raise ValueError(f"Expected {name} {known[0]!r} or {known[1]!r}. Received {value!r}.")
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise ReadError(f"Expected the path of an image file or of a folder of DICOM files. Received {path!r}.")
    source = Path(path).expanduser()
    try:
        if source.is_dir():
            from medlab.load import dicom

            return dicom.read_folder(source, series=series, gaps=gaps, kind=kind, tilt=tilt, fewest=fewest)
        return _read_file(source, kind)
    except ReadError:
        raise
    except MemoryError:
        raise ReadError(f"{source} does not fit into memory. Crop or downsample it, or use a larger machine.") from None
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise ReadError(f"{source} cannot be read: {error}") from error


def file_format(path: Path) -> str:
    """``"dicom"``, ``"nifti"``, ``"nrrd"``, ``"metaimage"`` or ``"picture"``, told from the first bytes.

    Raises:
        ReadError: there is no file, it is empty, or it is none of these.
    """
    if not path.exists():
        raise ReadError(f"No such file or folder: {path}. Check the path; relative ones start from {Path.cwd()}.")
    if not path.is_file():
        raise ReadError(f"{path} is neither a file nor a folder.")
    with path.open("rb") as stream:
        head = stream.read(1024)
    if not head:
        raise ReadError(f"{path} is empty (0 bytes). Copy it again.")
    if head[128:132] == b"DICM":
        return "dicom"
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    plain = head
    if head.startswith(b"\x1f\x8b"):
        try:
            with gzip.open(path) as stream:
                plain = stream.read(1024)
        except (OSError, EOFError, zlib.error) as error:
            raise ReadError(f"{path} is a damaged gzip file ({error}). Copy it again.") from error
    if plain[344:348] in (b"n+1\x00", b"ni1\x00") or plain[4:8] in (b"n+2\x00", b"ni2\x00"):
        return "nifti"
    if head[:256].lstrip().startswith((b"ObjectType", b"NDims", b"Comment")) and b"NDims" in head:
        return "metaimage"
    if path.suffix.lower() in (".dcm", ".ima", "") and _looks_like_dicom(head):
        return "dicom"
    for signature, name in _OTHERS:
        if head.startswith(signature):
            raise ReadError(f"{path} is {name}. Readable formats: {READABLE}.")
    text = " It looks like a text file." if _is_text(head) else ""
    raise ReadError(f"{path} is of no format known here.{text} Readable formats: {READABLE}.")


def is_bare_dicom(path: Path) -> bool:
    """Whether a file without the ending of a format is DICOM, as archives export it (``IMG0001``, ``1.2.840.7``).

    A DICOMDIR is an index without image and does not count, nor does a file that cannot be opened.
    """
    if not (path.suffix == "" or path.suffix[1:].isdecimal()) or path.name.upper() == "DICOMDIR":
        return False
    if not path.is_file():
        return False
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _read_file(path: Path, kind: str) -> Volume:
    found = file_format(path)
    if found == "dicom":
        from medlab.load import dicom

        return dicom.read_file(path, kind=kind)
    if found == "nifti":
        from medlab.load import nifti

        return nifti.read(path, kind=kind)
    if found == "nrrd":
        from medlab.load import nrrd

        return nrrd.read(path, kind=kind)
    if found == "metaimage":
        from medlab.load import itk

        return itk.read(path, kind=kind)
    from medlab.load import pictures

    return pictures.read(path, kind=kind)


def _looks_like_dicom(head: bytes) -> bool:
    """Whether a file without preamble starts with an element of group 0002 or 0008 (little endian)."""
    return head[:2] in (b"\x02\x00", b"\x08\x00") and not _is_text(head)


def _is_text(head: bytes) -> bool:
    try:
        head[:512].decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head[:512]) - 4:
            return False
    return b"\x00" not in head[:512]


def write(volume: Volume, path: str | os.PathLike) -> None:
    """Writes a Volume; the ending of ``path`` says how.

    Args:
        volume: what to write; it is not changed.
        path: ``.nii``, ``.nii.gz``, ``.nrrd``, ``.mha``: arrays and affine as they are (a picture becomes one slice in
            NIfTI, and keeps nothing but its spacing in NRRD and MetaImage). ``.png``: a picture of whole numbers up
            to 8 or 16 bits. ``.dcm`` or no ending: a new folder with one DICOM file a slice, CT or MR alone.

    Raises:
        ValueError: no Volume, an ending that is not among these, or an array that the format cannot hold; nothing is
            written.
    """
    if not isinstance(volume, Volume):
        raise ValueError(
            f"Expected a Volume to write. Received {type(volume).__name__}. An array becomes one with Volume(array)."
        )
    target = Path(path).expanduser()
    name = target.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        from medlab.load.nifti import write as writer
    elif name.endswith((".nrrd", ".mha")):
        from medlab.load.itk import write as writer
    elif name.endswith(".png"):
        from medlab.load.pictures import write as writer
    elif name.endswith(".dcm") or not target.suffix or target.is_dir():
        from medlab.load.dicom_write import write as write_series

        return write_series(volume, target)
    else:
        raise ValueError(
            f"Expected a path ending in .nii, .nii.gz, .nrrd, .mha, .png or .dcm (a folder). Received {target.name!r}."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    # Written whole or not at all: a file half written is never left under the asked name.
    part = target.with_name(f".part-{os.getpid()}-{target.name}")
    try:
        writer(volume, part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return None
