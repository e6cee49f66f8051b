"""What a limiter, and the gate, need to know of a branch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from uuid import UUID

    from langchain_parallel_plus.limits.cost import Cost
    from langchain_parallel_plus.limits.limiter import RateLimiter
    from langchain_parallel_plus.limits.tokens.usage import Usage

__all__ = ("GateScope", "scope_here", "scoped_by")


class GateScope(Protocol):
    """A branch, as the gate sees it."""

    @property
    def limiters(self) -> tuple[RateLimiter, ...]:
        """All limiters of the fan-outs around, outer first, without duplicates."""

    @property
    def lane(self) -> str:
        """The branch's path, such as "research/summary": its lane in the limiters' queues."""

    @property
    def weight(self) -> float:
        """Its share against other lanes."""

    @property
    def at_once(self) -> bool:
        """Whether its calls wait for no limiter: in a hedge, what is not admitted at once is not called."""

    def current(self) -> GateScope:
        """Return the innermost scope of the running code; this one where the context was lost."""

    def check(self) -> None:
        """Raise `BranchAbandonedError` if nobody waits for this branch any more."""

    def on_cancel(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback`, from any thread, when the branch is given up; return what undoes this."""

    def remaining(self) -> float | None:
        """Return the seconds left to the deadline; `None` without one."""

    def stand_still(self) -> Callable[[], None]:
        """Stop the time of the attempts around, while a call waits; return what lets it go on."""

    def suspended(self) -> AbstractContextManager[None]:
        """Give the branch's permit back while this thread waits."""

    def asuspended(self) -> AbstractAsyncContextManager[None]:
        """Give the branch's permit back while this task waits."""

    def queued(self, *, limiter: str, model: str, call: UUID, depth: int) -> None:
        """Take note that a call begins to wait for a limiter; `depth` is how many wait there, with it."""

    def waited(
        self, *, limiter: str, dimension: str, seconds: float, model: str, call: UUID, cost: Cost | None = None
    ) -> None:
        """Take note of one admission by one limiter.

        Args:
            limiter: Its name.
            dimension: What it waited for: a rate's name, "concurrency", "pause", "probe" (for the answer to the first
                call at a quota that nobody knows) or "burst" (for its turn in a large burst); empty without a wait.
            seconds: 0 without a wait.
            model: The model's name.
            call: The model call's run: several limiters may admit one call.
            cost: What the limiter has charged.
        """

    def refused(self, *, limiter: str, reason: str, seconds: float, model: str, call: UUID) -> None:
        """Take note that a limiter has refused a call, after `seconds`; the reason is the error's code."""

    def called(self, *, model: str, call: UUID) -> None:
        """Take note that a call is admitted by all limiters, and begins."""

    def settled(self, *, usage: Usage | None, model: str, call: UUID, failed: bool = False) -> None:
        """Take note that a call is over, and what it has used; `None` if nobody says, or no call was made."""


_look: Callable[[], GateScope | None] = lambda: None  # noqa: E731 - replaced by the engine, which this may not import


def scoped_by(look: Callable[[], GateScope | None]) -> None:
    """Let `look` say in which branch code runs."""
    global _look
    _look = look


def scope_here() -> GateScope | None:
    """Return the innermost branch that the running code belongs to, if it belongs to one."""
    return _look()
