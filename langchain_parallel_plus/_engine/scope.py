"""What runs below a branch needs to know of it: its name, limits, permit, deadline, and whether anybody still waits."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus.errors import BranchAbandonedError
from langchain_parallel_plus.observe.event import Event, EventKind, emit, listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from uuid import UUID

    from langchain_parallel_plus._engine.cancel import CancelToken
    from langchain_parallel_plus._engine.capacity import Capacity, Permit
    from langchain_parallel_plus.limits import RateLimiter

__all__ = ("Scope", "Tally", "blocked_loop", "current_scope")

current_scope: ContextVar[Scope | None] = ContextVar("lcpp_scope", default=None)
"""The innermost branch that the running code belongs to."""


def blocked_loop() -> bool:
    """Return whether this synchronous code runs on an event loop's thread, and so holds all of the loop's tasks up."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class Tally:
    """What one branch has used up so far; the only mutable part of a scope."""

    __slots__ = ("_lock", "attempts", "backoff", "fell_back", "waited")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.attempts = 0
        self.fell_back = False
        self.backoff = 0.0
        self.waited = 0.0

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

    @property
    def lane(self) -> str:
        """The name under which limiters queue this branch's calls."""
        return "/".join(self.path)

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

    def for_call(self, seconds: float | None, now: Callable[[], float], token: CancelToken | None = None) -> Scope:
        """Return this scope for one call in it: on the clock `now`, at most `seconds` long, given up with `token`."""
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
        if listening():
            emit(Event(kind=kind, at=self.now(), run_id=self.run_id, path=self.path, **facts))

    def waited(self, *, limiter: str, dimension: str, seconds: float, model: str, call: UUID) -> None:
        """Record an admission of a model call by a limiter and what it cost in time."""
        if seconds:
            self.tally.add(waited=seconds)
        if listening():
            detail = {"limiter": limiter, "dimension": dimension, "model": model, "call": call}
            self.emit("limiter.wait", seconds=seconds, detail=detail)

    def settled(self, *, input_tokens: int | None, output_tokens: int | None, model: str) -> None:
        """Record what a model call used."""
        self.emit("model.usage", detail={"input_tokens": input_tokens, "output_tokens": output_tokens, "model": model})
