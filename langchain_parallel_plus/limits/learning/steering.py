"""What the rates of one key are at the moment, and why: declared, stated by the provider, found, or lowered with care.

It holds frozen values and hands the planner new rates when one of them changes. Everything here runs under the lock of
the key's turnstile.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from langchain_parallel_plus.limits.declaration import DAY, DIMENSIONS, MINUTE
from langchain_parallel_plus.limits.learning.care import Care
from langchain_parallel_plus.limits.learning.ceiling import Ceiling
from langchain_parallel_plus.limits.learning.profile import DEFAULT, most_careful, profile_of
from langchain_parallel_plus.limits.learning.rates import found_rate, known_rate, unknown_rate
from langchain_parallel_plus.limits.planning.guard import JITTER
from langchain_parallel_plus.limits.planning.mirror import Mirror, read_quota
from langchain_parallel_plus.limits.planning.provider_side import ProviderSide
from langchain_parallel_plus.limits.planning.slots import SlotCare

if TYPE_CHECKING:
    from langchain_parallel_plus.limits.declaration import Quota
    from langchain_parallel_plus.limits.learning.profile import Profile
    from langchain_parallel_plus.limits.learning.refusal import Reaction
    from langchain_parallel_plus.limits.planning.bucket import Rate
    from langchain_parallel_plus.limits.planning.lanes import Request
    from langchain_parallel_plus.limits.planning.mirror import Reading
    from langchain_parallel_plus.limits.planning.planner import Planner
    from langchain_parallel_plus.providers.snapshot import Snapshot, Unit

    AnyPlanner: TypeAlias = Planner[Any]

__all__ = ("Stated", "Steering")

_CAREFUL_START: Final = 60.0
"""Requests a minute to look for the ceiling from, where headers were hoped for and none came."""
_LEAST_MEASURED: Final = 5.0
"""Seconds that a goodput is measured over, at the least."""
_KEPT: Final = MINUTE
"""Seconds for which the lowest limit stated counts: models of one key may have limits of their own."""
_HEADER_UNITS: Final[dict[str, Unit]] = {
    "requests": "requests",
    "total_tokens": "tokens",
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
}


class Stated(NamedTuple):
    """A limit as the provider stated it."""

    limit: float
    at: float

    def heard(self, limit: float, now: float) -> Stated:
        """Take a lower limit, or the same, at once; a higher one when the lower has not been heard for a while."""
        return Stated(limit, now) if limit <= self.limit or now - self.at > _KEPT else self


class Steering:
    """The learning side of one key."""

    def __init__(self, quota: Quota, now: float) -> None:
        self.quota = quota
        self.limits = quota.limits()
        """As declared, or set since."""
        self.stated: dict[str, Stated] = {}
        self.care = Care()
        self.profile = DEFAULT if quota.provider is None else profile_of(quota.provider)
        self.step_at = -math.inf
        """When time alone changes something next."""
        self.changes = 0
        """How often a rate has changed."""
        self._met: dict[str, Profile] = {}
        self._slots = None if quota.concurrency is None else _all_slots(quota.concurrency)
        self._ceilings: dict[str, Ceiling] = {}
        if quota.learning == "adaptive":
            self._ceilings = {name: Ceiling.start(pace, now) for name, pace in self.limits.items()}
        self._schedule()

    def open(self, planner: AnyPlanner, now: float) -> None:
        """Begin to listen, where something has to be learned first."""
        if self.quota.learning != "declared":
            self._listen(planner, now).probing = self.quota.learning == "headers"

    def knows(self, provider: str) -> bool:
        """Tell whether meeting `provider` would change nothing."""
        return self.quota.provider is not None or provider in self._met

    def meet(self, planner: AnyPlanner, now: float, provider: str) -> None:
        """Take note that calls go to `provider`; of several, the most careful rules hold."""
        if not self.knows(provider):
            self._met[provider] = profile_of(provider)
            self.profile = most_careful(tuple(dict.fromkeys(self._met.values())))
            self._apply(planner, now)

    def is_fresh(self, now: float) -> bool:
        """Tell whether nothing was learned or set that would be missed: limits are as declared, all care is over."""
        declared = self.quota.limits()
        return (
            self.quota.learning == "declared"
            and self.limits == declared
            and all(stated.limit >= declared[name] for name, stated in self.stated.items())
            and self.care.recovered(now).is_none
            and (self._slots is None or self._slots.recovered(now) == _all_slots(self.quota.concurrency or 0))
        )

    def declare(self, planner: AnyPlanner, now: float, limits: dict[str, float], concurrency: int | None) -> None:
        """Go on with other limits."""
        self.limits.update(limits)
        for name, limit in limits.items():
            self.stated.pop(name, None)
            if name in self._ceilings:
                self._ceilings[name] = Ceiling.start(limit, now)
        if concurrency is not None:
            self._slots = _all_slots(concurrency)
        self._apply(planner, now)

    def rate(self, name: str) -> Rate:
        """Return the rate that `name` has at the moment."""
        stated = self.stated[name].limit if name in self.stated else None
        burst = self.quota.burst
        if (ceiling := self._ceilings.get(name)) is not None:
            pace = ceiling.pace if stated is None else min(ceiling.pace, stated)
            return found_rate(name, pace, profile=self.profile, burst=burst)
        declared = self.limits[name]
        limit = declared if stated is None else min(declared, stated)
        if limit == math.inf:
            return unknown_rate(name)
        # A stated limit may be a neighbour's, of another model: no request is refused because of it.
        largest = declared if self.quota.learning == "declared" else None
        return known_rate(name, limit, profile=self.profile, burst=burst, care=self.care, largest=largest)

    def hear(self, planner: AnyPlanner, now: float, sent: float, snapshot: Snapshot) -> None:
        """Take in the headers of a response to a call admitted at `sent`."""
        readings = {
            index: reading
            for index, name in enumerate(planner.names)
            if (reading := self._read(name, snapshot)) is not None
        }
        if not readings:
            return
        provider = self._listen(planner, now)
        taken = provider.history.by(sent + JITTER)
        for index, reading in readings.items():
            name = planner.names[index]
            earlier = self.stated.get(name)
            self.stated[name] = Stated(reading.limit, now) if earlier is None else earlier.heard(reading.limit, now)
            if self.quota.learning == "headers":
                self._ceilings.pop(name, None)
            if (mirror := provider.mirrors.get(index)) is not None:
                mirror.hear(reading, sent, taken[index])
            elif reading.remaining is not None:
                provider.mirrors[index] = Mirror(reading, sent, taken[index])
        provider.probing = False
        provider.answered(now)
        self._apply(planner, now)

    def unheard(self, planner: AnyPlanner, now: float) -> None:
        """Look for the ceiling from now on, if a probe was to bring headers: it has none, or cannot bring them."""
        provider = planner.provider
        if provider is not None and provider.probing:
            provider.probing = False
            provider.answered(now)
            self._ceilings["requests_per_minute"] = Ceiling.start(_CAREFUL_START, now)
            self._apply(planner, now)

    def finished(self, planner: AnyPlanner, now: float, sent: float) -> None:
        """Take note of a call that was answered, and of the time that has passed without a refusal."""
        self.unheard(planner, now)
        if self.care.unhinted and self.care.counts(sent):
            self.care = replace(self.care, unhinted=0)
        self.care = self.care.recovered(now)
        if self._slots is not None:
            self._slots = self._slots.recovered(now)
        self._grow(planner, now)
        self._apply(planner, now)

    def refused(self, planner: AnyPlanner, now: float, request: Request, sent: float, reaction: Reaction) -> None:
        """Heed a refusal, or an overload, of a call sent at `sent`."""
        if planner.provider is not None:
            planner.provider.answered(now)
        if reaction.slow_down and self._slots is not None:
            self._slots = self._slots.overloaded(now, sent)
        if reaction.pause is not None:
            begins_epoch = self.care.counts(sent)
            planner.all_landed(now)
            if planner.provider is not None:
                planner.provider.history.add([-amount for amount in request.amounts], now)
            if begins_epoch:
                self._decrease(planner, now, reaction)
            self._apply(planner, now)  # before the pause: what passes after it is in units of the new rate
            if begins_epoch or reaction.hinted:
                planner.pause(now + reaction.pause + self._spent(planner, request), now, request.amounts)
        else:
            self._apply(planner, now)

    def _decrease(self, planner: AnyPlanner, now: float, reaction: Reaction) -> None:
        provider = planner.provider
        explained = provider is not None and any(mirror.sees_others for mirror in provider.mirrors.values())
        care = self.care.recovered(now).refused(now, explained=explained or bool(self._ceilings))
        self.care = replace(care, unhinted=0 if reaction.hinted else care.unhinted + 1)
        for name, ceiling in self._ceilings.items():
            seconds = ceiling.measured(now)
            goodput = self._used(planner, now, name, seconds) * MINUTE / seconds
            self._ceilings[name] = ceiling.refused(now + (reaction.pause or 0.0), goodput)

    def _spent(self, planner: AnyPlanner, request: Request) -> float:
        """Return the seconds in which a refused call of an unknown quota is earned: it may have counted as well."""
        paces = [
            amount * MINUTE / self._ceilings[name].pace
            for name, amount in zip(planner.names, request.amounts, strict=True)
            if name in self._ceilings
        ]
        return max(paces, default=0.0)

    def _grow(self, planner: AnyPlanner, now: float) -> None:
        for name, ceiling in self._ceilings.items():
            if now >= ceiling.step_at:
                is_quick = ceiling.slow_start or ceiling.recovers_to is not None
                seconds = _LEAST_MEASURED if is_quick else MINUTE
                used = self._used(planner, now, name, seconds) * MINUTE / seconds
                assert planner.provider is not None
                passed = min(max(now - planner.provider.history.began, _LEAST_MEASURED), MINUTE)
                goodput = self._used(planner, now, name, passed) * MINUTE / passed
                self._ceilings[name] = ceiling.grown(now, used, goodput)

    def _used(self, planner: AnyPlanner, now: float, name: str, seconds: float) -> float:
        """Return what got through in the last `seconds`."""
        assert planner.provider is not None
        history, index = planner.provider.history, planner.names.index(name)
        return max(history.total[index] - history.by(now - seconds)[index], 0.0)

    def _read(self, name: str, snapshot: Snapshot) -> Reading | None:
        dimension, profile = DIMENSIONS[name], self.profile
        counts_requests = dimension.unit == "requests"
        is_minute_declared = self.quota.learning == "declared" and dimension.window == MINUTE
        return read_quota(
            snapshot,
            _HEADER_UNITS[dimension.unit],
            dimension.window,
            header_window=profile.request_header if counts_requests else profile.token_header,
            continuous=profile.refill == "bucket" or dimension.window == DAY,
            parts=[self.limits[name] * part / MINUTE for part in profile.stated_parts] if is_minute_declared else (),
        )

    def _listen(self, planner: AnyPlanner, now: float) -> ProviderSide:
        if planner.provider is None:
            planner.provider = ProviderSide(planner.names, now)
        return planner.provider

    def _apply(self, planner: AnyPlanner, now: float) -> None:
        for name, bucket in zip(planner.names, planner.buckets, strict=True):
            rate = self.rate(name)
            if rate != bucket.rate:
                planner.set_rate(name, rate, now)
                self.changes += 1
        if self._slots is not None:
            planner.concurrency.follow(self._slots, now)
        self._schedule()

    def _schedule(self) -> None:
        steps = [ceiling.step_at for ceiling in self._ceilings.values()]
        is_probing = self.quota.learning == "headers" and not (self.stated or self._ceilings)
        self.step_at = -math.inf if is_probing or self.care.unhinted else min([self.care.recovers_at, *steps])


def _all_slots(concurrency: int) -> SlotCare:
    return SlotCare.all_of(concurrency)
