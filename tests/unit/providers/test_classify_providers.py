"""What the errors of each provider mean, by the real exceptions where their package is installed and by stand-ins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from langchain_parallel_plus.outcome import ErrorKind as Kind
from langchain_parallel_plus.providers import classify
from tests.unit.providers import real_errors as real
from tests.unit.providers.stand_ins import Refused, anthropic_like, boto_like, genai_like, named, openai_like

LIMIT = (
    "Rate limit reached for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Used 29000, Requested"
)


def openai_error(code: str | None, type_: str, message: str = "no") -> dict[str, Any]:
    return {"message": message, "type": type_, "param": None, "code": code}


OPENAI: list[tuple[str, int, Mapping[str, Any], Kind]] = [
    (
        "rate limit",
        429,
        openai_error("rate_limit_exceeded", "tokens", f"{LIMIT} 5908. Please try again in 9.816s."),
        Kind.RATE_LIMIT,
    ),
    ("quota", 429, openai_error("insufficient_quota", "insufficient_quota"), Kind.QUOTA_EXHAUSTED),
    ("quota by type", 429, openai_error(None, "insufficient_quota"), Kind.QUOTA_EXHAUSTED),
    ("credit", 429, openai_error("credit_balance_exhausted", "billing"), Kind.QUOTA_EXHAUSTED),
    ("spend", 429, openai_error("project_spend_limit_exceeded", "requests"), Kind.QUOTA_EXHAUSTED),
    ("hard limit", 400, openai_error("billing_hard_limit_reached", "invalid_request_error"), Kind.QUOTA_EXHAUSTED),
    (
        "too large",
        429,
        openai_error("rate_limit_exceeded", "tokens", "Request too large for gpt-4"),
        Kind.TOO_LARGE_FOR_QUOTA,
    ),
    (
        "too large by numbers",
        429,
        openai_error("rate_limit_exceeded", "tokens", f"{LIMIT} 30001."),
        Kind.TOO_LARGE_FOR_QUOTA,
    ),
    ("context", 400, openai_error("context_length_exceeded", "invalid_request_error"), Kind.CONTEXT_LENGTH),
    (
        "context by text",
        400,
        openai_error(None, "invalid_request_error", "Input tokens exceed the configured limit of 9"),
        Kind.CONTEXT_LENGTH,
    ),
    ("bad key", 401, openai_error("invalid_api_key", "invalid_request_error"), Kind.AUTH),
    ("country", 403, openai_error("unsupported_country_region_territory", "request_forbidden"), Kind.AUTH),
    ("no model", 404, openai_error("model_not_found", "invalid_request_error"), Kind.NOT_FOUND),
    ("bad request", 400, openai_error(None, "invalid_request_error"), Kind.BAD_REQUEST),
    (
        "azure filter",
        400,
        {"code": "content_filter", "innererror": {"code": "ResponsibleAIPolicyViolation"}},
        Kind.CONTENT_FILTER,
    ),
    ("azure 429", 429, {"code": "429", "message": "Please retry after 7 seconds."}, Kind.RATE_LIMIT),
    ("azure deployment", 404, {"code": "DeploymentNotFound", "message": "no"}, Kind.NOT_FOUND),
    ("server", 500, openai_error(None, "server_error"), Kind.SERVER),
    ("engine", 503, openai_error(None, "unheard_of"), Kind.OVERLOADED),
    ("gateway", 502, {}, Kind.SERVER),
]


@pytest.mark.parametrize("make", [real.langchain_openai_error, lambda *a: real.sdk_error("openai", *a), openai_like])
@pytest.mark.parametrize(("status", "error", "kind"), [case[1:] for case in OPENAI], ids=[case[0] for case in OPENAI])
def test_openai(make: Callable[..., Exception], status: int, error: Mapping[str, Any], kind: Kind) -> None:
    found = classify(make(status, error))
    assert (found.kind, found.status) == (kind, status)
    assert found.code in (None, *error.values())


def test_an_exhausted_account_is_not_retried_whatever_the_class_says() -> None:
    error = real.langchain_openai_error(429, openai_error("insufficient_quota", "insufficient_quota"))
    assert error.is_retryable  # the trap
    found = classify(error)
    assert (found.kind, found.retryable, found.code) == (Kind.QUOTA_EXHAUSTED, False, "insufficient_quota")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (openai_error("rate_limit_exceeded", "tokens"), Kind.RATE_LIMIT),
        (openai_error("server_error", "server_error"), Kind.SERVER),
        (openai_error("insufficient_quota", "insufficient_quota"), Kind.QUOTA_EXHAUSTED),
        ({"code": 502, "message": "Provider returned error"}, Kind.SERVER),  # OpenRouter, inside a stream
    ],
)
def test_an_error_inside_a_stream_has_only_its_body(error: Mapping[str, Any], kind: Kind) -> None:
    assert classify(real.openai_stream_error(error)).kind is kind


def test_a_context_overflow_without_code_or_status_is_known_by_its_class() -> None:
    base = pytest.importorskip("langchain_openai.chat_models.base")
    cause = real.openai_stream_error({}, message="Your input exceeds the context window of this model.")
    with pytest.raises(base.OpenAIAPIContextOverflowError) as raised:
        base._handle_openai_api_error(cause)
    assert classify(raised.value).kind is Kind.CONTEXT_LENGTH


def test_openais_other_errors() -> None:
    openai, httpx2 = pytest.importorskip("openai"), pytest.importorskip("httpx2")
    base = pytest.importorskip("langchain_openai.chat_models.base")
    utils = pytest.importorskip("langchain_openai.chat_models._client_utils")
    request = httpx2.Request("POST", real.URL)
    kinds = {
        Kind.TIMEOUT: [
            openai.APITimeoutError(request),
            base.OpenAITimeoutError(request),
            utils.StreamChunkTimeoutError(5.0),
        ],
        Kind.CONNECTION: [openai.APIConnectionError(request=request), base.OpenAIConnectionError(request=request)],
        Kind.OUTPUT_LENGTH: [openai.LengthFinishReasonError(completion=SimpleNamespace(usage=None))],
        Kind.CONTENT_FILTER: [openai.ContentFilterFinishReasonError(), base.OpenAIRefusalError("I cannot")],
    }
    assert {kind: {classify(error).kind for error in errors} for kind, errors in kinds.items()} == {
        k: {k} for k in kinds
    }


ANTHROPIC: list[tuple[int, Mapping[str, Any], Kind]] = [
    (429, {"type": "rate_limit_error", "message": "This request would exceed your rate limit"}, Kind.RATE_LIMIT),
    (429, {"type": "rate_limit_error", "details": {"error_code": "ramp_limit_exceeded"}}, Kind.RATE_LIMIT),
    (
        429,
        {"type": "rate_limit_error", "details": {"error_code": "enforced_spend_limit_reached"}},
        Kind.QUOTA_EXHAUSTED,
    ),
    (
        429,
        {"type": "rate_limit_error", "details": {"error_code": "contract_spend_limit_reached"}},
        Kind.QUOTA_EXHAUSTED,
    ),
    (402, {"type": "billing_error", "message": "no"}, Kind.QUOTA_EXHAUSTED),
    (
        402,
        {"type": "billing_error", "details": {"error_code": "linked_organization_spend_limit_reached"}},
        Kind.QUOTA_EXHAUSTED,
    ),
    (
        400,
        {"type": "invalid_request_error", "message": "You have reached your specified API usage limits."},
        Kind.QUOTA_EXHAUSTED,
    ),
    (
        400,
        {"type": "invalid_request_error", "message": "Your credit balance is too low to access the API."},
        Kind.QUOTA_EXHAUSTED,
    ),
    (
        400,
        {"type": "invalid_request_error", "message": "prompt is too long: 210000 tokens > 200000"},
        Kind.CONTEXT_LENGTH,
    ),
    (400, {"type": "invalid_request_error", "message": "messages: roles must alternate"}, Kind.BAD_REQUEST),
    (413, {"type": "request_too_large", "message": "Request exceeds the maximum size"}, Kind.CONTEXT_LENGTH),
    (401, {"type": "authentication_error", "message": "invalid x-api-key"}, Kind.AUTH),
    (403, {"type": "permission_error", "message": "no"}, Kind.AUTH),
    (404, {"type": "not_found_error", "message": "model: x"}, Kind.NOT_FOUND),
    (500, {"type": "api_error", "message": "Internal server error"}, Kind.SERVER),
    (504, {"type": "timeout_error", "message": "no"}, Kind.TIMEOUT),
    (529, {"type": "overloaded_error", "message": "Overloaded"}, Kind.OVERLOADED),
    (200, {"type": "overloaded_error", "message": "Overloaded"}, Kind.OVERLOADED),  # inside a stream
]


@pytest.mark.parametrize("make", [lambda *a: real.sdk_error("anthropic", *a), anthropic_like])
@pytest.mark.parametrize(("status", "error", "kind"), ANTHROPIC)
def test_anthropic(make: Callable[..., Exception], status: int, error: Mapping[str, Any], kind: Kind) -> None:
    assert classify(make(status, error)).kind is kind


def test_groqs_413_is_a_rate_limit_that_the_request_is_too_large_for() -> None:
    message = "Request too large for model `x` on tokens per minute (TPM): Limit 6000, Requested 7024, please reduce"
    error = {"message": message, "type": "tokens", "code": "rate_limit_exceeded"}
    assert classify(real.sdk_error("groq", 413, error)).kind is Kind.TOO_LARGE_FOR_QUOTA


def quota_failure(quota_id: str, *others: Mapping[str, Any], message: str = "You exceeded your current quota") -> Any:
    violations = [{"quotaId": quota_id, "quotaValue": "20"}]
    failure = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": violations}
    return {"status": "RESOURCE_EXHAUSTED", "message": message, "details": [failure, *others]}


PER_DAY, PER_MINUTE = "GenerateRequestsPerDayPerProjectPerModel-FreeTier", "GenerateRequestsPerMinutePerProjectPerModel"
RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "45.837906927s"}
GOOGLE: list[tuple[int, Mapping[str, Any], Kind, float | None]] = [
    (429, quota_failure(PER_MINUTE, RETRY_INFO), Kind.RATE_LIMIT, 45.837906927),
    (429, quota_failure(PER_DAY, RETRY_INFO), Kind.RATE_LIMIT, 45.837906927),
    (429, quota_failure(PER_DAY), Kind.QUOTA_EXHAUSTED, None),
    (
        429,
        quota_failure(PER_DAY, RETRY_INFO, message="Quota exceeded, limit: 0, model: x"),
        Kind.QUOTA_EXHAUSTED,
        45.837906927,
    ),
    (429, quota_failure(PER_MINUTE, message="limit: 20\nPlease retry in 47.4s."), Kind.RATE_LIMIT, 47.4),
    (
        429,
        {"status": "RESOURCE_EXHAUSTED", "details": [{"metadata": {"quota_limit": "Gemini25ProRequestsPerDay"}}]},
        Kind.QUOTA_EXHAUSTED,
        None,
    ),
    (503, {"status": "UNAVAILABLE", "message": "The model is overloaded."}, Kind.OVERLOADED, None),
    (500, {"status": "INTERNAL"}, Kind.SERVER, None),
    (504, {"status": "DEADLINE_EXCEEDED"}, Kind.TIMEOUT, None),
    (400, {"status": "INVALID_ARGUMENT", "message": "no", "details": [{"reason": "API_KEY_INVALID"}]}, Kind.AUTH, None),
    (
        400,
        {
            "status": "INVALID_ARGUMENT",
            "message": "The input token count (9) exceeds the maximum number of tokens allowed (8).",
        },
        Kind.CONTEXT_LENGTH,
        None,
    ),
    (400, {"status": "FAILED_PRECONDITION"}, Kind.BAD_REQUEST, None),
    (403, {"status": "PERMISSION_DENIED"}, Kind.AUTH, None),
    (404, {"status": "NOT_FOUND"}, Kind.NOT_FOUND, None),
]


@pytest.mark.parametrize("make", [real.genai_error, genai_like])
@pytest.mark.parametrize(("status", "error", "kind", "wait"), GOOGLE)
def test_gemini(
    make: Callable[..., Exception], status: int, error: Mapping[str, Any], kind: Kind, wait: float | None
) -> None:
    found = classify(make(status, error))
    assert (found.kind, found.retry_after, found.status) == (kind, wait, status)


def test_google_api_core_tells_by_protobuf_messages() -> None:
    core = pytest.importorskip("google.api_core.exceptions")
    rpc = pytest.importorskip("google.rpc.error_details_pb2")
    info = rpc.RetryInfo()
    info.retry_delay.seconds, info.retry_delay.nanos = 3, 500_000_000
    per_day = rpc.QuotaFailure(violations=[rpc.QuotaFailure.Violation(quota_id=PER_DAY)])
    found = classify(core.ResourceExhausted("no", details=[per_day, info]))
    assert (found.kind, found.retry_after) == (Kind.RATE_LIMIT, 3.5)
    assert classify(core.ResourceExhausted("no", details=[per_day])).kind is Kind.QUOTA_EXHAUSTED
    assert classify(core.ServiceUnavailable("no")).kind is Kind.OVERLOADED
    assert classify(core.DeadlineExceeded("no")).kind is Kind.TIMEOUT
    assert classify(core.InvalidArgument("no")).kind is Kind.BAD_REQUEST


BEDROCK: list[tuple[str, int, str, Kind]] = [
    ("ThrottlingException", 429, "Too many tokens, please wait before trying again.", Kind.RATE_LIMIT),
    ("TooManyRequestsException", 429, "no", Kind.RATE_LIMIT),
    ("ProvisionedThroughputExceededException", 400, "no", Kind.RATE_LIMIT),
    ("RequestThrottledException", 400, "no", Kind.RATE_LIMIT),
    ("ServiceQuotaExceededException", 400, "no", Kind.QUOTA_EXHAUSTED),
    ("ModelNotReadyException", 429, "no", Kind.OVERLOADED),
    ("ServiceUnavailableException", 503, "no", Kind.OVERLOADED),
    ("SlowDown", 503, "no", Kind.OVERLOADED),
    ("ModelErrorException", 424, "no", Kind.SERVER),
    ("InternalServerException", 500, "no", Kind.SERVER),
    ("ModelTimeoutException", 408, "no", Kind.TIMEOUT),
    ("ValidationException", 400, "Input is too long for requested model.", Kind.CONTEXT_LENGTH),
    ("ValidationException", 400, "Malformed input request", Kind.BAD_REQUEST),
    ("AccessDeniedException", 403, "no", Kind.AUTH),
    ("ExpiredTokenException", 403, "no", Kind.AUTH),
    ("ResourceNotFoundException", 404, "no", Kind.NOT_FOUND),
    ("throttlingException", 200, "inside an event stream", Kind.RATE_LIMIT),
]


@pytest.mark.parametrize("make", [real.boto_error, boto_like])
@pytest.mark.parametrize(("code", "status", "message", "kind"), BEDROCK)
def test_bedrock(make: Callable[..., Exception], code: str, status: int, message: str, kind: Kind) -> None:
    found = classify(make(code, message, status))
    assert (found.kind, found.code) == (kind, code)


def test_botocores_own_errors() -> None:
    boto = pytest.importorskip("botocore.exceptions")
    assert classify(boto.ReadTimeoutError(endpoint_url="u", error="e")).kind is Kind.TIMEOUT
    assert classify(boto.ConnectTimeoutError(endpoint_url="u", error="e")).kind is Kind.TIMEOUT
    assert classify(boto.EndpointConnectionError(endpoint_url="u", error="e")).kind is Kind.CONNECTION
    assert classify(boto.ConnectionClosedError(endpoint_url="u", error="e")).kind is Kind.CONNECTION
    assert classify(boto.NoCredentialsError()).kind is Kind.AUTH
    assert classify(boto.ParamValidationError(report="r")).kind is Kind.BAD_REQUEST


@pytest.mark.parametrize("module", ["httpx", "httpx2"])
def test_httpx_and_its_fork(module: str) -> None:
    httpx = pytest.importorskip(module)
    for name in ("ConnectTimeout", "ReadTimeout", "WriteTimeout", "PoolTimeout"):
        assert classify(getattr(httpx, name)("no")).kind is Kind.TIMEOUT
    for name in ("ConnectError", "ReadError", "CloseError", "RemoteProtocolError", "ProxyError"):
        assert classify(getattr(httpx, name)("no")).kind is Kind.CONNECTION
    assert classify(httpx.UnsupportedProtocol("no")).kind is Kind.BAD_REQUEST
    body = {"error": {"code": "insufficient_quota"}}
    assert classify(real.httpx_error(429, module=module)).kind is Kind.RATE_LIMIT
    assert classify(real.httpx_error(429, body, module=module)).kind is Kind.QUOTA_EXHAUSTED
    assert classify(real.httpx_error(400, [body], module=module)).kind is Kind.QUOTA_EXHAUSTED


def test_the_body_of_a_response_that_was_not_read_is_left_alone() -> None:
    httpx = pytest.importorskip("httpx")

    def chunks() -> Any:
        pytest.fail("the body was read")
        yield b""

    response = httpx.Response(429, content=chunks(), request=httpx.Request("POST", real.URL))
    error = httpx.HTTPStatusError("no", request=response.request, response=response)
    assert classify(error).kind is Kind.RATE_LIMIT


def test_requests() -> None:
    requests = pytest.importorskip("requests")
    assert classify(real.requests_error(429)).kind is Kind.RATE_LIMIT
    assert classify(real.requests_error(429, b'{"error": {"type": "insufficient_quota"}}')).kind is Kind.QUOTA_EXHAUSTED
    assert classify(real.requests_error(404)).kind is Kind.NOT_FOUND
    assert classify(requests.ReadTimeout()).kind is Kind.TIMEOUT
    assert classify(requests.ConnectTimeout()).kind is Kind.TIMEOUT
    assert classify(requests.ConnectionError()).kind is Kind.CONNECTION
    assert classify(requests.exceptions.ChunkedEncodingError()).kind is Kind.CONNECTION
    assert classify(requests.exceptions.MissingSchema()).kind is Kind.BAD_REQUEST


def test_aiohttp_whose_deprecated_code_is_not_touched() -> None:
    aiohttp = pytest.importorskip("aiohttp")
    info = SimpleNamespace(real_url="http://127.0.0.1")
    error = aiohttp.ClientResponseError(info, (), status=429, headers={"Retry-After": "3"})
    assert (classify(error).kind, classify(error).retry_after) == (Kind.RATE_LIMIT, 3.0)
    assert classify(aiohttp.ServerTimeoutError()).kind is Kind.TIMEOUT
    assert classify(aiohttp.ServerDisconnectedError()).kind is Kind.CONNECTION
    assert classify(aiohttp.ClientPayloadError()).kind is Kind.CONNECTION


def test_urllib_tells_by_the_status_and_not_by_its_base_class() -> None:
    import urllib.error
    from email.message import Message

    headers = Message()
    headers["Retry-After"] = "9"
    with urllib.error.HTTPError(real.URL, 429, "no", headers, None) as error:
        assert (classify(error).kind, classify(error).retry_after) == (Kind.RATE_LIMIT, 9.0)
    assert classify(urllib.error.URLError("no route")).kind is Kind.CONNECTION


def test_grpc_tells_by_a_method() -> None:
    class RpcError(Exception):
        def code(self) -> Any:
            return SimpleNamespace(name="RESOURCE_EXHAUSTED", value=(8, "resource exhausted"))

    class Other(Exception):
        def code(self) -> Any:
            pytest.fail("a method of an unknown class was called")

    assert classify(RpcError()).kind is Kind.RATE_LIMIT
    assert classify(Other()).kind is Kind.UNKNOWN


CORE = {
    "ModelAuthenticationError": (Kind.AUTH, False),
    "ModelPermissionDeniedError": (Kind.AUTH, False),
    "ModelInvalidRequestError": (Kind.BAD_REQUEST, False),
    "ModelNotFoundError": (Kind.NOT_FOUND, False),
    "ModelRateLimitError": (Kind.RATE_LIMIT, True),
    "ModelAPIError": (Kind.SERVER, True),
    "ModelConnectionError": (Kind.CONNECTION, True),
    "ModelTimeoutError": (Kind.TIMEOUT, True),
    "ContextOverflowError": (Kind.CONTEXT_LENGTH, False),
}


@pytest.mark.parametrize("name", CORE)
def test_langchain_cores_model_errors(name: str) -> None:
    exceptions = pytest.importorskip("langchain_core.exceptions")
    for cls in (getattr(exceptions, name), type("Derived", (getattr(exceptions, name),), {})):
        found = classify(cls("no"))
        assert (found.kind, found.retryable) == CORE[name]
        assert found.detail == f"class {name}"


@pytest.mark.parametrize("is_retryable", [True, False])
def test_a_model_error_of_no_known_kind_says_by_itself_whether_to_retry(is_retryable: bool) -> None:
    exceptions = pytest.importorskip("langchain_core.exceptions")
    cls = type("Odd", (exceptions.ModelError,), {"is_retryable": is_retryable})
    assert (classify(cls("no")).kind, classify(cls("no")).retryable) == (Kind.UNKNOWN, is_retryable)


def test_a_model_error_may_narrow_its_base_class_but_a_status_wins() -> None:
    exceptions = pytest.importorskip("langchain_core.exceptions")
    cls = type("Maintenance", (exceptions.ModelAPIError,), {"is_retryable": False})
    assert not classify(cls("no")).retryable
    with_status = cls("no")
    with_status.status_code = 503
    assert (classify(with_status).kind, classify(with_status).retryable) == (Kind.OVERLOADED, True)


def test_litellms_classes_are_narrower_than_their_status() -> None:
    refused = Exception, {"status_code": 400}
    assert classify(named("ContextWindowExceededError", refused[0], **refused[1])).kind is Kind.CONTEXT_LENGTH
    assert classify(named("ContentPolicyViolationError", refused[0], **refused[1])).kind is Kind.CONTENT_FILTER
    assert classify(named("BudgetExceededError")).kind is Kind.QUOTA_EXHAUSTED


@pytest.mark.parametrize(
    ("status", "kind", "retried"),
    [
        (400, Kind.BAD_REQUEST, False), (401, Kind.AUTH, False), (402, Kind.QUOTA_EXHAUSTED, False),
        (403, Kind.AUTH, False), (404, Kind.NOT_FOUND, False), (405, Kind.BAD_REQUEST, False),
        (408, Kind.TIMEOUT, True), (409, Kind.BAD_REQUEST, True), (413, Kind.CONTEXT_LENGTH, False),
        (415, Kind.BAD_REQUEST, False), (422, Kind.BAD_REQUEST, False), (425, Kind.BAD_REQUEST, True),
        (429, Kind.RATE_LIMIT, True), (500, Kind.SERVER, True), (501, Kind.SERVER, False), (502, Kind.SERVER, True),
        (503, Kind.OVERLOADED, True), (504, Kind.TIMEOUT, True), (529, Kind.OVERLOADED, True), (599, Kind.SERVER, True),
        (200, Kind.UNKNOWN, False), (302, Kind.UNKNOWN, False), (42, Kind.UNKNOWN, False), (700, Kind.UNKNOWN, False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("attribute", ["status_code", "status", "code", "http_status", "response"])
def test_a_bare_status_wherever_it_stands(attribute: str, status: int, kind: Kind, retried: bool) -> None:
    value = SimpleNamespace(status_code=status) if attribute == "response" else status
    found = classify(Refused(**{attribute: value}))
    assert (found.kind, found.retryable) == (kind, retried)


@pytest.mark.parametrize(
    ("status", "code", "header", "retried"),
    [
        (400, "unheard_of", "true", True),
        (None, None, "true", True),
        (500, "unheard_of", "false", False),
        (529, "overloaded_error", "false", False),
        (400, "context_length_exceeded", "true", False),
        (429, "insufficient_quota", "true", False),
        (429, "insufficient_quota", "false", False),
        (401, "invalid_api_key", "true", False),
        (429, None, "perhaps", True),
    ],
)
def test_x_should_retry(status: int | None, code: str | None, header: str, retried: bool) -> None:
    response = SimpleNamespace(status_code=status, headers={"X-Should-Retry": header})
    assert classify(Refused(response=response, code=code)).retryable is retried
