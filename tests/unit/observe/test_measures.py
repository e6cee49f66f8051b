"""The numbers of a report, against numbers worked out by hand, and what holds for any run."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatResult

from langchain_parallel_plus import BranchPolicy, RateLimiter, RetryPolicy, RunnableParallelPlus, collect_report
from langchain_parallel_plus.observe import FanOutReport, LimiterState, RateState
from langchain_parallel_plus.observe.measures import measure
from langchain_parallel_plus.observe.prices import price_of
from langchain_parallel_plus.observe.timeline import timeline
from langchain_parallel_plus.observe.together import together
from tests.unit.observe.records import attempt, branch, call, fan_out, per_second, wait


class SlowModel(GenericFakeChatModel):
    """Answers after one second of the loop's time."""

    async def _agenerate(self, *args: object, **kwargs: object) -> ChatResult:
        await asyncio.sleep(1)
        return self._generate(*args, **kwargs)  # type: ignore[arg-type]


def _trap() -> FanOutReport:
    """Ten branches of a second each, behind one request a second."""
    branches = [
        branch(f"b{i}", 0, i + 1, wait_log=(wait(0, i, dimension="requests_per_minute" if i else ""),))
        for i in range(10)
    ]
    return fan_out(*branches, seconds=10, limiters=(per_second(1),))


def test_the_worked_trap_is_no_speedup() -> None:
    trap = _trap()
    measures = measure(trap)
    naive = sum(one.seconds for one in trap.branches.values()) / 10
    assert naive == 5.5  # what a sum of durations would say
    assert measures.speedup == pytest.approx(1.0)
    assert measures.limit_efficiency == pytest.approx(1.0)
    assert measures.floor == pytest.approx(10)
    assert measures.efficiency == pytest.approx(0.1)
    assert measures.critical == ("b9",)
    assert measures.lost == {"wait": 9, "backoff": 0, "wasted": 0, "cap": 0, "reader": 0, "overhead": 0}
    assert measures.straggler == pytest.approx(1.0)  # all work for a second: no hedge would help
    assert measures.branches["b0",].slack == 9
    [use] = measures.limiter_use
    assert (use.used, use.allowed) == (10, 11)


@pytest.mark.looptime
async def test_the_worked_trap_is_no_speedup_when_it_really_runs() -> None:
    loop = asyncio.get_running_loop()
    limiter = RateLimiter(requests_per_minute=60, burst=1, clock=loop.time)
    model = SlowModel(messages=iter([AIMessage("well")] * 10))
    chain = RunnableParallelPlus({f"b{i}": model for i in range(10)}).with_limits(limiter)
    with collect_report() as report:
        await chain.ainvoke("ask")
    [told] = report.fan_outs
    assert told.seconds == pytest.approx(10, rel=0.03)  # the limiter keeps 2 % below the rate
    assert told.measures.speedup == pytest.approx(1.0, rel=0.03)
    assert told.measures.limit_efficiency == pytest.approx(1.0, rel=0.03)
    assert told.measures.lost["wait"] == pytest.approx(9, rel=0.03)
    assert told.measures.lost["overhead"] == pytest.approx(0, abs=0.01)


def test_branches_that_are_not_held_up_are_a_speedup() -> None:
    measures = measure(fan_out(branch("a", 0, 1), branch("b", 0, 2), branch("c", 0, 4), seconds=4))
    assert measures.speedup == 7 / 4
    assert measures.efficiency == pytest.approx(7 / 12)
    assert measures.utilisation == pytest.approx(7 / 12)
    assert measures.straggler == 2
    assert measures.limit_efficiency is None  # no limits
    assert measures.floor == 4


def test_a_cap_is_a_limit() -> None:
    branches = [branch(key, began, began + 2, capped=True) for key, began in (("a", 0), ("b", 0), ("c", 2), ("d", 2))]
    measures = measure(fan_out(*branches, seconds=4, max_concurrency=2))
    assert (measures.speedup, measures.efficiency, measures.limit_efficiency) == (2, 1, 1)
    assert measures.lost == {"wait": 0, "backoff": 0, "wasted": 0, "cap": 2, "reader": 0, "overhead": 0}


def test_one_branch_or_none_is_nothing_to_compare() -> None:
    alone = measure(fan_out(branch("a", 0, 1), seconds=1, limiters=(per_second(1),)))
    assert (alone.speedup, alone.efficiency, alone.limit_efficiency, alone.straggler) == (None,) * 4
    nothing = measure(fan_out(seconds=0))
    assert (nothing.speedup, nothing.utilisation, nothing.critical, nothing.branch_error_rate) == (None,) * 4


def test_failures_are_left_out_on_both_sides_and_count_as_wasted() -> None:
    measures = measure(fan_out(branch("good", 0, 2), branch("bad", 0, 3, outcome="failed"), seconds=3))
    assert measures.useful == 2
    assert measures.speedup == pytest.approx(2 / 3)
    assert measures.branches["bad",].wasted == 3
    assert measures.lost["wasted"] == 3
    assert (measures.failed_branches, measures.branch_error_rate) == (1, 0.5)


