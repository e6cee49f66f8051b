"""The thread driver: runs a fan-out's branches in worker threads and collects them in the caller's."""

from __future__ import annotations

from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus._engine.abandonment import refuse_when_abandoned
from langchain_parallel_plus._engine.branches import RunningBranch, Surroundings, blocking_scope
from langchain_parallel_plus._engine.clock import SYSTEM, Clock
from langchain_parallel_plus._engine.consumer import Consumer
from langchain_parallel_plus._engine.fan_out import FanOut, FanOutRun
from langchain_parallel_plus._engine.holdups import holdups_of
from langchain_parallel_plus._engine.pump import ABANDONED, CHUNK, EXPIRED, Held, Item, ThreadPump, later
from langchain_parallel_plus._engine.replay import Input
from langchain_parallel_plus._engine.shared_input import Reading, shared
from langchain_parallel_plus._engine.workers import WORKERS
from langchain_parallel_plus.outcome import FanOutDict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_core.callbacks import CallbackManagerForChainRun
    from langchain_core.runnables import RunnableConfig

__all__ = ("invoke", "transform")

_ABANDONED: tuple[int, Any, None] = (-1, None, None)
"""In place of what a branch returns: the work around this fan-out has been given up."""


def invoke(
    fan_out: FanOut, value: Any, config: RunnableConfig, manager: CallbackManagerForChainRun, clock: Clock = SYSTEM
) -> dict[str, Any]:
    """Call every branch with `value` and join what comes back."""
    run = FanOutRun.of(fan_out, manager, clock.now)
    around = Surroundings.of(run, config, manager, clock.now, blocking_scope())
    inbox: SimpleQueue[tuple[int, Any, BaseException | None]] = SimpleQueue()
    try:
        with _heeding(around, lambda: inbox.put(_ABANDONED)), _waiting(around):
            try:
                for index in range(len(fan_out.branches)):
                    running = around.set_up(index)
                    _start(running, around, _call(running, value, inbox))
                _collect(run, inbox, clock)
            finally:
                _give_up_the_rest(around)
    except BaseException as error:  # KeyboardInterrupt too: conclude() raises it with what is finished
        run.interrupt(error)
    return run.conclude()


def _call(
    running: RunningBranch, value: Any, inbox: SimpleQueue[tuple[int, Any, BaseException | None]]
) -> Callable[[], None]:
    def call() -> None:
        output, error = None, None
        try:
            output = running.context.run(running.branch.sync_step.invoke, value, running.config)
        except BaseException as raised:  # carried to the caller's thread
            error = raised
        running.end()
        if not running.scope.token.cancelled:  # else it would live as long as the exception that ended the call
            inbox.put((running.index, output, error))
        else:
            running.came_late(error)

    return call


def _start(running: RunningBranch, around: Surroundings, job: Callable[[], None]) -> None:
    """Run `job` in a worker thread as soon as the branch may run."""
    refuse_when_abandoned(running.context)

    def start() -> None:
        if around.token.cancelled:
            running.end()
        else:
            running.begin()
            job()

    permit = running.scope.permit
    if permit is None:
        WORKERS.submit(start)
    else:
        permit.request(lambda: WORKERS.submit(start))


def _collect(run: FanOutRun, inbox: SimpleQueue[tuple[int, Any, BaseException | None]], clock: Clock) -> None:
    until = run.ends_at
    while run.waiting:
        try:
            item = clock.get(inbox, until)
        except Empty:
            run.expire()
            continue
        if item is _ABANDONED:
            raise run.abandoned()
        index, output, error = item
        if error is None:
            run.succeeded(index, output)
        else:
            run.failed(index, error)


@contextmanager
def _waiting(around: Surroundings) -> Iterator[None]:
    """Hold neither permit nor thread count of the branch around while its children run."""
    if around.outer is None:
        yield
        return
    with around.outer.suspended(), WORKERS.waiting_for_children():
        yield


@contextmanager
def _heeding(around: Surroundings, abandoned: Callable[[], None]) -> Iterator[None]:
    """Hear when the branch around is given up."""
    unsubscribe = around.outer.on_cancel(abandoned) if around.outer is not None else None
    try:
        yield
    finally:
        if unsubscribe is not None:
            unsubscribe()


def _give_up_the_rest(around: Surroundings) -> None:
    """Tell branches that still run that nobody waits, and take those that have not started out of the queue."""
    around.token.close()
    around.token.cancel()
    for scope in around.run.scopes:
        if scope.permit is not None:
            scope.permit.withdraw()


def transform(
    fan_out: FanOut,
    inputs: Iterator[Any],
    config: RunnableConfig,
    manager: CallbackManagerForChainRun,
    clock: Clock = SYSTEM,
    *,
    single: bool = False,
) -> Iterator[FanOutDict]:
    """Stream `inputs` through every branch and yield each chunk as `{key: chunk}` when it is there."""
    run = FanOutRun.of(fan_out, manager, clock.now)
    around = Surroundings.of(run, config, manager, clock.now, blocking_scope())
    inbox: SimpleQueue[Item] = SimpleQueue()
    source = Input(inputs if single else Reading(inputs, around.outer))
    copies = shared(source, len(fan_out.branches))
    branches = [around.set_up(index) for index in range(len(fan_out.branches))]
    consumer = Consumer(around.outer)
    pumps = [_pump(running, copy, inbox, consumer) for running, copy in zip(branches, copies, strict=True)]
    try:
        with _heeding(around, lambda: inbox.put(ABANDONED)):
            try:
                for running, pump in zip(branches, pumps, strict=True):
                    _start(running, around, pump.run)
                yield from _merge(run, source, pumps, inbox, consumer, clock)
            finally:
                _give_up_the_rest(around)
                for pump in pumps:
                    pump.close()
                consumer.close()
    except BaseException as error:
        run.interrupt(error)
        raise
    finally:
        run.tell_end()
    run.conclude()
    consumer.resume()
    if missing := run.missing:
        yield FanOutDict({}, missing)


def _pump(running: RunningBranch, inputs: Iterator[Any], inbox: SimpleQueue[Item], consumer: Consumer) -> ThreadPump:
    lending = consumer.lending(running.scope)
    return ThreadPump(
        running.index,
        running.context,
        lambda: running.branch.sync_step.transform(inputs, running.config),
        inbox,
        running.end,
        running.came_late,
        ahead=lending is None,
        lending=lending,
        holdups=holdups_of(running.scope),
    )


def _merge(
    run: FanOutRun,
    source: Input,
    pumps: list[ThreadPump],
    inbox: SimpleQueue[Item],
    consumer: Consumer,
    clock: Clock,
) -> Iterator[FanOutDict]:
    held = Held(run, source)
    until = run.ends_at
    while run.waiting:
        with consumer.away(), WORKERS.waiting_for_children():
            item = _next(inbox, until, clock)
            chunks = held.take(item)
        if chunks:
            consumer.resume()
            given = clock.now()
            yield from chunks
            until = later(until, clock.now() - given)
        if item[1] is CHUNK:
            pumps[item[0]].ack()


def _next(inbox: SimpleQueue[Item], until: float | None, clock: Clock) -> Item:
    try:
        item: Item = clock.get(inbox, until)
    except Empty:
        return EXPIRED
    return item
