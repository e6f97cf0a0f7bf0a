"""Cache: arrays that were made before, kept on disk, so that five notebooks make them once.

In: a key, a number and arrays. Out: the arrays, or None. It is only a cache: a damaged or missing file is made again,
and where the folder cannot be written everything works without it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import os
import tempfile
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

LARGEST = 2 * 2**30
"""Bytes that the cache may take; then the files used least recently are removed."""

_CHECK_EVERY = 256  # files written by this process between two looks at the size of all
_written = 0


def folder() -> Path:
    """Where the files are: ``phantoms`` below ``$MEDLAB_CACHE``, or below the user's cache folder for medlab."""
    return Path(os.environ.get("MEDLAB_CACHE") or _default()) / "phantoms"


@functools.cache
def _default() -> str:
    import pooch

    return str(pooch.os_cache("medlab"))


def load(key: str, number: int) -> tuple[list[np.ndarray], dict[str, Any]] | None:
    """The arrays and facts kept under a key and a number, or None where there are none that are whole.

    Args:
        key: all that the arrays depend on, and a version.
        number: of the case.

    Returns:
        New arrays that must not be written to, and the facts; or None.
    """
    file = _file(key, number)
    try:
        content = file.read_bytes()
    except OSError:
        return None
    if len(content) < 8 or int.from_bytes(content[:4], "little") != zlib.crc32(content[4:]):
        return None
    with contextlib.suppress(OSError):
        if time.time() - file.stat().st_mtime > 86400:
            os.utime(file)  # used lately
    start = 8 + int.from_bytes(content[4:8], "little")
    header = json.loads(content[8:start])
    arrays = []
    for kind, shape in header["arrays"]:
        dtype, count = np.dtype(kind), math.prod(shape)
        arrays.append(np.frombuffer(content, dtype, count, start).reshape(shape))
        start += dtype.itemsize * count
    return arrays, header["facts"]


def save(key: str, number: int, arrays: Sequence[np.ndarray], facts: Mapping[str, Any] | None = None) -> None:
    """Keeps arrays, whole or not at all, as several processes may do at once; does nothing where it cannot.

    Args:
        key: as in :func:`load`.
        number: of the case.
        arrays: of numbers.
        facts: plain values or NumPy's.
    """
    global _written
    file = _file(key, number)
    forms = [(array.dtype.str, array.shape) for array in arrays]
    header = json.dumps({"arrays": forms, "facts": dict(facts or {})}, default=_plain).encode()
    content = len(header).to_bytes(4, "little") + header
    content += b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
    part = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".part", delete=False) as part:
            part.write(zlib.crc32(content).to_bytes(4, "little") + content)
        os.replace(part.name, file)
    except OSError:
        if part is not None:
            with contextlib.suppress(OSError):
                os.unlink(part.name)
        return
    if _written % _CHECK_EVERY == 0:
        trim()
    _written += 1


def trim(largest: int | None = None) -> None:
    """Removes the files used least recently until all take at most nine tenths of ``largest`` bytes.

    Args:
        largest: by default ``LARGEST``. Nothing is removed below it, but for parts that a stopped process left.
    """
    largest = LARGEST if largest is None else largest
    files = []
    for path in folder().glob("*/*"):
        with contextlib.suppress(OSError):
            facts = path.stat()
            if path.suffix == ".part":
                if time.time() - facts.st_mtime > 3600:
                    path.unlink()
            elif path.suffix == ".case":
                files.append((facts.st_mtime, facts.st_size, path))
    total = sum(size for _, size, _ in files)
    if total <= largest:
        return
    for _, size, path in sorted(files):
        if total <= 0.9 * largest:
            break
        with contextlib.suppress(OSError):
            path.unlink()
            total -= size


def _plain(value: Any) -> Any:
    """A NumPy number or array as plain Python."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"Expected plain values or NumPy's. Received {type(value)}.")


def _file(key: str, number: int) -> Path:
    return folder() / hashlib.sha256(key.encode()).hexdigest()[:16] / f"{number:07d}.case"
