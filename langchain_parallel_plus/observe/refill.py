"""Waiting until limiters are as full as they ever are, so that each run that is measured begins with the same quota."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

from langchain_core.runnables import RunnableParallel

from langchain_parallel_plus.observe.upstream import parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ("Limited", "Quotas", "limiters_of")

_NEARLY = 0.001
"""Share of a burst that may be missing: a bucket that fills for ever is never quite full."""
_SCARCE = 600.0
"""Seconds: quota of longer windows, such as a day's, is not what a single run waits for."""


class Limited(Protocol):
    """A rate limiter, as far as it is asked here."""

    @property
    def name(self) -> str:
        """Its name."""

    def statistics(self) -> Any:
        """Return what it is doing."""


class Quotas:
    """The limiters of a chain."""

    def __init__(self, limiters: Iterable[Limited]) -> None:
        self._limiters = tuple(limiters)

    def __bool__(self) -> bool:
        return bool(self._limiters)

    def missing(self, timeout: float) -> float:
        """Return the seconds until all are full, and no pause lasts; of what takes longer than `timeout`, none.

        It is a guess, and a low one for a quota that is to be earned by idle time: look again after it.
        """
        times = [seconds for *_, seconds in self._rates()] + [one.statistics().paused_for for one in self._limiters]
        return max((seconds for seconds in times if seconds <= timeout), default=0.0)

    def short(self) -> tuple[str, ...]:
        """Return what is not full: a limiter's name and its rate, each."""
        return tuple(f"{limiter} ({rate})" for limiter, rate, seconds in self._rates() if seconds > 0)

    def time_for(self, used: Mapping[tuple[str, str], float]) -> float:
        """Return the seconds in which what was used comes in again, by limiter and rate; at most a burst of it."""
        amounts = ((rate, min(used.get((limiter, name), 0.0), rate.burst)) for limiter, name, rate in self._scarce())
        return max((amount / _per_second(rate) for rate, amount in amounts), default=0.0)

    def _rates(self) -> Iterator[tuple[str, str, float]]:
        for limiter, name, rate in self._scarce():
            lacks = rate.burst - rate.available
            yield limiter, name, lacks / _per_second(rate) if lacks > _NEARLY * rate.burst else 0.0

    def _scarce(self) -> Iterator[tuple[str, str, Any]]:
        for limiter in self._limiters:
            for name, rate in limiter.statistics().rates.items():
                if rate.window <= _SCARCE and math.isfinite(rate.limit):  # else nobody knows the limit yet
                    yield limiter.name, name, rate


def _per_second(rate: Any) -> float:
    units: float = rate.limit * rate.utilisation / rate.window
    return units


def limiters_of(step: object) -> tuple[Limited, ...]:
    """Return the rate limiters that a chain declares, at any depth that can be seen from outside."""
    return tuple({id(one): one for one in _found(step)}.values())


def _found(step: object) -> Iterator[Limited]:
    yield from getattr(step, "limits", ())
    policies = getattr(step, "policies", None)
    if isinstance(step, RunnableParallel) and policies is not None:
        charged = [policies.for_branch(key) for key in step.steps__]
    else:
        charged = [getattr(step, "policy", None)]  # of a RunnableWithPolicy or a MapReduce
    yield from (policy.limiter for policy in charged if getattr(policy, "limiter", None))
    for one in parts(step):
        yield from _found(one)
