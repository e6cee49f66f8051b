"""How Gemini words its quota: no headers, but `google.rpc` details in the body of the error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from langchain_parallel_plus.testing.dialects.dialect import Dialect, Headers, encode_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_parallel_plus.testing.quota import Dimension, Reading, Refusal

__all__ = ("GeminiDialect",)

_TYPE = "type.googleapis.com/google.rpc."
_SERVICE = "generativelanguage.googleapis.com"

_QUOTAS: Mapping[Dimension, tuple[str, str]] = {
    "requests": ("generate_requests", "GenerateRequestsPerMinutePerProjectPerModel"),
    "tokens": ("generate_content_token_count", "GenerateContentTokensPerModelPerMinute"),
    "input_tokens": ("generate_content_input_token_count", "GenerateContentInputTokensPerModelPerMinute"),
    "output_tokens": ("generate_content_output_token_count", "GenerateContentOutputTokensPerModelPerMinute"),
    "requests_per_day": ("generate_requests", "GenerateRequestsPerDayPerProjectPerModel"),
    "tokens_per_day": ("generate_content_token_count", "GenerateContentTokensPerModelPerDay"),
}

_STATUSES = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 408: "CANCELLED",
    429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
    529: "UNAVAILABLE",
}  # fmt: skip


class GeminiDialect(Dialect):
    """Gemini (ai.google.dev, "Rate limits", and public error reports, read in November 2026).

    Nothing is told while requests succeed. A 429 has the details `QuotaFailure` (which quota, and its value) and
    `RetryInfo` (how long to wait, to the nanosecond).

    Args:
        retry_info: Whether refusals say how long to wait. Those of a daily quota that is used up mostly do not.
    """

    name: ClassVar[str] = "gemini"

    def __init__(self, *, retry_info: bool = True) -> None:
        self._retry_info = retry_info

    def quota_headers(self, readings: tuple[Reading, ...], *, wall: float) -> Headers:
        """Return nothing."""
        return ()

    def retry_headers(self, seconds: float | None) -> Headers:
        """Return nothing."""
        return ()

    def refusal_body(self, model: str, refusal: Refusal) -> bytes:
        """Return a 429 with its details."""
        metric, quota_id = _QUOTAS[refusal.dimension]
        wait = refusal.retry_after if self._retry_info else None
        violation = {
            "quotaMetric": f"{_SERVICE}/{metric}",
            "quotaId": quota_id,
            "quotaDimensions": {"location": "global", "model": model},
            "quotaValue": str(refusal.limit),
        }
        message = (
            "You exceeded your current quota, please check your plan and billing details. For more information on this "
            f"error, head to: https://ai.google.dev/gemini-api/docs/rate-limits.\n* Quota exceeded for metric: "
            f"{_SERVICE}/{metric}, limit: {refusal.limit}, model: {model}"
        )
        details: list[dict[str, Any]] = [{"@type": f"{_TYPE}QuotaFailure", "violations": [violation]}]
        return _body(429, message, "RESOURCE_EXHAUSTED", details, wait)

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
        """Return an error; `code`, if given, stands in the details as `ErrorInfo.reason`."""
        word = type or _STATUSES.get(status) or ("INTERNAL" if status >= 500 else "FAILED_PRECONDITION")
        details: list[dict[str, Any]] = []
        if code is not None:
            details.append({"@type": f"{_TYPE}ErrorInfo", "reason": code, "domain": "googleapis.com"})
        return _body(status, message, word, details, retry_after)

    def __repr__(self) -> str:
        return f"GeminiDialect({'' if self._retry_info else 'retry_info=False'})"


def _body(status: int, message: str, word: str, details: list[dict[str, Any]], wait: float | None) -> bytes:
    error: dict[str, Any] = {"code": status, "message": message, "status": word}
    if wait is not None:
        delay = f"{wait:.9f}".rstrip("0").rstrip(".") + "s"
        error["message"] = f"{message}\nPlease retry in {delay}."
        details = [*details, {"@type": f"{_TYPE}RetryInfo", "retryDelay": delay}]
    if details:
        error["details"] = details
    return encode_json({"error": error})
