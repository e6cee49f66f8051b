"""Calling nobody who is down."""

from __future__ import annotations

from dataclasses import dataclass

from langchain_parallel_plus.policy.checks import ShortRepr, check_seconds, check_whole
from langchain_parallel_plus.policy.shares import check_name, check_ratio

__all__ = ("CircuitBreaker",)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, weakref_slot=True)
class CircuitBreaker(ShortRepr):
    """Stop calling a provider that fails, and look from time to time whether it is back.

    While it is open, a call is not made: it fails at once with `CircuitOpenError`, which goes straight to the fallback.
    Overload, server errors, timeouts and lost connections count as failures. An exhausted quota or a refused key opens
    it at once, until the time that the provider names, since every call would meet the same. Rate limits, bad requests,
    contexts that are too long, cancellations and this package's own refusals say nothing about the provider's health
    and do not count at all.

    Breakers of one `name` share one state in a process, as limiters do; without a name, the state belongs to this
    object. Pickled into another process it is a declaration, and its state starts afresh.

    Example:
        ```python
        BranchPolicy(breaker=CircuitBreaker(name="openai"), fallbacks=[other_llm])
        ```
    """

    failure_ratio: float = 0.5
    """Failed calls among those of the window that open it."""
    minimum_calls: int = 10
    """Calls in the window below which it stays closed, however many of them failed."""
    window: float = 60.0
    """Seconds that a call's result is remembered; forgotten a tenth of the window at a time."""
    open_for: float = 30.0
    """Seconds before it lets probes through, if the provider names no time."""
    probes: int = 1
    """Calls let through to see whether the provider is back. If all of them succeed it closes; the first that fails
    opens it again."""
    name: str | None = None

    def __post_init__(self) -> None:
        check_ratio(self, "failure_ratio", self.failure_ratio)
        check_whole(self, "minimum_calls", self.minimum_calls, 1)
        check_seconds(self, "window", optional=False)
        check_seconds(self, "open_for", optional=False)
        check_whole(self, "probes", self.probes, 1)
        check_name(self, self.name)
