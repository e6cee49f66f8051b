"""The bytes of HTTP/1.1: what is a request, and how a reply is framed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_parallel_plus.testing.simulator.http1 import (
    MAX_BODY,
    Frame,
    FramingError,
    Reply,
    parse_head,
    wire_frames,
)


def head(*lines: str, first: str = "POST /v1/chat/completions HTTP/1.1") -> bytes:
    """Return the bytes of a request head."""
    return "\r\n".join([first, *lines, "", ""]).encode("latin-1")


def test_a_head_is_read_with_its_body_size():
    """Names are lower-case, the query is cut off, the body is not part of the head."""
    parsed = parse_head(head("Content-Length: 12", "X-A:  b ", first="POST /v1/x?y=1 HTTP/1.1") + b"body")
    assert (parsed.method, parsed.path, parsed.body_size) == ("POST", "/v1/x", 12)
    assert parsed.headers == {"content-length": "12", "x-a": "b"}
    assert parsed.size == len(head("Content-Length: 12", "X-A:  b ", first="POST /v1/x?y=1 HTTP/1.1"))


def test_half_a_head_waits_for_more():
    """Every proper prefix is incomplete, not wrong."""
    whole = head("Host: x", "Content-Length: 3")
    assert all(parse_head(whole[:length]) is None for length in range(len(whole)))


@pytest.mark.parametrize(
    ("version", "connection", "expected"),
    [
        ("HTTP/1.1", None, True),
        ("HTTP/1.1", "close", False),
        ("HTTP/1.1", "Keep-Alive", True),
        ("HTTP/1.0", None, False),
        ("HTTP/1.0", "keep-alive", True),
    ],
)
def test_a_connection_is_kept_as_its_client_asks(version, connection, expected):
    """HTTP/1.1 keeps, 1.0 closes, the header decides."""
    lines = () if connection is None else (f"Connection: {connection}",)
    assert parse_head(head(*lines, first=f"GET / {version}")).keep_alive is expected


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (head(first="nonsense"), 400),
        (head(first="GET / HTTP/2"), 400),
        (head("no colon here"), 400),
        (head(": no name"), 400),
        (head("Content-Length : 5"), 400),
        (head("Content-Length: five"), 400),
        (head("Content-Length: -5"), 400),
        (head("Content-Length: 5", "Content-Length: 6"), 400),
        (head("Transfer-Encoding: chunked"), 411),
        (head(f"Content-Length: {MAX_BODY + 1}"), 413),
        (head("Content-Length: " + "9" * 5000), 413),
        (b"a" * 70_000, 431),
    ],
)
def test_what_is_no_request_is_refused_with_a_status(raw, status):
    """The statuses are those of the HTTP standard."""
    with pytest.raises(FramingError) as caught:
        parse_head(raw)
    assert caught.value.status == status


def test_the_largest_body_is_allowed():
    """The bound itself is not too long."""
    assert parse_head(head(f"Content-Length: {MAX_BODY}")).body_size == MAX_BODY


def test_a_whole_reply_has_a_length():
    """The head travels with the body, after its delay."""
    (frame,) = wire_frames(Reply(429, (("retry-after", "1"),), (Frame(0.5, b"{}"),)), keep_alive=True)
    assert frame.delay == 0.5
    assert frame.data == (
        b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\n{}"
    )


def test_a_streamed_reply_is_chunked():
    """Each frame is a chunk with its own delay; the last one ends the body."""
    reply = Reply(200, (), (Frame(0.5, b"a"), Frame(0.1, b"b" * 16)), chunked=True)
    first, second = wire_frames(reply, keep_alive=False)
    assert first == Frame(0.5, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n1\r\na\r\n")
    assert second == Frame(0.1, b"10\r\n" + b"b" * 16 + b"\r\n0\r\n\r\n")


def test_a_status_without_a_name_can_be_sent():
    """Providers use codes such as 529."""
    (frame,) = wire_frames(Reply(529, (), (Frame(0, b""),)), keep_alive=True)
    assert frame.data.startswith(b"HTTP/1.1 529 ")


@pytest.mark.parametrize(("ending", "drops"), [("cut", [Frame(3.0, b"")]), ("reset", [Frame(3.0, b"")]), ("never", [])])
def test_a_reply_that_does_not_end_well_has_no_end(ending, drops):
    """No last chunk; a body shorter than announced; and nothing at all without frames."""
    stream = Reply(200, (), (Frame(0, b"a"),), chunked=True, ending=ending, drop_after=3.0)
    first, *rest = wire_frames(stream, keep_alive=True)
    assert (first.data.endswith(b"\r\n\r\n1\r\na\r\n"), rest) == (True, drops)
    whole = Reply(200, (), (Frame(0, b"half"),), ending=ending, drop_after=3.0, announced=8)
    assert b"content-length: 8\r\n" in next(wire_frames(whole, keep_alive=True)).data
    assert list(wire_frames(Reply(0, (), (), ending=ending, drop_after=3.0), keep_alive=True)) == drops


@given(st.binary(max_size=300) | st.text(alphabet="GET /:\r\n 1.HTPLenghtCo-5", max_size=300).map(str.encode))
def test_any_bytes_are_read_or_refused(data):
    """No client breaks the server."""
    for raw in (data, data + b"\r\n\r\n", b"GET / HTTP/1.1\r\n" + data + b"\r\n\r\n"):
        try:
            parsed = parse_head(raw)
        except FramingError:
            continue
        assert parsed is None or (parsed.size <= len(raw) and 0 <= parsed.body_size <= MAX_BODY)
