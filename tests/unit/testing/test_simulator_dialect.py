"""OpenAI's words for a quota: headers, messages, durations."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_parallel_plus.testing.simulator.dialect import (
    go_duration,
    quota_headers,
    refusal_message,
    retry_headers,
)
from langchain_parallel_plus.testing.simulator.quota import Reading, Refusal

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def parse_go_duration(text: str) -> float:
    """Read a Go duration, strictly."""
    assert re.fullmatch(r"(\d+h)?(\d+m)?(\d+(\.\d+)?s)?|\d+ms", text), text
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)(ms|h|m|s)", text))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0001, "1ms"),
        (0.012, "12ms"),
        (0.644, "644ms"),
        (0.9999, "1s"),
        (9.816, "9.816s"),
        (20.0, "20s"),
        (20.000000000001, "20s"),
        (3.89, "3.89s"),
        (60, "1m0s"),
        (360, "6m0s"),
        (3723, "1h2m3s"),
        (3600, "1h0m0s"),
    ],
)
def test_durations_look_as_go_prints_them(seconds, text):
    """Samples from public headers and messages, and the borders between the units."""
    assert go_duration(seconds) == text


@given(st.integers(0, 10**9))
def test_durations_round_trip_to_the_millisecond(ms):
    """A reader gets back exactly the milliseconds that were meant."""
    assert round(parse_go_duration(go_duration(ms / 1000)) * 1000) == ms


@given(st.floats(0, 1e6))
def test_durations_are_never_shorter_than_meant(seconds):
    """A client that waits as long as it is told does not come too early."""
    assert parse_go_duration(go_duration(seconds)) >= seconds - 1e-6


@pytest.mark.parametrize(
    ("seconds", "headers"),
    [
        (None, {}),
        (0.0, {"retry-after": "1", "retry-after-ms": "0"}),
        (0.12, {"retry-after": "1", "retry-after-ms": "120"}),
        (1.0, {"retry-after": "1", "retry-after-ms": "1000"}),
        (1.001, {"retry-after": "2", "retry-after-ms": "1001"}),
        (20.0, {"retry-after": "20", "retry-after-ms": "20000"}),
    ],
)
def test_retry_after_is_whole_seconds_and_exact_milliseconds(seconds, headers):
    """Whole seconds are rounded up and never 0, so that a client that reads only them is not early."""
    assert dict(retry_headers(seconds)) == headers


def test_headers_name_each_limited_dimension():
    """The community sample: limit 5000, remaining 4999, reset 12ms; limit 160000, remaining 159976, reset 9ms."""
    readings = Reading("requests", 5000, 4999, 0.012), Reading("tokens", 160_000, 159_976, 0.009)
    assert dict(quota_headers(readings)) == {
        "x-ratelimit-limit-requests": "5000",
        "x-ratelimit-remaining-requests": "4999",
        "x-ratelimit-reset-requests": "12ms",
        "x-ratelimit-limit-tokens": "160000",
        "x-ratelimit-remaining-tokens": "159976",
        "x-ratelimit-reset-tokens": "9ms",
    }
    assert quota_headers(()) == ()


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        (
            Refusal("requests", 3, 3, 1, 20.0),
            "Rate limit reached for m on requests per min (RPM): Limit 3, Used 3, Requested 1. "
            "Please try again in 20s.",
        ),
        (
            Refusal("tokens", 30_000, 28_000, 5_000, 6.0),
            "Rate limit reached for m on tokens per min (TPM): Limit 30000, Used 28000, Requested 5000. "
            "Please try again in 6s.",
        ),
        (
            Refusal("tokens", 30_000, 0, 39_143, None),
            "Request too large for m on tokens per min (TPM): Limit 30000, Requested 39143. "
            "The input or output tokens must be reduced in order to run successfully.",
        ),
    ],
)
def test_refusals_are_worded_as_openai_words_them(refusal, message):
    """Clients parse these sentences."""
    assert refusal_message("m", refusal) == message
