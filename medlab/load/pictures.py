"""PNG, JPEG, TIFF and BMP pictures; PNG back. Eight and sixteen bits, several pages as one volume.

In: a file, its format told by its content. Out: a picture (row, column[, c]) whose place in the patient is unknown.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, ImageOps

from medlab.load.errors import ReadError, check_size
from medlab.volume import Volume

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
_ASSUMED = {"geometry": "assumed"}


def read(path: Path, *, kind: str = "image") -> Volume:
    """The picture in a file, in the stored type; a TIFF of several pages of one size is a volume (row, column, page).

    Args:
        path: the file.
        kind: ``"image"``: palettes become colors, transparency is dropped, a photograph is turned as its camera
            noted. ``"labels"``: the palette's numbers are the labels; three equal color channels are taken as one.

    Raises:
        ReadError: damaged, of too many pixels (Pillow's limit against decompression bombs), or a mask in color.
    """
    with path.open("rb") as stream:
        head = stream.read(26)
    if head[:2] in (b"II", b"MM"):
        array, rank = _tiff(path, kind)
    elif head.startswith(b"\x89PNG") and head[24:25] == b"\x10" and head[25:26] in (b"\2", b"\4", b"\6"):
        array, rank = _deep_png(path), 2  # Pillow would cut it to 8 bits
    else:
        array, rank = _pillow(path, kind), 2
    if kind == "labels" and array.ndim > rank:
        if not (array[..., :3] == array[..., :1]).all():
            raise ReadError(
                f"{path} is a mask in color. Save it as a gray or palette picture whose pixel values are the labels."
            )
        array = array[..., 0]
    return Volume(array, kind=kind, info=dict(_ASSUMED), rank=rank)


def write(volume: Volume, path: Path) -> None:
    """Writes a picture of whole numbers as PNG, with 8 or 16 bits.

    Raises:
        ValueError: a volume, fractions, negative or larger numbers: bring it into range first.
    """
    array = volume.array
    if volume.rank != 2:
        raise ValueError(
            f"Expected a picture for .png. Received a volume of shape {volume.shape}; take one slice of it."
        )
    if array.dtype.kind == "f" or array.min() < 0 or array.max() > 65535:
        raise ValueError(
            "Expected whole numbers from 0 to 65535 for .png. "
            f"Received {array.dtype} from {array.min():g} to {array.max():g}; "
            "window it and convert with .astype('uint8'), or write .nii.gz."
        )
    if volume.channels not in (1, 3, 4):
        raise ValueError(f"Expected 1, 3 or 4 channels for .png. Received {volume.channels}.")
    if array.dtype == bool:
        array = array * np.uint8(255 if volume.kind == "image" else 1)
    array = array.astype(np.uint8 if array.dtype.itemsize == 1 or array.max() < 256 else np.uint16)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.dtype == np.uint16 and array.ndim == 3:
        import SimpleITK

        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.ascontiguousarray(array), isVector=True), str(path))
        return
    Image.fromarray(np.ascontiguousarray(array)).save(path, format="PNG")


def _pillow(path: Path, kind: str) -> np.ndarray:
    """The first page of a picture as (row, column[, c])."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            if kind == "image":
                ImageOps.exif_transpose(image, in_place=True)
            elif image.mode == "P":
                return np.array(image)
            if image.mode == "P":
                image = image.convert("RGB")
            elif image.mode == "1":
                return np.array(image.convert("L")) // (1 if kind == "image" else 255)
            elif image.mode in ("RGBA", "LA", "CMYK", "YCbCr", "LAB", "HSV"):
                image = image.convert("L" if image.mode == "LA" else "RGB")
            array = np.array(image)
    except Image.DecompressionBombError as error:
        raise ReadError(f"{path} is refused: {error} Cut it into smaller pictures.") from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises many kinds on damaged files
        raise ReadError(f"{path} is damaged or of an unknown kind ({error}). Copy it again.") from error
    return array.astype(np.uint16) if array.dtype.str == ">u2" else array


def _deep_png(path: Path) -> np.ndarray:
    """A PNG of 16 bits and several channels as (row, column[, 3])."""
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("PNGImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        columns, rows = reader.GetSize()[:2]
        channels = reader.GetNumberOfComponents()
        check_size(path, rows * columns * channels * 2, stored=path.stat().st_size, compressed=True)
        array = SimpleITK.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        raise ReadError(f"{path} is damaged ({str(error).splitlines()[-1]}). Copy it again.") from error
    return array[..., :3] if channels > 2 else array[..., 0]


def _tiff(path: Path, kind: str) -> tuple[np.ndarray, int]:
    """A TIFF as a picture (row, column[, c]), rank 2, or a stack of pages (row, column, page[, c]), rank 3."""
    try:
        with tifffile.TiffFile(path) as file:
            pages = [page for page in file.pages if not page.is_reduced]
            first = pages[0]
            shapes = {page.shape for page in pages}
            if len(shapes) > 1:
                raise ReadError(
                    f"{path} has {len(pages)} pages of different sizes ({sorted(shapes)[:3]} ...). "
                    "Save the one wanted as a file of its own."
                )
            needed = int(np.prod(first.shape, dtype=object)) * first.dtype.itemsize * len(pages)
            check_size(path, needed, stored=path.stat().st_size if first.compression == 1 else None)
            if kind == "image" and first.photometric == tifffile.PHOTOMETRIC.PALETTE:
                return _pillow(path, kind), 2
            arrays = [page.asarray() for page in pages]
            inverted = first.photometric == tifffile.PHOTOMETRIC.MINISWHITE
            planar = first.planarconfig == 2 and first.samplesperpixel > 1
    except (ReadError, MemoryError):
        raise
    except (tifffile.TiffFileError, OSError, IndexError, EOFError) as error:
        raise ReadError(f"{path} is a damaged TIFF ({error}). Copy it again.") from error
    except Exception as error:  # a compression that tifffile has no code for here, or damage: of many kinds
        return _compressed_tiff(path, kind, error)
    if planar:
        arrays = [np.moveaxis(array, 0, -1) for array in arrays]
    if inverted and kind == "image" and arrays[0].dtype.kind in "ub":
        arrays = [np.invert(array) if array.dtype == bool else np.iinfo(array.dtype).max - array for array in arrays]
    arrays = [array[..., :3] if array.ndim == 3 and array.shape[-1] == 4 else array for array in arrays]
    if len(arrays) == 1:
        return arrays[0], 2
    return np.stack(arrays, axis=2), 3


def _compressed_tiff(path: Path, kind: str, reason: Exception) -> tuple[np.ndarray, int]:
    """A TIFF in a compression that tifffile alone cannot undo but Pillow's libtiff can (LZW, JPEG, CCITT)."""
    try:
        with Image.open(path, formats=("TIFF",)) as image:
            if (pages := getattr(image, "n_frames", 1)) == 1:
                return _pillow(path, kind), 2
            check_size(path, image.width * image.height * pages)
            arrays = []
            for page in range(pages):
                image.seek(page)
                arrays.append(np.array(image))
        return np.stack(arrays, axis=2), 3
    except (ReadError, MemoryError):
        raise
    except Exception as error:
        raise ReadError(f"{path} is a damaged TIFF, or in a form not known here ({reason}; {error}).") from error
