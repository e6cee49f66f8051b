"""The thread driver: runs a fan-out's branches in worker threads and collects them in the caller's."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from langchain_core.utils.iter import Tee

from langchain_parallel_plus._engine.abandonment import refuse_when_abandoned
from langchain_parallel_plus._engine.branches import RunningBranch, Surroundings
from langchain_parallel_plus._engine.clock import SYSTEM, Clock
from langchain_parallel_plus._engine.fan_out import FanOut, FanOutRun
from langchain_parallel_plus._engine.pump import CHUNK, END, ERROR, Held, Item, ThreadPump, later, pulling
from langchain_parallel_plus._engine.replay import Input
from langchain_parallel_plus._engine.workers import WORKERS
from langchain_parallel_plus.errors import BranchAbandonedError
from langchain_parallel_plus.outcome import FanOutDict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_core.callbacks import CallbackManagerForChainRun
    from langchain_core.runnables import RunnableConfig

__all__ = ("invoke", "transform")

_ABANDONED = -1
"""In place of a branch's index: the work around this fan-out has been given up."""


def invoke(
    fan_out: FanOut, value: Any, config: RunnableConfig, manager: CallbackManagerForChainRun, clock: Clock = SYSTEM
) -> dict[str, Any]:
    """Call every branch with `value` and join what comes back."""
    run = FanOutRun(fan_out, manager.run_id, clock.now)
    around = Surroundings.of(run, config, manager, clock.now)
    inbox: SimpleQueue[tuple[int, Any, BaseException | None]] = SimpleQueue()
    try:
        with _waiting(around, lambda: inbox.put((_ABANDONED, None, None))):
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
            output = running.context.run(running.branch.step.invoke, value, running.config)
        except BaseException as raised:  # carried to the caller's thread
            error = raised
        running.end()
        if not running.scope.token.cancelled:  # else it would live as long as the exception that ended the call
            inbox.put((running.index, output, error))

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
            index, output, error = clock.get(inbox, until)
        except Empty:
            run.expire()
            continue
        if index == _ABANDONED:
            raise _abandoned(run)
        if error is None:
            run.succeeded(index, output)
        else:
            run.failed(index, error)


def _abandoned(run: FanOutRun) -> BranchAbandonedError:
    msg = f"fan-out {run.fan_out.name!r} was given up: the fan-out around it had ended"
    return BranchAbandonedError(msg)


@contextmanager
def _waiting(around: Surroundings, abandoned: Callable[[], None]) -> Iterator[None]:
    """Hold neither permit nor thread count of the branch around while its children run; hear when it is given up."""
    outer = around.outer
    if outer is None:
        yield
        return
    unsubscribe = outer.on_cancel(abandoned)
    try:
        with outer.suspended(), WORKERS.waiting_for_children():
            yield
    finally:
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
    run = FanOutRun(fan_out, manager.run_id, clock.now)
    around = Surroundings.of(run, config, manager, clock.now)
    inbox: SimpleQueue[Item] = SimpleQueue()
    source = Input(inputs)
    copies = Tee(source, len(fan_out.branches), lock=threading.Lock())
    branches = [around.set_up(index) for index in range(len(fan_out.branches))]
    pumps = [
        _pump(running, copy if single else pulling(copy, running.scope), inbox)
        for running, copy in zip(branches, copies, strict=True)
    ]
    try:
        with _waiting(around, lambda: inbox.put((_ABANDONED, ERROR, None))):
            try:
                for running, pump in zip(branches, pumps, strict=True):
                    _start(running, around, pump.run)
                yield from _merge(run, source, pumps, inbox, clock)
            finally:
                _give_up_the_rest(around)
                for pump in pumps:
                    pump.close()
    except BaseException as error:
        run.interrupt(error)
        raise
    finally:
        run.tell_end()
    run.conclude()
    if missing := run.missing:
        yield FanOutDict({}, missing)


def _pump(running: RunningBranch, inputs: Iterator[Any], inbox: SimpleQueue[Item]) -> ThreadPump:
    return ThreadPump(
        running.index,
        running.context,
        lambda: running.branch.step.transform(inputs, running.config),
        inbox,
        running.end,
    )


def _merge(
    run: FanOutRun, source: Input, pumps: list[ThreadPump], inbox: SimpleQueue[Item], clock: Clock
) -> Iterator[FanOutDict]:
    held = Held(run, source)
    until = run.ends_at
    while run.waiting:
        try:
            index, kind, content = clock.get(inbox, until)
        except Empty:
            yield from held.expired()
            continue
        if index == _ABANDONED:
            raise _abandoned(run)
        if kind is CHUNK:
            given = clock.now()
            yield from held.chunk(index, content)
            until = later(until, clock.now() - given)
            pumps[index].ack()
        elif kind is END:
            yield from held.ended(index)
        else:
            yield from held.failed(index, content)
