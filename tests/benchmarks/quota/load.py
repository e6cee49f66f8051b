"""What is asked of which quota, and how long that takes at the least."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus.testing.quota import Cost, Quota

if TYPE_CHECKING:
    from langchain_parallel_plus.testing.quota import QuotaModel

__all__ = ("ANSWER_TOKENS", "Load", "mixed", "small")

ANSWER_TOKENS = 64
"""What every call allows for its answer, and so what a provider reserves for it."""

_SIZES = (200, 500, 1_000, 4_000)
_SMALL = 16
_CHARACTERS_PER_TOKEN = 4
_INSTANT = 1e-6
_BUCKETS = ("openai", "groq")
"""Providers that are known to hold a minute's quota in a bucket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Calls that are wanted at once from an idle key.

    Declared are the limits that the server keeps, and `provider` where a user who knows it would: behind a proxy or at
    a local server nobody else can tell. No burst is set.
    """

    model: QuotaModel
    requests_per_minute: int
    tokens_per_minute: int
    sizes: tuple[int, ...]
    """Tokens of each prompt."""
    provider: str | None = None

    @property
    def name(self) -> str:
        """What binds, and where."""
        bound = "requests a minute" if self.requests_bind else "tokens a minute in mixed sizes"
        declared = f"provider={self.provider!r}" if self.provider else "no provider named"
        return f"{self.limit:,} {bound}, {self.model.replace('_', ' ')}, {declared}: {len(self.sizes)} calls"

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of the simulator."""
        return {
            "requests_per_minute": self.requests_per_minute,
            "tokens_per_minute": self.tokens_per_minute,
            "quota_model": self.model,
            "dialect": "azure" if self.provider == "azure" else "openai",
        }

    def prompt(self, number: int) -> str:
        """Return the prompt of a call."""
        start = f"Question {number}: "
        return start + "x" * (self.sizes[number] * _CHARACTERS_PER_TOKEN - len(start))

    @property
    def total(self) -> int:
        """Tokens that the provider counts for all calls."""
        return sum(self.sizes) + ANSWER_TOKENS * len(self.sizes)

    @property
    def requests_bind(self) -> bool:
        """Whether requests are the scarcer of the two."""
        return len(self.sizes) / self.requests_per_minute >= self.total / self.tokens_per_minute

    @property
    def limit(self) -> int:
        """The limit that binds."""
        return self.requests_per_minute if self.requests_bind else self.tokens_per_minute

    @property
    def per_second(self) -> float:
        """Calls a second that the quota allows, all in all."""
        return min(self.requests_per_minute / 60, self.tokens_per_minute / 60 / self.total * len(self.sizes))

    @property
    def floor(self) -> float:
        """Seconds that the calls take at the declared rate.

        A provider that is known to hold a bucket takes a bucket full of it at once. Of any other nobody knows when its
        windows begin, so the pace is the floor: a burst out of idle time is an advance on it.
        """
        last = self.sizes[-1] + ANSWER_TOKENS
        units, least = (len(self.sizes), 1) if self.requests_bind else (self.total, last)
        return max(units - (self.limit if self.provider in _BUCKETS else least), 0) * 60 / self.limit

    @property
    def server_floor(self) -> float:
        """Seconds that somebody would take who knows the server's state at every moment and asks in this order."""
        quota = Quota.of(self.model, requests=self.requests_per_minute, tokens=self.tokens_per_minute)
        state, now = quota.fresh(now=0.0), 0.0
        for size in self.sizes:
            cost = Cost(input_tokens=size, output_tokens=ANSWER_TOKENS)
            while (decision := quota.admit(state, cost, now=now)).refusal is not None:
                now += (decision.refusal.retry_after or 0.0) + _INSTANT
            state = decision.state
        return now


def small(calls: int) -> tuple[int, ...]:
    """Return the sizes of calls that are bound by requests."""
    return (_SMALL,) * calls


def mixed(tokens: int) -> tuple[int, ...]:
    """Return mixed sizes that take `tokens` in all, answers included."""
    draw = random.Random(tokens)
    sizes: list[int] = []
    while sum(sizes) + ANSWER_TOKENS * len(sizes) < tokens:
        sizes.append(draw.choice(_SIZES))
    return tuple(sizes)
