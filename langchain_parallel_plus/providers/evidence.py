"""What one exception says about itself: status, codes, headers, message. Nothing is concluded here.

Where the packages put it (read in November 2026): `.status_code` (openai, anthropic, groq, cohere, mistral), `.status`
as a number (aiohttp) or a word (google-genai), `.code` as a word (openai), a number (google-genai, google-api-core,
urllib) or a method (grpc); `.response` as an object (httpx, requests), a dict (botocore) or `None`; `.body` as the
error itself (openai) or around it (anthropic, groq); `.details` as the body (google-genai) or the google.rpc details
(google-api-core).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from langchain_parallel_plus.providers.foreign import attribute, entry, items_of, json_of, lowered_headers, text_of
from langchain_parallel_plus.providers.google_details import GoogleDetails, read_google_details

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("TELLING", "Evidence", "read_evidence")

TELLING: Final = frozenset(
    {
        "body", "code", "details", "error_code", "headers", "http_status", "is_retryable", "reason", "response",
        "status", "status_code", "type",
    }
)  # fmt: skip
"""The attributes that are read, besides the message."""

_CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.:\-]{0,95}")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one exception says."""

    status: int | None = None
    """HTTP status, 100 to 599."""
    codes: tuple[str, ...] = ()
    """Words that look like an error code, the most specific first."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Of the response, by lower-case name."""
    message: str = ""
    """The provider's and the exception's own message; some kB at most."""
    google: GoogleDetails = field(default_factory=GoogleDetails)
    is_retryable: bool | None = None
    """What a langchain-core `ModelError` says of itself."""

    @property
    def should_retry(self) -> bool | None:
        """What the header `x-should-retry` asks for (OpenAI, Anthropic)."""
        return {"true": True, "false": False}.get(self.headers.get("x-should-retry", "").lower())


def read_evidence(error: BaseException) -> Evidence:
    """Collect what `error` says. Reads attributes only: no request, no unread body."""
    response = attribute(error, "response")
    bodies = tuple(_bodies(error, response))
    numbers, words = _split(_codes(error, bodies))
    return Evidence(
        status=_status(error, response, numbers),
        codes=words,
        headers=_headers(error, response),
        message=_message(error, bodies),
        google=_google(error, bodies),
        is_retryable=flag if isinstance(flag := attribute(error, "is_retryable"), bool) else None,
    )


def _bodies(error: BaseException, response: object) -> Iterator[Mapping[Any, Any]]:
    """Yield each error object in the answer, the inner before the one around it."""
    # Only what is in memory already: `.json()` or `.content` of a streamed response would read from the network.
    kept = attribute(response, "_content") or attribute(response, "_body")
    for source in (attribute(error, "body"), attribute(error, "details"), response, json_of(kept)):
        body = source[0] if isinstance(source, list) and len(source) == 1 else source
        if isinstance(body, Mapping):
            inner = entry(body, "error") or entry(body, "Error")
            if isinstance(inner, Mapping):
                yield inner
            yield body


def _codes(error: BaseException, bodies: tuple[Mapping[Any, Any], ...]) -> Iterator[object]:
    yield attribute(error, "error_code")
    for body in bodies:
        yield entry(body, "details", "error_code")
        for name in ("code", "Code", "type", "status", "error"):
            yield entry(body, name)
        yield entry(body, "innererror", "code")
    if not isinstance(getattr(type(error), "code", None), property):  # aiohttp's warns that it is deprecated
        code = attribute(error, "code")
        yield _grpc_code(error) if callable(code) else code
    for name in ("type", "status", "reason"):
        yield attribute(error, name)


def _grpc_code(error: BaseException) -> object:
    """Return the name of a grpc error's status, such as `RESOURCE_EXHAUSTED`; only grpc's own method is called."""
    if not any(cls.__name__ == "RpcError" for cls in type(error).__mro__):
        return None
    try:
        return attribute(error.code(), "name")  # type: ignore[attr-defined]  # duck-typed grpc.Call
    except Exception:  # noqa: BLE001 - foreign code
        return None


def _split(found: Iterator[object]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Part statuses from words: Azure and OpenRouter write the status where others write a code, as word or number."""
    numbers: list[int] = []
    words: dict[str, None] = {}
    for code in found:
        if isinstance(code, str):
            if len(code) <= 96 and _CODE.fullmatch(code):
                words[str(code)] = None
            code = int(code) if len(code) == 3 and code.isdecimal() else None
        if isinstance(code, int) and not isinstance(code, bool):
            numbers.append(int(code))
    return tuple(numbers), tuple(words)


def _status(error: BaseException, response: object, numbers: tuple[int, ...]) -> int | None:
    candidates = (
        attribute(error, "status_code"),
        attribute(error, "status"),
        attribute(error, "http_status"),
        attribute(response, "status_code"),
        attribute(response, "status"),
        entry(response, "ResponseMetadata", "HTTPStatusCode"),
    )
    plain = [int(one) for one in candidates if isinstance(one, int) and not isinstance(one, bool)]
    # An error that comes inside a stream belongs to a response with status 200: the error's own number counts.
    fitting = [one for one in (*plain, *numbers) if 100 <= one <= 599]
    return next((one for one in fitting if one >= 400), fitting[0] if fitting else None)


def _headers(error: BaseException, response: object) -> Mapping[str, str]:
    sources = (
        attribute(response, "headers"),
        attribute(error, "headers"),
        entry(response, "ResponseMetadata", "HTTPHeaders"),
    )
    return next((found for source in sources if source is not None and (found := lowered_headers(source))), {})


def _message(error: BaseException, bodies: tuple[Mapping[Any, Any], ...]) -> str:
    found = [entry(body, key) for body in bodies for key in ("message", "Message", "error")]
    texts = [text_of(one) for one in found if isinstance(one, str)]
    return "\n".join(dict.fromkeys((text_of(error), *texts[:4])))


def _google(error: BaseException, bodies: tuple[Mapping[Any, Any], ...]) -> GoogleDetails:
    for details in (attribute(error, "details"), *(entry(body, "details") for body in bodies)):
        if items_of(details):
            return read_google_details(details)
    return GoogleDetails()
