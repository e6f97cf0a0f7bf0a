"""Seconds to read images, against plain SimpleITK in the same process.

``python benchmarks/load.py [FOLDER]``: FOLDER (by default ``$MEDLAB_DATA``) holds ``ct_small_17`` and ``formats``. Each
line ends with the ratio medlab / SimpleITK of medians over interleaved runs; below 1 is faster. medlab's time includes
its checks (order, gaps, tilt), the affine in RAS and the acquisition facts; SimpleITK's the NumPy array alone.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import SimpleITK

from medlab import load


def plain_series(folder: Path) -> object:
    """A DICOM folder with SimpleITK's series reader."""
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return SimpleITK.GetArrayFromImage(reader.Execute())


def plain_file(path: Path) -> object:
    """A file with SimpleITK."""
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))


def milliseconds(functions: list[Callable[[], object]], runs: int = 15) -> list[float]:
    """Median time of each function; they take turns, so that a busy machine slows all alike."""
    times: list[list[float]] = [[] for _ in functions]
    for run in range(runs + 2):
        for function, kept in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            if run >= 2:
                kept.append((time.perf_counter() - start) * 1000)
    return [statistics.median(kept) for kept in times]


def main() -> None:
    """Prints one line an image."""
    data = Path(sys.argv[1] if len(sys.argv) > 1 else os.environ["MEDLAB_DATA"])
    dicom = data / "formats/dicom/generic"
    rows = [
        ("CT series, 17 plain slices", data / "ct_small_17", plain_series),
        ("MR series, 4 plain slices", dicom / "anatomical/001", plain_series),
        *((f"MR series, 4 slices, {name}", dicom / f"compressed_{name}/001", plain_series)
          for name in ("rle", "jpeg", "jpegls", "j2k")),
        ("NIfTI gzip 60x55x52", data / "formats/nifti/sct_t2_t2.nii.gz", plain_file),
        ("NIfTI gzip 175x248x58", data / "formats/nifti/CT_pitch.nii.gz", plain_file),
        ("NRRD gzip 30x30x30", data / "formats/nrrd/tests/data/BallBinary30x30x30_gz.nrrd", plain_file),
    ]  # fmt: skip
    for name, path, plain in rows:
        ours, theirs = milliseconds([lambda p=path: load.read(p), lambda p=path, f=plain: f(p)])
        print(f"{name:32} medlab {ours:7.1f} ms   SimpleITK {theirs:7.1f} ms   ratio {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
