"""The provider behind the socket: decides the reply to each request."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from langchain_parallel_plus.testing.dialects.dialect import encode_json
from langchain_parallel_plus.testing.quota import Cost, admission_cost
from langchain_parallel_plus.testing.simulator.account import Account
from langchain_parallel_plus.testing.simulator.answers import models_body
from langchain_parallel_plus.testing.simulator.chat import ChatRequest, InvalidRequestError, parse_chat_request
from langchain_parallel_plus.testing.simulator.fault import (
    ConnectionReset,
    CutStream,
    Fault,
    Hang,
    MalformedBody,
)
from langchain_parallel_plus.testing.simulator.replies import Pace, answered, dropped, plain, spoiled

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_parallel_plus.testing.dialects.dialect import Headers
    from langchain_parallel_plus.testing.simulator.account import Call
    from langchain_parallel_plus.testing.simulator.behaviour import Behaviour
    from langchain_parallel_plus.testing.simulator.http1 import FramingError, HttpRequest, Reply
    from langchain_parallel_plus.testing.simulator.rules import ProviderRules, Verdict
    from langchain_parallel_plus.testing.simulator.tally import Tally

__all__ = ("Service",)

_logger = logging.getLogger(__name__)

_CHAT = re.compile(r"/v1/chat/completions|/openai/(?:v1|deployments/([^/]+))/chat/completions")
"""OpenAI's address, and those of Azure OpenAI, of which one names the model."""

_KEY_HEADERS = ("api-key", "x-api-key", "x-goog-api-key")

_NO_KEY = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
    "(i.e. Authorization: Bearer YOUR_KEY)."
)


class Service:
    """Routes, authorizes, admits and answers; runs on the server's thread, but `tally` and `reset` on any.

    Args:
        rules: How the provider counts and words.
        behaviour: What its model does.
        clock: Seconds, for the quota and the tally.
        wall: POSIX time in seconds, for headers that tell an instant.
    """

    def __init__(
        self,
        rules: ProviderRules,
        behaviour: Behaviour,
        clock: Callable[[], float],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._rules = rules
        self._behaviour = behaviour
        self._wall = wall
        self._account = Account(rules, clock)

    def tally(self) -> Tally:
        """Return what has happened since the start or the last reset."""
        return self._account.tally()

    def reset(self) -> None:
        """Give the full quota back and count from zero; requests in flight end uncounted."""
        self._account.reset()

    def respond(self, http: HttpRequest) -> Reply:
        """Return the reply to one HTTP request."""
        if http.method == "POST" and (address := _CHAT.fullmatch(http.path)):
            return self._chat(http, address[1])
        match http.method, http.path:
            case "GET", "/simulator/tally":
                return plain(200, encode_json(self.tally().to_dict()))
            case "POST", "/simulator/reset":
                self.reset()
                return plain(200, encode_json({}))
        if not _has_key(http):
            return self._error(401, _NO_KEY)
        if (http.method, http.path) == ("GET", "/v1/models"):
            return plain(200, models_body(created=int(time.time())))
        message = (
            f"Unknown request URL: {http.method} {http.path}. The simulator serves /v1/chat/completions and /v1/models."
        )
        return self._error(404, message, code="unknown_url")

    def refuse(self, error: FramingError) -> Reply:
        """Return the reply to bytes that are no request."""
        return self._error(error.status, error.message)

    def _chat(self, http: HttpRequest, deployment: str | None) -> Reply:
        call = self._account.arrive()
        reply = self._decide(http, call, deployment)
        call.entry.status = reply.status
        headers = (*reply.headers, ("x-request-id", f"req_{call.entry.index:08d}"))
        return replace(reply, headers=headers, ended=partial(_end, self._account, call))

    def _decide(self, http: HttpRequest, call: Call, deployment: str | None) -> Reply:
        if not _has_key(http):
            return self._error(401, _NO_KEY)
        entry = call.entry
        try:
            request = parse_chat_request(
                http.body,
                index=entry.index,
                arrived=entry.arrived,
                headers={name: value for name, value in http.headers.items() if name not in _KEY_HEADERS},
                deployment=deployment,
            )
        except InvalidRequestError as error:
            # A request that fails counts against the requests limit all the same.
            verdict = self._admit(call, Cost(), "unknown-model")
            if not verdict.admitted:
                return self._refused(verdict)
            return self._error(400, error.message, verdict.headers, param=error.param, code=error.code)
        entry.model, entry.digest, entry.stream = request.model, request.digest, request.stream
        cost = admission_cost(
            self._rules.token_rule, input_tokens=request.estimated_tokens, max_tokens=request.max_tokens
        )
        verdict = self._admit(call, cost, request.model)
        return self._run(request, verdict.headers, call) if verdict.admitted else self._refused(verdict)

    def _admit(self, call: Call, cost: Cost, model: str) -> Verdict:
        return self._rules.worded(self._account.admit(call, cost), wall=self._wall(), model=model)

    def _refused(self, verdict: Verdict) -> Reply:
        content_type = self._rules.dialect.error_content_type
        return plain(verdict.status, verdict.body, verdict.headers, content_type=content_type)

    def _run(self, request: ChatRequest, headers: Headers, call: Call) -> Reply:
        entry = call.entry
        # Until an answer is known: what fails has used nothing.
        entry.outcome, entry.used = "fault", Cost()
        try:
            latency = self._behaviour.latency_of(request)
            fault = self._behaviour.fault_of(request)
            entry.fault = "" if fault is None else type(fault).__name__
            if isinstance(fault, Fault):
                return self._faulty(fault, headers, latency)
            if isinstance(fault, Hang | ConnectionReset):
                return dropped(fault, latency)
            answer = self._behaviour.answer_to(request)
        except Exception as error:
            _logger.exception("a callable of the simulator failed")
            message = f"A callable of the simulator failed: {type(error).__name__}: {error}"
            return self._error(500, message, headers, code="simulator_callable_failed")
        entry.prompt_tokens, entry.completion_tokens = request.prompt_tokens, len(answer.pieces)
        entry.used = Cost(input_tokens=entry.prompt_tokens, output_tokens=entry.completion_tokens)
        pace = Pace(latency, self._behaviour.chunk_delay).slowed(fault)
        reply = answered(request, answer, headers, pace)
        if isinstance(fault, CutStream | MalformedBody):
            return spoiled(reply, fault)
        entry.outcome = "ok"
        return reply

    def _faulty(self, fault: Fault, headers: Headers, latency: float) -> Reply:
        dialect = self._rules.dialect
        body = dialect.error_body(fault.status, fault.text, code=fault.code, retry_after=fault.retry_after)
        headers = (*headers, *dialect.retry_headers(fault.retry_after), *fault.headers.items())
        return plain(fault.status, body, headers, delay=latency, content_type=dialect.error_content_type)

    def _error(
        self, status: int, message: str, headers: Headers = (), *, param: str | None = None, code: str | None = None
    ) -> Reply:
        dialect = self._rules.dialect
        body = dialect.error_body(status, message, param=param, code=code)
        return plain(status, body, headers, content_type=dialect.error_content_type)


def _end(account: Account, call: Call, delivered: bool) -> None:
    account.end(call, delivered=delivered)


def _has_key(http: HttpRequest) -> bool:
    scheme, _, key = http.headers.get("authorization", "").partition(" ")
    bearer = scheme.lower() == "bearer" and bool(key.strip())
    return bearer or any(http.headers.get(name) for name in _KEY_HEADERS)
