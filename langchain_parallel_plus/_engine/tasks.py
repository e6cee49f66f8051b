"""The task driver: runs a fan-out's branches as asyncio tasks and leaves none behind."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus._engine.branches import RunningBranch, Surroundings
from langchain_parallel_plus._engine.breath import breath
from langchain_parallel_plus._engine.consumer import Consumer
from langchain_parallel_plus._engine.ending import cancel_and_wait
from langchain_parallel_plus._engine.fan_out import FanOut, FanOutRun
from langchain_parallel_plus._engine.holdups import holdups_of
from langchain_parallel_plus._engine.open_calls import end_calls
from langchain_parallel_plus._engine.owned import owning
from langchain_parallel_plus._engine.pump import ABANDONED, CHUNK, EXPIRED, Held, Item, later
from langchain_parallel_plus._engine.replay import AsyncInput
from langchain_parallel_plus._engine.scope import current_scope
from langchain_parallel_plus._engine.shared_input import AsyncReading, ashared
from langchain_parallel_plus._engine.task_pump import Inbox, TaskPump
from langchain_parallel_plus.outcome import FanOutDict

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator

    from langchain_core.callbacks import AsyncCallbackManagerForChainRun
    from langchain_core.runnables import RunnableConfig

    from langchain_parallel_plus._engine.open_calls import OpenCalls

__all__ = ("ainvoke", "atransform", "cancel_and_wait")


async def ainvoke(
    fan_out: FanOut, value: Any, config: RunnableConfig, manager: AsyncCallbackManagerForChainRun
) -> dict[str, Any]:
    """Call every branch with `value` and join what comes back."""
    loop = asyncio.get_running_loop()
    run = FanOutRun.of(fan_out, manager, loop.time)
    around = Surroundings.of(run, config, manager, loop.time, current_scope.get())
    try:
        task = asyncio.current_task()
        with _heeding(around, task.cancel if task is not None else bool):
            await _call_all(run, around, value)
    except BaseException as error:  # cancellation too: conclude() raises it with what is finished
        run.interrupt(error)
    return run.conclude()


async def _call_all(run: FanOutRun, around: Surroundings, value: Any) -> None:
    tasks: dict[int, asyncio.Task[Any]] = {}
    ended: list[OpenCalls | None] = []
    async with _waiting(around):
        try:
            await _gather(run, around, value, tasks, ended)
        finally:
            around.token.close()
            try:
                if tasks:
                    around.token.cancel()
                    await cancel_and_wait(tasks.values())
            finally:
                await end_calls(ended)


async def _gather(
    run: FanOutRun, around: Surroundings, value: Any, tasks: dict[int, asyncio.Task[Any]], calls: list[OpenCalls | None]
) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def wake() -> None:
        if not run.waiting and not done.done():
            done.set_result(None)

    def ended(running: RunningBranch, task: asyncio.Task[Any]) -> None:
        tasks.pop(running.index, None)
        calls.append(running.calls)
        try:
            running.end()
            _take_in(run, running.index, task)
        except BaseException as error:  # ours, or that of a class that a branch raised: nobody else would hear of it
            run.stop(error)
        wake()

    def expire() -> None:
        run.expire()
        wake()

    timer = None if run.ends_at is None else loop.call_at(run.ends_at, expire)
    try:
        for index in range(len(run.fan_out.branches)):
            await breath(index)
            if not run.waiting:  # a branch has failed meanwhile
                break
            running = around.set_up(index)
            running.follow_calls()
            task = loop.create_task(_call(running, value), context=running.context)
            tasks[index] = task
            task.add_done_callback(partial(ended, running))
        if run.waiting:
            await done
    finally:
        if timer is not None:
            timer.cancel()


def _call(running: RunningBranch, value: Any) -> Coroutine[Any, Any, Any]:
    """Return the coroutine of a branch: its own one where nothing has to be waited for first."""
    if running.scope.permit is not None:
        return _permitted(running, value)
    running.begin()
    try:
        call: object = running.context.run(running.branch.async_step.ainvoke, value, running.config)
    except Exception as error:  # a runnable whose `ainvoke` is a plain function: the error is the branch's all the same
        return _failed(error)
    return call if asyncio.iscoroutine(call) else _awaited(call)


async def _awaited(call: Any) -> Any:
    return await call


async def _failed(error: Exception) -> Any:
    raise error


async def _permitted(running: RunningBranch, value: Any) -> Any:
    permit = running.scope.permit
    if permit is not None:
        await permit.aacquire()
    running.begin()
    return await running.branch.async_step.ainvoke(value, running.config)


def _take_in(run: FanOutRun, index: int, task: asyncio.Task[Any]) -> None:
    if task.cancelled():
        run.failed(index, asyncio.CancelledError())
    elif (error := task.exception()) is not None:
        run.failed(index, error)
    else:
        run.succeeded(index, task.result())


@asynccontextmanager
async def _waiting(around: Surroundings) -> AsyncIterator[None]:
    """Hold no permit of the branch around while its children run."""
    if around.outer is None:
        yield
        return
    async with around.outer.asuspended():
        yield


@contextmanager
def _heeding(around: Surroundings, give_up: Callable[[], object]) -> Iterator[None]:
    """Give up when a thread gives the branch around up; tasks of one loop cancel each other directly."""
    if around.outer is None:
        yield
        return
    loop = asyncio.get_running_loop()

    def abandon() -> None:
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is not loop and not loop.is_closed():
            loop.call_soon_threadsafe(give_up)

    unsubscribe = around.outer.on_cancel(abandon)
    try:
        yield
    finally:
        unsubscribe()


async def atransform(
    fan_out: FanOut,
    inputs: AsyncIterator[Any],
    config: RunnableConfig,
    manager: AsyncCallbackManagerForChainRun,
    *,
    single: bool = False,
) -> AsyncGenerator[FanOutDict, None]:
    """Stream `inputs` through every branch and yield each chunk as `{key: chunk}` when it is there."""
    loop = asyncio.get_running_loop()
    run = FanOutRun.of(fan_out, manager, loop.time)
    around = Surroundings.of(run, config, manager, loop.time, current_scope.get())
    inbox = Inbox(loop)
    consumer = Consumer(around.outer)
    source = AsyncInput(inputs)
    copies = ashared(source if single else AsyncReading(source, around.outer), len(fan_out.branches))
    branches = [around.set_up(index) for index in range(len(fan_out.branches))]
    for running in branches:
        running.follow_calls()
    pumps = [_pump(running, copy, inbox, consumer) for running, copy in zip(branches, copies, strict=True)]
    try:
        with _heeding(around, lambda: inbox.put(ABANDONED)):
            try:
                for running, pump in zip(branches, pumps, strict=True):
                    await breath(running.index)
                    pump.start(running.context, running.end)
                async with owning(_merge(run, source, pumps, inbox, consumer)) as merged:
                    async for chunk in merged:
                        yield chunk
            finally:
                around.token.close()
                around.token.cancel()
                try:
                    await cancel_and_wait(pump.task for pump in pumps if pump.task is not None)
                finally:
                    await end_calls(running.calls for running in branches)
                    await source.aend()
                consumer.close()
    except BaseException as error:
        run.interrupt(error)
        raise
    finally:
        run.tell_end()
    run.conclude()
    await consumer.aresume()
    if missing := run.missing:
        yield FanOutDict({}, missing)


def _pump(running: RunningBranch, inputs: AsyncIterator[Any], inbox: Inbox, consumer: Consumer) -> TaskPump:
    lending = consumer.lending(running.scope)
    return TaskPump(
        running.index,
        lambda: running.branch.async_step.atransform(inputs, running.config),
        inbox,
        running.scope.permit,
        running.begin,
        ahead=lending is None,
        lending=lending,
        holdups=holdups_of(running.scope),
    )


async def _merge(
    run: FanOutRun, source: AsyncInput, pumps: list[TaskPump], inbox: Inbox, consumer: Consumer
) -> AsyncGenerator[FanOutDict, None]:
    held = Held(run, source)
    until = run.ends_at
    while run.waiting:
        with consumer.away():
            item = await _next(inbox, until)
        chunks = held.take(item)
        if chunks:
            await consumer.aresume()
            given = run.now()
            for chunk in chunks:
                yield chunk
            until = later(until, run.now() - given)
        if item[1] is CHUNK:
            pumps[item[0]].ack()


async def _next(inbox: Inbox, until: float | None) -> Item:
    try:
        return await inbox.get(until)
    except TimeoutError:
        return EXPIRED
