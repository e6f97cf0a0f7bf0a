"""What every reader raises, and the two checks that every reader makes before it reserves memory."""

from __future__ import annotations

from pathlib import Path

import psutil

# Deflate cannot pack more than 1032 bytes into one (https://zlib.net/zlib_tech.html); bzip2 has no such bound.
_DEFLATE_LIMIT = 1032
_SMALL = 1 << 26  # bytes; asking for the free memory costs more than reading a small slice


class ReadError(ValueError):
    """A file or data set cannot be read; the message says which, what is wrong and what to do."""


def check_size(path: str | Path, needed: int, *, stored: int | None = None, compressed: bool = False) -> None:
    """Passes if an image of ``needed`` bytes can be in the file and in memory.

    Args:
        path: the file, for the message.
        needed: bytes of the image that the header announces.
        stored: bytes of the file that can hold it; None where that says nothing.
        compressed: whether those are compressed with deflate (gzip, zip, PNG).

    Raises:
        ReadError: the file is too short for what its header says, or the image does not fit into memory.
    """
    if stored is not None and needed > stored * (_DEFLATE_LIMIT if compressed else 1):
        raise ReadError(
            f"{path} is shorter than its header says: {needed} bytes of image announced, {stored} stored"
            f"{' compressed' if compressed else ''}. It is truncated or damaged; copy it again."
        )
    if needed < _SMALL:
        return
    free = psutil.virtual_memory().available
    if needed > free:
        raise ReadError(
            f"{path} holds an image of {needed / 2**30:.1f} GiB; {free / 2**30:.1f} GiB of memory are free. "
            "Crop or downsample it first, or use a machine with more memory."
        )
