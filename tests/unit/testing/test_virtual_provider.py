"""A provider on any clock: the service's decisions and its tally, without a socket."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest

from langchain_parallel_plus.errors import DeclarationError, ParallelPlusError
from langchain_parallel_plus.outcome import ErrorKind
from langchain_parallel_plus.providers import classify
from langchain_parallel_plus.testing import ProviderRules, ScriptedChatModel, SimulatedRefusal, VirtualProvider


class Clock:
    """Seconds that go on when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def provider(clock=None, **rules) -> VirtualProvider:
    return VirtualProvider(ProviderRules.of(**rules), clock=clock or Clock())


def test_an_hour_of_traffic_takes_a_moment():
    """What is admitted and refused is counted as it is over sockets."""
    clock = Clock()
    simulated = provider(clock, requests_per_minute=60, tokens_per_minute=60_000, failed_requests_count=False)
    while clock.now < 3600:
        call = simulated.ask(input_tokens=100, max_tokens=100)
        if call.admitted:
            call.end(output_tokens=20)
        clock.now += 0.5
    tally = simulated.tally
    assert (tally.requests, tally.in_flight, tally.faults) == (7_200, 0, 0)
    assert tally.admitted == tally.ok == 60 + 3_599
    assert tally.refused == {"requests": 7_200 - tally.admitted, "tokens": 0}
    assert tally.by_status == {200: tally.admitted, 429: tally.refusals}
    assert tally.charged_tokens == 200 * tally.admitted
    assert (tally.prompt_tokens, tally.completion_tokens) == (100 * tally.ok, 20 * tally.ok)
    assert tally.busiest(60.0, admitted=True) <= 2 * 60
    assert set(tally.per_window(60.0)) == {120}
    assert tally.records[-1].arrived == 3_599.5


@pytest.mark.parametrize(
    ("rule", "at_once", "charged"), [("reserve", 9, 9_900), ("reserve_refund", 9, 1_080), ("actual", 100, 12_000)]
)
def test_the_token_rule_decides_how_many_fit(rule, at_once, charged):
    """Of calls with 100 tokens of prompt that allow 1,000 and use 20."""
    simulated = provider(tokens_per_minute=10_000, token_rule=rule)
    calls = []
    while (call := simulated.ask(input_tokens=100, max_tokens=1_000)).admitted:
        calls.append(call)
    assert len(calls) == simulated.tally.in_flight == at_once
    for call in calls:
        call.end(output_tokens=20)
    assert simulated.tally.charged_tokens == charged
    assert [record.charged_tokens for record in simulated.tally.records if record.admitted] == [charged // at_once] * (
        at_once
    )
    assert simulated.ask(input_tokens=100, max_tokens=1_000).admitted == (rule == "reserve_refund")


def test_what_a_call_really_used_may_be_told():
    """The estimate of the prompt is corrected, too."""
    simulated = provider(tokens_per_minute=10_000, token_rule="actual")
    simulated.ask(input_tokens=100).end(input_tokens=80, output_tokens=5)
    assert simulated.tally.charged_tokens == 85


def test_a_client_that_left_is_abandoned_and_charged():
    """The provider has done its work all the same."""
    simulated = provider(tokens_per_minute=10_000, token_rule="actual")
    simulated.ask(input_tokens=100).end(output_tokens=5, delivered=False)
    assert (simulated.tally.abandoned, simulated.tally.ok, simulated.tally.charged_tokens) == (1, 0, 105)


def test_a_refused_call_has_ended():
    """It is an error to end it again, and to ask an admitted one for its refusal."""
    simulated = provider(requests_per_minute=1)
    first, second = simulated.ask(), simulated.ask()
    assert simulated.tally.in_flight == 1
    with pytest.raises(ParallelPlusError, match=r"call 1 was refused and has ended\nhelp"):
        second.end()
    with pytest.raises(ParallelPlusError, match=r"call 0 was admitted\nhelp"):
        first.refusal()


def test_a_reset_gives_everything_back():
    """A call from before it ends uncounted, and refunds nothing that it has not taken."""
    simulated = provider(tokens_per_minute=1_000, token_rule="reserve_refund")
    old = simulated.ask(input_tokens=500, max_tokens=500)
    simulated.reset()
    new = simulated.ask(input_tokens=500, max_tokens=500)
    old.end()
    assert not simulated.ask(input_tokens=500, max_tokens=500).admitted
    new.end()
    assert simulated.tally.ok == 1


