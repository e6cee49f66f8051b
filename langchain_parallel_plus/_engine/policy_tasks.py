"""The task driver of a policy: calls, waits and gives up as the step machine says."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus._engine.charging import acharged
from langchain_parallel_plus._engine.context import EnteredContext
from langchain_parallel_plus._engine.machine import Action, Call, Raise, Return, Sleep
from langchain_parallel_plus._engine.pump import CHUNK, ERROR, EXHAUSTED, later
from langchain_parallel_plus._engine.replay import AsyncReplay
from langchain_parallel_plus._engine.task_pump import Inbox, TaskPump
from langchain_parallel_plus._engine.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from langchain_core.callbacks import AsyncCallbackManagerForChainRun
    from langchain_core.runnables import RunnableConfig

    from langchain_parallel_plus._engine.policy_run import PolicyRun
    from langchain_parallel_plus._engine.unheard import AsyncUnheard

__all__ = ("ainvoke", "atransform")


async def ainvoke(
    run: PolicyRun,
    value: Any,
    config: RunnableConfig,
    manager: AsyncCallbackManagerForChainRun | AsyncUnheard,
    **kwargs: Any,
) -> Any:
    """Call the runnable until the machine says that it is done."""
    action = run.begin()
    while True:
        match action:
            case Call():
                action = await _attempt(run, action, value, config, kwargs)
            case Sleep():
                action = await _sleep(run, action, manager)
            case Return(output):
                return output
            case Raise():
                raise run.error(action)


async def _attempt(run: PolicyRun, call: Call, value: Any, config: RunnableConfig, kwargs: dict[str, Any]) -> Action:
    child = run.config_for(call, config)
    try:
        await _may_run(run)
        run.enter(call)
        if run.charge is None:
            output = await _call(run, call, value, child, kwargs)
        else:
            async with acharged(run, call, partial(_same, value)) as admitted:
                output = await _call(run, admitted, value, child, kwargs)
    except Exception as error:  # the machine decides what becomes of it
        return run.failed(call, error)
    except BaseException:
        run.let_go(call)
        raise
    return run.returned(call, output)


async def _same(value: Any) -> Any:
    return value


async def _call(run: PolicyRun, call: Call, value: Any, config: RunnableConfig, kwargs: dict[str, Any]) -> Any:
    entered = EnteredContext(config, run.scope_for(call))
    try:
        work = entered.context.run(run.targets[call.target].ainvoke, value, config, **kwargs)
        task = asyncio.get_running_loop().create_task(work, context=entered.context)
        return await _in_time(run, call, task)
    finally:
        entered.leave()


async def _in_time(run: PolicyRun, call: Call, task: asyncio.Task[Any]) -> Any:
    """Return what the task returns; cancel it, and wait for its end, when time is up or this wait is cancelled."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def end(_: object = None) -> None:
        if not ended.done():
            ended.set_result(None)

    task.add_done_callback(end)
    timer = None if call.timeout is None else loop.call_later(call.timeout, end)
    try:
        await ended
        if not task.done():
            raise run.timed_out(call)
    finally:
        if timer is not None:
            timer.cancel()
        if not task.done():
            await cancel_and_wait([task])
        elif not task.cancelled():
            task.exception()  # if this wait is cancelled in the moment in which the task fails, nobody asks for it
    return task.result()


async def _may_run(run: PolicyRun) -> None:
    """Refuse to start for nobody; ask for the permit again if an error has taken it away."""
    run.scope.check()
    if run.scope.permit is not None:
        await run.scope.permit.aensure()


async def _sleep(run: PolicyRun, sleep: Sleep, manager: AsyncCallbackManagerForChainRun | AsyncUnheard) -> Action:
    await manager.on_retry(run.retry_state(sleep))
    async with run.scope.asuspended():
        await asyncio.sleep(sleep.seconds)
    return run.woke(sleep)


