"""A limit over the last minute, whenever that began: an exact log of what was admitted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from langchain_parallel_plus.testing.quota.limit import AN_INSTANT, check_limit, check_seconds, tolerance_of

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("Log", "LogEntry", "SlidingWindow")

_BLOCK = 64
"""Entries in a block; a new entry copies one block and the list of blocks, not the whole log."""


class LogEntry(NamedTuple):
    """One charge."""

    at: float
    units: float


@dataclass(frozen=True, slots=True)
class Log:
    """The charges of the last window, oldest first, in blocks."""

    blocks: tuple[tuple[LogEntry, ...], ...]
    units: float
    """All charges together."""
    now: float

    def __iter__(self) -> Iterator[LogEntry]:
        return chain.from_iterable(self.blocks)


@dataclass(frozen=True, slots=True)
class SlidingWindow:
    """The strictest model: in no 60 seconds, wherever they begin, is more than the limit admitted.

    Raises:
        DeclarationError: If `limit` is not a whole number >= 1, or `per` not a number of seconds > 0.
    """

    limit: int
    """Units admitted in any window."""
    per: float = 60.0
    """Seconds of a window."""

    def __post_init__(self) -> None:
        check_limit(self.limit)
        check_seconds(self.per, "per")

    @property
    def window(self) -> float:
        """Seconds of a window."""
        return self.per

    @property
    def capacity(self) -> float:
        """Units that are admitted when the log is empty."""
        return float(self.limit)

    def fresh(self, now: float) -> Log:
        """Return an empty log."""
        return Log((), 0.0, now)

    def at(self, state: Log, now: float) -> Log:
        """Return the log without the charges that are older than a window."""
        if now <= state.now:
            return state
        oldest, dropped, blocks = now - self.per + AN_INSTANT, 0.0, state.blocks
        while blocks and blocks[0][-1].at <= oldest:
            dropped += sum(entry.units for entry in blocks[0])
            blocks = blocks[1:]
        if blocks and blocks[0][0].at <= oldest:
            kept = tuple(entry for entry in blocks[0] if entry.at > oldest)
            dropped += sum(entry.units for entry in blocks[0][: len(blocks[0]) - len(kept)])
            blocks = (kept, *blocks[1:])
        return Log(blocks, state.units - dropped if blocks else 0.0, now)

    def used(self, state: Log) -> float:
        """Return the charges of the last window."""
        return state.units

    def wait(self, state: Log, cost: float) -> float:
        """Return the seconds until so many charges have passed out of the window that `cost` units fit."""
        missing = state.units + cost - self.limit
        if missing <= tolerance_of(self.limit):
            return 0.0
        for entry in state:
            missing -= entry.units
            if missing <= tolerance_of(self.limit):
                return entry.at + self.per - state.now
        return self.reset(state)

    def reset(self, state: Log) -> float:
        """Return the seconds until the last charge has passed out of the window."""
        return state.blocks[-1][-1].at + self.per - state.now if state.blocks else 0.0

    def charged(self, state: Log, cost: float) -> Log:
        """Return the log with one more charge."""
        if not cost:
            return state
        entry, last = LogEntry(state.now, cost), state.blocks[-1] if state.blocks else ()
        blocks = (*state.blocks[:-1], (*last, entry)) if 0 < len(last) < _BLOCK else (*state.blocks, (entry,))
        return replace(state, blocks=blocks, units=state.units + cost)

    def refunded(self, state: Log, amount: float, charged_at: float) -> Log:
        """Return the log with `amount` units fewer in the charges of that moment, as far as they are still in it."""
        left, blocks = amount, list(state.blocks)
        for place, block in enumerate(blocks):
            if left > 0 and block[0].at <= charged_at <= block[-1].at:
                blocks[place], left = _reduced(block, left, charged_at)
        return replace(state, blocks=tuple(blocks), units=state.units - (amount - left))


def _reduced(block: tuple[LogEntry, ...], amount: float, at: float) -> tuple[tuple[LogEntry, ...], float]:
    entries = []
    for entry in block:
        back = min(entry.units, amount) if entry.at == at else 0.0
        amount -= back
        entries.append(entry._replace(units=entry.units - back))
    return tuple(entries), amount
