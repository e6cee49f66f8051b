"""Exception to ErrorKind: the kinds that retries need first."""

from __future__ import annotations

from dataclasses import dataclass

from langchain_parallel_plus.errors import ParallelPlusError
from langchain_parallel_plus.outcome import ErrorKind


@dataclass(frozen=True)
class Classified:
    kind: ErrorKind
    retry_after: float | None = None
    status: int | None = None
    code: str | None = None
    retryable: bool = False
    fallback: bool = True


def classify(e: BaseException) -> Classified:
    if not isinstance(e, Exception) or any(c.__name__ == "GraphBubbleUp" for c in type(e).__mro__):
        return Classified(ErrorKind.CANCELLED, fallback=False)
    if isinstance(e, TimeoutError):
        return Classified(ErrorKind.TIMEOUT, retryable=True)
    if isinstance(e, ParallelPlusError):
        return Classified(ErrorKind.LOCAL)
    if isinstance(e, ConnectionError):
        return Classified(ErrorKind.CONNECTION, retryable=True)
    code = getattr(e, "code", None)
    if code == "insufficient_quota":
        return Classified(ErrorKind.QUOTA_EXHAUSTED)
    if getattr(e, "status_code", None) == 429:
        h = getattr(getattr(e, "response", None), "headers", {})
        ra = h.get("retry-after") if h else None
        return Classified(ErrorKind.RATE_LIMIT, float(ra) if ra else None, 429, retryable=True)
    return Classified(ErrorKind.UNKNOWN)
