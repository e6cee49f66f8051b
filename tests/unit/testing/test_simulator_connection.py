"""One connection of the simulator, on virtual time and without a socket."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from langchain_parallel_plus.testing.simulator.connection import Connection
from langchain_parallel_plus.testing.simulator.http1 import Frame, FramingError, Reply

GET = b"GET /%d HTTP/1.1\r\n\r\n"


class Wire(asyncio.Transport):
    """A transport that remembers what was written, and when."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()
        self.written: list[tuple[float, bytes]] = []
        self.closed_at: float | None = None
        self.aborted_at: float | None = None
        self.reading = True

    def write(self, data):
        self.written.append((self.loop.time(), bytes(data)))

    def close(self):
        self.closed_at = self.loop.time()

    def abort(self):
        self.aborted_at = self.loop.time()

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True

    @property
    def bodies(self) -> list[tuple[float, bytes]]:
        """The bodies of the replies, without heads."""
        return [(at, re.sub(rb"HTTP.*?\r\n\r\n", b"", data, flags=re.DOTALL)) for at, data in self.written]


class Server:
    """A connection with its wire, and a reply of two frames to each request."""

    def __init__(self, *frames: Frame, **reply: Any) -> None:
        self.reply = reply
        self.ends: list[tuple[bytes, bool]] = []
        self.frames = frames
        self.open: set[Connection] = set()
        self.wire = Wire()
        self.connection = Connection(self._respond, self._refuse, self.open)
        self.connection.connection_made(self.wire)

    def _respond(self, request):
        name = request.path[1:].encode()
        frames = tuple(Frame(delay, name + data) for delay, data in self.frames)
        return Reply(200, (), frames, ended=lambda delivered: self.ends.append((name, delivered)), **self.reply)

    def _refuse(self, error: FramingError):
        return Reply(error.status, (), (Frame(0, b"refused"),))


@pytest.mark.looptime
async def test_frames_are_sent_after_their_delays():
    """The first delay counts from the request, each next one from the frame before."""
    server = Server(Frame(2, b"a"), Frame(0, b"b"), Frame(3, b"c"))
    server.connection.data_received(GET % 1)
    await asyncio.sleep(10)
    assert server.wire.bodies == [(2, b"1a1b"), (5, b"1c")]
    assert server.ends == [(b"1", True)]


@pytest.mark.looptime
async def test_requests_are_answered_in_order():
    """The next one starts when the one before is answered."""
    server = Server(Frame(2, b"a"))
    server.connection.data_received(GET % 1 + GET % 2 + GET[:5])
    await asyncio.sleep(3)
    server.connection.data_received((GET % 3)[5:])
    await asyncio.sleep(10)
    assert server.wire.bodies == [(2, b"1a"), (4, b"2a"), (6, b"3a")]


@pytest.mark.looptime
async def test_a_client_that_does_not_read_is_waited_for():
    """Nothing is written while the transport is full, and nothing is lost."""
    server = Server(Frame(1, b"a"), Frame(1, b"b"), Frame(1, b"c"))
    server.connection.data_received(GET % 1)
    await asyncio.sleep(1.5)
    server.connection.pause_writing()
    await asyncio.sleep(8.5)
    assert server.wire.bodies == [(1, b"1a")]
    server.connection.resume_writing()
    await asyncio.sleep(10)
    assert server.wire.bodies == [(1, b"1a"), (10, b"1b"), (11, b"1c")]
    assert server.ends == [(b"1", True)]


@pytest.mark.looptime
@pytest.mark.parametrize("after", [0.5, 1.5])
async def test_a_client_that_leaves_ends_its_reply(after):
    """Once, as not delivered, and the timer is gone."""
    server = Server(Frame(1, b"a"), Frame(1, b"b"))
    server.connection.data_received(GET % 1)
    await asyncio.sleep(after)
    written = len(server.wire.written)
    server.connection.connection_lost(None)
    await asyncio.sleep(10)
    assert (server.ends, len(server.wire.written), server.open) == ([(b"1", False)], written, set())


@pytest.mark.looptime
async def test_a_flood_of_requests_is_not_read_ahead_for_ever():
    """Reading stops while one is answered, and goes on afterwards."""
    server = Server(Frame(1, b"a"))
    server.connection.data_received(GET % 1)
    server.connection.data_received(b"POST /2 HTTP/1.1\r\nContent-Length: 2000000\r\n\r\n" + b" " * 1_200_000)
    assert not server.wire.reading
    await asyncio.sleep(2)
    assert server.wire.reading
    server.connection.data_received(b" " * 800_000)
    await asyncio.sleep(2)
    assert server.wire.bodies == [(1, b"1a"), (3, b"2a")]


@pytest.mark.looptime
async def test_a_refused_client_may_finish_sending():
    """What it sends is thrown away, and the connection is closed a little later."""
    server = Server(Frame(0, b"a"))
    server.connection.data_received(b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n" + b" " * 1000)
    server.connection.data_received(GET % 1)
    await asyncio.sleep(10)
    assert server.wire.bodies == [(0, b"refused")]
    assert server.wire.closed_at == 5
    assert server.ends == []


@pytest.mark.looptime
async def test_a_cut_closes_the_connection_after_what_was_sent():
    """And no further request is answered, whatever the client asked for."""
    server = Server(Frame(1, b"a"), Frame(1, b"b"), chunked=True, ending="cut", drop_after=0.5)
    server.connection.data_received(GET % 1 + GET % 2)
    await asyncio.sleep(10)
    assert server.wire.bodies == [(1, b"2\r\n1a\r\n"), (2, b"2\r\n1b\r\n")]
    assert (server.wire.closed_at, server.wire.aborted_at, server.ends) == (2.5, None, [(b"1", True)])


@pytest.mark.looptime
async def test_a_reset_sends_nothing_and_throws_the_connection_away():
    """When the answer would have started."""
    server = Server(ending="reset", drop_after=2)
    server.connection.data_received(GET % 1)
    await asyncio.sleep(10)
    assert (server.wire.written, server.wire.closed_at, server.wire.aborted_at) == ([], None, 2)
    assert server.ends == [(b"1", True)]


@pytest.mark.looptime
@pytest.mark.parametrize("frames", [(), (Frame(1, b"a"),)])
async def test_what_never_ends_waits_for_the_client(frames):
    """Also after a first part, and while further requests come."""
    server = Server(*frames, chunked=True, ending="never")
    server.connection.data_received(GET % 1)
    await asyncio.sleep(1_000)
    server.connection.data_received(GET % 2)
    server.connection.pause_writing()
    server.connection.resume_writing()
    assert (len(server.wire.written), server.wire.closed_at, server.ends) == (len(frames), None, [])
    server.connection.connection_lost(None)
    assert server.ends == [(b"1", False)]