def test_the_rules_are_pure():
    """The same state and time give the same verdict, as often as one asks."""
    rules = ProviderRules.of(requests_per_minute=1, dialect="gemini")
    state = rules.fresh(now=0.0)
    first = rules.ask(state, now=0.0, wall=0.0)
    assert first == rules.ask(state, now=0.0, wall=0.0)
    assert (first.status, first.body, first.retry_after) == (200, b"", None)
    second = rules.ask(first.decision.state, now=30.0, wall=0.0, model="gemini-x")
    assert (second.status, second.headers, second.retry_after) == (429, (), 30.0)
    assert json.loads(second.body)["error"]["details"][-1]["retryDelay"] == "30s"
    assert "gemini-x" in json.loads(second.body)["error"]["message"]


def test_an_unknown_rule_is_refused():
    """With the known ones."""
    with pytest.raises(DeclarationError, match="token_rule must be one of reserve, reserve_refund, actual, got 'free'"):
        ProviderRules.of(token_rule="free")


@pytest.mark.looptime
async def test_a_scripted_model_refuses_as_a_provider_does():
    """On virtual time: a minute's quota is used up, the refusal says how long to wait, and that is enough."""
    loop = asyncio.get_running_loop()
    simulated = provider(loop.time, requests_per_minute=6)

    def script(messages):
        call = simulated.ask(input_tokens=len(messages[-1].text) // 4)
        if not call.admitted:
            return call.refusal()
        call.end(output_tokens=1)
        return "fine"

    model = ScriptedChatModel(script)
    for _ in range(6):
        await model.ainvoke("hello")
    with pytest.raises(SimulatedRefusal) as caught:
        await model.ainvoke("hello")
    verdict = classify(caught.value)
    assert (verdict.kind, verdict.retry_after) == (ErrorKind.RATE_LIMIT, 10.0)
    await asyncio.sleep(verdict.retry_after)
    assert (await model.ainvoke("hello")).content == "fine"


def test_threads_may_share_it():
    """Every call is counted once, and the quota is not exceeded."""
    simulated = provider(requests_per_minute=500, tokens_per_minute=10**9)

    def work():
        for _ in range(250):
            if (call := simulated.ask(input_tokens=10)).admitted:
                call.end(output_tokens=1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tally = simulated.tally
    assert (tally.requests, tally.admitted, tally.ok, tally.refusals, tally.in_flight) == (2_000, 500, 500, 1_500, 0)
    assert [record.index for record in tally.records] == list(range(2_000))


class TestTally:
    def test_it_says_how_dense_the_traffic_was(self):
        """The busiest second wherever it begins, and the counts of one after the other."""
        clock, times = Clock(), [0.0, 0.9, 1.0, 1.1, 1.8, 5.0]
        simulated = provider(clock, requests_per_minute=4)
        for clock.now in times:
            simulated.ask()
        tally = simulated.tally
        assert tally.arrivals == tuple(times)
        assert tally.admissions == tuple(times[:4]) + (() if tally.admitted == 4 else (times[5],))
        assert (tally.busiest(), tally.busiest(0.15), tally.busiest(admitted=True)) == (4, 2, 3)
        assert tally.per_window() == (2, 3, 0, 0, 0, 1)
        assert tally.per_window(10.0) == (6,)

    def test_an_empty_one_is_all_nothing(self):
        """Before the first request."""
        tally = provider(requests_per_minute=1, output_tokens_per_minute=1).tally
        assert (tally.busiest(), tally.per_window(), tally.by_status, tally.records) == (0, (), {}, ())
        assert tally.refused == {"requests": 0, "tokens": 0, "output_tokens": 0}

    def test_it_is_json_if_asked(self):
        """The counters alone, or everything."""
        simulated = provider(requests_per_minute=1)
        simulated.ask().end()
        simulated.ask()
        counters, everything = simulated.tally.to_dict(), json.loads(json.dumps(simulated.tally.to_dict(records=True)))
        assert (counters["admitted"], counters["refused"], counters["by_status"]) == (
            1,
            {"requests": 1, "tokens": 0},
            {200: 1, 429: 1},
        )
        assert not {"arrivals", "records"} & set(counters)
        assert [record["outcome"] for record in everything["records"]] == ["ok", "refused"]
        assert everything["arrivals"] == [0.0, 0.0]
