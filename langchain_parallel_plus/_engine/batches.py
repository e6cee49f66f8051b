"""Batches of whole runs: every item at once, or as many as the one cap of the tree lets work."""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from langchain_parallel_plus._engine.branches import capacity_for
from langchain_parallel_plus._engine.cancel import CancelToken
from langchain_parallel_plus._engine.capacity import Permit
from langchain_parallel_plus._engine.clock import SYSTEM
from langchain_parallel_plus._engine.scope import Scope, Tally, current_scope
from langchain_parallel_plus._engine.tasks import cancel_and_wait
from langchain_parallel_plus._engine.workers import WORKERS
from langchain_parallel_plus.errors import BranchAbandonedError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator

    from langchain_core.runnables import RunnableConfig

__all__ = ("acompleted", "completed")

_FIRST = 32
_PATIENCE = 0.01

Item = tuple[int, Any, BaseException | None]
"""Which input, its output, or its error."""


def _scope(config: RunnableConfig, outer: Scope | None, now: Callable[[], float]) -> Scope:
    """Return the scope that the items of a batch share: one cap for all of them."""
    left = outer.remaining() if outer is not None else None
    return Scope(
        path=outer.path if outer is not None else (),
        run_id=uuid4(),
        token=CancelToken(outer.token if outer is not None else None),
        now=now,
        deadline=None if left is None else now() + left,
        limiters=outer.limiters if outer is not None else (),
        weight=outer.weight if outer is not None else 1.0,
        capacity=capacity_for(config, outer),
    )


def completed(
    calls: list[Callable[[], Any]], config: RunnableConfig, *, leaves: bool = False
) -> Generator[Item, None, None]:
    """Run the calls in worker threads and yield what each ends as, in the order in which they end.

    `leaves` says that the calls work by themselves and not through branches, so that each needs a permit.
    """
    outer = current_scope.get()
    scope = _scope(config, outer, SYSTEM.now)
    inbox: SimpleQueue[Item] = SimpleQueue()

    def start(index: int) -> None:
        context = copy_context()
        item = _item(scope, leaves)
        context.run(current_scope.set, item)

        _submit(item, lambda: inbox.put((index, *_outcome(lambda: context.run(calls[index])))))

    given_up = BranchAbandonedError("a batch was given up: the fan-out around it had ended")
    scope.token.subscribe(lambda: inbox.put((-1, None, given_up)))
    window = Window(len(calls), scope.capacity.limit if scope.capacity is not None else None)
    started = 0
    try:
        for done in range(len(calls)):
            item = None
            while item is None:
                while started < min(done + window.width, len(calls)):
                    start(started)
                    started += 1
                item = _next(inbox, outer, None if started == len(calls) or window.fixed else _PATIENCE)
                if item is None:
                    window.widen()
            if item[0] < 0:
                raise given_up
            yield item
    finally:
        scope.token.close()
        scope.token.cancel()


def _item(scope: Scope, leaves: bool) -> Scope:
    if scope.capacity is None or not leaves:
        return scope
    return replace(scope, permit=Permit(scope.capacity), tally=Tally())


def _submit(item: Scope, work: Callable[[], None]) -> None:
    """Run `work` in a worker thread, if it is a leaf once it may run; not if the batch has ended by then."""
    permit = item.permit
    if permit is None:
        WORKERS.submit(work)
        return

    def job() -> None:
        if not item.token.cancelled:
            work()
        permit.release()

    permit.request(lambda: WORKERS.submit(job))


class Window:
    """How many items of a batch to have under way.

    Under a cap: as many as there are permits; more would only wait. Without one: all of them, but not in one go.
    Items that are quick are done faster by a few threads than by a thousand, so more are started only when, for a
    moment, none has ended.
    """

    def __init__(self, items: int, cap: int | None) -> None:
        self.fixed = cap is not None
        self.width = min(items, _FIRST if cap is None else cap)

    def widen(self) -> None:
        """Nothing has ended for a while: the items block, and more of them can wait at the same time."""
        self.width *= 2


def _next(inbox: SimpleQueue[Item], outer: Scope | None, patience: float | None) -> Item | None:
    """Return the next item, or `None` if none has ended within `patience` seconds."""
    try:
        if outer is None:
            return inbox.get(timeout=patience)
        with outer.suspended(), WORKERS.waiting_for_children():
            return inbox.get(timeout=patience)
    except Empty:
        return None


def _outcome(work: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return work(), None
    except BaseException as error:  # carried to the caller's thread
        return None, error


async def acompleted(
    calls: list[Callable[[], Awaitable[Any]]], config: RunnableConfig, *, leaves: bool = False
) -> AsyncGenerator[Item, None]:
    """Run the calls as tasks and yield what each ends as, in the order in which they end; see `completed`."""
    outer = current_scope.get()
    loop = asyncio.get_running_loop()
    scope = _scope(config, outer, loop.time)
    inbox: asyncio.Queue[Item] = asyncio.Queue()
    tasks: set[asyncio.Task[Any]] = set()

    def ended(index: int, task: asyncio.Task[Any]) -> None:
        tasks.discard(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        inbox.put_nowait((index, None if error is not None else task.result(), error))

    def start(index: int) -> None:
        context = copy_context()
        item = _item(scope, leaves)
        context.run(current_scope.set, item)
        task = loop.create_task(_run(calls[index], item.permit), context=context)
        tasks.add(task)
        task.add_done_callback(partial(ended, index))

    started = len(calls) if scope.capacity is None else min(len(calls), scope.capacity.limit)
    try:
        for index in range(started):
            start(index)
        for _ in calls:
            item = await _anext(inbox, outer)
            if started < len(calls):
                start(started)
                started += 1
            yield item
    finally:
        scope.token.close()
        scope.token.cancel()
        await cancel_and_wait(tuple(tasks))


async def _run(call: Callable[[], Awaitable[Any]], permit: Permit | None) -> Any:
    if permit is None:
        return await call()
    await permit.aacquire()
    try:
        return await call()
    finally:
        permit.release()


async def _anext(inbox: asyncio.Queue[Item], outer: Scope | None) -> Item:
    if outer is None:
        return await inbox.get()
    async with outer.asuspended():
        return await inbox.get()
