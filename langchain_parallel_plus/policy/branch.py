"""How one branch is treated, and how all of them are."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence  # noqa: TC003
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from langchain_parallel_plus.errors import DeclarationError, UnknownBranchError
from langchain_parallel_plus.limits import Cost, RateLimiter
from langchain_parallel_plus.policy.breaker import CircuitBreaker
from langchain_parallel_plus.policy.checks import ShortRepr, check_instance
from langchain_parallel_plus.policy.fallback import checked_fallbacks
from langchain_parallel_plus.policy.foreign import retry_of, timeout_of
from langchain_parallel_plus.policy.hedge import HedgePolicy
from langchain_parallel_plus.policy.retry import RetryPolicy  # noqa: TC001 - pydantic reads the annotations
from langchain_parallel_plus.policy.timeout import TimeoutPolicy  # noqa: TC001

if TYPE_CHECKING:
    from langchain_parallel_plus.policy.join import JoinPolicy

__all__ = ("BranchPolicies", "BranchPolicy", "OnFailure", "checked_policy")

OnFailure = Literal["raise", "keep", "drop"]

_STRATEGIES = ("retry", "fallbacks", "timeout", "hedge", "breaker", "limiter")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BranchPolicy(ShortRepr):
    """How one branch is treated. A field left out keeps the default policy's value.

    What every branch has by default, one branch may be without: `False` for a strategy or a limiter, `fallbacks=[]`.

    Example:
        ```python
        fan_out.with_policy(
            BranchPolicy(retry=RetryPolicy(max_attempts=4), breaker=CircuitBreaker()),      # every branch
            key_terms=BranchPolicy(fallbacks=[extract_terms], on_failure="drop"),
            in_house=BranchPolicy(breaker=False),
        )
        ```
    """

    retry: RetryPolicy | Literal[False] | None = None
    fallbacks: Sequence[Any] | None = None
    """Runnables, functions or dicts to try in this order when the branch has failed for good: when the error is none
    to retry, attempts or budget are used up, or the wait that the provider asks for does not fit the time left. Each is
    called with the branch's input, under the same retry and timeout; a `RunnableWithPolicy` has its own, where its
    policy names them. `Fallback(model, on="context_length")` is for some errors only."""
    timeout: TimeoutPolicy | Literal[False] | None = None
    """How long it may take. LangGraph's `TimeoutPolicy` is taken too, as LangGraph's `RetryPolicy` and tenacity's stop,
    wait and retry objects are for `retry`."""
    hedge: HedgePolicy | Literal[False] | None = None
    """Makes a slow call a second time, and takes what comes first. Not for what has side effects: both may be carried
    out. It is for the branch's own runnable, each attempt anew."""
    breaker: CircuitBreaker | Literal[False] | None = None
    """Stops calling what fails. It guards the branch's own runnable, each attempt anew; fallbacks are called all the
    more."""
    limiter: RateLimiter | Literal[False] | None = None
    """Quota that each attempt of the branch is charged to, where the branch is no model call: a search API, a database.
    (Model calls are charged by `with_limits`.) The wait comes before the attempt's own time and counts against the
    run's; fallbacks are not charged. A rate limit pauses the quota for everybody who shares it.

    What is called inside the attempt under the same quota, a model under `with_limits` or with `rate_limiter=`, or a
    step with a `BranchPolicy` of its own, holds the attempt's slot and uses up the requests that it has paid; only
    further ones are charged, and wait for their time. Tokens are charged as the models use them, unless `cost` names
    some: then those are for all of the attempt."""
    cost: Cost | Callable[[Any], Cost] | None = None
    """What an attempt costs `limiter`, or a function of the branch's input that says it; left out, one request, and a
    slot of its concurrency for as long as the attempt takes, which a cost that names no slots takes as well. A function
    is to be quick, and needs a streamed input whole."""
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
        if self.retry is not None and self.retry is not False:
            object.__setattr__(self, "retry", retry_of(self.retry))
        if self.timeout is not None and self.timeout is not False:
            object.__setattr__(self, "timeout", timeout_of(self.timeout))
        check_instance(self, "hedge", HedgePolicy, or_false=True)
        check_instance(self, "breaker", CircuitBreaker, or_false=True)
        check_instance(self, "required", bool)
        check_instance(self, "limiter", RateLimiter, or_false=True)
        cost: object = self.cost
        if cost is not None and not (isinstance(cost, Cost) or callable(cost)):
            msg = f"BranchPolicy.cost must be a Cost or a function of the input, got {cost!r}"
            raise DeclarationError(msg, help="for example cost=Cost(requests=1), or cost=lambda query: Cost(...)")
        if inspect.iscoroutinefunction(cost) or inspect.iscoroutinefunction(getattr(cost, "__call__", None)):  # noqa: B004
            msg = "BranchPolicy.cost was given an async function, and threads cannot await what it returns"
            raise DeclarationError(msg, help="give a plain function of the input that returns a Cost")
        if self.on_failure not in (None, "raise", "keep", "drop"):
            msg = f"BranchPolicy.on_failure must be 'raise', 'keep' or 'drop', got {self.on_failure!r}"
            raise DeclarationError(msg, help="'keep' leaves a BranchFailure at the branch's key")
        if self.weight is not None and not (isinstance(self.weight, (int, float)) and 0 < self.weight < math.inf):
            msg = f"BranchPolicy.weight must be more than 0 and finite, got {self.weight!r}"
            raise DeclarationError(msg, help="2 gives a branch twice the share of one with weight 1")
        if self.required and self.on_failure in ("keep", "drop"):
            msg = f"BranchPolicy(required=True, on_failure={self.on_failure!r}) contradicts itself"
            raise DeclarationError(msg, help="a required branch fails the fan-out: leave on_failure out")
        if self.fallbacks is not None:
            object.__setattr__(self, "fallbacks", checked_fallbacks(self.fallbacks))
        _check_hedge_in_time(self.hedge, self.timeout)

    @property
    def acts(self) -> bool:
        """Whether the branch needs more than one plain call."""
        return bool(self.retry or self.fallbacks or self.timeout or self.hedge or self.breaker or self.limiter)

    def checked_charge(self, whose: str) -> BranchPolicy:
        """Return this policy if what it says of a cost can be charged to somebody.

        Raises:
            DeclarationError: There is a cost and no limiter.
        """
        if self.cost is not None and not self.limiter:
            msg = f"{whose} has a cost and no limiter that it is charged to"
            raise DeclarationError(msg, help="write BranchPolicy(limiter=RateLimiter(...), cost=...)")
        return self

    def over(self, default: BranchPolicy) -> BranchPolicy:
        """Return this policy with `default`'s value in every field that it leaves out."""
        mine = {f.name: getattr(self, f.name) for f in fields(self)}
        merged = {name: getattr(default, name) if value is None else value for name, value in mine.items()}
        if self.required and self.on_failure is None:
            merged["on_failure"] = None  # a branch that is required is not kept or dropped as the others are
        if self.on_failure in ("keep", "drop") and self.required is None:
            merged["required"] = None
        if self.limiter is False:
            merged["cost"] = self.cost  # the default's is for the default's limiter
        return BranchPolicy(**merged)

    def settled(self) -> BranchPolicy:
        """Return this policy without what it switches off, now that no default is left to be switched off."""
        off = [name for name in _STRATEGIES if getattr(self, name) is False or getattr(self, name) == ()]
        return replace(self, **dict.fromkeys(off)) if off else self


