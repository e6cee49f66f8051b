"""LangGraph's and tenacity's policies, taken for ours where they mean something that ours can say.

LangGraph is optional: its policies are known by their attributes, and nothing of it is imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.policy.retry import RetryPolicy
from langchain_parallel_plus.policy.tenacity_terms import is_tenacity, retry_of_tenacity
from langchain_parallel_plus.policy.timeout import TimeoutPolicy

__all__ = ("retry_of", "timeout_of")

_LANGGRAPH_RETRY: Final = ("max_attempts", "initial_interval", "backoff_factor", "max_interval", "jitter")


def retry_of(value: object) -> RetryPolicy:
    """Return `value` as a `RetryPolicy`.

    A LangGraph `RetryPolicy` keeps its numbers and its `retry_on`, except LangGraph's default function, which retries
    nearly everything: ours stands in for it, and an exhausted quota is not retried either way. A tenacity `Retrying` or
    `AsyncRetrying`, or one stop, wait or retry object of tenacity, is read once; the object itself is never run, so it
    may be shared (its own state is per thread, and mixes up tasks). Results that tenacity would retry, hooks and
    unending retries cannot be expressed.

    Args:
        value: A policy of this package, of LangGraph or of tenacity.

    Raises:
        DeclarationError: It is none, or says what a `RetryPolicy` cannot.

    Example:
        ```python
        from tenacity import stop_after_attempt, wait_random_exponential

        retry_of(stop_after_attempt(5))             # RetryPolicy(max_attempts=5)
        ```
    """
    if isinstance(value, RetryPolicy):
        return value
    if all(hasattr(value, name) for name in _LANGGRAPH_RETRY):
        return _of_langgraph(value)
    if is_tenacity(value):
        return retry_of_tenacity(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        msg = f"retry was given {len(value)} policies in a {type(value).__name__}; a branch has one"
        raise DeclarationError(msg, help="write one RetryPolicy, with a function of the exception as retry_on")
    msg = f"retry takes a RetryPolicy, LangGraph's or tenacity's included, got {value!r}"
    raise DeclarationError(msg, help="write retry=RetryPolicy(max_attempts=4)")


def timeout_of(value: object) -> TimeoutPolicy:
    """Return `value` as a `TimeoutPolicy`.

    LangGraph's `run_timeout` is for one attempt of a node: it is our `attempt_timeout`. Its `idle_timeout` is ours.

    Args:
        value: A policy of this package or of LangGraph.

    Raises:
        DeclarationError: It is none, or its `refresh_on` is "heartbeat", which no branch sends.
    """
    if isinstance(value, TimeoutPolicy):
        return value
    if not (hasattr(value, "run_timeout") and hasattr(value, "idle_timeout")) or isinstance(value, type):
        msg = f"timeout takes a TimeoutPolicy, LangGraph's included, got {value!r}"
        raise DeclarationError(msg, help="write timeout=TimeoutPolicy(run_timeout=30)")
    foreign: Any = value
    refresh_on = getattr(foreign, "refresh_on", "auto")
    if foreign.idle_timeout is not None and refresh_on != "auto":
        msg = f"timeout was given a LangGraph TimeoutPolicy with refresh_on={refresh_on!r}, which no branch can send"
        raise DeclarationError(msg, help="use refresh_on='auto': chunks and callbacks refresh the idle timeout")
    return TimeoutPolicy(attempt_timeout=foreign.run_timeout, idle_timeout=foreign.idle_timeout)


def _of_langgraph(foreign: Any) -> RetryPolicy:
    if isinstance(foreign, type):
        msg = f"retry was given the class {foreign.__name__}, not a policy"
        raise DeclarationError(msg, help="write retry=RetryPolicy(max_attempts=4)")
    retry_on = getattr(foreign, "retry_on", None)
    if getattr(retry_on, "__name__", "") == "default_retry_on" and "langgraph" in getattr(retry_on, "__module__", ""):
        retry_on = None
    elif isinstance(retry_on, Sequence):
        retry_on = tuple(retry_on)
    return RetryPolicy(**{name: getattr(foreign, name) for name in _LANGGRAPH_RETRY}, retry_on=retry_on)
