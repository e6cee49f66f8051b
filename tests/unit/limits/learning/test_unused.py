"""What calls reserve and do not use is measured, and said once where it makes calls wait."""

from __future__ import annotations

import logging

import pytest

from langchain_parallel_plus.limits import Cost, RateLimiter
from langchain_parallel_plus.limits.ticket import Ticket
from langchain_parallel_plus.limits.tokens.estimate import Estimate, ModelCall

RESERVED = Cost(input_tokens=100, output_tokens=900)
USED = Cost(input_tokens=100, output_tokens=100)


class Key:
    """A limiter whose clock goes on as far as each call has to wait."""

    def __init__(self, provider: str | None, tokens: int = 2_000, estimate: Estimate | None = None) -> None:
        self.time = 0.0
        self.limiter = RateLimiter(
            tokens_per_minute=tokens, provider=provider, estimate=estimate, clock=lambda: self.time
        )

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


def call(max_tokens: int | None) -> ModelCall:
    return ModelCall(provider="openai", model="m", prompt="hello", max_tokens=max_tokens)


LONG = "set max_tokens near the answers' real length"
OPENAI = "openai is not known to give back what is reserved"


@pytest.mark.parametrize(
    ("provider", "estimate", "calls", "help_"),
    [
        ("openai", None, [call(900)], f"{OPENAI}, so {LONG}"),
        ("openai", lambda _: RESERVED, [call(None)], f"{OPENAI}, so let estimate= return less"),
        ("openai", None, [], f"{OPENAI}, so reserve less, by a smaller Cost"),
        ("openai", None, [call(None)], f"{OPENAI}, so give calls of short answers a max_tokens"),
        ("openai", None, [call(None), call(900)], f"{OPENAI}, so {LONG}, and give calls of short answers a max_tokens"),
        (
            None,
            None,
            [call(900)],
            "nobody knows whether the provider gives back what is reserved, so name it by provider= if it is a known "
            f"one, and {LONG}",
        ),
    ],
    ids=["max_tokens", "an estimate", "by hand", "the average", "both", "nobody knows the provider"],
)
def test_it_is_said_once_with_the_numbers_and_the_way_out(
    provider: str | None,
    estimate: Estimate | None,
    calls: list[ModelCall],
    help_: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    key = Key(provider, estimate=estimate)
    for one in calls:
        key.limiter.estimate(one)
    with caplog.at_level(logging.WARNING, "langchain_parallel_plus"):
        for _ in range(60):
            key.call()
    [record] = caplog.records
    assert record.getMessage() == (
        "limiter 'unnamed': calls wait for tokens_per_minute, of which 80 % is reserved and not used: 1000 tokens a "
        f"call are charged, and 200 used. help: {help_}"
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
