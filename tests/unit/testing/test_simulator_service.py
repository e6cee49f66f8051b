"""The service without a socket: what it decides, and what a decision costs."""

from __future__ import annotations

import json
import time

import pytest

from langchain_parallel_plus.testing import (
    ConnectionReset,
    CutStream,
    Fault,
    Hang,
    MalformedBody,
    ProviderRules,
    SlowStart,
    SlowTokens,
)
from langchain_parallel_plus.testing.simulator.behaviour import Behaviour
from langchain_parallel_plus.testing.simulator.http1 import HttpRequest, wire_frames
from langchain_parallel_plus.testing.simulator.service import Service

CHAT = "/v1/chat/completions"


def service(rules=None, **behaviour) -> Service:
    return Service(rules or ProviderRules.of(), Behaviour(**behaviour), clock=lambda: 0.0, wall=lambda: 0.0)


def chat(*, text="hello", stream=False, headers=None, path=CHAT, **fields) -> HttpRequest:
    body = {"model": "m", "stream": stream, "messages": [{"role": "user", "content": text}]} | fields
    return HttpRequest("POST", path, headers or {"authorization": "Bearer k"}, json.dumps(body).encode())


def delays(reply) -> list[float]:
    return [frame.delay for frame in reply.frames]


@pytest.mark.parametrize(
    ("fault", "stream", "status", "ending", "drop_after", "delay"),
    [
        (None, False, 200, "whole", 0, [1.0]),
        (Fault(status=503), False, 503, "whole", 0, [1.0]),
        (Fault(status=503), True, 503, "whole", 0, [1.0]),
        (Hang(), False, 0, "never", 0, []),
        (Hang(7.0), True, 0, "cut", 7.0, []),
        (ConnectionReset(), False, 0, "reset", 1.0, []),
        (SlowStart(2.0), False, 200, "whole", 0, [3.0]),
        (SlowStart(2.0), True, 200, "whole", 0, [3.0, 0.5, 0.5, 0.5, 0.5]),
        (SlowTokens(4.0), False, 200, "whole", 0, [9.0]),
        (SlowTokens(4.0), True, 200, "whole", 0, [1.0, 4.0, 4.0, 4.0, 4.0]),
        (CutStream(1), True, 200, "cut", 0, [1.0, 0.5]),
        (CutStream(9), True, 200, "cut", 0, [1.0, 0.5, 0.5, 0.5, 0.5]),
        (CutStream(1), False, 200, "cut", 0, [1.0]),
        (MalformedBody(), True, 200, "whole", 0, [1.0, 0.5]),
        (MalformedBody("html", status=502), True, 502, "whole", 0, [1.0]),
    ],
)
def test_a_fault_decides_what_is_sent_and_when(fault, stream, status, ending, drop_after, delay):
    """Of an answer of two tokens, one second away, with half a second between events."""
    simulated = service(latency=1.0, chunk_delay=0.5, answer=lambda request: "a b", fail=lambda request: fault)
    reply = simulated.respond(chat(stream=stream))
    assert (reply.status, reply.ending, reply.drop_after, delays(reply)) == (status, ending, drop_after, delay)
    reply.ended(True)
    (record,) = simulated.tally().records
    assert record.fault == ("" if fault is None else type(fault).__name__)
    assert record.outcome == ("ok" if fault is None or isinstance(fault, SlowStart | SlowTokens) else "fault")


@pytest.mark.parametrize("name", ["api-key", "x-api-key", "x-goog-api-key"])
def test_keys_come_in_each_providers_header_and_go_no_further(name):
    """The callables never see them, and neither does a record."""
    seen = []
    simulated = service(answer=lambda request: seen.append(request) or "fine")
    reply = simulated.respond(chat(headers={name: "secret", "x-other": "1"}))
    assert (reply.status, dict(seen[0].headers)) == (200, {"x-other": "1"})
    assert "secret" not in repr(seen) + repr(simulated.tally())
    assert simulated.respond(chat(headers={name: ""})).status == 401


@pytest.mark.parametrize(
    ("path", "model"), [("/openai/deployments/d1/chat/completions", "d1"), ("/openai/v1/chat/completions", "m")]
)
def test_azures_addresses_are_served(path, model):
    """One of them names the model itself."""
    simulated = service()
    reply = simulated.respond(chat(path=path))
    assert (reply.status, json.loads(reply.frames[0].data)["model"]) == (200, model)


@pytest.mark.parametrize(("delivered", "outcome"), [(True, "ok"), (False, "abandoned")])
@pytest.mark.parametrize(("rule", "charged"), [("reserve", 102), ("reserve_refund", 9), ("actual", 9)])
def test_the_charge_is_corrected_when_the_answer_has_ended(rule, charged, delivered, outcome):
    """Also if the client has left: the provider has done its work."""
    simulated = service(ProviderRules.of(tokens_per_minute=1_000, token_rule=rule), answer=lambda request: "a b")
    reply = simulated.respond(chat(max_tokens=100))
    assert simulated.tally().charged_tokens == (2 if rule == "actual" else 102)
    reply.ended(delivered)
    (record,) = simulated.tally().records
    assert (record.charged_tokens, record.outcome, simulated.tally().charged_tokens) == (charged, outcome, charged)
    remaining = dict(simulated.respond(chat(max_tokens=100)).headers)["x-ratelimit-remaining-tokens"]
    assert int(remaining) == 1_000 - charged - (2 if rule == "actual" else 102)


def test_a_request_of_a_kilobyte_costs_less_than_a_millisecond():
    """Benchmarks run through it: 500 a second must leave it idle most of the time."""
    simulated = service(
        ProviderRules.of(requests_per_minute=10**6, tokens_per_minute=10**9, quota_model="sliding_window")
    )
    request = chat(text="lorem ipsum " * 83, max_tokens=50)
    started = time.process_time()
    for _ in range(500):
        reply = simulated.respond(request)
        assert reply.status == 200
        b"".join(frame.data for frame in wire_frames(reply, keep_alive=True))
        reply.ended(True)
    assert (time.process_time() - started) / 500 < 0.001
    assert simulated.tally().ok == 500
