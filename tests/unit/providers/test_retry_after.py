"""How long a provider asks to wait, wherever it says so, and which place wins."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_parallel_plus.providers import classify, retry_after
from langchain_parallel_plus.providers.durations import LONGEST
from langchain_parallel_plus.providers.retry_after import retry_after_header
from tests.unit.providers import real_errors as real
from tests.unit.providers.stand_ins import Refused, boto_like

NOW = 1_790_000_000.0
RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "45s"}
EXHAUSTED = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}


def now() -> float:
    return NOW


def date(seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(NOW + seconds, UTC), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"Retry-After-Ms": "no", "Retry-After": "9"}, 9.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": 7}, 7.0),
        ({"retry-after": b"7"}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": date(30)}, 30.0),
        ({"retry-after": date(-30)}, 0.0),
        ({"retry-after": "9" * 30}, LONGEST),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_the_header(headers: dict[str, Any], seconds: float | None) -> None:
    assert retry_after_header(headers, NOW) == seconds
    for error in (
        Refused(headers=headers),
        Refused(response=SimpleNamespace(headers=headers)),
        boto_like("X", "no", 429, headers),
    ):
        assert retry_after(error, now=now) == seconds


@given(st.integers(0, int(LONGEST)))
def test_the_header_comes_back(seconds: int) -> None:
    for headers in (
        {"retry-after": str(seconds)},
        {"retry-after": date(seconds)},
        {"retry-after-ms": str(seconds * 1000)},
    ):
        assert retry_after_header(headers, NOW) == seconds


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("Rate limit reached. Please try again in 9.816s. Visit https://x", 9.816),
        ("Please try again in 644ms.", 0.644),
        ("Please try again in 6m0s.", 360.0),
        ("Please try again in 1h12m0s.", 4320.0),
        ("limit: 20\nPlease retry in 47.4s.", 47.4),
        ("Please retry after 86400 seconds. To increase your limit", 86_400.0),
        ("Please try again in a moment; try again in 3s", 3.0),
        ("{'@type': 'google.rpc.RetryInfo', 'retryDelay': '36s'}", 36.0),
        ("try again later", None),
        ("retry in", None),
    ],
)
def test_the_message(message: str, seconds: float | None) -> None:
    assert retry_after(RuntimeError(message)) == seconds
    assert retry_after(Refused(body={"error": {"message": message}})) == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        (EXHAUSTED, 360.0),
        ({**EXHAUSTED, "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "7m"}, 420.0),
        ({**EXHAUSTED, "x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "7m"}, 360.0),
        ({"x-ratelimit-remaining-tokens": "5", "x-ratelimit-reset-tokens": "6m0s"}, None),
        ({"x-rate-limit-reset-tokens": "55"}, 55.0),
        ({"ratelimit": '"a";r=0;t=8'}, 8.0),
        (
            {
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2026-09-21T14:13:25Z",
            },
            5.0,
        ),
    ],
)
def test_the_reset_of_what_is_exhausted(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(Refused(headers=headers), now=now) == seconds


def test_the_places_in_their_order() -> None:
    headers = {**EXHAUSTED, "retry-after-ms": "1000", "retry-after": "2"}
    parts: dict[str, Any] = {"message": "try again in 4s", "headers": headers, "details": [RETRY_INFO]}
    found = []
    for spent in (None, "retry-after-ms", "retry-after", "details", "message"):
        headers.pop(str(spent), None)
        parts.pop(str(spent), None)
        found.append(retry_after(Refused(**parts), now=now))
    assert found == [1.0, 2.0, 45.0, 4.0, 360.0]


def test_real_exceptions_carry_it() -> None:
    error = {"message": "no", "type": "tokens", "code": "rate_limit_exceeded"}
    headers = {"retry-after": "3", "retry-after-ms": "2500"}
    for made in (
        real.langchain_openai_error(429, error, headers),
        real.sdk_error("anthropic", 429, {"type": "rate_limit_error"}, headers),
        real.httpx_error(429, headers=headers),
        real.requests_error(429, headers=headers),
        real.boto_error("ThrottlingException", "no", 429, headers),
    ):
        assert retry_after(made) == classify(made).retry_after == 2.5


@pytest.mark.parametrize(("status", "told"), [(429, 3.0), (503, 3.0), (409, 3.0), (402, 3.0), (400, None), (401, None)])
def test_a_wait_is_told_where_waiting_may_help(status: int, told: float | None) -> None:
    assert classify(Refused(status_code=status, headers={"retry-after": "3"})).retry_after == told


def test_the_clock_is_the_callers() -> None:
    error = Refused(status_code=429, headers={"retry-after": date(30)})
    assert classify(error, now=lambda: NOW + 10).retry_after == 20.0
