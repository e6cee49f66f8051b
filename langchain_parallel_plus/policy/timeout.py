"""How long a branch may take."""

from __future__ import annotations

from dataclasses import dataclass

from langchain_parallel_plus.policy.checks import ShortRepr, check_seconds

__all__ = ("TimeoutPolicy",)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TimeoutPolicy(ShortRepr):
    """How long a branch may take. Sync too: the caller gets its timeout on time, and the thread is left behind.

    In a stream, the time that its consumer takes between two chunks does not count. Async work that resists its
    cancellation makes a timeout late by two seconds at most. A thread cannot be stopped from outside: its late result
    is discarded, and its next model call is refused.
    """

    run_timeout: float | None = None
    """Seconds for the runnable with all its retries, back-off and quota waits. Each fallback has this time anew."""
    attempt_timeout: float | None = None
    """Seconds for one call; a call that takes longer counts as a failed attempt, which a `RetryPolicy` may repeat."""

    def __post_init__(self) -> None:
        check_seconds(self, "run_timeout")
        check_seconds(self, "attempt_timeout")
