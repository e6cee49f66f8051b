"""What is shown of runs that go on."""

from __future__ import annotations

import io
import sys
import threading
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_parallel_plus import BranchPolicy, RateLimiter, RetryPolicy, RunnableParallelPlus
from langchain_parallel_plus.display.progress import ProgressLine, progress_text
from langchain_parallel_plus.observe import Event, LimiterState, progress, subscribed
from langchain_parallel_plus.observe.progress import _draw
from langchain_parallel_plus.observe.tally import Tallied, Tally
from langchain_parallel_plus.observe.time_left import time_left
from langchain_parallel_plus.observe.watched import watch
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.modes import Mode
from tests.unit.display.sanitizer import survives

RUN = uuid4()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def test_all_is_done_in_the_end(mode: Mode) -> None:
    tally = Tally()
    fan_out = RunnableParallelPlus(a=len, b=lambda _: 1 / 0, nested=RunnableParallelPlus(c=len))
    with subscribed(tally.take_in):
        await mode.run(fan_out.with_policy(BranchPolicy(on_failure="keep")), "in", None)
    assert tally.now() == Tallied(total=4, done=4, failed=1)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def waiting(tally: Tally, limiter: RateLimiter, calls: int, **admitted: float) -> None:
    """Let so many calls wait, after one that was admitted with these amounts."""
    told = {"limiter": limiter.name, "model": "m"}

    def event(kind: Any, **detail: Any) -> Event:
        return Event(kind=kind, at=0.0, run_id=RUN, path=("x",), unit=1, detail={**told, **detail})

    if admitted:
        tally.take_in(event("limiter.wait", call=uuid4(), dimension="", **admitted))
    for _ in range(calls):
        tally.take_in(event("limiter.queue", call=uuid4(), depth=1))


@pytest.mark.parametrize(
    ("limits", "admitted", "seconds"),
    [
        ({"requests_per_minute": 60}, {"requests": 1}, 3),
        ({"requests_per_minute": 60}, {"requests": 3}, 13),
        ({"requests_per_minute": 60}, {}, 3),
        ({"tokens_per_minute": 600}, {"requests": 1, "tokens": 20}, 8),
        ({"input_tokens_per_minute": 600}, {"requests": 1, "input_tokens": 30, "tokens": 90}, 13),
        ({"output_tokens_per_minute": 600}, {"requests": 1, "output_tokens": 10, "tokens": 90}, 3),
        ({"requests_per_minute": 60, "output_tokens_per_minute": 600}, {"requests": 1, "output_tokens": 10}, 3),
        ({"requests_per_minute": 60, "output_tokens_per_minute": 600}, {"requests": 1, "output_tokens": 60}, 28),
    ],
)
def test_the_time_left_is_that_of_the_tightest_rate(limits: Any, admitted: Any, seconds: float) -> None:
    limiter = RateLimiter(
        **limits, burst=2.0, name=f"time left {uuid4()}", clock=Clock()
    )  # two seconds' worth are there
    watch(limiter)
    tally = Tally()
    waiting(tally, limiter, 5, **admitted)
    assert tally.now().left == {limiter.name: pytest.approx(seconds, rel=0.03)}  # it keeps to a little less than all


def test_a_pause_is_part_of_the_time_left() -> None:
    clock = Clock()
    limiter = RateLimiter(requests_per_minute=60, burst=2.0, name="time left after a pause", clock=clock)
    watch(limiter)
    tally = Tally()
    waiting(tally, limiter, 5, requests=1)
    limiter.pause(30)
    assert tally.now().left[limiter.name] == pytest.approx(30 + 4, rel=0.02)  # one may pass right at the end
    clock.now += 20
    assert tally.now().left[limiter.name] == pytest.approx(10 + 4, rel=0.02)


def test_where_nothing_will_be_let_through_no_time_is_told() -> None:
    limiter = RateLimiter(requests_per_minute=60, name="out of credit", clock=Clock())
    watch(limiter)
    tally = Tally()
    waiting(tally, limiter, 5)
    limiter.account.turnstile.close("out of credit")
    assert tally.now().left == {}
    assert "about" not in progress_text(tally.now())


def test_for_slots_the_time_left_is_that_of_the_calls_so_far() -> None:
    tally = Tally()
    limiter = RateLimiter(concurrency=2, name="two slots", clock=Clock())
    start = {"name": "n", "branches": ["x"], "limiters": (LimiterState(name=limiter.name, concurrency=2),)}
    tally.take_in(Event(kind="fan_out.start", at=0.0, run_id=RUN, detail=start))
    waiting(tally, limiter, 6)
    assert tally.now().left == {}
    call = {"model": "m", "call": uuid4()}
    tally.take_in(Event(kind="model.start", at=1.0, run_id=RUN, path=("x",), detail=call))
    tally.take_in(Event(kind="model.usage", at=5.0, run_id=RUN, path=("x",), detail=call))
    assert tally.now().left == {limiter.name: 12.0}


class Rates(NamedTuple):
    limit: float
    window: float
    available: float
    utilisation: float


class Stands(NamedTuple):
    rates: dict[str, Rates]
    queued: int
    paused_for: float
    closed: str | None


FINITE = st.floats(0, 1e12)


