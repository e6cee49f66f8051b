"""A retry budget: the decision, pure, and the state that calls share."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_parallel_plus._engine.forks import survive_forks
from langchain_parallel_plus._engine.shared_states import SharedStates
from langchain_parallel_plus._engine.sliding_counts import Slice, SlidingCounts

if TYPE_CHECKING:
    from typing import Self

    from langchain_parallel_plus.policy.budget import RetryBudget

__all__ = ("BUDGETS", "Balance", "SharedBudget")


@dataclass(frozen=True, slots=True)
class Balance:
    """Calls and retries of the last seconds."""

    counts: SlidingCounts

    @classmethod
    def of(cls, budget: RetryBudget) -> Self:
        """Return the balance before the first call."""
        return cls(SlidingCounts(budget.window))

    def left(self, budget: RetryBudget, now: float) -> float:
        """Return the retries that the budget has room for; less than 0 when calls that paid for some are forgotten."""
        calls, retries = self.counts.totals(now)
        return budget.minimum + budget.ratio * calls - retries

    def called(self, now: float, times: int = 1) -> Balance:
        """Return the balance after calls were begun; their retries are not calls."""
        return Balance(self.counts.add(now, first=times))

    def taken(self, budget: RetryBudget, now: float, spare: float = 0.0) -> Balance | None:
        """Return the balance after one retry, or `None` if the budget has no room for it.

        Args:
            budget: The declaration.
            now: The time.
            spare: Share of what calls have paid for that is to be left after it.
        """
        calls, retries = self.counts.totals(now)
        if budget.minimum + budget.ratio * calls * (1 - spare) - retries < 1:
            return None
        return Balance(self.counts.add(now, second=1))

    def given_back(self) -> Balance:
        """Return the balance without the last retry, which was not made after all."""
        slices = self.counts.slices
        for index in range(len(slices) - 1, -1, -1):
            number, calls, retries = slices[index]
            if retries:
                changed = (*slices[:index], Slice(number, calls, retries - 1), *slices[index + 1 :])
                return Balance(SlidingCounts(self.counts.window, changed))
        return self


_TOGETHER = 1000
"""Parts of a window in each of which calls are entered in the balance at once."""


class SharedBudget:
    """The balance of all who share a budget. Usable from any thread and any event loop; times are monotonic seconds."""

    def __init__(self, declared: RetryBudget) -> None:
        self.declared = declared
        self._lock = threading.Lock()
        self._balance = Balance.of(declared)
        # Calls are many and retries few: those of a short while are entered together.
        self._calls = 0
        self._calls_until = 0.0
        survive_forks(self)

    def called(self, now: float) -> None:
        """Note that a call was begun: its first attempt."""
        with self._lock:
            if now >= self._calls_until:
                self._enter_calls()
                self._calls_until = now + self.declared.window / _TOGETHER
            self._calls += 1

    def _enter_calls(self) -> None:
        """Bring the balance up to date; the lock is held."""
        if self._calls:
            at = self._calls_until - self.declared.window / _TOGETHER
            self._balance = self._balance.called(at, self._calls)
            self._calls = 0

    def take(self, now: float, spare: float = 0.0) -> bool:
        """Spend one retry, if there is one left; see `Balance.taken`."""
        with self._lock:
            self._enter_calls()
            after = self._balance.taken(self.declared, now, spare)
            if after is not None:
                self._balance = after
        return after is not None

    def give_back(self) -> None:
        """Undo the last `take`: the retry is not made."""
        with self._lock:
            self._balance = self._balance.given_back()

    def left(self, now: float) -> float:
        """Return the retries that there is room for."""
        with self._lock:
            self._enter_calls()
        return self._balance.left(self.declared, now)

    def after_fork(self) -> None:
        """Start with a fresh lock."""
        self._lock = threading.Lock()


BUDGETS: SharedStates[RetryBudget, SharedBudget] = SharedStates(SharedBudget)
"""Of this process."""
