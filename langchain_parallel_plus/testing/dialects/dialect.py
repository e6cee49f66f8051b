"""What a provider's wording consists of: headers on each response, a wait on refusals, and the body of an error."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from langchain_parallel_plus.testing.quota import Reading, Refusal

__all__ = ("Dialect", "Headers", "encode_json", "retry_after_ms", "retry_after_seconds", "whole_seconds")

Headers = tuple[tuple[str, str], ...]


class Dialect(ABC):
    """How one provider tells of its quota and of errors; pure.

    Subclass it for a provider of your own, or one of the six that are there to change a detail.
    """

    name: ClassVar[str]
    failed_requests_count: ClassVar[bool] = False
    """Whether this provider counts refused requests against its limits of requests."""
    error_content_type: ClassVar[str] = "application/json"

    @abstractmethod
    def quota_headers(self, readings: tuple[Reading, ...], *, wall: float) -> Headers:
        """Return the headers that tell of the quota, on success and on errors alike.

        Args:
            readings: The limits as they are after the decision.
            wall: POSIX time in seconds, for resets that are told as an instant.
        """

    @abstractmethod
    def retry_headers(self, seconds: float | None) -> Headers:
        """Return the headers that tell how long to wait; none for None."""

    def refusal_status(self, refusal: Refusal) -> int:
        """Return the status of a refusal by the quota."""
        return 429

    @abstractmethod
    def refusal_body(self, model: str, refusal: Refusal) -> bytes:
        """Return the body of a refusal by the quota."""

    @abstractmethod
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
        """Return the body of any other error."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def whole_seconds(seconds: float) -> int:
    """Return `seconds` rounded up, so that a client that obeys is not early; a nanosecond is rounding error."""
    return math.ceil(seconds - 1e-9)


def retry_after_seconds(seconds: float | None) -> Headers:
    """Return `retry-after` in whole seconds, rounded up and at least 1; nothing for None."""
    return () if seconds is None else (("retry-after", str(max(1, whole_seconds(seconds)))),)


def retry_after_ms(seconds: float | None) -> Headers:
    """Return `retry-after-ms`, exact to the millisecond; nothing for None."""
    return () if seconds is None else (("retry-after-ms", str(math.ceil(seconds * 1000 - 1e-6))),)


def encode_json(value: Any) -> bytes:
    """Return compact JSON."""
    return json.dumps(value, separators=(",", ":")).encode()
