"""How much retrying may add to the load."""

from __future__ import annotations

from dataclasses import dataclass

from langchain_parallel_plus.policy.checks import ShortRepr, check_seconds, check_whole
from langchain_parallel_plus.policy.shares import check_name, check_ratio

__all__ = ("RetryBudget",)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, weakref_slot=True)
class RetryBudget(ShortRepr):
    """Bound the retries of everything that shares it, so that an outage is not answered with a storm.

    Three attempts a call triple the load on a provider that is already failing. With a budget, the retries of the last
    `window` seconds never exceed `minimum` plus `ratio` of the calls begun in them; a call that finds it spent falls
    back or fails with its own error. Only retries after overload, server errors, timeouts and the like draw on it: how
    often a rate limit is retried is `RetryPolicy.rate_limit_attempts`, and when is the limiter's business.

    The ratio is that of Finagle's `RetryBudget` (20 % of the requests), the ten in store that of gRPC's retry
    throttling (gRFC A6). Budgets of one `name` share one state in a process, as limiters do; without a name, the state
    belongs to this object. Pickled into another process it is a declaration, and its state starts afresh.

    Example:
        ```python
        RetryPolicy(max_attempts=4, budget=RetryBudget(name="openai"))
        ```
    """

    ratio: float = 0.2
    """Retries for each call that is begun."""
    minimum: int = 10
    """Retries in the window that need no calls, for those who make few."""
    window: float = 60.0
    """Seconds that calls and retries are remembered; forgotten a tenth of the window at a time."""
    name: str | None = None

    def __post_init__(self) -> None:
        check_ratio(self, "ratio", self.ratio)
        check_whole(self, "minimum", self.minimum, 0)
        check_seconds(self, "window", optional=False)
        check_name(self, self.name)
