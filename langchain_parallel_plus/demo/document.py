"""The text that the demo reads: where it comes from, what it refuses, and how much of it fits a model."""

from __future__ import annotations

import re
import sys
import textwrap
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from langchain_parallel_plus.demo.refusal import Refusal

if TYPE_CHECKING:
    from typing import BinaryIO

__all__ = ("LIMIT_BYTES", "Document", "decoded", "fitted", "read_document", "readable")

LIMIT_BYTES = 2_000_000
"""The largest input that is read at all."""

_TOPIC = "exceptions"
"""The chapter of the language reference that is read by default: prose, and short enough for a small model."""

_LIST_ITEM = re.compile(r"\s|[-*+>|#•]|\d+[.)]")
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Document:
    """A text and what to call it."""

    name: str
    text: str


def read_document(source: str | None, stdin: BinaryIO) -> Document:
    """Read the file `source`, standard input for `-`, or a chapter of Python's language reference for `None`.

    Raises:
        Refusal: If there is no such file, or it is unreadable, empty, no text, or larger than `LIMIT_BYTES`.
    """
    if source is None:
        return _own_text()
    name = "standard input" if source == "-" else source
    try:
        raw = stdin.read(LIMIT_BYTES + 1) if source == "-" else _head(Path(source))
    except FileNotFoundError:
        raise Refusal(
            f"there is no file {source!r}", help="give the path of a text file, or - for standard input"
        ) from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise Refusal(f"cannot read {source!r} ({why})", help="give the path of a readable text file") from None
    return Document(name, readable(decoded(raw, name)))


def decoded(raw: bytes, name: str) -> str:
    """Return the text in `raw`, which is UTF-8, or UTF-16 with a byte order mark.

    Raises:
        Refusal: If it is larger than `LIMIT_BYTES`, no text, or without a single word.
    """
    if len(raw) > LIMIT_BYTES:
        raise Refusal(
            f"{name} is longer than {LIMIT_BYTES / 1e6:g} MB, the most that the demo reads",
            help="give a part of it, such as its first 100 kB (head -c 100000 FILE)",
        )
    encoding = "utf-16" if raw.startswith(_UTF16_MARKS) else "utf-8-sig"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise Refusal(f"{name} is not UTF-8 text", help="convert it first (pdftotext, or iconv -t utf-8)")
    if not any(character.isalnum() for character in text):
        raise Refusal(f"{name} is empty: there is not one word in it", help="give a file with some text")
    return text


def readable(text: str) -> str:
    """Return `text` with each paragraph on one line, as a model reads it best; lists and code keep their lines.

    Hard line breaks make a small model copy them, and rulers of `***` make it draw more of them.
    """
    paragraphs = re.split(r"\n\s*\n", text.expandtabs(4).replace("\r\n", "\n").replace("\r", "\n"))
    return "\n\n".join(shown for paragraph in paragraphs if (shown := _paragraph(paragraph)))


def fitted(document: Document, window: int) -> tuple[Document, str | None]:
    """Return the beginning of `document` that takes at most `window` bytes of UTF-8, and a note if that is not all.

    It ends with a sentence where one ends in its second half, else with a word.
    """
    raw = document.text.encode()
    if len(raw) <= window:
        return document, None
    head = raw[:window].decode(errors="ignore")
    ends = [match.end() for match in re.finditer(r"[.!?](?=\s)|\n\n", head)]
    end = ends[-1] if ends and ends[-1] > len(head) // 2 else head.rfind(" ")
    kept = head[:end].rstrip() if end > 0 else head
    note = f"it reads the first {len(kept):,} of {len(document.text):,} characters"
    return replace(document, text=kept), note


def _own_text() -> Document:
    try:
        text = import_module("pydoc_data.topics").topics[_TOPIC]
    except (ImportError, KeyError):
        message = "this Python comes without its language reference"
        raise Refusal(message, help="give the path of a text file") from None
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Document(f"the chapter {_TOPIC!r} of the Python {version} language reference", readable(text))


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(LIMIT_BYTES + 1)


def _paragraph(paragraph: str) -> str:
    lines = [line.rstrip() for line in textwrap.dedent(paragraph).splitlines()]
    lines = [line for line in lines if any(character.isalnum() for character in line)]
    if any(_LIST_ITEM.match(line) for line in lines[1:]):
        return "\n".join(lines)
    return re.sub(r"\s+", " ", " ".join(lines))
