"""What is shown of runs that go on."""

from __future__ import annotations

import io
import sys
import threading
import time
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from langchain_parallel_plus import BranchPolicy, RateLimiter, RetryPolicy, RunnableParallelPlus
from langchain_parallel_plus.display.progress import ProgressLine, progress_text
from langchain_parallel_plus.observe import progress, subscribed
from langchain_parallel_plus.observe.tally import Tallied, Tally
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.modes import Mode
from tests.unit.display.sanitizer import survives


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def test_all_is_done_in_the_end(mode: Mode) -> None:
    tally = Tally()
    fan_out = RunnableParallelPlus(a=len, b=lambda _: 1 / 0, nested=RunnableParallelPlus(c=len))
    with subscribed(tally.take_in):
        await mode.run(fan_out.with_policy(BranchPolicy(on_failure="keep")), "in", None)
    assert tally.now() == Tallied(total=4, done=4, failed=1)


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
    assert most.left["progress quota"] == pytest.approx(count / 20)
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


def test_a_terminal_shows_at_most_four_lines_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress():
        for _ in range(50):
            RunnableParallelPlus(a=len, b=lambda _: time.sleep(0.01)).invoke("in")
    shown = terminal.getvalue()
    assert shown.endswith("100/100 branches done\n") or shown.rstrip(" \n").endswith("100/100 branches done")
    assert 2 <= shown.count("\r") <= 8
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


def test_a_hostile_limiter_is_shown_as_text() -> None:
    line = ProgressLine(Tallied(total=1, waiting={"<script>\x1b[0m": 1}))
    assert "<script>" not in line._repr_html_()
    assert "<script> [0m" in survives(line._repr_html_())
