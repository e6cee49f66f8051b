"""How a branch is treated and when a fan-out is done: frozen, validated data, and nothing that runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any, Literal

from langchain_core.runnables import Runnable
from langchain_core.runnables.base import coerce_to_runnable

from langchain_parallel_plus.errors import DeclarationError, UnknownBranchError

__all__ = (
    "BranchPolicies",
    "BranchPolicy",
    "JoinPolicy",
    "OnFailure",
    "RetryPolicy",
    "TimeoutPolicy",
    "checked_policy",
)

OnFailure = Literal["raise", "keep", "drop"]
RetryOn = type[Exception] | Sequence[type[Exception]] | Callable[[Exception], bool]


def _seconds(owner: object, name: str, *, zero: bool = False) -> None:
    """Turn the field into float seconds, or refuse it."""
    value = getattr(owner, name)
    if value is None:
        return
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not number or not (seconds > 0 or (zero and seconds == 0)):
        least = "0 or more" if zero else "more than 0"
        msg = f"{type(owner).__name__}.{name} must be {least} seconds, got {value!r}"
        raise DeclarationError(msg, help="give seconds as a number or a timedelta, or leave it out")
    object.__setattr__(owner, name, float(seconds))


def _whole(owner: object, name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        msg = f"{type(owner).__name__}.{name} must be a whole number of at least {least}, got {value!r}"
        raise DeclarationError(msg, help=f"use {name}={least} or more")


class _ShortRepr:
    """Shows only what differs from the defaults: the repr is the code that makes the value."""

    __slots__ = ()

    def __repr__(self) -> str:
        shown = [
            f"{f.name}={getattr(self, f.name)!r}"
            for f in fields(self)  # type: ignore[arg-type]  # only dataclasses derive from this
            if getattr(self, f.name) != f.default and getattr(self, f.name) != ()
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RetryPolicy(_ShortRepr):
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
    """Wait as long as the provider asks. If that is more than two minutes or does not fit the time left, the branch falls
    back or fails at once."""

    def __post_init__(self) -> None:
        _whole(self, "max_attempts", self.max_attempts, 1)
        _seconds(self, "initial_interval", zero=True)
        _seconds(self, "max_interval", zero=True)
        if not isinstance(self.backoff_factor, (int, float)) or self.backoff_factor < 1:
            msg = f"RetryPolicy.backoff_factor must be at least 1, got {self.backoff_factor!r}"
            raise DeclarationError(msg, help="1 keeps the wait as it is, 2 doubles it with every attempt")
        if isinstance(self.retry_on, list):
            object.__setattr__(self, "retry_on", tuple(self.retry_on))
        on = self.retry_on
        types = on if isinstance(on, tuple) else () if callable(on) or on is None else (on,)
        wrong = next((t for t in types if not (isinstance(t, type) and issubclass(t, Exception))), None)
        if wrong is not None:
            msg = f"RetryPolicy.retry_on takes exception types or a function of the exception, got {wrong!r}"
            raise DeclarationError(msg, help="for example retry_on=(TimeoutError, ConnectionError)")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TimeoutPolicy(_ShortRepr):
    """How long a branch may take. Sync too: the caller gets its timeout on time, and the thread is left behind.

    A thread cannot be stopped from outside: its late result is discarded, and its next model call is refused.
    """

    run_timeout: float | None = None
    """Seconds for the runnable with all its retries, back-off and quota waits. Each fallback has this time anew."""
    attempt_timeout: float | None = None
    """Seconds for one call; a call that takes longer counts as a failed attempt, which a `RetryPolicy` may repeat."""

    def __post_init__(self) -> None:
        _seconds(self, "run_timeout")
        _seconds(self, "attempt_timeout")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BranchPolicy(_ShortRepr):
    """How one branch is treated. A field left out keeps the default policy's value.

    Example:
        ```python
        fan_out.with_policy(
            BranchPolicy(retry=RetryPolicy(max_attempts=4)),               # every branch
            key_terms=BranchPolicy(fallbacks=[extract_terms], on_failure="drop"),
        )
        ```
    """

    retry: RetryPolicy | None = None
    fallbacks: Sequence[Any] = ()
    """Runnables, functions or dicts to try in this order when the branch has failed for good. Each is called with the
    branch's input, under the same retry and timeout."""
    timeout: TimeoutPolicy | None = None
    weight: float | None = None
    """Share of a contended rate limit, relative to the other branches (1)."""
    required: bool | None = None
    """Fail the fan-out when this branch fails, and wait for it even if a `JoinPolicy` has enough without."""
    on_failure: OnFailure | None = None
    """What a failed branch means. `"raise"`: the fan-out raises the branch's own exception. `"keep"`: a `BranchFailure`
    stands at its key. `"drop"`: its key is absent, and a WARNING names it; in a stream, a branch that has delivered
    chunks before it failed still ends in a `BranchFailure`, so that half a text never passes for a whole one. Left out,
    it is `"raise"`, or `"keep"` under a `JoinPolicy` that asks for some of the branches only (`wait_for=k`,
    `min_success`)."""

    def __post_init__(self) -> None:
        _instance(self, "retry", RetryPolicy)
        _instance(self, "timeout", TimeoutPolicy)
        _instance(self, "required", bool)
        if self.on_failure not in (None, "raise", "keep", "drop"):
            msg = f"BranchPolicy.on_failure must be 'raise', 'keep' or 'drop', got {self.on_failure!r}"
            raise DeclarationError(msg, help="'keep' leaves a BranchFailure at the branch's key")
        if self.weight is not None and not (isinstance(self.weight, (int, float)) and self.weight > 0):
            msg = f"BranchPolicy.weight must be more than 0, got {self.weight!r}"
            raise DeclarationError(msg, help="2 gives a branch twice the share of one with weight 1")
        if self.required and self.on_failure in ("keep", "drop"):
            msg = f"BranchPolicy(required=True, on_failure={self.on_failure!r}) contradicts itself"
            raise DeclarationError(msg, help="a required branch fails the fan-out: leave on_failure out")
        object.__setattr__(self, "fallbacks", _runnables(self.fallbacks))

    @property
    def acts(self) -> bool:
        """Whether the branch needs more than one plain call."""
        return bool(self.retry or self.fallbacks or self.timeout)

    def over(self, default: BranchPolicy) -> BranchPolicy:
        """Return this policy with `default`'s value in every field that it leaves out."""
        mine = {f.name: getattr(self, f.name) for f in fields(self)}
        return BranchPolicy(
            **{name: getattr(default, name) if value in (None, ()) else value for name, value in mine.items()}
        )


