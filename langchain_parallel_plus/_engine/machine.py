"""What to do next for one branch under its policy: a pure step machine.

`step(plan, state, event, now)` returns the next state and one action. The drivers for threads and tasks perform actions
and report events; they decide nothing, so that sync and async cannot drift apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus._engine.attempts import NO_FAILURES, Failures, another_attempt
from langchain_parallel_plus._engine.backoff import call_state, computed_wait
from langchain_parallel_plus.outcome import ErrorKind

if TYPE_CHECKING:
    from langchain_parallel_plus.policy import BranchPolicy, Fallback, RetryPolicy
    from langchain_parallel_plus.providers.classify import Classified

__all__ = (
    "Action",
    "Call",
    "Event",
    "Failed",
    "Instead",
    "Plan",
    "Raise",
    "Return",
    "Returned",
    "Sleep",
    "Start",
    "State",
    "Woke",
    "step",
)


LONGEST_RETRY_AFTER = 120.0
"""Seconds; a provider that asks for more (a daily quota asks for hours) is not waited for. The OpenAI SDK's bound."""


@dataclass(frozen=True, slots=True)
class Instead:
    """What the machine needs to know of a fallback."""

    fallback: Fallback | None = None
    """Which errors it is for; `None`: every one."""
    own_retry: bool = False
    """Whether it retries by itself."""
    own_timeout: bool = False
    """Whether it limits its time by itself."""

    def is_for(self, event: Failed) -> bool:
        """Return whether it is to be called after this failure."""
        return self.fallback is None or self.fallback.is_for(event.error, event.classified.kind)


_ANY = Instead()


@dataclass(frozen=True, slots=True)
class Plan:
    """What the machine needs to know of a policy."""

    targets: int
    """The runnable itself and its fallbacks."""
    retry: RetryPolicy | None = None
    run_timeout: float | None = None
    attempt_timeout: float | None = None
    first_chunk_timeout: float | None = None
    idle_timeout: float | None = None
    fallbacks: tuple[Instead, ...] = ()
    """Those that are not for every failure, or have a policy of their own; others may be left out at the end."""

    @classmethod
    def of(cls, policy: BranchPolicy, fallbacks: tuple[Instead, ...] = ()) -> Plan:
        """Read a policy."""
        timeout = policy.timeout
        return cls(
            targets=1 + len(policy.fallbacks or ()),
            retry=policy.retry or None,
            run_timeout=timeout.run_timeout if timeout else None,
            attempt_timeout=timeout.attempt_timeout if timeout else None,
            first_chunk_timeout=timeout.first_chunk_timeout if timeout else None,
            idle_timeout=timeout.idle_timeout if timeout else None,
            fallbacks=fallbacks,
        )

    def instead(self, target: int) -> Instead:
        """Return what is known of fallback `target`, from 1."""
        return self.fallbacks[target - 1] if target <= len(self.fallbacks) else _ANY

    def retry_of(self, target: int) -> RetryPolicy | None:
        """Return how a target is retried."""
        return self.retry if not target or not self.instead(target).own_retry else None

    def times(self, target: int) -> bool:
        """Return whether the policy's timeouts are a target's."""
        return not target or not self.instead(target).own_timeout

    @property
    def watches_chunks(self) -> bool:
        """Whether the time between chunks is limited."""
        return self.first_chunk_timeout is not None or self.idle_timeout is not None


@dataclass(frozen=True, slots=True)
class State:
    """Where a branch is."""

    target: int = 0
    attempt: int = 0
    """Calls of this target so far."""
    calls: int = 0
    """Calls of all targets so far."""
    expires: float | None = None
    """When this target's `run_timeout` ends."""
    deadline: float | None = None
    """When the work around ends; nothing is started that cannot be done by then."""
    errors: tuple[BaseException, ...] = ()
    """The last error of each target that has failed for good."""
    failures: Failures = NO_FAILURES
    """Of this target so far."""

    def left(self, now: float) -> float | None:
        """Return the seconds that this target still has."""
        ends = [end for end in (self.expires, self.deadline) if end is not None]
        return min(ends) - now if ends else None


@dataclass(frozen=True, slots=True)
class Start:
    """The branch begins."""


@dataclass(frozen=True, slots=True)
class Returned:
    """A call came back; in a stream, with its first chunk or its end."""

    value: Any


@dataclass(frozen=True, slots=True)
class Failed:
    """A call failed before it had delivered anything."""

    error: Exception
    classified: Classified
    chance: float
    """A random draw in [0, 1)."""
    affordable: bool = True
    """Whether the retry budget, if there is one, has paid for another attempt."""


