"""Providers' words for a quota: as they write them, and as this package's own readers read them back."""

from __future__ import annotations

import json
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.outcome import ErrorKind
from langchain_parallel_plus.providers import classify, parse_rate_limit_headers, retry_after
from langchain_parallel_plus.testing import ProviderRules, SimulatedRefusal, VirtualProvider
from langchain_parallel_plus.testing.dialects import (
    DIALECTS,
    AnthropicDialect,
    AzureDialect,
    GeminiDialect,
    GroqDialect,
    IetfDialect,
    OpenAIDialect,
    dialect_named,
)
from langchain_parallel_plus.testing.dialects.openai import go_duration
from langchain_parallel_plus.testing.quota import QUOTA_MODELS, Cost, Quota, Reading, Refusal

WALL = 1_790_000_000.25
HEADER_DIALECTS = ["openai", "azure", "anthropic", "groq", "ietf"]
every_dialect = pytest.mark.parametrize("name", DIALECTS)

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


@settings(deadline=None)
@given(st.integers(0, 10**9))
def test_durations_round_trip_to_the_millisecond(ms):
    """A reader gets back exactly the milliseconds that were meant."""
    assert round(parse_go_duration(go_duration(ms / 1000)) * 1000) == ms


@settings(deadline=None)
@given(st.floats(0, 1e6))
def test_durations_are_never_shorter_than_meant(seconds):
    """A client that waits as long as it is told does not come too early."""
    assert parse_go_duration(go_duration(seconds)) >= seconds - 1e-6


@pytest.mark.parametrize("name", ["openai", "azure"])
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
def test_retry_after_is_whole_seconds_and_exact_milliseconds(name, seconds, headers):
    """Whole seconds are rounded up and never 0, so that a client that reads only them is not early."""
    assert dict(dialect_named(name).retry_headers(seconds)) == headers


@pytest.mark.parametrize("name", ["anthropic", "groq", "ietf"])
@pytest.mark.parametrize(("seconds", "headers"), [(None, {}), (0.1, {"retry-after": "1"}), (2, {"retry-after": "2"})])
def test_others_have_whole_seconds_only(name, seconds, headers):
    """Rounded up."""
    assert dict(dialect_named(name).retry_headers(seconds)) == headers


def minute(dimension, limit, used, reset, capacity=None, window=60.0):
    """Return a reading of a limit by the minute."""
    return Reading(dimension, limit, 60.0, used, reset, capacity or limit, window)


READINGS = (
    minute("requests", 5_000, 1, 0.012),
    minute("tokens", 160_000, 24, 0.009),
    minute("input_tokens", 40_000, 10_000, 15.0),
    minute("output_tokens", 8_000, 4_000, 30.0),
    Reading("requests_per_day", 14_400, 86_400.0, 30, 180.0, 14_400, 86_400.0),
)


