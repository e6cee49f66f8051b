"""What the simulated model says, and how an answer looks on the wire."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus.testing.tokens import split_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_parallel_plus.testing.simulator.chat import ChatRequest

__all__ = ("Answer", "completion_body", "completion_events", "default_answer", "models_body")


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one request, cut to its `max_tokens`."""

    pieces: tuple[str, ...]
    """The tokens of the answer."""
    complete: bool
    """False if `max_tokens` cut it."""

    @classmethod
    def to(cls, request: ChatRequest, text: str) -> Answer:
        """Return `text` as the answer to `request`."""
        pieces = split_tokens(text)
        kept = pieces[: request.max_tokens]
        return cls(tuple(kept), len(kept) == len(pieces))

    @property
    def finish_reason(self) -> str:
        """Why the model stopped, in OpenAI's words."""
        return "stop" if self.complete else "length"


def default_answer(request: ChatRequest) -> str:
    """Return a few words that depend on the last user message and on nothing else."""
    words = len(request.prompt.split())
    return f"Simulated answer {request.digest} to {words} words."


def completion_body(request: ChatRequest, answer: Answer, *, created: int) -> bytes:
    """Return the JSON of a whole answer."""
    message = {"role": "assistant", "content": "".join(answer.pieces), "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish_reason}
    envelope = _envelope(request, "chat.completion", created)
    return _json(envelope | {"choices": [choice], "usage": _usage(request, answer)})


def completion_events(request: ChatRequest, answer: Answer, *, created: int) -> Iterator[bytes]:
    """Yield the server-sent events of an answer: role, one event a token, end, usage if asked for, `[DONE]`."""
    envelope = _envelope(request, "chat.completion.chunk", created)
    if request.include_usage:
        envelope["usage"] = None

    def event(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return b"data: " + _json(envelope | {"choices": [choice]}) + b"\n\n"

    yield event({"role": "assistant", "content": "", "refusal": None})
    for piece in answer.pieces:
        yield event({"content": piece})
    yield event({}, answer.finish_reason)
    if request.include_usage:
        yield b"data: " + _json(envelope | {"choices": [], "usage": _usage(request, answer)}) + b"\n\n"
    yield b"data: [DONE]\n\n"


def models_body(*, created: int) -> bytes:
    """Return the JSON of `GET /v1/models`: one model, although every name is answered."""
    model = {"id": "gpt-4o-mini", "object": "model", "created": created, "owned_by": "simulator"}
    return _json({"object": "list", "data": [model]})


def _envelope(request: ChatRequest, kind: str, created: int) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{request.digest}-{request.index}",
        "object": kind,
        "created": created,
        "model": request.model,
        "system_fingerprint": "fp_simulator",
    }


def _usage(request: ChatRequest, answer: Answer) -> dict[str, Any]:
    output = len(answer.pieces)
    return {
        "prompt_tokens": request.prompt_tokens,
        "completion_tokens": output,
        "total_tokens": request.prompt_tokens + output,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
