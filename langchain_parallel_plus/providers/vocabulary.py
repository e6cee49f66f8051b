"""The words by which providers say what went wrong: body codes, HTTP statuses, class names, phrases.

Sources: OpenAI error codes guide and SDK 3.54, Anthropic errors page and SDK 2.12, google.rpc.Code, Bedrock API
reference and botocore 1.44 (`ThrottledRetryableChecker`), Groq, Azure OpenAI and LiteLLM errors as their users report
them; all read in November 2026.
"""

from __future__ import annotations

import re
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from langchain_parallel_plus.outcome import ErrorKind as Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = (
    "AUTH_PHRASES",
    "CODES",
    "CONTENT_FILTER_PHRASES",
    "CONTEXT_PHRASES",
    "NAMES",
    "PHRASES",
    "QUOTA_PHRASES",
    "kind_of_status",
    "normalised",
)


def normalised(word: str) -> str:
    """Return a code or class name without case, separators and suffix.

    Example:
        ```python
        assert normalised("rate_limit_error") == normalised("RateLimitError") == "ratelimit"
        ```
    """
    plain = re.sub("[^a-z0-9]", "", word[:96].lower())
    return plain.removesuffix("exception").removesuffix("error")


_SHARED: Final = {
    Kind.QUOTA_EXHAUSTED: """
        insufficient_quota credit_balance_exhausted organization_usage_limit_exceeded billing_hard_limit_reached
        organization_spend_limit_exceeded project_spend_limit_exceeded enforced_spend_limit_reached
        contract_spend_limit_reached linked_organization_spend_limit_reached linked_organization_billing_unavailable
        billing_error payment_required insufficient_credits ServiceQuotaExceededException BudgetExceededError""",
    Kind.RATE_LIMIT: """
        rate_limit rate_limit_exceeded rate_limit_reached user_rate_limit_exceeded too_many_requests ramp_limit_exceeded
        resource_exhausted requests_limit_exceeded ThrottlingException Throttling ThrottledException RequestThrottled
        RequestThrottledException RequestLimitExceeded ProvisionedThroughputExceededException
        ProvisionedThroughputExceeded BandwidthLimitExceeded LimitExceededException ModelRateLimitError""",
    Kind.OVERLOADED: """
        overloaded overloaded_error engine_overloaded model_overloaded unavailable service_unavailable no_capacity
        SlowDown ModelNotReadyException ServiceUnavailableException""",
    Kind.SERVER: "internal_server internal_server_error InternalServerException "
    "ModelStreamErrorException bad_gateway data_loss InternalFailure",
    Kind.TIMEOUT: """
        timeout timed_out request_timeout gateway_timeout deadline_exceeded ModelTimeoutException
        RequestTimeoutException""",
    Kind.CONTEXT_LENGTH: """
        context_length_exceeded context_window_exceeded context_overflow exceed_context_size string_above_max_length
        content_too_large request_body_too_large_after_decoding""",
    Kind.CONTENT_FILTER: """
        content_filter content_policy_violation ResponsibleAIPolicyViolation moderation_blocked
        content_filter_finish_reason GuardrailIntervened""",
    Kind.OUTPUT_LENGTH: "length_finish_reason",
    Kind.AUTH: """
        authentication unauthorized unauthenticated permission_denied model_authentication model_permission_denied
        ExpiredToken ExpiredTokenException AccessDenied AccessDeniedException UnrecognizedClientException
        InvalidSignatureException MissingAuthenticationToken""",
    Kind.NOT_FOUND: "not_found model_not_found ResourceNotFoundException DeploymentNotFound",
    Kind.BAD_REQUEST: """
        validation bad_request invalid_request model_invalid_request unprocessable_entity conflict invalid_argument
        failed_precondition out_of_range""",
}
_ONLY_CODES: Final = {
    Kind.QUOTA_EXHAUSTED: "quota_exhausted insufficient_funds",
    Kind.SERVER: "api_error server_error internal aborted ModelErrorException",
    Kind.CONTEXT_LENGTH: "request_too_large",
    Kind.CONTENT_FILTER: "safety prohibited_content blocklist image_safety",
    Kind.AUTH: """
        invalid_api_key incorrect_api_key api_key_invalid invalid_grant permission permission_error forbidden
        account_deactivated unsupported_country_region_territory service_disabled organization_on_hold
        api_key_service_blocked token_expired""",
    Kind.RATE_LIMIT: "prior_request_not_complete transaction_in_progress",
}
_ONLY_NAMES: Final = {
    Kind.OVERLOADED: "ServiceUnavailable",
    Kind.SERVER: "ModelAPIError OpenAIAPIError APIResponseValidationError ServerError",
    Kind.TIMEOUT: """
        APITimeoutError ModelTimeoutError ReadTimeout WriteTimeout PoolTimeout ConnectTimeout ConnectTimeoutError
        ReadTimeoutError TimeoutException StreamChunkTimeoutError ServerTimeoutError DeadlineExceeded Timeout
        ConnectionTimeoutError SocketTimeoutError""",
    Kind.CONNECTION: """
        APIConnectionError ModelConnectionError ConnectionError TransportError NetworkError RemoteProtocolError
        EndpointConnectionError ConnectionClosedError HTTPClientError ChunkedEncodingError IncompleteRead
        IncompleteReadError ClientConnectionError ClientPayloadError ServerDisconnectedError URLError ProtocolError
        NewConnectionError MaxRetryError ConnectionClosed ResponseStreamingError gaierror herror SSLError
        RemoteDisconnected BadStatusLine""",
    Kind.CONTENT_FILTER: "ModelRefusalError OpenAIRefusalError BlockedPromptException StopCandidateException "
    "OpenAIModerationError",
    Kind.AUTH: """
        NoCredentialsError PartialCredentialsError CredentialRetrievalError TokenRetrievalError NoAuthTokenError
        CredentialsError WorkloadIdentityError DefaultCredentialsError RefreshError LoginRefreshRequired Forbidden
        UnauthorizedSSOTokenError SSOTokenLoadError""",
    Kind.BAD_REQUEST: """
        OutputParserException ParamValidationError LocalProtocolError UnsupportedProtocol InvalidURL InvalidSchema
        MissingSchema InvalidHeader InvalidJSONError""",
}


