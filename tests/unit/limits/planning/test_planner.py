"""The planner's promises, over random histories: no limit is exceeded, nothing is lost, nobody is passed over."""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from dataclasses import asdict
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from langchain_parallel_plus.errors import RequestTooLargeError
from langchain_parallel_plus.limits.planning.bucket import Bucket, Rate, Refill
from langchain_parallel_plus.limits.planning.lanes import Request, RequestState
from langchain_parallel_plus.limits.planning.planner import CATCH_UP, CATCH_UP_BUCKETS, Planner
from langchain_parallel_plus.limits.planning.slots import SlotCare

TIGHT = 1e-3
"""Units: the planner allows a microsecond for rounding."""


def per_minute(limit: float, *, burst: float, utilisation: float = 1.0, refill: Refill = "bucket") -> Rate:
    return Rate(limit=limit, window=60.0, burst=burst, utilisation=utilisation, refill=refill)


def guarded(limit: float, *, burst: float) -> Rate:
    """A rate at a server that counts in windows of ten seconds and of a minute."""
    return Rate(limit=limit, window=60.0, burst=burst, utilisation=0.98, refill="window", guarded=(10.0, 60.0))


def planner(slots: int | None = None, **rates: Rate) -> Planner[Request]:
    return Planner(rates, slots=slots)


def submit(plan: Planner[Request], *amounts: float, now: float = 0.0, **fields: object) -> Request:
    request = Request(amounts=amounts, **fields)
    plan.submit(request, now)
    return request


def drain(plan: Planner[Request], now: float = 0.0, limit: int = 10_000) -> list[tuple[float, Request]]:
    """Follow the planner's own wake-ups until nothing is due any more."""
    order: list[tuple[float, Request]] = []
    for _ in range(limit):
        grants, wake_at = plan.advance(now)
        order += [(now, request) for request in grants]
        if wake_at is None:
            return order
        assert wake_at > now
        now = wake_at
    raise AssertionError("never done")


def state(plan: Planner[Request], request: Request) -> dict[str, object]:
    """Everything that an admission changes."""
    buckets = [(bucket.tat, bucket.level(request.planned)) for bucket in plan.buckets]
    return {**asdict(request), **asdict(plan.counts), "slots used": plan.slots_used, "buckets": buckets}


