"""Faults over real sockets, as the real OpenAI client meets them; and what the tally says about it."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from urllib.parse import urlsplit

import openai
import pytest

from langchain_parallel_plus.outcome import ErrorKind
from langchain_parallel_plus.providers import classify
from langchain_parallel_plus.testing import (
    ConnectionReset,
    CutStream,
    Fault,
    FaultPlan,
    FaultRule,
    Hang,
    MalformedBody,
    ProviderSimulator,
    SlowStart,
    SlowTokens,
)

CHAT = "/v1/chat/completions"
every_mode = pytest.mark.parametrize("mode", ["invoke", "ainvoke", "stream", "astream"])


async def call(model, mode):
    """Call a model in one mode and return the texts of its chunks; off the loop if it is a blocking one."""
    match mode:
        case "invoke":
            return [(await asyncio.to_thread(model.invoke, "hello")).content]
        case "ainvoke":
            return [(await model.ainvoke("hello")).content]
        case "stream":
            return [chunk.content for chunk in await asyncio.to_thread(lambda: list(model.stream("hello")))]
        case _:
            return [chunk.content async for chunk in model.astream("hello")]


def raw(sim, *, stream=False):
    """Send a request over a socket of its own and return the socket."""
    body = json.dumps({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "hello"}]}).encode()
    address = urlsplit(sim.base_url)
    sock = socket.create_connection((address.hostname, address.port), timeout=10)
    head = f"POST {CHAT} HTTP/1.1\r\nAuthorization: Bearer k\r\nContent-Length: {len(body)}\r\n\r\n"
    sock.sendall(head.encode() + body)
    return sock


def until(condition, *, seconds=5.0):
    """Wait for something that the server's thread does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        threading.Event().wait(0.002)


@every_mode
@pytest.mark.parametrize(
    ("fault", "kind", "hint"),
    [
        (Fault(status=429), ErrorKind.RATE_LIMIT, None),
        (Fault(status=429, retry_after=1.5), ErrorKind.RATE_LIMIT, 1.5),
        (Fault(status=429, code="insufficient_quota"), ErrorKind.QUOTA_EXHAUSTED, None),
        (Fault(status=500), ErrorKind.SERVER, None),
        (Fault(status=502), ErrorKind.SERVER, None),
        (Fault(status=503, code="overloaded", retry_after=2), ErrorKind.OVERLOADED, 2.0),
        (Fault(status=529, code="overloaded_error"), ErrorKind.OVERLOADED, None),
    ],
    ids=lambda value: f"{value.status}-{value.code}" if isinstance(value, Fault) else None,
)
async def test_an_error_response_is_the_clients_error(mode, fault, kind, hint):
    """With its status and its wait, in every mode."""
    with ProviderSimulator(fail=lambda request: fault) as sim:
        with pytest.raises(openai.APIStatusError) as caught:
            await call(sim.chat_model(), mode)
        tally = sim.tally
    verdict = classify(caught.value)
    assert (verdict.kind, verdict.status, verdict.retry_after) == (kind, fault.status, hint)
    assert (tally.faults, tally.admitted, tally.by_status) == (1, 1, {fault.status: 1})
    assert tally.records[0].fault == "Fault"


def test_headers_of_a_fault_reach_the_client():
    """Such as the one by which OpenAI forbids a retry."""
    with ProviderSimulator(fail=lambda request: Fault(status=500, headers={"x-should-retry": "false"})) as sim:
        with pytest.raises(openai.InternalServerError) as caught:
            sim.chat_model(max_retries=2).invoke("hello")
        assert sim.tally.requests == 1
    assert caught.value.response.headers["x-should-retry"] == "false"


def test_the_hidden_retries_of_an_sdk_are_seen():
    """They are requests like any other: three for one call."""
    with ProviderSimulator(fail=FaultPlan(FaultRule(Fault(status=503), at=range(2)))) as sim:
        assert sim.chat_model(max_retries=2).invoke("hello").content
        assert (sim.tally.requests, sim.tally.ok, sim.tally.faults) == (3, 1, 2)
        assert sim.tally.by_status == {503: 2, 200: 1}
        assert len(sim.tally.arrivals) == 3