async def atransform(
    run: PolicyRun,
    inputs: AsyncIterator[Any],
    config: RunnableConfig,
    manager: AsyncCallbackManagerForChainRun | AsyncUnheard,
    **kwargs: Any,
) -> AsyncGenerator[Any, None]:
    """Stream `inputs` through the runnable; start again or elsewhere only until the first chunk is delivered."""
    async with aclosing(AsyncReplay(inputs)) as replay:
        action = run.begin()
        while True:
            match action:
                case Call():
                    async with AsyncExitStack() as opened:
                        try:
                            await _may_run(run)
                            opened.callback(run.let_go, action)
                            run.enter(action)
                            charge = acharged(run, action, partial(_read, run, action, replay))
                            call = await opened.enter_async_context(charge)
                            source = _open(run, call, replay, config, kwargs)
                            opened.push_async_callback(source.aclose)
                            first = await source.next()
                        except Exception as error:  # the machine decides what becomes of it
                            if error is replay.error:  # the input's failure: another attempt would read the same
                                raise
                            action = run.failed(action, error)
                            continue
                        async with aclosing(_deliver(run, action, source, first)) as chunks:
                            async for chunk in chunks:
                                yield chunk
                        return
                case Sleep():
                    action = await _sleep(run, action, manager)
                case Return():
                    return
                case Raise():
                    raise run.error(action)


async def _read(run: PolicyRun, call: Call, replay: AsyncReplay) -> Any:
    """Return the whole input, in the time of the run: an attempt's own has not begun."""
    reading = asyncio.get_running_loop().create_task(replay.whole())
    return await _in_time(run, replace(call, timeout=call.whole_run), reading)


async def _deliver(run: PolicyRun, call: Call, source: _Source, chunk: Any) -> AsyncGenerator[Any, None]:
    """Yield everything from the first chunk on; an empty stream is a success."""
    while chunk is not EXHAUSTED:
        yield chunk
        try:
            chunk = await source.next()
        except Exception as error:
            run.broke(call, error)
            raise
    run.returned(call, None)


def _open(run: PolicyRun, call: Call, replay: AsyncReplay, config: RunnableConfig, kwargs: dict[str, Any]) -> _Source:
    target = run.targets[call.target]
    child = run.config_for(call, config)
    inputs = replay.again()
    return _Source(run, call, child, lambda: target.atransform(inputs, child, **kwargs), inputs)


class _Source:
    """One call's chunks, from a task with a context of its own."""

    def __init__(
        self,
        run: PolicyRun,
        call: Call,
        config: RunnableConfig,
        open_stream: Callable[[], AsyncIterator[Any]],
        inputs: AsyncGenerator[Any, None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self._run = run
        self._call = call
        self._loop = loop
        self._given = loop.time()
        self._inputs = inputs
        self._inbox = Inbox(loop)
        self._pump = TaskPump(0, open_stream, self._inbox, ahead=run.scope.permit is None)
        self._until = None if call.timeout is None else loop.time() + call.timeout
        self._entered = EnteredContext(config, run.scope_for(call))

    async def next(self) -> Any:
        """Return the next chunk, or `EXHAUSTED`.

        Raises:
            BranchTimeoutError: The call has taken longer than it may; it is cancelled.
        """
        first = self._pump.task is None
        if first:
            self._pump.start(self._entered.context, self._entered.leave)
        else:
            self._until = later(self._until, self._loop.time() - self._given)
            self._pump.ack()
        now, limit = self._loop.time(), self._run.chunk_limit(first)
        silent_at = None if limit is None else now + limit[1]
        until = silent_at if self._until is None else self._until if silent_at is None else min(silent_at, self._until)
        try:
            _, kind, content = await self._inbox.get(until)
        except TimeoutError:
            if limit is not None and until == silent_at:
                raise self._run.silent(self._call, *limit) from None
            raise self._run.timed_out(self._call) from None
        self._given = self._loop.time()
        if kind is ERROR:
            raise content
        return content if kind is CHUNK else EXHAUSTED

    async def aclose(self) -> None:
        """Want no more chunks: cancel what produces them, and wait until it has cleaned up."""
        if self._pump.task is not None:
            await cancel_and_wait([self._pump.task])
        await self._inputs.aclose()
