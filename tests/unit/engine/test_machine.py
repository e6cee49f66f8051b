from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_parallel_plus import RetryPolicy
from langchain_parallel_plus._engine.machine import (
    Action,
    Call,
    Failed,
    Plan,
    Raise,
    Return,
    Returned,
    Sleep,
    Start,
    State,
    Woke,
    step,
)
from langchain_parallel_plus.providers.classify import classify


def failed(error: Exception, chance: float = 0.5) -> Failed:
    return Failed(error, classify(error), chance)


class Told(Exception):
    """A refusal that says when to come back."""

    status_code = 429

    def __init__(self, seconds: float) -> None:
        super().__init__("slow down")
        self.response = type("Response", (), {"headers": {"retry-after": str(seconds)}, "status_code": 429})()


def play(plan: Plan, outcomes: list[Any], state: State | None = None, took: float = 1.0) -> list[Action]:
    """Return the actions that follow when each call takes `took` seconds and ends as said."""
    now, actions, pending = 0.0, [], list(outcomes)
    state, action = step(plan, state or State(), Start(), now)
    while True:
        actions.append(action)
        match action:
            case Call():
                now += took
                outcome = pending.pop(0)
                event = failed(outcome) if isinstance(outcome, Exception) else Returned(outcome)
            case Sleep(seconds):
                now += seconds
                event = Woke()
            case Return() | Raise():
                return actions
        state, action = step(plan, state, event, now)


LOST = ConnectionError("lost")
BUG = ValueError("bug")


def test_a_success_is_returned_after_one_call() -> None:
    call, end = play(Plan(targets=1), ["output"])
    assert call == Call(target=0, attempt=1, number=1, timeout=None, whole_run=None)
    assert end == Return("output")


def test_a_passing_error_is_retried_after_a_wait_that_grows() -> None:
    plan = Plan(targets=1, retry=RetryPolicy(max_attempts=4, initial_interval=1, backoff_factor=3, max_interval=5))
    actions = play(plan, [LOST, LOST, LOST, "late"])
    assert [a.seconds for a in actions if isinstance(a, Sleep)] == [0.5, 1.5, 2.5]  # half of 1, 3 and at most 5
    assert actions[-1] == Return("late")


def test_without_jitter_the_whole_interval_is_waited() -> None:
    plan = Plan(targets=1, retry=RetryPolicy(initial_interval=1, jitter=False))
    assert [a.seconds for a in play(plan, [LOST, LOST, "ok"]) if isinstance(a, Sleep)] == [1, 2]


def test_the_last_attempts_error_is_raised() -> None:
    last = ConnectionError("last")
    end = play(Plan(targets=1, retry=RetryPolicy(max_attempts=2)), [LOST, last])[-1]
    assert end == Raise(last, ())


@pytest.mark.parametrize("error", [BUG, TypeError("bug"), KeyError("x")])
def test_a_bug_is_not_retried(error: Exception) -> None:
    actions = play(Plan(targets=1, retry=RetryPolicy()), [error])
    assert actions[1:] == [Raise(error, ())]


@pytest.mark.parametrize(
    "retry_on",
    [ValueError, (ValueError, KeyError), [ValueError], lambda error: isinstance(error, ValueError)],
    ids=["type", "types", "list", "function"],
)
def test_retry_on_says_what_else_is_retried(retry_on: Any) -> None:
    plan = Plan(targets=1, retry=RetryPolicy(retry_on=retry_on))
    assert play(plan, [BUG, "ok"])[-1] == Return("ok")
    assert play(plan, [LOST])[-1] == Raise(LOST, ())


def test_an_exhausted_quota_is_never_retried() -> None:
    error = type("RateLimitError", (Exception,), {"status_code": 429, "code": "insufficient_quota"})("no money")
    plan = Plan(targets=1, retry=RetryPolicy(retry_on=Exception))
    assert play(plan, [error])[-1] == Raise(error, ())


