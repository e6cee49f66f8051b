"""Blocking work inside async runs: in this package's threads instead of the event loop's few.

`Runnable.ainvoke` and a `RunnableLambda` of a plain function run in the loop's default executor, which has cpu + 4
threads for everything in the process: on two cores, 60 blocking branches go 6 at a time.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import threading
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import Runnable, RunnableLambda, RunnableSequence
from langchain_core.runnables.base import RunnableBinding
from langchain_core.runnables.config import call_func_with_variable_args

from langchain_parallel_plus._engine.abandonment import refuse_when_abandoned
from langchain_parallel_plus._engine.closing_steps import closing_binding, closing_sequence
from langchain_parallel_plus._engine.scope import current_scope
from langchain_parallel_plus._engine.workers import WORKERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.callbacks import AsyncCallbackManagerForChainRun
    from langchain_core.runnables import RunnableConfig

    from langchain_parallel_plus._engine.capacity import Permit
    from langchain_parallel_plus._engine.scope import Scope

__all__ = ("in_worker", "offloaded")


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


class _InWorker(Runnable[Any, Any]):
    """A runnable that has no async form of its own, called in a worker thread."""

    def __init__(self, step: Runnable[Any, Any]) -> None:
        self._step = step

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        return self._step.invoke(input, config, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        return await in_worker(lambda: self._step.invoke(input, config, **kwargs))


def offloaded(step: Runnable[Any, Any]) -> Runnable[Any, Any] | None:
    """Return `step` as async runs call it, or `None` if it is the same or cannot be taken apart.

    Its blocking parts run in worker threads, and its streams close what they read.
    """
    # Subclasses may have replaced what is relied on here, so only these very types are taken apart.
    kind = type(step)
    if isinstance(step, RunnableLambda) and kind is RunnableLambda:
        return _lambda(step)
    if isinstance(step, RunnableSequence) and kind is RunnableSequence:
        return closing_sequence(step, [offloaded(one) or one for one in step.steps])
    if isinstance(step, RunnableBinding) and kind is RunnableBinding:
        return closing_binding(step, offloaded(step.bound) or step.bound)
    if kind.ainvoke is Runnable.ainvoke and kind.atransform is Runnable.atransform and kind.astream is Runnable.astream:
        return _InWorker(step)
    return None


def _lambda(step: RunnableLambda[Any, Any]) -> Runnable[Any, Any] | None:
    func = getattr(step, "func", None)
    if func is None or hasattr(step, "afunc") or inspect.isgeneratorfunction(func):
        return None

    async def afunc(
        value: Any, run_manager: AsyncCallbackManagerForChainRun, config: RunnableConfig, **kwargs: Any
    ) -> Any:
        sync = run_manager.get_sync()
        return await in_worker(lambda: call_func_with_variable_args(func, value, config, sync, **kwargs))

    shadow = copy.copy(step)
    shadow.afunc = afunc
    return shadow
