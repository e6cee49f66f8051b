from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from langchain_parallel_plus._engine.cancel import CancelToken
from langchain_parallel_plus._engine.capacity import Capacity, Permit, checked_max_concurrency
from langchain_parallel_plus.errors import BranchAbandonedError, DeclarationError


class CapacityMachine(RuleBasedStateMachine):
    """Random requests, releases, withdrawals and waits against two nested caps."""

    def __init__(self) -> None:
        super().__init__()
        self.outer = Capacity(3)
        self.inner = Capacity(2, self.outer)
        self.permits: list[Permit] = []
        self.granted: list[Permit] = []

    @rule(inner=st.booleans())
    def request(self, inner: bool) -> None:
        permit = Permit(self.inner if inner else self.outer)
        self.permits.append(permit)
        permit.request(self._note(permit))

    def _note(self, permit: Permit) -> Callable[[], None]:
        return lambda: self.granted.append(permit)

    @rule(pick=st.integers(0, 50))
    def release(self, pick: int) -> None:
        if self.permits:
            self.permits.pop(pick % len(self.permits)).release()

    @rule(pick=st.integers(0, 50))
    def withdraw(self, pick: int) -> None:
        if self.permits:
            self.permits[pick % len(self.permits)].withdraw()

    @rule(pick=st.integers(0, 50))
    def ask_again(self, pick: int) -> None:
        idle = [permit for permit in self.permits if not permit.held and permit.pending is None]
        if idle:
            permit = idle[pick % len(idle)]
            permit.request(self._note(permit))

    @invariant()
    def no_cap_is_exceeded_and_none_is_left_unused(self) -> None:
        held = [permit for permit in self.permits if permit.held]
        in_inner = [permit for permit in held if permit.chain[0] is self.inner]
        assert self.outer.free == 3 - len(held) >= 0
        assert self.inner.free == 2 - len(in_inner) >= 0
        waiting = [permit for permit in self.permits if permit.pending is not None]
        assert not any(all(cap.free for cap in permit.chain) for permit in waiting)

    @invariant()
    def whoever_holds_was_told(self) -> None:
        assert all(permit in self.granted for permit in self.permits if permit.held)


CapacityMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestCapacity = CapacityMachine.TestCase


def test_threads_share_a_cap() -> None:
    capacity, lock, running, peak = Capacity(3), threading.Lock(), 0, 0

    def work() -> None:
        nonlocal running, peak
        permit = Permit(capacity)
        for _ in range(20):
            permit.acquire()
            with lock:
                running += 1
                peak = max(peak, running)
            with lock:
                running -= 1
            permit.release()

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert peak <= 3
    assert capacity.free == 3


async def test_a_cancelled_wait_keeps_nothing() -> None:
    capacity = Capacity(1)
    first, second, third = (Permit(capacity) for _ in range(3))
    await first.aacquire()
    waiting = asyncio.create_task(second.aacquire())
    last = asyncio.create_task(third.aacquire())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    first.release()
    await last
    assert third.held
    assert not second.held
    third.release()
    assert capacity.free == 1


async def test_a_grant_that_crosses_a_cancellation_goes_on_to_the_next() -> None:
    capacity = Capacity(1)
    first, second = Permit(capacity), Permit(capacity)
    await first.aacquire()
    waiting = asyncio.create_task(second.aacquire())
    await asyncio.sleep(0)
    first.release()  # the grant is on its way when the cancellation comes
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert capacity.free == 1


def test_an_abandoned_wait_ends_with_an_error() -> None:
    capacity, token = Capacity(1), CancelToken()
    holder, waiter = Permit(capacity), Permit(capacity)
    holder.acquire()
    threading.Timer(0.02, token.cancel).start()
    with pytest.raises(BranchAbandonedError):
        waiter.acquire(token)
    holder.release()
    assert capacity.free == 1


def test_a_permit_is_given_back_for_the_time_of_a_wait() -> None:
    capacity = Capacity(1)
    outer, inner = Permit(capacity), Permit(capacity)
    outer.acquire()
    with outer.suspended():
        inner.acquire()
        assert not outer.held
        inner.release()
    assert outer.held


def test_several_waits_at_once_give_a_permit_back_once() -> None:
    capacity = Capacity(1)
    permit = Permit(capacity)
    permit.acquire()
    with permit.suspended(), permit.suspended():
        assert capacity.free == 1
    assert permit.held
    permit.release()
    assert capacity.free == 1


def test_an_error_does_not_queue_for_the_permit_again() -> None:
    capacity = Capacity(1)
    permit, other = Permit(capacity), Permit(capacity)
    permit.acquire()

    def wait_in_vain() -> None:
        with permit.suspended():
            other.acquire()
            raise ValueError("up")

    with pytest.raises(ValueError, match="up"):
        wait_in_vain()
    assert not permit.held
    other.release()
    permit.ensure()
    assert permit.held


@pytest.mark.parametrize("value", [0, -1, 1.5, "4", True])
def test_a_cap_that_makes_no_sense_is_refused(value: object) -> None:
    with pytest.raises(DeclarationError, match=r"max_concurrency .* at least 1, got"):
        checked_max_concurrency(value)
