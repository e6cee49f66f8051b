"""The circuit breaker against a model that remembers every call."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from langchain_parallel_plus._engine.breaker import (
    IGNORED,
    SUCCEEDED,
    Admitted,
    BreakerState,
    Closed,
    HalfOpen,
    Open,
    Refused,
    Result,
    ask,
    ended,
)
from langchain_parallel_plus._engine.sliding_counts import SLICES, SlidingCounts
from langchain_parallel_plus.policy.breaker import CircuitBreaker

BREAKER = CircuitBreaker(failure_ratio=0.5, minimum_calls=3, window=10, open_for=5, probes=2)
RESULTS = st.sampled_from([SUCCEEDED, IGNORED, Result("bad"), Result("closed"), Result("closed", reset=20.0)])


class Model(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.state: BreakerState = Closed(0, SlidingCounts(BREAKER.window))
        self.now = 0.0
        self.out: list[Admitted] = []
        self.period = 0
        self.phase = "closed"
        self.results: list[tuple[int, bool]] = []  # the tenth of the window, and whether it failed
        self.until = 0.0
        self.probes: list[float] = []  # when they were begun
        self.succeeded = 0

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 3.0, 9.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def a_call_asks(self) -> None:
        if self.phase == "open" and self.now >= self.until:
            self._becomes("half_open")
        self.probes = [at for at in self.probes if self.now - at < 120.0]  # the others are lost
        free = BREAKER.probes - len(self.probes) - self.succeeded
        may = {"closed": True, "open": False, "half_open": free > 0}[self.phase]
        self.state, answer = ask(BREAKER, self.state, self.now)
        if isinstance(answer, Refused):
            assert not may
            assert answer.seconds == (0.0 if self.phase == "half_open" else self.until - self.now)
            return
        assert may
        assert answer.probe == (self.phase == "half_open")
        if answer.probe:
            self.probes.append(self.now)
        self.out.append(answer)

    @rule(which=st.integers(0, 50), result=RESULTS)
    def a_call_ends(self, which: int, result: Result) -> None:
        if not self.out:
            return
        admitted = self.out.pop(which % len(self.out))
        before, self.state = self.state, ended(BREAKER, self.state, admitted, result, self.now)
        if admitted.period != self.period:
            if self.phase == "open" and result.reset is not None:
                self.until = max(self.until, self.now + result.reset)
            else:
                assert self.state is before
        elif self.phase == "half_open":
            self._a_probe_ends(admitted, result)
        else:
            self._counted(result)

    def _a_probe_ends(self, probe: Admitted, result: Result) -> None:
        if probe.at in self.probes:
            self.probes.remove(probe.at)
        self.succeeded += result is SUCCEEDED
        if result.health in ("bad", "closed"):
            self._opens(result)
        elif self.succeeded >= BREAKER.probes:
            self._becomes("closed")

    def _counted(self, result: Result) -> None:
        tenth = int(self.now / BREAKER.window * SLICES)
        if result.health == "closed":
            return self._opens(result)
        if result.health == "unknown":
            return None
        self.results.append((tenth, result.health == "bad"))
        remembered = [failed for at, failed in self.results if at > tenth - SLICES]
        if len(remembered) >= 3 and sum(remembered) >= 0.5 * len(remembered):
            self._opens(result)
        return None

    def _opens(self, result: Result) -> None:
        self.until = self.now + (5.0 if result.reset is None else result.reset)
        self._becomes("open")

    def _becomes(self, phase: str) -> None:
        self.phase, self.period = phase, self.period + 1
        self.probes, self.succeeded = [], 0
        self.results.clear()

    @invariant()
    def it_is_where_the_model_is(self) -> None:
        assert self.state.period == self.period
        assert {Closed: "closed", Open: "open", HalfOpen: "half_open"}[type(self.state)] == self.phase
        if isinstance(self.state, Open):
            assert self.state.until == self.until
        if isinstance(self.state, Closed):
            assert len(self.state.counts.slices) <= SLICES
        if isinstance(self.state, HalfOpen):
            assert list(self.state.under_way) == self.probes or len(self.state.under_way) <= BREAKER.probes
            assert self.state.succeeded == self.succeeded < BREAKER.probes


Model.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestBreaker = Model.TestCase