@dataclass(frozen=True, slots=True)
class Woke:
    """A sleep is over."""


@dataclass(frozen=True, slots=True)
class Call:
    """Call a target."""

    target: int
    attempt: int
    """Of this target, from 1."""
    number: int
    """Of the branch, from 1."""
    timeout: float | None
    """Seconds; `None` waits for as long as it takes."""
    whole_run: float | None
    """Seconds that the run of this target has left: what `timeout` means when it is not `attempt_timeout`."""


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait before the next attempt, holding nothing."""

    seconds: float
    attempt: int
    error: Exception


@dataclass(frozen=True, slots=True)
class Return:
    """The branch ends with this value."""

    value: Any


@dataclass(frozen=True, slots=True)
class Raise:
    """The branch ends with the error of its own runnable; the fallbacks' errors are told in a note."""

    error: BaseException
    others: tuple[BaseException, ...]


Event = Start | Returned | Failed | Woke
Action = Call | Sleep | Return | Raise


def step(plan: Plan, state: State, event: Event, now: float) -> tuple[State, Action]:
    """Return what follows from `event`."""
    match event:
        case Start():
            return _call_target(plan, state, 0, now)
        case Woke():
            return _call(plan, state, now)
        case Returned(value):
            return state, Return(value)
        case Failed():
            return _after_failure(plan, state, event, now)


def _call_target(plan: Plan, state: State, target: int, now: float) -> tuple[State, Action]:
    expires = None if plan.run_timeout is None or not plan.times(target) else now + plan.run_timeout
    return _call(plan, State(target, 0, state.calls, expires, state.deadline, state.errors), now)


def _call(plan: Plan, state: State, now: float) -> tuple[State, Action]:
    # Built directly: `replace` costs ten times as much, and this is the way of every call that succeeds at once.
    attempt, calls, expires = state.attempt + 1, state.calls + 1, state.expires
    state = State(state.target, attempt, calls, expires, state.deadline, state.errors, state.failures)
    run_left = None if expires is None else max(expires - now, 0.0)
    timeout = plan.attempt_timeout
    if state.target and not plan.times(state.target):
        timeout = None
    if timeout is None or (run_left is not None and run_left < timeout):
        timeout = run_left
    return state, Call(state.target, attempt, calls, timeout, run_left)


def _after_failure(plan: Plan, state: State, event: Failed, now: float) -> tuple[State, Action]:
    if event.classified.kind is ErrorKind.CANCELLED:
        return state, Raise(event.error, ())
    state = replace(state, failures=state.failures.and_one(event.classified.kind))
    wait = _wait_before_retry(plan, state, event)
    left = state.left(now)
    if wait is not None and (left is None or wait < left):
        return state, Sleep(wait, state.attempt, event.error)
    state = replace(state, errors=(*state.errors, event.error))
    in_time = state.deadline is None or now < state.deadline
    if in_time and event.classified.fallback:
        for target in range(state.target + 1, plan.targets):
            if plan.instead(target).is_for(event):
                return _call_target(plan, state, target, now)
    return state, Raise(state.errors[0], state.errors[1:])


def _wait_before_retry(plan: Plan, state: State, event: Failed) -> float | None:
    """Return the seconds before the next attempt of the same target, or `None` if there is none."""
    retry = plan.retry_of(state.target)
    if retry is None or not event.affordable or not _retryable(retry, event):
        return None
    if not another_attempt(retry, state.failures, event.classified.kind):
        return None
    attempt = call_state(state.attempt, event.error)
    if retry.respect_retry_after and event.classified.retry_after is not None:
        told = event.classified.retry_after
        return told if told <= LONGEST_RETRY_AFTER else None
    return computed_wait(retry, attempt, event.chance)


_NEVER = (ErrorKind.CANCELLED, ErrorKind.LOCAL, ErrorKind.QUOTA_EXHAUSTED, ErrorKind.TOO_LARGE_FOR_QUOTA)


def _retryable(retry: RetryPolicy, event: Failed) -> bool:
    if event.classified.kind in _NEVER:
        return False
    if retry.retry_on is None:
        return event.classified.retryable
    if isinstance(retry.retry_on, (type, tuple)):
        return isinstance(event.error, retry.retry_on)
    try:
        return bool(retry.retry_on(event.error))  # type: ignore[operator]  # validated as a function by RetryPolicy
    except Exception as bug:  # must not take the place of the branch's own error, nor of its fallbacks
        event.error.add_note(f"RetryPolicy.retry_on raised {type(bug).__name__} when asked, so nothing was retried")
        return False
