"""What calls reserve and do not use is measured, and said once where it makes calls wait."""

from __future__ import annotations

import logging

import pytest

from langchain_parallel_plus.limits import Cost, RateLimiter
from langchain_parallel_plus.limits.ticket import Ticket

RESERVED = Cost(input_tokens=100, output_tokens=900)
USED = Cost(input_tokens=100, output_tokens=100)


class Key:
    """A limiter whose clock goes on as far as each call has to wait."""

    def __init__(self, provider: str, tokens: int = 2_000) -> None:
        self.time = 0.0
        self.limiter = RateLimiter(tokens_per_minute=tokens, provider=provider, clock=lambda: self.time)

    def call(self, used: Cost = USED) -> None:
        ticket: Ticket = self.limiter.reserve(RESERVED)
        turnstile = self.limiter.account.turnstile
        while not ticket.granted:
            self.time += 1.0
            with turnstile.lock:
                turnstile.planner.advance(self.time)
        ticket.settle(used)

    @property
    def unused(self) -> float:
        return self.limiter.statistics().rates["tokens_per_minute"].unused


@pytest.mark.parametrize(("provider", "unused"), [("openai", 0.8), ("azure", 0.8), ("bedrock", 0.0), ("groq", 0.0)])
def test_what_is_reserved_in_vain_is_measured_where_the_provider_keeps_it(provider: str, unused: float) -> None:
    key = Key(provider)
    assert key.unused == 0.0
    for _ in range(3):
        key.call()
    assert key.unused == pytest.approx(unused)


def test_it_is_said_once_with_the_numbers_and_the_way_out(caplog: pytest.LogCaptureFixture) -> None:
    key = Key("openai")
    with caplog.at_level(logging.WARNING, "langchain_parallel_plus"):
        for _ in range(60):
            key.call()
    [record] = caplog.records
    assert record.getMessage() == (
        "limiter 'unnamed': calls wait for tokens_per_minute, of which max_tokens reserves 80 % unused: 1000 "
        "tokens a call are charged, and 200 used. help: the provider keeps what is reserved, so set max_tokens near "
        "the answers' real length"
    )


@pytest.mark.parametrize(
    ("provider", "tokens", "used", "calls"),
    [
        ("openai", 10_000_000, USED, 60),
        ("openai", 2_000, Cost(input_tokens=100, output_tokens=500), 60),
        ("openai", 2_000, USED, 19),
        ("bedrock", 2_000, USED, 60),
    ],
    ids=["nobody waits", "most is used", "few calls", "given back"],
)
def test_nothing_is_said_where_it_costs_nobody_anything(
    provider: str, tokens: int, used: Cost, calls: int, caplog: pytest.LogCaptureFixture
) -> None:
    key = Key(provider, tokens)
    with caplog.at_level(logging.WARNING, "langchain_parallel_plus"):
        for _ in range(calls):
            key.call(used)
    assert not caplog.records


def test_a_call_that_is_settled_twice_counts_once() -> None:
    key = Key("openai")
    ticket = key.limiter.reserve(RESERVED)
    ticket.settle(USED)
    ticket.settle(RESERVED)
    assert key.unused == pytest.approx(0.8)
