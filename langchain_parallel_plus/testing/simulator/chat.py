"""A chat completion request as the simulator understands it: parsed, checked, counted."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus.testing.quota import OUTPUT_ALLOWANCE
from langchain_parallel_plus.testing.tokens import count_tokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ("ChatRequest", "InvalidRequestError", "parse_chat_request", "prompt_digest")

_TOKENS_PER_MESSAGE = 3
"""Role and separators (OpenAI cookbook, "How to count tokens with tiktoken"); three more prime the reply."""

_TOKENS_PER_IMAGE = 85
"""A low-detail image (OpenAI's vision guide)."""


class InvalidRequestError(Exception):
    """The request is not a chat completion request; becomes a 400."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """One chat completion request, as the callables of a `ProviderSimulator` receive it."""

    index: int
    """Arrival number since the start or the last reset, from 0."""
    arrived: float
    """Time of arrival, in seconds of the simulator's clock."""
    model: str
    messages: tuple[Mapping[str, Any], ...]
    """The messages as they came, in OpenAI's format."""
    prompt: str
    """The text of the last user message (of the last message, if none is the user's)."""
    digest: str
    """`prompt_digest(prompt)`: names the prompt in tallies and default answers without repeating it."""
    prompt_tokens: int
    """Tokens of all messages, as reported in `usage`."""
    reserved_tokens: int
    """Tokens reserved at admission: `estimated_tokens` plus `max_tokens` (16 if not set)."""
    estimated_tokens: int = 0
    """The provider's estimate of the prompt: a quarter of its characters, and what its images cost."""
    max_tokens: int | None = None
    stream: bool = False
    include_usage: bool = False
    """Whether a stream ends with a usage chunk (`stream_options.include_usage`)."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Request headers by lower-case name, without `authorization`."""


def prompt_digest(text: str) -> str:
    """Return the twelve hexadecimal digits that stand for a prompt in tallies and default answers."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def parse_chat_request(
    body: bytes,
    *,
    index: int = 0,
    arrived: float = 0.0,
    headers: Mapping[str, str] | None = None,
    deployment: str | None = None,
) -> ChatRequest:
    """Read a chat completion request from its JSON body; at Azure the address may name the model instead.

    Raises:
        InvalidRequestError: If the body is no JSON object, a required field is missing, a field has the wrong type, or
            the request asks for what the simulator does not do (`n` other than 1, a forced tool call).
    """
    data = _json_object(body)
    messages = _messages(data)
    _refuse_unsupported(data)
    texts = [_text(message) for message in messages]
    prompt = next(
        (text for message, text in reversed(list(zip(messages, texts, strict=True))) if message["role"] == "user"),
        texts[-1],
    )
    images = sum(_images(message) for message in messages) * _TOKENS_PER_IMAGE
    max_tokens = _max_tokens(data)
    estimate = math.ceil(sum(map(len, texts)) / 4) + images
    options = data.get("stream_options")
    return ChatRequest(
        index=index,
        arrived=arrived,
        model=deployment or _model(data),
        messages=messages,
        prompt=prompt,
        digest=prompt_digest(prompt),
        prompt_tokens=sum(map(count_tokens, texts)) + images + _TOKENS_PER_MESSAGE * (len(messages) + 1),
        reserved_tokens=estimate + (max_tokens or OUTPUT_ALLOWANCE),
        estimated_tokens=estimate,
        max_tokens=max_tokens,
        stream=data.get("stream") is True,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        headers={name: value for name, value in (headers or {}).items() if name != "authorization"},
    )


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(
            "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP "
            "library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)"
        ) from error
    if not isinstance(data, dict):
        raise InvalidRequestError(f"Invalid request: expected a JSON object, but got {_kind(data)} instead.")
    return data


def _model(data: Mapping[str, Any]) -> str:
    model = data.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidRequestError("you must provide a model parameter", param="model")
    return model


def _messages(data: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    if "messages" not in data:
        raise InvalidRequestError(
            "Missing required parameter: 'messages'.", param="messages", code="missing_required_parameter"
        )
    messages = data["messages"]
    if not isinstance(messages, list):
        raise _wrong_type("messages", "an array of objects", messages)
    if not messages:
        raise InvalidRequestError(
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.",
            param="messages",
            code="empty_array",
        )
    for position, message in enumerate(messages):
        if not isinstance(message, dict):
            raise _wrong_type(f"messages[{position}]", "an object", message)
        if not isinstance(message.get("role"), str):
            raise _wrong_type(f"messages[{position}].role", "a string", message.get("role"))
        if not isinstance(message.get("content"), str | list | None):
            raise _wrong_type(f"messages[{position}].content", "a string or an array", message["content"])
    return tuple(messages)


def _max_tokens(data: Mapping[str, Any]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        value = data.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool):
            raise _wrong_type(name, "an integer", value)
        if value < 1:
            raise InvalidRequestError(
                f"Invalid '{name}': integer below minimum value. Expected a value >= 1, but got {value} instead.",
                param=name,
                code="integer_below_min_value",
            )
        return value
    return None


def _refuse_unsupported(data: Mapping[str, Any]) -> None:
    if data.get("n") not in (None, 1):
        raise InvalidRequestError(
            "The simulator answers with one choice: 'n' must be 1.", param="n", code="unsupported_value"
        )
    if data.get("tool_choice") not in (None, "none", "auto"):
        raise InvalidRequestError(
            "The simulator answers with text and cannot be forced to call a tool.",
            param="tool_choice",
            code="unsupported_value",
        )


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict))
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def _images(message: Mapping[str, Any]) -> int:
    content = message.get("content")
    parts: Iterable[Any] = content if isinstance(content, list) else ()
    return sum(1 for part in parts if isinstance(part, dict) and part.get("type") == "image_url")


def _wrong_type(name: str, expected: str, got: object) -> InvalidRequestError:
    return InvalidRequestError(
        f"Invalid type for '{name}': expected {expected}, but got {_kind(got)} instead.",
        param=name,
        code="invalid_type",
    )


def _kind(value: object) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
