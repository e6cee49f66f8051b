"""A server on 127.0.0.1: one event loop in one daemon thread."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING

from langchain_parallel_plus.errors import ParallelPlusError
from langchain_parallel_plus.testing.simulator.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_parallel_plus.testing.simulator.http1 import FramingError, HttpRequest, Reply

__all__ = ("HOST", "LoopbackServer")

HOST = "127.0.0.1"

_BACKLOG = 2048
"""Connections that may arrive at once; the system's own bound (somaxconn) may be lower."""


class LoopbackServer:
    """Serves until it is stopped; starting raises what goes wrong in the caller's thread.

    Args:
        respond: Decides the reply to a request; runs on the server's thread.
        refuse: Words the reply to bytes that are no request.
        port: The port to listen on; 0 takes a free one.

    Raises:
        ParallelPlusError: If the port cannot be had.
    """

    def __init__(
        self, respond: Callable[[HttpRequest], Reply], refuse: Callable[[FramingError], Reply], *, port: int
    ) -> None:
        self._respond = respond
        self._refuse = refuse
        try:
            self._socket = socket.create_server((HOST, port), backlog=_BACKLOG)
        except OSError as error:
            raise ParallelPlusError(
                f"port {port} on {HOST} cannot be used: {error.strerror or error}",
                help="port=0 takes a free port",
            ) from error
        self.port: int = self._socket.getsockname()[1]
        self._connections: set[Connection] = set()
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"provider-simulator-{self.port}", daemon=True)
        self._thread.start()
        self._ready.wait()

    def stop(self) -> None:
        """Close every socket and end the thread; returns when both are done."""
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()
            self._ready.set()

    async def _serve(self) -> None:
        server = await self._loop.create_server(
            lambda: Connection(self._respond, self._refuse, self._connections),
            sock=self._socket,
            backlog=_BACKLOG,
        )
        self._ready.set()
        await self._stopped.wait()
        # asyncio accepts each connection in a task of its own; closing before they end would leave them pending.
        while accepting := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(accepting)
        server.close()
        open_connections = tuple(self._connections)
        for connection in open_connections:
            connection.abort()
        # Aborted transports close their sockets in the loop's next turn, not now.
        await asyncio.gather(*(connection.closed for connection in open_connections))
        await server.wait_closed()
