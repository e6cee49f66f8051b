"""What refusals take and quiet time gives back: pace, burst, slots, and the ceiling of an unknown quota."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_parallel_plus.limits.learning.care import Care, pause_for
from langchain_parallel_plus.limits.learning.ceiling import Ceiling
from langchain_parallel_plus.limits.learning.refusal import LONGEST_PAUSE, Reaction, react
from langchain_parallel_plus.limits.planning.slots import SlotCare
from langchain_parallel_plus.outcome import ErrorKind
from langchain_parallel_plus.providers.classified import Classified
from langchain_parallel_plus.providers.snapshot import Quota, Snapshot


def test_a_refusal_halves_the_burst_and_takes_a_hundredth_of_the_pace() -> None:
    care = Care().refused(100.0, explained=False)
    assert (care.burst_share, care.utilisation(0.98)) == (0.5, pytest.approx(0.97))
    for _ in range(30):
        care = care.refused(100.0, explained=False)
    assert care.utilisation(0.98) == pytest.approx(0.90)
    assert 0 < care.burst_share < 0.001


def test_one_that_others_explain_takes_nothing_but_begins_an_epoch() -> None:
    care = Care().refused(100.0, explained=True)
    assert (care.burst_share, care.utilisation(0.98), care.recovers_at) == (1.0, 0.98, math.inf)
    assert not care.counts(99.0)
    assert care.counts(100.5)


def test_quiet_time_gives_back_a_thousandth_in_five_minutes_and_doubles_the_burst_in_ten() -> None:
    care = Care().refused(0.0, explained=False).refused(0.0, explained=False)
    assert care.recovers_at == 300.0
    assert care.recovered(299.0) == care
    assert care.recovered(300.0).lowered == pytest.approx(0.019)
    assert care.recovered(600.0).burst_share == 0.5
    assert care.recovered(1_200.0).burst_share == 1.0
    whole = care.recovered(300.0 * 20)
    assert (whole.lowered, whole.burst_share, whole.recovers_at) == (0.0, 1.0, math.inf)


@given(times=st.lists(st.floats(0.0, 5_000.0), min_size=1, max_size=10))
def test_recovery_is_the_same_in_one_step_or_in_many(times: list[float]) -> None:
    refused = Care().refused(0.0, explained=False).refused(0.0, explained=False).refused(0.0, explained=False)
    care = refused
    for time in sorted(times):
        care = care.recovered(time)
    at_once = refused.recovered(max(times))
    assert care.lowered == pytest.approx(at_once.lowered)
    assert care.burst_share == at_once.burst_share


def test_overload_takes_a_tenth_of_the_slots_once_for_all_calls_under_way() -> None:
    slots = SlotCare.all_of(10).overloaded(50.0, sent=45.0)
    assert slots.overloaded(50.2, sent=46.0) == slots
    assert slots.at(50.0) == pytest.approx(9.0)
    assert slots.overloaded(59.0, sent=55.0).at(59.0) == pytest.approx(8.1)
    assert SlotCare(declared=10, slots=1.0).overloaded(1.0, 0.5).at(1.0) == 1.0


def test_slots_come_back_one_at_a_time() -> None:
    slots = SlotCare.all_of(10).overloaded(50.0, 45.0).overloaded(51.0, 50.5)
    assert [slots.at(time) for time in (60.9, 61.0, 71.0, 1_000.0)] == pytest.approx([8.1, 9.1, 10.0, 10.0])
    assert [slots.back_at(time) for time in (51.0, 60.9, 61.0, 71.0)] == [61.0, 61.0, 71.0, math.inf]
    assert (slots.recovered(70.0), slots.recovered(71.0)) == (slots, SlotCare.all_of(10))


@given(decreased_at=st.floats(0.0, 1e7), later=st.floats(0.0, 90.0))
def test_a_slot_is_back_at_the_time_that_was_announced_for_it(decreased_at: float, later: float) -> None:
    slots = SlotCare(declared=20, slots=10.0, decreased_at=decreased_at)
    announced = slots.back_at(decreased_at + later)
    assert slots.at(announced) > slots.at(announced - 1)
    assert slots.back_at(announced) > announced


def test_a_pause_without_a_hint_doubles_up_to_half_a_minute() -> None:
    assert [pause_for(None, unhinted) for unhinted in (0, 1, 2, 5, 500)] == [1.0, 2.0, 4.0, 30.0, 30.0]
    assert pause_for(0.2, 7) == 0.2


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (Classified(ErrorKind.RATE_LIMIT, retry_after=3.0), Reaction(pause=3.0)),
        (Classified(ErrorKind.RATE_LIMIT), Reaction(pause=1.0, hinted=False)),
        (
            Classified(ErrorKind.QUOTA_EXHAUSTED, code="insufficient_quota"),
            Reaction(close="the provider answered 'insufficient_quota'"),
        ),
        (Classified(ErrorKind.OVERLOADED), Reaction(slow_down=True)),
        *(
            (Classified(kind), Reaction())
            for kind in ErrorKind
            if kind not in {ErrorKind.RATE_LIMIT, ErrorKind.QUOTA_EXHAUSTED, ErrorKind.OVERLOADED}
        ),
    ],
)
def test_an_error_means_for_the_key_what_its_kind_says(verdict: Classified, expected: Reaction) -> None:
    assert react(verdict, None, 0) == expected


def test_exhausted_headers_say_how_long_to_pause_where_the_error_does_not() -> None:
    snapshot = Snapshot((Quota(name="tokens", unit="tokens", dialect="openai", limit=9, remaining=0, reset=12.0),))
    assert react(Classified(ErrorKind.RATE_LIMIT), snapshot, 3) == Reaction(pause=12.0)


@pytest.mark.parametrize("source", ["error", "headers"])
def test_a_wait_of_more_than_two_minutes_closes_the_key_until_then(source: str) -> None:
    def reaction(seconds: float) -> Reaction:
        if source == "error":
            return react(Classified(ErrorKind.RATE_LIMIT, retry_after=seconds), None, 0)
        quota = Quota(name="requests", unit="requests", dialect="groq", limit=9, remaining=0, reset=seconds)
        return react(Classified(ErrorKind.RATE_LIMIT), Snapshot((quota,)), 0)

    assert reaction(LONGEST_PAUSE) == Reaction(pause=120.0)
    longer = reaction(21_600.0)
    assert (longer.pause, longer.close, longer.close_for) == (None, "the provider asked to wait 21600 s", 21_600.0)


def test_a_code_that_looks_like_a_key_is_not_repeated() -> None:
    closed = react(Classified(ErrorKind.QUOTA_EXHAUSTED, code="sk-abcdefgh12345678"), None, 0).close
    assert closed is not None
    assert "abcdefgh" not in closed


def test_slow_start_doubles_what_is_used() -> None:
    ceiling = Ceiling.start(60.0, 0.0)
    assert ceiling.grown(9.0, 60.0) == ceiling
    assert ceiling.grown(10.0, 60.0).pace == 120.0
    assert ceiling.grown(10.0, 5.0).pace == 60.0


def test_the_goodput_of_the_last_minute_at_the_refusal_is_the_ceiling() -> None:
    ceiling = Ceiling(pace=560.0, step_at=100.0, slow_start=False).refused(90.0, goodput=500.0)
    assert ceiling.pace == pytest.approx(495.0)
    again = ceiling.refused(94.0, goodput=500.0)
    assert again.pace == ceiling.pace  # the same epoch
    for second in range(101, 150, 10):
        again = again.refused(float(second), goodput=500.0)
    # What came before the decrease still counts at the server for a minute, so little is taken in it.
    assert again.pace == pytest.approx(495.0 * 0.97**5)


def test_slow_start_ends_below_what_a_bucket_may_have_let_through_and_goes_back_in_steps() -> None:
    """A bucket lets through up to twice its rate in a minute, and what gets through after that is its rate."""
    ceiling = Ceiling(pace=1_920.0, step_at=100.0).refused(90.0, goodput=1_000.0)
    assert (ceiling.pace, ceiling.slow_start) == (500.0, False)
    assert ceiling.grown(100.0, 500.0).pace == pytest.approx(600.0)
    assert ceiling.measured(130.0) == 40.0
    again = ceiling.grown(100.0, 500.0).refused(105.0, goodput=520.0)
    assert again.pace == pytest.approx(0.99 * 520.0)
    assert again.grown(115.0, 520.0).pace == pytest.approx(1.1 * again.pace)


def test_slow_start_stays_within_sight_of_what_got_through() -> None:
    ceiling = Ceiling.start(600.0, 0.0)
    assert ceiling.grown(10.0, 600.0, goodput=250.0).pace == 750.0
    assert ceiling.grown(10.0, 600.0, goodput=100.0).pace == 600.0


def test_above_the_ceiling_it_looks_in_growing_steps() -> None:
    ceiling = Ceiling(pace=1_000.0, step_at=0.0, slow_start=False)
    paces = []
    for step in range(7):
        ceiling = ceiling.grown(120.0 * step, ceiling.pace)
        paces.append(ceiling.pace)
    growth = [after / before - 1 for before, after in zip([1_000.0, *paces], paces, strict=False)]
    assert growth == pytest.approx([0.01, 0.02, 0.04, 0.08, 0.16, 0.16, 0.16])


@given(pace=st.floats(1.0, 1e6), goodput=st.floats(0.0, 1e7), slow_start=st.booleans(), now=st.floats(0.0, 1e4))
def test_a_refusal_never_raises_the_pace(pace: float, goodput: float, slow_start: bool, now: float) -> None:
    ceiling = Ceiling(pace=pace, step_at=0.0, slow_start=slow_start)
    for _ in range(3):
        after = ceiling.refused(now, goodput)
        assert 0 < after.pace <= ceiling.pace
        ceiling, now = after, now + 11.0
