"""The thread driver of a policy: calls, waits and gives up as the step machine says."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus._engine.abandonment import refuse_when_abandoned
from langchain_parallel_plus._engine.cancel import CancelToken
from langchain_parallel_plus._engine.charging import charged
from langchain_parallel_plus._engine.clock import SYSTEM, Clock
from langchain_parallel_plus._engine.context import EnteredContext
from langchain_parallel_plus._engine.machine import Action, Call, Raise, Return, Sleep
from langchain_parallel_plus._engine.pump import CHUNK, ERROR, EXHAUSTED, Item, ThreadPump, later
from langchain_parallel_plus._engine.replay import Replay
from langchain_parallel_plus._engine.workers import WORKERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_core.callbacks import CallbackManagerForChainRun
    from langchain_core.runnables import RunnableConfig

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
            output = _call(run, admitted, child, lambda: target.invoke(value, child, **kwargs))
    except Exception as error:  # the machine decides what becomes of it
        return run.failed(call, error)
    except BaseException:
        run.let_go(call)
        raise
    return run.returned(call, output)


def _call(run: PolicyRun, call: Call, config: RunnableConfig, work: Callable[[], Any], clock: Clock = SYSTEM) -> Any:
    """Do the work in a context of its own; in another thread if this one must be able to leave it."""
    if call.timeout is None:
        entered = EnteredContext(config, run.scope_for(call))
        try:
            return entered.context.run(work)
        finally:
            entered.leave()
    token = CancelToken(run.scope.token)
    entered = EnteredContext(config, run.scope_for(call, token))
    refuse_when_abandoned(entered.context)
    inbox: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

    def job() -> None:
        output, error = None, None
        try:
            output = entered.context.run(work)
        except BaseException as raised:  # carried to the waiting thread
            error = raised
        entered.leave()
        if token.cancelled:
            entered.context.run(run.telling.came_late, call, error)
        inbox.put((output, error))

    until = clock.now() + call.timeout
    token.subscribe(lambda: inbox.put((None, run.given_up())))
    WORKERS.submit(job)
    output, error = _in_time(run, call, token, lambda: clock.get(inbox, until))
    if error is not None:
        raise error
    return output


def _in_time(run: PolicyRun, call: Call, token: CancelToken, get: Callable[[], Any]) -> Any:
    """Return what `get` waits for; when that is not there in time, or the wait is broken off, give the work up."""
    try:
        with WORKERS.waiting_for_children():
            return get()
    except Empty:
        raise run.timed_out(call) from None
    finally:
        token.close()
        token.cancel()


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
                        opened.callback(run.let_go, action)
                        run.enter(action)
                        call = opened.enter_context(charged(run, action, partial(_read, run, action, replay, config)))
                        source = opened.enter_context(closing(_open(run, call, replay, config, kwargs)))
                        first = source.next()
                    except Exception as error:  # the machine decides what becomes of it
                        if error is replay.error:  # the input's failure: another attempt would read the same
                            raise
                        action = run.failed(action, error)
                        continue
                    yield from _deliver(run, action, source, first)
                    return
            case Sleep():
                action = _sleep(run, action, manager)
            case Return():
                return
            case Raise():
                raise run.error(action)


def _read(run: PolicyRun, call: Call, replay: Replay, config: RunnableConfig) -> Any:
    """Return the whole input, in the time of the run: an attempt's own has not begun."""
    return _call(run, replace(call, timeout=call.whole_run), run.config_for(call, config), replay.whole)


def _deliver(run: PolicyRun, call: Call, source: _Source, chunk: Any) -> Iterator[Any]:
    """Yield everything from the first chunk on; an empty stream is a success."""
    while chunk is not EXHAUSTED:
        yield chunk
        try:
            chunk = source.next()
        except Exception as error:
            run.broke(call, error)
            raise
    run.returned(call, None)


def _open(run: PolicyRun, call: Call, replay: Replay, config: RunnableConfig, kwargs: dict[str, Any]) -> _Source:
    target = run.targets[call.target]
    child = run.config_for(call, config)
    return _Source(run, call, child, lambda: target.transform(replay.again(), child, **kwargs))


class _Source:
    """One call's chunks, in a context of its own; in another thread if this one must be able to leave it."""

    def __init__(
        self,
        run: PolicyRun,
        call: Call,
        config: RunnableConfig,
        open_stream: Callable[[], Iterator[Any]],
        clock: Clock = SYSTEM,
    ) -> None:
        self._run = run
        self._call = call
        self._clock = clock
        self._open = open_stream
        self._stream: Iterator[Any] | None = None
        self._given = 0.0
        self._pump: ThreadPump | None = None
        self._until: float | None = None
        leaves = call.timeout is not None or run.chunk_limit(first=True) is not None or run.chunk_limit(first=False)
        self._token = CancelToken(run.scope.token) if leaves else None
        self._entered = EnteredContext(config, run.scope_for(call, self._token))
        self._context = self._entered.context
        refuse_when_abandoned(self._context)

    def next(self) -> Any:
        """Return the next chunk, or `EXHAUSTED`.

        Raises:
            BranchTimeoutError: The call has taken longer than it may.
        """
        if self._token is not None:
            return self._next_in_time(self._token)
        if self._stream is None:
            self._stream = self._context.run(self._open)
        return self._context.run(next, self._stream, EXHAUSTED)

    def _next_in_time(self, token: CancelToken) -> Any:
        first = self._pump is None
        if self._pump is None:
            self._start(token)
        else:
            self._until = later(self._until, self._clock.now() - self._given)
            self._pump.ack()
        limit = self._run.chunk_limit(first)
        silent_at = None if limit is None else self._clock.now() + limit[1]
        until = silent_at if self._until is None else self._until if silent_at is None else min(silent_at, self._until)
        with WORKERS.waiting_for_children():
            try:
                _, kind, content = self._clock.get(self._inbox, until)
            except Empty:
                token.cancel()
                if limit is not None and until == silent_at:
                    raise self._run.silent(self._call, *limit) from None
                raise self._run.timed_out(self._call) from None
        self._given = self._clock.now()
        if kind is ERROR:
            raise content
        return content if kind is CHUNK else EXHAUSTED

    def _start(self, token: CancelToken) -> None:
        self._inbox: SimpleQueue[Item] = SimpleQueue()
        self._until = None if self._call.timeout is None else self._clock.now() + self._call.timeout
        ahead = self._run.scope.permit is None  # else both sides would work under one permit
        self._pump = ThreadPump(0, self._context, self._open, self._inbox, self._entered.leave, ahead=ahead)
        token.subscribe(lambda: self._inbox.put((0, ERROR, self._run.given_up())))
        WORKERS.submit(self._pump.run)

    def close(self) -> None:
        """Want no more chunks."""
        if self._token is not None:
            self._token.close()
            self._token.cancel()
        if self._pump is not None:
            self._pump.close()
            return
        if self._stream is not None and hasattr(self._stream, "close"):
            self._context.run(self._stream.close)
        self._entered.leave()
