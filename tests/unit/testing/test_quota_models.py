"""The five models of a limit: against oracles that remember everything, and by what they promise."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.testing.quota import QUOTA_MODELS, Bucket, FixedWindow, SlidingWindow, SubWindows

MODELS = list(QUOTA_MODELS)
every_model = pytest.mark.parametrize("name", MODELS)

# Milliseconds since the last request, and what it costs.
_arrivals = st.lists(st.tuples(st.integers(0, 20_000), st.integers(1, 70)), min_size=1, max_size=60)
_limits = st.integers(1, 60)

Charges = list[tuple[int, int]]
"""Milliseconds and units of what was admitted."""


def _within(charges: Charges, start: int, end: int) -> int:
    return sum(units for at, units in charges if start <= at < end)


def _bucket_admits(charges: Charges, now: int, cost: int, limit: int, window: int) -> bool:
    rate, capacity, level, last = Fraction(limit, 60_000), Fraction(limit * window, 60_000), Fraction(0), 0
    for at, units in [*charges, (now, 0)]:
        level, last = max(Fraction(0), level - (at - last) * rate) + units, at
    return level + cost <= capacity if cost <= capacity else level == 0


def _sub_window_admits(charges: Charges, now: int, cost: int, limit: int) -> bool:
    share, used, last = Fraction(limit, 6), Fraction(0), 0
    for at, units in [*charges, (now, 0)]:
        used, last = max(Fraction(0), used - (at // 10_000 - last) * share) + units, at // 10_000
    return used + cost <= share if cost <= share else used == 0


def admits(name: str, charges: Charges, now: int, cost: int, limit: int) -> bool:
    """Return what a server decides that looks through everything it has ever admitted."""
    if cost > limit:
        return False
    match name:
        case "sliding_window":
            return _within(charges, now - 60_000 + 1, now + 1) + cost <= limit
        case "fixed_window":
            start = now // 60_000 * 60_000
            return _within(charges, start, start + 60_000) + cost <= limit
        case "sub_windows":
            return _sub_window_admits(charges, now, cost, limit)
        case _:
            return _bucket_admits(charges, now, cost, limit, 60_000 if name == "bucket_minute" else 1_000)


@every_model
@settings(deadline=None)
@given(limit=_limits, arrivals=_arrivals)
def test_they_decide_as_an_oracle_does(name, limit, arrivals):
    """Request for request, on whole milliseconds, where windows end exactly."""
    model: Any = QUOTA_MODELS[name](limit)
    state, now, charges = model.fresh(0.0), 0, []
    for gap, cost in arrivals:
        now += gap
        state = model.at(state, now / 1000)
        admitted = cost <= limit and model.wait(state, cost) == 0
        assert admitted == admits(name, charges, now, cost, limit)
        if admitted:
            state = model.charged(state, cost)
            charges.append((now, cost))


@every_model
@settings(deadline=None)
@given(limit=_limits, arrivals=_arrivals, start=st.sampled_from([0.0, 17.3, 1.8e9]))
def test_a_wait_is_exact(name, limit, arrivals, start):
    """After it the same request is admitted, and two milliseconds earlier it is not."""
    model: Any = QUOTA_MODELS[name](limit)
    state, now = model.fresh(start), start
    for gap, cost in arrivals:
        now += gap / 1000
        state, cost = model.at(state, now), min(cost, limit)
        wait = model.wait(state, cost)
        if wait == 0:
            state = model.charged(state, cost)
            continue
        assert model.wait(model.at(state, now + wait + 1e-6), cost) == 0
        if wait > 0.002:
            assert model.wait(model.at(state, now + wait - 0.002), cost) > 0


@every_model
@settings(deadline=None)
@given(limit=_limits, arrivals=_arrivals)
def test_a_reset_is_exact(name, limit, arrivals):
    """After it nothing is used, and two milliseconds earlier something is."""
    model: Any = QUOTA_MODELS[name](limit)
    state, now = model.fresh(0.0), 0.0
    for gap, cost in arrivals:
        now += gap / 1000
        state = model.charged(model.at(state, now), cost)
        reset = model.reset(state)
        assert reset > 0
        assert model.used(model.at(state, now + reset + 1e-6)) == pytest.approx(0, abs=1e-6)
        if reset > 0.002:
            assert model.used(model.at(state, now + reset - 0.002)) > 0


@every_model
def test_a_fresh_key_has_nothing_to_wait_for(name):
    """No use, no wait, no reset."""
    model: Any = QUOTA_MODELS[name](60)
    state = model.at(model.fresh(5.0), 7.0)
    assert (model.used(state), model.wait(state, 60), model.reset(state)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("name", "at_once", "then", "after"),
    [
        ("bucket_minute", 60, 60, 60.0),
        ("bucket_second", 1, 1, 1.0),
        ("fixed_window", 60, 60, 60.0),
        ("sliding_window", 60, 60, 60.0),
        ("sub_windows", 10, 10, 10.0),
    ],
)
def test_what_an_idle_key_of_sixty_a_minute_may_do_at_once(name, at_once, then, after):
    """A minute's worth, a second's, or a sixth; and the same again when it has been used up and is back."""
    model: Any = QUOTA_MODELS[name](60)
    state = model.fresh(0.0)
    for now, expected in ((0.0, at_once), (after, then)):
        state = model.at(state, now)
        burst = 0
        while model.wait(state, 1) == 0:
            state, burst = model.charged(state, 1), burst + 1
        assert burst == expected


@pytest.mark.parametrize(("model", "back"), [(SubWindows(60), 20.0), (Bucket(60, window=1.0), 15.0)], ids=str)
def test_a_request_larger_than_the_capacity_leaves_a_debt(model, back):
    """It is admitted when nothing is used, and what it took too much is missing afterwards, so that the rate holds."""
    state = model.charged(model.fresh(0.0), 15)
    assert model.used(state) == 15
    assert model.wait(state, 12) == pytest.approx(back)
    assert model.wait(model.at(state, 9.0), 1) > 0


@every_model
@settings(deadline=None)
@given(limit=_limits, arrivals=_arrivals, share=st.floats(0, 1))
def test_a_refund_at_once_is_as_if_it_had_never_been_charged(name, limit, arrivals, share):
    """Whatever was there before stays."""
    model: Any = QUOTA_MODELS[name](limit)
    state, now = model.fresh(0.0), 0.0
    for gap, cost in arrivals:
        now += gap / 1000
        state = model.at(state, now)
        back = math.floor(cost * share)
        refunded = model.refunded(model.charged(state, cost), back, now)
        state = model.charged(state, cost - back)
        assert model.used(refunded) == pytest.approx(model.used(state))
        assert model.wait(refunded, 1) == pytest.approx(model.wait(state, 1), abs=1e-6)


@pytest.mark.parametrize(("name", "left"), [("fixed_window", 2), ("sliding_window", 2), ("sub_windows", 2)])
def test_a_refund_of_what_no_longer_counts_gives_nothing(name, left):
    """A window's charges belong to that window."""
    model: Any = QUOTA_MODELS[name](60)
    state = model.charged(model.fresh(0.0), 8)
    state = model.charged(model.at(state, 61.0), left)
    assert model.used(model.refunded(state, 8, 0.0)) == left


