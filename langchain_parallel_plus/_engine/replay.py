"""A streamed input that can be read again from its start, for attempts after the first."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

__all__ = ("AsyncReplay", "Replay")

_EXHAUSTED = object()


class Replay:
    """Keeps what was read, so that it can be read again; reads on only when somebody needs more."""

    def __init__(self, inputs: Iterator[Any]) -> None:
        self._inputs = inputs
        self._read: list[Any] = []
        self._lock = threading.Lock()

    def again(self) -> Iterator[Any]:
        """Yield the whole input."""
        position = 0
        while True:
            with self._lock:  # an attempt that was left behind may still be reading
                if position == len(self._read):
                    item = next(self._inputs, _EXHAUSTED)
                    if item is _EXHAUSTED:
                        return
                    self._read.append(item)
            yield self._read[position]
            position += 1


class AsyncReplay:
    """`Replay` for tasks."""

    def __init__(self, inputs: AsyncIterator[Any]) -> None:
        self._inputs = inputs
        self._read: list[Any] = []
        self._lock = asyncio.Lock()

    async def again(self) -> AsyncGenerator[Any, None]:
        """Yield the whole input."""
        position = 0
        while True:
            async with self._lock:
                if position == len(self._read):
                    item = await anext(self._inputs, _EXHAUSTED)
                    if item is _EXHAUSTED:
                        return
                    self._read.append(item)
            yield self._read[position]
            position += 1
