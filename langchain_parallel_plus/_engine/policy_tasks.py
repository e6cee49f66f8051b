"""The task driver of a policy: calls, waits and gives up as the step machine says."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus._engine.charging import acharged
from langchain_parallel_plus._engine.chunk_watch import LATER
from langchain_parallel_plus._engine.context import EnteredContext
from langchain_parallel_plus._engine.ending import cancel_and_wait, ended_in_time
from langchain_parallel_plus._engine.hedge_tasks import race
from langchain_parallel_plus._engine.machine import Action, Call, Raise, Return, Sleep
from langchain_parallel_plus._engine.owned import Owned, owning
from langchain_parallel_plus._engine.policy_run import PolicyRun
from langchain_parallel_plus._engine.pump import EXHAUSTED
from langchain_parallel_plus._engine.replay import AsyncReplay
from langchain_parallel_plus._engine.task_source import Source, attempt_token

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Coroutine

    from langchain_core.callbacks import AsyncCallbackManagerForChainRun
    from langchain_core.runnables import RunnableConfig

    from langchain_parallel_plus._engine.call_time import CallTime
    from langchain_parallel_plus._engine.guarded import GuardedCall
    from langchain_parallel_plus._engine.hedge_tasks import OpenHedge
    from langchain_parallel_plus._engine.hedged_run import HedgeCall
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
        run.scope.check()
        if run.scope.permit is not None:
            await run.scope.permit.aensure()
        run.enter(call)
        delay = None if run.hedging is None else run.hedging.delay(call, streamed=False)
        slow = None if delay is None else (delay, partial(_hedge, config, value, kwargs))
        if run.charge is None:
            output = await _call(run, call, value, child, kwargs, slow)
        else:
            async with acharged(run, call, partial(_same, value)) as admitted:
                output = await _call(run, admitted, value, child, kwargs, slow)
    except Exception as error:  # the machine decides what becomes of it
        return run.failed(call, error)
    except BaseException:
        run.gave_up(call)
        raise
    return run.returned(call, output)


async def _same(value: Any) -> Any:
    return value


async def _call(
    run: GuardedCall,
    call: Call,
    value: Any,
    config: RunnableConfig,
    kwargs: dict[str, Any],
    slow: tuple[float, OpenHedge] | None = None,
) -> Any:
    limited = call.timeout is not None or slow is not None
    token = attempt_token(run, leaves=limited)
    time = run.time_of(call) if limited or run.is_observed(call) else None
    entered = EnteredContext(config, run.scope_for(call, token, time))
    try:
        work = entered.context.run(run.targets[call.target].ainvoke, value, config, **kwargs)
        task = asyncio.get_running_loop().create_task(work, context=entered.context)
        if time is None or slow is None or (call.timeout is not None and call.timeout <= slow[0]):
            return await _in_time(run, call, task, time)
        return await _hedged(run, call, task, time, *slow)
    finally:
        entered.leave()
        if token is not None:
            token.close()
            token.cancel()


async def _hedge(
    config: RunnableConfig, value: Any, kwargs: dict[str, Any], beside: HedgeCall, opened: AsyncExitStack
) -> Coroutine[Any, Any, Any]:
    """Open a hedge; return what waits for it."""
    call = await opened.enter_async_context(acharged(beside, beside.call, partial(_same, value)))
    return _call(beside, call, value, beside.config(config), kwargs)


async def _hedged(
    run: GuardedCall, call: Call, task: asyncio.Task[Any], time: CallTime, delay: float, hedge: OpenHedge
) -> Any:
    """Wait for the task as `_in_time` does; make the call once more if it is slow."""
    try:
        if await ended_in_time(task, time, delay):
            return task.result()
        assert isinstance(run, PolicyRun)  # a hedge is not hedged
        if time.over() is not None:
            raise run.timed_out(call, time)
        winner = await race(run, call, delay, _in_time(run, call, task, time), hedge, lambda: time.stands)
    finally:
        await _end(task)
    if winner.hedge is not None:
        winner.hedge.succeeded()
    await winner.opened.aclose()
    return winner.task.result()


async def _in_time(run: GuardedCall, call: Call, task: asyncio.Task[Any], time: CallTime | None) -> Any:
    """Return what the task returns; cancel it, and wait for its end, when time is up or this wait is cancelled."""
    try:
        if not await ended_in_time(task, time):
            assert time is not None  # without one it waits for as long as it takes
            raise run.timed_out(call, time)
    finally:
        await _end(task)
    return task.result()


async def _end(task: asyncio.Task[Any]) -> None:
    if not task.done():
        await cancel_and_wait([task])
    elif not task.cancelled():
        task.exception()  # if whoever waits is cancelled in the moment in which the task fails, nobody asks for it


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
                            opened.callback(run.gave_up, action)
                            run.enter(action)
                            source, first = await _first(run, action, replay, config, kwargs, opened)
                        except Exception as error:  # the machine decides what becomes of it
                            if error is replay.error:  # the input's failure: another attempt would read the same
                                raise
                            action = run.failed(action, error)
                            continue
                        run.delivered()
                        async with owning(_deliver(run, action, source, first)) as chunks:
                            async for chunk in chunks:
                                yield chunk
                        return
                case Sleep():
                    action = await _sleep(run, action, manager)
                case Return():
                    return
                case Raise():
                    raise run.error(action)


async def _first(
    run: PolicyRun,
    call: Call,
    replay: AsyncReplay,
    config: RunnableConfig,
    kwargs: dict[str, Any],
    opened: AsyncExitStack,
) -> tuple[Source, Any]:
    """Return the first chunk and where it comes from: from a hedge, if the call itself is slow."""

    async def open_source(guard: GuardedCall, call: Call, config: RunnableConfig, held: AsyncExitStack) -> Source:
        charge = acharged(guard, call, partial(_read, guard, call, replay))
        call = await held.enter_async_context(charge)
        source = _open(guard, call, replay, config, kwargs, hedged=delay is not None)
        held.push_async_callback(source.aclose)
        return source

    own = await opened.enter_async_context(AsyncExitStack())
    hedging = run.hedging
    delay = None if hedging is None else hedging.delay(call, streamed=True)
    source = await open_source(run, call, run.config_for(call, config), own)
    first = await source.next(delay)
    if first is not LATER or delay is None:
        return source, first
    sources: dict[HedgeCall, Source] = {}

    async def hedge(beside: HedgeCall, held: AsyncExitStack) -> Coroutine[Any, Any, Any]:
        sources[beside] = await open_source(beside, beside.call, beside.config(config), held)
        return sources[beside].next()

    def held_up() -> bool:
        return replay.waits or source.stands

    winner = await race(run, call, delay, source.next(), hedge, held_up)
    if winner.hedge is None:
        return source, winner.task.result()
    opened.push_async_exit(winner.opened)
    await own.aclose()
    return sources[winner.hedge], winner.task.result()


async def _read(run: GuardedCall, call: Call, replay: AsyncReplay) -> Any:
    """Return the whole input, in the time of the run: an attempt's own has not begun."""
    reading = asyncio.get_running_loop().create_task(replay.whole())
    return await _in_time(run, call, reading, run.time_of(replace(call, timeout=call.whole_run)))


async def _deliver(run: PolicyRun, call: Call, source: Source, chunk: Any) -> AsyncGenerator[Any, None]:
    """Yield everything from the first chunk on; an empty stream is a success."""
    run.telling.delivers(source.holdups)
    while chunk is not EXHAUSTED:
        run.telling.handed_over()
        yield chunk
        run.telling.went_on()
        try:
            chunk = await source.next()
        except Exception as error:
            run.broke(call, error)
            raise
    run.returned(call, None)


def _open(
    guard: GuardedCall, call: Call, replay: AsyncReplay, config: RunnableConfig, kwargs: dict[str, Any], *, hedged: bool
) -> Source:
    target = guard.targets[call.target]
    inputs = Owned(replay.again())
    return Source(guard, call, config, lambda: target.atransform(inputs, config, **kwargs), inputs, hedged=hedged)
