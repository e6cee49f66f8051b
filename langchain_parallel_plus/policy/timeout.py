"""How long a branch may take."""

from __future__ import annotations

from dataclasses import dataclass

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.policy.checks import ShortRepr, check_seconds

__all__ = ("TimeoutPolicy",)

_WITHIN = (
    ("attempt_timeout", "run_timeout"),
    ("first_chunk_timeout", "attempt_timeout"),
    ("first_chunk_timeout", "run_timeout"),
    ("idle_timeout", "attempt_timeout"),
    ("idle_timeout", "run_timeout"),
)
"""What is a part of what."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TimeoutPolicy(ShortRepr):
    """How long a branch may take. Sync too: the caller gets its timeout on time, and the thread is left behind.

    In a stream, the time that its consumer takes between two chunks does not count. Async work that resists its
    cancellation makes a timeout late by two seconds at most. A thread cannot be stopped from outside: its late result
    is discarded, and its next model call is refused.

    Seconds are numbers or timedeltas. A part may not be longer than its whole.

    Raises:
        DeclarationError: A value is no number of seconds above 0, or can never be reached.

    Example:
        ```python
        TimeoutPolicy(attempt_timeout=120, first_chunk_timeout=20, idle_timeout=15)    # a long answer that keeps coming
        ```
    """

    run_timeout: float | None = None
    """Seconds for the runnable with all its retries, back-off and quota waits. Each fallback has this time anew."""
    attempt_timeout: float | None = None
    """Seconds for one call; a call that takes longer counts as a failed attempt, which a `RetryPolicy` may repeat.

    Waits for limiters do not count, neither for it nor for the first chunk, idleness or a hedge's delay: that of the
    call itself (`BranchPolicy.limiter`) and those of model calls in it, at any depth, under `with_limits`. (A model's
    own `rate_limiter` is part of the model, and counts.) `run_timeout` and deadlines bound them. The time stands still
    while at least one call waits, whatever others do meanwhile: a nested fan-out does not time out for standing in a
    queue. What may hang beside such a wait gets a `RunnableWithPolicy` of its own, whose time runs by itself."""
    first_chunk_timeout: float | None = None
    """Seconds to the first chunk of a stream; one that takes longer is a failed attempt. For calls that deliver all at
    once it means nothing."""
    idle_timeout: float | None = None
    """Seconds in which a stream gives no sign of life: no chunk, and no callback of a run beneath it (a tool that
    starts, a token of a model), while no call waits for a limiter. Before the first chunk it fails the attempt, after
    it the branch. It means nothing for calls that deliver all at once."""

    def __post_init__(self) -> None:
        for name in ("run_timeout", "attempt_timeout", "first_chunk_timeout", "idle_timeout"):
            check_seconds(self, name)
        for part, whole in _WITHIN:
            inner, outer = getattr(self, part), getattr(self, whole)
            if inner is not None and outer is not None and inner > outer:
                msg = f"TimeoutPolicy({part}={inner:g}, {whole}={outer:g}): {part} can never be reached"
                raise DeclarationError(msg, help=f"use {part}={outer:g} or less, or leave it out")
