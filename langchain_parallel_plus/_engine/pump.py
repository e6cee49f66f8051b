"""Streams: one branch's chunks on their way to the merged stream, with back-pressure."""

from __future__ import annotations

import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Literal

from langchain_parallel_plus._engine.chunks import Streamed
from langchain_parallel_plus._engine.end_marks import asked_marks
from langchain_parallel_plus._engine.workers import WORKERS
from langchain_parallel_plus.outcome import FanOutDict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextvars import Context

    from langchain_parallel_plus._engine.consumer import Lending
    from langchain_parallel_plus._engine.fan_out import FanOutRun
    from langchain_parallel_plus._engine.holdups import Holdups
    from langchain_parallel_plus._engine.replay import AsyncInput, Input

__all__ = ("ABANDONED", "CHUNK", "END", "ERROR", "EXHAUSTED", "EXPIRED", "Held", "Item", "ThreadPump", "later")

Kind = Literal["chunk", "end", "error", "expired", "abandoned"]
CHUNK: Kind = "chunk"
END: Kind = "end"
ERROR: Kind = "error"
Item = tuple[int, Kind, Any]
"""Which stream, what, and the chunk or the error."""

EXPIRED: Item = (-1, "expired", None)
"""In place of an item: none has come in time."""
ABANDONED: Item = (-1, "abandoned", None)
"""In place of an item: the work around the fan-out has been given up."""

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
        self._order = tuple(branch.key for branch in run.fan_out.branches)
        self._chunks: dict[int, list[Any]] = {}

    def take(self, item: Item) -> Sequence[FanOutDict]:
        """Take in what a branch's stream has brought; return what the caller may see now."""
        index, kind, content = item
        match kind:
            case "chunk":
                return self._chunk(index, content)
            case "end":
                return self._ended(index)
            case "error":
                return self._failed(index, content)
            case "expired":
                return self._expired()
            case "abandoned":
                raise self._run.abandoned()

    def _chunk(self, index: int, chunk: Any) -> Sequence[FanOutDict]:
        """It goes on at once, unless only whole outputs can be judged."""
        self._chunks.setdefault(index, []).append(chunk)
        return () if self._holding else (self._keyed(index, chunk),)

    def _ended(self, index: int) -> Sequence[FanOutDict]:
        chunks = self._chunks.get(index, [])
        self._run.succeeded(index, Streamed(chunks))
        if not self._run.has_output(index):
            return self._failure(index)
        held = [self._keyed(index, chunk) for chunk in chunks] if self._holding else []
        return [*held, *self._end_mark(index)]

    def _end_mark(self, index: int) -> Sequence[FanOutDict]:
        asked = asked_marks.get()
        if asked is None:
            return ()
        branches = tuple(branch.key for branch in self._run.fan_out.branches)
        return asked.mark(branches, index, self._run.scopes[index].capacity)

    def _failed(self, index: int, error: BaseException) -> Sequence[FanOutDict]:
        if error is self._source.error:  # the input's failure, and so the whole fan-out's
            self._run.interrupt(error)
            return ()
        self._run.failed(index, error, Streamed(self._chunks.get(index, [])).whole)
        return self._failure(index)

    def _expired(self) -> Sequence[FanOutDict]:
        before = self._run.failed_branches
        self._run.expire()
        return [chunk for index in self._run.failed_branches - before for chunk in self._failure(index)]

    def _failure(self, index: int) -> Sequence[FanOutDict]:
        delivered = index in self._chunks and not self._holding
        kept = self._run.kept(index, delivered=delivered)
        return (self._ordered(FanOutDict(self._run.failure_chunk(index))),) if kept else ()

    def _keyed(self, index: int, chunk: Any) -> FanOutDict:
        return self._ordered(FanOutDict({self._order[index]: chunk}))

    def _ordered(self, chunk: FanOutDict) -> FanOutDict:
        chunk.order = self._order
        return chunk


class ThreadPump:
    """Runs a stream in a worker thread, one chunk ahead of its consumer.

    The next chunk is produced while the consumer has the last one; it is handed over when the consumer is done. Not so
    (`ahead=False`) where both share a permit: the consumer is then working under this very one.
    """

    __slots__ = (
        "_ahead",
        "_closed",
        "_context",
        "_ended",
        "_holdups",
        "_inbox",
        "_index",
        "_left",
        "_lending",
        "_on_end",
        "_on_late",
        "_open",
        "_parked",
        "_room",
    )

    def __init__(
        self,
        index: int,
        context: Context,
        open_stream: Callable[[], Iterator[Any]],
        inbox: SimpleQueue[Item],
        on_end: Callable[[], None],
        on_late: Callable[[BaseException | None], None],
        *,
        ahead: bool = True,
        lending: Lending | None = None,
        holdups: Holdups | None = None,
    ) -> None:
        self._index = index
        self._context = context
        self._open = open_stream
        self._inbox = inbox
        self._on_end = on_end
        self._on_late = on_late
        self._ahead = ahead
        self._lending = lending
        self._holdups = holdups
        self._room: SimpleQueue[None] = SimpleQueue()
        if ahead:
            self._room.put(None)
        self._closed = False
        self._parked = False
        self._left = False
        self._ended = threading.Event()

    def ack(self) -> None:
        """Say that the consumer is done with a chunk: there is room for the next."""
        self._room.put(None)

    def leave(self) -> None:
        """Leave behind what is busy: its next chunk, or its end, comes late."""
        self._left = self._left or not (self._parked or self._ended.is_set())

    def close(self) -> None:
        """Want no more chunks; wait for a generator that stands between two chunks to be closed.

        One that is busy is left behind: it is closed when its next chunk is there.
        """
        self.leave()
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
        if self._left:
            self._on_late(error)
        if self._holdups is not None:
            self._holdups.begin()  # its end is told when the consumer hears of it
        if not self._closed:  # nobody reads on, and what lay in the inbox would live as long as the caller's exception
            self._inbox.put((self._index, END, None) if error is None else (self._index, ERROR, error))
        self._ended.set()

    def _produce(self, stream: Iterator[Any]) -> None:
        try:
            while (chunk := self._context.run(next, stream, EXHAUSTED)) is not EXHAUSTED:
                if not self._hand_over((self._index, CHUNK, chunk)):
                    break
        finally:
            if hasattr(stream, "close"):
                self._context.run(stream.close)

    def _hand_over(self, item: Item) -> bool:
        """Give the consumer a chunk; return whether it wants more."""
        self._parked = True
        if not self._ahead:
            if self._lending is not None:
                self._lending.lend()
            self._inbox.put(item)
        if self._holdups is not None:
            self._holdups.begin()
        self._await_room()
        if self._holdups is not None:
            self._holdups.end()
        if self._closed:
            return False
        if self._ahead:
            self._inbox.put(item)
        elif self._lending is not None:
            self._lending.regain()
        self._parked = False
        return True

    def _await_room(self) -> None:
        with WORKERS.waiting_for_children():  # a consumer that takes its time holds up no other fan-out
            self._room.get()
