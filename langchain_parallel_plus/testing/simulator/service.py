"""The provider behind the socket: decides the reply to each request."""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.testing.simulator import answers, dialect
from langchain_parallel_plus.testing.simulator.chat import ChatRequest, InvalidRequestError, parse_chat_request
from langchain_parallel_plus.testing.simulator.fault import Fault
from langchain_parallel_plus.testing.simulator.http1 import Frame, Reply
from langchain_parallel_plus.testing.simulator.tally import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_parallel_plus.testing.simulator.http1 import FramingError, HttpRequest
    from langchain_parallel_plus.testing.simulator.quota import Decision, Quota
    from langchain_parallel_plus.testing.simulator.tally import Entry, Tally

__all__ = ("Behaviour", "Service")

_logger = logging.getLogger(__name__)

_NO_KEY = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
    "(i.e. Authorization: Bearer YOUR_KEY)."
)

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How the simulated model behaves; the callables see one request and must return at once."""

    latency: float | Callable[[ChatRequest], float] = 0.0
    """Seconds from arrival to the first byte of the response."""
    chunk_delay: float = 0.0
    """Seconds between the events of a stream."""
    answer: Callable[[ChatRequest], str] = answers.default_answer
    fail: Callable[[ChatRequest], Fault | None] | None = None

    def __post_init__(self) -> None:
        if not callable(self.latency):
            _seconds(self.latency, "latency")
        _seconds(self.chunk_delay, "chunk_delay")

    def latency_of(self, request: ChatRequest) -> float:
        """Return the seconds before the first byte.

        Raises:
            DeclarationError: If the callable gives anything but seconds >= 0.
        """
        if callable(self.latency):
            return _seconds(self.latency(request), "latency(request)")
        return self.latency

    def fault_of(self, request: ChatRequest) -> Fault | None:
        """Return the fault for a request, if it is to fail."""
        fault = None if self.fail is None else self.fail(request)
        if fault is not None and not isinstance(fault, Fault):
            raise DeclarationError(f"fail(request) must return a Fault or None, got {type(fault).__name__}")
        return fault

    def answer_to(self, request: ChatRequest) -> answers.Answer:
        """Return the answer to a request."""
        text = self.answer(request)
        if not isinstance(text, str):
            raise DeclarationError(f"answer(request) must return a str, got {type(text).__name__}")
        return answers.Answer.to(request, text)


class Service:
    """Routes, authorizes, admits and answers; holds the quota's state and the ledger.

    Runs on the server's thread; `tally` and `reset` may be called from any.
    """

    def __init__(self, quota: Quota, behaviour: Behaviour, clock: Callable[[], float]) -> None:
        self._quota = quota
        self._behaviour = behaviour
        self._clock = clock
        self._lock = threading.Lock()
        self._state = quota.fresh(now=clock())
        self._ledger = Ledger()

    def tally(self) -> Tally:
        """Return what has happened since the start or the last reset."""
        return self._ledger.snapshot()

    def reset(self) -> None:
        """Empty the quota's buckets and count from zero; requests in flight end uncounted."""
        with self._lock:
            self._state = self._quota.fresh(now=self._clock())
            self._ledger = Ledger()

    def respond(self, http: HttpRequest) -> Reply:
        """Return the reply to one HTTP request."""
        route = (http.method, http.path)
        if route == ("POST", "/v1/chat/completions"):
            return self._chat(http)
        if not _has_key(http):
            return _error(401, _NO_KEY)
        if route == ("GET", "/v1/models"):
            return _plain(200, answers.models_body(created=int(time.time())))
        message = (
            f"Unknown request URL: {http.method} {http.path}. The simulator serves /v1/chat/completions and /v1/models."
        )
        return _error(404, message, code="unknown_url")

    def refuse(self, error: FramingError) -> Reply:
        """Return the reply to bytes that are no request."""
        return _error(error.status, error.message)

    def _chat(self, http: HttpRequest) -> Reply:
        arrived = self._clock()
        with self._lock:
            ledger = self._ledger
        entry = ledger.open(arrived)
        reply = self._decide(http, entry)
        entry.status = reply.status
        ended = partial(_close, ledger, entry, self._clock)
        headers = (*reply.headers, ("x-request-id", f"req_{entry.index:08d}"))
        return Reply(reply.status, headers, reply.frames, reply.chunked, ended)

    def _decide(self, http: HttpRequest, entry: Entry) -> Reply:
        if not _has_key(http):
            return _error(401, _NO_KEY)
        try:
            request = parse_chat_request(http.body, index=entry.index, arrived=entry.arrived, headers=http.headers)
        except InvalidRequestError as error:
            # A request that fails counts against the requests limit all the same.
            decision = self._admit(entry, tokens=0)
            if not decision.admitted:
                return self._refused("unknown-model", decision, entry)
            quota_headers = dialect.quota_headers(decision.readings)
            return _error(400, error.message, quota_headers, param=error.param, code=error.code)
        entry.model, entry.digest, entry.stream = request.model, request.digest, request.stream
        decision = self._admit(entry, tokens=request.reserved_tokens)
        if not decision.admitted:
            return self._refused(request.model, decision, entry)
        return self._run(request, dialect.quota_headers(decision.readings), entry)

    def _admit(self, entry: Entry, *, tokens: int) -> Decision:
        with self._lock:
            decision = self._quota.admit(self._state, now=entry.arrived, tokens=tokens)
            self._state = decision.state
        if decision.admitted:
            entry.charged_tokens = tokens
        return decision

    def _refused(self, model: str, decision: Decision, entry: Entry) -> Reply:
        refusal = decision.refusal
        assert refusal is not None
        entry.outcome, entry.refused_by = "refused", refusal.dimension
        headers = (*dialect.quota_headers(decision.readings), *dialect.retry_headers(refusal.retry_after))
        message = dialect.refusal_message(model, refusal)
        return _error(429, message, headers, type=refusal.dimension, code="rate_limit_exceeded")

    def _run(self, request: ChatRequest, headers: Headers, entry: Entry) -> Reply:
        entry.outcome = "fault"
        try:
            latency = self._behaviour.latency_of(request)
            fault = self._behaviour.fault_of(request)
            if fault is not None:
                return _faulty(fault, headers, latency)
            answer = self._behaviour.answer_to(request)
        except Exception as error:
            _logger.exception("a callable of the simulator failed")
            message = f"A callable of the simulator failed: {type(error).__name__}: {error}"
            return _error(500, message, headers, code="simulator_callable_failed")
        entry.outcome = "ok"
        entry.prompt_tokens, entry.completion_tokens = request.prompt_tokens, len(answer.pieces)
        return self._answered(request, answer, headers, latency)

    def _answered(self, request: ChatRequest, answer: answers.Answer, headers: Headers, latency: float) -> Reply:
        created = int(time.time())
        headers = (*headers, ("openai-processing-ms", str(round(latency * 1000))))
        if not request.stream:
            return _plain(200, answers.completion_body(request, answer, created=created), headers, delay=latency)
        events = answers.completion_events(request, answer, created=created)
        pause = self._behaviour.chunk_delay
        frames = tuple(Frame(pause if place else latency, event) for place, event in enumerate(events))
        return Reply(200, (("content-type", "text/event-stream; charset=utf-8"), *headers), frames, chunked=True)


def _close(ledger: Ledger, entry: Entry, clock: Callable[[], float], delivered: bool) -> None:
    ledger.close(entry, now=clock(), delivered=delivered)


def _has_key(http: HttpRequest) -> bool:
    scheme, _, key = http.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and bool(key.strip())


def _faulty(fault: Fault, headers: Headers, latency: float) -> Reply:
    body = answers.error_body(fault.status, fault.text, type=fault.type, code=fault.code)
    return _plain(fault.status, body, (*headers, *dialect.retry_headers(fault.retry_after)), delay=latency)


def _error(
    status: int,
    message: str,
    headers: Headers = (),
    *,
    type: str | None = None,
    param: str | None = None,
    code: str | None = None,
) -> Reply:
    return _plain(status, answers.error_body(status, message, type=type, param=param, code=code), headers)


def _plain(status: int, body: bytes, headers: Headers = (), *, delay: float = 0.0) -> Reply:
    return Reply(status, (("content-type", "application/json"), *headers), (Frame(delay, body),))


def _seconds(value: object, name: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0:
        return float(value)
    raise DeclarationError(f"{name} must be seconds >= 0, got {value!r}", help="0 means no delay")
