"""Streams as tasks: one queue for all branches, so that a chunk costs the same however many branches there are.

Upstream waits on all branches anew for every chunk (`asyncio.wait`), which makes a chunk O(branches).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus._engine.pump import CHUNK, END, ERROR

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextvars import Context

    from langchain_parallel_plus._engine.capacity import Permit
    from langchain_parallel_plus._engine.consumer import Lending
    from langchain_parallel_plus._engine.holdups import Holdups
    from langchain_parallel_plus._engine.pump import Item, Kind

__all__ = ("Inbox", "TaskPump")


class Inbox:
    """What the pumps of one stream have produced, in the order in which it came."""

    __slots__ = ("_items", "_loop", "_ready")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._items: deque[Item] = deque()
        self._ready: asyncio.Future[None] | None = None

    def put(self, item: Item) -> None:
        """Add an item and wake the consumer."""
        self._items.append(item)
        self._wake()

    async def get(self, until: float | None) -> Item:
        """Return the next item; raise `TimeoutError` once the loop's clock shows `until`."""
        if until is not None and self._loop.time() >= until:
            raise TimeoutError  # also where a busy stream always has a next chunk ready
        if not self._items:
            self._ready = self._loop.create_future()
            timer = None if until is None else self._loop.call_at(until, self._wake)
            try:
                await self._ready
            finally:
                self._ready = None
                if timer is not None:
                    timer.cancel()
        if not self._items:
            raise TimeoutError
        return self._items.popleft()

    def _wake(self) -> None:
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)


class TaskPump:
    """Runs a stream in a task, one chunk ahead of its consumer; see `ThreadPump`."""

    __slots__ = (
        "_ahead",
        "_holdups",
        "_inbox",
        "_index",
        "_lending",
        "_on_start",
        "_open",
        "_outstanding",
        "_permit",
        "_room",
        "task",
    )

    def __init__(
        self,
        index: int,
        open_stream: Callable[[], AsyncIterator[Any]],
        inbox: Inbox,
        permit: Permit | None = None,
        on_start: Callable[[], None] | None = None,
        *,
        ahead: bool = True,
        lending: Lending | None = None,
        holdups: Holdups | None = None,
    ) -> None:
        self._index = index
        self._open = open_stream
        self._inbox = inbox
        self._permit = permit
        self._on_start = on_start
        self._ahead = ahead
        self._lending = lending
        self._holdups = holdups
        self._outstanding = False
        self._room: asyncio.Future[None] | None = None
        self.task: asyncio.Task[None] | None = None

    def start(self, context: Context, on_end: Callable[[], None]) -> None:
        """Produce all chunks in a task of `context`; call `on_end` outside of it when the task is over."""
        self.task = asyncio.get_running_loop().create_task(self._run(), context=context)
        self.task.add_done_callback(lambda _: on_end())

    def ack(self) -> None:
        """Say that the consumer is done with a chunk: there is room for the next."""
        self._outstanding = False
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    async def _run(self) -> None:
        try:
            if self._permit is not None:
                await self._permit.aacquire()
            if self._on_start is not None:
                self._on_start()
            await self._produce(self._open())
        except Exception as error:  # carried to the consumer
            self._end(ERROR, error)
        except BaseException as error:
            self._end(ERROR, error)
            raise
        else:
            self._end(END)

    def _end(self, kind: Kind, error: BaseException | None = None) -> None:
        if self._holdups is not None:
            self._holdups.begin()  # its end is told when the consumer hears of it
        self._inbox.put((self._index, kind, error))

    async def _produce(self, stream: AsyncIterator[Any]) -> None:
        try:
            async for chunk in stream:
                _heed_cancellation()
                if self._ahead and self._outstanding:
                    await self._await_room()
                if self._lending is not None:
                    self._lending.lend()
                self._outstanding = True
                self._inbox.put((self._index, CHUNK, chunk))
                if not self._ahead:
                    await self._await_room()
                if self._lending is not None:
                    await self._lending.aregain()
        finally:
            if hasattr(stream, "aclose"):
                await stream.aclose()

    async def _await_room(self) -> None:
        self._room = asyncio.get_running_loop().create_future()
        if self._holdups is None:
            await self._room
            return
        self._holdups.begin()
        await self._room
        self._holdups.end()


def _heed_cancellation() -> None:
    """Raise a cancellation that the stream has swallowed.

    `asyncio.wait_for`, which clients put around each chunk, does so before Python 3.12 when the chunk has just come.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
