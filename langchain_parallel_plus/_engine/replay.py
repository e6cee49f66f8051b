"""A streamed input that several read, and read again: whole, or with the error that ended it."""

from __future__ import annotations

import asyncio
import threading
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus._engine.call_task import CallTask

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

__all__ = ("AsyncInput", "AsyncReplay", "Input", "Replay")

_EXHAUSTED = object()
_NOTHING: Any = object()


class Input:
    """An input that raises the error that ended it to everybody who reads on.

    A generator raises only once and then looks as if it had ended: whoever asks next would take half an input for all.
    """

    def __init__(self, inputs: Iterator[Any]) -> None:
        self._inputs = inputs
        self.error: BaseException | None = None
        """What ended the input, if it did not end by itself. It is nobody's failure who reads it."""

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self.error is not None:
            raise self.error
        try:
            return next(self._inputs)
        except StopIteration:
            raise
        except BaseException as error:
            self.error = error
            raise


class AsyncInput:
    """`Input` for tasks, read by a task of its own, for one reader at a time.

    A reader that is cancelled only stops waiting: thrown into the input, its cancellation would end it for everybody.
    What was being read then goes to whoever asks next. Nothing is read that nobody has asked for.

    Whoever makes one awaits `aend` when nobody reads any more. (It is not named `aclose`, because `Tee` would call that
    as soon as all branches have closed their copies.)
    """

    def __init__(self, inputs: AsyncIterator[Any]) -> None:
        self._inputs = inputs
        self._calls = CallTask(self._take)
        self._item: Any = _NOTHING
        self._over = False
        self._arrived: asyncio.Future[None] | None = None
        self.error: BaseException | None = None
        """What ended the input, if it did not end by itself. It is nobody's failure who reads it."""

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        calls = self._calls
        if self._item is _NOTHING and not self._over and not calls.busy:
            calls.begin(_next(self._inputs))
        if calls.busy:
            self._arrived = asyncio.get_running_loop().create_future()
            await self._arrived
        if self._item is not _NOTHING:
            item, self._item = self._item, _NOTHING
            return item
        if self.error is not None:
            raise self.error
        raise StopAsyncIteration

    async def aend(self) -> None:
        """End the reading, and close the input."""
        await self._calls.aclose()
        if not self._calls.busy and hasattr(self._inputs, "aclose"):
            await self._inputs.aclose()

    def _take(self, item: Any, error: BaseException | None) -> None:
        if error is None:
            self._item = item
        else:
            self._over = True
            self.error = self._failure(error)
            self._calls.end()
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    def _failure(self, ending: BaseException) -> BaseException | None:
        """Return what everybody is to see who reads on."""
        if isinstance(ending, StopAsyncIteration):
            return None
        if isinstance(ending, asyncio.CancelledError) and self._calls.cancelled:
            # By whoever ends this, or all tasks of the loop: what follows is lost, and must not be taken for the end.
            return RuntimeError("the streamed input was cut off: the task that read it was cancelled")
        return ending


async def _next(inputs: AsyncIterator[Any]) -> Any:
    return await anext(inputs)


class Replay:
    """Keeps what was read, so that it can be read again; reads on only when somebody needs more."""

    def __init__(self, inputs: Iterator[Any]) -> None:
        self._inputs = Input(inputs)
        self._read: list[Any] = []
        self._lock = threading.Lock()

    @property
    def error(self) -> BaseException | None:
        """What ended the input, if it did not end by itself."""
        return self._inputs.error

    @property
    def waits(self) -> bool:
        """Whether somebody waits for more of the input."""
        return self._lock.locked()

    def again(self) -> Iterator[Any]:
        """Yield the whole input."""
        position = 0
        while True:
            if position == len(self._read):
                with self._lock:  # an attempt that was left behind may still be reading
                    if position == len(self._read):
                        item = next(self._inputs, _EXHAUSTED)
                        if item is _EXHAUSTED:
                            return
                        self._read.append(item)
            yield self._read[position]
            position += 1

    def whole(self) -> Any:
        """Return the input added up, as a call takes it."""
        return _added(list(self.again()))


class AsyncReplay:
    """`Replay` for tasks."""

    def __init__(self, inputs: AsyncIterator[Any]) -> None:
        self._inputs = AsyncInput(inputs)
        self._read: list[Any] = []
        self._lock = asyncio.Lock()

    @property
    def error(self) -> BaseException | None:
        """What ended the input, if it did not end by itself."""
        return self._inputs.error

    @property
    def waits(self) -> bool:
        """Whether somebody waits for more of the input."""
        return self._lock.locked()

    async def again(self) -> AsyncGenerator[Any, None]:
        """Yield the whole input."""
        position = 0
        while True:
            if position == len(self._read):
                async with self._lock:
                    if position == len(self._read):
                        item = await anext(self._inputs, _EXHAUSTED)
                        if item is _EXHAUSTED:
                            return
                        self._read.append(item)
            yield self._read[position]
            position += 1

    async def whole(self) -> Any:
        """Return the input added up, as a call takes it."""
        return _added([item async for item in self.again()])

    async def aclose(self) -> None:
        """End the reading, and close the input."""
        await self._inputs.aend()


def _added(items: list[Any]) -> Any:
    try:
        return reduce(add, items) if items else None
    except TypeError:  # as langchain-core does with what cannot be added
        return items[-1]
