"""A streamed input that several read, and read again: whole, or with the error that ended it."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

__all__ = ("AsyncInput", "AsyncReplay", "Input", "Replay")

_EXHAUSTED = object()


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
    """`Input` for tasks."""

    def __init__(self, inputs: AsyncIterator[Any]) -> None:
        self._inputs = inputs
        self.error: BaseException | None = None
        """What ended the input, if it did not end by itself. It is nobody's failure who reads it."""

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if self.error is not None:
            raise self.error
        try:
            return await anext(self._inputs)
        except StopAsyncIteration:
            raise
        except asyncio.CancelledError:
            # Thrown into the input's generator, it has ended that as well: what follows is lost, and must not be taken
            # for the end by whoever reads on.
            self.error = RuntimeError("the streamed input was cut off: a reader was cancelled while it waited for more")
            raise
        except BaseException as error:
            self.error = error
            raise


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
        self._inputs = AsyncInput(inputs)
        self._read: list[Any] = []
        self._lock = asyncio.Lock()

    @property
    def error(self) -> BaseException | None:
        """What ended the input, if it did not end by itself."""
        return self._inputs.error

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
