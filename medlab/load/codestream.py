"""The size that a JPEG, JPEG-LS or JPEG 2000 codestream announces, read from its first bytes.

In: bytes. Out: rows, columns and components. A decoder reserves memory by these numbers and not by DICOM's, so a
damaged file of kilobytes could ask for gigabytes: they are compared before anything is decoded.
"""

from __future__ import annotations

import struct


def announced(head: bytes) -> tuple[int, int, int] | None:
    """Rows, columns and components; None where the bytes are none of these codestreams or end too early.

    Sources: ISO 10918-1, B.2.2 (SOF), ISO 14495-1, C.2.2 (SOF55) and ISO 15444-1, A.5.1 (SIZ). Tiles of JPEG 2000 must
    be at most 65535, as A.4.2 limits their number; a codestream with more is told as one of size 0.
    """
    if head.startswith(b"\xff\x4f\xff\x51"):
        return _jpeg_2000(head)
    if head.startswith(b"\xff\xd8"):
        return _jpeg(head)
    return None


def _jpeg_2000(head: bytes) -> tuple[int, int, int] | None:
    if len(head) < 42:
        return None
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top, components = struct.unpack(
        ">8IH", head[8:42]
    )
    if not (tile_width and tile_height and tile_left <= left < right and tile_top <= top < bottom):
        return 0, 0, 0
    tiles = -(-(right - tile_left) // tile_width) * -(-(bottom - tile_top) // tile_height)
    return (0, 0, 0) if tiles > 65535 else (bottom - top, right - left, components)


def _jpeg(head: bytes) -> tuple[int, int, int] | None:
    place = 2
    while place + 9 < len(head):
        if head[place] != 0xFF:
            return None
        marker = head[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            rows, columns, components = struct.unpack(">HHB", head[place + 5 : place + 10])
            return rows, columns, components
        place += 2 + int.from_bytes(head[place + 2 : place + 4], "big")
    return None
