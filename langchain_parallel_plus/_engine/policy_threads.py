"""The thread driver of a policy: calls, waits and gives up as the step machine says."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from queue import Empty
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus._engine.abandonment import refuse_when_abandoned
from langchain_parallel_plus._engine.charging import charged
from langchain_parallel_plus._engine.chunk_watch import LATER
from langchain_parallel_plus._engine.clock import SYSTEM, Clock
from langchain_parallel_plus._engine.context import EnteredContext
from langchain_parallel_plus._engine.hedge_threads import race
from langchain_parallel_plus._engine.machine import Action, Call, Raise, Return, Sleep
from langchain_parallel_plus._engine.pump import EXHAUSTED
from langchain_parallel_plus._engine.replay import Replay
from langchain_parallel_plus._engine.thread_calls import Job, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_core.callbacks import CallbackManagerForChainRun
    from langchain_core.runnables import RunnableConfig

    from langchain_parallel_plus._engine.guarded import GuardedCall
    from langchain_parallel_plus._engine.hedged_run import HedgeCall
    from langchain_parallel_plus._engine.policy_run import PolicyRun
    from langchain_parallel_plus._engine.unheard import Unheard

__all__ = ("invoke", "transform")


def invoke(
    run: PolicyRun, value: Any, config: RunnableConfig, manager: CallbackManagerForChainRun | Unheard, **kwargs: Any
) -> Any:
    """Call the runnable until the machine says that it is done."""
    action = run.begin()
    while True:
        match action:
            case Call():
                action = _attempt(run, action, value, config, kwargs)
            case Sleep():
                action = _sleep(run, action, manager)
            case Return(output):
                return output
            case Raise():
                raise run.error(action)


def _attempt(run: PolicyRun, call: Call, value: Any, config: RunnableConfig, kwargs: dict[str, Any]) -> Action:
    child = run.config_for(call, config)
    target = run.targets[call.target]
    try:
        _may_run(run)
        run.enter(call)
        with charged(run, call, lambda: value) as admitted:
            if run.hedging is None:
                output = _call(run, admitted, child, lambda: target.invoke(value, child, **kwargs))
            else:
                output = _hedged(run, admitted, value, config, child, kwargs)
    except Exception as error:  # the machine decides what becomes of it
        return run.failed(call, error)
    except BaseException:
        run.gave_up(call)
        raise
    return run.returned(call, output)


def _hedged(
    run: PolicyRun,
    call: Call,
    value: Any,
    config: RunnableConfig,
    child: RunnableConfig,
    kwargs: dict[str, Any],
    clock: Clock = SYSTEM,
) -> Any:
    """Call as `_attempt` does, and once more if that is slow."""
    hedging = run.hedging
    assert hedging is not None
    target = run.targets[call.target]
    delay = hedging.delay(call, streamed=False)
    if delay is None or (call.timeout is not None and call.timeout <= delay):
        return _call(run, call, child, lambda: target.invoke(value, child, **kwargs))

    def hedge(beside: HedgeCall, opened: ExitStack) -> Callable[[], Any]:
        call = opened.enter_context(charged(beside, beside.call, lambda: value))
        child = beside.config(config)
        return lambda: _call(beside, call, child, lambda: target.invoke(value, child, **kwargs))

    job = Job(run, call, child, lambda: target.invoke(value, child, **kwargs), clock)
    with closing(job):
        try:
            return job.wait(delay)
        except Empty:
            winner = race(run, call, delay, job.wait, job.close, hedge, clock, lambda: job.time.stands)
    if winner.hedge is not None:
        winner.hedge.succeeded()
    winner.opened.close()
    return winner.output


def _call(run: GuardedCall, call: Call, config: RunnableConfig, work: Callable[[], Any], clock: Clock = SYSTEM) -> Any:
    """Do the work in a context of its own; in another thread if this one must be able to leave it."""
    if call.timeout is None:
        time = run.time_of(call) if run.is_observed(call) else None
        entered = EnteredContext(config, run.scope_for(call, time=time))
        if run.scope.at_once:
            refuse_when_abandoned(entered.context)
        try:
            return entered.context.run(work)
        finally:
            entered.leave()
    with closing(Job(run, call, config, work, clock)) as job:
        return job.wait()


def _may_run(run: PolicyRun) -> None:
    """Refuse to start for nobody; ask for the permit again if an error has taken it away."""
    run.scope.check()
    if run.scope.permit is not None:
        run.scope.permit.ensure(run.scope.token)


def _sleep(
    run: PolicyRun, sleep: Sleep, manager: CallbackManagerForChainRun | Unheard, clock: Clock = SYSTEM
) -> Action:
    manager.on_retry(run.retry_state(sleep))
    with run.scope.suspended():
        clock.sleep(sleep.seconds, run.scope.token)
        run.scope.check()
    return run.woke(sleep)


def transform(
    run: PolicyRun,
    inputs: Iterator[Any],
    config: RunnableConfig,
    manager: CallbackManagerForChainRun | Unheard,
    **kwargs: Any,
) -> Iterator[Any]:
    """Stream `inputs` through the runnable; start again or elsewhere only until the first chunk is delivered."""
    replay = Replay(inputs)
    action = run.begin()
    while True:
        match action:
            case Call():
                with ExitStack() as opened:
                    try:
                        _may_run(run)
                        opened.callback(run.gave_up, action)
                        run.enter(action)
                        source, first = _first(run, action, replay, config, kwargs, opened)
                    except Exception as error:  # the machine decides what becomes of it
                        if error is replay.error:  # the input's failure: another attempt would read the same
                            raise
                        action = run.failed(action, error)
                        continue
                    run.delivered()
                    yield from _deliver(run, action, source, first)
                    return
            case Sleep():
                action = _sleep(run, action, manager)
            case Return():
                return
            case Raise():
                raise run.error(action)


def _first(
    run: PolicyRun,
    call: Call,
    replay: Replay,
    config: RunnableConfig,
    kwargs: dict[str, Any],
    opened: ExitStack,
    clock: Clock = SYSTEM,
) -> tuple[Source, Any]:
    """Return the first chunk and where it comes from: from a hedge, if the call itself is slow."""
    hedging = run.hedging
    delay = None if hedging is None else hedging.delay(call, streamed=True)

    def open_source(guard: GuardedCall, call: Call, config: RunnableConfig, held: ExitStack) -> Source:
        charge = charged(guard, call, partial(_read, guard, call, replay, config))
        call = held.enter_context(charge)
        return held.enter_context(closing(_open(guard, call, replay, config, kwargs, hedged=delay is not None)))

    own = opened.enter_context(ExitStack())
    source = open_source(run, call, run.config_for(call, config), own)
    first = source.next(delay)
    if first is not LATER or delay is None:
        return source, first
    sources: dict[HedgeCall, Source] = {}

    def hedge(beside: HedgeCall, held: ExitStack) -> Callable[[], Any]:
        sources[beside] = open_source(beside, beside.call, beside.config(config), held)
        return sources[beside].next

    def held_up() -> bool:
        return replay.waits or source.stands

    winner = race(run, call, delay, source.next, source.leave, hedge, clock, held_up)
    if winner.hedge is None:
        return source, winner.output
    opened.push(winner.opened)
    own.close()
    return sources[winner.hedge], winner.output


def _read(run: GuardedCall, call: Call, replay: Replay, config: RunnableConfig) -> Any:
    """Return the whole input, in the time of the run: an attempt's own has not begun."""
    return _call(run, replace(call, timeout=call.whole_run), config, replay.whole)


def _deliver(run: PolicyRun, call: Call, source: Source, chunk: Any) -> Iterator[Any]:
    """Yield everything from the first chunk on; an empty stream is a success."""
    run.telling.delivers(source.holdups)
    while chunk is not EXHAUSTED:
        run.telling.handed_over()
        yield chunk
        run.telling.went_on()
        try:
            chunk = source.next()
        except Exception as error:
            run.broke(call, error)
            raise
    run.returned(call, None)


def _open(
    guard: GuardedCall, call: Call, replay: Replay, config: RunnableConfig, kwargs: dict[str, Any], *, hedged: bool
) -> Source:
    target = guard.targets[call.target]
    return Source(guard, call, config, lambda: target.transform(replay.again(), config, **kwargs), hedged=hedged)
