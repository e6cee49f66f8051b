"""Records of runs as they are reported, made by hand: seconds that anybody can check."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from langchain_parallel_plus.observe import (
    Attempt,
    BranchReport,
    FanOutReport,
    LimiterState,
    ModelCall,
    RateState,
    Wait,
)
from langchain_parallel_plus.outcome import BranchOutcome


def branch(key: str, began: float, ended: float, *, outcome: BranchOutcome = "ok", **facts: Any) -> BranchReport:
    """A branch of a fan-out that began at 0."""
    return BranchReport(path=(key,), began=began, seconds=ended, outcome=outcome, **facts)


def attempt(number: int, started: float, ended: float, outcome: BranchOutcome, role: str = "primary") -> Attempt:
    return Attempt(number=number, started=started, ended=ended, outcome=outcome, role=role)


def wait(started: float, ended: float, *, limiter: str = "openai", **facts: Any) -> Wait:
    given = {"dimension": "requests_per_minute", "call": uuid4(), "requests": 1, **facts}
    return Wait(limiter=limiter, started=started, ended=ended, **given)


def call(started: float, ended: float, *, model: str = "small", tokens: tuple[int, int] = (0, 0), **facts: Any) -> Any:
    given = {"call": uuid4(), **facts}
    sent, received = tokens
    return ModelCall(model=model, started=started, ended=ended, input_tokens=sent, output_tokens=received, **given)


def fan_out(*branches: BranchReport, seconds: float, **facts: Any) -> FanOutReport:
    given = {"name": "research", "outcome": "ok", **facts}
    return FanOutReport(seconds=seconds, branches={one.path: one for one in branches}, **given)


def per_second(rate: float, *, available: float = 1.0, name: str = "openai", **facts: Any) -> LimiterState:
    return LimiterState(
        name=name, rates={"requests_per_minute": RateState(limit=rate * 60, window=60, available=available)}, **facts
    )
