"""Whether a failed call has another attempt: pure, over numbers.

The order in which everything about a call is decided, outermost first (each layer sees what the next one ends as):

1. **deadline** of the fan-out, and `run_timeout` of this target: nothing is begun that cannot be done by then;
2. **fallback**: the next target, when the one before has failed for good and its error's kind permits;
3. **retry**: the same target again after a wait that holds nothing, while attempts, budget and time last;
4. **hedge**: the same call once more beside the first when that is slow, at most once and a share of all calls;
5. **breaker**: an open one refuses the call before it costs anything, each attempt and each hedge anew;
6. **admission**: quota and concurrency in one step; a hedge is admitted at once or not at all. The wait counts against
   the deadline. Who has waited asks the breaker again;
7. **attempt timeout**, with the first chunk's and the idle one;
8. the **call**.

So a call that the breaker refuses pays no quota and is not retried but falls back; a retry pays the limiter again; a
hedge's error is no attempt of its own, and the first call's error is the one that counts when both fail.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_parallel_plus.outcome import ErrorKind

if TYPE_CHECKING:
    from langchain_parallel_plus.policy.retry import RetryPolicy

__all__ = ("NO_FAILURES", "Failures", "another_attempt", "draws_on_budget")


@dataclass(frozen=True, slots=True)
class Failures:
    """How often a target has failed in this run."""

    rate_limited: int = 0
    """With a rate limit."""
    other: int = 0

    def and_one(self, kind: ErrorKind) -> Failures:
        """Return the failures with one more."""
        if kind is ErrorKind.RATE_LIMIT:
            return Failures(self.rate_limited + 1, self.other)
        return Failures(self.rate_limited, self.other + 1)


NO_FAILURES = Failures()
"""Before the first call."""


def another_attempt(retry: RetryPolicy, failures: Failures, last: ErrorKind) -> bool:
    """Return whether the policy has an attempt left after `failures`, the last of which is among them."""
    if retry.rate_limit_attempts is None:
        return failures.rate_limited + failures.other < retry.max_attempts
    if last is ErrorKind.RATE_LIMIT:
        return failures.rate_limited < retry.rate_limit_attempts
    return failures.other < retry.max_attempts


def draws_on_budget(retry: RetryPolicy, last: ErrorKind) -> bool:
    """Return whether a retry after such an error is paid from the budget.

    A rate limit's is not: it was refused before it cost anything, and the limiter says when to come back.
    """
    return retry.budget is not None and last is not ErrorKind.RATE_LIMIT
