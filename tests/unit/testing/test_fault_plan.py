"""Which requests fail: by share, by number, by burst, the same in each run."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.testing import (
    ConnectionReset,
    CutStream,
    Fault,
    FaultPlan,
    FaultRule,
    Hang,
    MalformedBody,
    SlowStart,
    SlowTokens,
)

BUSY, HANG = Fault(status=529), Hang()


def struck(plan: FaultPlan, count: int = 1_000) -> list[int]:
    return [index for index in range(count) if plan.at(index) is not None]


@settings(deadline=None)
@given(st.integers(), st.floats(0, 1))
def test_a_seed_decides_once_and_for_all(seed, share):
    """Two plans of one seed strike the same requests, whatever was asked before."""
    one, other = (FaultPlan(FaultRule(BUSY, share=share), seed=seed) for _ in range(2))
    assert [one.at(index) for index in range(50)] == [other.at(index) for index in reversed(range(50))][::-1]


def test_a_share_is_met_and_differs_by_seed():
    """One in ten, within what chance allows; other seeds strike others."""
    plans = [FaultPlan(FaultRule(BUSY, share=0.1), seed=seed) for seed in range(5)]
    hits = [struck(plan, 5_000) for plan in plans]
    assert all(430 <= len(hit) <= 570 for hit in hits)
    assert len({tuple(hit) for hit in hits}) == 5


@pytest.mark.parametrize(("share", "count"), [(0, 0), (1, 1_000)])
def test_none_and_all_are_exact(share, count):
    """The ends of the scale are no chance."""
    assert len(struck(FaultPlan(FaultRule(BUSY, share=share)))) == count


def test_rules_by_number_are_exact():
    """Every n-th counts from the first; a burst is a range."""
    assert struck(FaultPlan(FaultRule(BUSY, every=3)), 10) == [2, 5, 8]
    assert struck(FaultPlan(FaultRule(BUSY, at=range(4, 7))), 10) == [4, 5, 6]
    assert struck(FaultPlan(FaultRule(BUSY, at={0, 9})), 10) == [0, 9]


def test_the_first_rule_that_strikes_decides():
    """Rules are asked in order, and each draws by itself."""
    plan = FaultPlan(FaultRule(HANG, every=2), FaultRule(BUSY, share=1.0))
    assert [plan.at(index) for index in range(4)] == [BUSY, HANG, BUSY, HANG]
    both = FaultPlan(FaultRule(HANG, share=0.5), FaultRule(BUSY, share=0.5), seed=3)
    kinds = [both.at(index) for index in range(2_000)]
    assert kinds.count(HANG) == pytest.approx(1_000, abs=120)
    assert kinds.count(BUSY) == pytest.approx(500, abs=100)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: FaultRule(BUSY),
        lambda: FaultRule(BUSY, share=0.1, every=3),
        lambda: FaultRule(BUSY, share=1.1),
        lambda: FaultRule(BUSY, share="1"),
        lambda: FaultRule(BUSY, every=0),
        lambda: FaultRule(503, every=1),
        lambda: FaultPlan(BUSY),
        lambda: Hang(-1),
        lambda: Hang("1"),
        lambda: SlowStart(float("inf")),
        lambda: SlowTokens(-1),
        lambda: CutStream(-1),
        lambda: CutStream(1.5),
        lambda: MalformedBody("xml"),
        lambda: MalformedBody("html", status=100),
        lambda: Fault(headers={"x": "a\r\nb: c"}),
    ],
)
def test_wrong_declarations_are_refused(wrong):
    """Before any request, with what was given."""
    with pytest.raises(DeclarationError, match="got"):
        wrong()


def test_a_plan_shows_what_it_does():
    """For the log of a failed test."""
    plan = FaultPlan(FaultRule(ConnectionReset(), every=2), seed=4)
    assert repr(plan) == "FaultPlan(FaultRule(fault=ConnectionReset(), share=None, every=2, at=None), seed=4)"
