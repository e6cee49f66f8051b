"""Runs at the same time, as in a batch, taken as one: what is shared can only be judged by all who share it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from langchain_parallel_plus.observe.intervals import union
from langchain_parallel_plus.observe.records import FanOutReport

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from langchain_parallel_plus.observe.limiter_state import LimiterState

__all__ = ("limits_of", "sharing", "together")


def limits_of(limiters: Iterable[LimiterState], max_concurrency: int | None) -> tuple[str, ...]:
    """Return the names of what a run shares with others that run at the same time."""
    capped = () if max_concurrency is None else ("max_concurrency",)
    return (*(state.name for state in limiters), *capped)


def sharing(fan_outs: Sequence[FanOutReport]) -> set[int]:
    """Return the indexes of those that ran while another one used a limiter or a cap of theirs."""
    found: set[int] = set()
    running: dict[str, tuple[float, int]] = {}  # by limiter: the one that ends last of those that began so far
    for index in sorted(range(len(fan_outs)), key=lambda i: fan_outs[i].started):
        one = fan_outs[index]
        end = one.started + (float("inf") if one.seconds is None else one.seconds)
        for name in limits_of(one.limiters, one.max_concurrency):
            known = running.get(name)
            if known is not None and one.started < known[0]:
                found |= {index, known[1]}
            if known is None or end > known[0]:
                running[name] = end, index
    return found


def together(runs: Sequence[FanOutReport]) -> FanOutReport | None:
    """Return runs that overlap in time as one fan-out of all their branches; `None` if there is a gap, or one run."""
    ended = [one for one in runs if one.seconds is not None]
    if len(ended) < 2 or len(ended) < len(runs):
        return None
    spans = union((one.started, one.started + (one.seconds or 0.0)) for one in ended)
    if len(spans) != 1:
        return None
    began, over = spans[0]
    by_start = sorted(ended, key=lambda one: one.started)
    first = by_start[0]
    branches = [
        replace(branch, path=(f"{number}: {branch.name}",), started=began, seconds=branch.ended - began)
        for number, one in enumerate(ended)
        for branch in one.own_branches
    ]
    return FanOutReport(
        name=first.name,
        started=began,
        seconds=over - began,
        outcome="failed" if any(one.failed for one in ended) else "ok",
        max_concurrency=first.max_concurrency if len({one.max_concurrency for one in ended}) == 1 else None,
        limiters=tuple({state.name: state for one in reversed(by_start) for state in one.limiters}.values()),
        branches={branch.path: branch for branch in branches},
        price=first.price,
    )
