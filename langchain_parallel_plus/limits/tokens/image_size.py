"""Width and height of an image from the first bytes of its file, without decoding it."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

__all__ = ("ImageSize", "image_size")

_LARGEST: Final = 65_535
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_MOST_SEGMENTS: Final = 64


class ImageSize(NamedTuple):
    """Pixels."""

    width: int
    height: int


def image_size(head: bytes) -> ImageSize | None:
    """Return the size of the PNG, JPEG, GIF or WebP that begins with `head`; `None` if that does not say.

    Formats: PNG (W3C, IHDR comes first), GIF89a (logical screen), RFC 9649 (WebP), ITU-T T.81 (JPEG, a frame header
    after any number of segments).
    """
    try:
        found = _png(head) or _gif(head) or _webp(head) or _jpeg(head)
    except (struct.error, IndexError):  # cut short
        return None
    if found is None or not (0 < found.width <= _LARGEST and 0 < found.height <= _LARGEST):
        return None
    return found


def _png(head: bytes) -> ImageSize | None:
    if not head.startswith(_PNG) or head[12:16] != b"IHDR":
        return None
    return ImageSize(*struct.unpack_from(">II", head, 16))


def _gif(head: bytes) -> ImageSize | None:
    return ImageSize(*struct.unpack_from("<HH", head, 6)) if head.startswith((b"GIF87a", b"GIF89a")) else None


def _webp(head: bytes) -> ImageSize | None:
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP":
        return None
    match head[12:16]:
        case b"VP8 ":
            width, height = struct.unpack_from("<HH", head, 26)
            return ImageSize(width & 0x3FFF, height & 0x3FFF)
        case b"VP8L":
            (bits,) = struct.unpack_from("<I", head, 21)
            return ImageSize((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
        case b"VP8X":
            width = int.from_bytes(head[24:27], "little") + 1
            return ImageSize(width, int.from_bytes(head[27:30], "little") + 1) if len(head) >= 30 else None
        case _:
            return None


def _jpeg(head: bytes) -> ImageSize | None:
    if not head.startswith(b"\xff\xd8"):
        return None
    at = 2
    for _ in range(_MOST_SEGMENTS):
        marker, length = struct.unpack_from(">HH", head, at)
        if marker < 0xFFC0:
            return None
        if 0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC):  # a frame header
            height, width = struct.unpack_from(">HH", head, at + 5)
            return ImageSize(width, height)
        at += 2 + length
    return None
