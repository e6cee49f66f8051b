"""What a planner has found: who is admitted now, and what has become of all requests so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from langchain_parallel_plus.limits.planning.lanes import Request

__all__ = ("Advance", "Counts")

R = TypeVar("R", bound=Request)


class Advance(NamedTuple, Generic[R]):
    """What `Planner.advance` found."""

    grants: list[R]
    """Admitted by this call, in order."""
    wake_at: float | None
    """When the next request is due; `None` if that hangs on a release or on a new request."""


@dataclass(slots=True)
class Counts:
    """What has become of the requests: `submitted = granted + cancelled + queued`."""

    submitted: int = 0
    granted: int = 0
    cancelled: int = 0
    """Left the queue without admission."""