@given(
    st.dictionaries(
        st.sampled_from(["requests_per_minute", "tokens_per_day", "input_tokens_per_minute"]),
        st.builds(Rates, FINITE, st.floats(1e-3, 1e6), st.floats(-1e12, 1e12), st.floats(0, 1)),
    ),
    st.floats(0, 1e9),
    st.none() | st.just("why"),
    st.dictionaries(st.sampled_from(["requests", "tokens", "input_tokens"]), FINITE),
)
def test_a_time_left_is_never_negative_and_never_infinite(
    rates: dict[str, Rates], paused: float, closed: str | None, amounts: dict[str, float]
) -> None:
    left = time_left(Stands(rates, 1, paused, closed), amounts)
    assert left is None or (0 < left < float("inf"))
    assert left is None or left >= paused


def test_what_waits_is_told_with_its_limit_and_the_time_left() -> None:
    tally, seen = Tally(), []
    limiter = RateLimiter(requests_per_minute=1200, burst=0.05, name="progress quota")
    model = ScriptedChatModel(["well"], cycle=True)

    def listen(event: Any) -> None:
        tally.take_in(event)
        seen.append(tally.now())

    with subscribed(listen):
        RunnableParallelPlus(a=model, b=model, c=model).with_limits(limiter).invoke("ask")
    most = max(seen, key=lambda told: told.waiting.get("progress quota", 0))
    count = most.waiting["progress quota"]
    assert 0 < most.left["progress quota"] <= (count + 2) / 19  # the queue may have two more by then
    assert f"{count} waiting for progress quota (about" in progress_text(most)
    assert tally.now() == Tallied(total=3, done=3)


def test_a_retry_is_told() -> None:
    tally, seen, left = Tally(), [], [ConnectionError("down")]

    def flaky(value: str) -> str:
        seen.append(tally.now())
        if left:
            raise left.pop()
        return value

    retry = BranchPolicy(retry=RetryPolicy(initial_interval=0.001, jitter=False))
    with subscribed(tally.take_in):
        RunnableParallelPlus(a=flaky).with_policy(retry).invoke("in")
    assert seen == [Tallied(total=1, running=1), Tallied(total=1, retrying=1)]


def test_at_most_four_updates_are_shown_in_a_second() -> None:
    """On a clock that only the waits move: the last update follows one of those at once."""
    shown: list[float] = []

    class Over(threading.Event):
        now = 0.0

        def wait(self, timeout: float | None = None) -> bool:
            self.now += timeout or 0.0
            return self.now > 10

    over = Over()
    _draw(lambda told, last: shown.append(over.now), Tallied, over)
    shown.append(shown[-1])
    assert len(shown) > 25
    assert all(fifth - first >= 1 for first, fifth in zip(shown, shown[4:], strict=False))


def test_a_terminal_shows_one_line_that_stays_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress():
        for _ in range(50):
            RunnableParallelPlus(a=len, b=len).invoke("in")
    shown = terminal.getvalue()
    assert shown.rstrip(" \n").endswith("100/100 branches done")
    assert shown.endswith("\n")
    assert shown.count("\n") == 1
    assert "lcpp-progress" not in {thread.name for thread in threading.enumerate()}


def test_it_is_off_where_stderr_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with progress():
        RunnableParallelPlus(a=len).invoke("in")
    assert not stream.getvalue()


def test_a_terminal_that_is_gone_disturbs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress():
        terminal.close()
        assert RunnableParallelPlus(a=len).invoke("in") == {"a": 2}


def test_a_notebook_updates_one_output(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[ProgressLine] = []

    def display(line: ProgressLine, display_id: bool) -> Any:
        assert display_id
        shown.append(line)
        return SimpleNamespace(update=shown.append)

    ipython: Any = ModuleType("IPython")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=object())
    ipython.display = SimpleNamespace(display=display)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    with progress():
        RunnableParallelPlus(a=len).invoke("in")
    assert repr(shown[-1]) == "1/1 branches done"
    assert survives(shown[-1]._repr_html_()) == "1/1 branches done"


def test_a_notebook_without_widgets_gets_updates_of_one_display(monkeypatch: pytest.MonkeyPatch) -> None:
    """IPython's own messages, as a kernel sends them."""
    InteractiveShell = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell
    shell = InteractiveShell.instance()
    published: list[dict[str, Any]] = []
    monkeypatch.setattr(shell, "kernel", object(), raising=False)
    monkeypatch.setattr(shell.display_pub, "publish", lambda data, **facts: published.append({"data": data, **facts}))
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    monkeypatch.setattr(InteractiveShell, "initialized", classmethod(lambda cls: True))
    try:
        with progress():
            RunnableParallelPlus(a=len).invoke("in")
    finally:
        InteractiveShell.clear_instance()
    first, *updates = published
    assert not first.get("update")
    assert updates
    assert all(one["update"] for one in updates)
    assert {one["transient"]["display_id"] for one in published} == {first["transient"]["display_id"]}
    assert updates[-1]["data"]["text/plain"] == "1/1 branches done"
    assert survives(updates[-1]["data"]["text/html"]) == "1/1 branches done"


def test_a_hostile_limiter_is_shown_as_text() -> None:
    line = ProgressLine(Tallied(total=1, waiting={"<script>\x1b[0m": 1}))
    assert "<script>" not in line._repr_html_()
    assert "<script> [0m" in survives(line._repr_html_())
