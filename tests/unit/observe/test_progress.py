"""What is shown of runs that go on."""

from __future__ import annotations

import io
import sys
import threading
from types import ModuleType, SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from langchain_parallel_plus import BranchPolicy, RateLimiter, RetryPolicy, RunnableParallelPlus
from langchain_parallel_plus.display.progress import ProgressLine, progress_text
from langchain_parallel_plus.limits import Cost
from langchain_parallel_plus.limits.ticket import Ticket
from langchain_parallel_plus.observe import Event, LimiterState, progress, subscribed
from langchain_parallel_plus.observe.progress import _draw
from langchain_parallel_plus.observe.tally import Tallied, Tally
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


def waiting(tally: Tally, limiter: RateLimiter, calls: int, cost: Cost | None = None) -> list[Ticket]:
    """Let so many calls wait; what passes at once waits for nothing."""
    tickets = [limiter.reserve(Cost() if cost is None else cost) for _ in range(calls)]
    for ticket in tickets:
        if not ticket.granted:
            detail = {"limiter": limiter.name, "model": "m", "call": uuid4(), "depth": 1}
            tally.take_in(Event(kind="limiter.queue", at=0.0, run_id=RUN, path=("x",), unit=1, detail=detail))
    return tickets


QUOTAS: list[tuple[dict[str, Any], Cost]] = [
    ({"requests_per_minute": 15, "burst": 4}, Cost()),
    ({"requests_per_minute": 15, "burst": 4, "provider": "groq"}, Cost()),
    ({"tokens_per_minute": 600, "burst": 2}, Cost(tokens=20)),
    ({"input_tokens_per_minute": 600, "burst": 2}, Cost(input_tokens=30)),
    ({"output_tokens_per_minute": 600, "burst": 2}, Cost(output_tokens=60)),
    ({"requests_per_minute": 60, "output_tokens_per_minute": 600, "burst": 2}, Cost(output_tokens=60)),
    ({"requests_per_minute": 60, "output_tokens_per_minute": 600, "burst": 2}, Cost(output_tokens=5)),
]


@pytest.mark.parametrize("paused", [0, 30])
@pytest.mark.parametrize(("limits", "cost"), QUOTAS)
def test_the_time_left_runs_down_to_the_last_admission(limits: Any, cost: Cost, paused: float) -> None:
    clock = Clock()
    limiter = RateLimiter(**limits, name=f"time left {uuid4()}", clock=clock)
    watch(limiter)
    tally = Tally()
    if paused:
        limiter.pause(paused)
    tickets = waiting(tally, limiter, 6, cost)
    told: list[tuple[float, float]] = []
    while not all(ticket.granted for ticket in tickets):
        told.append((clock.now, tally.now().left[limiter.name]))
        clock.now += 0.04  # a little late, as timers are
        limiter.account.turnstile.dispatch()
    end = sum(told[-1])
    assert clock.now - 0.05 < end <= clock.now
    assert len(told) > 10
    for at, left in told:
        assert left == pytest.approx(end - at, abs=0.01)
    assert limiter.account.time_left() is None


def test_where_a_server_s_window_is_full_the_time_left_is_a_close_lower_bound() -> None:
    clock = Clock()
    limiter = RateLimiter(requests_per_minute=60, burst=2, clock=clock)
    tickets = [limiter.reserve(Cost(requests=3)) for _ in range(6)]
    told: list[tuple[float, float]] = []
    while not all(ticket.granted for ticket in tickets):
        told.append((clock.now, limiter.account.time_left() or 0.0))
        clock.now += 0.04
        limiter.account.turnstile.dispatch()
    assert all(0 <= clock.now - at - left < 1.5 for at, left in told)


def test_what_was_forced_past_the_queue_is_through_when_the_last_of_it_may_be_sent() -> None:
    clock = Clock()
    limiter = RateLimiter(requests_per_minute=60, burst=1, clock=clock)
    last = [limiter.force(Cost()) for _ in range(4)][-1]
    assert limiter.account.time_left() == pytest.approx(last.delay, rel=0.01)
    clock.now += 2
    assert limiter.account.time_left() == pytest.approx(last.delay - 2, rel=0.01)


class Name(str):
    """Counts how often it is compared."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        Name.compared += 1
        return str.__eq__(self, other)  # type: ignore[arg-type]

    __hash__ = str.__hash__


@pytest.mark.parametrize("ends", ["branch.end", "fan_out.end"])
def test_the_end_of_a_branch_costs_the_same_however_many_are_open(ends: Any) -> None:
    def event(kind: Any, branch: str = "", **detail: Any) -> Event:
        path = (Name(branch),) if branch else ()
        return Event(kind=kind, at=0.0, run_id=RUN, path=path, unit=1, outcome="ok", detail=detail)

    names = [f"b{index}" for index in range(500)]
    tally = Tally()
    tally.take_in(event("fan_out.start", name="n", branches=[Name(name) for name in names], limiters=()))
    for name in names:
        tally.take_in(event("limiter.queue", name, limiter="l", call=uuid4()))
    assert tally.now().waiting == {"l": 500}
    Name.compared = 0
    for one in [event(ends)] if ends == "fan_out.end" else [event(ends, name) for name in names]:
        tally.take_in(one)
    assert tally.now() == Tallied(total=500, done=500)
    assert Name.compared < 20 * 500


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
    waiting(tally, limiter, 8, Cost(slots=1))
    assert tally.now().left == {}
    call = {"model": "m", "call": uuid4()}
    tally.take_in(Event(kind="model.start", at=1.0, run_id=RUN, path=("x",), detail=call))
    tally.take_in(Event(kind="model.usage", at=5.0, run_id=RUN, path=("x",), detail=call))
    assert tally.now().left == {limiter.name: 12.0}


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
