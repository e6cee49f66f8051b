"""Batches of whole runs: every item at once, or as many as the one cap of the tree lets work."""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from langchain_parallel_plus._engine.branches import blocking_scope, capacity_for
from langchain_parallel_plus._engine.breath import breath
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

__all__ = ("Item", "acompleted", "anext_item", "completed", "next_item", "outcome_of", "scope_of_calls")

Item = tuple[int, Any, BaseException | None]
"""Which input, its output, or its error."""


def scope_of_calls(config: RunnableConfig, outer: Scope | None, now: Callable[[], float]) -> Scope:
    """Return the scope that calls share which run at once: one cap for all of them."""
    left = outer.remaining() if outer is not None else None
    return Scope(
        path=outer.path if outer is not None else (),
        run_id=outer.run_id if outer is not None else uuid4(),
        token=CancelToken(outer.token if outer is not None else None),
        now=now,
        deadline=None if left is None else now() + left,
        limiters=outer.limiters if outer is not None else (),
        weight=outer.weight if outer is not None else 1.0,
        capacity=capacity_for(config, outer),
        at_once=outer is not None and outer.at_once,
        fan_out=outer.fan_out if outer is not None else "",
        followers=outer.followers if outer is not None else (),
        time=outer.time if outer is not None else None,
        tally=Tally(None if outer is None else outer.unit),  # what its calls run belongs to the branch around
    )


def completed(
    calls: list[Callable[[], Any]], config: RunnableConfig, *, leaves: bool = False
) -> Generator[Item, None, None]:
    """Run the calls in worker threads and yield what each ends as, in the order in which they end.

    `leaves` says that the calls work by themselves and not through branches, so that each needs a permit.
    """
    outer = blocking_scope()
    scope = scope_of_calls(config, outer, SYSTEM.now)
    inbox: SimpleQueue[Item] = SimpleQueue()

    def start(index: int) -> None:
        context = copy_context()
        item = _item(scope, leaves)
        context.run(current_scope.set, item)

        _submit(item, lambda: inbox.put((index, *outcome_of(lambda: context.run(calls[index])))))

    given_up = BranchAbandonedError("a batch was given up: the fan-out around it had ended")
    scope.token.subscribe(lambda: inbox.put((-1, None, given_up)))
    under_way = len(calls) if scope.capacity is None else min(len(calls), scope.capacity.limit)
    try:
        for index in range(under_way):
            start(index)
        for done in range(len(calls)):
            item = next_item(inbox, outer)
            if item[0] < 0:
                raise given_up
            if under_way + done < len(calls):
                start(under_way + done)
            yield item
    finally:
        scope.token.close()
        scope.token.cancel()


def _item(scope: Scope, leaves: bool) -> Scope:
    if scope.capacity is None or not leaves:
        return scope
    return replace(scope, permit=Permit(scope.capacity), tally=Tally(scope.unit))


def _submit(item: Scope, work: Callable[[], None]) -> None:
    """Run `work` in a worker thread, if it is a leaf once it may run; not if the batch has ended by then.

    Branches go before items: then a few items are taken to their ends, where all would be begun and none done.
    """
    permit = item.permit

    def job() -> None:
        if not item.token.cancelled:
            work()
        if permit is not None:
            permit.release()

    if permit is None:
        WORKERS.submit(job, patient=True)
    else:
        permit.request(lambda: WORKERS.submit(job, patient=True))


def next_item(inbox: SimpleQueue[Item], outer: Scope | None) -> Item:
    """Wait in this thread for what a call ends as, and hold no permit meanwhile."""
    if outer is None:
        return inbox.get()
    with outer.suspended(), WORKERS.waiting_for_children():
        return inbox.get()


def outcome_of(work: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """Return what `work` returns, or what it raises."""
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
    scope = scope_of_calls(config, outer, loop.time)
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
            await breath(index)
            start(index)
        for _ in calls:
            item = await anext_item(inbox, outer)
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


async def anext_item(inbox: asyncio.Queue[Item], outer: Scope | None) -> Item:
    """Wait in this task for what a call ends as, and hold no permit meanwhile."""
    if outer is None:
        return await inbox.get()
    async with outer.asuspended():
        return await inbox.get()
