"""How long a limiter takes to let through what waits: a pure function of what it says of itself."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from langchain_parallel_plus.observe.watched import resource_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_parallel_plus.observe.watched import Rate, Statistics

__all__ = ("time_left",)


def time_left(now: Statistics, amounts: Mapping[str, float]) -> float | None:
    """Return the seconds until the quota of all that waits now has come in; `None` if nobody can say.

    It is the longest of the limiter's rates: what is missing, at the pace that the limiter keeps to. While a key is
    paused nothing passes, and it goes on with a nearly empty bucket: what is there then is there already, bar debts.

    Args:
        now: The limiter as it stands.
        amounts: What waits, by resource: requests, tokens, input tokens, output tokens.
    """
    if now.closed is not None:
        return None
    times = [_seconds(rate, amounts.get(resource_of(name), 0.0), now.paused_for) for name, rate in now.rates.items()]
    longest = max([now.paused_for, *times])
    return longest if isfinite(longest) and longest > 0 else None


def _seconds(rate: Rate, units: float, paused: float) -> float:
    pace = rate.limit * rate.utilisation / rate.window
    if pace <= 0:
        return float("inf") if units > rate.available else 0.0
    there = rate.available if rate.available > 0 else rate.available + pace * paused
    return paused + max(units - there, 0.0) / pace
