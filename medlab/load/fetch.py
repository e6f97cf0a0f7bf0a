"""Files of named data sets: looked for in ``$MEDLAB_DATA``, then in the user cache, then fetched with pooch.

In: a file name, its MD5 and its address. Out: the path of a file with that checksum.
"""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path

import pooch

from medlab.load.errors import ReadError


def cache() -> Path:
    """The folder that fetched files go to: ``$MEDLAB_CACHE``, or the system's cache folder for medlab."""
    return Path(os.environ.get("MEDLAB_CACHE") or pooch.os_cache("medlab")).expanduser()


def data_folder() -> Path | None:
    """The folder of data files that ``$MEDLAB_DATA`` names; None where it is not set or there is none."""
    named = os.environ.get("MEDLAB_DATA")
    folder = Path(named).expanduser() if named else None
    return folder if folder is not None and folder.is_dir() else None


def here(names: set[str]) -> dict[str, list[Path]]:
    """Where files of these names lie in ``$MEDLAB_DATA`` (at any depth) and in the cache; nothing is fetched."""
    found: dict[str, list[Path]] = {}
    for folder in (data_folder(), cache()):
        if folder is None:
            continue
        for place, _, files in os.walk(folder):
            for name in names.intersection(files):
                found.setdefault(name, []).append(Path(place, name))
    return found


def file(name: str, *, md5: str, url: str) -> Path:
    """The path of the file ``name``, whose content has the checksum ``md5``.

    Args:
        name: file name, such as ``breastmnist.npz``.
        md5: 32 hexadecimal digits.
        url: where to fetch it, if it is in none of the folders.

    Raises:
        ReadError: it is nowhere and cannot be fetched (the message says where to put it), or the files of that name
            have another content.
    """
    wrong = []
    for path in here({name}).get(name, []):
        state = path.stat()
        if _md5(str(path), state.st_mtime_ns, state.st_size) == md5:
            return path
        wrong.append(path)
    if wrong and wrong[0].parent != cache():
        raise ReadError(
            f"{wrong[0]} is not the file that its name says: its MD5 differs from {md5}. It is damaged or of another "
            f"version; replace it with {url}, or rename it."
        )
    target = cache()
    try:
        target.mkdir(parents=True, exist_ok=True)
        return Path(pooch.retrieve(url, known_hash=f"md5:{md5}", fname=name, path=target, progressbar=True))
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ReadError(
            f"{name} is not here and could not be fetched from {url} ({type(error).__name__}: {reason}). "
            f"Fetch it on another machine and put it into {target}, or anywhere in a folder that the environment "
            f"variable MEDLAB_DATA names; its MD5 is {md5}."
        ) from error


@lru_cache(maxsize=256)
def _md5(path: str, changed: int, size: int) -> str:
    """The file's checksum, worked out once for each of its versions."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
