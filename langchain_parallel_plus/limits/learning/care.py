"""How careful a key has become: what refusals take from its pace and its burst, and what quiet time gives back.

A refusal below the declared rate says that the server counts in another way than assumed, or that jitter was larger:
so the burst is halved and the pace lowered by 0.01, once in each congestion epoch. Refusals of calls that were sent
before the last decrease, or before the pause that came with it ended, belong to the epoch that is over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

__all__ = ("LEAST_UTILISATION", "Care", "pause_for")

LEAST_UTILISATION: Final = 0.90
_STEP: Final = 0.01
_BACK: Final = 0.001
_BACK_EVERY: Final = 300.0
_BURST_BACK_EVERY: Final = 600.0
_LEAST_BURST: Final = 2.0**-12
_PAUSE: Final = 1.0
"""Seconds that a key rests after a refusal that does not say for how long; twice as many with every further one."""
_LONGEST_PAUSE: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Care:
    """The care that the rates of one key are used with."""

    lowered: float = 0.0
    """What is taken off the utilisation."""
    burst_share: float = 1.0
    """What is left of the burst."""
    decreased_at: float = -math.inf
    """When the present epoch began."""
    pace_clean_since: float = math.inf
    burst_clean_since: float = math.inf
    unhinted: int = 0
    """Refusals in a row that did not say how long to wait."""

    @property
    def is_none(self) -> bool:
        """Whether the rates are used as without any refusal."""
        return not self.lowered and self.burst_share == 1.0

    def counts(self, sent: float) -> bool:
        """Tell whether the refusal of a call sent at `sent` begins an epoch."""
        return sent > self.decreased_at

    def refused(self, now: float, *, explained: bool) -> Care:
        """Begin an epoch at `now`; one that is explained by others' use of the key costs nothing."""
        if explained:
            return replace(self, decreased_at=now)
        return replace(
            self,
            lowered=min(self.lowered + _STEP, 1 - LEAST_UTILISATION),
            burst_share=max(self.burst_share / 2, _LEAST_BURST),
            decreased_at=now,
            pace_clean_since=now,
            burst_clean_since=now,
        )

    @property
    def recovers_at(self) -> float:
        """When quiet time gives something back next; infinite if there is nothing to give."""
        return min(self.pace_clean_since + _BACK_EVERY, self.burst_clean_since + _BURST_BACK_EVERY)

    def recovered(self, now: float) -> Care:
        """Return the care at `now`, if all was quiet until then."""
        steps = _steps(now, self.pace_clean_since, _BACK_EVERY)
        lowered = max(self.lowered - _BACK * steps, 0.0)
        lowered = 0.0 if lowered < _BACK / 2 else lowered
        doublings = _steps(now, self.burst_clean_since, _BURST_BACK_EVERY)
        share = min(self.burst_share * 2.0 ** min(doublings, 64), 1.0)
        return replace(
            self,
            lowered=lowered,
            burst_share=share,
            pace_clean_since=self.pace_clean_since + steps * _BACK_EVERY if lowered else math.inf,
            burst_clean_since=self.burst_clean_since + doublings * _BURST_BACK_EVERY if share < 1 else math.inf,
        )

    def utilisation(self, usual: float) -> float:
        """Return the share of the limit to use, where `usual` is without any refusal."""
        return max(usual - self.lowered, min(usual, LEAST_UTILISATION))


def pause_for(hint: float | None, unhinted: int) -> float:
    """Return the seconds to pause: what the provider asks, or a second that doubles while it does not say."""
    return min(_PAUSE * 2.0 ** min(unhinted, 16), _LONGEST_PAUSE) if hint is None else hint


def _steps(now: float, since: float, every: float) -> int:
    return max(math.floor((now - since) / every), 0) if since < now < math.inf else 0
