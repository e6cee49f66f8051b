"""Rate limits of fan-outs inside others: who has used them, so that both can be judged by them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from langchain_parallel_plus.observe.tree import roots, subtree

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from uuid import UUID

    from langchain_parallel_plus.observe.limiter_state import LimiterState
    from langchain_parallel_plus.observe.records import FanOutReport

__all__ = ("judged",)


def judged(fan_outs: Sequence[FanOutReport]) -> list[FanOutReport]:
    """Return fan-outs with the limits of those below them, and the nested ones with whether others used theirs.

    Args:
        fan_outs: All of a report, in the order in which they began.
    """
    below, everybody = _limits(fan_outs), _Uses(fan_outs)
    known = {one.run_id: one for one in fan_outs}
    return [
        replace(
            one,
            limiters=below[one.run_id],
            shared=one.shared and _shares(one, known.get(one.parent_run_id), below[one.run_id], everybody),
        )
        for one in fan_outs
    ]


def _shares(one: FanOutReport, around: FanOutReport | None, limiters: Sequence[LimiterState], everybody: _Uses) -> bool:
    """Return whether others may use what limits a nested fan-out: the one around has it, too, or they did."""
    if around is None or one.seconds is None or one.max_concurrency is not None:
        return True
    inherited = {state.name for state in around.limiters} & {state.name for state in limiters}
    return bool(inherited) or not everybody.only(one, one.started + one.seconds, limiters)


def _limits(fan_outs: Sequence[FanOutReport]) -> dict[UUID | None, tuple[LimiterState, ...]]:
    """Return the limiters of each and of what runs below it, as they stood when the first began that has them."""
    found: dict[UUID | None, dict[str, LimiterState]] = {one.run_id: {} for one in fan_outs}
    sources: dict[UUID | None, Counter[str]] = defaultdict(Counter)
    for one in reversed(fan_outs):  # a nested fan-out begins after the one around it
        own = found[one.run_id]
        for name in [name for name, count in sources[one.run_id].items() if name == _UNNAMED and count > 1]:
            own.pop(name, None)  # they may be several: their uses cannot be told apart
        own.update({state.name: state for state in one.limiters})
        around = found.get(one.parent_run_id) if one.parent_run_id is not None else None
        if around is not None:
            around.update(own)
            sources[one.parent_run_id].update(own.keys())
    return {run_id: tuple(states.values()) for run_id, states in found.items()}


_UNNAMED = "unnamed"


class _Use(NamedTuple):
    limiter: str
    started: float
    ended: float


class _Uses:
    """When which limiter was used: from the wait for an admission to the end of its call."""

    def __init__(self, fan_outs: Sequence[FanOutReport]) -> None:
        self._started: dict[str, list[float]] = defaultdict(list)
        self._ended: dict[str, list[float]] = defaultdict(list)
        for one in roots(fan_outs):
            for use in _uses(one):
                self._started[use.limiter].append(use.started)
                self._ended[use.limiter].append(use.ended)
        for times in (*self._started.values(), *self._ended.values()):
            times.sort()

    def only(self, one: FanOutReport, end: float, limiters: Sequence[LimiterState]) -> bool:
        """Return whether nobody else used the limiters of `one` while it ran."""
        own = Counter(use.limiter for use in _uses(one))
        return all(self._between(state.name, one.started, end) <= own[state.name] for state in limiters)

    def _between(self, limiter: str, start: float, end: float) -> int:
        """Return how many uses there are between two times, at the ends included."""
        return bisect_right(self._started[limiter], end) - bisect_left(self._ended[limiter], start)


def _uses(fan_out: FanOutReport) -> Iterator[_Use]:
    for own in fan_out.own_branches:
        for branch in subtree(own):
            over = {call.call: call.ended for call in branch.model_calls}
            for wait in branch.wait_log:
                yield _Use(wait.limiter, wait.started, max(over.get(wait.call, wait.ended), wait.ended))
