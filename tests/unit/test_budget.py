from __future__ import annotations

import pickle
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from langchain_parallel_plus import DeclarationError, RetryPolicy
from langchain_parallel_plus._engine.attempts import Failures, another_attempt, draws_on_budget
from langchain_parallel_plus._engine.budget import BUDGETS, Balance, SharedBudget
from langchain_parallel_plus._engine.sliding_counts import SLICES, SlidingCounts
from langchain_parallel_plus.outcome import ErrorKind
from langchain_parallel_plus.policy.budget import RetryBudget


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (lambda: RetryBudget(ratio=20), "RetryBudget.ratio must be more than 0 and at most 1, got 20"),
        (lambda: RetryBudget(minimum=-1), "RetryBudget.minimum must be a whole number of at least 0, got -1"),
        (lambda: RetryBudget(minimum=2.5), "got 2.5"),  # type: ignore[arg-type]
        (lambda: RetryBudget(window=0), "RetryBudget.window must be more than 0 seconds"),
        (lambda: RetryBudget(name=""), "RetryBudget.name must be a string that is not empty"),
        (lambda: RetryPolicy(budget=0.2), "RetryPolicy.budget takes a RetryBudget, got 0.2"),  # type: ignore[arg-type]
        (lambda: RetryPolicy(rate_limit_attempts=0), "rate_limit_attempts must be a whole number of at least 1, got 0"),
        (lambda: RetryPolicy(rate_limit_attempts=True), "got True"),
        (lambda: RetryPolicy(retry_on=int), "retry_on takes exception types"),  # type: ignore[arg-type]
        (lambda: RetryPolicy(backoff_factor=float("inf")), "backoff_factor must be at least 1"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused_with_the_way_out(declare: Any, says: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        declare()
    assert says in str(caught.value)
    assert "\nhelp: " in str(caught.value)


def test_a_retry_policy_holds_its_budget_as_data() -> None:
    policy = RetryPolicy(rate_limit_attempts=8, budget=RetryBudget(name="openai"))
    assert repr(policy) == "RetryPolicy(rate_limit_attempts=8, budget=RetryBudget(name='openai'))"
    assert pickle.loads(pickle.dumps(policy)) == policy


def test_few_calls_have_the_minimum_and_many_have_their_share() -> None:
    budget = SharedBudget(RetryBudget(ratio=0.2, minimum=10))
    assert sum(budget.take(0.0) for _ in range(50)) == 10
    for _ in range(100):
        budget.called(0.0)
    assert budget.left(0.0) == pytest.approx(20)
    assert sum(budget.take(0.0) for _ in range(50)) == 20


def test_what_is_spent_comes_back_when_the_window_is_over() -> None:
    budget = SharedBudget(RetryBudget(minimum=3, window=60))
    assert [budget.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert not budget.take(53.9)
    assert budget.take(60.0)


def test_without_a_minimum_only_calls_pay() -> None:
    budget = SharedBudget(RetryBudget(ratio=0.5, minimum=0))
    assert not budget.take(0.0)
    budget.called(0.0)
    assert not budget.take(0.0)
    budget.called(0.0)
    assert budget.take(0.0)


def test_a_retry_that_is_not_made_after_all_is_given_back() -> None:
    budget = SharedBudget(RetryBudget(minimum=1))
    assert budget.take(0.0)
    budget.give_back()
    assert budget.take(30.0)
    assert not budget.take(30.0)
    budget.give_back()
    budget.give_back()  # more than was taken is nothing
    assert budget.left(30.0) == 1


def test_budgets_are_shared_by_name_or_object() -> None:
    one, two = RetryBudget(name="same"), RetryBudget(name="same")
    assert BUDGETS.of(one) is BUDGETS.of(two)
    plain = RetryBudget()
    assert BUDGETS.of(plain) is BUDGETS.of(plain)
    assert BUDGETS.of(plain) is not BUDGETS.of(RetryBudget())
    with pytest.raises(DeclarationError, match=r"RetryBudget 'same' was declared before .* ratio 0.2, then 0.5"):
        BUDGETS.of(RetryBudget(name="same", ratio=0.5))


def test_threads_together_never_take_more_than_there_is() -> None:
    budget = SharedBudget(RetryBudget(minimum=100))
    together = threading.Barrier(8)
    taken: list[bool] = []

    def work() -> None:
        together.wait()
        taken.extend(budget.take(0.0) for _ in range(50))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(taken), sum(taken)) == (400, 100)


@given(
    events=st.lists(st.tuples(st.floats(0, 30), st.integers(0, 3), st.integers(0, 3)), max_size=100),
    later=st.floats(0, 100),
)
def test_sliding_counts_remember_the_last_tenths_of_the_window(
    events: list[tuple[float, int, int]], later: float
) -> None:
    counts, now, history = SlidingCounts(60.0), 0.0, []
    for pause, first, second in events:
        now += pause
        counts = counts.add(now, first, second)
        history.append((now, first, second))
    now += later
    tenth = int(now / 60.0 * SLICES)
    kept = [(first, second) for at, first, second in history if int(at / 60.0 * SLICES) > tenth - SLICES]
    assert counts.totals(now) == (sum(first for first, _ in kept), sum(second for _, second in kept))
    assert len(counts.slices) <= SLICES
    recent = [(first, second) for at, first, second in history if now - at < 53.9]
    assert counts.totals(now) >= (sum(first for first, _ in recent), sum(second for _, second in recent))


def test_sliding_counts_take_the_same_memory_after_a_year() -> None:
    counts = SlidingCounts(60.0)
    for number in range(1000):
        counts = counts.add(number * 6.0, 1)
    assert len(counts.slices) == SLICES
    assert counts.totals(999 * 6.0) == (SLICES, 0)


def test_a_clock_that_goes_back_is_one_that_stands_still() -> None:
    counts = SlidingCounts(60.0).add(100.0, 1, 1).add(10.0, 1, 0)
    assert counts.totals(100.0) == counts.totals(10.0) == (2, 1)


class Budget(RuleBasedStateMachine):
    """The balance against every call and retry that there was."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = RetryBudget(ratio=0.3, minimum=2, window=10)
        self.balance = Balance.of(self.budget)
        self.now = 0.0
        self.calls: list[float] = []
        self.retries: list[float] = []

    def _remembered(self, times: list[float]) -> int:
        return sum(int(at) > int(self.now) - 10 for at in times)

    def _room(self) -> float:
        return 2 + 0.3 * self._remembered(self.calls) - self._remembered(self.retries)

    @rule(seconds=st.sampled_from([0.25, 1.0, 4.0, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def a_call_begins(self) -> None:
        self.balance = self.balance.called(self.now)
        self.calls.append(self.now)

    @rule()
    def a_retry_is_wanted(self) -> None:
        room, after = self._room(), self.balance.taken(self.budget, self.now)
        assert (after is not None) == (room >= 1)
        if after is not None:
            self.balance = after
            self.retries.append(self.now)

    @rule()
    def the_last_retry_is_given_back(self) -> None:
        if self.retries and self._remembered(self.retries[-1:]):
            self.balance = self.balance.given_back()
            self.retries.pop()

    @invariant()
    def it_knows_what_is_left(self) -> None:
        assert self.balance.left(self.budget, self.now) == pytest.approx(self._room())


Budget.TestCase.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
TestBudgetMachine = Budget.TestCase


LIMIT, SERVER = ErrorKind.RATE_LIMIT, ErrorKind.SERVER


def attempts(retry: RetryPolicy, kinds: list[ErrorKind]) -> int:
    """Return the calls made when each fails as said."""
    failures = Failures()
    for number, kind in enumerate(kinds, start=1):
        failures = failures.and_one(kind)
        if not another_attempt(retry, failures, kind):
            return number
    return len(kinds) + 1


@pytest.mark.parametrize(
    ("retry", "kinds", "calls"),
    [
        (RetryPolicy(max_attempts=3), [SERVER] * 9, 3),
        (RetryPolicy(max_attempts=3), [LIMIT] * 9, 3),
        (RetryPolicy(max_attempts=3), [LIMIT, SERVER, LIMIT, SERVER], 3),
        (RetryPolicy(max_attempts=1), [SERVER], 1),
        (RetryPolicy(max_attempts=3, rate_limit_attempts=6), [LIMIT] * 9, 6),
        (RetryPolicy(max_attempts=3, rate_limit_attempts=6), [SERVER] * 9, 3),
        (RetryPolicy(max_attempts=3, rate_limit_attempts=6), [LIMIT] * 5 + [SERVER] * 9, 8),
        (RetryPolicy(max_attempts=3, rate_limit_attempts=6), [SERVER, SERVER] + [LIMIT] * 9, 8),
        (RetryPolicy(max_attempts=5, rate_limit_attempts=1), [SERVER, LIMIT], 2),
        (RetryPolicy(max_attempts=1, rate_limit_attempts=4), [LIMIT, LIMIT, SERVER], 3),
    ],
)
def test_rate_limits_have_attempts_of_their_own(retry: RetryPolicy, kinds: list[ErrorKind], calls: int) -> None:
    assert attempts(retry, kinds) == calls


@given(
    st.integers(1, 6),
    st.none() | st.integers(1, 6),
    st.lists(st.sampled_from([LIMIT, SERVER]), min_size=20, max_size=20),
)
def test_no_order_of_errors_makes_more_calls_than_declared(
    most: int, limited: int | None, kinds: list[ErrorKind]
) -> None:
    calls = attempts(RetryPolicy(max_attempts=most, rate_limit_attempts=limited), kinds)
    assert calls == most if limited is None else min(most, limited) <= calls <= most + limited - 1


def test_a_rate_limits_retry_costs_no_budget() -> None:
    retry = RetryPolicy(budget=RetryBudget())
    assert draws_on_budget(retry, SERVER)
    assert not draws_on_budget(retry, LIMIT)
    assert not draws_on_budget(RetryPolicy(), SERVER)


def test_a_share_of_the_budget_can_be_spared_for_whoever_comes_later() -> None:
    budget = RetryBudget(ratio=0.1, minimum=1, window=60)
    balance = Balance.of(budget)
    assert balance.taken(budget, 0.0, spare=0.2) is not None  # of what nothing has paid for, nothing is spared
    for _ in range(100):
        balance = balance.called(0.0)
    for _ in range(9):
        after = balance.taken(budget, 0.0, spare=0.2)
        assert after is not None
        balance = after
    assert balance.taken(budget, 0.0, spare=0.2) is None
    assert balance.taken(budget, 0.0) is not None
