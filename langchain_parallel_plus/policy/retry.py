"""Calling a branch again."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.policy.budget import RetryBudget
from langchain_parallel_plus.policy.checks import ShortRepr, check_instance, check_seconds, check_whole

__all__ = ("RetryOn", "RetryPolicy")

RetryOn = type[Exception] | Sequence[type[Exception]] | Callable[[Exception], bool]
"""Exception types, or a function of the exception."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RetryPolicy(ShortRepr):
    """Call a branch again when its error may pass: LangGraph's fields, and Retry-After.

    By default rate limits, overload, server errors, timeouts and lost connections are retried; an exhausted quota, a
    bad request, a context that is too long and errors of unknown kind (a bug in the branch, say) are not. The wait
    before attempt n + 1 is drawn evenly from 0 to `initial_interval * backoff_factor ** (n - 1)`, at most
    `max_interval` ("full jitter"); what the provider says in Retry-After replaces it.

    Example:
        ```python
        BranchPolicy(retry=RetryPolicy(max_attempts=4))
        ```
    """

    max_attempts: int = 3
    """Calls in all, the first included."""
    initial_interval: float = 0.5
    """Seconds; the largest wait before the second attempt."""
    backoff_factor: float = 2.0
    """By how much the largest wait grows with each attempt."""
    max_interval: float = 20.0
    """Seconds; no computed wait is longer."""
    jitter: bool = True
    """Draw each wait at random, so that branches that failed together do not come back together."""
    retry_on: RetryOn | None = None
    """Exception types, or a function of the exception, that replace the default above. An exhausted quota, a
    cancellation and a LangGraph interrupt are never retried."""
    respect_retry_after: bool = True
    """Wait as long as the provider asks. If that is more than two minutes or does not fit the time left, the branch
    falls back or fails at once."""
    rate_limit_attempts: int | None = None
    """Calls in all that may end in a rate limit (429), counted apart: a rate limit then uses up none of `max_attempts`,
    and other errors none of these. Left out, all errors share `max_attempts`."""
    budget: RetryBudget | None = None
    """Bounds the retries of everything that shares it; see `RetryBudget`. Left out, there is no bound but the
    attempts."""

    def __post_init__(self) -> None:
        check_whole(self, "max_attempts", self.max_attempts, 1)
        if self.rate_limit_attempts is not None:
            check_whole(self, "rate_limit_attempts", self.rate_limit_attempts, 1)
        check_instance(self, "budget", RetryBudget)
        if self.budget is not None and self.max_attempts == 1:
            msg = "RetryPolicy(max_attempts=1, budget=...) makes no retry that a budget could bound"
            raise DeclarationError(msg, help="use max_attempts=2 or more, or leave the budget out")
        check_seconds(self, "initial_interval", zero=True, optional=False)
        check_seconds(self, "max_interval", zero=True, optional=False)
        if not isinstance(self.backoff_factor, (int, float)) or not 1 <= self.backoff_factor < math.inf:
            msg = f"RetryPolicy.backoff_factor must be at least 1, got {self.backoff_factor!r}"
            raise DeclarationError(msg, help="1 keeps the wait as it is, 2 doubles it with every attempt")
        if isinstance(self.retry_on, list):
            object.__setattr__(self, "retry_on", tuple(self.retry_on))
        _check_retry_on(self.retry_on)


def _check_retry_on(on: object) -> None:
    if inspect.iscoroutinefunction(on):
        msg = "RetryPolicy.retry_on was given an async function, whose answer would always count as yes"
        raise DeclarationError(msg, help="give a plain function of the exception")
    function = callable(on) and not isinstance(on, type)
    types = on if isinstance(on, tuple) else () if function or on is None else (on,)
    wrong = next((t for t in types if not (isinstance(t, type) and issubclass(t, Exception))), None)
    if wrong is not None:
        msg = f"RetryPolicy.retry_on takes exception types or a function of the exception, got {wrong!r}"
        raise DeclarationError(msg, help="for example retry_on=(TimeoutError, ConnectionError)")
