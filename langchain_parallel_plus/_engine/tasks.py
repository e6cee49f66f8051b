"""The task driver: runs a fan-out's branches as asyncio tasks and leaves none behind."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_core.utils.aiter import Tee

from langchain_parallel_plus._engine.branches import RunningBranch, Surroundings
from langchain_parallel_plus._engine.fan_out import FanOut, FanOutRun
from langchain_parallel_plus._engine.pump import CHUNK, END, Held, later
from langchain_parallel_plus._engine.replay import AsyncInput
from langchain_parallel_plus._engine.task_pump import Inbox, TaskPump, apulling
from langchain_parallel_plus.outcome import FanOutDict

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable

    from langchain_core.callbacks import AsyncCallbackManagerForChainRun
    from langchain_core.runnables import RunnableConfig

__all__ = ("ainvoke", "atransform", "cancel_and_wait")

_log = logging.getLogger("langchain_parallel_plus")

_DRAIN_SECONDS = 2.0
"""How long cancelled tasks may take to clean up before they are left behind with a warning: the most by which a branch
that resists its cancellation can make a timeout or a deadline late."""


async def ainvoke(
    fan_out: FanOut, value: Any, config: RunnableConfig, manager: AsyncCallbackManagerForChainRun
) -> dict[str, Any]:
    """Call every branch with `value` and join what comes back."""
    loop = asyncio.get_running_loop()
    run = FanOutRun(fan_out, manager.run_id, loop.time)
    around = Surroundings.of(run, config, manager, loop.time)
    tasks: dict[int, asyncio.Task[Any]] = {}
    try:
        async with _waiting(around):
            try:
                await _gather(run, around, value, tasks)
            finally:
                around.token.close()
                if tasks:
                    around.token.cancel()
                    await cancel_and_wait(tasks.values())
    except BaseException as error:  # cancellation too: conclude() raises it with what is finished
        run.interrupt(error)
    return run.conclude()


async def _gather(run: FanOutRun, around: Surroundings, value: Any, tasks: dict[int, asyncio.Task[Any]]) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def wake() -> None:
        if not run.waiting and not done.done():
            done.set_result(None)

    def ended(running: RunningBranch, task: asyncio.Task[Any]) -> None:
        tasks.pop(running.index, None)
        try:
            running.end()
            _take_in(run, running.index, task)
        except BaseException as error:  # ours, or that of a class that a branch raised: nobody else would hear of it
            run.stop(error)
        wake()

    def expire() -> None:
        run.expire()
        wake()

    for index in range(len(run.fan_out.branches)):
        running = around.set_up(index)
        task = loop.create_task(_call(running, value), context=running.context)
        tasks[index] = task
        task.add_done_callback(partial(ended, running))
    timer = None if run.ends_at is None else loop.call_at(run.ends_at, expire)
    try:
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


async def cancel_and_wait(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they have cleaned up; one that refuses to end is left behind with a warning."""
    pending = [task for task in tasks if not task.done()]
    for task in pending:
        task.cancel()
    if not pending:
        return
    try:
        await asyncio.wait(pending, timeout=_DRAIN_SECONDS)
    except asyncio.CancelledError:  # whoever cancels this wait too is obeyed, once the branches have cleaned up
        await asyncio.wait(pending, timeout=_DRAIN_SECONDS)
        raise
    for task in pending:
        if task.done() and not task.cancelled():
            task.exception()  # an answer to a cancellation that nobody waits for, and nobody is to be warned of
    stuck = sum(not task.done() for task in pending)
    if stuck:
        _log.warning("%d cancelled branches have not ended within %g s", stuck, _DRAIN_SECONDS)


@asynccontextmanager
async def _waiting(around: Surroundings) -> AsyncIterator[None]:
    """Hold no permit of the branch around while its children run; hear when it is given up from another thread."""
    outer = around.outer
    if outer is None:
        yield
        return
    task = asyncio.current_task()
    unsubscribe = outer.on_cancel(_canceller(asyncio.get_running_loop(), task)) if task is not None else None
    try:
        async with outer.asuspended():
            yield
    finally:
        if unsubscribe is not None:
            unsubscribe()


def _canceller(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> Callable[[], None]:
    """Return a function that cancels `task` when a thread gives it up; tasks of one loop cancel each other directly."""

    def cancel() -> None:
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is not loop and not loop.is_closed():
            loop.call_soon_threadsafe(task.cancel)

    return cancel


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
    run = FanOutRun(fan_out, manager.run_id, loop.time)
    around = Surroundings.of(run, config, manager, loop.time)
    inbox = Inbox(loop)
    source = AsyncInput(inputs)
    copies = Tee(source, len(fan_out.branches), lock=asyncio.Lock())
    branches = [around.set_up(index) for index in range(len(fan_out.branches))]
    pumps = [
        _pump(running, copy if single else apulling(copy, running.scope), inbox)
        for running, copy in zip(branches, copies, strict=True)
    ]
    try:
        async with _waiting(around):
            try:
                for running, pump in zip(branches, pumps, strict=True):
                    pump.start(running.context, running.end)
                async with aclosing(_merge(run, source, pumps, inbox)) as merged:
                    async for chunk in merged:
                        yield chunk
            finally:
                around.token.close()
                around.token.cancel()
                await cancel_and_wait(pump.task for pump in pumps if pump.task is not None)
    except BaseException as error:
        run.interrupt(error)
        raise
    finally:
        run.tell_end()
    run.conclude()
    if missing := run.missing:
        yield FanOutDict({}, missing)


def _pump(running: RunningBranch, inputs: AsyncIterator[Any], inbox: Inbox) -> TaskPump:
    return TaskPump(
        running.index,
        lambda: running.branch.async_step.atransform(inputs, running.config),
        inbox,
        running.scope.permit,
        running.begin,
    )


async def _merge(
    run: FanOutRun, source: AsyncInput, pumps: list[TaskPump], inbox: Inbox
) -> AsyncGenerator[FanOutDict, None]:
    held = Held(run, source)
    until = run.ends_at
    while run.waiting:
        try:
            index, kind, content = await inbox.get(until)
        except TimeoutError:
            for chunk in held.expired():
                yield chunk
            continue
        if kind is CHUNK:
            chunks = held.chunk(index, content)
        elif kind is END:
            chunks = held.ended(index)
        else:
            chunks = held.failed(index, content)
        given = run.now()
        for chunk in chunks:
            yield chunk
        until = later(until, run.now() - given)
        pumps[index].ack()
