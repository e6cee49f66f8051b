"""A streamed input that threads share: a reader that was left behind holds the read, and what it gets is shared."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import pytest
from langchain_core.runnables import RunnableGenerator

from langchain_parallel_plus import BranchPolicy, RetryPolicy, RunnableParallelPlus, RunnableWithPolicy, TimeoutPolicy
from langchain_parallel_plus._engine.replay import Replay

_SECONDS = 5.0


class Handed:
    """An input whose items are there when the test says so."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self._items: SimpleQueue[str | None] = SimpleQueue()

    def give(self, item: str | None) -> None:
        self._items.put(item)

    def __call__(self) -> Iterator[str]:
        while True:
            self.asked.release()
            item = self._items.get(timeout=_SECONDS)
            if item is None:
                return
            yield item


def _started(work: Any) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("goes_on", [True, False], ids=["reads on", "stops"])
def test_what_a_reader_left_behind_gets_is_delivered_to_the_next_once(goes_on: bool) -> None:
    handed, left, following = Handed(), list[str](), list[str]()
    replay = Replay(handed())

    def leave_behind() -> None:
        for item in replay.again():
            left.append(item)
            if not goes_on:
                return

    first = _started(leave_behind)
    assert handed.asked.acquire(timeout=_SECONDS)
    second = _started(lambda: following.extend(replay.again()))
    for item in ("a", "b", None):
        handed.give(item)
    for thread in (first, second):
        thread.join(_SECONDS)
        assert not thread.is_alive()
    assert following == ["a", "b"]
    assert left == (["a", "b"] if goes_on else ["a"])
    assert list(replay.again()) == ["a", "b"]


def test_what_has_been_read_is_there_at_once_whoever_waits_for_more() -> None:
    handed, again = Handed(), list[str]()
    replay = Replay(handed())
    left_behind = _started(lambda: list(replay.again()))
    handed.give("a")
    for _ in range(2):
        assert handed.asked.acquire(timeout=_SECONDS)
    reader = _started(lambda: again.append(next(replay.again())))
    reader.join(_SECONDS / 2)
    assert again == ["a"]
    handed.give(None)
    left_behind.join(_SECONDS)


def _slow(_: Iterator[Any]) -> Iterator[str]:
    yield "a"
    time.sleep(0.25)
    yield "b"
    time.sleep(0.25)
    yield "c"


def _whole(inputs: Iterator[str]) -> Iterator[str]:
    yield "".join(inputs)


def test_an_attempt_that_timed_out_leaves_the_input_whole_for_the_next() -> None:
    policy = BranchPolicy(
        retry=RetryPolicy(max_attempts=9, initial_interval=0.001), timeout=TimeoutPolicy(attempt_timeout=0.1)
    )
    step = RunnableGenerator(_whole)
    assert list((RunnableGenerator(_slow) | RunnableWithPolicy(step, policy)).stream("x")) == ["abc"]
    fan_out: RunnableParallelPlus[Any] = RunnableParallelPlus({"a": step, "b": step}).with_policy(a=policy)
    chunks = list((RunnableGenerator(_slow) | fan_out).stream("x"))
    assert sorted(chunks, key=str) == [{"a": "abc"}, {"b": "abc"}]
