"""Streams: one branch's chunks on their way to the merged stream, with back-pressure."""

from __future__ import annotations

import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Literal

from langchain_parallel_plus._engine.chunks import Streamed
from langchain_parallel_plus._engine.workers import WORKERS
from langchain_parallel_plus.outcome import FanOutDict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextvars import Context

    from langchain_parallel_plus._engine.fan_out import FanOutRun
    from langchain_parallel_plus._engine.replay import AsyncInput, Input
    from langchain_parallel_plus._engine.scope import Scope

__all__ = ("CHUNK", "END", "ERROR", "EXHAUSTED", "Held", "Item", "ThreadPump", "later", "pulling")

Kind = Literal["chunk", "end", "error"]
CHUNK: Kind = "chunk"
END: Kind = "end"
ERROR: Kind = "error"
Item = tuple[int, Kind, Any]
"""Which stream, what, and the chunk or the error."""

_CLOSE_SECONDS = 5.0
"""How long the end of a stream waits for generators that are between two chunks to close."""

EXHAUSTED: Any = object()
"""In place of a chunk: there are no more."""


def later(until: float | None, seconds: float) -> float | None:
    """Return a time limit without the seconds that the stream's consumer has taken: they are no branch's."""
    return None if until is None else until + seconds


class Held:
    """Decides what of a branch's stream the caller may see, and when; keeps all of it for whoever asks at the end."""

    def __init__(self, run: FanOutRun, source: Input | AsyncInput) -> None:
        self._run = run
        self._source = source
        self._holding = run.fan_out.judges
        self._chunks: dict[int, list[Any]] = {}

    def chunk(self, index: int, chunk: Any) -> Iterable[FanOutDict]:
        """Take in a chunk: it goes on at once, unless only whole outputs can be judged."""
        self._chunks.setdefault(index, []).append(chunk)
        return () if self._holding else (self._keyed(index, chunk),)

    def ended(self, index: int) -> Iterable[FanOutDict]:
        """Take in the end of a branch's stream."""
        chunks = self._chunks.get(index, [])
        self._run.succeeded(index, Streamed(chunks))
        if not self._run.has_output(index):
            return self._failure(index)
        return [self._keyed(index, chunk) for chunk in chunks] if self._holding else ()

    def failed(self, index: int, error: BaseException) -> Iterable[FanOutDict]:
        """Take in the error that ended a branch's stream."""
        if error is self._source.error:  # the input's failure, and so the whole fan-out's
            self._run.interrupt(error)
            return ()
        self._run.failed(index, error, Streamed(self._chunks.get(index, [])).whole)
        return self._failure(index)

    def expired(self) -> Iterable[FanOutDict]:
        """Take in that the deadline has passed."""
        before = self._run.failed_branches
        self._run.expire()
        return [chunk for index in self._run.failed_branches - before for chunk in self._failure(index)]

    def _failure(self, index: int) -> Iterable[FanOutDict]:
        delivered = index in self._chunks and not self._holding
        return (FanOutDict(self._run.failure_chunk(index)),) if self._run.kept(index, delivered=delivered) else ()

    def _keyed(self, index: int, chunk: Any) -> FanOutDict:
        return FanOutDict({self._run.fan_out.branches[index].key: chunk})


class Pulling:
    """An input that a branch reads without its permit: what it waits for there is other branches' work."""

    def __init__(self, inputs: Iterator[Any], scope: Scope) -> None:
        self._inputs = inputs
        self._scope = scope

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        with self._scope.suspended():
            item = next(self._inputs, EXHAUSTED)
        if item is EXHAUSTED:
            raise StopIteration
        return item


def pulling(inputs: Iterator[Any], scope: Scope) -> Iterator[Any]:
    """Return `inputs` as a branch may read them."""
    return inputs if scope.permit is None else Pulling(inputs, scope)


class ThreadPump:
    """Runs a stream in a worker thread, one chunk ahead of its consumer.

    The next chunk is produced while the consumer has the last one; it is handed over when the consumer is done.
    """

    __slots__ = ("_closed", "_context", "_ended", "_inbox", "_index", "_on_end", "_open", "_parked", "_room")

    def __init__(
        self,
        index: int,
        context: Context,
        open_stream: Callable[[], Iterator[Any]],
        inbox: SimpleQueue[Item],
        on_end: Callable[[], None],
    ) -> None:
        self._index = index
        self._context = context
        self._open = open_stream
        self._inbox = inbox
        self._on_end = on_end
        self._room: SimpleQueue[None] = SimpleQueue()
        self._room.put(None)
        self._closed = False
        self._parked = False
        self._ended = threading.Event()

    def ack(self) -> None:
        """Say that the consumer is done with a chunk: there is room for the next."""
        self._room.put(None)

    def close(self) -> None:
        """Want no more chunks; wait for a generator that stands between two chunks to be closed.

        One that is busy is left behind: it is closed when its next chunk is there.
        """
        self._closed = True
        self._room.put(None)
        give_up = time.monotonic() + _CLOSE_SECONDS
        while self._parked and not self._ended.wait(0.01) and time.monotonic() < give_up:
            pass  # it may have gone on to its next chunk in this very moment: then it is busy

    def run(self) -> None:
        """Produce all chunks, in the worker thread."""
        error: BaseException | None = None
        try:
            self._produce(self._context.run(self._open))
        except BaseException as raised:  # carried to the consumer's thread
            error = raised
        self._on_end()
        if not self._closed:  # nobody reads on, and what lay in the inbox would live as long as the caller's exception
            self._inbox.put((self._index, END, None) if error is None else (self._index, ERROR, error))
        self._ended.set()

    def _produce(self, stream: Iterator[Any]) -> None:
        try:
            while (chunk := self._context.run(next, stream, EXHAUSTED)) is not EXHAUSTED:
                self._parked = True
                with WORKERS.waiting_for_children():  # a consumer that takes its time holds up no other fan-out
                    self._room.get()
                if self._closed:
                    break
                self._parked = False
                self._inbox.put((self._index, CHUNK, chunk))
        finally:
            if hasattr(stream, "close"):
                self._context.run(stream.close)
