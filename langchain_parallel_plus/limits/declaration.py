"""What a user declares about a key's quota: validated, frozen, comparable."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.limits.bucket import Rate

__all__ = ("DIMENSIONS", "Dimension", "Quota")

_MINUTE: Final = 60.0
_DAY: Final = 86_400.0
_BURST_SECONDS: Final = 10.0


class Dimension(NamedTuple):
    """How a declared limit is counted."""

    unit: str
    """The attribute of `Cost` that it charges."""
    window: float
    """Seconds."""


DIMENSIONS: Final = {
    "requests_per_minute": Dimension("requests", _MINUTE),
    "tokens_per_minute": Dimension("total_tokens", _MINUTE),
    "input_tokens_per_minute": Dimension("input_tokens", _MINUTE),
    "output_tokens_per_minute": Dimension("output_tokens", _MINUTE),
    "requests_per_day": Dimension("requests", _DAY),
    "tokens_per_day": Dimension("total_tokens", _DAY),
}
"""Every rate that can be declared, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """The limits of one key, as the provider states them.

    Raises:
        DeclarationError: Nothing is limited, or a limit is no positive number.
    """

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    input_tokens_per_minute: float | None = None
    output_tokens_per_minute: float | None = None
    requests_per_day: float | None = None
    tokens_per_day: float | None = None
    concurrency: int | None = None
    burst: float | None = None
    """Seconds' worth of the per-minute limits that an idle key lets through at once; `None` means ten."""
    models: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name in DIMENSIONS:
            _check_positive(name, getattr(self, name))
        if all(getattr(self, name) is None for name in (*DIMENSIONS, "concurrency")):
            msg = "a RateLimiter without any limit was declared"
            raise DeclarationError(msg, help=f"give at least one of {', '.join((*DIMENSIONS, 'concurrency'))}")
        self._check_concurrency()
        self._check_burst()
        self._check_models()

    def rates(self) -> dict[str, Rate]:
        """Return the declared rates, by name."""
        return {name: self.rate(name, limit) for name in DIMENSIONS if (limit := getattr(self, name)) is not None}

    def rate(self, name: str, limit: float) -> Rate:
        """Return the rate that `limit` means for the dimension `name`.

        A day's quota may go at once: OpenAI and Groq hold it in a bucket of a day's depth, and nobody means a
        thousand requests a day to be one every 88 seconds.
        """
        _check_positive(name, limit)
        window = DIMENSIONS[name].window
        seconds = _BURST_SECONDS if self.burst is None else self.burst
        burst = limit if window == _DAY else min(limit, max(1.0, limit * seconds / window))
        return Rate(limit=limit, window=window, burst=burst)

    def governs(self, provider: str, model: str) -> bool:
        """Tell whether a call of `model` is under these limits."""
        if self.models is None:
            return True
        full = f"{provider}:{model}"
        return any(
            fnmatchcase(model, pattern) or (":" in pattern and fnmatchcase(full, pattern)) for pattern in self.models
        )

    def declared(self) -> dict[str, object]:
        """Return what was given, by parameter name."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in given.items() if value is not None}

    def difference(self, other: Quota) -> str:
        """Say in which parameters two declarations differ, with both values."""
        names = [field.name for field in fields(self)]
        pairs = [(name, getattr(self, name), getattr(other, name)) for name in names]
        return "; ".join(f"{name} {ours!r}, then {theirs!r}" for name, ours, theirs in pairs if ours != theirs)

    def _check_concurrency(self) -> None:
        value = self.concurrency
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            msg = f"concurrency={value!r} is no number of calls"
            raise DeclarationError(msg, help="give a whole number from 1, or leave it out for no cap")

    def _check_burst(self) -> None:
        if self.burst is None:
            return
        _check_positive("burst", self.burst)
        if self.burst > _MINUTE:
            msg = f"burst={self.burst:g} is more than the {_MINUTE:g} s of quota that a per-minute limit holds"
            raise DeclarationError(msg, help="burst is in seconds' worth of quota; 60 is a whole minute at once")

    def _check_models(self) -> None:
        if self.models is not None and not (self.models and all(self.models)):
            msg = f"models={self.models!r} matches no model"
            raise DeclarationError(msg, help='give patterns such as "openai:gpt-4o*", or leave it out for all models')


def _check_positive(name: str, value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        msg = f"{name}={value!r} is no limit"
        raise DeclarationError(msg, help="give a positive number, or leave it out for no limit")
