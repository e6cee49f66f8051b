"""What providers say reaches the limiters: real ChatOpenAI, real HTTP, a server that answers as it is told."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_openai import ChatOpenAI

from langchain_parallel_plus import RateLimiter, RunnableParallelPlus
from langchain_parallel_plus.limits import Cost
from langchain_parallel_plus.limits.ticket import Ticket
from langchain_parallel_plus.outcome import ErrorKind
from tests.modes import MODES, Mode

USAGE = {
    "prompt_tokens": 900,
    "completion_tokens": 40,
    "total_tokens": 940,
    "prompt_tokens_details": {"cached_tokens": 640},
    "completion_tokens_details": {"reasoning_tokens": 30},
}
LIMITS = {
    "x-ratelimit-limit-requests": "500",
    "x-ratelimit-remaining-requests": "400",
    "x-ratelimit-reset-requests": "12s",
    "x-ratelimit-limit-tokens": "30000",
    "x-ratelimit-remaining-tokens": "24000",
    "x-ratelimit-reset-tokens": "12s",
}


class Server(ThreadingHTTPServer):
    """Answers every request in the same way; `hang` closes the connection instead."""

    daemon_threads = True
    status = 200
    headers: dict[str, str] = LIMITS
    error: dict[str, Any] | None = None
    hang = False
    requests = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def model(self, **fields: Any) -> ChatOpenAI:
        settings = {"max_retries": 0, "stream_usage": True, "include_response_headers": True, "max_tokens": 100}
        return ChatOpenAI(model="gpt-4o", api_key="none", base_url=self.base_url, **{**settings, **fields})


class Answers(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.requests += 1
        if self.server.hang:
            self.close_connection = True
            return
        body, kind = self._body(asked.get("stream", False))
        self.send_response(self.server.status)
        for name, value in {**self.server.headers, "content-type": kind, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _body(self, stream: bool) -> tuple[bytes, str]:
        if self.server.error is not None:
            return json.dumps({"error": self.server.error}).encode(), "application/json"
        base = {"id": "1", "created": 1, "model": "gpt-4o"}
        if not stream:
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "well then"}}
            whole = {**base, "object": "chat.completion", "choices": [choice], "usage": USAGE}
            return json.dumps(whole).encode(), "application/json"
        deltas = [{"role": "assistant", "content": "well "}, {"content": "then"}]
        chunks: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
        chunks += [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, {"choices": [], "usage": USAGE}]
        events = [json.dumps({**base, "object": "chat.completion.chunk", **chunk}) for chunk in chunks]
        return "".join(f"data: {event}\n\n" for event in [*events, "[DONE]"]).encode(), "text/event-stream"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Answers) as one:
        thread = threading.Thread(target=one.serve_forever, args=(0.01,))
        thread.start()
        yield one
        one.shutdown()
        thread.join()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What tickets are told, in order."""
    facts: list[tuple[Any, ...]] = []
    heard, refused, settle, cancel = Ticket.heard, Ticket.refused, Ticket.settle, Ticket.cancel

    def hear(self: Ticket, snapshot: Any) -> None:
        facts.append(("heard", snapshot))
        heard(self, snapshot)

    def refuse(self: Ticket, verdict: Any, snapshot: Any = None) -> None:
        facts.append(("refused", verdict, snapshot))
        refused(self, verdict, snapshot)

    def charge(self: Ticket, cost: Cost) -> None:
        facts.append(("settled", cost))
        settle(self, cost)

    def withdraw(self: Ticket) -> None:
        facts.append(("cancelled",))
        cancel(self)

    for name, method in {"heard": hear, "refused": refuse, "settle": charge, "cancel": withdraw}.items():
        monkeypatch.setattr(Ticket, name, method)
    return facts


def counted(**limits: Any) -> RateLimiter:
    quota = {"requests_per_day": 1_000, "input_tokens_per_minute": 1_000_000, "provider": "groq", "concurrency": 4}
    return RateLimiter(**{**quota, "clock": lambda: 1.0, **limits})


def spent(limiter: RateLimiter, name: str) -> int:
    rate = limiter.statistics().rates[name]
    return round(rate.burst - rate.available)


async def test_headers_and_usage_of_an_answer_reach_the_limiter(server: Server, told: Any, mode: Mode) -> None:
    limiter = counted()
    await mode.run(RunnableParallelPlus(x=server.model()).with_limits(limiter), "ask", None)
    [(first, snapshot), (second, cost)] = told
    assert (first, second) == ("heard", "settled")
    assert {one.name: (one.limit, one.remaining, one.reset) for one in snapshot.quotas} == {
        "requests": (500, 400, 12),
        "tokens": (30_000, 24_000, 12),
    }
    assert cost == Cost(input_tokens=900, output_tokens=40, cached_tokens=640)
    assert spent(limiter, "input_tokens_per_minute") == 260  # what Groq had cached, it does not count
    assert limiter.statistics().in_flight == 0