def test_a_refund_pays_back_a_debt_that_was_carried_on():
    """As far as it is still there; the present sub-window's own charges stay."""
    model = SubWindows(60)
    state = model.charged(model.fresh(0.0), 25)
    state = model.charged(model.at(state, 21.0), 3)
    assert model.used(state) == 5 + 3
    assert model.used(model.refunded(state, 4, 0.0)) == 1 + 3
    assert model.used(model.refunded(state, 20, 0.0)) == 3


@every_model
def test_a_clock_that_goes_back_changes_nothing(name):
    """Time between two decisions counts once."""
    model: Any = QUOTA_MODELS[name](60)
    state = model.charged(model.at(model.fresh(0.0), 100.0), 5)
    assert model.at(state, 30.0) == state
    assert model.at(model.at(state, 30.0), 200.0) == model.at(state, 200.0)


@pytest.mark.parametrize("model", [FixedWindow(10, phase=50.0), SubWindows(60, phase=0.0)], ids=str)
def test_a_window_may_have_begun_before(model):
    """`phase` says how much of the first one has passed."""
    full = model.charged(model.fresh(100.0), 10)
    assert model.wait(full, 1) == 10.0
    assert model.wait(model.at(full, 110.0), 1) == 0.0


def test_the_log_drops_what_has_passed():
    """An hour at full rate keeps a minute's charges, and costs no more than they do."""
    model = SlidingWindow(600)
    state = model.fresh(0.0)
    for call in range(36_000):
        state = model.charged(model.at(state, call / 10), 1)
    assert len(list(state)) == 600
    assert state.units == 600


@pytest.mark.parametrize("kind", [Bucket, FixedWindow, SlidingWindow, SubWindows])
@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "60", math.inf])
def test_a_limit_is_a_positive_whole_number(kind, limit):
    """The message names what was given."""
    with pytest.raises(DeclarationError, match=r"a quota must be a whole number >= 1, got .*\n.*help"):
        kind(limit)


@pytest.mark.parametrize("kind", [Bucket, FixedWindow, SlidingWindow, SubWindows])
@pytest.mark.parametrize("seconds", [0.0, -1.0, math.inf, math.nan, True, "60"])
def test_a_time_is_a_positive_number_of_seconds(kind, seconds):
    """A window without end would admit nothing twice."""
    with pytest.raises(DeclarationError, match="per must be seconds > 0"):
        kind(1, per=seconds)


@pytest.mark.parametrize(
    "wrong", [lambda: SubWindows(6, parts=0), lambda: SubWindows(6, phase=-1), lambda: FixedWindow(6, phase=math.nan)]
)
def test_other_numbers_are_checked_too(wrong):
    """Before any request."""
    with pytest.raises(DeclarationError, match="got"):
        wrong()
