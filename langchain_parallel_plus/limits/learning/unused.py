"""What calls reserve and do not use: the part of a quota that a `max_tokens` far above the answers' length costs.

Where a provider keeps what a call reserved, only a smaller `max_tokens` gives that part back: calls of 1,600 tokens in
the middle with a `max_tokens` of 1,024 and answers of 250 leave 31 % of the tokens a minute unused (simulated).
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("Unused",)

_log = logging.getLogger("langchain_parallel_plus")

_MUCH: Final = 0.5
"""Share of a rate's tokens from which on it is worth a word."""
_CALLS: Final = 20
"""Calls after which a share means something."""


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

    def tell(self, bound_by: str) -> None:
        """Say it once, if a call had to wait for a rate of which much is reserved in vain.

        Args:
            bound_by: What a call has waited for.
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
            "limiter %r: calls wait for %s, of which max_tokens reserves %.0f %% unused: %.0f tokens a call are "
            "charged, and %.0f used. help: the provider keeps what is reserved, so set max_tokens near the answers' "
            "real length",
            self._label,
            bound_by,
            share * 100,
            spent,
            needed,
        )

    def after_fork(self) -> None:
        """Begin a forked child with a lock that nobody holds."""
        self._lock = threading.Lock()