async def test_every_limiter_that_governs_the_call_is_told(server: Server, told: Any, mode: Mode) -> None:
    limiters = (counted(), counted(models="openai:gpt-4o*"), counted(models="anthropic:*"))
    await mode.run(RunnableParallelPlus(x=server.model()).with_limits(*limiters), "ask", None)
    assert [fact[0] for fact in told] == ["heard", "settled"] * 2


async def test_a_model_that_keeps_its_headers_to_itself_is_settled_all_the_same(
    server: Server, told: Any, mode: Mode
) -> None:
    model = server.model(include_response_headers=False)
    await mode.run(RunnableParallelPlus(x=model).with_limits(counted()), "ask", None)
    assert [fact[0] for fact in told] == ["settled"]


REFUSALS = {
    "rate limit": (429, {"code": "rate_limit_exceeded", "message": "slow down"}, ErrorKind.RATE_LIMIT),
    "no credit": (429, {"code": "insufficient_quota", "message": "no credit"}, ErrorKind.QUOTA_EXHAUSTED),
    "overloaded": (503, {"message": "overloaded"}, ErrorKind.OVERLOADED),
    "a bug of theirs": (500, {"message": "sorry"}, ErrorKind.SERVER),
    "no such model": (404, {"message": "no such model"}, ErrorKind.NOT_FOUND),
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_refusals_reach_the_limiter_with_their_headers(name: str, server: Server, told: Any, mode: Mode) -> None:
    status, error, kind = REFUSALS[name]
    server.status, server.error, server.headers = status, error, {**LIMITS, "retry-after": "7"}
    limiter = counted()
    fan_out = RunnableParallelPlus(x=server.model(include_response_headers=False)).with_limits(limiter)
    with suppress(Exception):
        await mode.run(fan_out, "ask", None)
    [(what, verdict, snapshot)] = [fact for fact in told if fact[0] == "refused"]
    assert (what, verdict.kind) == ("refused", kind)
    assert snapshot.get("tokens").remaining == 24_000
    statistics = limiter.statistics()
    assert statistics.in_flight == 0
    assert (statistics.paused_for > 0) is (name == "rate limit")
    assert (statistics.closed is not None) is (name == "no credit")
    assert spent(limiter, "requests_per_day") == 1


async def test_a_prompt_too_long_for_the_model_is_given_back(server: Server, told: Any, mode: Mode) -> None:
    server.status = 400
    server.error = {"code": "context_length_exceeded", "message": "maximum context length is 8192 tokens"}
    limiter = counted()
    with suppress(Exception):
        await mode.run(RunnableParallelPlus(x=server.model()).with_limits(limiter), "ask", None)
    assert [fact[0] for fact in told] == ["heard", "cancelled"]
    assert spent(limiter, "requests_per_day") == spent(limiter, "input_tokens_per_minute") == 0
    assert limiter.statistics().in_flight == 0


async def test_a_connection_that_breaks_is_given_back(server: Server, told: Any, mode: Mode) -> None:
    server.hang = True
    limiter = counted()
    with suppress(Exception):
        await mode.run(RunnableParallelPlus(x=server.model()).with_limits(limiter), "ask", None)
    assert [fact[0] for fact in told] == ["cancelled"]
    assert spent(limiter, "requests_per_day") == 0


class Leave(BaseCallbackHandler):
    """Counts the chunks of a stream."""

    chunks = 0

    def on_llm_new_token(self, *_: Any, **__: Any) -> None:
        self.chunks += 1


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_a_stream_left_early_keeps_its_reservation_and_no_slot(server: Server, told: Any, way: str) -> None:
    limiter = counted()
    fan_out = RunnableParallelPlus(x=server.model()).with_limits(limiter)
    if way == "stream":
        chunks = fan_out.stream("ask")
        next(chunks)
        chunks.close()
    else:
        achunks = fan_out.astream("ask")
        await anext(achunks)
        await achunks.aclose()
    for _ in range(100):
        if limiter.statistics().in_flight == 0:
            break
        await asyncio.sleep(0.01)
    assert limiter.statistics().in_flight == 0
    assert spent(limiter, "requests_per_day") == 1
    assert "cancelled" not in [fact[0] for fact in told]


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode.name in ("invoke", "ainvoke")], ids=str)
async def test_a_local_server_is_not_taken_for_openai(server: Server, mode: Mode) -> None:
    limiter = RateLimiter(requests_per_minute=600)
    await mode.run(RunnableParallelPlus(x=server.model()).with_limits(limiter), "ask", None)
    assert limiter.statistics().provider == ""


async def test_openai_s_own_endpoint_is_met(monkeypatch: pytest.MonkeyPatch) -> None:
    limiter = RateLimiter(requests_per_minute=600)
    met: list[str] = []
    monkeypatch.setattr(RateLimiter, "meet", lambda _, provider: met.append(provider))

    class Offline(ChatOpenAI):
        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            raise ConnectionError("not in a test")

    with pytest.raises(ConnectionError):
        RunnableParallelPlus(x=Offline(model="gpt-4o", api_key="none", max_retries=0)).with_limits(limiter).invoke("a")
    assert met == ["openai"]
