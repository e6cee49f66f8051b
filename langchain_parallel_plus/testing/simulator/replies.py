"""Responses as data: an answer whole or streamed, and what each fault makes of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from langchain_parallel_plus.testing.simulator import answers
from langchain_parallel_plus.testing.simulator.fault import (
    ConnectionReset,
    CutStream,
    Hang,
    MalformedBody,
    SlowStart,
    SlowTokens,
)
from langchain_parallel_plus.testing.simulator.http1 import Frame, Reply

if TYPE_CHECKING:
    from langchain_parallel_plus.testing.dialects.dialect import Headers
    from langchain_parallel_plus.testing.simulator.chat import ChatRequest
    from langchain_parallel_plus.testing.simulator.fault import AnyFault

__all__ = ("Pace", "answered", "dropped", "plain", "spoiled")

_JSON = "application/json"

_PAGE = b"<html>\n<head><title>502 Bad Gateway</title></head>\n<body><h1>502 Bad Gateway</h1></body>\n</html>\n"


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast an answer comes."""

    latency: float
    """Seconds before its first byte."""
    chunk_delay: float
    """Seconds between the events of a stream."""
    token_delay: float = 0.0
    """Seconds that each token adds to an answer that is not streamed."""

    def slowed(self, fault: AnyFault | None) -> Pace:
        """Return the pace under a fault."""
        match fault:
            case SlowStart(seconds):
                return replace(self, latency=self.latency + seconds)
            case SlowTokens(seconds):
                return replace(self, chunk_delay=seconds, token_delay=seconds)
            case _:
                return self


def plain(status: int, body: bytes, headers: Headers = (), *, delay: float = 0.0, content_type: str = _JSON) -> Reply:
    """Return a response of known length."""
    return Reply(status, (("content-type", content_type), *headers), (Frame(delay, body),))


def answered(request: ChatRequest, answer: answers.Answer, headers: Headers, pace: Pace) -> Reply:
    """Return an answer as the request asks for it: whole, or as server-sent events."""
    created = int(time.time())
    headers = (*headers, ("openai-processing-ms", str(round(pace.latency * 1000))))
    if not request.stream:
        delay = pace.latency + pace.token_delay * len(answer.pieces)
        return plain(200, answers.completion_body(request, answer, created=created), headers, delay=delay)
    events = answers.completion_events(request, answer, created=created)
    frames = tuple(Frame(pace.chunk_delay if place else pace.latency, event) for place, event in enumerate(events))
    return Reply(200, (("content-type", "text/event-stream; charset=utf-8"), *headers), frames, chunked=True)


def dropped(fault: Hang | ConnectionReset, latency: float) -> Reply:
    """Return what a fault sends that answers nothing; its status is 0."""
    if isinstance(fault, ConnectionReset):
        return Reply(0, (), (), ending="reset", drop_after=latency)
    if fault.seconds is None:
        return Reply(0, (), (), ending="never")
    return Reply(0, (), (), ending="cut", drop_after=fault.seconds)


def spoiled(reply: Reply, fault: CutStream | MalformedBody) -> Reply:
    """Return an answer as a fault leaves it."""
    if isinstance(fault, CutStream):
        return _cut(reply, fault.after)
    if fault.form == "html":
        headers = tuple(header for header in reply.headers if header[0] != "content-type")
        delay = reply.frames[0].delay
        return plain(fault.status, _PAGE, headers, delay=delay, content_type="text/html; charset=utf-8")
    return replace(reply, status=fault.status, frames=_truncated(reply))


def _cut(reply: Reply, after: int) -> Reply:
    if reply.chunked:
        # The first event has the role and no text.
        return replace(reply, frames=reply.frames[: after + 1], ending="cut")
    delay, body = reply.frames[0]
    return replace(reply, frames=(Frame(delay, body[: len(body) // 2]),), ending="cut", announced=len(body))


def _truncated(reply: Reply) -> tuple[Frame, ...]:
    if not reply.chunked:
        delay, body = reply.frames[0]
        return (Frame(delay, body[: len(body) // 2]),)
    (first, (delay, event), *_) = reply.frames
    return first, Frame(delay, event[: len(event) // 2] + b"\n\n")
