"""A blocking call inside an async run: in one of this package's threads, and not in the event loop's few."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus._engine.abandonment import refuse_when_abandoned
from langchain_parallel_plus._engine.scope import current_scope
from langchain_parallel_plus._engine.workers import WORKERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_parallel_plus._engine.capacity import Permit
    from langchain_parallel_plus._engine.scope import Scope

__all__ = ("in_worker",)


async def in_worker(call: Callable[[], Any]) -> Any:
    """Run `call` in a worker thread, in a copy of this task's context; a cancelled task leaves the thread behind."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    context = copy_context()
    refuse_when_abandoned(context)
    ended = threading.Event()
    left_behind: list[Permit] = []

    def settle(output: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(output)
        elif isinstance(error, StopIteration):  # a future cannot carry it: it would hang its waiter
            future.set_exception(RuntimeError("the branch raised StopIteration"))
        else:
            future.set_exception(error)

    def job() -> None:
        output, error = None, None
        try:
            output = context.run(call)
        except BaseException as raised:  # carried to the waiting task
            error = raised
        ended.set()
        _release(left_behind)
        with suppress(RuntimeError):  # the loop has closed: nobody waits any more
            loop.call_soon_threadsafe(settle, output, error)

    WORKERS.submit(job)
    try:
        return await future
    except asyncio.CancelledError:
        left_behind.extend(_leave_behind(current_scope.get()))
        if ended.is_set():
            _release(left_behind)
        raise


def _leave_behind(scope: Scope | None) -> list[Permit]:
    """Return what keeps a thread counted under the cap when its fan-out has ended; a timeout's threads are not."""
    if scope is None or scope.permit is None or not scope.token.cancelled:
        return []
    left = scope.permit.leave_behind()
    return [] if left is None else [left]


def _release(permits: list[Permit]) -> None:
    for permit in permits:
        permit.release()
