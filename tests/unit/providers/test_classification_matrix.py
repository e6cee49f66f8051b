"""Each kind of error by what real clients raise, and what it means for retry, fallback, breaker and limiter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytest

from langchain_parallel_plus.outcome import ErrorKind as Kind
from langchain_parallel_plus.providers import Classified, classify, register_classifier
from tests.unit.providers import wire
from tests.unit.providers.stand_ins import Refused, anthropic_like, openai_like
from tests.unit.providers.wire import answer, lost, stream


class Row(NamedTuple):
    """What a kind means, written down a second time: the table that the package is built from."""

    retry: bool
    fallback: str
    breaker: str
    limiter: str


TABLE: Mapping[Kind, Row] = {
    Kind.RATE_LIMIT: Row(True, "yes", "ignores", "pause"),
    Kind.QUOTA_EXHAUSTED: Row(False, "yes", "opens", "close"),
    Kind.TOO_LARGE_FOR_QUOTA: Row(False, "yes", "ignores", "refuse"),
    Kind.OVERLOADED: Row(True, "yes", "counts", "slow_down"),
    Kind.SERVER: Row(True, "yes", "counts", "nothing"),
    Kind.TIMEOUT: Row(True, "yes", "counts", "keep"),
    Kind.CONNECTION: Row(True, "yes", "counts", "refund"),
    Kind.CONTEXT_LENGTH: Row(False, "yes", "ignores", "refund"),
    Kind.CONTENT_FILTER: Row(False, "opt_in", "ignores", "keep"),
    Kind.AUTH: Row(False, "yes", "opens", "nothing"),
    Kind.NOT_FOUND: Row(False, "opt_in", "ignores", "nothing"),
    Kind.BAD_REQUEST: Row(False, "opt_in", "ignores", "nothing"),
}

OPENAI_LIKE = {"openai": wire.openai, "langchain-openai": wire.langchain_openai, "groq": wire.groq}
PLAIN = {"httpx": wire.httpx, "requests": wire.requests}


def openai_body(code: str | None, type_: str | None, message: str = "no") -> dict[str, Any]:
    return {"error": {"message": message, "type": type_, "param": None, "code": code}}


def anthropic_body(type_: str, message: str = "no", **more: Any) -> dict[str, Any]:
    return {"type": "error", "error": {"type": type_, "message": message, **more}}


def google_body(status: int, word: str, message: str = "no", *details: Mapping[str, Any]) -> dict[str, Any]:
    return {"error": {"code": status, "status": word, "message": message, "details": list(details)}}


LIMIT = "Rate limit reached on tokens per min (TPM): Limit 30000, Used 29000, Requested"
PER_DAY = {"@type": "google.rpc.QuotaFailure", "violations": [{"quotaId": "GenerateRequestsPerDayPerProject"}]}
SPENT = {"error_code": "enforced_spend_limit_reached"}
FORBIDDEN = "The caller does not have permission to execute the specified operation"

OPENAI_ANSWERS: list[tuple[Kind, int, dict[str, Any]]] = [
    (Kind.RATE_LIMIT, 429, openai_body("rate_limit_exceeded", "tokens")),
    (Kind.RATE_LIMIT, 429, openai_body("ramp_limit_exceeded", "requests")),
    (Kind.RATE_LIMIT, 429, openai_body(None, "invalid_request_error")),
    (Kind.QUOTA_EXHAUSTED, 429, openai_body("insufficient_quota", "insufficient_quota")),
    (Kind.QUOTA_EXHAUSTED, 429, openai_body("organization_usage_limit_exceeded", "billing")),
    (Kind.QUOTA_EXHAUSTED, 429, openai_body("organization_spend_limit_exceeded", "billing")),
    # DeepSeek's: the code says less than the status.
    (Kind.QUOTA_EXHAUSTED, 402, openai_body("invalid_request_error", "unknown_error", "Insufficient Balance")),
    (Kind.TOO_LARGE_FOR_QUOTA, 429, openai_body("rate_limit_exceeded", "tokens", f"{LIMIT} 30001.")),
    (Kind.OVERLOADED, 503, openai_body(None, "server_error", "The engine is overloaded")),
    (Kind.OVERLOADED, 503, openai_body("server_error", "server_error")),
    (Kind.OVERLOADED, 529, openai_body(None, "api_error")),
    (Kind.SERVER, 500, openai_body(None, "server_error")),
    (Kind.SERVER, 502, openai_body(None, "api_error")),
    (Kind.SERVER, 500, openai_body("unheard_of", None)),
    (Kind.TIMEOUT, 504, openai_body(None, "server_error")),
    (Kind.TIMEOUT, 408, openai_body(None, "invalid_request_error")),
    (Kind.CONTEXT_LENGTH, 400, openai_body("context_length_exceeded", "invalid_request_error")),
    (Kind.CONTEXT_LENGTH, 413, openai_body(None, "invalid_request_error")),
    (Kind.CONTENT_FILTER, 400, openai_body("content_filter", None)),
    (Kind.CONTENT_FILTER, 403, openai_body(None, None, "Your input was flagged by the moderation of this model")),
    (Kind.AUTH, 401, openai_body("invalid_api_key", "invalid_request_error")),
    (Kind.AUTH, 401, openai_body(None, "invalid_request_error", "You didn't provide an API key.")),
    (Kind.AUTH, 403, openai_body(None, "invalid_request_error")),
    (Kind.AUTH, 403, openai_body("server_error", "server_error")),
    (Kind.NOT_FOUND, 404, openai_body("model_not_found", "invalid_request_error")),
    (Kind.NOT_FOUND, 404, openai_body(None, "invalid_request_error")),
    (Kind.BAD_REQUEST, 400, openai_body(None, "invalid_request_error")),
    (Kind.BAD_REQUEST, 422, openai_body(None, "invalid_request_error")),
    (Kind.BAD_REQUEST, 415, openai_body(None, None)),
]
ANTHROPIC_ANSWERS: list[tuple[Kind, int, dict[str, Any]]] = [
    (Kind.RATE_LIMIT, 429, anthropic_body("rate_limit_error")),
    (Kind.QUOTA_EXHAUSTED, 402, anthropic_body("billing_error")),
    (Kind.QUOTA_EXHAUSTED, 402, anthropic_body("invalid_request_error")),
    (Kind.QUOTA_EXHAUSTED, 429, anthropic_body("rate_limit_error", details=SPENT)),
    (Kind.OVERLOADED, 529, anthropic_body("overloaded_error")),
    (Kind.OVERLOADED, 529, anthropic_body("api_error")),
    (Kind.OVERLOADED, 503, anthropic_body("api_error")),
    (Kind.SERVER, 500, anthropic_body("api_error")),
    (Kind.TIMEOUT, 504, anthropic_body("api_error")),
    (Kind.CONTEXT_LENGTH, 400, anthropic_body("invalid_request_error", "prompt is too long: 9 tokens > 8 maximum")),
    (Kind.CONTEXT_LENGTH, 413, anthropic_body("invalid_request_error")),
    (Kind.AUTH, 401, anthropic_body("invalid_request_error")),
    (Kind.AUTH, 403, anthropic_body("api_error")),
    (Kind.NOT_FOUND, 404, anthropic_body("invalid_request_error")),
    (Kind.NOT_FOUND, 404, anthropic_body("api_error")),
    (Kind.BAD_REQUEST, 400, anthropic_body("invalid_request_error")),
]  # fmt: skip
GOOGLE_ANSWERS: list[tuple[Kind, int, dict[str, Any]]] = [
    (Kind.RATE_LIMIT, 429, google_body(429, "RESOURCE_EXHAUSTED")),
    (Kind.QUOTA_EXHAUSTED, 429, google_body(429, "RESOURCE_EXHAUSTED", "no", PER_DAY)),
    (Kind.OVERLOADED, 503, google_body(503, "UNAVAILABLE")),
    (Kind.OVERLOADED, 503, google_body(503, "INTERNAL")),
    (Kind.SERVER, 500, google_body(500, "INTERNAL")),
    (Kind.TIMEOUT, 504, google_body(504, "DEADLINE_EXCEEDED")),
    (Kind.CONTEXT_LENGTH, 400, google_body(400, "INVALID_ARGUMENT", "exceeds the maximum number of tokens (8)")),
    (Kind.AUTH, 400, google_body(400, "INVALID_ARGUMENT", "no", {"reason": "API_KEY_INVALID"})),
    (Kind.AUTH, 401, google_body(401, "INVALID_ARGUMENT")),
    (Kind.AUTH, 403, google_body(403, "PERMISSION_DENIED")),
    (Kind.NOT_FOUND, 404, google_body(404, "NOT_FOUND")),
    (Kind.BAD_REQUEST, 400, google_body(400, "FAILED_PRECONDITION")),
]  # fmt: skip
BEDROCK_ANSWERS: list[tuple[Kind, int, str, str]] = [
    (Kind.RATE_LIMIT, 429, "ThrottlingException", "Too many tokens, please wait before trying again."),
    (Kind.QUOTA_EXHAUSTED, 400, "ServiceQuotaExceededException", "no"),
    (Kind.OVERLOADED, 429, "ModelNotReadyException", "no"),
    (Kind.OVERLOADED, 503, "ServiceUnavailableException", "no"),
    (Kind.SERVER, 500, "InternalServerException", "no"),
    (Kind.SERVER, 424, "ModelErrorException", "no"),
    (Kind.TIMEOUT, 408, "ModelTimeoutException", "no"),
    (Kind.CONTEXT_LENGTH, 400, "ValidationException", "Input is too long for requested model."),
    (Kind.AUTH, 403, "AccessDeniedException", "no"),
    (Kind.AUTH, 403, "ExpiredTokenException", "no"),
    (Kind.NOT_FOUND, 404, "ResourceNotFoundException", "no"),
    (Kind.BAD_REQUEST, 400, "ValidationException", "Malformed input request"),
]
Make = Callable[[wire.Fail], Exception]


def matrix() -> list[Any]:
    """Return every kind by every client that can be told of it over HTTP."""
    cells: list[tuple[str, Kind, int, Callable[[], Exception]]] = []
    for name, make in {**OPENAI_LIKE, **PLAIN}.items():
        cells += [(name, kind, status, _told(make, status, body)) for kind, status, body in OPENAI_ANSWERS]
    anthropics: dict[str, Make] = {"anthropic": wire.anthropic, **PLAIN}
    for name, make in anthropics.items():
        cells += [(name, kind, status, _told(make, status, body)) for kind, status, body in ANTHROPIC_ANSWERS]
    cells += [("google-genai", kind, status, _told(wire.genai, status, body)) for kind, status, body in GOOGLE_ANSWERS]
    for kind, status, code, message in BEDROCK_ANSWERS:
        cells.append(("botocore", kind, status, lambda s=status, c=code, m=message: wire.bedrock(s, c, m)))  # type: ignore[misc]
    for kind, status, body in OPENAI_ANSWERS:
        cells.append(("openai stand-in", kind, status, lambda s=status, b=body: openai_like(s, b["error"])))  # type: ignore[misc]
    for kind, status, body in ANTHROPIC_ANSWERS:
        cells.append(("anthropic stand-in", kind, status, lambda s=status, b=body: anthropic_like(s, b["error"])))  # type: ignore[misc]
    return [pytest.param(kind, status, make, id=f"{name}-{status}-{kind}") for name, kind, status, make in cells]


def _told(make: Make, status: int, body: dict[str, Any]) -> Callable[[], Exception]:
    return lambda: make(answer(status, body))


@pytest.mark.parametrize(("kind", "status", "make"), matrix())
def test_what_a_client_makes_of_a_response(kind: Kind, status: int, make: Callable[[], Exception]) -> None:
    found = classify(make())
    assert (found.kind, found.status) == (kind, status)
    assert found.retryable is TABLE[kind].retry
    assert (found.facts.fallback, found.facts.breaker, found.facts.limiter) == TABLE[kind][1:]


def test_the_matrix_has_every_kind_that_a_provider_can_send() -> None:
    sent = {kind for kind, *_ in (*OPENAI_ANSWERS, *ANTHROPIC_ANSWERS, *GOOGLE_ANSWERS, *BEDROCK_ANSWERS)}
    assert sent == set(TABLE) - {Kind.CONNECTION}
    assert set(Kind) - set(TABLE) == {Kind.OUTPUT_LENGTH, Kind.LOCAL, Kind.CANCELLED, Kind.UNKNOWN}


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        ("ReadTimeout", Kind.TIMEOUT),
        ("ConnectTimeout", Kind.TIMEOUT),
        ("PoolTimeout", Kind.TIMEOUT),
        ("ConnectError", Kind.CONNECTION),
        ("ReadError", Kind.CONNECTION),
        ("RemoteProtocolError", Kind.CONNECTION),
    ],
)
@pytest.mark.parametrize(
    "make", [*OPENAI_LIKE.values(), wire.anthropic, wire.genai, wire.httpx], ids=lambda make: make.__name__
)
def test_what_a_client_makes_of_a_lost_connection(make: Make, failure: str, kind: Kind) -> None:
    found = classify(make(lost(failure)))
    assert (found.kind, found.status, found.retryable) == (kind, None, True)


@pytest.mark.parametrize(
    ("make", "event", "kind"),
    [
        (wire.openai, openai_body(None, "server_error"), Kind.SERVER),
        (wire.openai, openai_body("rate_limit_exceeded", "tokens"), Kind.RATE_LIMIT),
        (wire.openai, openai_body("insufficient_quota", "insufficient_quota"), Kind.QUOTA_EXHAUSTED),
        (wire.langchain_openai, openai_body(None, "server_error"), Kind.SERVER),
        (wire.langchain_openai, openai_body("insufficient_quota", "insufficient_quota"), Kind.QUOTA_EXHAUSTED),
        (wire.groq, openai_body(None, "server_error"), Kind.SERVER),
        (wire.anthropic, anthropic_body("overloaded_error"), Kind.OVERLOADED),
        (wire.anthropic, anthropic_body("api_error"), Kind.SERVER),
        (wire.anthropic, anthropic_body("invalid_request_error"), Kind.BAD_REQUEST),
    ],
)
def test_an_error_inside_a_stream_of_status_200(make: Any, event: Mapping[str, Any], kind: Kind) -> None:
    assert classify(make(stream(event), stream=True)).kind is kind


@pytest.mark.parametrize(
    "make", [*OPENAI_LIKE.values(), wire.anthropic, *PLAIN.values()], ids=lambda make: make.__name__
)
@pytest.mark.parametrize(("headers", "wait"), [({"retry-after": "7"}, 7.0), ({"retry-after-ms": "250"}, 0.25)])
def test_every_client_hands_the_wait_on(make: Make, headers: Mapping[str, str], wait: float) -> None:
    assert classify(make(answer(429, openai_body(None, "requests"), headers))).retry_after == wait


def test_bedrock_and_gemini_hand_the_wait_on() -> None:
    assert classify(wire.bedrock(429, "ThrottlingException", headers={"retry-after": "3"})).retry_after == 3.0
    info = {"@type": "google.rpc.RetryInfo", "retryDelay": "4.5s"}
    told = wire.genai(answer(429, google_body(429, "RESOURCE_EXHAUSTED", "no", info)))
    assert classify(told).retry_after == 4.5


GENERIC = ["invalid_request_error", "server_error", "api_error", "internal_server_error", "bad_request"]


@pytest.mark.parametrize("word", GENERIC)
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, Kind.AUTH), (402, Kind.QUOTA_EXHAUSTED), (403, Kind.AUTH), (404, Kind.NOT_FOUND), (408, Kind.TIMEOUT),
        (413, Kind.CONTEXT_LENGTH), (429, Kind.RATE_LIMIT), (503, Kind.OVERLOADED), (504, Kind.TIMEOUT),
        (529, Kind.OVERLOADED),
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["code", "type"])
def test_a_generic_word_tells_less_than_the_status(word: str, status: int, kind: Kind, place: str) -> None:
    found = classify(openai_like(status, {"message": "no", place: word}))
    assert (found.kind, found.detail) == (kind, f"status {status}")


@pytest.mark.parametrize(
    ("status", "word", "kind"),
    [
        (200, "server_error", Kind.SERVER),
        (None, "api_error", Kind.SERVER),
        (400, "server_error", Kind.SERVER),
        (424, "api_error", Kind.SERVER),
        (500, "invalid_request_error", Kind.BAD_REQUEST),
        (None, "invalid_request_error", Kind.BAD_REQUEST),
        (404, "insufficient_quota", Kind.QUOTA_EXHAUSTED),
        (503, "rate_limit_exceeded", Kind.RATE_LIMIT),
        (400, "overloaded_error", Kind.OVERLOADED),
        (500, "context_length_exceeded", Kind.CONTEXT_LENGTH),
    ],
)
def test_a_word_tells_more_than_a_status_that_says_nothing(status: int | None, word: str, kind: Kind) -> None:
    found = classify(Refused(status_code=status, body={"error": {"type": word}}))
    assert (found.kind, found.detail) == (kind, f"code {word}")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        # xAI's refusal of a prompt; a breaker that took it for a wrong key would shut the key for everybody.
        ({"code": FORBIDDEN, "error": "Content violates usage guidelines. Failed check: X"}, Kind.CONTENT_FILTER),
        ({"error": {"code": 403, "message": "model requires moderation, your input was flagged"}}, Kind.CONTENT_FILTER),
        ({"error": {"code": "forbidden", "message": "Content violates usage guidelines."}}, Kind.AUTH),
        ({"code": FORBIDDEN, "error": "Your key has no access"}, Kind.AUTH),
    ],
)
def test_a_403_may_be_about_the_prompt(body: Mapping[str, Any], kind: Kind) -> None:
    assert classify(wire.openai(answer(403, body))).kind is kind
    assert classify(wire.httpx(answer(403, body))).kind is kind


def test_a_401_is_about_the_key_whatever_its_message_quotes() -> None:
    body = openai_body(None, "invalid_request_error", "Content violates usage guidelines, your input was flagged")
    assert classify(wire.openai(answer(401, body))).kind is Kind.AUTH


def test_a_registered_classifier_sees_the_real_exception_first_and_is_believed() -> None:
    sdk = pytest.importorskip("openai")
    seen: list[type] = []

    def own_gateway(error: Exception) -> Classified | None:
        seen.append(type(error))
        if isinstance(error, sdk.APIStatusError) and error.response.headers.get("x-gateway") == "busy":
            return Classified(Kind.OVERLOADED, retry_after=1.5, status=error.status_code)
        return None

    busy = wire.openai(answer(401, openai_body("invalid_api_key", "no"), {"x-gateway": "busy"}))
    other = wire.openai(answer(401, openai_body("invalid_api_key", "no")))
    unregister = register_classifier(own_gateway)
    try:
        found = classify(busy)
        assert (found.kind, found.retry_after, found.retryable) == (Kind.OVERLOADED, 1.5, True)
        assert classify(other).kind is Kind.AUTH
    finally:
        unregister()
    assert seen == [sdk.AuthenticationError, sdk.AuthenticationError]
    assert classify(busy).kind is Kind.AUTH
