"""What runs below a branch needs to know of it: its name, limits, permit, deadline, and whether anybody still waits."""

from __future__ import annotations

import asyncio
import itertools
import threading
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from langchain_parallel_plus.errors import BranchAbandonedError
from langchain_parallel_plus.limits.branch_scope import scoped_by
from langchain_parallel_plus.observe.correlation import located_by
from langchain_parallel_plus.observe.event import Event, EventKind, emit, listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextvars import Context
    from uuid import UUID

    from langchain_core.callbacks import BaseCallbackManager

    from langchain_parallel_plus._engine.call_time import CallTime
    from langchain_parallel_plus._engine.cancel import CancelToken
    from langchain_parallel_plus._engine.capacity import Capacity, Permit
    from langchain_parallel_plus._engine.holdups import Holdups
    from langchain_parallel_plus.limits import Cost, RateLimiter
    from langchain_parallel_plus.limits.covering import Cover
    from langchain_parallel_plus.limits.tokens.usage import Usage
    from langchain_parallel_plus.observe.following import Follower

__all__ = ("Ears", "Scope", "Tally", "blocked_loop", "callbacks_for", "current_scope")

C = TypeVar("C", bound="BaseCallbackManager")

current_scope: ContextVar[Scope | None] = ContextVar("lcpp_scope", default=None)
"""The innermost branch that the running code belongs to."""