class PlannerMachine(RuleBasedStateMachine):
    """Random histories of one planner with two rates and a concurrency, at a provider that holds buckets."""

    RATES: ClassVar = {"requests": per_minute(60, burst=5), "tokens": per_minute(6_000, burst=500)}
    SLOTS = 4

    @initialize()
    def begin(self) -> None:
        self.now = 1_000.0
        self.plan = planner(slots=self.SLOTS, **self.RATES)
        self.requests: list[Request] = []
        self.granted: list[tuple[float, Request]] = []
        self.cancelled_granted: set[int] = set()
        self.held: list[Request] = []
        self.paused_until = 0.0
        self.wake_at: float | None = None

    @rule(
        lane=st.sampled_from(["a", "b", "c"]),
        weight=st.sampled_from([0.5, 1.0, 3.0]),
        tokens=st.integers(0, 1_500),
        slots=st.integers(0, 2),
    )
    def submit(self, lane: str, weight: float, tokens: int, slots: int) -> None:
        request = Request(amounts=(1.0, float(tokens)), lane=lane, weight=weight, slots=slots)
        shortcut, twin = copy.deepcopy((self.plan, request))
        nobody_waits = not self.plan.queued
        at_once = shortcut.grant(twin, self.now)
        self.plan.submit(request, self.now)
        self.requests.append(request)
        self._advance()
        if at_once or nobody_waits:
            assert at_once == (request.state is RequestState.GRANTED)
        if at_once:
            twin.share, twin.leaving = request.share, request.leaving  # only the queue asks for them
            assert state(shortcut, twin) == state(self.plan, request)

    @rule(seconds=st.floats(0.0, 20.0))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self._advance()

    @precondition(lambda self: self.wake_at is not None)
    @rule()
    def wake_exactly(self) -> None:
        """Nothing passes a moment before the announced time, and the head does at it."""
        head = self.plan.head()
        assert self.wake_at is not None
        just_before = math.nextafter(self.wake_at, 0.0)
        if just_before > self.now:
            assert self.plan.advance(just_before) == ([], self.wake_at)
        self.now = max(self.now, self.wake_at)
        self._advance()
        assert head is not None
        assert head.state is RequestState.GRANTED

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.requests))
        was_granted = request.state is RequestState.GRANTED
        levels = [bucket.level(self.now) for bucket in self.plan.buckets]
        if request in self.held:
            self.held.remove(request)
        elif was_granted:
            request.slots = 0  # released before
        assert self.plan.cancel(request, self.now) == (was_granted or request.number not in self.cancelled_granted)
        self.cancelled_granted.add(request.number)
        for bucket, before in zip(self.plan.buckets, levels, strict=True):
            assert before - TIGHT <= bucket.level(self.now) <= bucket.rate.burst + TIGHT
        self._advance()

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.held))
        self.held.remove(request)
        self.plan.release(request.slots, self.now)
        self._advance()

    @rule(tokens=st.integers(-2_000, 2_000))
    def charge(self, tokens: int) -> None:
        before = self.plan.buckets[1].level(self.now)
        self.plan.charge((0.0, float(tokens)), self.now)
        after = self.plan.buckets[1].level(self.now)
        assert after <= self.RATES["tokens"].burst + TIGHT
        if self.RATES["tokens"].refill == "bucket":
            assert after == pytest.approx(min(before - tokens, self.RATES["tokens"].burst), abs=1e-3)
        self._advance()

    @rule(seconds=st.floats(0.0, 30.0))
    def pause(self, seconds: float) -> None:
        self.plan.pause(self.now + seconds, self.now)
        self.paused_until = max(self.paused_until, self.now + seconds)
        self._advance()

    def _advance(self) -> None:
        grants, self.wake_at = self.plan.advance(self.now)
        for request in grants:
            assert self.now >= self.paused_until
            self.granted.append((self.now, request))
            self.held.append(request)

    @invariant()
    def nothing_is_lost(self) -> None:
        counts = self.plan.counts
        assert counts.submitted == len(self.requests) == counts.granted + counts.cancelled + self.plan.queued
        assert counts.granted == len(self.granted)
        queued = [request for request in self.requests if request.state is RequestState.QUEUED]
        assert len(queued) == self.plan.queued

    @invariant()
    def slots_are_not_exceeded(self) -> None:
        assert self.plan.slots_used == sum(request.slots for request in self.held) <= self.SLOTS

    @invariant()
    def lanes_are_first_in_first_out(self) -> None:
        """But for those who need no slot: they pass whoever waits for one."""
        last: dict[tuple[str, bool], int] = defaultdict(int)
        for _, request in self.granted:
            assert request.number > last[request.lane, request.slots > 0]
            last[request.lane, request.slots > 0] = request.number

    @invariant()
    def what_continues_a_holder_of_slots_never_waits_for_waiters_for_slots(self) -> None:
        """If nobody ever gives a slot back, time alone lets everything through that needs none."""
        if not any(request.state is RequestState.QUEUED and not request.slots for request in self.requests):
            return
        plan = copy.deepcopy(self.plan)
        drain(plan, self.now)
        assert all(request.slots for request in plan.drop_queue())

    @invariant()
    def a_wait_is_announced_unless_slots_are_short(self) -> None:
        head = self.plan.head()
        if head is not None and self.wake_at is None:
            assert self.plan.slots_used + head.slots > self.SLOTS


class WindowPlannerMachine(PlannerMachine):
    """The same at a provider that counts in windows."""

    RATES: ClassVar = {"requests": guarded(60, burst=5), "tokens": guarded(6_000, burst=500)}


for machine in (PlannerMachine, WindowPlannerMachine):
    machine.TestCase.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
TestPlannerHistories = PlannerMachine.TestCase
TestPlannerHistoriesInWindows = WindowPlannerMachine.TestCase


