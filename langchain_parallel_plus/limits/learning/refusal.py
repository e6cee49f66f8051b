"""What a limiter does about a call that the provider refused or failed: decided purely."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from langchain_parallel_plus.limits.learning.care import pause_for
from langchain_parallel_plus.outcome import redact

if TYPE_CHECKING:
    from langchain_parallel_plus.providers.classified import Classified
    from langchain_parallel_plus.providers.snapshot import Snapshot

__all__ = ("LONGEST_PAUSE", "Reaction", "react")

LONGEST_PAUSE: Final = 120.0
"""Seconds. OpenAI's SDK obeys a Retry-After up to here too, and gives up above (openai 3.54). Whoever asks for more has
run out of a quota of hours or days: to queue for that is to hang, and nobody could tell it from a slow provider."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """What to do; nothing by default."""

    pause: float | None = None
    """Seconds to pause the key for, and learn from it."""
    close: str | None = None
    """Why to close the key."""
    close_for: float = math.inf
    """Seconds until it opens by itself."""
    slow_down: bool = False
    """Allow fewer calls at once."""
    hinted: bool = True
    """Whether the provider named the time."""


def react(verdict: Classified, snapshot: Snapshot | None, unhinted: int) -> Reaction:
    """Decide what a failed call says of its key.

    Args:
        verdict: What the error means.
        snapshot: What its headers say of the quota; used where the error names no time to wait.
        unhinted: How many refusals in a row have named none.
    """
    match verdict.facts.limiter:
        case "pause":
            hint = verdict.retry_after
            if hint is None and snapshot is not None:
                hint = snapshot.wait
            if hint is not None and hint > LONGEST_PAUSE:
                # No lesson for the pace: it is a quota of minutes, and this refusal was about another.
                return Reaction(close=f"the provider asked to wait {hint:.0f} s", close_for=hint)
            return Reaction(pause=pause_for(hint, unhinted), hinted=hint is not None)
        case "close":
            return Reaction(close=f"the provider answered {redact(verdict.code or verdict.kind.value, limit=80)!r}")
        case "slow_down":
            return Reaction(slow_down=True)
        case _:
            return Reaction()