def test_all_failed_is_no_speed() -> None:
    failed = measure(fan_out(*(branch(key, 0, 1, outcome="failed") for key in "ab"), seconds=1, outcome="failed"))
    assert failed.speedup is None
    assert failed.efficiency is None


def test_a_recovered_retry_is_one_failed_attempt_and_no_failed_branch() -> None:
    log = (attempt(1, 0, 2, "failed"), attempt(2, 3, 7, "ok", "retry"))
    retried = branch("a", 0, 8, outcome="recovered", attempts=2, attempt_log=log, backoff_log=((2, 3),))
    measures = measure(fan_out(retried, branch("b", 0, 1), seconds=8))
    assert measures.branches["a",].useful == 4
    assert measures.lost == {"wait": 0, "backoff": 1, "wasted": 2, "cap": 0, "reader": 0, "overhead": 1}
    assert (measures.attempts, measures.failed_attempts, measures.failed_branches) == (3, 1, 0)
    assert (measures.attempt_error_rate, measures.branch_error_rate) == (pytest.approx(1 / 3), 0)
    assert [one.activity for one in measures.branches["a",].timeline.segments] == ["wasted", "backoff", "useful"]


def test_the_loser_of_a_hedge_is_wasted_work_but_no_lost_time() -> None:
    log = (attempt(1, 0, 5, "cancelled"), attempt(2, 3, 5, "ok", "hedge"))
    measures = measure(fan_out(branch("a", 0, 5, attempts=2, attempt_log=log), branch("b", 0, 1), seconds=5))
    hedged = measures.branches["a",]
    assert hedged.useful == 2
    assert hedged.wasted == 5  # counted until it was cancelled
    assert hedged.lost["wasted"] == 3  # of which 2 beside useful work
    assert measures.failed_attempts == 0


def test_a_branch_whose_calls_wait_in_turn_waits_only_while_none_is_under_way() -> None:
    # One call runs from 0 to 5; another waits from 0 to 4 beside it, and ends at 6.
    both = branch("a", 0, 6, wait_log=(wait(0, 4), wait(0, 0, dimension="")), model_calls=(call(0, 5), call(4, 6)))
    line = timeline(both)
    assert line.seconds("wait") == 0
    assert line.seconds("useful") == 6
    assert both.wait == 4  # each call's own wait


def test_what_a_policy_inside_a_branch_wastes_is_lost_to_the_branch() -> None:
    log = (attempt(1, 1, 2, "failed"), attempt(2, 4, 6, "ok", "retry"))
    inner = replace(
        branch("a", 1, 6, outcome="recovered", attempt_log=log, backoff_log=((2, 4),)), path=("a", "model"), started=1
    )
    inner = replace(inner, seconds=5)
    line = timeline(branch("a", 0, 7, inner=(inner,)))
    told = {name: line.seconds(name) for name in ("useful", "wasted", "backoff", "overhead")}  # type: ignore[arg-type]
    assert told == {"useful": 4, "wasted": 1, "backoff": 2, "overhead": 0}


def test_a_branch_waits_when_all_branches_of_its_nested_fan_out_do() -> None:
    quick = replace(branch("x", 0, 4, wait_log=(wait(0, 1),)), path=("a", "x"))
    slow = replace(branch("y", 0, 6, wait_log=(wait(0, 3),)), path=("a", "y"))
    nested = fan_out(quick, slow, seconds=6, path=("a",))
    outer = branch("a", 0, 6, nested=(nested,))
    measures = measure(fan_out(outer, branch("b", 0, 2), seconds=6))
    assert measures.branches["a",].lost["wait"] == 1  # later on, x works
    assert measures.branches["a",].useful == 5
    assert measures.critical_path == (("a",), ("a", "y"))
    assert measures.attempts == 2  # the nested fan-out has its own numbers
    assert measure(nested).attempts == 2


def test_the_floor_of_tokens_counts_what_was_used() -> None:
    # 100 tokens a second, 100 there at the start: 700 tokens are there 6 s later, then the last call's second.
    rates = {"tokens_per_minute": RateState(limit=6000, window=60, available=100)}
    branches = []
    for i in range(7):
        one = call(i, i + 1, tokens=(60, 40))
        waited = wait(0, i, call=one.call, tokens=500, dimension="tokens_per_minute")
        branches.append(branch(f"b{i}", 0, i + 1, wait_log=(waited,), model_calls=(one,)))
    run = fan_out(*branches, seconds=7, limiters=(LimiterState(name="openai", rates=rates),))
    assert measure(run).floor == pytest.approx(7)
    assert measure(run).limiter_use[0].used == 700


