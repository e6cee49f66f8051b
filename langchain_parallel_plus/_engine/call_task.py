"""A task for calls that outlive whoever waits for them.

A cancellation that reaches a generator ends it, and so nobody who may be cancelled can wait inside the input of others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus._engine.ending import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ("CallTask",)

_NOTHING: Any = object()


class CallTask(Coroutine[Any, Any, None]):
    """Runs calls one after another, all in one task and one context: a copy of that in which this was made.

    Whoever begins a call runs it up to its first wait in place, but as this task: a call that never waits costs no
    switch, and one that does has seen the same task from its beginning to its end, which timeouts and cancel scopes
    need. From its first wait on the task itself goes on with it.

    This is the task's coroutine too: a native one could not take over a call that has begun, nor hear of a cancellation
    before its own first step.

    Args:
        ended: Told what a call has returned, or what it has raised.
    """

    def __init__(self, ended: Callable[[Any, BaseException | None], None]) -> None:
        self._ended = ended
        self._context = copy_context()
        self._task: asyncio.Task[None] | None = None
        self._call: Coroutine[Any, Any, Any] | None = None
        self.busy = False
        """Whether a call has begun and not ended."""
        self._first_wait: Any = _NOTHING
        self._idle: asyncio.Future[None] | None = None
        self._wanted = True

    @property
    def cancelled(self) -> bool:
        """Whether the task has been cancelled: by `aclose`, or by somebody who ends all tasks of the loop."""
        return self._task is not None and (self._task.cancelled() or self._task.cancelling() > 0)

    def begin(self, call: Coroutine[Any, Any, Any]) -> None:
        """Begin a call, while none is busy; it may have ended when this returns."""
        loop = asyncio.get_running_loop()
        if self._task is None or self._task.done():
            self._task = loop.create_task(self, context=self._context)
        self._call, self.busy = call, True
        asking, task = asyncio.current_task(loop), self._task
        if asking is not None:
            asyncio._leave_task(loop, asking)
        asyncio._enter_task(loop, task)
        try:
            waits_for, _ = self._context.run(self._advance, call.send, None)
        finally:
            asyncio._leave_task(loop, task)
            if asking is not None:
                asyncio._enter_task(loop, asking)
        if self.busy:
            self._first_wait = waits_for
            self._wake()

    def end(self) -> None:
        """Let the task end by itself: no call will be begun any more."""
        self._wanted = False
        self._wake()

    async def aclose(self) -> None:
        """Cancel the call that is busy, if any, and wait for the task's end."""
        self.end()
        task = self._task
        if task is None:
            return
        await cancel_and_wait([task])
        if task.done() and not task.cancelled():
            task.exception()  # was told to `ended`

    def send(self, value: Any, /) -> Any:
        """Go on until the next wait: the task calls this."""
        waits_for, self._first_wait = self._first_wait, _NOTHING
        if waits_for is not _NOTHING:
            return waits_for
        return self._wait_for_a_call() if self._call is None else self._go_on(self._call.send, None)

    def throw(self, error: Any, value: Any = None, traceback: Any = None, /) -> Any:
        """Go on with an error: the task calls this."""
        waits_for, self._first_wait = self._first_wait, _NOTHING
        if self._call is None:
            raise error
        if waits_for is not _NOTHING and waits_for is not None and waits_for.cancel():
            return waits_for  # cancelled before the task could wait for it, which would have cancelled it
        return self._go_on(self._call.throw, error)

    def close(self) -> None:
        """Close the call that is busy."""
        if self._call is not None:
            self._call.close()

    def __await__(self) -> Generator[Any, Any, None]:
        raise NotImplementedError("only a task runs this")

    def _go_on(self, step: Callable[[Any], Any], argument: Any) -> Any:
        waits_for, error = self._advance(step, argument)
        if self.busy:
            return waits_for
        if error is not None and self._is_the_tasks(error):
            raise error
        return self._wait_for_a_call()

    def _advance(self, step: Callable[[Any], Any], argument: Any) -> tuple[Any, BaseException | None]:
        """Run the call until it waits or ends; return what it waits for, or what it has raised."""
        try:
            return step(argument), None
        except StopIteration as end:
            self._call, self.busy = None, False
            self._ended(end.value, None)
            return None, None
        except BaseException as error:
            self._call, self.busy = None, False
            self._ended(None, error)
            return None, error

    def _is_the_tasks(self, error: BaseException) -> bool:
        """Return whether the task has to raise it as well: its own cancellation, and what ends the loop."""
        if isinstance(error, asyncio.CancelledError):
            return self.cancelled
        return isinstance(error, KeyboardInterrupt | SystemExit)

    def _wait_for_a_call(self) -> Any:
        if not self._wanted:
            raise StopIteration
        self._idle = asyncio.get_running_loop().create_future()
        return next(self._idle.__await__())

    def _wake(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
