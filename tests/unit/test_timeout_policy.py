from __future__ import annotations

from datetime import timedelta
from itertools import combinations
from typing import Any

import pytest

from langchain_parallel_plus import DeclarationError, TimeoutPolicy

FIELDS = ("idle_timeout", "first_chunk_timeout", "attempt_timeout", "run_timeout")
PAIRS = [pair for pair in combinations(FIELDS, 2) if pair != ("idle_timeout", "first_chunk_timeout")]


@pytest.mark.parametrize("field", FIELDS)
def test_every_timeout_takes_seconds_and_timedeltas_and_nothing_else(field: str) -> None:
    right: list[Any] = [timedelta(seconds=3), 3, 3.0]
    for seconds in right:
        assert getattr(TimeoutPolicy(**{field: seconds}), field) == 3.0
    wrong: list[Any] = [0, -1, "5", True, float("nan"), float("inf"), 32 * 86_400, timedelta(0)]
    for value in wrong:
        with pytest.raises(DeclarationError, match=f"TimeoutPolicy.{field} must be more than 0 seconds"):
            TimeoutPolicy(**{field: value})


@pytest.mark.parametrize(("part", "whole"), PAIRS)
def test_a_part_longer_than_its_whole_is_refused(part: str, whole: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        TimeoutPolicy(**{part: 11, whole: 10})
    assert f"({part}=11, {whole}=10): {part} can never be reached" in str(caught.value)
    assert f"help: use {part}=10 or less" in str(caught.value)
    TimeoutPolicy(**{part: 10, whole: 10})


def test_the_first_chunk_may_take_longer_or_shorter_than_the_next_ones() -> None:
    slow_start = TimeoutPolicy(first_chunk_timeout=20, idle_timeout=5)
    assert (slow_start.first_chunk_timeout, slow_start.idle_timeout) == (20, 5)
    assert TimeoutPolicy(first_chunk_timeout=5, idle_timeout=20).idle_timeout == 20


def test_the_repr_is_the_code_that_makes_it() -> None:
    policy = TimeoutPolicy(attempt_timeout=60, first_chunk_timeout=20)
    assert repr(policy) == "TimeoutPolicy(attempt_timeout=60.0, first_chunk_timeout=20.0)"
    assert eval(repr(policy)) == policy