def blocked_loop() -> bool:
    """Return whether this synchronous code runs on an event loop's thread, and so holds all of the loop's tasks up."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


_UNITS = itertools.count(1)


class Ears(Protocol):
    """Whoever hears of model calls."""

    def enter(self, context: Context) -> None:
        """Hear of every call in `context`."""

    def sweep(self) -> None:
        """Close the calls that are open."""


class Tally:
    """What one branch has used up so far; the only mutable part of a scope."""

    __slots__ = ("_lock", "attempts", "backoff", "fell_back", "holdups", "parent_unit", "unit", "waited")

    def __init__(self, unit: int | None = None, parent_unit: int = 0) -> None:
        self._lock = threading.Lock()
        self.unit = next(_UNITS) if unit is None else unit
        self.parent_unit = parent_unit
        self.attempts = 0
        self.fell_back = False
        self.backoff = 0.0
        self.waited = 0.0
        self.holdups: Holdups | None = None

    def add(self, *, backoff: float = 0.0, waited: float = 0.0) -> None:
        """Add seconds; model calls of one branch may wait in several threads."""
        with self._lock:
            self.backoff += backoff
            self.waited += waited


@dataclass(slots=True, eq=False)
class Scope:
    """One branch at run time, as seen by what runs inside it. Never mutated: nested work derives its own.

    Not frozen, because one is made for every branch of every call, and that would cost as much as all the rest of it.
    """

    path: tuple[str, ...]
    run_id: UUID
    token: CancelToken
    now: Callable[[], float]
    deadline: float | None = None
    """On the clock of `now`; the tightest of this branch's and all deadlines around it."""
    limiters: tuple[RateLimiter, ...] = ()
    weight: float = 1.0
    capacity: Capacity | None = None
    permit: Permit | None = None
    tally: Tally = field(default_factory=Tally)
    step: object = None
    """The runnable that is this branch."""
    at_once: bool = False
    """Whether nothing in it waits for a rate limit: it is a hedge, which is made at once or not at all."""
    fan_out: str = ""
    """Its fan-out's name."""
    attempt: int | None = None
    """The number of the call under way, where a policy makes several."""
    followers: tuple[Follower, ...] = ()
    """Who follows the run, besides those who listen in its context."""
    time: CallTime | None = None
    """Of the call that it is part of, where a policy limits that."""
    ears: Ears | None = None
    """Hears of the model calls of a policy outside of any fan-out; a branch has a gate."""
    cover: Cover | None = None
    """What the call has paid at a limiter, for those inside it."""

    @property
    def unit(self) -> int:
        """The number of the branch's run, or of that of a policy below it."""
        return self.tally.unit

    @property
    def heard(self) -> bool:
        """Whether somebody hears what is told of the branch."""
        return bool(self.followers) or listening()

    @property
    def lane(self) -> str:
        """The name under which limiters queue this branch's calls."""
        return "/".join(self.path)

    @property
    def correlation(self) -> dict[str, str]:
        """What a log record says of this branch: see `CorrelationFilter`."""
        return {"lcpp_run_id": str(self.run_id), "lcpp_fan_out": self.fan_out, "lcpp_branch": self.lane}

    def current(self) -> Scope:
        """Return the innermost scope of the running code; this one where the context was lost."""
        return current_scope.get() or self

    def check(self) -> None:
        """Raise `BranchAbandonedError` if nobody waits for this branch any more."""
        if self.token.cancelled:
            msg = f"branch {self.lane!r} goes on after its fan-out has ended; its next step was not started"
            raise BranchAbandonedError(msg)

    def on_cancel(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` when the branch is given up; return the un-subscription."""
        return self.token.subscribe(callback)

    def remaining(self) -> float | None:
        """Return the seconds left to the tightest deadline, or `None` without one."""
        return None if self.deadline is None else self.deadline - self.now()

    def left(self) -> float | None:
        """Return the seconds left to the tightest deadline, or to the end of a call around if nothing waits there."""
        if self.time is None:
            return self.remaining()
        ends = (self.remaining(), self.time.left())
        return min((seconds for seconds in ends if seconds is not None), default=None)

    def stand_still(self) -> Callable[[], None]:
        """Stop the time of the calls around, for a wait that does not count; return what lets it go on."""
        return _nothing if self.time is None else self.time.stand_still()

    def for_call(
        self,
        seconds: float | None,
        now: Callable[[], float],
        token: CancelToken | None = None,
        attempt: int | None = None,
        time: CallTime | None = None,
        cover: Cover | None = None,
    ) -> Scope:
        """Return this scope for one call in it.

        Args:
            seconds: How long its run may take.
            now: Its clock.
            token: What it is given up with.
            attempt: Its number.
            time: Its own time, if that is limited.
            cover: What it has paid at a limiter.
        """
        left = [limit for limit in (self.remaining(), seconds) if limit is not None]
        deadline = now() + min(left) if left else None
        # Built directly: `replace` costs ten times as much.
        return Scope(
            self.path,
            self.run_id,
            token or self.token,
            now,
            deadline,
            self.limiters,
            self.weight,
            self.capacity,
            self.permit,
            self.tally,
            self.step,
            self.at_once,
            self.fan_out,
            attempt,
            self.followers,
            self.time if time is None else time,
            self.ears,
            cover,
        )

    def for_hedge(self, token: CancelToken, permit: Permit | None) -> Scope:
        """Return this scope for a hedge beside the branch's own call: given up with `token`, under its own `permit`."""
        return replace(self, token=token, permit=permit, at_once=True)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Give the branch's permit back while this thread waits for something that is not leaf work.

        Not on a loop's thread: tasks of that loop might be given it, and could neither use it nor give it back.
        """
        if self.permit is None or blocked_loop():
            yield
            return
        with self.permit.suspended(self.token):
            yield

    @asynccontextmanager
    async def asuspended(self) -> AsyncIterator[None]:
        """Give the branch's permit back while this task waits for something that is not leaf work."""
        if self.permit is None:
            yield
            return
        async with self.permit.asuspended():
            yield

    def emit(self, kind: EventKind, **facts: Any) -> None:
        """Tell whoever listens a fact about this branch."""
        if self.heard:
            emit(self._event(kind, facts), self.followers)

    def tell_followers(self, kind: EventKind, **facts: Any) -> None:
        """Tell the followers alone what is no news to others: which of LangChain's runs a policy's is."""
        if self.followers:
            event = self._event(kind, facts)
            for follower in self.followers:
                follower(event)

    def _event(self, kind: EventKind, facts: dict[str, Any]) -> Event:
        facts.setdefault("attempt", self.attempt)
        return Event(kind=kind, at=self.now(), run_id=self.run_id, path=self.path, unit=self.tally.unit, **facts)

    def queued(self, *, limiter: str, model: str, call: UUID, depth: int) -> None:
        """Tell that a call begins to wait for a limiter, at which `depth` calls wait with it."""
        if self.heard:
            self.emit("limiter.queue", detail={"limiter": limiter, "model": model, "call": call, "depth": depth})

    def waited(
        self, *, limiter: str, dimension: str, seconds: float, model: str, call: UUID, cost: Cost | None = None
    ) -> None:
        """Record an admission of a call by a limiter, what it cost in time, and what was charged for it."""
        if seconds:
            self.tally.add(waited=seconds)
        if self.heard:
            detail = {"limiter": limiter, "dimension": dimension, "model": model, "call": call, **_charged(cost)}
            self.emit("limiter.wait", seconds=seconds, detail=detail)

    def refused(self, *, limiter: str, reason: str, seconds: float, model: str, call: UUID) -> None:
        """Tell that a limiter has refused a call."""
        if self.heard:
            detail = {"limiter": limiter, "reason": reason, "model": model, "call": call}
            self.emit("limiter.refusal", seconds=seconds, detail=detail)

    def called(self, *, model: str, call: UUID) -> None:
        """Tell that a model call is admitted by all limiters, and begins."""
        if self.heard:
            self.emit("model.start", detail={"model": model, "call": call})

    def settled(self, *, usage: Usage | None, model: str, call: UUID, failed: bool = False) -> None:
        """Tell that a model call is over, and what it used."""
        if not self.heard:
            return
        counted = dict.fromkeys(_COUNTS) if usage is None else {name: getattr(usage, name) for name in _COUNTS}
        detail = {**counted, "model": model, "call": call}
        self.emit("model.usage", outcome="failed" if failed else "ok", detail=detail)


def callbacks_for(scope: Scope, callbacks: C) -> C:
    """Return the callbacks of a branch's child runs, or of an attempt's, as its followers want them."""
    for follower in scope.followers:
        callbacks = follower.callbacks_for(scope, callbacks)
    return callbacks


def _nothing() -> None:
    """Go on, where nothing has stood still."""


_COUNTS = ("input_tokens", "output_tokens", "cached_tokens")


def _charged(cost: Cost | None) -> dict[str, float]:
    if cost is None:
        return {}
    return {
        "requests": cost.requests,
        "tokens": cost.total_tokens,
        "input_tokens": cost.input_tokens,
        "output_tokens": cost.output_tokens,
    }


located_by(current_scope.get)
scoped_by(current_scope.get)
