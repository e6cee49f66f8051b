"""What notebooks show: all of it survives their sanitizer, and nothing of it is anybody's markup but ours."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from langchain_parallel_plus import (
    BranchPolicy,
    HedgePolicy,
    JoinPolicy,
    RateLimiter,
    RetryPolicy,
    RunnableParallelPlus,
    RunnableWithPolicy,
)
from langchain_parallel_plus.display.text import report_text
from langchain_parallel_plus.display.waterfall import report_html
from langchain_parallel_plus.observe import RunReport, collect_report, compare
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.unit.display.sanitizer import cells, survives

HOSTILE = '<script>alert("1")</script>\n\x1b[31m"\' onmouseover="x" & </div>'
RETRY = BranchPolicy(retry=RetryPolicy(max_attempts=2, initial_interval=0.001, jitter=False), on_failure="keep")


def _bad(_: Any) -> Any:
    raise ConnectionError(HOSTILE)


def _run(fan_out: RunnableParallelPlus[Any], times: int = 1, **options: Any) -> RunReport:
    with collect_report(**options) as report:
        fan_out.batch(["ask"] * times)
    return report


def test_a_report_survives_with_hostile_names_and_errors() -> None:
    model = ScriptedChatModel(["well"], cycle=True, model="small")
    limiter = RateLimiter(requests_per_minute=1e6, name=f"hostile {HOSTILE}")
    inner: RunnableParallelPlus[Any] = RunnableParallelPlus({f"in {HOSTILE}": model})
    fan_out = RunnableParallelPlus({HOSTILE: _bad, "nested": inner, "model": model}, name=HOSTILE)
    report = _run(fan_out.with_policy(RETRY).with_limits(limiter), prices={"small": (1, 2)})
    html = report._repr_html_()
    shown = survives(html)
    assert "<script" not in html
    assert '<script>alert("1")</script>' in shown
    assert "critical branch" in shown
    text = str(report)
    assert "\x1b" not in text
    assert "<script>" in text
    json.loads(report.to_json())


def test_every_row_of_a_priced_waterfall_has_its_cost_and_its_tokens() -> None:
    model = ScriptedChatModel(["one two three"], cycle=True, model="small")
    each = RunnableWithPolicy(model, RETRY, name="each")
    inner: RunnableParallelPlus[Any] = RunnableParallelPlus(x=model, y=model)
    fan_out = RunnableParallelPlus(plain=model, nested=inner, called=lambda text: [each.invoke(text) for _ in range(2)])
    report = _run(fan_out, prices={"small": (1e6, 0)})  # a token sent costs 1
    told = {row[0]: row for row in cells(report._repr_html_())}
    once = report.branches[0].input_tokens
    costs = {name: float(row[-1]) for name, row in told.items() if name != "branch"}
    assert costs == {
        "plain": once, "nested": 2 * once, "x": once, "y": once, "called": 2 * once, "each": once, "each #2": once,
    }  # fmt: skip
    tokens = {name: row[-2] for name, row in told.items()}
    assert tokens["called"] == tokens["nested"] != tokens["x"] == tokens["each #2"] == tokens["plain"]
    priced = {row["branch"]: row["cost"] for row in report.rows()}
    assert priced["called"] == priced["called/each"] + priced["called/each #2"]
    assert sum(row["cost"] for row in report.rows() if row["depth"] == 1) == report.cost == 5 * once
    assert re.search(rf"\ncalled/each #2 .* {once}  ", str(report))


def test_a_waterfall_reads_without_its_styles() -> None:
    html = _run(RunnableParallelPlus(good=len, bad=_bad).with_policy(RETRY))._repr_html_()
    rows = {row[0]: row for row in cells(html)}
    assert rows["branch"][2:] == ["outcome", "seconds", "attempts", "tokens"]
    assert rows["good"][2] == "ok"
    assert rows["bad"][2] == "failed (connection)"
    assert rows["bad"][4] == "2"
    assert rows["bad"][3].endswith(" s")


def test_many_runs_show_percentiles_and_the_slowest_run() -> None:
    report = _run(RunnableParallelPlus(a=len, b=len), times=5)
    shown = survives(report_html(report))
    assert "p95" in shown
    assert "the slowest run" in shown
    assert "4 more, the slowest first" in shown
    assert "p95" in report_text(report)


def test_of_many_branches_the_first_fifty_are_shown() -> None:
    report = _run(RunnableParallelPlus({f"b{i}": len for i in range(260)}))
    html = report_html(report)
    assert "210 more branches" in survives(html)
    assert "... and 60 more" in survives(html)
    assert html.index("b49") < html.index("<details") < html.index("b50")
    assert "... and 210 more branches" in str(report)


def test_nothing_ran() -> None:
    with collect_report() as report:
        pass
    assert survives(report._repr_html_()) == str(report) == "no fan-out ran"


def test_a_page_is_written(tmp_path: Path) -> None:
    report = _run(RunnableParallelPlus(a=len))
    html = report.to_html(tmp_path / "report.html")
    written = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert written.startswith("<!DOCTYPE html>")
    assert html in written


def test_a_trace_is_of_complete_events_that_nest() -> None:
    trace = _run(RunnableParallelPlus(a=_bad, b=len).with_policy(RETRY)).to_chrome_trace()
    events = json.loads(json.dumps(trace))["traceEvents"]
    assert {one["ph"] for one in events} == {"M", "X"}
    assert {one["args"]["name"] for one in events if one["name"] == "thread_name"} == {"fan-out", "a", "b"}
    by_thread: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for one in events:
        if one["ph"] == "X":
            assert one["dur"] >= 0
            by_thread.setdefault((one["pid"], one["tid"]), []).append((one["ts"], one["ts"] + one["dur"]))
    for spans in by_thread.values():
        for start, end in spans:
            for other, after in spans:
                assert not start + 0.01 < other < end - 0.01 or after <= end + 0.01


def test_rows_are_flat() -> None:
    rows = _run(RunnableParallelPlus(a=_bad, b=len).with_policy(RETRY)).rows()
    assert [one["branch"] for one in rows] == ["a", "b"]
    assert [one["attempts"] for one in rows] == [2, 1]
    assert all(not isinstance(value, (list, dict)) for one in rows for value in one.values())


@pytest.mark.parametrize("branches", [2, 260])
def test_a_fan_out_shows_what_it_is(branches: int) -> None:
    steps: dict[str, Any] = {HOSTILE: len, "two": RunnableParallelPlus(x=len) | len}
    steps |= {f"b{i}": len for i in range(branches - 2)}
    limiter = RateLimiter(requests_per_minute=5, name="shown quota")
    fan_out = RunnableParallelPlus(steps, name="research", join=JoinPolicy(min_success=1))
    fan_out = fan_out.with_policy(RETRY, two=BranchPolicy(weight=3)).with_limits(limiter)
    html = survives(fan_out._repr_html_())
    text = str(fan_out)
    for shown in (html, text):
        assert f", {branches} branches, JoinPolicy(min_success=1)" in shown
        assert "retry=RetryPolicy(max_attempts=2" in shown
        assert "RunnableParallel<x> | len" in shown
        assert "shown quota" in shown
        assert "<script>alert" in shown
        assert ("210 more branches" in shown) == (branches == 260)


def test_a_plain_fan_out_has_no_policy_and_no_limits() -> None:
    assert str(RunnableParallelPlus(length=len)).splitlines() == [
        "RunnableParallel<length>, 1 branch",
        "branch  runnable  policy  limits",
        "length  len       -       -",
    ]


def test_a_comparison_survives() -> None:
    assert "RunnableParallel" in survives(compare(RunnableParallelPlus(a=len, b=len), ["in"])._repr_html_())


def test_a_fan_outs_graph_says_how_its_branches_are_treated() -> None:
    policy = BranchPolicy(retry=RetryPolicy(max_attempts=4))
    fan_out = (
        RunnableParallelPlus(length=len).with_policy(policy).with_limits(RateLimiter(concurrency=2, name="openai"))
    )
    drawn = fan_out.get_graph().draw_mermaid()
    assert "policy = retry=RetryPolicy#40;max_attempts=4#41;" in drawn
    assert "limits = openai" in drawn
    assert "policy" not in RunnableParallelPlus(length=len).get_graph().draw_mermaid()


def test_the_text_says_what_a_branch_s_seconds_went_on_with_all_that_it_called() -> None:
    limiter = RateLimiter(requests_per_minute=6000, name="quota of the text")
    limiter.pause(0.2)
    model = ScriptedChatModel(["well"], cycle=True, model="small")
    each = RunnableWithPolicy(model, RETRY, name="each")
    text = str(
        _run(RunnableParallelPlus(a=lambda value: each.invoke(value), b=_bad).with_policy(b=RETRY).with_limits(limiter))
    )
    head, *rows = [re.split(" {2,}", line) for line in text[text.index("branch  ") :].split("\n")]
    assert head[:5] == ["branch", "outcome", "attempts", "useful s", "wait s"]
    assert "queued s" not in head  # of what took no time there is no column
    waits = {row[0]: float(row[4]) for row in rows[:2]}
    assert waits["a"] == waits["a/each"] >= 0.1
    assert "utilisation: share of the slots' time" in text  # what the numbers above are
    assert "speedup: sum of useful work" not in text or "speedup " in text.split("branch  ")[0]


def test_an_error_of_no_known_kind_is_told_by_its_class() -> None:
    def odd(_: Any) -> None:
        raise LookupError("which may quote a prompt")

    text = str(_run(RunnableParallelPlus(a=odd, b=len).with_policy(BranchPolicy(on_failure="keep"))))
    assert "failed (LookupError)" in text
    assert "quote" not in text


def test_a_hedge_is_a_call_that_was_made() -> None:
    slow, over = threading.Event(), threading.Event()

    def once_slow(value: Any) -> Any:
        if not slow.is_set():
            slow.set()
            over.wait(10)
        return value

    policy = BranchPolicy(hedge=HedgePolicy(delay=0.05))
    with collect_report() as report:
        RunnableParallelPlus(a=once_slow, b=len).with_policy(a=policy).invoke("in")
    over.set()
    [hedged, _] = report.branches
    assert hedged.attempts == 2
    assert [one.role for one in hedged.attempt_log] == ["primary", "hedge"]


def test_a_long_name_keeps_its_number() -> None:
    each = RunnableWithPolicy(len, RETRY, name="a tool with a name that goes on and on")
    text = str(_run(RunnableParallelPlus(a=lambda value: [each.invoke(value) for _ in range(12)], b=len)))
    assert " and on #12 " in text
    assert len({line.split("  ")[0] for line in text.split("\n") if line.startswith("a/")}) == 12


async def test_of_a_run_that_was_cancelled_nothing_is_advised() -> None:
    begun = asyncio.Event()

    async def slow(_: Any) -> None:
        begun.set()
        await asyncio.sleep(60)

    with collect_report() as report:
        task = asyncio.create_task(RunnableParallelPlus(a=slow, b=slow).ainvoke("in"))
        await begun.wait()
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    for shown in (str(report), survives(report._repr_html_())):
        assert ", cancelled" in shown
        assert "a fallback" not in shown
