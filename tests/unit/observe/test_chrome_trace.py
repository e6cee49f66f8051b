"""What Perfetto is given is what its format asks for."""

from __future__ import annotations

import copy
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_parallel_plus import (
    BranchPolicy,
    HedgePolicy,
    JoinPolicy,
    RateLimiter,
    RetryPolicy,
    RunnableParallelPlus,
    RunnableSynthesis,
    TimeoutPolicy,
    collect_report,
)
from langchain_parallel_plus.observe import Attempt, BranchReport, FanOutReport, SynthesisReport, Wait
from langchain_parallel_plus.observe.chrome_trace import chrome_trace
from langchain_parallel_plus.synthesis import MapReduce
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.modes import Mode
from tests.unit.observe.records import attempt, branch, wait
from tests.unit.observe.trace_events import check_trace


def named(trace: dict[str, Any], what: str) -> dict[int, str]:
    return {event["tid"]: event["args"]["name"] for event in trace["traceEvents"] if event["name"] == what}


async def test_a_run_of_everything_can_be_read(mode: Mode) -> None:
    model = ScriptedChatModel(["well"], cycle=True)
    left = iter(range(1))

    def flaky(value: Any) -> Any:
        if next(left, None) is not None:
            raise ConnectionError("down")
        return value

    inner = RunnableParallelPlus(x=model, y=model, name="inner")
    fan_out = RunnableParallelPlus(a=model, b=flaky, c=inner, name="outer").with_policy(
        b=BranchPolicy(retry=RetryPolicy(initial_interval=0.001, jitter=False), on_failure="keep"),
    )
    limiter = RateLimiter(requests_per_minute=6000, burst=0.01, concurrency=2)
    with collect_report() as report:
        await mode.run(fan_out.with_limits(limiter) | RunnableSynthesis(model), "ask", {"max_concurrency": 2})
        await mode.run(MapReduce(len, lambda found: sum(found.values())), ["a", "bc"], None)
    trace = report.to_chrome_trace()
    threads = check_trace(trace)
    assert set(named(trace, "process_name").values()) == {"outer", "inner in c", "map", "synthesis"}
    assert list(named(trace, "thread_name").values()).count("fan-out") == 3
    by_thread = {
        named(trace, "thread_name")[tid]: [one["name"] for one in events] for (_, tid), events in threads.items()
    }
    worked = [name for name in by_thread["b"] if not name.startswith("waits for its")]  # turn, or reader
    assert worked == ["b", "attempt 1 (primary, failed)", "backs off", "attempt 2 (retry, ok)"]


def test_a_hedge_and_a_thread_that_was_left_behind_can_be_read() -> None:
    release = threading.Event()
    calls = iter(range(2))

    def slow(value: Any) -> Any:
        if next(calls) == 0:
            release.wait(20)
        return value

    hedged = BranchPolicy(hedge=HedgePolicy(delay=0.01, budget=1.0), timeout=TimeoutPolicy(run_timeout=20))
    with collect_report() as report:
        fan_out = RunnableParallelPlus(a=slow, b=len).with_policy(a=hedged).with_join(JoinPolicy(min_success=1))
        fan_out.invoke("x")
        release.set()
    trace = report.to_chrome_trace()
    check_trace(trace)
    assert "a: hedge" in named(trace, "thread_name").values()


def test_what_still_runs_can_be_read() -> None:
    seen: list[dict[str, Any]] = []
    with collect_report() as report:
        RunnableParallelPlus(a=lambda _: seen.append(report.to_chrome_trace()), b=len).invoke("x")
    check_trace(seen[0])


SECONDS = st.floats(0, 1e6, allow_subnormal=False)
SPANS = st.tuples(SECONDS, SECONDS).map(sorted)


@st.composite
def branches(draw: st.DrawFn) -> BranchReport:
    ended = draw(SECONDS)
    attempts: list[Attempt] = [
        attempt(number, start, end, draw(st.sampled_from(["ok", "failed", "cancelled"])), draw(st.sampled_from(ROLES)))
        for number, (start, end) in enumerate(draw(st.lists(SPANS, max_size=4)), start=1)
    ]
    waits: list[Wait] = [wait(start, end) for start, end in draw(st.lists(SPANS, max_size=3))]
    backoffs = tuple((start, end) for start, end in draw(st.lists(SPANS, max_size=2)))
    began = draw(st.none() | st.floats(0, ended)) if ended else 0.0
    facts = {
        "attempt_log": tuple(attempts),
        "wait_log": tuple(waits),
        "backoff_log": backoffs,
        "capped": draw(st.booleans()),
    }
    return branch(draw(st.text("ab/<é", min_size=1, max_size=3)), began, ended, **facts)  # type: ignore[arg-type]


ROLES = ["primary", "retry", "fallback", "hedge"]


@given(st.lists(branches(), max_size=4, unique_by=lambda one: one.path), st.none() | SECONDS, st.booleans())
def test_whatever_was_recorded_its_events_nest(found: list[BranchReport], seconds: float | None, joins: bool) -> None:
    fan_out = FanOutReport(name="n", seconds=seconds, branches={one.path: one for one in found})
    synthesis = SynthesisReport(strategy="vote", inputs=2, path=(), started=0.1, seconds=0.2, outcome="ok")
    check_trace(chrome_trace([fan_out, fan_out], [synthesis] * 2 if joins else []))


@pytest.mark.parametrize(
    "change",
    [
        {"ph": "Z"},
        {"pid": 0},
        {"tid": "1"},
        {"ts": "1"},
        {"dur": -1},
        {"dur": float("nan")},
        {"args": None},
        {"name": ""},
        {"ts": 1.0, "dur": 1e12},
        {"pid": 77},
    ],
    ids=str,
)
def test_the_reader_refuses_what_is_wrong(change: dict[str, Any]) -> None:
    trace = chrome_trace([FanOutReport(name="n", seconds=3.0, branches={("a",): branch("a", 0, 2)})], [])
    check_trace(trace)
    broken = copy.deepcopy(trace)
    event = next(one for one in broken["traceEvents"] if one["name"] == "a")
    if "dur" in change and change.get("ts") == 1.0:
        broken["traceEvents"].append({**event, "name": "inner", **change})
    else:
        event.update(change)
    with pytest.raises((AssertionError, ValueError, KeyError, TypeError)):
        check_trace(broken)
