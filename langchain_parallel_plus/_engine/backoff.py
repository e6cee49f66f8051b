"""How long to wait before the next attempt, in tenacity's terms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenacity import Future, RetryCallState, Retrying, wait_exponential

if TYPE_CHECKING:
    from langchain_parallel_plus.policy import RetryPolicy

__all__ = ("call_state", "computed_wait")


def call_state(attempt: int, error: BaseException, *, sleep: float = 0.0, slept: float = 0.0) -> RetryCallState:
    """Return the failed attempt as tenacity describes it, for its strategies and for `on_retry` callbacks."""
    state = RetryCallState(Retrying(), fn=None, args=(), kwargs={})
    state.attempt_number = attempt
    state.outcome = Future(attempt)
    state.outcome.set_exception(error)
    state.upcoming_sleep = sleep
    state.idle_for = slept
    return state


def computed_wait(policy: RetryPolicy, state: RetryCallState, chance: float) -> float:
    """Return the seconds to wait after the attempt in `state`; `chance`, in [0, 1), is the jitter's random draw.

    Full jitter over tenacity's exponential: the draw scales the capped ceiling, so that waits never pile up at
    `max_interval` (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """
    ceiling = wait_exponential(
        multiplier=policy.initial_interval, exp_base=policy.backoff_factor, max=policy.max_interval
    )(state)
    return ceiling * chance if policy.jitter else ceiling
