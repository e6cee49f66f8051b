"""What all limiters of one name share in a process: the state of one key's quota."""

from __future__ import annotations

import itertools
import math
import os
import time
from typing import TYPE_CHECKING
from weakref import WeakSet

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.limits.declaration import DIMENSIONS, MINUTE, Quota, check_limit
from langchain_parallel_plus.limits.learning.refusal import react
from langchain_parallel_plus.limits.learning.steering import Steering
from langchain_parallel_plus.limits.learning.unused import Unused
from langchain_parallel_plus.limits.planning.lanes import RequestState
from langchain_parallel_plus.limits.planning.planner import Planner
from langchain_parallel_plus.limits.statistics import LimiterStatistics, RateStatistics
from langchain_parallel_plus.limits.tokens.estimate import TypicalCall
from langchain_parallel_plus.limits.tokens.lane_correction import LaneCorrections
from langchain_parallel_plus.limits.waiting.turnstile import Entrant, Turnstile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from langchain_parallel_plus.limits.cost import Cost
    from langchain_parallel_plus.limits.learning.profile import Profile
    from langchain_parallel_plus.limits.planning.bucket import Bucket
    from langchain_parallel_plus.limits.planning.paced import PacedBucket
    from langchain_parallel_plus.providers.classified import Classified
    from langchain_parallel_plus.providers.snapshot import Snapshot

__all__ = ("Account", "counted")


