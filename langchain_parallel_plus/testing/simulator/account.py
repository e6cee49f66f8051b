"""One key of a simulated provider: its rules, what it has used, and what has been counted."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_parallel_plus.testing.simulator.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_parallel_plus.testing.quota import Cost, Decision, QuotaState
    from langchain_parallel_plus.testing.simulator.ledger import Entry
    from langchain_parallel_plus.testing.simulator.rules import ProviderRules
    from langchain_parallel_plus.testing.simulator.tally import Tally

__all__ = ("Account", "Call")


@dataclass(frozen=True, slots=True)
class Call:
    """A request that has arrived, and where it is counted."""

    entry: Entry
    ledger: Ledger


class Account:
    """Holds the state that `ProviderRules` decide over; may be used from any thread.

    Args:
        rules: What is decided.
        clock: Seconds; need not be real.
    """

    def __init__(self, rules: ProviderRules, clock: Callable[[], float]) -> None:
        self.rules = rules
        self._clock = clock
        self._lock = threading.Lock()
        self._state, self._ledger = self._new()

    def _new(self) -> tuple[QuotaState, Ledger]:
        dimensions = (dimension for dimension, _ in self.rules.quota.limits)
        return self.rules.fresh(now=self._clock()), Ledger(dimensions)

    def tally(self) -> Tally:
        """Return what has happened since the start or the last reset."""
        return self._ledger.snapshot()

    def reset(self) -> None:
        """Give the full quota back and count from zero; calls in flight end uncounted."""
        with self._lock:
            self._state, self._ledger = self._new()

    def arrive(self) -> Call:
        """Count an arrival."""
        with self._lock:
            return Call(self._ledger.open(self._clock()), self._ledger)

    def admit(self, call: Call, cost: Cost) -> Decision:
        """Decide about a call as of its arrival, and count it if it is admitted."""
        with self._lock:
            decision = self.rules.quota.admit(self._state, cost, now=call.entry.arrived)
            self._state = decision.state
        if decision.charge is not None:
            call.ledger.admitted(call.entry, decision.charge)
        elif decision.refusal is not None:
            call.entry.outcome, call.entry.refused_by = "refused", decision.refusal.dimension
        return decision

    def end(self, call: Call, *, delivered: bool) -> None:
        """Correct what a call was charged to what it has used, as the token rule says, and count its end."""
        entry, tokens, now = call.entry, 0, self._clock()
        if entry.charge is not None:
            tokens = self.rules.final_cost(entry.charge, entry.used).tokens
            with self._lock:
                # After a reset there is nothing left of the charge.
                if call.ledger is self._ledger:
                    self._state = self.rules.settle(self._state, entry.charge, entry.used, now=now)
        call.ledger.close(entry, now=now, delivered=delivered, charged_tokens=tokens)