class WindowMachine(RuleBasedStateMachine):
    """Without refunds, no window of any length holds more than its share, whatever the timers do."""

    RATES: ClassVar = {"requests": per_minute(120, burst=3), "tokens": per_minute(6_000, burst=400)}

    @initialize()
    def begin(self) -> None:
        self.now = 0.0
        self.plan = planner(**self.RATES)
        self.granted: list[tuple[float, Request]] = []

    @rule(tokens=st.integers(1, 400), lane=st.sampled_from(["a", "b"]), count=st.integers(1, 4))
    def submit(self, tokens: int, lane: str, count: int) -> None:
        for _ in range(count):
            self.plan.submit(Request(amounts=(1.0, float(tokens)), lane=lane), self.now)
        self._advance()

    @rule(late=st.sampled_from([0.0, 0.0004, 0.02, 0.3]))
    def wake(self, late: float) -> None:
        _, wake_at = self.plan.advance(self.now)
        if wake_at is not None:
            self.now = wake_at + late
            self._advance()

    @rule(seconds=st.floats(0.0, 5.0))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self._advance()

    def _advance(self) -> None:
        grants, _ = self.plan.advance(self.now)
        self.granted += [(self.now, request) for request in grants]

    @invariant()
    def no_window_is_exceeded(self) -> None:
        for index, rate in enumerate(self.RATES.values()):
            for first, (begin, _) in enumerate(self.granted):
                taken = 0.0
                for at, request in self.granted[first:]:
                    taken += request.amounts[index]
                    allowed = rate.burst + (at - begin + CATCH_UP_BUCKETS) / rate.interval
                    assert taken <= allowed + TIGHT


WindowMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestWindows = WindowMachine.TestCase


def test_late_timers_do_not_cost_rate() -> None:
    """With every wake-up half a millisecond late, 2 ms apart, the schedule still keeps to the rate."""
    plan = planner(requests=per_minute(30_000, burst=1))
    for _ in range(1_000):
        submit(plan, 1.0)
    now, done = 0.0, 0
    while done < 1_000:
        grants, wake_at = plan.advance(now)
        done += len(grants)
        now = now if wake_at is None else wake_at + 0.0005
    assert now == pytest.approx(999 * 0.002, abs=0.001)


@pytest.mark.parametrize(("refill", "made_up"), [("window", CATCH_UP), ("bucket", CATCH_UP_BUCKETS)])
def test_a_stall_loses_its_quota_rather_than_burst(refill: Refill, made_up: float) -> None:
    plan = planner(requests=per_minute(6_000, burst=1, refill=refill))
    for _ in range(1_000):
        submit(plan, 1.0)
    plan.advance(0.0)
    grants, _ = plan.advance(3.0)
    assert len(grants) == 1 + made_up / 0.01


def test_an_idle_key_lets_the_burst_through_at_once_and_then_paces() -> None:
    plan = planner(requests=per_minute(60, burst=10))
    for _ in range(12):
        submit(plan, 1.0, now=500.0)
    times = [at for at, _ in drain(plan, 500.0)]
    assert times == pytest.approx([500.0] * 10 + [501.0, 502.0])


def test_a_request_above_the_burst_passes_alone_on_a_full_bucket_and_leaves_a_debt() -> None:
    plan = planner(tokens=per_minute(60, burst=10))
    submit(plan, 5.0)
    large = submit(plan, 30.0)
    after = submit(plan, 1.0)
    times = {request.number: at for at, request in drain(plan)}
    assert times[large.number] == pytest.approx(5.0)
    assert times[after.number] == pytest.approx(5.0 + 30.0 - 10.0 + 1.0)


@pytest.mark.parametrize("way", ["submit", "admit", "force"])
def test_a_request_above_the_limit_is_refused(way: str) -> None:
    plan = planner(tokens=per_minute(60, burst=10))
    request = Request(amounts=(61.0,))
    calls = {
        "submit": lambda: plan.submit(request, 0.0),
        "admit": lambda: plan.admit(request.amounts, 0, 0.0),
        "force": lambda: plan.force(request, 0.0),
    }
    with pytest.raises(RequestTooLargeError, match="needs 61 of tokens, and the limit itself is 60"):
        calls[way]()
    assert (plan.queued, plan.counts.submitted) == (0, 0)


def test_a_request_for_more_slots_than_there_are_is_refused() -> None:
    with pytest.raises(RequestTooLargeError, match="3 slots"):
        submit(planner(slots=2), slots=3)


