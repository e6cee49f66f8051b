"""tenacity's stop, wait and retry objects, read as the fields of a `RetryPolicy`.

Only exact types are read: a subclass may mean anything.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import tenacity
from tenacity import AsyncRetrying, Future, RetryCallState, Retrying
from tenacity.retry import retry_base
from tenacity.stop import stop_base
from tenacity.wait import wait_base

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.policy.checks import LONGEST
from langchain_parallel_plus.policy.retry import RetryOn, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("is_tenacity", "retry_of_tenacity")

_OF_ERRORS: Final = (
    tenacity.retry_if_exception,
    tenacity.retry_if_exception_type,
    tenacity.retry_if_not_exception_type,
    tenacity.retry_if_exception_message,
    tenacity.retry_if_exception_cause_type,
)
"""Strategies that look at the error alone."""
_HOOKS: Final = ("sleep", "before", "after", "before_sleep", "retry_error_callback")


def is_tenacity(value: object) -> bool:
    """Tell whether `value` is one of tenacity's objects."""
    return isinstance(value, tenacity.BaseRetrying | stop_base | wait_base | retry_base)


def retry_of_tenacity(value: object) -> RetryPolicy:
    """Return the policy that says the same.

    Raises:
        DeclarationError: None does.
    """
    if isinstance(value, stop_base):
        return RetryPolicy(max_attempts=_attempts(value))
    if isinstance(value, wait_base):
        return RetryPolicy(**_waits(value))
    if isinstance(value, retry_base):
        return RetryPolicy(retry_on=_retry_on(value))
    if isinstance(value, tenacity.BaseRetrying):
        return _of_retrying(value)
    raise _inexpressible(value, "give one of tenacity's own objects")


def _of_retrying(retrying: tenacity.BaseRetrying) -> RetryPolicy:
    usual = AsyncRetrying() if isinstance(retrying, AsyncRetrying) else Retrying()
    for hook in _HOOKS:
        if getattr(retrying, hook) is not getattr(usual, hook):
            msg = f"tenacity's {type(retrying).__name__}({hook}=...) cannot be kept in a RetryPolicy"
            raise DeclarationError(msg, help="retries are reported to callbacks (on_retry) and to collect_report()")
    if not getattr(retrying, "enabled", True):
        return RetryPolicy(max_attempts=1)
    # Left out, tenacity retries every exception, bugs included: nobody has asked for that, so our default stands.
    default = retrying.retry is usual.retry
    on = None if default else _retry_on(retrying.retry)
    return RetryPolicy(max_attempts=_attempts(retrying.stop), retry_on=on, **_waits(retrying.wait))


def _attempts(stop: Any) -> int:
    """Return after how many attempts a strategy stops."""
    if type(stop) is tenacity.stop_after_attempt:
        return stop.max_attempt_number
    if type(stop) is tenacity.stop_any:
        return min(_attempts(one) for one in stop.stops)
    if type(stop) is tenacity.stop_all:
        return max(_attempts(one) for one in stop.stops)
    if isinstance(stop, tenacity.stop_after_delay | tenacity.stop_before_delay):
        seconds = stop.max_delay
        raise _inexpressible(
            stop, f"use stop_after_attempt(n), and TimeoutPolicy(run_timeout={seconds:g}) for the time"
        )
    raise _inexpressible(stop, "use stop_after_attempt(n)")


def _waits(wait: Any) -> Mapping[str, Any]:
    """Return the fields that wait as a strategy does."""
    match wait:
        case tenacity.wait_none() | tenacity.wait_fixed() if type(wait) in (tenacity.wait_none, tenacity.wait_fixed):
            return _fields(wait.wait_fixed, 1, wait.wait_fixed, jitter=False)
        case tenacity.wait_random() if type(wait) is tenacity.wait_random and wait.wait_random_min == 0:
            return _fields(wait.wait_random_max, 1, wait.wait_random_max, jitter=True)
        case tenacity.wait_random_exponential() if type(wait) is tenacity.wait_random_exponential and wait.min <= 0:
            return _fields(wait.multiplier, wait.exp_base, wait.max, jitter=True)
        case tenacity.wait_exponential() if type(wait) is tenacity.wait_exponential and wait.min <= wait.multiplier:
            return _fields(wait.multiplier, wait.exp_base, max(wait.max, wait.min), jitter=False)
        case tenacity.wait_exponential_jitter() if _is_exponential(wait):
            known = vars(wait)  # tenacity 9.2 calls `multiplier` what was `initial` before
            return _fields(known.get("multiplier", known.get("initial")), wait.exp_base, wait.max, jitter=False)
        case tenacity.wait_exception():
            raise _inexpressible(wait, "leave it out: what the provider says in Retry-After is waited for")
    raise _inexpressible(
        wait, "use wait_random_exponential(multiplier, max), which is the default's kind, or wait_fixed"
    )


def _is_exponential(wait: tenacity.wait_exponential_jitter) -> bool:
    """Return whether it has neither the jitter that it is named after nor, since tenacity 9.2, a least wait."""
    return type(wait) is tenacity.wait_exponential_jitter and not wait.jitter and not vars(wait).get("min")


def _fields(initial: Any, factor: float, longest: float, *, jitter: bool) -> Mapping[str, Any]:
    return {
        "initial_interval": initial,
        "backoff_factor": factor,
        "max_interval": min(longest, LONGEST),  # tenacity's default is 146 billion years
        "jitter": jitter,
    }


def _retry_on(retry: Any) -> RetryOn:
    """Return what says the same of an error."""
    if type(retry) is tenacity.retry_if_exception_type:
        return retry.exception_types  # type: ignore[return-value]  # RetryPolicy refuses what is no Exception
    _check_of_errors(retry)
    return _TenacityJudge(retry)


def _check_of_errors(retry: Any) -> None:
    if type(retry) in (tenacity.retry_any, tenacity.retry_all):
        for one in retry.retries:
            _check_of_errors(one)
    elif type(retry) not in _OF_ERRORS or inspect.iscoroutinefunction(getattr(retry, "predicate", None)):
        help = "use retry_if_exception_type(...); an output that does not count is JoinPolicy(accept=...)'s business"
        raise _inexpressible(retry, help)


@dataclass(frozen=True, slots=True)
class _TenacityJudge:
    """A strategy of tenacity's as a function of the error."""

    strategy: retry_base

    def __call__(self, error: Exception) -> bool:
        # One of our own for each question: what tenacity keeps itself is per thread, not per task.
        state = RetryCallState(Retrying(), fn=None, args=(), kwargs={})
        state.outcome = Future(1)
        state.outcome.set_exception(error)
        return bool(self.strategy(state))


def _inexpressible(value: object, help: str) -> DeclarationError:
    shown = "a function in tenacity's terms" if inspect.isroutine(value) else f"tenacity's {type(value).__name__}"
    return DeclarationError(f"{shown} cannot be expressed as a RetryPolicy", help=help)
