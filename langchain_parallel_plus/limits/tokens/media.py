"""Tokens of images and files in a prompt, as far as a content block tells their size.

Rules, each as its provider documents it (read in November 2026):

- OpenAI and Azure (guides/images-vision): low detail is a base price; otherwise the image is scaled into 2048 x 2048,
  then to a shorter side of 768, and each tile of 512 x 512 adds to the base. 85 + 170 a tile for gpt-4o, other prices
  for other families. gpt-4.1-mini and -nano and o4-mini: patches of 32 x 32, at most 1536, times a factor.
- Anthropic (build-with-claude/vision): scaled to a longer side of at most 1568, width * height / 750, at most 1600.
- Google (gemini-api/docs/tokens): 258 up to 384 x 384, else 258 for each tile of 768 x 768.

Whatever has no size (an image behind a URL, a sound, a PDF) is a flat thousand: the base64 text of it would be counted
a hundred times too high. Settling and the lane's correction see to the rest.
"""

from __future__ import annotations

import binascii
import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

from langchain_parallel_plus.limits.tokens.image_size import ImageSize, image_size

__all__ = ("MEDIA_TYPES", "TOKENS_PER_MEDIA", "media_tokens")

TOKENS_PER_MEDIA: Final = 1_000
"""An image, sound or file of unknown size."""

MEDIA_TYPES: Final = frozenset(
    {
        "image", "image_url", "input_image", "audio", "input_audio", "video",
        "file", "input_file", "document", "media",
    }
)  # fmt: skip
"""The `type` of content blocks that hold no text."""

_IMAGES: Final = frozenset({"image", "image_url", "input_image"})
_BYTES_PER_TOKEN: Final = 4
"""Of a text file."""
_HEAD: Final = 65_536
"""Characters of base64 to look for a size in: a JPEG's stands behind its thumbnail."""


class _TilePrice(NamedTuple):
    models: str
    base: int
    tile: int


_TILE_PRICES: Final = (
    _TilePrice("gpt-4o-mini*", 2_833, 5_667),
    _TilePrice("gpt-5*", 70, 140),
    _TilePrice("o1*", 75, 150),
    _TilePrice("o3*", 75, 150),
    _TilePrice("*", 85, 170),
)


class _PatchPrice(NamedTuple):
    models: str
    factor: float


_PATCH_PRICES: Final = (
    _PatchPrice("gpt-4.1-mini*", 1.62),
    _PatchPrice("gpt-4.1-nano*", 2.46),
    _PatchPrice("gpt-5-mini*", 1.62),
    _PatchPrice("gpt-5-nano*", 2.46),
    _PatchPrice("o4-mini*", 1.72),
)
_MOST_PATCHES: Final = 1_536


def media_tokens(block: Mapping[Any, Any], *, provider: str, model: str) -> int:
    """Return the input tokens of a content block that is an image, a sound, a video or a file.

    Args:
        block: In LangChain's standard form, or in OpenAI's or Anthropic's own.
        provider: LangSmith's name of the provider.
        model: The model's name.
    """
    if block.get("type") in _IMAGES:
        return _image_tokens(block, provider, model)
    written = block.get("mime_type") or block.get("media_type")
    data = _data(block)
    if isinstance(written, str) and written.startswith("text/") and data:
        return max(-(-len(data) * 3 // 4 // _BYTES_PER_TOKEN), 1)
    return TOKENS_PER_MEDIA


def _image_tokens(block: Mapping[Any, Any], provider: str, model: str) -> int:
    size = _size(_data(block))
    if provider.startswith("google"):
        return TOKENS_PER_MEDIA if size is None else _google(size)
    if provider.startswith("anthropic"):
        return TOKENS_PER_MEDIA if size is None else _anthropic(size)
    return _openai(size, _detail(block), model)


def _openai(size: ImageSize | None, detail: str, model: str) -> int:
    patches = next((one for one in _PATCH_PRICES if fnmatchcase(model, one.models)), None)
    if patches is not None:
        counted = _MOST_PATCHES if size is None else math.ceil(size.width / 32) * math.ceil(size.height / 32)
        return math.ceil(min(counted, _MOST_PATCHES) * patches.factor)
    price = next(one for one in _TILE_PRICES if fnmatchcase(model, one.models))
    if detail == "low":
        return price.base
    if size is None:
        return max(TOKENS_PER_MEDIA, price.base + price.tile)
    shrunk = min(1.0, 2_048 / max(size))
    shrunk *= min(1.0, 768 / (min(size) * shrunk))
    # The nudge takes back what the division may add to a side that fits its tiles exactly.
    across, down = (math.ceil(side * shrunk / 512 - 1e-9) for side in size)
    return price.base + price.tile * across * down


def _anthropic(size: ImageSize) -> int:
    shrunk = min(1.0, 1_568 / max(size))
    return min(math.ceil(size.width * shrunk * size.height * shrunk / 750), 1_600)


def _google(size: ImageSize) -> int:
    if max(size) <= 384:
        return 258
    return 258 * math.ceil(size.width / 768) * math.ceil(size.height / 768)


def _detail(block: Mapping[Any, Any]) -> str:
    inner = block.get("image_url")
    for holder in (block, inner if isinstance(inner, Mapping) else {}, block.get("extras") or {}):
        detail = holder.get("detail") if isinstance(holder, Mapping) else None
        if isinstance(detail, str):
            return detail
    return "auto"


def _data(block: Mapping[Any, Any]) -> str:
    """Return the block's base64 text, wherever its form keeps it; empty if it only points somewhere."""
    holders: list[Any] = [
        block,
        block.get("image_url"),
        block.get("source"),
        block.get("file"),
        block.get("input_file"),
    ]
    for holder in holders:
        if isinstance(holder, str):
            found: object = holder
        elif isinstance(holder, Mapping):
            names = ("base64", "data", "url", "file_data", "image_url")
            found = next((value for name in names if isinstance(value := holder.get(name), str) and value), None)
        else:
            continue
        if not isinstance(found, str):
            continue
        if found.startswith("data:"):
            return found[found.find(",", 0, 256) + 1 :]
        if not found.startswith(("http:", "https:", "gs:", "s3:")):
            return found
    return ""


def _size(data: str) -> ImageSize | None:
    if not data:
        return None
    head = data[:_HEAD]
    try:
        return image_size(binascii.a2b_base64(head[: len(head) // 4 * 4]))
    except ValueError:  # binascii.Error, or no ASCII
        return None
