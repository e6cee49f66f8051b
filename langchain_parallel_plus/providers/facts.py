"""What each kind of error means for retry, fallback, circuit breaker and limiter, as one table.

It is what Polly, resilience4j, gRPC and the SDKs of the model providers agree on: only an outage counts for a breaker
(a 429 is a quota, not an outage), and what the same request would meet again is not retried.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from langchain_parallel_plus.outcome import ErrorKind

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("FACTS", "KindFacts")


@dataclass(frozen=True, slots=True, kw_only=True)
class KindFacts:
    """What one kind of error means."""

    retry: bool
    """Whether the same request may succeed later."""
    fallback: Literal["yes", "opt_in", "never"] = "yes"
    """Whether another model may succeed. `opt_in`: the request itself is at fault, or what it asks for, so another
    model is likely to refuse it too; a branch that declares fallbacks has opted in."""
    breaker: Literal["counts", "opens", "ignores"] = "ignores"
    """`counts`: as a failure. `opens`: at once, since every call meets the same."""
    limiter: Literal["pause", "close", "refuse", "slow_down", "refund", "refund_if_not_sent", "keep", "nothing"] = (
        "nothing"
    )
    """`pause`: the key, until the provider's hint, and learn. `close`: the key. `refuse`: this request. `slow_down`:
    fewer at once. `refund`: what was reserved for the call, which the provider did not count. `keep`: it may have."""


FACTS: Final[Mapping[ErrorKind, KindFacts]] = MappingProxyType(
    {
        ErrorKind.RATE_LIMIT: KindFacts(retry=True, limiter="pause"),
        ErrorKind.QUOTA_EXHAUSTED: KindFacts(retry=False, breaker="opens", limiter="close"),
        ErrorKind.TOO_LARGE_FOR_QUOTA: KindFacts(retry=False, limiter="refuse"),
        ErrorKind.OVERLOADED: KindFacts(retry=True, breaker="counts", limiter="slow_down"),
        ErrorKind.SERVER: KindFacts(retry=True, breaker="counts"),
        ErrorKind.TIMEOUT: KindFacts(retry=True, breaker="counts", limiter="keep"),
        ErrorKind.CONNECTION: KindFacts(retry=True, breaker="counts", limiter="refund"),
        ErrorKind.CONTEXT_LENGTH: KindFacts(retry=False, limiter="refund"),
        ErrorKind.CONTENT_FILTER: KindFacts(retry=False, fallback="opt_in", limiter="keep"),
        ErrorKind.OUTPUT_LENGTH: KindFacts(retry=False, limiter="keep"),
        ErrorKind.AUTH: KindFacts(retry=False, breaker="opens"),
        ErrorKind.NOT_FOUND: KindFacts(retry=False, fallback="opt_in"),
        ErrorKind.BAD_REQUEST: KindFacts(retry=False, fallback="opt_in"),
        ErrorKind.LOCAL: KindFacts(retry=False),
        ErrorKind.CANCELLED: KindFacts(retry=False, fallback="never", limiter="refund_if_not_sent"),
        ErrorKind.UNKNOWN: KindFacts(retry=False, limiter="keep"),
    }
)
"""By kind. `BAD_REQUEST` with status 409 (a conflict) or 425 is retried all the same, as the SDKs do."""
