"""A call that was admitted is not charged again, wherever its context was copied to, and however many are open."""

from __future__ import annotations

from contextvars import ContextVar, copy_context

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_parallel_plus.limits import passes as module
from langchain_parallel_plus.limits.passes import CallPass, hold_pass, use_pass


def held(*limiters: object) -> CallPass:
    one = CallPass()
    hold_pass(one)
    for limiter in limiters:
        one.add(limiter)
    return one


def links(chain: ContextVar[module._Link | None]) -> int:
    count, link = 0, chain.get()
    while link is not None:
        count, link = count + 1, link.rest
    return count


@pytest.fixture(autouse=True)
def chain(monkeypatch: pytest.MonkeyPatch) -> ContextVar[module._Link | None]:
    own: ContextVar[module._Link | None] = ContextVar("chain", default=None)
    monkeypatch.setattr(module, "_PASSES", own)
    return own


def test_a_pass_is_good_for_one_acquisition_a_limiter_while_its_call_is_open() -> None:
    assert not use_pass("a")
    one = held("a", "b")
    assert [use_pass("a"), use_pass("a"), use_pass("c")] == [True, False, False]
    one.close()
    assert not use_pass("b")


def test_one_that_is_used_up_elsewhere_is_used_up_here_and_one_from_elsewhere_is_unknown() -> None:
    held("a")
    elsewhere = copy_context()
    assert elsewhere.run(use_pass, "a")
    assert not use_pass("a")
    elsewhere.run(held, "b")
    assert not use_pass("b")
    assert elsewhere.run(use_pass, "b")


@pytest.mark.parametrize("oldest_first", [True, False])
def test_calls_that_are_over_leave_nothing_behind(chain: ContextVar[module._Link | None], oldest_first: bool) -> None:
    always = held("always")
    opened = [held("a") for _ in range(500)]
    assert links(chain) == 501
    for one in opened if oldest_first else reversed(opened):
        one.close()
    for _ in range(1_100):
        held("a").close()
    assert links(chain) < 40
    assert use_pass("always")
    assert always.is_over


A, B = object(), object()
STEPS = st.tuples(st.sampled_from(["open", "close", "use"]), st.integers(0, 99), st.sampled_from([A, B]))


@given(st.lists(STEPS))
def test_the_last_call_that_has_something_left_pays(steps: list[tuple[str, int, object]]) -> None:
    def play() -> None:
        calls: list[tuple[CallPass, list[object]]] = []
        for step, number, limiter in steps:
            if step == "open":
                calls += [(held(A, B), [A, B]) for _ in range(number)]
            elif step == "close" and calls:
                calls.pop(number % len(calls))[0].close()
            elif step == "use":
                payer = next((left for _, left in reversed(calls) if limiter in left), None)
                assert use_pass(limiter) is (payer is not None)
                if payer is not None:
                    payer.remove(limiter)

    copy_context().run(play)