def test_a_pause_is_a_floor_too_and_a_floor_that_was_beaten_is_none() -> None:
    late = [branch(key, 0, 6, wait_log=(wait(0, 5, dimension="pause"),)) for key in "ab"]
    paused = fan_out(*late, seconds=6, limiters=(per_second(100, available=100, paused_for=5.0),))
    assert measure(paused).floor == 6
    quick = [branch(key, 0, 1, wait_log=(wait(0, 0),)) for key in "ab"]
    lucky = fan_out(*quick, seconds=1, limiters=(per_second(0.1),))
    assert measure(lucky).limit_efficiency == 1


@pytest.mark.looptime
async def test_retries_and_waits_of_a_real_run_add_up() -> None:
    left = [ConnectionError("down")]

    async def flaky(_: str) -> str:
        await asyncio.sleep(2)
        if left:
            raise left.pop()
        return "done"

    async def steady(_: str) -> str:
        await asyncio.sleep(3)
        return "done"

    policy = BranchPolicy(retry=RetryPolicy(initial_interval=1, jitter=False))
    with collect_report() as report:
        await RunnableParallelPlus(flaky=flaky, steady=steady).with_policy(policy).ainvoke("in")
    measures = report.fan_outs[0].measures
    assert measures.speedup == pytest.approx((2 + 3) / 5)
    assert measures.lost["wasted"] == pytest.approx(2)
    assert measures.lost["backoff"] == pytest.approx(1)
    assert measures.branches["steady",].slack == pytest.approx(2)


SECONDS = st.floats(0, 50, allow_nan=False).map(lambda value: round(value, 3))


@st.composite
def runs(draw: st.DrawFn) -> FanOutReport:
    made = []
    for number in range(draw(st.integers(1, 6))):
        began, log, backoffs, at = draw(SECONDS), [], [], 0.0
        at = began
        for n in range(1, draw(st.integers(1, 4)) + 1):
            ended = at + draw(SECONDS)
            log.append(attempt(n, at, ended, draw(st.sampled_from(["failed", "ok", "cancelled"]))))
            start = draw(st.floats(at, ended)) if draw(st.booleans()) else ended  # a hedge, or what follows
            at = start + (draw(SECONDS) if start == ended else 0)
            if start == ended:
                backoffs.append((ended, at))
        ended = max(one.ended for one in log) + draw(SECONDS)
        waits = tuple(wait(start, start + draw(SECONDS)) for start in draw(st.lists(SECONDS, max_size=3)))
        made.append(
            branch(
                f"b{number}", began, ended,
                outcome=draw(st.sampled_from(["ok", "recovered", "failed", "timed_out", "skipped", "cancelled"])),
                attempt_log=tuple(log), backoff_log=tuple(backoffs), wait_log=waits, capped=draw(st.booleans()),
            )
        )  # fmt: skip
    cap = draw(st.none() | st.integers(1, 4))
    state = draw(st.booleans())
    longest = max(one.seconds for one in made)
    return fan_out(
        *made, seconds=longest + draw(SECONDS), max_concurrency=cap, limiters=(per_second(1),) if state else ()
    )


@settings(max_examples=300, deadline=None)
@given(runs())
def test_time_adds_up_and_no_share_is_more_than_all(run: FanOutReport) -> None:
    measures = measure(run)
    for path, one in measures.branches.items():
        total = one.useful + sum(one.lost.values())
        assert total == pytest.approx(run.branches[path].seconds, abs=1e-6)
        assert one.useful >= 0
        assert min(one.lost.values()) >= 0
        assert one.wasted >= one.lost["wasted"] - 1e-6
        segments = one.timeline.segments
        assert all(a.ended <= b.started + 1e-9 for a, b in itertools.pairwise(segments))
        assert sum(s.ended - s.started for s in segments) == pytest.approx(total - one.lost["overhead"], abs=1e-6)
    for share in (measures.efficiency, measures.limit_efficiency, measures.utilisation):
        assert share is None or 0 <= share <= 1
    assert measures.speedup is None or measures.speedup <= measures.ran
    assert measures.floor is None or 0 <= measures.floor <= (run.seconds or 0)


def test_what_nobody_has_counted_has_no_known_cost() -> None:
    silent = replace(call(0, 1), input_tokens=None, output_tokens=None)
    priced = {"price": price_of({"small": (1, 2)})}
    assert fan_out(branch("a", 0, 1, model_calls=(silent,)), seconds=1, **priced).measures.cost is None
    refused = replace(silent, failed=True)
    assert fan_out(branch("a", 0, 1, model_calls=(refused,)), seconds=1, **priced).measures.cost == 0


def test_runs_together_have_the_limits_of_all() -> None:
    quick = fan_out(branch("a", 0, 1), seconds=1, limiters=(per_second(1000, name="fast"),))
    slow = fan_out(branch("b", 0, 1), seconds=1, limiters=(per_second(1, name="slow"),))
    whole = together([quick, slow])
    assert whole is not None
    assert sorted(state.name for state in whole.limiters) == ["fast", "slow"]