def _runnables(fallbacks: object) -> tuple[Runnable[Any, Any], ...]:
    if isinstance(fallbacks, str | bytes | Mapping | Runnable) or not isinstance(fallbacks, Sequence):
        msg = f"BranchPolicy.fallbacks must be a list of runnables, got {type(fallbacks).__name__}"
        raise DeclarationError(msg, help="write fallbacks=[other_model]")
    return tuple(coerce_to_runnable(one) for one in fallbacks)


def _instance(owner: object, name: str, kind: type) -> None:
    value = getattr(owner, name)
    if value is not None and not isinstance(value, kind):
        msg = f"{type(owner).__name__}.{name} takes a {kind.__name__}, got {value!r}"
        raise DeclarationError(msg, help=f"write {name}={kind.__name__}(...)")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class JoinPolicy(_ShortRepr):
    """When a fan-out is done, and whether what came back is enough.

    Example:
        ```python
        JoinPolicy(min_success=2, deadline=60)            # at least two branches, within a minute
        JoinPolicy(wait_for=1, accept=is_valid)           # the first valid answer; the others are cancelled
        ```
    """

    wait_for: Literal["all"] | int = "all"
    """`"all"`, or the number of successes after which the branches still running are cancelled: their keys are absent.
    With a number, a stream delivers each branch as a whole, once it is known to belong to the result."""
    accept: Callable[[Any], bool] | None = None
    """Says whether a branch's output counts. One that does not is a failed branch, its output in `.partial`."""
    min_success: int | None = None
    """Successes below which the fan-out raises `FanOutError`, as soon as they are out of reach. 0 takes whatever is
    there. Left out: all of `wait_for=k`; with `"all"`, each failure is judged by its branch's `on_failure` alone."""
    deadline: float | None = None
    """Seconds for the whole fan-out. Branches that are not in by then have failed (kind `timeout`)."""

    def __post_init__(self) -> None:
        if self.wait_for != "all":
            _whole(self, "wait_for", self.wait_for, 1)
        if self.min_success is not None:
            _whole(self, "min_success", self.min_success, 0)
        if isinstance(self.wait_for, int) and self.min_success is not None and self.min_success > self.wait_for:
            msg = (
                f"JoinPolicy(wait_for={self.wait_for}, min_success={self.min_success}) asks for more than it waits for"
            )
            raise DeclarationError(msg, help="leave min_success out: wait_for successes are needed anyway")
        _function(self.accept)
        _seconds(self, "deadline")

    @property
    def tolerant(self) -> bool:
        """Whether some of the branches may fail."""
        return self.wait_for != "all" or self.min_success is not None

    def checked_for(self, branches: int) -> JoinPolicy:
        """Return this policy if `branches` branches can meet it."""
        for name, value in (("wait_for", self.wait_for), ("min_success", self.min_success)):
            if isinstance(value, int) and value > branches:
                msg = f"JoinPolicy({name}={value}) can never be met: the fan-out has {branches} branches"
                raise DeclarationError(msg, help=f"use {name}={branches} or less, or add branches")
        return self


def _function(accept: object) -> None:
    if accept is not None and not callable(accept):
        msg = f"JoinPolicy.accept takes a function of a branch's output, got {accept!r}"
        raise DeclarationError(msg, help="for example accept=lambda answer: len(answer) > 20")


def checked_policy(policy: object, what: str) -> BranchPolicy:
    """Return `policy`, or raise `DeclarationError` if it is none."""
    if not isinstance(policy, BranchPolicy):
        msg = f"{what} must be a BranchPolicy, got {policy!r}"
        raise DeclarationError(msg, help="write BranchPolicy(retry=RetryPolicy(...), ...)")
    return policy


@dataclass(frozen=True, slots=True)
class BranchPolicies:
    """The default policy of a fan-out and what single branches have instead."""

    default: BranchPolicy = field(default_factory=BranchPolicy)
    by_branch: Mapping[str, BranchPolicy] = field(default_factory=dict)

    def for_branch(self, key: str) -> BranchPolicy:
        """Return the policy of branch `key`."""
        own = self.by_branch.get(key)
        return self.default if own is None else own.over(self.default)

    def but(self, default: BranchPolicy | None, by_branch: Mapping[str, BranchPolicy]) -> BranchPolicies:
        """Return these policies with others laid over them, field by field."""
        merged = dict(self.by_branch)
        for key, policy in by_branch.items():
            merged[key] = policy.over(merged[key]) if key in merged else policy
        return BranchPolicies(default.over(self.default) if default is not None else self.default, merged)

    def checked_for(self, branches: Sequence[str]) -> BranchPolicies:
        """Return these policies if each names a branch."""
        for key, policy in self.by_branch.items():
            if key not in branches:
                raise UnknownBranchError(key, branches, where="with_policy")
            checked_policy(policy, f"the policy of branch {key!r}")
        return self