class Account:
    """The state of one key's quota: limiters come and go, and the account of a name stays."""

    def __init__(self, quota: Quota, name: str | None, clock: Callable[[], float] | None) -> None:
        self.quota = quota
        self.name = name
        self.may_probe = quota.learning == "headers"
        """Whether one call may go at a time, until its answer has told of the quota."""
        self.number = next(_NUMBERS)
        clock = clock or time.monotonic
        self.steering = Steering(quota, clock())
        rates = {rate: self.steering.rate(rate) for rate in quota.limits()}
        planner: Planner[Entrant] = Planner(rates, slots=quota.concurrency)
        self.steering.open(planner, clock())
        self.turnstile = Turnstile(name or "unnamed", planner, clock)
        self.typical = TypicalCall()
        self.corrections = LaneCorrections()
        self.unused = Unused(self.turnstile.label, planner.names)
        self._units = tuple(DIMENSIONS[rate].unit for rate in rates)
        self._typical_amounts: tuple[int, tuple[float, ...]] | None = None
        _ACCOUNTS.add(self)

    @property
    def has_slots(self) -> bool:
        """Whether calls in flight are limited."""
        return self.quota.concurrency is not None

    def is_short(self, calm: float) -> bool:
        """Return whether requests wait or are refused, or the provider has refused one in the last `calm` seconds."""
        turnstile, planner = self.turnstile, self.turnstile.planner
        refused = max(planner.paused_until, self.steering.care.decreased_at + calm)
        turnstile.dispatch()
        return planner.queued > 0 or turnstile.closed is not None or turnstile.clock() < refused

    def is_at_rest(self) -> bool:
        """Return whether a new account would do the same from now on, but for its estimates."""
        turnstile, planner = self.turnstile, self.turnstile.planner
        with turnstile.lock:
            now = turnstile.clock()
            if planner.queued or planner.slots_used or turnstile.closed is not None or now < planner.paused_until:
                return False
            planner.advance(now)  # what was on its way has arrived
            return all(one.is_idle(now) for one in planner.buckets) and self.steering.is_fresh(now)

    @property
    def rank(self) -> tuple[bool, int]:
        """Where the account stands in the one order in which calls pass several of them."""
        return self.has_slots, self.number

    @property
    def typical_amounts(self) -> tuple[float, ...]:
        """What a call of average size costs, in the planner's order."""
        known, changes = self._typical_amounts, self.steering.changes
        if known is None or known[0] != changes:
            known = self._typical_amounts = changes, self.amounts(self.typical.cost())
        return known[1]

    def amounts(self, cost: Cost) -> tuple[float, ...]:
        """Return `cost` in the planner's order; of what is not certain, no more than the limits themselves."""
        amounts = tuple([getattr(cost, unit) for unit in self._units])
        if cost.certain is None:
            return amounts
        buckets = self.turnstile.planner.buckets
        capped = [min(amount, bucket.limit) for amount, bucket in zip(amounts, buckets, strict=True)]
        return tuple(map(max, capped, self.amounts(cost.certain)))

    def is_too_large(self, cost: Cost) -> bool:
        """Return whether `cost` is more than a limit itself."""
        buckets = self.turnstile.planner.buckets
        return any(amount > bucket.limit for amount, bucket in zip(self.amounts(cost), buckets, strict=True))

    def observe(self, input_tokens: float, output_tokens: float) -> None:
        """Learn from a finished call."""
        self.typical.observe(input_tokens, output_tokens)
        self._typical_amounts = None

    def meet(self, provider: str) -> None:
        """Use the rules of `provider`, unless the user named one; of several providers, the most careful ones."""
        steering = self.steering
        if not steering.knows(provider):
            self.turnstile.change(lambda planner, now: steering.meet(planner, now, provider))

    def settle(self, entrant: Entrant, cost: Cost) -> None:
        """Charge what the call of `entrant` has used, as its provider counts it, and learn from its success."""
        amounts = counted(self.steering.profile, self._units, entrant.amounts, cost)
        if self.turnstile.settle(entrant, amounts):
            self.unused.settled(amounts, self.amounts(cost))
            self.unused.tell(entrant.bound_by, self.steering.profile.name)
        steering = self.steering
        if self.turnstile.clock() >= steering.step_at:
            self.turnstile.change(lambda planner, now: steering.finished(planner, now, entrant.passed))

    def taken_unheard(self) -> None:
        """Note that a call goes of whose end nobody will tell: as a probe it would be waited for in vain."""
        provider = self.turnstile.planner.provider
        if provider is not None and provider.probing:
            self.turnstile.change(self.steering.unheard)

    def hear(self, entrant: Entrant, snapshot: Snapshot) -> None:
        """Take in the headers of the response to the call of `entrant`."""
        if snapshot:
            steering = self.steering
            self.turnstile.change(lambda planner, now: steering.hear(planner, now, entrant.planned, snapshot))

    def refused(self, entrant: Entrant, verdict: Classified, snapshot: Snapshot | None) -> None:
        """Heed that the call of `entrant` was refused or has failed."""
        if snapshot is not None:
            self.hear(entrant, snapshot)
        steering = self.steering
        reaction = react(verdict, snapshot, steering.care.unhinted)
        self.turnstile.change(lambda planner, now: steering.refused(planner, now, entrant, entrant.passed, reaction))
        if reaction.close is not None:
            self.turnstile.close(reaction.close, reaction.close_for)

    def release(self, entrant: Entrant) -> None:
        """Give the slots of `entrant` back; a probe that ends with no word on limits has shown that none comes."""
        self.turnstile.release(entrant)
        provider, steering = self.turnstile.planner.provider, self.steering
        if provider is not None and provider.probing and entrant.state is RequestState.GRANTED:
            self.turnstile.change(lambda planner, now: steering.finished(planner, now, entrant.passed))

    def withdraw(self, entrant: Entrant) -> None:
        """Take `entrant` back; a probe that is withdrawn lets the next one go."""
        self.turnstile.withdraw(entrant)
        provider = self.turnstile.planner.provider
        if provider is not None and provider.probing:
            self.turnstile.change(lambda planner, now: provider.answered(now))

    def set_rate(self, concurrency: int | None, limits: Mapping[str, float]) -> None:
        """Change declared limits while running.

        Raises:
            DeclarationError: A dimension that was not declared, or no positive number.
        """
        declared = self.quota.declared()
        changes = dict(limits) if concurrency is None else {**limits, "concurrency": concurrency}
        for name in changes:
            if name not in declared or name not in (*DIMENSIONS, "concurrency"):
                has = ", ".join(f"{one}={declared[one]!r}" for one in declared if one in (*DIMENSIONS, "concurrency"))
                msg = (
                    f"set_rate() names {name!r}, and limiter {self.turnstile.label!r} was declared with {has or 'none'}"
                )
                raise DeclarationError(msg, help="declare every dimension when the limiter is made")
        for name, limit in limits.items():
            check_limit(name, limit)
        slots = None if concurrency is None else Quota(concurrency=concurrency).concurrency
        self.turnstile.change(lambda planner, now: self.steering.declare(planner, now, dict(limits), slots))

    def time_left(self) -> float | None:
        """Return the seconds until all that waits now will have been let through, slots aside.

        `None` if that is at once, or nobody can say: the key is closed.
        """
        turnstile, planner = self.turnstile, self.turnstile.planner
        with turnstile.lock:
            now = turnstile.clock()
            left = planner.drained(now, self.typical_amounts) - now
        return left if turnstile.closed is None and 0 < left < math.inf else None

    def statistics(self) -> LimiterStatistics:
        """Return what the limiters of this quota are doing."""
        turnstile, planner = self.turnstile, self.turnstile.planner
        with turnstile.lock:
            now = turnstile.clock()
            return LimiterStatistics(
                name=turnstile.label,
                submitted=planner.counts.submitted,
                granted=planner.counts.granted,
                cancelled=planner.counts.cancelled,
                queued=planner.queued,
                in_flight=planner.slots_used,
                waited_seconds=turnstile.waited_seconds,
                paused_for=max(planner.paused_until - now, 0.0),
                closed=turnstile.closed,
                rates={
                    name: self._rate_statistics(index, bucket, now)
                    for index, (name, bucket) in enumerate(zip(planner.names, planner.buckets, strict=True))
                    if bucket.rate.limit < math.inf
                },
                provider=self.steering.profile.name,
            )

    def _rate_statistics(self, index: int, bucket: Bucket | PacedBucket, now: float) -> RateStatistics:
        planner, steering = self.turnstile.planner, self.steering
        name, rate, available, others = planner.names[index], bucket.rate, bucket.level(now), 0.0
        if planner.provider is not None and (mirror := planner.provider.mirrors.get(index)) is not None:
            available = min(available, mirror.room(now, planner.provider.history.total[index]))
            others = mirror.others * MINUTE if mirror.sees_others else 0.0
        stated = steering.stated.get(name)
        return RateStatistics(
            limit=rate.limit,
            window=rate.window,
            burst=rate.burst,
            available=available,
            utilisation=rate.utilisation,
            declared=steering.limits[name] if self.quota.learning == "declared" else None,
            stated=None if stated is None else stated.limit,
            others=others,
            unused=self.unused.share(index),
        )


def counted(profile: Profile, units: Sequence[str], held: Sequence[float], cost: Cost) -> tuple[float, ...]:
    """Return what a provider counts for a call that was admitted with `held` and used `cost`.

    One that reserves and gives nothing back counts at least what was held. Requests are not given back by any.

    Args:
        profile: How the provider counts.
        units: The attribute of `Cost` for each amount.
        held: Amounts that were taken at admission.
        cost: What the call has used.
    """
    free = min(cost.cached_tokens, cost.input_tokens) if profile.cached_input_free else 0.0
    amounts = []
    for unit, amount in zip(units, held, strict=True):
        used: float = getattr(cost, unit)
        if unit in {"input_tokens", "total_tokens"}:
            used = max(used - free, 0.0)
        amounts.append(max(used, amount) if profile.accounting(unit) == "reserve" else used)
    return tuple(amounts)


_NUMBERS = itertools.count()
_ACCOUNTS: WeakSet[Account] = WeakSet()


def _after_fork() -> None:
    for account in list(_ACCOUNTS):
        account.turnstile.after_fork()
        account.corrections.after_fork()
        account.unused.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
