"""Images and files are estimated by their providers' rules where their size is told."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_parallel_plus.limits.tokens.image_size import ImageSize, image_size
from langchain_parallel_plus.limits.tokens.media import TOKENS_PER_MEDIA, media_tokens


def png(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x00\x00\x00"


def jpeg(width: int, height: int, thumbnail: int = 3_000) -> bytes:
    exif = b"\xff\xe1" + struct.pack(">H", thumbnail + 2) + b"\x00" * thumbnail
    tables = b"\xff\xc4" + struct.pack(">H", 4) + b"\x00\x00"
    return b"\xff\xd8" + exif + tables + b"\xff\xc2" + struct.pack(">HBHHB", 17, 8, height, width, 3)


def webp(width: int, height: int, kind: bytes = b"VP8X") -> bytes:
    def riff(body: bytes) -> bytes:
        return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body

    if kind == b"VP8X":
        size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        return riff(kind + struct.pack("<I", 10) + b"\x00" * 4 + size)
    if kind == b"VP8L":
        return riff(kind + struct.pack("<I", 5) + b"\x2f" + struct.pack("<I", width - 1 | (height - 1) << 14))
    return riff(kind + struct.pack("<I", 10) + b"\x00\x00\x00\x9d\x01\x2a" + struct.pack("<HH", width, height))


SIDES = st.integers(min_value=1, max_value=16_000)
FORMATS = [png, gif, jpeg, webp, lambda w, h: webp(w, h, b"VP8L"), lambda w, h: webp(w, h, b"VP8 ")]


@given(width=SIDES, height=SIDES, write=st.sampled_from(FORMATS))
def test_the_size_stands_in_the_first_bytes(width: int, height: int, write: Any) -> None:
    assert image_size(write(width, height)) == ImageSize(width, height)


@given(data=st.binary(max_size=200), write=st.sampled_from(FORMATS), cut=st.integers(0, 40))
def test_broken_images_have_no_size_and_raise_nothing(data: bytes, write: Any, cut: int) -> None:
    for head in (data, write(100, 100)[:cut], write(100, 100)[:cut] + data):
        size = image_size(head)
        assert size is None or min(size) > 0


def openai(data: bytes | str, **fields: Any) -> dict[str, Any]:
    url = data if isinstance(data, str) else f"data:image/png;base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url, **fields}}


def tokens(block: dict[str, Any], provider: str = "openai", model: str = "gpt-4o") -> int:
    return media_tokens(block, provider=provider, model=model)


@pytest.mark.parametrize(
    ("size", "detail", "model", "expected"),
    [
        # The examples of OpenAI's own page.
        ((1_024, 1_024), "high", "gpt-4o", 765),
        ((2_048, 4_096), "high", "gpt-4o", 1_105),
        ((4_096, 8_192), "low", "gpt-4o", 85),
        ((512, 512), "auto", "gpt-4o", 255),
        ((1_024, 1_024), "low", "gpt-4o-mini", 2_833),
        ((512, 512), "high", "gpt-4o-mini-2024-07-18", 8_500),
        ((1_024, 1_024), "high", "gpt-5.1", 630),
        ((1_024, 1_024), "auto", "o3", 675),
        ((1_024, 1_024), "auto", "gpt-4.1-mini", 1_659),
        ((1_800, 2_400), "auto", "gpt-4.1-nano", 3_779),
    ],
)
def test_openai_counts_tiles_or_patches(size: tuple[int, int], detail: str, model: str, expected: int) -> None:
    assert tokens(openai(png(*size), detail=detail), model=model) == expected


@pytest.mark.parametrize(
    ("provider", "size", "expected"),
    [
        ("anthropic", (1_000, 1_000), 1_334),
        ("anthropic", (200, 200), 54),
        ("anthropic", (8_000, 6_000), 1_600),
        ("google_genai", (384, 384), 258),
        ("google_genai", (1_920, 1_080), 1_548),
        ("google_vertexai", (768, 769), 516),
    ],
)
def test_others_count_pixels_or_tiles(provider: str, size: tuple[int, int], expected: int) -> None:
    encoded = base64.b64encode(png(*size)).decode()
    assert tokens({"type": "image", "base64": encoded, "mime_type": "image/png"}, provider) == expected


IMAGE = base64.b64encode(jpeg(512, 512)).decode()
FORMS: dict[str, dict[str, Any]] = {
    "LangChain 1": {"type": "image", "base64": IMAGE, "mime_type": "image/jpeg"},
    "LangChain 0.3": {"type": "image", "source_type": "base64", "data": IMAGE, "mime_type": "image/jpeg"},
    "OpenAI": {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{IMAGE}"}},
    "OpenAI, short": {"type": "image_url", "image_url": f"data:image/jpeg;base64,{IMAGE}"},
    "OpenAI's Responses": {"type": "input_image", "image_url": f"data:image/jpeg;base64,{IMAGE}"},
    "Anthropic": {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": IMAGE}},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_an_image_is_read(form: str) -> None:
    assert tokens(FORMS[form]) == 255


@pytest.mark.parametrize(
    "block",
    [
        openai("https://example.org/cat.png"),
        openai("data:image/png;base64,????"),
        openai(b"no image at all"),
        {"type": "image", "url": "https://example.org/cat.png"},
        {"type": "image", "file_id": "file-1"},
        {"type": "image", "base64": "\u00e9\u00e9\u00e9\u00e9"},
        {"type": "image"},
        {"type": "audio", "base64": "A" * 100_000, "mime_type": "audio/wav"},
        {"type": "file", "base64": "A" * 100_000, "mime_type": "application/pdf"},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}},
        {"type": "video", "url": "https://example.org/cat.mp4"},
    ],
)
@pytest.mark.parametrize("provider", ["openai", "anthropic", "google_genai"])
def test_what_tells_no_size_is_flat(block: dict[str, Any], provider: str) -> None:
    assert tokens(block, provider) == TOKENS_PER_MEDIA


def test_low_detail_needs_no_size() -> None:
    assert tokens(openai("https://example.org/cat.png", detail="low")) == 85
    assert tokens({"type": "input_image", "image_url": "https://example.org/cat.png", "detail": "low"}) == 85


def test_a_text_file_is_text() -> None:
    data = base64.b64encode(b"x" * 4_000).decode()
    assert tokens({"type": "file", "base64": data, "mime_type": "text/plain"}) == pytest.approx(1_000, abs=2)