@pytest.mark.parametrize(
    ("dialect", "headers"),
    [
        (
            OpenAIDialect(),  # the community sample: 4999 of 5000, 12ms; 159976 of 160000, 9ms
            {
                "x-ratelimit-limit-requests": "5000",
                "x-ratelimit-remaining-requests": "4999",
                "x-ratelimit-reset-requests": "12ms",
                "x-ratelimit-limit-tokens": "160000",
                "x-ratelimit-remaining-tokens": "159976",
                "x-ratelimit-reset-tokens": "9ms",
                "x-ratelimit-limit-input-tokens": "40000",
                "x-ratelimit-remaining-input-tokens": "30000",
                "x-ratelimit-reset-input-tokens": "15s",
                "x-ratelimit-limit-output-tokens": "8000",
                "x-ratelimit-remaining-output-tokens": "4000",
                "x-ratelimit-reset-output-tokens": "30s",
            },
        ),
        (
            AzureDialect(),
            {
                "x-ratelimit-limit-requests": "5000",
                "x-ratelimit-remaining-requests": "4999",
                "x-ratelimit-reset-requests": "1",
                "x-ratelimit-limit-tokens": "160000",
                "x-ratelimit-remaining-tokens": "159976",
                "x-ratelimit-reset-tokens": "1",
            },
        ),
        (
            AzureDialect(unstated="-1"),  # openai-dotnet issue 838
            {
                "x-ratelimit-limit-requests": "-1",
                "x-ratelimit-remaining-requests": "-1",
                "x-ratelimit-reset-requests": "0",
                "x-ratelimit-limit-tokens": "-1",
                "x-ratelimit-remaining-tokens": "-1",
                "x-ratelimit-reset-tokens": "0",
            },
        ),
        (AzureDialect(unstated="absent"), {}),
        (
            GroqDialect(),
            {
                "x-ratelimit-limit-requests": "14400",
                "x-ratelimit-remaining-requests": "14370",
                "x-ratelimit-reset-requests": "3m0s",
                "x-ratelimit-limit-tokens": "160000",
                "x-ratelimit-remaining-tokens": "159976",
                "x-ratelimit-reset-tokens": "9ms",
            },
        ),
        (GeminiDialect(), {}),
        (
            IetfDialect(),
            {
                "RateLimit-Policy": '"requests";q=5000;w=60, "tokens";q=160000;w=60;qu="tokens", '
                '"input-tokens";q=40000;w=60;qu="input-tokens", "output-tokens";q=8000;w=60;qu="output-tokens", '
                '"requests-per-day";q=14400;w=86400',
                "RateLimit": '"requests";r=4999;t=1, "tokens";r=159976;t=1, "input-tokens";r=30000;t=15, '
                '"output-tokens";r=4000;t=30, "requests-per-day";r=14370;t=180',
            },
        ),
    ],
    ids=repr,
)
def test_headers_name_what_the_provider_names(dialect, headers):
    """By its names, and nothing else."""
    assert dict(dialect.quota_headers(READINGS, wall=WALL)) == headers
    assert dialect.quota_headers((), wall=WALL) == ()


def test_anthropics_tokens_repeat_the_tightest_limit_of_tokens():
    """Resets are instants, rounded up to a second."""
    headers = dict(AnthropicDialect().quota_headers(READINGS[2:], wall=WALL))
    assert {name: value for name, value in headers.items() if "-tokens-" in name and "put" not in name} == {
        "anthropic-ratelimit-tokens-limit": "8000",
        "anthropic-ratelimit-tokens-remaining": "4000",
        "anthropic-ratelimit-tokens-reset": "2026-09-21T14:13:51Z",
    }
    assert headers["anthropic-ratelimit-input-tokens-remaining"] == "30000"


@st.composite
def quotas_in_use(draw):
    """Return a quota and its readings after some requests."""
    quota = Quota.of(
        draw(st.sampled_from(list(QUOTA_MODELS))),
        requests=draw(st.integers(1, 20_000)),
        tokens=draw(st.integers(1, 10**7)),
        requests_per_day=draw(st.integers(1, 10**5)),
    )
    state, now = quota.fresh(now=0.0), 0.0
    for gap, tokens in draw(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 10**6)), min_size=1, max_size=20)):
        now += gap
        decision = quota.admit(state, Cost(input_tokens=tokens), now=now)
        state = decision.state
    return quota, decision


def _expected(name, reading):
    """Return (limit, remaining, reset, window) as a dialect can tell them."""
    short = name in ("azure", "ietf")
    limit, remaining = (reading.capacity, reading.free) if short else (reading.limit, reading.remaining)
    reset = reading.reset if name in ("openai", "groq") else math.ceil(reading.reset - 1e-9)
    return limit, remaining, reset, math.ceil(reading.window - 1e-9) if name == "ietf" else None


