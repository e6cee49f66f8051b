from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from langchain_parallel_plus import RunnableParallelPlus
from langchain_parallel_plus._engine.workers import WORKERS


def _fan_out(work: Any) -> RunnableParallelPlus[Any]:
    return RunnableParallelPlus(only=work)


def test_all_items_of_a_batch_without_a_cap_are_under_way_at_once() -> None:
    barrier = threading.Barrier(200)
    _fan_out(lambda _: barrier.wait(10)).batch([0] * 200)


def test_items_that_end_one_by_one_hold_up_none_that_block() -> None:
    barrier = threading.Barrier(100)

    def work(item: int) -> None:
        if item % 2:
            barrier.wait(10)
        else:
            time.sleep(0.0025 * item)

    _fan_out(work).batch(list(range(200)))


def test_a_batch_of_quick_items_begins_few_of_them_at_a_time() -> None:
    before = WORKERS.started

    def work(item: int) -> int:
        return item

    assert len(_fan_out(work).batch(list(range(500)))) == 500
    assert WORKERS.started - before < 250


def test_items_that_wait_for_a_thread_when_their_batch_fails_are_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []

    def work(item: int) -> int:
        ran.append(item)
        if item == 0:
            raise ValueError("first")
        time.sleep(0.05)
        return item

    monkeypatch.setattr(WORKERS, "_limit", 4)
    with pytest.raises(ValueError, match="first"):
        _fan_out(work).batch(list(range(300)))
    deadline = time.monotonic() + 5
    while WORKERS.running and time.monotonic() < deadline:
        time.sleep(0.005)
    assert len(ran) < 100
