"""What a branch did at each moment: a pure function of its record.

At any moment a branch does exactly one thing, the first of these that is true:

- **useful**: it works on the attempt whose result was used, or while it runs on the one that may be;
- **wasted**: it works on another one, which failed, lost against a hedge or was given up;
- **reader**: its stream's next chunk is ready, and whoever reads it is not done with the last one;
- **wait**: its calls wait for a rate limit, and none of its model calls is under way;
- **back-off**: it waits before the next attempt;
- **cap**: it waits for its turn under `max_concurrency`;
- **overhead**: none of these, which is the package's own time.

What it calls counts by the same rule: a branch whose nested fan-out does nothing but wait, waits. What else a branch
does while one of its calls waits, in a thread of its own say, cannot be seen, and counts as waiting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from langchain_parallel_plus.observe.intervals import Intervals, common, minus, span, total, union
from langchain_parallel_plus.observe.records import Attempt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from langchain_parallel_plus.observe.records import BranchReport

__all__ = ("CAUSES", "Activity", "Segment", "Timeline", "timeline", "used_attempt")

Activity: TypeAlias = Literal["useful", "wasted", "reader", "wait", "backoff", "cap", "overhead"]

CAUSES: tuple[Activity, ...] = ("wait", "backoff", "wasted", "cap", "reader", "overhead")
"""What time is lost by."""


class Segment(NamedTuple):
    """One stretch of a branch's time."""

    activity: Activity
    started: float
    ended: float
    attempt: Attempt | None = None
    """The attempt, where it works on one."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """All of a branch's time, by what it did."""

    branch: BranchReport
    useful: Intervals
    wasted: Intervals
    reader: Intervals
    wait: Intervals
    backoff: Intervals
    cap: Intervals
    overhead: Intervals
    wasted_work: float
    """Seconds worked for nothing, also while the used attempt worked as well: `wasted` and the losers of hedges."""

    def seconds(self, activity: Activity) -> float:
        """Return how long it did that."""
        intervals: Intervals = getattr(self, activity)
        return total(intervals)

    @property
    def active(self) -> Intervals:
        """When it worked."""
        return union(self.useful, self.wasted)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Its time in order; work is split by attempt. Overhead is left out."""
        found = [Segment("wait", *one) for one in self.wait] + [Segment("backoff", *one) for one in self.backoff]
        found += [Segment("cap", *one) for one in self.cap] + [Segment("reader", *one) for one in self.reader]
        found += self._work()
        return tuple(sorted(found, key=lambda one: (one.started, one.ended)))

    def _work(self) -> Iterator[Segment]:
        taken: Intervals = ()
        used = used_attempt(self.branch)
        for attempt in sorted(_attempts(self.branch), key=lambda one: one != used):
            own = span(attempt.started, attempt.ended)
            for activity, intervals in (("useful", self.useful), ("wasted", self.wasted)):
                for start, end in minus(common(intervals, own), taken):
                    yield Segment("useful" if activity == "useful" else "wasted", start, end, attempt)
            taken = union(taken, own)


def timeline(branch: BranchReport) -> Timeline:
    """Return what `branch` did at each moment from its fan-out's start to its end."""
    whole = span(branch.started, branch.ended)
    attempts, used = _attempts(branch), used_attempt(branch)
    tried = common(union((one.started, one.ended) for one in attempts), whole)
    below = _Below.of(branch)
    wasted_below = minus(below.wasted, below.active)
    # Its own reader's: who reads a nested fan-out's stream works for this branch.
    reader = common(minus(union(branch.reader_log), below.active), whole)
    # A call that was cancelled with its attempt is told of only when the branch ends.
    calling = common(_calling(branch), tried)
    busy = union(below.active, wasted_below, calling, reader)
    waiting = union(below.wait, ((one.started, one.ended) for one in branch.wait_log))
    wait = common(minus(waiting, busy), whole)
    backoff = common(minus(union(below.backoff, branch.backoff_log), busy, wait), whole)
    cap = common(minus(union(below.cap, _before_its_turn(branch)), busy, wait, backoff), whole)
    idle = union(reader, wait, backoff, cap)
    useful = () if used is None else common(minus(span(used.started, used.ended), idle, wasted_below), whole)
    wasted = minus(tried, idle, useful)
    lost = sum(total(minus(span(one.started, one.ended), idle)) for one in attempts if one != used)
    return Timeline(
        branch=branch,
        useful=useful,
        wasted=wasted,
        reader=reader,
        wait=wait,
        backoff=backoff,
        cap=cap,
        overhead=minus(whole, idle, useful, wasted),
        wasted_work=lost + (0.0 if used is None else total(common(wasted_below, span(used.started, used.ended)))),
    )


def used_attempt(branch: BranchReport) -> Attempt | None:
    """Return the attempt whose result the branch returned, if it returned one; while it runs, the one under way."""
    if branch.outcome is None:
        return next((one for one in reversed(_attempts(branch)) if one.outcome is None), None)
    if branch.outcome not in ("ok", "recovered"):
        return None
    return next((one for one in reversed(_attempts(branch)) if one.outcome in ("ok", "recovered")), None)


def _attempts(branch: BranchReport) -> tuple[Attempt, ...]:
    """Return its calls; a branch without a policy is one."""
    if branch.attempt_log or branch.began is None:
        return branch.attempt_log
    only = Attempt(number=1, started=branch.began, ended=branch.ended, outcome=branch.outcome, error=branch.error)
    return (only,)


def _calling(branch: BranchReport) -> Intervals:
    """Return when its model calls were under way, without what each waited for a limiter of its model's own."""
    waits: dict[UUID, list[tuple[float, float]]] = {}
    for one in branch.wait_log:
        waits.setdefault(one.call, []).append((one.started, one.ended))
    return union(*(minus(span(one.started, one.ended), union(waits.get(one.call, ()))) for one in branch.model_calls))


def _before_its_turn(branch: BranchReport) -> Intervals:
    if not branch.capped:
        return ()
    return span(branch.started, branch.ended if branch.began is None else branch.began)


@dataclass(frozen=True, slots=True)
class _Below:
    """What a branch's nested fan-outs and inner policies do, taken together."""

    active: Intervals
    wasted: Intervals
    wait: Intervals
    backoff: Intervals
    cap: Intervals

    @classmethod
    def of(cls, branch: BranchReport) -> _Below:
        children = [one for fan_out in branch.nested for one in fan_out.own_branches]
        lines = [timeline(child) for child in (*children, *branch.inner)]
        return cls(
            active=union(*(one.useful for one in lines)),
            wasted=union(*(one.wasted for one in lines)),
            wait=union(*(one.wait for one in lines)),
            backoff=union(*(one.backoff for one in lines)),
            cap=union(*(one.cap for one in lines)),
        )
