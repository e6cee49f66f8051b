"""Whoever follows runs by itself: OpenTelemetry and LangSmith, where they are switched on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_parallel_plus.observe.langsmith import langsmith_follower
from langchain_parallel_plus.observe.otel.follower import otel_follower

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langchain_parallel_plus.observe.following import Follower

__all__ = ("followers_below",)


def followers_below(around: tuple[Follower, ...] | None, handlers: Iterable[object]) -> tuple[Follower, ...]:
    """Return who follows a run with these callback handlers: those of the run `around` it, or of an outermost run."""
    if around is not None:
        return tuple(one.below(handlers) for one in around) if around else around
    found = (otel_follower(handlers), langsmith_follower(handlers) if handlers else None)
    return tuple(one for one in found if one is not None)
