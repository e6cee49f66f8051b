"""The time of a call: what counts, when it is over, and how often whoever waits for its end looks."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_parallel_plus._engine.call_time import CallTime


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_end_moves_by_what_it_stood_still_and_the_runs_end_does_not() -> None:
    clock = Clock()
    time = CallTime(clock, own=10, run=30)
    assert (time.until(), time.over()) == (110, None)
    clock.now = 105
    go_on = time.stand_still()
    clock.now = 125
    assert (time.stood, time.left(), time.over()) == (20, 5, None)
    go_on()
    assert (time.until(), time.resumed) == (130, 125)
    clock.now = 130
    assert time.over() == "run_timeout"


def test_each_limit_is_told_by_its_name() -> None:
    clock = Clock()
    time = CallTime(clock, own=10, run=None)
    clock.now = 110
    assert (time.over(), time.passed(10), time.passed(11)) == ("attempt_timeout", True, False)
    assert CallTime(clock, own=None, run=None).over() is None
    assert CallTime(clock, own=None, run=None).until() is None


def test_going_on_twice_is_going_on_once() -> None:
    clock = Clock()
    time = CallTime(clock, own=10, run=None)
    first, second = time.stand_still(), time.stand_still()
    first()
    first()
    assert time.stands
    second()
    assert not time.stands


def test_the_time_of_calls_around_stands_still_too_but_not_that_of_those_below() -> None:
    clock = Clock()
    outer = CallTime(clock, own=10, run=None)
    inner = CallTime(clock, own=10, run=None, around=outer)
    go_on = inner.stand_still()
    clock.now += 5
    go_on()
    go_on = outer.stand_still()
    clock.now += 3
    go_on()
    assert (inner.stood, outer.stood) == (5, 8)
    clock.now += 4
    assert inner.left() == 3  # 12 s have passed, of which 5 did not count; of the outer one's, 8
    assert outer.left() == 6


def test_what_a_streams_reader_takes_counts_neither_for_the_call_nor_for_its_run() -> None:
    clock = Clock()
    time = CallTime(clock, own=10, run=20)
    time.pause()
    clock.now += 50
    time.resume(50)
    assert (time.at(10), time.until(), time.over()) == (160, 160, None)
    clock.now += 10
    assert time.over() == "attempt_timeout"


def test_a_wait_while_the_reader_has_the_stream_is_left_out_once() -> None:
    clock = Clock()
    time = CallTime(clock, own=10, run=100)
    time.pause()
    clock.now += 5
    go_on = time.stand_still()
    clock.now += 20
    time.resume(25)
    clock.now += 5
    go_on()
    assert (time.stood, time.at(10), time.resumed) == (30, 140, 130)
    clock.now = 225
    assert time.over() == "run_timeout"  # of the 125 s, the reader has had 25


def test_a_wait_that_begins_just_before_the_end_is_not_polled() -> None:
    clock = Clock()
    time = CallTime(clock, own=10, run=60)
    clock.now += 10 - 0.0001
    time.stand_still()
    looks = 0
    while time.over() is None:
        until = time.until()
        assert until is not None
        clock.now = until
        looks += 1
    assert (time.over(), clock.now) == ("run_timeout", 160)
    assert looks <= 50 / 0.05 + 2


@given(
    waits=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), max_size=8),
    own=st.integers(1, 60),
    end=st.integers(0, 100),
)
def test_what_does_not_count_is_the_time_in_which_at_least_one_waits(
    waits: list[tuple[int, int]], own: int, end: int
) -> None:
    clock = Clock()
    time = CallTime(clock, own=own, run=None)
    begins = [(at, index) for index, (at, _) in enumerate(waits)]
    ends = [(at + length, index) for index, (at, length) in enumerate(waits)]
    going: dict[int, Any] = {}
    for second in range(end + 1):
        clock.now = 100.0 + second
        for at, index in begins:
            if at == second:
                going[index] = time.stand_still()
        for at, index in ends:
            if at == second:
                going[index]()
    counted = sum(not any(at <= second < at + length for at, length in waits) for second in range(end))
    assert time.stood == end - counted
    assert time.passed(own) == (counted >= own)
    assert (time.over() is not None) == (counted >= own)
    if (until := time.until()) is not None and time.over() is None and not time.stands:
        assert until - clock.now == own - counted


@pytest.mark.timeout(20)
def test_calls_in_many_threads_lose_no_wait() -> None:
    time = CallTime(lambda: 0.0, own=1, run=None)

    def work() -> None:
        for _ in range(500):
            time.stand_still()()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not time.stands
