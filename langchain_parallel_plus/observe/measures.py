"""The numbers of a fan-out, computed so that they cannot flatter: pure functions of its record.

With the useful seconds S of each branch that ran (the duration of the attempt whose result was used, without its
waits), the wall time T, and c as `max_concurrency` or the number of branches if that is smaller:

- **speedup** = sum(S) / T, against running the branches one after another. Never sum(durations) / T: ten branches of
  one second behind one request a second last 1, 2, ... 10 s, which would be 5.5, and they are done no earlier than one
  after another. Calls are slower side by side than alone, so it is an upper bound; `compare` measures it.
- **parallel efficiency** = sum(S) / (T * c).
- **floor** = what no scheduler can beat: the longest S; sum(S) / c; and for each rate limit, the time until the quota
  of its last call was there, and the rest of that call's branch.
- **limit efficiency** = floor / T: at 1 the limits are the bottleneck, and nothing else.

A number without meaning is `None`: what compares branches, where there was one; what speaks of limits, where there were
none, or where other runs used them at the same time (see `RunReport.together`).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from langchain_parallel_plus.observe.costs import costs_of, sum_of_costs
from langchain_parallel_plus.observe.floor import LimiterUse, floor, limiter_uses
from langchain_parallel_plus.observe.timeline import CAUSES, Activity, Timeline, timeline

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from langchain_parallel_plus.observe.prices import PriceOf
    from langchain_parallel_plus.observe.records import BranchReport, FanOutReport

__all__ = ("BranchMeasures", "FanOutMeasures", "measure", "measure_branch")


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchMeasures:
    """One branch's time and money. `useful` and `lost` add up to its seconds."""

    timeline: Timeline
    useful: float
    """Seconds of the attempt whose result was used, without its waits."""
    lost: Mapping[Activity, float]
    """The other seconds, by cause: "wait" (for rate limits), "backoff", "wasted" (attempts whose result was not used),
    "cap" (for its turn under `max_concurrency`), "reader" (for whoever reads its stream), "overhead"."""
    wasted: float
    """Seconds worked for nothing, those beside the used attempt (the losers of hedges) included."""
    slack: float | None
    """Seconds that it could have taken longer; 0 for the critical branch."""
    cost: float | None
    """Of all its model calls; `None` without a price for each of them."""
    cost_useful: float | None
    """Of the calls of the attempt that was used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FanOutMeasures:
    """The numbers of one call of a fan-out; see the module."""

    branches: Mapping[tuple[str, ...], BranchMeasures]
    """Of its own branches, by path."""
    ran: int
    """Branches that ran."""
    useful: float
    """Seconds of useful work of all branches: what they would take one after another (estimated)."""
    speedup: float | None
    efficiency: float | None
    floor: float | None
    limit_efficiency: float | None
    utilisation: float | None
    """Share of the time in which a branch that could have run did work, for nothing or not."""
    critical: tuple[str, ...] | None
    """Path of the branch that ended last, of those that were waited for; `None` while the fan-out runs."""
    critical_path: tuple[tuple[str, ...], ...]
    """That branch, and in the fan-outs that it called those that ended last."""
    lost: Mapping[Activity, float]
    """On the critical branch: the seconds that could have been saved, by cause."""
    straggler: float | None
    """Seconds worked by the slowest branch, against the median's. Above 2, a hedge or a timeout pays."""
    limiter_use: tuple[LimiterUse, ...]
    """What was used of each rate limit, against what it allowed in this time."""
    attempts: int
    failed_attempts: int
    failed_branches: int
    cost: float | None
    cost_useful: float | None

    @property
    def attempt_error_rate(self) -> float | None:
        """Share of calls that failed."""
        return self.failed_attempts / self.attempts if self.attempts else None

    @property
    def branch_error_rate(self) -> float | None:
        """Share of branches that failed; a recovered one has not."""
        return self.failed_branches / self.ran if self.ran else None