@every_mode
async def test_a_hang_lasts_until_the_client_gives_up(mode):
    """The request is then counted as abandoned."""
    with ProviderSimulator(fail=lambda request: Hang()) as sim:
        with pytest.raises(openai.APITimeoutError) as caught:
            await call(sim.chat_model(timeout=0.2), mode)
        assert classify(caught.value).kind is ErrorKind.TIMEOUT
        until(lambda: sim.tally.abandoned == 1)
        (record,) = sim.tally.records
    assert (record.fault, record.status, record.outcome) == ("Hang", 0, "abandoned")
    assert record.finished - record.arrived >= 0.19


@every_mode
async def test_a_hang_may_end_by_itself(mode):
    """Without an answer: the connection is closed."""
    with ProviderSimulator(fail=lambda request: Hang(0.2)) as sim:
        with pytest.raises(openai.APIConnectionError) as caught:
            await call(sim.chat_model(), mode)
        assert classify(caught.value).kind is ErrorKind.CONNECTION
        (record,) = sim.tally.records
    assert (record.outcome, record.status) == ("fault", 0)
    assert record.finished - record.arrived >= 0.2


@every_mode
async def test_a_slow_start_is_answered_later(mode):
    """The answer is whole, and counted as one."""
    with ProviderSimulator(fail=lambda request: SlowStart(0.3), answer=lambda request: "one two") as sim:
        assert "".join(await call(sim.chat_model(), mode)) == "one two"
        (record,) = sim.tally.records
    assert (record.outcome, record.fault) == ("ok", "SlowStart")
    assert record.finished - record.arrived >= 0.3


@every_mode
async def test_slow_tokens_take_their_time(mode):
    """Each of them in a stream, their sum in a whole answer."""
    with ProviderSimulator(fail=lambda request: SlowTokens(0.05), answer=lambda request: "one two three") as sim:
        assert "".join(await call(sim.chat_model(), mode)) == "one two three"
        (record,) = sim.tally.records
    assert record.outcome == "ok"
    assert record.finished - record.arrived >= 3 * 0.05


@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize("mode", ["stream", "astream"])
async def test_a_stream_is_cut_after_its_chunks(mode, after):
    """What came before the cut has been delivered; then it is a connection error, and not the end."""
    got = []
    with ProviderSimulator(fail=lambda request: CutStream(after), answer=lambda request: "a b c d e") as sim:
        model = sim.chat_model()

        async def consume():
            if mode == "stream":
                await asyncio.to_thread(lambda: [got.append(chunk.content) for chunk in model.stream("hello")])
            else:
                [got.append(chunk.content) async for chunk in model.astream("hello")]

        with pytest.raises(openai.APIConnectionError) as caught:
            await consume()
        tally = sim.tally
    assert "".join(got) == "a b c d e"[: max(0, 2 * after - 1)]
    assert classify(caught.value).kind is ErrorKind.CONNECTION
    assert (tally.faults, tally.ok, tally.by_status) == (1, 0, {200: 1})


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
async def test_a_whole_answer_is_cut_in_its_middle(mode):
    """Its length was announced, so the client knows."""
    with ProviderSimulator(fail=lambda request: CutStream()) as sim:
        with pytest.raises(openai.APIConnectionError):
            await call(sim.chat_model(), mode)
        with raw(sim) as sock:
            data = b""
            while piece := sock.recv(65536):
                data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    announced = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    assert 0 < len(body) < announced


@every_mode
@pytest.mark.parametrize("form", ["truncated", "html"])
async def test_a_malformed_body_is_no_answer(mode, form):
    """JSON that ends in the middle, or a page: the client raises something, or has nothing to show."""
    with ProviderSimulator(fail=lambda request: MalformedBody(form)) as sim:
        (outcome,) = await asyncio.gather(call(sim.chat_model(), mode), return_exceptions=True)
        if isinstance(outcome, BaseException):
            assert not isinstance(outcome, openai.APIStatusError | openai.APIConnectionError)
        else:
            assert "".join(outcome) == ""
        assert (sim.tally.faults, sim.tally.ok, sim.tally.by_status) == (1, 0, {200: 1})


