"""How a server that follows the IETF draft words its quota: structured fields and problem details."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, ClassVar

from langchain_parallel_plus.testing.dialects.dialect import (
    Dialect,
    Headers,
    encode_json,
    retry_after_seconds,
    whole_seconds,
)

if TYPE_CHECKING:
    from langchain_parallel_plus.testing.quota import Reading, Refusal

__all__ = ("IetfDialect",)

_PROBLEM = "https://iana.org/assignments/http-problem-types#quota-exceeded"


class IetfDialect(Dialect):
    """The draft `draft-ietf-httpapi-ratelimit-headers` (versions 08 to 11, 2026-05) and RFC 9457's problem details.

    `RateLimit-Policy: "requests";q=60;w=60` and `RateLimit: "requests";r=59;t=1`, one member for each limit. Quota and
    window are those over which the server counts: ten seconds' and a sixth of the limit for sub-windows.
    """

    name: ClassVar[str] = "ietf"
    error_content_type: ClassVar[str] = "application/problem+json"

    def quota_headers(self, readings: tuple[Reading, ...], *, wall: float) -> Headers:
        """Return both fields, or nothing if there is no limit."""
        if not readings:
            return ()
        return (
            ("RateLimit-Policy", ", ".join(map(_policy, readings))),
            ("RateLimit", ", ".join(map(_state, readings))),
        )

    def retry_headers(self, seconds: float | None) -> Headers:
        """Return whole seconds."""
        return retry_after_seconds(seconds)

    def refusal_body(self, model: str, refusal: Refusal) -> bytes:
        """Return the problem that the draft registers, with the name of the policy."""
        return encode_json(
            {
                "type": _PROBLEM,
                "title": "Request cannot be satisfied as assigned quota has been exceeded",
                "status": 429,
                "violated-policies": [_name(refusal.dimension)],
            }
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
        """Return a problem; `code`, if given, is a member of its own."""
        title = HTTPStatus(status).phrase if status in HTTPStatus.__members__.values() else "Error"
        problem: dict[str, object] = {"type": type or "about:blank", "title": title, "status": status}
        problem["detail"] = message
        return encode_json(problem | ({} if code is None else {"code": code}))


def _policy(reading: Reading) -> str:
    unit = "" if reading.dimension.startswith("requests") else f';qu="{_unit(reading)}"'
    return f'"{_name(reading.dimension)}";q={reading.capacity};w={whole_seconds(reading.window)}{unit}'


def _state(reading: Reading) -> str:
    return f'"{_name(reading.dimension)}";r={reading.free};t={whole_seconds(reading.reset)}'


def _name(dimension: str) -> str:
    return dimension.replace("_", "-")


def _unit(reading: Reading) -> str:
    return _name(reading.dimension).removesuffix("-per-day")
