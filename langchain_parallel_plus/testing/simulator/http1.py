"""The part of HTTP/1.1 that a loopback API server needs, as pure functions over bytes.

Bodies must have a Content-Length: every HTTP client sends one for a JSON body.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = (
    "CONTINUE",
    "MAX_BODY",
    "Ending",
    "Frame",
    "FramingError",
    "Head",
    "HttpRequest",
    "Reply",
    "parse_head",
    "wire_frames",
)

MAX_BODY = 8 * 1024 * 1024
"""Longest request body in bytes; a longer one is refused with 413."""

_MAX_HEAD = 64 * 1024

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
"""What a client that sent `Expect: 100-continue` waits for before it sends its body."""


Ending = Literal["whole", "cut", "reset", "never"]
"""How a response ends: as HTTP asks; with the connection closed, or reset, in the middle of it; or not at all."""


class FramingError(Exception):
    """The bytes are no request that this server reads; the connection ends after the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class Head:
    """A request's first lines."""

    method: str
    path: str
    """Without the query."""
    headers: Mapping[str, str]
    """By lower-case name."""
    size: int
    """Bytes of the head itself."""
    body_size: int
    keep_alive: bool


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One whole request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Frame(NamedTuple):
    """A piece of a response body and how long to wait before it is sent."""

    delay: float
    """Seconds."""
    data: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """A response as data: what to send, and when."""

    status: int
    headers: tuple[tuple[str, str], ...]
    frames: tuple[Frame, ...]
    """The head goes out with the first; without any, nothing is sent."""
    chunked: bool = False
    """Whether the frames are sent as chunks (streaming) instead of one body of known length."""
    ended: Callable[[bool], None] | None = None
    """Called once, with True right before the last bytes are sent, or with False when the client has left."""
    ending: Ending = "whole"
    drop_after: float = 0.0
    """Seconds from the last frame to a cut or a reset."""
    announced: int | None = None
    """The Content-Length to send; by default that of the frames."""


def parse_head(buffer: bytes | bytearray) -> Head | None:
    """Read a request head from the start of `buffer`, or return None if more bytes are needed.

    Raises:
        FramingError: If the bytes are no HTTP/1 request head, or announce a body that is not read (413, 411).
    """
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        if len(buffer) > _MAX_HEAD:
            raise FramingError(431, f"The request head is longer than {_MAX_HEAD} bytes.")
        return None
    first, *lines = buffer[:end].decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or parts[2] not in ("HTTP/1.1", "HTTP/1.0"):
        raise FramingError(400, "The request line is not HTTP/1.1.")
    headers = _headers(lines)
    connection = headers.get("connection", "").lower()
    return Head(
        method=parts[0],
        path=parts[1].partition("?")[0],
        headers=headers,
        size=end + 4,
        body_size=_body_size(headers),
        keep_alive="close" not in connection and (parts[2] == "HTTP/1.1" or "keep-alive" in connection),
    )


def wire_frames(reply: Reply, *, keep_alive: bool) -> Iterator[Frame]:
    """Yield the bytes of a response with their delays: the head together with the first frame, chunks framed.

    A cut or a reset is a last frame without bytes; a response that never ends has none.
    """
    head = _encode_head(reply, keep_alive=keep_alive)
    final = len(reply.frames) - 1 if reply.ending == "whole" else None
    for position, (delay, data) in enumerate(reply.frames):
        payload = _encode_chunk(data, last=position == final) if reply.chunked else data
        yield Frame(delay, head + payload if position == 0 else payload)
    if reply.ending in ("cut", "reset"):
        yield Frame(reply.drop_after, b"")


def _encode_head(reply: Reply, *, keep_alive: bool) -> bytes:
    body_size = sum(len(frame.data) for frame in reply.frames) if reply.announced is None else reply.announced
    lines = [
        f"HTTP/1.1 {reply.status} {_phrase(reply.status)}",
        *(f"{name}: {value}" for name, value in reply.headers),
        "transfer-encoding: chunked" if reply.chunked else f"content-length: {body_size}",
        f"connection: {'keep-alive' if keep_alive else 'close'}",
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def _encode_chunk(data: bytes, *, last: bool) -> bytes:
    return b"%x\r\n%b\r\n%b" % (len(data), data, b"0\r\n\r\n" if last else b"")


def _headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        name, value = name.lower(), value.strip()
        if not colon or not name or name != name.strip():
            raise FramingError(400, "A request header has no name or no colon.")
        if name == "content-length" and headers.get(name, value) != value:
            raise FramingError(400, "The request has two different Content-Length headers.")
        headers[name] = value
    return headers


def _body_size(headers: Mapping[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise FramingError(411, "The simulator reads bodies with a Content-Length only.")
    text = headers.get("content-length", "0")
    if not (text.isascii() and text.isdigit()):
        raise FramingError(400, "The Content-Length is not a number.")
    # Twenty digits say enough; int() refuses thousands of them with an error of its own.
    if len(text) > 20 or int(text) > MAX_BODY:
        raise FramingError(413, f"The request body is longer than {MAX_BODY} bytes.")
    return int(text)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Status"  # 529 and other codes that only providers use
