"""The one streamed input of all branches: whoever needs the next item reads it, as work of its own."""

from __future__ import annotations

import asyncio
import threading
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from langchain_core.utils.aiter import Tee as AsyncTee
from langchain_core.utils.iter import Tee

from langchain_parallel_plus._engine.pump import EXHAUSTED
from langchain_parallel_plus._engine.scope import Scope, current_scope

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from langchain_parallel_plus._engine.replay import AsyncInput

__all__ = ("AsyncReading", "Reading", "ashared", "shared")


class Reading:
    """An input read in the context of the fan-out, with the slot of the branch that reads.

    What makes the input may itself be a fan-out further up the chain. It belongs to the work around both, and not to
    the branch that happens to read first: that one may time out or fail while its siblings read on. So it counts as
    work of the branch around, for which the reader stands back meanwhile.

    Args:
        inputs: The input.
        scope: The work around the fan-out, if that has a scope.
    """

    def __init__(self, inputs: Iterator[Any], scope: Scope | None) -> None:
        self._inputs = inputs
        self._scope = scope
        self._context = copy_context()
        self._context.run(current_scope.set, scope)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        reader, owner = current_scope.get(), self._scope
        if reader is None or reader.permit is None or owner is None or owner.permit is None:
            return self._context.run(next, self._inputs)
        reader.permit.work_for(owner.permit)
        try:
            owner.permit.ensure(owner.token, first=True)
            item = self._context.run(next, self._inputs, EXHAUSTED)
        finally:
            owner.permit.work_for(reader.permit)
        reader.permit.ensure(reader.token, first=True)
        if item is EXHAUSTED:
            raise StopIteration
        return item


class AsyncReading:
    """`Reading` for tasks; the input has a task of its own, and so its own context."""

    def __init__(self, inputs: AsyncInput, scope: Scope | None) -> None:
        self._inputs = inputs
        self._scope = scope

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        reader, owner = current_scope.get(), self._scope
        if reader is None or reader.permit is None or owner is None or owner.permit is None:
            return await anext(self._inputs)
        reader.permit.work_for(owner.permit)
        try:
            await owner.permit.aensure(first=True)
            item = await anext(self._inputs, EXHAUSTED)
        finally:
            owner.permit.work_for(reader.permit)
        await reader.permit.aensure(first=True)
        if item is EXHAUSTED:
            raise StopAsyncIteration
        return item


class _Turn:
    """A lock that is waited for without slot: whoever holds it may be waiting for others that need one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if self._lock.acquire(blocking=False):
            return
        reader = current_scope.get()
        if reader is None or reader.permit is None:
            self._lock.acquire()
            return
        with reader.permit.away():
            self._lock.acquire()
        try:
            reader.permit.ensure(reader.token, first=True)
        except BaseException:
            self._lock.release()
            raise

    def __exit__(self, *raised: object) -> None:
        self._lock.release()


class _AsyncTurn:
    """`_Turn` for tasks."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._users = 0
        """Who has the lock or waits for it: one that has just been released may be promised to a waiter."""

    async def __aenter__(self) -> None:
        self._users += 1
        try:
            await self._take(current_scope.get())
        except BaseException:
            self._users -= 1
            raise

    async def _take(self, reader: Scope | None) -> None:
        if self._users == 1 or reader is None or reader.permit is None:
            await self._lock.acquire()
            return
        with reader.permit.away():
            await self._lock.acquire()
        try:
            await reader.permit.aensure(first=True)
        except BaseException:
            self._lock.release()
            raise

    async def __aexit__(self, *raised: object) -> None:
        self._users -= 1
        self._lock.release()


def shared(inputs: Iterator[Any], readers: int) -> tuple[Iterator[Any], ...]:
    """Return the input once for every reader."""
    return tuple(Tee(inputs, readers, lock=_Turn()))


def ashared(inputs: AsyncIterator[Any], readers: int) -> tuple[AsyncIterator[Any], ...]:
    """Return the input once for every reader."""
    return tuple(AsyncTee(inputs, readers, lock=_AsyncTurn()))
