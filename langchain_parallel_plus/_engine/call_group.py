"""Calls that run while more are added: what a batch is if its inputs arrive one by one."""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus._engine.batches import Item, anext_item, next_item, outcome_of, scope_of_calls
from langchain_parallel_plus._engine.branches import blocking_scope
from langchain_parallel_plus._engine.clock import SYSTEM
from langchain_parallel_plus._engine.ending import cancel_and_wait
from langchain_parallel_plus._engine.scope import current_scope
from langchain_parallel_plus._engine.workers import WORKERS
from langchain_parallel_plus.errors import BranchAbandonedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from langchain_core.runnables import RunnableConfig

    from langchain_parallel_plus._engine.capacity import Capacity

__all__ = ("AsyncCallGroup", "CallGroup")


class CallGroup:
    """Calls in worker threads. Whoever makes a group closes it, and with it whatever still runs.

    Args:
        config: Its `max_concurrency` is the cap for what runs below the calls.
        capacity: In its place, a cap that they share with others.
    """

    def __init__(self, config: RunnableConfig, capacity: Capacity | None = None) -> None:
        self._outer = blocking_scope()
        scope = scope_of_calls(config, self._outer, SYSTEM.now)
        self._scope = scope if capacity is None else replace(scope, capacity=capacity)
        self._inbox: SimpleQueue[Item] = SimpleQueue()
        self._outputs: dict[int, Any] = {}
        self._added = 0
        self._given_up = BranchAbandonedError("calls were given up: the fan-out around them had ended")
        self._scope.token.subscribe(lambda: self._inbox.put((-1, None, self._given_up)))

    def add(self, call: Callable[[], Any]) -> None:
        """Start a call."""
        index, inbox = self._added, self._inbox
        self._added += 1
        context = copy_context()
        context.run(current_scope.set, self._scope)
        WORKERS.submit(lambda: inbox.put((index, *outcome_of(lambda: context.run(call)))))

    def check(self) -> None:
        """Raise the error of a call that has failed by now."""
        try:
            while True:
                self._take(self._inbox.get_nowait())
        except Empty:
            return

    def outputs(self) -> list[Any]:
        """Wait for all calls and return their outputs in the order in which they were added.

        Raises:
            BaseException: The first error in time; the other calls go on until the group is closed.
        """
        while len(self._outputs) < self._added:
            self._take(next_item(self._inbox, self._outer))
        return [self._outputs[index] for index in range(self._added)]

    def close(self) -> None:
        """Give up what still runs: its next model call is refused."""
        self._scope.token.close()
        self._scope.token.cancel()

    def _take(self, item: Item) -> None:
        index, output, error = item
        if error is not None:
            raise error
        self._outputs[index] = output


class AsyncCallGroup:
    """`CallGroup` with tasks."""

    def __init__(self, config: RunnableConfig, capacity: Capacity | None = None) -> None:
        self._outer = current_scope.get()
        scope = scope_of_calls(config, self._outer, asyncio.get_running_loop().time)
        self._scope = scope if capacity is None else replace(scope, capacity=capacity)
        self._inbox: asyncio.Queue[Item] = asyncio.Queue()
        self._outputs: dict[int, Any] = {}
        self._tasks: list[asyncio.Task[Any]] = []

    def add(self, call: Callable[[], Awaitable[Any]]) -> None:
        """Start a call."""

        async def run() -> Any:
            return await call()

        context = copy_context()
        context.run(current_scope.set, self._scope)
        task = asyncio.get_running_loop().create_task(run(), context=context)
        task.add_done_callback(partial(self._ended, len(self._tasks)))
        self._tasks.append(task)

    def check(self) -> None:
        """Raise the error of a call that has failed by now."""
        while not self._inbox.empty():
            self._take(self._inbox.get_nowait())

    async def outputs(self) -> list[Any]:
        """Wait for all calls and return their outputs in the order in which they were added.

        Raises:
            BaseException: The first error in time; the other calls go on until the group is closed.
        """
        while len(self._outputs) < len(self._tasks):
            self._take(await anext_item(self._inbox, self._outer))
        return [self._outputs[index] for index in range(len(self._tasks))]

    async def aclose(self) -> None:
        """Cancel what still runs, and wait until it has cleaned up."""
        self._scope.token.close()
        self._scope.token.cancel()
        await cancel_and_wait(self._tasks)

    def _ended(self, index: int, task: asyncio.Task[Any]) -> None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        self._inbox.put_nowait((index, None if error is not None else task.result(), error))

    def _take(self, item: Item) -> None:
        index, output, error = item
        if error is not None:
            raise error
        self._outputs[index] = output
