"""Whatever is heard, in whichever order, and whenever the report is read: its times add up and it can be shown."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_parallel_plus.observe import BranchReport, Event, FanOutReport, LimiterState, RateState, RunReport
from langchain_parallel_plus.observe.measures import measure_branch
from langchain_parallel_plus.outcome import ErrorKind
from tests.unit.display.sanitizer import survives

OUTER, INNER, ALONE = (UUID(int=number) for number in (1, 2, 3))
PLACES: dict[int, tuple[UUID, tuple[str, ...], int]] = {
    1: (OUTER, ("a",), 0),
    2: (OUTER, ("b",), 0),
    3: (OUTER, ("a", "each"), 1),
    4: (OUTER, ("a", "each"), 1),
    5: (OUTER, ("a", "each", "deep"), 4),
    6: (OUTER, ("b", "each"), 2),
    7: (INNER, ("a", "each", "x"), 0),
    8: (INNER, ("a", "each", "y"), 0),
    9: (ALONE, ("alone",), 0),
    10: (ALONE, ("alone", "each"), 9),
}
"""By unit: the run, the path, and the unit around."""
LIMITERS = (
    LimiterState(name="openai", rates={"requests_per_minute": RateState(limit=60, window=60, available=2)}),
    LimiterState(name="search", rates={"tokens_per_minute": RateState(limit=600, window=60)}, concurrency=2),
)
OUTCOMES = st.sampled_from(["ok", "recovered", "failed", "timed_out", "skipped", "cancelled"])
CALLS = st.integers(100, 104).map(lambda number: UUID(int=number))
SECONDS = st.floats(0, 5).map(lambda value: round(value, 3))
COUNTS = st.none() | st.integers(0, 500)


def _start(run_id: UUID, at: float, **facts: Any) -> Event:
    nested = run_id == INNER
    told = {
        "name": "inner" if nested else "outer",
        "branches": ["x", "y"] if nested else ["a", "b"],
        "parent_run_id": OUTER if nested else None,
        "parent_unit": 4 if nested else 0,
        "limiters": LIMITERS,
        **facts,
    }
    return Event(kind="fan_out.start", at=at, run_id=run_id, path=("a", "each") if nested else (), detail=told)


@st.composite
def _of_a_branch(draw: st.DrawFn, at: float) -> Event:
    unit = draw(st.sampled_from(sorted(PLACES)))
    run_id, path, parent = PLACES[unit]
    kinds = ["branch.start", "branch.end", "branch.late", "attempt.start", "attempt.end", "attempt.late", "backoff"]
    kinds += ["limiter.queue", "limiter.wait", "limiter.refusal", "model.start", "model.usage", "breaker"]
    kind = draw(st.sampled_from(kinds))
    told = {
        "parent_unit": parent,
        "role": draw(st.sampled_from(["primary", "retry", "fallback", "hedge"])),
        "limiter": draw(st.sampled_from(["openai", "search", "unheard of"])),
        "dimension": draw(st.sampled_from(["", "requests_per_minute", "concurrency"])),
        "model": "small",
        "call": draw(CALLS),
        **{name: draw(COUNTS) for name in ("input_tokens", "output_tokens", "cached_tokens")},
        "requests": 1,
        "tokens": draw(st.integers(0, 500)),
    }
    if kind == "branch.end":
        told["reader"] = ((at - draw(st.sampled_from([0.5, 3.0])), at),)
    if kind == "limiter.wait":
        told |= {"input_tokens": 1, "output_tokens": 1}
    return Event(
        kind=kind,  # type: ignore[arg-type]
        at=at,
        run_id=run_id,
        path=path,
        unit=unit,
        seconds=draw(SECONDS),
        outcome=draw(OUTCOMES),
        error=draw(st.sampled_from([None, ErrorKind.TIMEOUT, ErrorKind.CONNECTION])),
        attempt=draw(st.integers(1, 3)),
        detail=told,
    )


@st.composite
def heard(draw: st.DrawFn) -> list[Event]:
    """Events of two fan-outs, one in the other, and of a policy alone, in any order."""
    at, events = draw(SECONDS), []
    cap = draw(st.none() | st.integers(1, 3))
    for _ in range(draw(st.integers(0, 40))):
        at += draw(SECONDS)
        run_id = draw(st.sampled_from([OUTER, INNER]))
        match draw(st.integers(0, 11)):
            case 0:
                events.append(_start(run_id, at, max_concurrency=cap))
            case 1:
                path = ("a", "each") if run_id == INNER else ()
                ended = {"at": at, "run_id": run_id, "path": path, "outcome": draw(st.sampled_from(["ok", "failed"]))}
                events.append(Event(kind="fan_out.end", **ended))
            case _:
                events.append(draw(_of_a_branch(at)))
    if draw(st.booleans()):  # as it is in truth: what runs has been begun
        events = [_start(OUTER, 0.0, max_concurrency=cap), _start(INNER, 0.0, max_concurrency=cap), *events]
    return events


def _read(events: list[Event], now: float) -> RunReport:
    report = RunReport({"small": (1, 2)}, clock=lambda: now if report._collector.heard else 0.0)
    for event in events:
        report.take_in(event)
    return report


def _checked_branch(branch: BranchReport, fan_out: FanOutReport) -> None:
    one = fan_out.measures.branches.get(branch.path) or measure_branch(branch, fan_out.price)
    assert branch.seconds >= 0
    assert one.useful >= 0
    assert one.wasted >= one.lost["wasted"] - 1e-6
    assert min(one.lost.values()) >= 0
    assert one.useful + sum(one.lost.values()) == pytest.approx(branch.seconds, abs=1e-6)
    assert branch.wait >= 0
    assert branch.backoff >= 0
    for segment in one.timeline.segments:
        assert branch.started - 1e-6 <= segment.started <= segment.ended <= branch.ended + 1e-6
    for cost in (one.cost, one.cost_useful):
        assert cost is None or cost >= 0
    if one.cost is not None and one.cost_useful is not None:
        assert one.cost_useful <= one.cost + 1e-9


def _checked(report: RunReport) -> None:
    for fan_out in report.fan_outs:
        told = fan_out.measures
        for branch in fan_out.branches.values():
            _checked_branch(branch, fan_out)
        assert told.useful == pytest.approx(sum(told.branches[one.path].useful for one in fan_out.own_branches))
        costs = [told.branches[one.path].cost for one in fan_out.own_branches]
        assert told.cost is None or told.cost == pytest.approx(sum(cost or 0 for cost in costs))
        for share in (told.efficiency, told.limit_efficiency, told.utilisation):
            assert share is None or 0 <= share <= 1
        for rate in (told.attempt_error_rate, told.branch_error_rate):
            assert rate is None or 0 <= rate <= 1
        assert told.floor is None or 0 <= told.floor <= (fan_out.seconds or 0)
        assert all(use.used >= 0 and use.allowed >= 0 for use in told.limiter_use)
    _shown(report)


def _shown(report: RunReport) -> None:
    assert str(report)
    assert survives(report._repr_html_())
    plain = json.loads(report.to_json())
    names = [branch["name"] for one in plain["fan_outs"] for branch in one["branches"]]
    assert names == [row["branch"] for row in report.rows()] == [one.name for one in report.branches]
    assert len(set(names)) == len(names) or len(plain["fan_outs"]) > 1
    for event in report.to_chrome_trace()["traceEvents"]:
        assert event.get("dur", 0) >= 0


@settings(max_examples=150, deadline=None)
@given(heard(), st.floats(0, 1), SECONDS)
def test_times_add_up_and_reports_can_be_shown_at_any_moment(events: list[Event], part: float, later: float) -> None:
    for many in {round(part * len(events)), len(events)}:
        last = max((event.at for event in events[:many]), default=0.0)
        _checked(_read(events[:many], last + later))
