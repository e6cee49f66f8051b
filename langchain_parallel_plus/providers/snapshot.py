"""What a provider's headers, or the details of its error, say about the quota at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ("Dialect", "Quota", "Snapshot", "Unit")

Unit = Literal["requests", "tokens", "input_tokens", "output_tokens", "other"]
"""What a quota counts."""

Dialect = Literal["openai", "anthropic", "ietf", "generic", "google"]
"""Whose header names they were (Azure, Groq, Cerebras and Mistral speak OpenAI's); `google`: an error's details."""

_WINDOWS: Final = (1.0, 60.0, 3600.0, 86_400.0)
_TOLERANCE: Final = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """One dimension of a quota; a field is `None` where the headers say nothing usable."""

    name: str
    """As the provider spells it: `"requests"`, `"tokens-minute"`, or the name of an IETF policy."""
    unit: Unit
    dialect: Dialect
    limit: float | None = None
    """Units that a full window allows; never 0 or less."""
    remaining: float | None = None
    reset: float | None = None
    """Seconds until the quota is full again (OpenAI, Groq, Anthropic) or its window ends (others)."""
    window: float | None = None
    """Seconds that `limit` is for, where the headers say so."""

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left."""
        return self.remaining == 0

    @property
    def rate(self) -> float | None:
        """Units a second at which a bucket that is full again after `reset` refills; `None` when it is full.

        `(limit - remaining) / reset`: the formula behind OpenAI's and Groq's headers and their "try again in" texts.
        """
        if self.limit is None or self.remaining is None or not self.reset or self.remaining >= self.limit:
            return None
        return (self.limit - self.remaining) / self.reset

    @property
    def inferred_window(self) -> float | None:
        """`window`, or the second, minute, hour or day within 2 % of `limit / rate`.

        The same header name means a minute at OpenAI and a day at Groq, and this tells them apart. Headers that
        contradict themselves fit no window: OpenAI's documentation shows 149984 of 150000 left and a reset of `6m0s`.
        """
        if self.window is not None or self.limit is None or self.rate is None:
            return self.window
        measured = self.limit / self.rate
        return next((one for one in _WINDOWS if abs(measured - one) <= _TOLERANCE * one), None)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All quotas that one response names, in the order of its headers; falsy if it names none."""

    quotas: tuple[Quota, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.quotas)

    def get(self, unit: Unit, window: float | None = None) -> Quota | None:
        """Return the first quota that counts `unit`, over `window` seconds if given."""
        fitting = (one for one in self.quotas if one.unit == unit)
        return next((one for one in fitting if window is None or one.inferred_window == window), None)

    @property
    def wait(self) -> float | None:
        """Seconds until every exhausted quota has been reset; `None` if none is exhausted or names its reset."""
        return max((one.reset for one in self.quotas if one.exhausted and one.reset is not None), default=None)