def measure(fan_out: FanOutReport) -> FanOutMeasures:
    """Return the numbers of `fan_out`; of one that still runs, as far as they are known."""
    own = fan_out.own_branches
    lines = {branch.path: timeline(branch) for branch in own}
    ran = [branch for branch in own if branch.began is not None]
    took = fan_out.seconds
    over = took is not None and took > 0
    useful = {branch.path: lines[branch.path].seconds("useful") for branch in ran}
    work = sum(useful.values())
    slots = min(len(ran), fan_out.max_concurrency or len(ran))
    several = over and len(ran) > 1
    speedup = work / took if several and work and took else None
    critical = None if took is None else _last(own)  # while it runs, nobody knows which will be
    least = floor(fan_out, useful, slots) if over and useful and not fan_out.shared else None
    bound = (bool(fan_out.limiters) or fan_out.max_concurrency is not None) and not fan_out.shared
    costs = {branch.path: costs_of(branch, fan_out.price) for branch in own}
    return FanOutMeasures(
        branches={branch.path: _branch(lines[branch.path], critical, costs[branch.path]) for branch in own},
        ran=len(ran),
        useful=work,
        speedup=speedup,
        # A slot that a branch gets back after a quota wait is not told of: work may seem to have had one too many.
        efficiency=None if speedup is None else min(speedup / slots, 1.0),
        floor=least,
        limit_efficiency=least / took if several and bound and least is not None and took else None,
        utilisation=_share(sum(_active(lines[one.path]) for one in ran), slots, took) if over else None,
        critical=None if critical is None else critical.path,
        critical_path=() if critical is None else tuple(_critical_path(critical)),
        lost={} if critical is None else {cause: lines[critical.path].seconds(cause) for cause in CAUSES},
        straggler=_straggler([_active(lines[one.path]) for one in ran if one.outcome not in _GIVEN_UP]),
        limiter_use=limiter_uses(fan_out) if over else (),
        attempts=sum(len(one.attempt_log) or 1 for one in _below(ran)),
        failed_attempts=sum(_failures(one) for one in _below(ran)),
        failed_branches=sum(one.outcome in _FAILED for one in ran),
        cost=sum_of_costs(cost for cost, _ in costs.values()),
        cost_useful=sum_of_costs(cost for _, cost in costs.values()),
    )


def measure_branch(branch: BranchReport, price: PriceOf | None) -> BranchMeasures:
    """Return the numbers of what runs below a branch: those of a branch, without a slack."""
    return _branch(timeline(branch), None, costs_of(branch, price))


_FAILED = ("failed", "timed_out")
_GIVEN_UP = (None, "skipped", "cancelled")
"""Outcomes of what has no end of its own."""


def _branch(line: Timeline, critical: BranchReport | None, cost: tuple[float | None, float | None]) -> BranchMeasures:
    branch = line.branch
    return BranchMeasures(
        timeline=line,
        useful=line.seconds("useful"),
        lost={cause: line.seconds(cause) for cause in CAUSES},
        wasted=line.wasted_work,
        slack=None if critical is None or branch.outcome is None else max(critical.ended - branch.ended, 0.0),
        cost=cost[0],
        cost_useful=cost[1],
    )


def _active(line: Timeline) -> float:
    return line.seconds("useful") + line.seconds("wasted")


def _share(active: float, slots: int, took: float | None) -> float | None:
    return min(active / (slots * took), 1.0) if slots and took else None


def _straggler(worked: list[float]) -> float | None:
    middle = median(worked) if len(worked) > 1 else 0.0
    return max(worked) / middle if middle > 0 else None


def _critical_path(branch: BranchReport) -> Iterator[tuple[str, ...]]:
    yield branch.path
    for nested in branch.nested:
        if (last := _last(nested.own_branches)) is not None:
            yield from _critical_path(last)


def _last(branches: Iterable[BranchReport]) -> BranchReport | None:
    """Return the branch that ended last; one that was given up only where all were."""
    ended = [one for one in branches if one.outcome is not None and one.began is not None]
    waited_for = [one for one in ended if one.outcome not in _GIVEN_UP]
    return max(waited_for or ended, key=lambda one: one.ended, default=None)


def _below(branches: Iterable[BranchReport]) -> Iterator[BranchReport]:
    """Yield the branches, and what they run under policies; nested fan-outs have numbers of their own."""
    for branch in branches:
        yield branch
        yield from _below(branch.inner)


def _failures(branch: BranchReport) -> int:
    if not branch.attempt_log:
        return int(branch.outcome in _FAILED)
    return sum(one.outcome in _FAILED for one in branch.attempt_log)
