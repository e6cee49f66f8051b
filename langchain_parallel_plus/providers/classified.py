"""The verdict on an error, as the rest of the package reads it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.outcome import ErrorKind
from langchain_parallel_plus.providers.facts import FACTS, KindFacts

__all__ = ("Classified",)


@dataclass(frozen=True, slots=True)
class Classified:
    """What an error means.

    Raises:
        DeclarationError: `kind` is no `ErrorKind`, or `retry_after` is no finite number of seconds from 0.
    """

    kind: ErrorKind
    retry_after: float | None = None
    """Seconds that the provider asks to wait, counted from when the error was classified; at most 31 days."""
    status: int | None = None
    """HTTP status."""
    code: str | None = None
    """The provider's own code, such as `insufficient_quota`; one that decided, if any did."""
    retry: bool | None = None
    """Whether to retry, where that differs from what is usual for the kind: see `retryable`."""
    detail: str = ""
    """What decided: `"code insufficient_quota"`, `"status 429"`, `"class ReadTimeout"`, `"message"`.

    Never the provider's message, which may quote a key."""

    def __post_init__(self) -> None:
        kind: object = self.kind
        if not isinstance(kind, ErrorKind):
            msg = f"Classified.kind must be an ErrorKind, got {kind!r}"
            raise DeclarationError(msg, help="for example ErrorKind.RATE_LIMIT")
        wait: object = self.retry_after
        if wait is not None and not (isinstance(wait, int | float) and math.isfinite(wait) and wait >= 0):
            msg = f"Classified.retry_after must be seconds from 0, got {wait!r}"
            raise DeclarationError(msg, help="leave it out if the provider names no time")

    @property
    def facts(self) -> KindFacts:
        """What the kind means for retry, fallback, breaker and limiter."""
        return FACTS[self.kind]

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return self.facts.retry if self.retry is None else self.retry

    @property
    def fallback(self) -> bool:
        """Whether a declared fallback is to be tried; declaring one is the opt-in that some kinds ask for."""
        return self.facts.fallback != "never"
