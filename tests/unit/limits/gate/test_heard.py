"""What a provider says of the quota is read from answers and errors, wherever it stands, and nothing else is kept."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, Generation, LLMResult

from langchain_parallel_plus.limits import RateLimiter
from langchain_parallel_plus.limits.gate.heard import classify_failed_call, heard_in_answer, heard_in_error
from langchain_parallel_plus.outcome import ErrorKind

NOW = 1_700_000_000.0
HEADERS = {
    "x-ratelimit-limit-requests": "500",
    "x-ratelimit-remaining-requests": "499",
    "x-ratelimit-reset-requests": "120ms",
    "set-cookie": "session=very-secret",
    "authorization": "Bearer sk-very-secret",
}


def result(**metadata: Any) -> LLMResult:
    return LLMResult(generations=[[ChatGeneration(message=AIMessage("", response_metadata=metadata))]])


class Response:
    """An HTTP response as far as errors carry it."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


class Failed(Exception):
    """A client's error."""

    def __init__(self, message: str = "failed", **fields: Any) -> None:
        super().__init__(message)
        self.__dict__.update(fields)


def test_the_headers_of_an_answer_are_heard_and_nothing_else_is_kept() -> None:
    snapshot = heard_in_answer(result(headers=HEADERS), NOW)
    assert snapshot is not None
    quota = snapshot.get("requests")
    assert quota is not None
    assert (quota.limit, quota.remaining, quota.reset) == (500, 499, 0.12)
    assert "secret" not in repr(snapshot)


@pytest.mark.parametrize(
    "response",
    [
        result(),
        result(headers={}),
        result(headers=None),
        result(headers={"content-type": "text/event-stream"}),
        result(headers=7),
        LLMResult(generations=[]),
        LLMResult(generations=[[]]),
        LLMResult(generations=[[Generation(text="of a completion model")]]),
        None,
        "text",
    ],
)
def test_an_answer_without_headers_says_nothing(response: Any) -> None:
    assert heard_in_answer(response, NOW) is None


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=30), inner, max_size=4),
    max_leaves=12,
)


@given(headers=JUNK | st.dictionaries(st.sampled_from(sorted(HEADERS)), JUNK), body=JUNK, status=JUNK)
def test_nothing_that_a_server_sends_raises(headers: Any, body: Any, status: Any) -> None:
    response = result(headers=headers, body=body, status_code=status)
    error = Failed(response=Response(headers=headers, status_code=status), body=body)
    heard_in_answer(response, NOW)
    heard_in_error(error, response, NOW)
    classify_failed_call(error, response)


def _raised_from(cause: Exception) -> Exception:
    try:
        raise ValueError("the integration's own") from cause
    except ValueError as error:
        return error


@pytest.mark.parametrize(
    ("error", "response"),
    [
        (Failed(response=Response(headers=HEADERS, status_code=429)), None),
        (Failed(headers=HEADERS), None),
        (Failed(response={"ResponseMetadata": {"HTTPHeaders": HEADERS}}), None),
        (_raised_from(Failed(response=Response(headers=HEADERS))), None),
        (Failed(), result(headers=HEADERS, status_code=429)),
        (Failed(response=Response(headers={"date": "today"})), result(headers=HEADERS)),
    ],
)
def test_the_headers_of_an_error_are_heard(error: Exception, response: Any) -> None:
    snapshot = heard_in_error(error, response, NOW)
    assert snapshot is not None
    assert snapshot.get("requests", 60.0) is not None


def test_an_error_that_causes_itself_is_looked_at_once() -> None:
    error = Failed()
    error.__context__ = Failed()
    error.__context__.__context__ = error
    assert heard_in_error(error, None, NOW) is None


def test_langchain_s_copy_of_the_answer_tells_what_the_exception_does_not() -> None:
    answer = result(status_code=429, body={"error": {"code": "insufficient_quota"}}, headers={})
    assert classify_failed_call(Failed(), answer).kind is ErrorKind.QUOTA_EXHAUSTED
    assert classify_failed_call(Failed(), result(status_code=503)).kind is ErrorKind.OVERLOADED
    assert classify_failed_call(Failed(), None).kind is ErrorKind.UNKNOWN


def test_a_wait_that_only_the_copy_names_is_taken() -> None:
    answer = result(status_code=429, headers={"retry-after": "12"})
    verdict = classify_failed_call(Failed(status_code=429), answer)
    assert (verdict.kind, verdict.retry_after) == (ErrorKind.RATE_LIMIT, 12)
    hinted = Failed(response=Response(status_code=429, headers={"retry-after": "3"}))
    assert classify_failed_call(hinted, answer).retry_after == 3


def test_the_exception_has_the_first_word() -> None:
    assert classify_failed_call(TimeoutError(), result(status_code=429)).kind is ErrorKind.TIMEOUT
    assert classify_failed_call(GeneratorExit(), result(status_code=429)).kind is ErrorKind.CANCELLED


def quota_failure(quota_id: Any, value: Any) -> dict[str, Any]:
    """Return the body of Gemini's refusal."""
    failure = {"violations": [{"quotaId": quota_id, "quotaValue": value}]}
    return {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [{"retryDelay": "3s"}, failure]}}


@pytest.mark.parametrize(
    ("quota_id", "value", "heard"),
    [
        ("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "20", ("requests", 60.0, 20)),
        ("GenerateRequestsPerDayPerProjectPerModel", "1500", ("requests", 86_400.0, 1_500)),
        ("GenerateContentInputTokensPerModelPerMinute", 250_000, ("input_tokens", 60.0, 250_000)),
        ("GenerateContentTokensPerModelPerDay", "9", ("tokens", 86_400.0, 9)),
        ("GenerateRequestsPerMinutePerProjectPerModel", "0", None),
        ("GenerateRequestsPerMinutePerProjectPerModel", "-1", None),
        ("GenerateRequestsPerMinutePerProjectPerModel", None, None),
        ("GenerateRequests", "20", None),
        ("SomethingPerMinute", "20", None),
        (None, "20", None),
        ("GenerateRequestsPerMinutePerProjectPerModel", True, None),
    ],
)
@pytest.mark.parametrize("copied", [True, False], ids=["LangChain's copy", "the exception"])
def test_the_limit_that_gemini_names_in_a_refusal_is_heard(
    quota_id: Any, value: Any, heard: tuple[str, float, float] | None, copied: bool
) -> None:
    body = quota_failure(quota_id, value)
    error = Failed() if copied else _raised_from(Failed(details=body))
    snapshot = heard_in_error(error, result(body=body) if copied else None, NOW)
    if heard is None:
        assert snapshot is None
    else:
        [quota] = snapshot.quotas
        assert (quota.unit, quota.inferred_window, quota.limit) == heard
        assert (quota.remaining, snapshot.wait) == (None, None)


@pytest.mark.parametrize("learned", [True, False])
def test_a_limit_that_gemini_names_is_adopted(learned: bool) -> None:
    limiter = RateLimiter.from_headers() if learned else RateLimiter(requests_per_minute=600)
    limiter.meet("google_genai")
    error = Failed(details=quota_failure("GenerateRequestsPerMinutePerProjectPerModel", "20"), status=429)
    limiter.reserve().refused(classify_failed_call(error, None), heard_in_error(error, None, NOW))
    assert limiter.statistics().rates["requests_per_minute"].limit == 20
    assert 2 <= limiter.statistics().paused_for <= 4
