"""Real clients over transports without a network: what they raise is what they made of an HTTP response."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import pytest

URL = "http://127.0.0.1/v1"
ASK: list[Any] = [{"role": "user", "content": "hello"}]
Fail = Callable[[Any, Any], Any]
"""What a transport does, given httpx (or its fork) and the request: return a response, or raise."""


def _raised(call: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever the client makes of it
        call()
    return caught.value


def answer(status: int, body: Any, headers: Mapping[str, str] | None = None) -> Fail:
    def respond(httpx: Any, request: Any) -> Any:
        return httpx.Response(status, json=body, headers=dict(headers or {}), request=request)

    return respond


def lost(name: str) -> Fail:
    def respond(httpx: Any, request: Any) -> NoReturn:
        raise getattr(httpx, name)("no", request=request)

    return respond


def stream(*events: Mapping[str, Any]) -> Fail:
    """Return a response of status 200 that streams these events."""
    text = "".join(f"event: error\ndata: {json.dumps(event)}\n\n" for event in events)

    def respond(httpx: Any, request: Any) -> Any:
        headers = {"content-type": "text/event-stream"}
        return httpx.Response(200, content=text.encode(), headers=headers, request=request)

    return respond


def _client(module: str, fail: Fail) -> Any:
    httpx = pytest.importorskip(module)
    return httpx.Client(transport=httpx.MockTransport(lambda request: fail(httpx, request)))


def openai(fail: Fail, **asked: Any) -> Exception:
    sdk = pytest.importorskip("openai")
    with sdk.OpenAI(api_key="none", base_url=URL, max_retries=0, http_client=_client("httpx2", fail)) as client:
        return _raised(lambda: list(client.chat.completions.create(model="m", messages=ASK, **asked)))


def anthropic(fail: Fail, **asked: Any) -> Exception:
    sdk = pytest.importorskip("anthropic")
    with sdk.Anthropic(api_key="none", base_url=URL, max_retries=0, http_client=_client("httpx2", fail)) as client:
        return _raised(lambda: list(client.messages.create(model="m", max_tokens=9, messages=ASK, **asked)))


def groq(fail: Fail, **asked: Any) -> Exception:
    sdk = pytest.importorskip("groq")
    with sdk.Groq(api_key="none", base_url=URL, max_retries=0, http_client=_client("httpx", fail)) as client:
        return _raised(lambda: list(client.chat.completions.create(model="m", messages=ASK, **asked)))


def langchain_openai(fail: Fail, **asked: Any) -> Exception:
    package = pytest.importorskip("langchain_openai")
    client = _client("httpx2", fail)
    model = package.ChatOpenAI(model="m", api_key="none", base_url=URL, max_retries=0, http_client=client)
    with client:
        return _raised(lambda: list(model.stream("hello")) if asked.get("stream") else model.invoke("hello"))


def genai(fail: Fail) -> Exception:
    package, types = pytest.importorskip("google.genai"), pytest.importorskip("google.genai.types")
    with _client("httpx", fail) as http:
        client = package.Client(api_key="none", http_options=types.HttpOptions(base_url=URL, httpx_client=http))
        return _raised(lambda: client.models.generate_content(model="m", contents="hello"))


def requests(fail: Fail) -> Exception:
    """Return what `raise_for_status` makes of a response that came through requests' own adapter."""
    package, httpx = pytest.importorskip("requests"), pytest.importorskip("httpx")
    models = pytest.importorskip("requests.models")

    class Adapter(package.adapters.BaseAdapter):  # type: ignore[name-defined, misc]
        def send(self, request: Any, **_: Any) -> Any:
            told = fail(httpx, httpx.Request("POST", URL))
            response = models.Response()
            response.status_code, response._content, response.request = told.status_code, told.content, request
            response.headers.update(told.headers)
            return response

        def close(self) -> None:
            pass

    with package.Session() as session:
        session.mount("http://", Adapter())
        return _raised(lambda: session.post(URL, json={}).raise_for_status())


def httpx(fail: Fail) -> Exception:
    with _client("httpx", fail) as client:
        return _raised(lambda: client.post(URL, json={}).raise_for_status())


class _Raw:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self, *_: Any, **__: Any) -> Any:
        yield self._content


def bedrock(status: int, code: str, message: str = "no", headers: Mapping[str, str] | None = None) -> Exception:
    """Return what a Bedrock client makes of a response."""
    session, config = pytest.importorskip("botocore.session"), pytest.importorskip("botocore.config")
    awsrequest = pytest.importorskip("botocore.awsrequest")

    def respond(request: Any, **_: Any) -> Any:
        sent = {"x-amzn-errortype": code, **(headers or {})}
        return awsrequest.AWSResponse(request.url, status, sent, _Raw(json.dumps({"message": message}).encode()))

    once = config.Config(retries={"total_max_attempts": 1})
    client = session.Session().create_client(
        "bedrock-runtime", "us-east-1", aws_access_key_id="none", aws_secret_access_key="none", config=once
    )
    client.meta.events.register("before-send", respond)
    try:
        return _raised(lambda: client.converse(modelId="m", messages=[{"role": "user", "content": [{"text": "x"}]}]))
    finally:
        client.close()
