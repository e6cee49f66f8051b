"""How Azure OpenAI words its quota: OpenAI's header names with whole seconds, and values that mean nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.testing.dialects.dialect import (
    Dialect,
    Headers,
    encode_json,
    retry_after_ms,
    retry_after_seconds,
    whole_seconds,
)
from langchain_parallel_plus.testing.dialects.openai import quota_header

if TYPE_CHECKING:
    from langchain_parallel_plus.testing.quota import Reading, Refusal

__all__ = ("AzureDialect", "Unstated")

Unstated = Literal["-1", "0", "absent"]

_LINK = "Please go here: https://aka.ms/oai/quotaincrease if you would like to further increase the default rate limit."


class AzureDialect(Dialect):
    """Azure OpenAI: resets in whole seconds; limits and remainders of the time over which it counts.

    A deployment with 80,000 tokens a minute answers its first request with `x-ratelimit-remaining-requests: 79`: a
    sixth of its 480 requests a minute, since it counts them over ten seconds.

    Args:
        unstated: What stands in the headers where Azure knows nothing, as on its Responses API (openai-dotnet issue
            838, 2025-11): `"-1"` for limit and remainder, `"0"` for all three, or no headers (`"absent"`). By default
            the headers are true.

    Raises:
        DeclarationError: If `unstated` is something else.
    """

    name: ClassVar[str] = "azure"

    def __init__(self, *, unstated: Unstated | None = None) -> None:
        if unstated is not None and unstated not in get_args(Unstated):
            raise DeclarationError(f"unstated must be one of {', '.join(get_args(Unstated))}, got {unstated!r}")
        self._unstated = unstated

    def quota_headers(self, readings: tuple[Reading, ...], *, wall: float) -> Headers:
        """Return three headers for requests and for tokens, as far as they are limited."""
        if self._unstated == "absent":
            return ()
        stated = (reading for reading in readings if reading.dimension in ("requests", "tokens"))
        return tuple(header for reading in stated for header in self._of(reading))

    def _of(self, reading: Reading) -> Headers:
        if self._unstated is not None:
            return quota_header(reading.dimension, self._unstated, self._unstated, "0")
        return quota_header(reading.dimension, reading.capacity, reading.free, str(whole_seconds(reading.reset)))

    def retry_headers(self, seconds: float | None) -> Headers:
        """Return whole seconds and exact milliseconds."""
        return retry_after_seconds(seconds) + retry_after_ms(seconds)

    def refusal_body(self, model: str, refusal: Refusal) -> bytes:
        """Return the sentence of a 429, with the wait in whole seconds."""
        kind = "call" if refusal.dimension.startswith("requests") else "token"
        after = "" if refusal.retry_after is None else f" Please retry after {_seconds(refusal.retry_after)}."
        return self.error_body(
            429,
            "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-10-21 have exceeded "
            f"{kind} rate limit of your current OpenAI S0 pricing tier.{after} {_LINK}",
        )

    def error_body(
        self,
        status: int,
        message: str,
        *,
        type: str | None = None,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> bytes:
        """Return an error; where nothing better is known its code is the status."""
        return encode_json({"error": {"code": code or str(status), "message": message, "param": param, "type": type}})

    def __repr__(self) -> str:
        return f"AzureDialect({'' if self._unstated is None else f'unstated={self._unstated!r}'})"


def _seconds(seconds: float) -> str:
    whole = max(1, whole_seconds(seconds))
    return f"{whole} second{'' if whole == 1 else 's'}"