def test_admission_takes_all_dimensions_or_none() -> None:
    plan = planner(requests=per_minute(60, burst=10), tokens=per_minute(600, burst=100))
    assert plan.admit((1.0, 100.0), 0, 0.0)
    assert not plan.admit((1.0, 50.0), 0, 0.0)
    assert plan.buckets[0].level(0.0) == pytest.approx(9.0)


def test_nobody_is_admitted_past_those_who_wait() -> None:
    plan = planner(tokens=per_minute(60, burst=10))
    submit(plan, 10.0)
    submit(plan, 10.0)
    plan.advance(0.0)
    assert not plan.admit((0.0,), 0, 5.0)


def test_a_freed_slot_lets_the_next_one_through() -> None:
    plan = planner(slots=1)
    first, second = submit(plan, slots=1), submit(plan, slots=1)
    assert plan.advance(0.0) == ([first], None)
    plan.release(1, 3.0)
    assert plan.advance(3.0) == ([second], None)
    assert (second.planned, second.bound_by) == (3.0, "concurrency")


def test_a_slot_that_time_gives_back_is_waited_for() -> None:
    plan = planner(slots=2)
    plan.concurrency.follow(SlotCare.all_of(2).overloaded(100.0, 99.0), 100.0)
    held, waiting = submit(plan, now=100.0, slots=1), submit(plan, now=100.0, slots=1)
    assert plan.advance(100.0) == ([held], 110.0)
    assert plan.advance(110.2) == ([waiting], None)
    assert (waiting.planned, waiting.bound_by) == (110.0, "concurrency")


def test_what_needs_no_slot_passes_one_that_waits_for_slots() -> None:
    plan = planner(slots=1, requests=per_minute(60, burst=2))
    holder = submit(plan, 1.0, slots=1, lane="a")
    waiting = submit(plan, 1.0, slots=1, lane="b")
    follower = submit(plan, 1.0, lane="a")
    assert plan.advance(0.0) == ([holder, follower], None)
    assert plan.head() is waiting


def test_nothing_passes_one_that_waits_for_a_rate_as_well() -> None:
    """A large request that waits for a slot earns its tokens meanwhile, however many small ones come by."""
    plan = planner(slots=1, tokens=per_minute(600, burst=100))
    holder = submit(plan, 60.0, slots=1)
    large = submit(plan, 90.0, slots=1)
    small = submit(plan, 10.0)
    assert plan.advance(0.0) == ([holder], pytest.approx(5.0))
    assert plan.forecast(Request(amounts=(10.0,)), 0.0) == pytest.approx(5.0)
    assert plan.head() is small
    assert plan.advance(4.9).grants == []
    plan.release(1, 4.9)
    assert [request for _, request in drain(plan, 4.9)] == [large, small]


def test_those_who_pass_are_fair_among_each_other() -> None:
    plan = planner(slots=1, requests=per_minute(60, burst=1))
    submit(plan, 1.0, slots=1)
    submit(plan, 1.0, slots=1)
    for _ in range(9):
        submit(plan, 1.0, lane="many")
    late = submit(plan, 1.0, lane="few")
    order = [request for _, request in drain(plan)]
    assert order.index(late) == 2
    assert plan.queued == 1


def test_a_forced_request_passes_the_queue_but_not_the_schedule() -> None:
    plan = planner(requests=per_minute(60, burst=1))
    submit(plan, 1.0)
    waiting = submit(plan, 1.0)
    plan.advance(0.0)
    forced = Request(amounts=(1.0,))
    assert plan.force(forced, 0.0) == pytest.approx(1.0)
    assert drain(plan) == [(pytest.approx(2.0), waiting)]


@pytest.mark.parametrize("refill", ["bucket", "window"])
def test_a_forced_request_that_would_be_too_late_takes_nothing(refill: Refill) -> None:
    plan = planner(requests=per_minute(60, burst=5, refill=refill), tokens=per_minute(600, burst=100, refill=refill))
    plan.charge((0.0, 400.0), 0.0)
    before = state(plan, request := Request(amounts=(1.0, 10.0)))
    assert plan.force(request, 0.0, 3.0) == plan.forecast(request, 0.0) > 30.0
    assert state(plan, request) == before


