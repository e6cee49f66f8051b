"""What calls reserve and do not use: the part of a quota that a `max_tokens` far above the answers' length costs.

Where a provider keeps what a call reserved, only reserving less gives that part back: calls of 1,600 tokens in
the middle with a `max_tokens` of 1,024 and answers of 250 leave 31 % of the tokens a minute unused (simulated).
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("Origin", "Unused")

Origin: TypeAlias = Literal["max_tokens", "estimate", "average"]
"""Where the tokens that a call reserves for its answer come from, if they are not given by hand."""

_log = logging.getLogger("langchain_parallel_plus")

_MUCH: Final = 0.5
"""Share of a rate's tokens from which on it is worth a word."""
_CALLS: Final = 20
"""Calls after which a share means something."""
_WAYS_OUT: Final[dict[Origin, str]] = {
    "max_tokens": "set max_tokens near the answers' real length",
    "estimate": "let estimate= return less",
    "average": "give calls of short answers a max_tokens",
}


class Unused:
    """What the settled calls of one key were charged of each rate, and what of it they have used.

    Args:
        label: The limiter's name, for the message.
        names: The rates, in the planner's order.
    """

    def __init__(self, label: str, names: Sequence[str]) -> None:
        self._label = label
        self._names = tuple(names)
        self._lock = threading.Lock()
        self._charged = [0.0] * len(names)
        self._used = [0.0] * len(names)
        self._calls = 0
        self._told = False
        self._origins: set[Origin] = set()

    def reserved_by(self, origin: Origin) -> None:
        """Take note of where a call's tokens come from."""
        self._origins.add(origin)

    def settled(self, charged: Sequence[float], used: Sequence[float]) -> None:
        """Take note of a call."""
        with self._lock:
            self._calls += 1
            for index, (amount, need) in enumerate(zip(charged, used, strict=True)):
                self._charged[index] += amount
                self._used[index] += min(need, amount)

    def share(self, index: int) -> float:
        """Return the share of what was charged of a rate that nobody used; 0 before the first call."""
        charged = self._charged[index]
        return 1.0 - self._used[index] / charged if charged else 0.0

    def tell(self, bound_by: str, provider: str) -> None:
        """Say it once, if a call had to wait for a rate of which much is reserved in vain.

        Args:
            bound_by: What a call has waited for.
            provider: The profile's name, empty for one that nobody knows.
        """
        if self._told or self._calls < _CALLS or bound_by not in self._names:
            return
        index = self._names.index(bound_by)
        share = self.share(index)
        if share < _MUCH:
            return
        self._told = True
        spent, needed = self._charged[index] / self._calls, self._used[index] / self._calls
        _log.warning(
            "limiter %r: calls wait for %s, of which %.0f %% is reserved and not used: %.0f tokens a call are "
            "charged, and %.0f used. help: %s",
            self._label,
            bound_by,
            share * 100,
            spent,
            needed,
            self._help(provider),
        )

    def _help(self, provider: str) -> str:
        ways = [way for origin, way in _WAYS_OUT.items() if origin in self._origins]
        ways = ways or ["reserve less, by a smaller Cost"]
        if provider:
            known = f"{provider} is not known to give back what is reserved"
        else:
            known = "nobody knows whether the provider gives back what is reserved"
            ways.insert(0, "name it by provider= if it is a known one")
        return f"{known}, so {', and '.join(ways)}"

    def after_fork(self) -> None:
        """Begin a forked child with a lock that nobody holds."""
        self._lock = threading.Lock()
