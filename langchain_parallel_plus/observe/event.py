"""The one event type: every fact that the engine, the policies and the limiters know of, as frozen data.

Nobody builds an event while nobody listens. Sinks are called in line, in whichever thread or task the fact happens: one
that raises is logged, with its traceback, and left out from then on, while the others go on; one that may take its time
is subscribed with `background=True`, which hands events over through a queue. Neither changes what the run does.
"""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from inspect import iscoroutinefunction
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Literal

from langchain_parallel_plus.errors import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from uuid import UUID

    from langchain_parallel_plus.outcome import BranchOutcome, ErrorKind

__all__ = ("Event", "EventKind", "emit", "error_type", "listening", "subscribe", "subscribed")

_log = logging.getLogger("langchain_parallel_plus")

EventKind = Literal[
    "fan_out.start",  # name, branches, required, failure_policy, max_concurrency, limiters (`LimiterState`s),
    #   parent_run_id, parent_unit (the run that calls it, 0 for none), run (LangChain's, that the branches are children
    #   of), dynamic (whether the branches are items, as many as there are at the time)
    "fan_out.end",  # seconds; outcome "ok", "failed" or "cancelled"; succeeded, failed, skipped (numbers of branches);
    #   unused (of each limiter: the share of its rates that calls reserved and did not use); error_type
    "branch.start",  # it works from now on; seconds: since its fan-out began, or its cap would have let it; of a policy
    #   in a branch, parent_unit (the run that calls it)
    "branch.end",  # seconds since its fan-out began, outcome, error, attempt (calls made), wait, backoff; reader (of a
    #   stream: when it waited for whoever reads it, as pairs of times); if it failed, error_type (the class of the
    #   exception) and status (of HTTP, if known): never what the exception says
    "branch.late",  # a thread that nobody waits for has returned: outcome "ok" or "failed"; its result is discarded
    "attempt.start",  # attempt; role, target (0, or the number of the fallback)
    "attempt.end",  # as the start; outcome, error, seconds since the start, waits for limiters included; error_type and
    #   status, as branches; breaker (its name), if that has refused the call
    "attempt.late",  # as "branch.late", of a call that was given up for its time
    "backoff",  # over; seconds, attempt (after which)
    "limiter.queue",  # a wait begins; limiter, model, call, depth (calls that wait there, with it)
    "limiter.wait",  # admitted; seconds; limiter, dimension ("" if it passed at once), model, call, requests and tokens
    "limiter.refusal",  # seconds; limiter, reason (the error's code), model, call
    "model.start",  # admitted by all limiters; model, call; where no branch makes it, of the synthesis that does
    "model.usage",  # over; outcome, model, call, input_tokens, output_tokens, cached_tokens (`None` where unknown)
    "breaker",  # a circuit breaker changes; name, before, after ("closed", "open", "half_open")
    "synthesis.start",  # strategy, inputs (behind a stream, as many as are known to be on their way)
    "synthesis.end",  # seconds, outcome; as the start; dropped, agreement (where known), error_type
    # To followers (traces) alone:
    "policy.start",  # a policy's run begins: run (LangChain's id of it, if it has one), several (attempts allowed),
    #   own (whether it is no branch of a fan-out)
    "call.refused",  # a model call in a branch that was given up, by a thread that goes on; call
    "policy.end",  # seconds, outcome, error, attempt (calls made), wait, backoff; error_type and status, as branches
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One fact about one run. What each kind has in `detail` stands beside it in `EventKind`."""

    kind: EventKind
    at: float
    """Seconds on the monotonic clock of the run (the event loop's clock in async runs)."""
    run_id: UUID
    """The fan-out's run, or that of a `RunnableWithPolicy` or a synthesis outside any fan-out."""
    path: tuple[str, ...] = ()
    """Names from the outermost fan-out's branch down to the one concerned; empty for the outermost fan-out itself."""
    unit: int = 0
    """The branch's run, as a number of its own in this process, or that of a policy below it: one name may run several
    times in one branch. 0 for fan-outs."""
    seconds: float | None = None
    """How long it took or waited."""
    outcome: BranchOutcome | None = None
    error: ErrorKind | None = None
    attempt: int | None = None
    """Number of the call within its branch, from 1; fallbacks and hedges count on."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """What only this kind has: the limiter and dimension of a wait, tokens, the role of an attempt (`"primary"`,
    `"retry"`, `"fallback"` or `"hedge"`)."""


class _Subscriber:
    """A sink whose errors are its own: the first is the last."""

    __slots__ = ("_lock", "_sink", "failed")

    def __init__(self, sink: Callable[[Event], None]) -> None:
        self._lock = threading.Lock()
        self._sink = sink
        self.failed = False
        """Whether it has raised, and is left out."""

    def __call__(self, event: Event) -> None:
        if self.failed:
            return
        try:
            self._sink(event)
        except Exception as error:  # noqa: BLE001 - a listener's bug must not end what it listens to
            self._fail(error, event)

    def _fail(self, error: Exception, event: Event) -> None:
        with self._lock:  # several threads may be in the sink
            if self.failed:
                return
            self.failed = True
        name = getattr(self._sink, "__qualname__", type(self._sink).__name__)
        _log.warning(
            "event sink %s raised %s at %s; it is told of nothing any more",
            name, type(error).__name__, event.kind,
            exc_info=error,
        )  # fmt: skip


_here: ContextVar[tuple[_Subscriber, ...]] = ContextVar("lcpp_event_sinks", default=())
_everywhere: tuple[_Subscriber, ...] = ()
_changing = threading.Lock()


def error_type(error: BaseException | type[BaseException]) -> str:
    """Return the class of an exception by its full name: with the kind of the error all that is told of it."""
    kind = error if isinstance(error, type) else type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def listening() -> bool:
    """Return whether anybody listens, so that nobody builds an event for nothing."""
    if not _everywhere and not _here.get():
        return False
    return any(not one.failed for one in (*_everywhere, *_here.get()))


def emit(event: Event, followers: Iterable[Callable[[Event], None]] = ()) -> None:
    """Hand `event` to everybody who listens in this context or in the whole process, and to the run's followers."""
    for subscriber in (*_everywhere, *_here.get()):
        subscriber(event)
    for follower in followers:
        follower(event)


def subscribe(sink: Callable[[Event], None]) -> Callable[[], None]:
    """Call `sink` with every event of this process from now on; return what ends this.

    A sink that raises is told of nothing any more; its error is logged once, with its traceback.

    Raises:
        DeclarationError: `sink` is no function, or an asynchronous one.

    Example:
        ```python
        unsubscribe = subscribe(lambda event: counter.add(1, {"kind": event.kind}))
        ...
        unsubscribe()
        ```
    """
    global _everywhere
    subscriber = _Subscriber(_checked(sink))
    with _changing:
        _everywhere = (*_everywhere, subscriber)

    def unsubscribe() -> None:
        global _everywhere
        with _changing:
            _everywhere = tuple(one for one in _everywhere if one is not subscriber)

    return unsubscribe


@contextmanager
def subscribed(sink: Callable[[Event], None], *, background: bool = False) -> Iterator[None]:
    """Call `sink` with every event of the runs started inside, from whichever thread or task they happen in.

    Args:
        sink: Called with each event, until it raises: that is logged once. It is to be quick, unless it is called in
            the background.
        background: Call it in a thread of its own, one event after another, so that it may take its time. The end of
            the block waits until it has had all events of the block.

    Raises:
        DeclarationError: `sink` is no function, or an asynchronous one.

    Example:
        ```python
        with subscribed(lambda event: log.append(event.kind)):
            fan_out.invoke(document)
        ```
    """
    _checked(sink)
    if background:
        with _in_background(sink) as put, subscribed(put):
            yield
        return
    token = _here.set((*_here.get(), _Subscriber(sink)))
    try:
        yield
    finally:
        _here.reset(token)


def _checked(sink: Callable[[Event], None]) -> Callable[[Event], None]:
    given: object = sink
    if not callable(given):
        msg = f"an event sink is a function of an event, got {given!r}"
        raise DeclarationError(msg, help="for example subscribe(events.append)")
    if iscoroutinefunction(sink) or iscoroutinefunction(getattr(sink, "__call__", None)):  # noqa: B004 - of an object
        msg = f"an event sink is called in line, and {sink!r} is asynchronous: nobody would await it"
        raise DeclarationError(msg, help="hand the event to a queue, such as asyncio.Queue.put_nowait")
    return sink


@contextmanager
def _in_background(sink: Callable[[Event], None]) -> Iterator[Callable[[Event], None]]:
    events: SimpleQueue[Event | None] = SimpleQueue()
    subscriber = _Subscriber(sink)

    def drain() -> None:
        while (event := events.get()) is not None:
            subscriber(event)

    thread = threading.Thread(target=drain, name="lcpp-events", daemon=True)
    thread.start()
    try:
        yield events.put
    finally:
        events.put(None)
        thread.join()