@pytest.mark.parametrize("name", HEADER_DIALECTS)
@settings(deadline=None)
@given(case=quotas_in_use())
def test_headers_are_read_back_to_the_same_numbers(name, case):
    """Each limit that the dialect tells, by whatever `parse_rate_limit_headers` makes of its headers."""
    _, decision = case
    wall = math.floor(WALL)
    told = dialect_named(name).quota_headers(decision.readings, wall=wall)
    found = {one.name: one for one in parse_rate_limit_headers(dict(told), now=wall).quotas}
    by_dimension = {reading.dimension: reading for reading in decision.readings}
    names = {"requests": "requests", "tokens": "tokens"}
    if name == "groq":
        names = {"requests": "requests_per_day", "tokens": "tokens"}
    if name == "ietf":
        names["requests-per-day"] = "requests_per_day"
    assert set(found) == set(names)
    for spelled, dimension in names.items():
        one, (limit, remaining, reset, window) = found[spelled], _expected(name, by_dimension[dimension])
        assert (one.limit, one.remaining, one.window) == (limit, remaining, window)
        assert one.reset == pytest.approx(reset, abs=1e-6)
        assert one.unit == ("tokens" if spelled == "tokens" else "requests")


@pytest.mark.parametrize("model", ["bucket_minute", "bucket_second"])
@pytest.mark.parametrize(("name", "window"), [("openai", 60), ("groq", 86_400)])
def test_a_bucket_gives_away_its_window(name, window, model):
    """`limit / rate` of the headers tells a minute from a day, although both are called requests."""
    quota = Quota.of(model, requests=6_000, tokens=600_000, requests_per_day=86_400)
    state = quota.fresh(now=0.0)
    for _ in range(50):
        decision = quota.admit(state, Cost(input_tokens=100), now=0.0)
        state = decision.state
    snapshot = parse_rate_limit_headers(dialect_named(name).quota_headers(decision.readings, wall=0.0), now=0.0)
    assert snapshot.get("requests").inferred_window == window
    assert snapshot.get("tokens").inferred_window == 60


@pytest.mark.parametrize("unstated", ["-1", "0", "absent"])
def test_what_azure_does_not_know_is_read_as_nothing(unstated):
    """Neither as an empty quota nor as a negative one."""
    headers = AzureDialect(unstated=unstated).quota_headers(READINGS, wall=0.0)
    assert not parse_rate_limit_headers(headers, now=0.0)


def refusal_of(name, *, wall=WALL, **limits):
    """Use up a limit of one request a minute and return (the call that is refused, the error it raises)."""
    rules = ProviderRules.of(dialect=name, failed_requests_count=False, **limits)
    provider = VirtualProvider(rules, clock=lambda: 0.0, wall_clock=lambda: wall)
    while (call := provider.ask(input_tokens=700, max_tokens=1)).admitted:
        call.end()
    return call, call.refusal()


@every_dialect
@pytest.mark.parametrize("limits", [{"requests_per_minute": 7}, {"tokens_per_minute": 999}], ids=str)
def test_a_refusal_is_a_rate_limit_with_its_wait(name, limits):
    """As `classify` and `retry_after` read it from headers, details or prose; never too short."""
    call, error = refusal_of(name, **limits)
    verdict = classify(error, now=lambda: WALL)
    exact = call.verdict.retry_after
    told = exact if name in ("openai", "azure", "gemini") else math.ceil(exact)
    assert (verdict.kind, verdict.status, verdict.retryable) == (ErrorKind.RATE_LIMIT, 429, True)
    assert verdict.retry_after == pytest.approx(told, abs=1e-9)
    assert retry_after(error, now=lambda: WALL) == verdict.retry_after


@pytest.mark.parametrize("name", ["openai", "groq"])
def test_the_sentence_alone_tells_the_wait_too(name):
    """A wrapper may leave nothing but the message."""
    call, error = refusal_of(name, tokens_per_minute=999)
    assert classify(RuntimeError(error.body["error"]["message"])).retry_after == call.verdict.retry_after


