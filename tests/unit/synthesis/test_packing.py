from __future__ import annotations

import math
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_parallel_plus import SynthesisError
from langchain_parallel_plus.synthesis.packing import (
    Window,
    check_shrinkage,
    packs,
    packs_to_reduce,
    plan_reduction,
    replaced,
)

SIZES = st.lists(st.integers(min_value=1, max_value=100), min_size=1, max_size=12)
WINDOW = Window(answer=100, digest=100, digest_tokens=25)


def fewest_runs(sizes: list[int], capacity: int) -> int:
    """Return by dynamic programming into how few runs of at most `capacity` a row can be cut."""
    best = [0]
    for end in range(1, len(sizes) + 1):
        best.append(min(best[start] + 1 for start in range(end) if sum(sizes[start:end]) <= capacity))
    return best[-1]


@given(SIZES)
def test_packs_keep_the_order_fit_a_call_and_are_the_fewest(sizes: list[int]) -> None:
    cut = packs(sizes, 100)
    assert [place for pack in cut for place in pack] == list(range(len(sizes)))
    assert all(sum(sizes[place] for place in pack) <= 100 for pack in cut)
    assert len(cut) == fewest_runs(sizes, 100)


@given(SIZES)
def test_no_fewer_packs_would_make_a_row_fit(sizes: list[int]) -> None:
    chosen = packs_to_reduce(sizes, WINDOW)
    cut = packs(sizes, 100)
    gains = [sum(sizes[place] for place in pack) - 25 for pack in cut]
    over = sum(sizes) - 100
    enough = [
        number
        for number in range(len(cut) + 1)
        if any(sum(some) >= over for some in combinations(gains, number)) or over <= 0
    ]
    if enough:
        assert len(chosen) == enough[0]
    else:
        assert len(chosen) == sum(gain > 0 for gain in gains)


@given(st.lists(st.integers(min_value=1, max_value=100), min_size=1, max_size=200), st.integers(1, 50))
def test_a_plan_ends_and_reads_all(sizes: list[int], digest: int) -> None:
    window = Window(answer=100, digest=100, digest_tokens=digest)
    plan = plan_reduction(sizes, window)
    row = list(sizes)
    for level in plan.levels:
        assert all(sum(row[place] for place in pack) <= 100 for pack in level)
        row = replaced(row, level, [digest] * len(level))
    assert sum(row) <= 100
    # Each call reads at most 100 tokens, and all but what the last one reads is written again.
    assert plan.calls >= math.ceil((sum(sizes) - digest) / (100 - digest))
    assert (plan.calls == 1) == (sum(sizes) <= 100)


@pytest.mark.parametrize(
    ("sizes", "calls"),
    [
        ([400] * 2, 1),
        ([400] * 3, 2),
        ([400] * 10, 6),
        ([400] * 100, 56),
        ([900, 900, 50, 40], 2),
        ([100, 950, 100], 2),
        ([1000, 1000], 3),
        ([1000] * 10, 11),
        ([1000] * 11, 13),
    ],
)
def test_the_calls_of_a_plan(sizes: list[int], calls: int) -> None:
    assert plan_reduction(sizes, Window(answer=1000, digest=1000, digest_tokens=100)).calls == calls


def test_digests_that_do_not_get_shorter_are_refused_with_numbers() -> None:
    check_shrinkage(1000, 900, 3)
    with pytest.raises(SynthesisError, match="3 digests of 950 tokens in all were made of 1000"):
        check_shrinkage(1000, 950, 3)
