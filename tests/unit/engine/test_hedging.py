"""The machine of hedges alone: no threads, no tasks, no time but what it is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_parallel_plus._engine.hedging import (
    FIRST,
    Await,
    Begin,
    Delivered,
    Fell,
    Lost,
    Race,
    RaceAction,
    RaceEvent,
    Slow,
    Won,
    race_step,
)

LOST = ConnectionError("the first call's")


def play(race: Race, *events: RaceEvent, every: float = 1.0) -> list[RaceAction]:
    actions = []
    for number, event in enumerate(events, start=1):
        race, action = race_step(race, event, number * every)
        actions.append(action)
    return actions


def test_a_slow_call_gets_a_hedge_and_the_quicker_one_wins() -> None:
    assert play(Race(2.0, 1), Slow(), Delivered(1)) == [Begin(1), Won(1)]
    assert play(Race(2.0, 1), Slow(), Delivered(FIRST)) == [Begin(1), Won(FIRST)]


def test_hedges_are_begun_one_delay_apart_and_at_most_so_many() -> None:
    race, _ = race_step(Race(2.0, 2), Slow(), 10.0)
    assert race.due == 12.0
    race, action = race_step(race, Slow(), 12.0)
    assert (action, race.due) == (Begin(2), None)
    assert race_step(race, Slow(), 14.0)[1] == Await(None)


@pytest.mark.parametrize("event", [Slow(throttled=True), Slow(affordable=False)])
def test_a_hedge_that_may_not_be_made_is_thought_of_again_a_delay_later(event: Slow) -> None:
    race, action = race_step(Race(2.0, 1), event, 10.0)
    assert action == Await(12.0)
    assert race_step(race, Slow(), 12.0)[1] == Begin(1)


def test_a_hedges_error_counts_for_nothing() -> None:
    assert play(Race(2.0, 1), Slow(), Fell(1, KeyError("x")), Delivered(FIRST)) == [Begin(1), Await(None), Won(FIRST)]
    assert play(Race(2.0, 1), Slow(), Fell(1, KeyError("x")), Fell(FIRST, LOST))[-1] == Lost(LOST)


def test_when_all_fail_the_first_calls_error_counts() -> None:
    assert play(Race(2.0, 2), Slow(), Fell(FIRST, LOST), Fell(1, KeyError("x"))) == [Begin(1), Await(None), Lost(LOST)]


def test_once_the_first_call_has_failed_no_hedge_is_begun() -> None:
    assert play(Race(2.0, 3), Slow(), Fell(FIRST, LOST), Slow(), Delivered(1)) == [
        Begin(1),
        Await(None),
        Await(None),
        Won(1),
    ]


def test_a_hedge_that_was_refused_may_be_begun_later() -> None:
    race, _ = race_step(Race(2.0, 1), Slow(), 10.0)
    race, action = race_step(race, Fell(1, KeyError("no room"), refused=True), 10.0)
    assert action == Await(12.0)
    assert race_step(race, Slow(), 12.0)[1] == Begin(2)


def test_an_interrupt_of_the_first_call_waits_for_no_hedge() -> None:
    assert play(Race(2.0, 1), Slow(), Fell(FIRST, LOST, interrupts=True))[-1] == Lost(LOST)


FATES = st.tuples(st.sampled_from(["slow", "held", "ok", "fails", "refused"]), st.integers(0, 9))


def event_of(fate: str, leg: int) -> RaceEvent:
    match fate:
        case "slow" | "held":
            return Slow(throttled=fate == "held")
        case "ok":
            return Delivered(leg)
        case "refused" if leg != FIRST:
            return Fell(leg, KeyError(), refused=True)
        case _:
            return Fell(leg, LOST if leg == FIRST else KeyError())


@given(most=st.integers(1, 4), fates=st.lists(FATES, max_size=40))
def test_every_race_ends_once_and_within_its_hedges(most: int, fates: list[tuple[str, int]]) -> None:
    race, now, begun, refused = Race(1.0, most), 0.0, 0, 0
    flying = {FIRST}
    for fate, which in [*fates, *[("fails", 0)] * 9]:
        now += 1.0
        event = event_of(fate, sorted(flying)[which % len(flying)])
        race, action = race_step(race, event, now)
        if isinstance(event, Fell):
            flying.discard(event.leg)
            refused += event.refused
        if isinstance(action, Begin):
            assert FIRST in flying
            begun += 1
            flying.add(action.leg)
        assert begun - refused <= most
        if isinstance(action, Won | Lost):
            assert action == (Won(event.leg) if isinstance(event, Delivered) else Lost(LOST))
            assert isinstance(event, Delivered) or not flying
            return
        assert set(race.flying) == flying
    pytest.fail("the race has not ended")