@every_dialect
def test_a_request_larger_than_the_limit_is_told_no_wait(name):
    """Where the provider's words tell it from a rate limit, it is too large for the quota."""
    provider = VirtualProvider(ProviderRules.of(dialect=name, tokens_per_minute=100), clock=lambda: 0.0)
    error = provider.ask(input_tokens=101).refusal()
    verdict = classify(error)
    expected = ErrorKind.TOO_LARGE_FOR_QUOTA if name in ("openai", "groq") else ErrorKind.RATE_LIMIT
    assert (verdict.kind, verdict.retry_after) == (expected, None)
    assert (error.status_code, provider.tally.refusals) == (413 if name == "groq" else 429, 1)


@pytest.mark.parametrize(("retry_info", "kind"), [(True, ErrorKind.RATE_LIMIT), (False, ErrorKind.QUOTA_EXHAUSTED)])
def test_geminis_day_is_over_when_no_retry_info_says_otherwise(retry_info, kind):
    """With one it is a rate limit, although the quota's id says PerDay."""
    _, error = refusal_of(GeminiDialect(retry_info=retry_info), requests_per_day=3)
    assert classify(error).kind is kind
    (violation,) = error.body["error"]["details"][0]["violations"]
    assert violation["quotaId"] == "GenerateRequestsPerDayPerProjectPerModel"
    assert violation["quotaValue"] == "3"


@every_dialect
@pytest.mark.parametrize(
    ("status", "code", "kinds"),
    [
        (429, "insufficient_quota", {ErrorKind.QUOTA_EXHAUSTED}),
        (429, None, {ErrorKind.RATE_LIMIT}),
        (400, "context_length_exceeded", {ErrorKind.CONTEXT_LENGTH}),
        (400, None, {ErrorKind.BAD_REQUEST}),
        (401, "invalid_api_key", {ErrorKind.AUTH}),
        (404, "model_not_found", {ErrorKind.NOT_FOUND}),
        (500, None, {ErrorKind.SERVER}),
        (502, None, {ErrorKind.SERVER}),
        # OpenAI's type of a 503 is "server_error", which says less than the status.
        (503, None, {ErrorKind.OVERLOADED, ErrorKind.SERVER}),
        (529, None, {ErrorKind.OVERLOADED, ErrorKind.SERVER}),
    ],
)
def test_other_errors_are_what_they_mean(name, status, code, kinds):
    """In each provider's own words."""
    body = dialect_named(name).error_body(status, "It did not work.", code=code)
    error = Exception("It did not work.")
    error.status_code, error.body = status, json.loads(body)
    assert classify(error).kind in kinds


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
        (
            Refusal("requests_per_day", 200, 200, 1, 432.0),
            "Rate limit reached for m on requests per day (RPD): Limit 200, Used 200, Requested 1. "
            "Please try again in 7m12s.",
        ),
    ],
)
def test_refusals_are_worded_as_openai_words_them(refusal, message):
    """Clients parse these sentences."""
    assert json.loads(OpenAIDialect().refusal_body("m", refusal))["error"]["message"] == message


@every_dialect
def test_a_simulated_refusal_says_what_an_sdks_would(name):
    """Status, body and headers where SDKs' errors have them."""
    call, error = refusal_of(name, requests_per_minute=2)
    assert isinstance(error, SimulatedRefusal)
    assert (error.status_code, error.response.status_code, call.admitted) == (429, 429, False)
    assert error.response.headers == dict(call.verdict.headers)
    assert str(error).startswith("Error code: 429 - {")


def test_names_and_instances_stand_for_dialects():
    """An unknown name is refused with the known ones."""
    own = AzureDialect(unstated="0")
    assert dialect_named(own) is own
    assert repr(own) == "AzureDialect(unstated='0')"
    assert [type(dialect_named(name)) for name in DIALECTS] == list(DIALECTS.values())
    with pytest.raises(DeclarationError, match=r"dialect must be one of openai, azure, .*, got 'mistral'"):
        dialect_named("mistral")
    with pytest.raises(DeclarationError, match="unstated must be one of -1, 0, absent, got 'none'"):
        AzureDialect(unstated="none")
