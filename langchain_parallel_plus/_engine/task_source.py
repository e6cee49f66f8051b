"""A stream as one call under a policy: its chunks, from a task with a context of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus._engine.cancel import CancelToken
from langchain_parallel_plus._engine.chunk_watch import LATER, ChunkWatch
from langchain_parallel_plus._engine.context import EnteredContext
from langchain_parallel_plus._engine.ending import cancel_and_wait
from langchain_parallel_plus._engine.holdups import Holdups
from langchain_parallel_plus._engine.pump import CHUNK, ERROR, EXHAUSTED
from langchain_parallel_plus._engine.task_pump import Inbox, TaskPump

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from langchain_core.runnables import RunnableConfig

    from langchain_parallel_plus._engine.guarded import GuardedCall
    from langchain_parallel_plus._engine.machine import Call

__all__ = ("Source", "attempt_token")


def attempt_token(guard: GuardedCall, *, leaves: bool) -> CancelToken | None:
    """Return what says that an attempt has ended, where it may end before its model calls, and limits ask for that."""
    return CancelToken(guard.scope.token) if leaves and guard.scope.limiters else None


class Source:
    """One call's chunks, from a task with a context of its own."""

    def __init__(
        self,
        guard: GuardedCall,
        call: Call,
        config: RunnableConfig,
        open_stream: Callable[[], AsyncIterator[Any]],
        inputs: AsyncGenerator[Any, None],
        *,
        hedged: bool,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._inputs = inputs
        self._inbox = Inbox(loop)
        self.holdups = Holdups(guard.scope.now) if guard.scope.heard else None
        """Of its stream: its chunks are made ahead."""
        self._pump = TaskPump(0, open_stream, self._inbox, ahead=guard.scope.permit is None, holdups=self.holdups)
        self._token = attempt_token(guard, leaves=True)
        timed = hedged or guard.limits(call) or guard.is_observed(call)
        self._time = guard.time_of(call) if timed else None
        self._entered = EnteredContext(config, guard.scope_for(call, self._token, self._time))
        self._watch = ChunkWatch(guard, call, self._entered.context, self._time)

    @property
    def stands(self) -> bool:
        """Whether a model call in it waits for a limiter."""
        return self._time is not None and self._time.stands

    async def next(self, within: float | None = None) -> Any:
        """Return the next chunk, or `EXHAUSTED`, or `LATER` if it does not come within so many seconds.

        Raises:
            BranchTimeoutError: The call has taken longer than it may; it is cancelled.
        """
        watch = self._watch
        if not watch.waits:
            if watch.ask():
                self._pump.start(self._entered.context, self._entered.leave)
            else:
                self._pump.ack()
        while True:
            try:
                _, kind, content = await self._inbox.get(watch.until(within))
            except TimeoutError:
                if (error := watch.over()) is not None:
                    raise error from None
                if watch.slow(within):
                    return LATER
                continue  # a callback has refreshed the time, or it has stood still
            watch.got()
            if kind is ERROR:
                raise content
            return content if kind is CHUNK else EXHAUSTED

    async def aclose(self) -> None:
        """Want no more chunks: cancel what produces them, and wait until it has cleaned up."""
        if self._pump.task is not None:
            await cancel_and_wait([self._pump.task])
        if self._token is not None:
            self._token.close()
            self._token.cancel()
        await self._inputs.aclose()