def _table(*groups: Mapping[Kind, str]) -> Mapping[str, Kind]:
    entries: Iterable[tuple[Kind, str]] = chain.from_iterable(group.items() for group in groups)
    return MappingProxyType({normalised(word): kind for kind, words in entries for word in words.split()})


CODES: Final = _table(_SHARED, _ONLY_CODES)
"""Kind by normalised body code."""
NAMES: Final = _table(_SHARED, _ONLY_NAMES)
"""Kind by normalised class name, to be looked up along an MRO, the nearest first."""
QUOTA_PHRASES: Final = (
    "insufficient_quota", "billing hard limit", "billing_hard_limit", "credit balance is too low",
    "reached your specified api usage limits", "reached your specified workspace api usage limits",
)  # fmt: skip
CONTEXT_PHRASES: Final = (
    "context_length_exceeded", "maximum context length", "prompt is too long", "exceeds the context window",
    "exceed the context window", "input is too long for requested model", "exceeds the available context size",
    "input tokens exceed the configured limit", "exceeds the maximum number of tokens", "contextwindowexceeded",
)  # fmt: skip
CONTENT_FILTER_PHRASES: Final = (
    "content_filter", "content management policy", "responsibleaipolicyviolation", "safety system",
    "guardrail intervened", "violates usage guidelines", "input was flagged",
)  # fmt: skip
AUTH_PHRASES: Final = ("api key not valid", "invalid api key", "incorrect api key", "api_key_invalid")
PHRASES: Final[Mapping[Kind, tuple[str, ...]]] = MappingProxyType(
    {
        Kind.CONTEXT_LENGTH: CONTEXT_PHRASES,
        Kind.OVERLOADED: ("overloaded_error", "is currently overloaded", "model is overloaded"),
        Kind.RATE_LIMIT: (
            "rate limit reached", "rate limit exceeded", "rate_limit_exceeded", "too many requests",
            "resource_exhausted", "resource exhausted", "throttlingexception",
        ),
    }
)  # fmt: skip
"""What a message alone may say. Never that an account is out of quota or a key is wrong: such a finding closes the key
for everybody, and the message of an unknown error may quote a model."""

_STATUSES: Final[Mapping[int, Kind]] = MappingProxyType(
    {
        401: Kind.AUTH, 402: Kind.QUOTA_EXHAUSTED, 403: Kind.AUTH, 404: Kind.NOT_FOUND, 407: Kind.AUTH,
        408: Kind.TIMEOUT, 413: Kind.CONTEXT_LENGTH, 429: Kind.RATE_LIMIT, 499: Kind.TIMEOUT, 503: Kind.OVERLOADED,
        504: Kind.TIMEOUT, 522: Kind.TIMEOUT, 524: Kind.TIMEOUT, 529: Kind.OVERLOADED,
    }
)  # fmt: skip


def kind_of_status(status: int) -> Kind | None:
    """Return what an HTTP status means by itself; `None` below 400, where an error's status says nothing."""
    if status in _STATUSES:
        return _STATUSES[status]
    if status >= 500:
        return Kind.SERVER
    return Kind.BAD_REQUEST if status >= 400 else None