def _check_hedge_in_time(
    hedge: HedgePolicy | Literal[False] | None, timeout: TimeoutPolicy | Literal[False] | None
) -> None:
    """Refuse a hedge that would begin when the call that it is for has been given up."""
    if not hedge or not hedge.max_hedges or not timeout or isinstance(hedge.delay, str):
        return
    for name in ("attempt_timeout", "run_timeout"):
        seconds = getattr(timeout, name)
        if seconds is not None and hedge.delay >= seconds:
            msg = f"HedgePolicy(delay={hedge.delay:g}) never hedges: TimeoutPolicy({name}={seconds:g}) is over by then"
            raise DeclarationError(msg, help=f"use a delay well below {seconds:g} s, or delay='p95'")


def checked_policy(policy: object, what: str) -> BranchPolicy:
    """Return `policy`, or raise `DeclarationError` if it is none."""
    if not isinstance(policy, BranchPolicy):
        msg = f"{what} must be a BranchPolicy, got {policy!r}"
        raise DeclarationError(msg, help="write BranchPolicy(retry=RetryPolicy(...), ...)")
    return policy


@dataclass(frozen=True, slots=True)
class BranchPolicies:
    """The default policy of a fan-out and what single branches have instead."""

    default: BranchPolicy = BranchPolicy()  # frozen, so one for all will do
    by_branch: Mapping[str, BranchPolicy] = field(default_factory=dict)

    def for_branch(self, key: str) -> BranchPolicy:
        """Return the policy of branch `key`."""
        own = self.by_branch.get(key)
        return (self.default if own is None else own.over(self.default)).settled()

    def but(self, default: BranchPolicy | None, by_branch: Mapping[str, BranchPolicy]) -> BranchPolicies:
        """Return these policies with others laid over them, field by field."""
        merged = dict(self.by_branch)
        for key, policy in by_branch.items():
            merged[key] = policy.over(merged[key]) if key in merged else policy
        return BranchPolicies(default.over(self.default) if default is not None else self.default, merged)

    def checked_within(self, join: JoinPolicy, branches: Sequence[str]) -> None:
        """Refuse what the fan-out's deadline would never let happen.

        Raises:
            DeclarationError: A branch's hedge would begin after the deadline.
        """
        deadline = join.branch_deadline
        if join.deadline is None or deadline is None:
            return
        written = f"deadline={join.deadline:g}" + (f", reserve={join.reserve:g}" if join.reserve else "")
        for key in branches:
            hedge = self.for_branch(key).hedge
            if hedge and hedge.max_hedges and not isinstance(hedge.delay, str) and hedge.delay >= deadline:
                when = f"before branch {key!r} is hedged, after {hedge.delay:g} s"
                msg = f"JoinPolicy({written}) is over {when}"
                raise DeclarationError(msg, help=f"use a delay well below {deadline:g} s, or delay='p95'")

    def checked_for(self, branches: Sequence[str]) -> BranchPolicies:
        """Return these policies if each names a branch."""
        for key, policy in self.by_branch.items():
            if key not in branches:
                raise UnknownBranchError(key, branches, where="with_policy")
            merged = checked_policy(policy, f"the policy of branch {key!r}").over(self.default)
            if policy.cost is not None:
                merged.checked_charge(f"the policy of branch {key!r}")
        if not any(policy.limiter for policy in self.by_branch.values()):
            self.default.checked_charge("the default policy")
        return self