def test_retry_after_replaces_the_computed_wait() -> None:
    plan = Plan(targets=1, retry=RetryPolicy(max_interval=1))
    assert [a.seconds for a in play(plan, [Told(7.5), "ok"]) if isinstance(a, Sleep)] == [7.5]


def test_a_provider_that_asks_for_hours_is_not_waited_for() -> None:
    assert play(Plan(targets=2, retry=RetryPolicy()), [Told(3600), "second"])[-1] == Return("second")


def test_retry_after_can_be_disregarded() -> None:
    plan = Plan(targets=1, retry=RetryPolicy(respect_retry_after=False, initial_interval=1))
    assert [a.seconds for a in play(plan, [Told(7.5), "ok"]) if isinstance(a, Sleep)] == [0.5]


@pytest.mark.parametrize(("timeout", "waits"), [(5.0, False), (20.0, True)])
def test_a_wait_that_does_not_fit_the_time_left_is_not_begun(timeout: float, waits: bool) -> None:
    actions = play(Plan(targets=2, retry=RetryPolicy(), run_timeout=timeout), [Told(7.5), "second"])
    assert any(isinstance(a, Sleep) for a in actions) is waits
    assert actions[-2].target == (0 if waits else 1)  # type: ignore[union-attr]  # a call
    assert actions[-1] == Return("second")


def test_fallbacks_are_tried_in_order_and_the_first_error_is_raised() -> None:
    first, second, third = BUG, KeyError("second"), LOST
    actions = play(Plan(targets=3), [first, second, third])
    assert [a.target for a in actions if isinstance(a, Call)] == [0, 1, 2]
    assert actions[-1] == Raise(first, (second, third))


def test_each_fallback_has_the_attempts_and_the_time_anew() -> None:
    plan = Plan(targets=2, retry=RetryPolicy(max_attempts=2, initial_interval=0), run_timeout=10)
    actions = play(plan, [LOST, LOST, LOST, "ok"], took=4)
    calls = [a for a in actions if isinstance(a, Call)]
    assert [(c.target, c.attempt, c.number) for c in calls] == [(0, 1, 1), (0, 2, 2), (1, 1, 3), (1, 2, 4)]
    assert [c.timeout for c in calls] == [10, 6, 10, 6]


def test_nothing_is_started_after_the_deadline() -> None:
    actions = play(Plan(targets=2), [LOST], state=State(deadline=0.5))
    assert actions[-1] == Raise(LOST, ())


def test_an_interrupt_is_raised_as_it_is() -> None:
    bubble = type("GraphBubbleUp", (Exception,), {})
    interrupt = type("GraphInterrupt", (bubble,), {})("a person is asked")
    plan = Plan(targets=2, retry=RetryPolicy(retry_on=Exception))
    assert play(plan, [interrupt])[-1] == Raise(interrupt, ())


@given(
    attempts=st.integers(1, 5),
    targets=st.integers(1, 4),
    fates=st.lists(st.sampled_from(["ok", LOST, BUG]), min_size=30, max_size=30),
)
def test_every_run_ends_with_one_outcome_within_its_attempts(attempts: int, targets: int, fates: list[Any]) -> None:
    actions = play(Plan(targets=targets, retry=RetryPolicy(max_attempts=attempts)), fates)
    calls = [a for a in actions if isinstance(a, Call)]
    assert len(calls) <= attempts * targets
    assert [c.number for c in calls] == list(range(1, len(calls) + 1))
    ends = [a for a in actions if isinstance(a, Return | Raise)]
    assert ends == [actions[-1]]
    if isinstance(actions[-1], Return):
        assert fates[len(calls) - 1] == "ok"


@given(chance=st.floats(0, 1, exclude_max=True), attempt=st.integers(1, 40))
def test_no_wait_is_longer_than_the_maximum(chance: float, attempt: int) -> None:
    plan = Plan(targets=1, retry=RetryPolicy(max_attempts=50, max_interval=3))
    _, action = step(plan, State(attempt=attempt), failed(LOST, chance), 0.0)
    assert isinstance(action, Sleep)
    assert 0 <= action.seconds < 3 or action.seconds == pytest.approx(3 * chance)
