"""Calls in threads that can be left behind: whole ones, and streams."""

from __future__ import annotations

from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus._engine.abandonment import refuse_when_abandoned
from langchain_parallel_plus._engine.cancel import CancelToken
from langchain_parallel_plus._engine.chunk_watch import LATER, ChunkWatch
from langchain_parallel_plus._engine.clock import SYSTEM, Clock
from langchain_parallel_plus._engine.context import EnteredContext
from langchain_parallel_plus._engine.holdups import Holdups
from langchain_parallel_plus._engine.pump import CHUNK, ERROR, EXHAUSTED, Item, ThreadPump
from langchain_parallel_plus._engine.workers import WORKERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_core.runnables import RunnableConfig

    from langchain_parallel_plus._engine.guarded import GuardedCall
    from langchain_parallel_plus._engine.machine import Call

__all__ = ("Job", "Source")


class Job:
    """Work in another thread, which may be left behind."""

    def __init__(
        self, run: GuardedCall, call: Call, config: RunnableConfig, work: Callable[[], Any], clock: Clock
    ) -> None:
        self._run = run
        self._call = call
        self._clock = clock
        self._token = CancelToken(run.scope.token)
        self._inbox: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        self.time = run.time_of(call)
        entered = EnteredContext(config, run.scope_for(call, self._token, self.time))
        refuse_when_abandoned(entered.context)
        inbox, token = self._inbox, self._token

        def job() -> None:
            output, error = None, None
            try:
                output = entered.context.run(work)
            except BaseException as raised:  # carried to the waiting thread
                error = raised
            entered.leave()
            if token.cancelled:
                entered.context.run(run.came_late, call, error)
            inbox.put((output, error))

        self._token.subscribe(lambda: inbox.put((None, run.given_up())))
        WORKERS.submit(job)

    def wait(self, within: float | None = None) -> Any:
        """Return what the work returns.

        Args:
            within: Raise `queue.Empty` if it takes longer than so many seconds of its time.

        Raises:
            BranchTimeoutError: It has taken longer than it may.
            BranchAbandonedError: It was left behind.
        """
        while True:
            slow = () if within is None else (self.time.at(within),)
            try:
                with WORKERS.waiting_for_children():
                    output, error = self._clock.get(self._inbox, self.time.until(*slow))
            except Empty:
                if self.time.over() is not None:
                    raise self._run.timed_out(self._call, self.time) from None
                if within is not None and self.time.passed(within):
                    raise
                continue  # its time has stood still
            if error is not None:
                raise error
            return output

    def close(self) -> None:
        """Leave the work behind, if it has not ended."""
        self._token.close()
        self._token.cancel()


class Source:
    """One call's chunks, in a context of its own; in another thread if this one must be able to leave it."""

    def __init__(
        self,
        guard: GuardedCall,
        call: Call,
        config: RunnableConfig,
        open_stream: Callable[[], Iterator[Any]],
        clock: Clock = SYSTEM,
        *,
        hedged: bool,
    ) -> None:
        self._guard = guard
        self._call = call
        self._clock = clock
        self._open = open_stream
        self._stream: Iterator[Any] | None = None
        self._pump: ThreadPump | None = None
        self._inbox: SimpleQueue[Item] = SimpleQueue()
        leaves = hedged or guard.limits(call)
        self._token = CancelToken(guard.scope.token) if leaves else None
        self._time = guard.time_of(call) if leaves or guard.is_observed(call) else None
        self._entered = EnteredContext(config, guard.scope_for(call, self._token, self._time))
        self._context = self._entered.context
        self._watch = ChunkWatch(guard, call, self._context, self._time)
        self.holdups = Holdups(guard.scope.now) if leaves and guard.scope.heard else None
        """Of its stream, where chunks are made ahead."""
        refuse_when_abandoned(self._context)

    @property
    def stands(self) -> bool:
        """Whether a model call in it waits for a limiter."""
        return self._time is not None and self._time.stands

    def next(self, within: float | None = None) -> Any:
        """Return the next chunk, or `EXHAUSTED`, or `LATER` if it does not come within so many seconds.

        Raises:
            BranchTimeoutError: The call has taken longer than it may.
        """
        if self._token is not None:
            return self._next_in_time(self._token, within)
        if self._stream is None:
            self._stream = self._context.run(self._open)
        return self._context.run(next, self._stream, EXHAUSTED)

    def _next_in_time(self, token: CancelToken, within: float | None) -> Any:
        watch = self._watch
        if not watch.waits:
            if watch.ask():
                self._start(token)
            elif self._pump is not None:
                self._pump.ack()
        while True:
            try:
                with WORKERS.waiting_for_children():
                    _, kind, content = self._clock.get(self._inbox, watch.until(within))
            except Empty:
                if (error := watch.over()) is not None:
                    self.leave()
                    raise error from None
                if watch.slow(within):
                    return LATER
                continue  # a callback has refreshed the time, or it has stood still
            watch.got()
            if kind is ERROR:
                raise content
            return content if kind is CHUNK else EXHAUSTED

    def _start(self, token: CancelToken) -> None:
        ahead = self._guard.scope.permit is None  # else both sides would work under one permit
        self._pump = ThreadPump(
            0, self._context, self._open, self._inbox, self._entered.leave, self._came_late, ahead=ahead,
            holdups=self.holdups,
        )  # fmt: skip
        token.subscribe(lambda: self._inbox.put((0, ERROR, self._guard.given_up())))
        WORKERS.submit(self._pump.run)

    def _came_late(self, error: BaseException | None) -> None:
        self._context.copy().run(self._guard.came_late, self._call, error)

    def leave(self) -> None:
        """Let nobody wait for a chunk any more."""
        if self._pump is not None:
            self._pump.leave()
        if self._token is not None:
            self._token.close()
            self._token.cancel()

    def close(self) -> None:
        """Want no more chunks."""
        self.leave()
        if self._pump is not None:
            self._pump.close()
            return
        if self._stream is not None and hasattr(self._stream, "close"):
            self._context.run(self._stream.close)
        self._entered.leave()