@pytest.mark.parametrize(("form", "status"), [("truncated", 200), ("html", 502)])
def test_a_malformed_body_is_well_framed(form, status):
    """The HTTP around it is right, so that the connection goes on."""
    plan = FaultPlan(FaultRule(MalformedBody(form, status=status), at={0}))
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]})
    with ProviderSimulator(fail=plan) as sim:
        connection = http.client.HTTPConnection(urlsplit(sim.base_url).netloc, timeout=10)
        connection.request("POST", CHAT, body, {"Authorization": "Bearer k"})
        response = connection.getresponse()
        content = response.read()
        assert response.status == status
        if form == "html":
            assert response.getheader("content-type").startswith("text/html")
            assert content.startswith(b"<html>")
        else:
            with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
                json.loads(content)
        connection.request("POST", CHAT, body, {"Authorization": "Bearer k"})
        assert connection.getresponse().status == 200
        connection.close()


@every_mode
async def test_a_reset_connection_is_a_connection_error(mode):
    """Before any byte."""
    with ProviderSimulator(fail=lambda request: ConnectionReset()) as sim:
        with pytest.raises(openai.APIConnectionError) as caught:
            await call(sim.chat_model(), mode)
        assert classify(caught.value).kind is ErrorKind.CONNECTION
        assert (sim.tally.faults, sim.tally.by_status) == (1, {0: 1})


def test_a_reset_is_a_reset_and_a_cut_is_not():
    """RST and FIN, as the socket sees them."""
    plan = FaultPlan(FaultRule(ConnectionReset(), at={0}), FaultRule(Hang(0.05), at={1}))
    with ProviderSimulator(fail=plan, latency=0.05) as sim:
        with raw(sim) as sock, pytest.raises(ConnectionResetError):
            sock.recv(1)
        with raw(sim) as sock:
            assert sock.recv(1) == b""


def test_a_hanging_connection_reads_no_further_request():
    """As of a server that is stuck; stopping it closes the connection all the same."""
    with ProviderSimulator(fail=lambda request: Hang()) as sim, raw(sim) as sock:
        until(lambda: sim.tally.in_flight == 1)
        sock.sendall(b"GET /v1/models HTTP/1.1\r\nAuthorization: Bearer k\r\n\r\n")
        sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        sim.stop()
        sock.settimeout(5)
        assert sock.recv(1) == b""
        assert sim.tally.abandoned == 1


async def test_a_plan_strikes_the_same_requests_in_each_run():
    """By number, whatever the timing: two runs of two hundred calls at once have the same faults."""
    plan = FaultPlan(
        FaultRule(Fault(status=429), at=range(50, 60)),
        FaultRule(ConnectionReset(), share=0.05),
        FaultRule(Fault(status=529), share=0.1),
        seed=11,
    )
    seen = []
    for _ in range(2):
        with ProviderSimulator(fail=plan) as sim:
            model = sim.chat_model()
            done = await asyncio.gather(*(model.ainvoke("hello") for _ in range(200)), return_exceptions=True)
            tally = sim.tally
        assert sum(isinstance(one, Exception) for one in done) == tally.faults
        seen.append([(record.index, record.status, record.fault) for record in tally.records])
    assert seen[0] == seen[1]
    assert {record[1] for record in seen[0]} == {0, 200, 429, 529}
    assert [record[1] for record in seen[0][50:60]] == [429] * 10


@pytest.mark.parametrize("rule", ["reserve", "reserve_refund", "actual"])
def test_what_failed_has_used_nothing(rule):
    """The token rule says whether it gets it back."""
    with ProviderSimulator(tokens_per_minute=10**6, token_rule=rule, fail=FaultPlan(FaultRule(Fault(), at={0}))) as sim:
        model = sim.chat_model(max_tokens=10)
        with pytest.raises(openai.InternalServerError):
            model.invoke("hello")
        model.invoke("hello")
        failed, answered = sim.tally.records
        usage = sim.tally.prompt_tokens + sim.tally.completion_tokens
    assert failed.charged_tokens == (12 if rule == "reserve" else 0)
    assert answered.charged_tokens == (12 if rule == "reserve" else usage)
    assert sim.tally.charged_tokens == failed.charged_tokens + answered.charged_tokens
