"""The provider's side of a key, as responses tell it: its rates in mirrors, and a probe while nothing is known."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from langchain_parallel_plus.limits.planning.history import History

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_parallel_plus.limits.planning.mirror import Mirror

__all__ = ("ProviderSide",)

_PROBE: Final = "probe"
_PROBE_SECONDS: Final = 30.0
"""After this the answer to a probe is not waited for any longer, and another call goes."""


class ProviderSide:
    """What the planner asks before it admits, beside its own buckets.

    Args:
        names: The rates, in the planner's order.
        now: When it begins.
    """

    __slots__ = ("_names", "_probe_until", "history", "mirrors", "probing")

    def __init__(self, names: tuple[str, ...], now: float) -> None:
        self.mirrors: dict[int, Mirror] = {}
        """By index of the rate."""
        self.history = History(len(names), now)
        self.probing = False
        """Whether one call goes at a time, because nothing is known of the quota."""
        self._names = names
        self._probe_until = -math.inf

    def due(self, amounts: Sequence[float]) -> tuple[float, str]:
        """Return when the provider has room for `amounts`, and what it is that they wait for."""
        due, bound = self._probe_until, _PROBE
        total = self.history.total
        for index, mirror in self.mirrors.items():
            amount = amounts[index]
            if amount and (eligible := mirror.eligible_at(amount, total[index])) > due:
                due, bound = eligible, self._names[index]
        return due, bound

    def took(self, amounts: Sequence[float], at: float) -> None:
        """Take note of an admission at `at`."""
        self.history.add(amounts, at)
        if self.probing:
            self._probe_until = at + _PROBE_SECONDS

    def answered(self, now: float) -> None:
        """Let the next call go at once: the probe, if there is one, has been answered."""
        self._probe_until = min(self._probe_until, now)