def test_a_pause_ends_without_a_burst() -> None:
    plan = planner(
        requests=per_minute(60, burst=10), daily=Rate(limit=1_000, window=86_400, burst=1_000, refill="bucket")
    )
    plan.pause(7.0, 0.0)
    plan.pause(5.0, 1.0)
    for _ in range(3):
        submit(plan, 1.0, 1.0)
    order = drain(plan)
    assert [at for at, _ in order] == pytest.approx([7.0, 8.0, 9.0])
    assert order[0][1].bound_by == "pause"
    assert plan.buckets[1].level(9.0) > 990


def test_what_was_refused_passes_right_after_the_pause() -> None:
    plan = planner(tokens=per_minute(6_000, burst=1_000))
    plan.pause(7.0, 0.0, keep=(900.0,))
    submit(plan, 900.0)
    submit(plan, 100.0)
    assert [at for at, _ in drain(plan)] == pytest.approx([7.0, 8.0])


@pytest.mark.parametrize("refill", ["bucket", "window"])
def test_a_shorter_pause_changes_nothing(refill: Refill) -> None:
    plan = planner(tokens=per_minute(6_000, burst=1_000, refill=refill))
    plan.pause(30.0, 0.0, keep=(900.0,))
    for until in (10.0, 30.0, 0.0):
        plan.pause(until, 0.0)
    submit(plan, 900.0)
    assert [at for at, _ in drain(plan)] == pytest.approx([30.0])


@pytest.mark.parametrize("refill", ["bucket", "window"])
def test_a_pause_that_is_ended_leaves_nearly_empty_buckets_and_what_was_owed(refill: Refill) -> None:
    plan = planner(tokens=per_minute(6_000, burst=1_000, refill=refill), daily=Rate(limit=9, window=86_400, burst=9))
    plan.charge((1_500.0, 0.0), 0.0)
    owed = plan.buckets[0].level(0.0)
    other = planner(tokens=per_minute(6_000, burst=1_000, refill=refill))
    for one in (plan, other):
        one.pause(600.0, 0.0)
        one.pause(3_600.0, 0.0)
        one.resume(0.0)
        one.resume(0.0)
        assert one.paused_until == 0.0
    assert plan.buckets[0].level(0.0) == pytest.approx(owed)
    assert other.buckets[0].level(0.0) == pytest.approx(100.0)
    for _ in range(2):
        submit(other, 100.0)
    assert [at for at, _ in drain(other)] == pytest.approx([0.0, 1.0], abs=1e-5)


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_a_new_rate_keeps_what_is_taken_in_units(factor: float) -> None:
    plan = planner(tokens=per_minute(600, burst=100))
    plan.charge((150.0,), 10.0)
    plan.set_rate("tokens", per_minute(600 * factor, burst=100), 10.0)
    assert plan.buckets[0].level(10.0) == pytest.approx(-50.0)
    submit(plan, 10.0, now=10.0)
    [(at, _)] = drain(plan, 10.0)
    assert at == pytest.approx(10.0 + 60.0 / (10 * factor))


@pytest.mark.parametrize("start", [0.0, 1e7])
@pytest.mark.parametrize("calls", [3, 10, 1_000])
@pytest.mark.parametrize("refill", ["bucket", "window"])
def test_the_last_unit_of_a_burst_is_not_lost_to_rounding(start: float, calls: int, refill: Refill) -> None:
    plan = planner(requests=Rate(limit=calls, window=86_400.0, burst=calls, refill=refill))
    assert [plan.admit((1.0,), 0, start) for _ in range(calls + 1)] == [True] * calls + [False]


def test_refunds_fill_a_bucket_to_full_and_no_further() -> None:
    bucket = Bucket(per_minute(60, burst=10))
    bucket.take(4.0, 100.0)
    bucket.charge(-50.0, 100.0, 100.0)
    bucket.charge(-50.0, 200.0, 100.0)
    assert bucket.level(100.0) == bucket.level(200.0) == 10.0
    assert bucket.eligible_at(10.0) == pytest.approx(100.0)


