"""Whoever follows runs by itself: OpenTelemetry and LangSmith, where they are switched on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_parallel_plus.observe.langsmith import langsmith_follower
from langchain_parallel_plus.observe.otel.follower import otel_follower

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langchain_parallel_plus.observe.following import Follower

__all__ = ("followers_of",)


def followers_of(handlers: Iterable[object]) -> tuple[Follower, ...]:
    """Return who follows a run with these callback handlers; asked once for each outermost run."""
    found = (otel_follower(handlers), langsmith_follower(handlers) if handlers else None)
    return tuple(one for one in found if one is not None)
