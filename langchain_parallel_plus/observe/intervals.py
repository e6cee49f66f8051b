"""Stretches of time: sorted, without overlap."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("Intervals", "common", "minus", "span", "total", "union")

Intervals: TypeAlias = tuple[tuple[float, float], ...]


def span(start: float, end: float) -> Intervals:
    """Return one stretch, or none if it has no length."""
    return ((start, end),) if end > start else ()


def union(*several: Iterable[tuple[float, float]]) -> Intervals:
    """Return the time that is in at least one of them."""
    merged: list[tuple[float, float]] = []
    for start, end in sorted(one for intervals in several for one in intervals if one[1] > one[0]):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return tuple(merged)


def minus(intervals: Intervals, *others: Intervals) -> Intervals:
    """Return the time of `intervals` that is in none of `others`."""
    taken = union(*others)
    left: list[tuple[float, float]] = []
    first = 0
    for start, end in intervals:
        while first < len(taken) and taken[first][1] <= start:
            first += 1
        at, index = start, first
        while index < len(taken) and taken[index][0] < end:
            if taken[index][0] > at:
                left.append((at, taken[index][0]))
            at = max(at, taken[index][1])
            index += 1
        if at < end:
            left.append((at, end))
    return tuple(left)


def common(intervals: Intervals, other: Intervals) -> Intervals:
    """Return the time that is in both."""
    return minus(intervals, minus(intervals, other))


def total(intervals: Intervals) -> float:
    """Return the seconds."""
    return sum(end - start for start, end in intervals)