@pytest.mark.parametrize("refill", ["bucket", "window"])
@pytest.mark.parametrize("ahead", [0, 1, 7])
def test_the_forecast_is_exact_in_one_lane(ahead: int, refill: Refill) -> None:
    plan = planner(requests=per_minute(60, burst=2, refill=refill), tokens=per_minute(6_000, burst=500, refill=refill))
    for _ in range(ahead):
        submit(plan, 1.0, 300.0)
    request = Request(amounts=(1.0, 700.0))
    forecast = plan.forecast(request, 0.0)
    plan.submit(request, 0.0)
    times = {granted.number: at for at, granted in drain(plan)}
    assert times[request.number] == pytest.approx(forecast)


def test_a_small_lane_is_not_held_up_by_a_large_one() -> None:
    """The dominant share counts: twenty large calls queued first do not delay a small one of another lane by much."""
    plan = planner(requests=per_minute(600, burst=1), tokens=per_minute(60_000, burst=1_000))
    for _ in range(20):
        submit(plan, 1.0, 10_000.0, lane="large")
    small = [submit(plan, 1.0, 100.0, lane="small") for _ in range(5)]
    order = [request for _, request in drain(plan)]
    assert [order.index(request) for request in small] == [1, 2, 3, 4, 5]


def test_lanes_share_by_weight() -> None:
    plan = planner(requests=per_minute(60, burst=1))
    for _ in range(60):
        submit(plan, 1.0, lane="heavy", weight=3.0)
        submit(plan, 1.0, lane="light")
    served = [request.lane for _, request in drain(plan)][:40]
    assert served.count("heavy") == pytest.approx(30, abs=1)


@settings(max_examples=60, deadline=None)
@given(
    lanes=st.lists(
        st.tuples(st.sampled_from([0.5, 1.0, 2.0, 3.0]), st.lists(st.integers(1, 400), min_size=30, max_size=30)),
        min_size=2,
        max_size=5,
    )
)
def test_no_two_busy_lanes_drift_apart_by_more_than_a_request_of_each(lanes: list[tuple[float, list[int]]]) -> None:
    """The bound of start-time fair queueing: |S_i/w_i - S_j/w_j| <= max_i/w_i + max_j/w_j while both have requests."""
    plan = planner(tokens=per_minute(6_000, burst=1))
    for number, (weight, sizes) in enumerate(lanes):
        for size in sizes:
            submit(plan, float(size), lane=str(number), weight=weight)
    served, left = [0.0] * len(lanes), [len(sizes) for _, sizes in lanes]
    largest = [max(sizes) / weight for weight, sizes in lanes]
    for _, request in drain(plan):
        lane = int(request.lane)
        served[lane] += request.amounts[0] / request.weight
        left[lane] -= 1
        if not all(left):
            break
        for one, ours in enumerate(served):
            for other, theirs in enumerate(served):
                assert abs(ours - theirs) <= largest[one] + largest[other] + TIGHT


def test_a_lane_that_comes_late_gets_no_credit_for_its_absence() -> None:
    plan = planner(requests=per_minute(60, burst=1))
    early = [submit(plan, 1.0, lane="early") for _ in range(40)]
    now = 0.0
    while early[19].state is RequestState.QUEUED:
        wake_at = plan.advance(now).wake_at
        assert wake_at is not None
        now = wake_at
    for _ in range(10):
        submit(plan, 1.0, now=now, lane="late")
    served = [request.lane for _, request in drain(plan, now)][:10]
    assert served.count("late") == pytest.approx(5, abs=1)


def test_a_cancelled_request_leaves_no_trace_in_its_lane() -> None:
    plan = planner(requests=per_minute(60, burst=1))
    submit(plan, 1.0, lane="first")
    for request in [submit(plan, 1.0, lane="a") for _ in range(50)]:
        plan.cancel(request, 0.0)
    kept, other = submit(plan, 1.0, lane="a"), submit(plan, 1.0, lane="b")
    assert [request for _, request in drain(plan)][1:] == [kept, other]


def test_lanes_that_come_and_go_are_forgotten() -> None:
    plan = planner(requests=per_minute(60, burst=1))
    submit(plan, 1.0, lane="stays")
    for number in range(5_000):
        plan.cancel(submit(plan, 1.0, lane=f"lane {number}"), 0.0)
    queue = plan._line.everybody
    assert len(queue._lanes) + len(queue._heap) < 200
