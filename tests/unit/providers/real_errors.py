"""Exceptions as the installed clients raise them, built without a network."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

URL = "http://127.0.0.1/v1/chat/completions"


def httpx_response(
    status: int, body: Any = None, headers: Mapping[str, str] | None = None, *, module: str = "httpx2"
) -> Any:
    """Return a response of httpx or its fork, read already."""
    httpx = pytest.importorskip(module)
    return httpx.Response(status, json=body or {}, headers=dict(headers or {}), request=httpx.Request("POST", URL))


def httpx_error(
    status: int, body: Any = None, headers: Mapping[str, str] | None = None, *, module: str = "httpx"
) -> Any:
    httpx = pytest.importorskip(module)
    with pytest.raises(httpx.HTTPStatusError) as raised:
        httpx_response(status, body, headers, module=module).raise_for_status()
    return raised.value


def sdk_error(package: str, status: int, error: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Any:
    """Return what the client of `openai`, `anthropic` or `groq` makes of a response."""
    sdk = pytest.importorskip(package)
    body = {"type": "error", "error": dict(error)} if package == "anthropic" else {"error": dict(error)}
    client = {"openai": "OpenAI", "anthropic": "Anthropic", "groq": "Groq"}[package]
    response = httpx_response(status, body, headers, module="httpx" if package == "groq" else "httpx2")
    with contextlib.closing(getattr(sdk, client)(api_key="none", base_url="http://127.0.0.1/v1")) as made:
        return made._make_status_error_from_response(response)


def langchain_openai_error(status: int, error: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Any:
    """Return what ChatOpenAI raises for a response: its own class, caused by openai's."""
    base = pytest.importorskip("langchain_openai.chat_models.base")
    cause = sdk_error("openai", status, error, headers)
    handle = base._handle_openai_bad_request if status == 400 else base._handle_openai_api_error
    with pytest.raises(type(cause)) as raised:
        handle(cause)
    return raised.value


def openai_stream_error(error: Mapping[str, Any], message: str = "An error occurred during streaming") -> Any:
    """Return what openai raises for an error event inside a stream: no response, the body only."""
    openai, httpx2 = pytest.importorskip("openai"), pytest.importorskip("httpx2")
    return openai.APIError(message, httpx2.Request("POST", URL), body=dict(error))


def genai_error(status: int, error: Mapping[str, Any]) -> Any:
    errors = pytest.importorskip("google.genai.errors")
    with pytest.raises(errors.APIError) as raised:
        errors.APIError.raise_error(status, {"error": {"code": status, **error}}, None)
    return raised.value


def requests_error(status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Any:
    requests = pytest.importorskip("requests")
    response = requests.Response()
    response.status_code, response._content = status, body
    response.headers.update(headers or {})
    with pytest.raises(requests.HTTPError) as raised:
        response.raise_for_status()
    return raised.value


def boto_error(code: str, message: str, status: int, headers: Mapping[str, str] | None = None) -> Any:
    exceptions = pytest.importorskip("botocore.exceptions")
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": dict(headers or {})}
    answer = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": metadata}
    return exceptions.ClientError(answer, "Converse")
