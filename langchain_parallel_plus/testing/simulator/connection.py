"""One client connection: reads requests, performs replies frame by frame with loop timers, keeps the socket alive."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING

from langchain_parallel_plus.testing.simulator.http1 import (
    CONTINUE,
    Ending,
    Frame,
    FramingError,
    Head,
    HttpRequest,
    Reply,
    parse_head,
    wire_frames,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("Connection",)

_LINGER = 5.0
"""Seconds in which a refused client may finish sending, so that it reads the refusal and not a connection reset."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: what is unsent is thrown away, and the peer gets an RST."""

_READ_AHEAD = 1024 * 1024
"""Bytes of further requests that are kept while one is being answered."""


class Connection(asyncio.Protocol):
    """A keep-alive HTTP/1.1 connection without tasks: a waiting reply costs one timer.

    Args:
        respond: Decides the reply to a request; must return at once.
        refuse: Words the reply to bytes that are no request.
        open_connections: The connection is in this set while it is open.
    """

    def __init__(
        self,
        respond: Callable[[HttpRequest], Reply],
        refuse: Callable[[FramingError], Reply],
        open_connections: set[Connection],
    ) -> None:
        self._respond = respond
        self._refuse = refuse
        self._open = open_connections
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._head: Head | None = None
        self._reply: Reply | None = None
        self._frames: deque[Frame] = deque()
        self._waited = False
        self._keep_alive = True
        self._refused = False
        self._congested = False
        self._timer: asyncio.TimerHandle | None = None

    def abort(self) -> None:
        """Close the socket at once, whatever is being sent."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start reading."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer and report a reply that nobody waits for any more."""
        self._open.discard(self)
        self.closed.set_result(None)
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        reply, self._reply = self._reply, None
        if reply is not None and reply.ended is not None:
            reply.ended(False)

    def data_received(self, data: bytes) -> None:
        """Take in bytes and answer as many whole requests as they hold, one after the other."""
        if self._refused:
            return
        self._buffer += data
        if self._reply is None:
            self._advance()
        elif len(self._buffer) > _READ_AHEAD and self._transport is not None:
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        """Hold further frames back: the client does not read as fast as they come."""
        self._congested = True

    def resume_writing(self) -> None:
        """Go on sending."""
        self._congested = False
        # A timer that is running continues by itself.
        if self._reply is not None and self._timer is None:
            self._continue()

    def _advance(self) -> None:
        while self._reply is None and self._keep_alive and self._transport is not None:
            try:
                request = self._take()
            except FramingError as error:
                self._refused, self._keep_alive = True, False
                self._buffer.clear()
                self._begin(self._refuse(error))
                return
            if request is None:
                self._transport.resume_reading()
                return
            self._begin(self._respond(request))

    def _take(self) -> HttpRequest | None:
        if self._head is None:
            self._head = parse_head(self._buffer)
            if self._head is None:
                return None
            if self._head.headers.get("expect", "").lower() == "100-continue":
                self._write(CONTINUE)
        head, end = self._head, self._head.size + self._head.body_size
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[head.size : end])
        del self._buffer[:end]
        self._head, self._keep_alive = None, head.keep_alive
        return HttpRequest(head.method, head.path, head.headers, body)

    def _begin(self, reply: Reply) -> None:
        self._reply = reply
        self._waited = False
        self._frames.extend(wire_frames(reply, keep_alive=self._keep_alive))
        self._send()

    def _tick(self) -> None:
        self._timer = None
        self._waited = True
        self._continue()

    def _continue(self) -> None:
        self._send()
        self._advance()

    def _send(self) -> None:
        out: list[bytes] = []
        while self._frames and not self._congested:
            if self._frames[0].delay > 0 and not self._waited:
                self._timer = self._loop.call_later(self._frames[0].delay, self._tick)
                break
            out.append(self._frames.popleft().data)
            self._waited = False
        ending = self._end_reply() if not self._frames else None
        self._write(b"".join(out))
        if ending == "reset":
            self._reset()
        elif self._reply is None and not self._keep_alive:
            self._hang_up()

    def _end_reply(self) -> Ending | None:
        reply = self._reply
        if reply is None or reply.ending == "never":
            return None
        self._reply = None
        # Before the last write: whoever reads the answer finds it in the tally.
        if reply.ended is not None:
            reply.ended(True)
        if reply.ending != "whole":
            self._keep_alive = False
        return reply.ending

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None:
            self._transport.write(data)

    def _reset(self) -> None:
        if self._transport is None:
            return
        connected = self._transport.get_extra_info("socket")
        if connected is not None:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()

    def _hang_up(self) -> None:
        if self._transport is None:
            return
        if self._refused:
            self._timer = self._loop.call_later(_LINGER, self._transport.close)
        else:
            self._transport.close()
