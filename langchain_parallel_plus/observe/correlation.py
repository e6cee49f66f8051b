"""Which run a log record belongs to."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from langchain_parallel_plus.observe.following import Follower

__all__ = ("CorrelationFilter", "Place", "here", "located_by")


class Place(Protocol):
    """Where code runs: inside a branch of a fan-out."""

    @property
    def path(self) -> tuple[str, ...]:
        """The branches around, outermost first."""

    @property
    def run_id(self) -> UUID:
        """The fan-out's run."""

    @property
    def fan_out(self) -> str:
        """The fan-out's name."""

    @property
    def followers(self) -> tuple[Follower, ...]:
        """Who follows the run."""

    @property
    def now(self) -> Callable[[], float]:
        """The clock of the run."""


_look: Callable[[], Place | None] = lambda: None  # noqa: E731 - replaced by the engine, which this may not import


def located_by(look: Callable[[], Place | None]) -> None:
    """Let `look` say where code runs."""
    global _look
    _look = look


def here() -> Place | None:
    """Return the branch that the running code belongs to, if it belongs to one."""
    return _look()


class CorrelationFilter(logging.Filter):
    """Says on every log record which run it belongs to; lets all records pass.

    A record gets `lcpp_run_id` (the fan-out's run, as traces show it), `lcpp_fan_out` (its name) and `lcpp_branch` (the
    path of the branch, such as `"research/summary"`); each is empty outside any. The package's own loggers have it.
    Put it on a handler, and what your code logs inside a branch says so, too.

    Example:
        ```python
        handler = logging.StreamHandler()
        handler.addFilter(CorrelationFilter())
        handler.setFormatter(logging.Formatter("%(levelname)s [%(lcpp_run_id)s %(lcpp_branch)s] %(message)s"))
        ```
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Complete the record."""
        place = here()
        facts = ("", "", "") if place is None else (str(place.run_id), place.fan_out, "/".join(place.path))
        for name, value in zip(("lcpp_run_id", "lcpp_fan_out", "lcpp_branch"), facts, strict=True):
            if not hasattr(record, name):  # else whoever logs knows better
                setattr(record, name, value)
        return True
