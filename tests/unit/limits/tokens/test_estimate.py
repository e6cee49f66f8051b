"""Tokens of a call before it is made, and after."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from pydantic import BaseModel

from langchain_parallel_plus.errors import DeclarationError, RequestTooLargeError
from langchain_parallel_plus.limits import Cost, RateLimiter
from langchain_parallel_plus.limits.tokens.estimate import (
    TOKENS_PER_MESSAGE,
    ModelCall,
    TypicalCall,
    checked_estimate,
    estimate_cost,
    output_cap,
)
from langchain_parallel_plus.limits.tokens.media import TOKENS_PER_MEDIA

MESSAGE = TOKENS_PER_MESSAGE
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 400_000}}


def call(prompt: Any, **fields: Any) -> ModelCall:
    return ModelCall(provider="openai", model="gpt-4o", prompt=prompt, **{"max_tokens": 10, **fields})


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [
        ("x" * 400, 100),
        ("", 0),
        ([HumanMessage("x" * 401)], 101 + MESSAGE),
        ([SystemMessage("x" * 40), HumanMessage("x" * 40)], 20 + 2 * MESSAGE),
        ([HumanMessage([{"type": "text", "text": "x" * 40}, "x" * 4])], 11 + MESSAGE),
        ([HumanMessage([{"type": "text", "text": "what is this?"}, IMAGE])], 4 + TOKENS_PER_MEDIA + MESSAGE),
        ([HumanMessage([{"type": "unheard of", "data": "A" * 400_000}])], TOKENS_PER_MEDIA + MESSAGE),
    ],
)
def test_input_is_a_quarter_of_the_characters_and_media_are_flat(prompt: Any, tokens: int) -> None:
    assert estimate_cost(call(prompt)) == Cost(input_tokens=tokens, output_tokens=10)


def test_tool_calls_and_tools_are_input_too() -> None:
    asked = AIMessage("", tool_calls=[{"name": "search", "args": {"query": "x" * 400}, "id": "1"}])
    assert estimate_cost(call([asked])).input_tokens > 100
    with_tools = call("hi", parameters={"tools": [{"name": "search", "description": "x" * 400}]})
    assert estimate_cost(with_tools).input_tokens > 100


def test_output_is_the_cap_or_else_the_average_for_each_answer() -> None:
    assert estimate_cost(call("", max_tokens=70)).output_tokens == 70
    assert estimate_cost(call("", max_tokens=None, typical_output=33.4)).output_tokens == 33
    assert estimate_cost(call("", max_tokens=70, parameters={"n": 3})).output_tokens == 210


@pytest.mark.parametrize(
    ("parameters", "metadata", "cap"),
    [
        ({"max_tokens": 5}, {}, 5),
        ({"max_completion_tokens": 6, "max_tokens": 5}, {}, 6),
        ({"max_output_tokens": 7}, {}, 7),
        ({"max_tokens": None}, {"ls_max_tokens": 8}, 8),
        ({"max_tokens": -1}, {}, None),
        ({"max_tokens": "many"}, {}, None),
        ({}, {}, None),
    ],
)
def test_the_cap_is_found_under_the_integrations_names(
    parameters: dict[str, Any], metadata: dict[str, Any], cap: int | None
) -> None:
    assert output_cap(parameters, metadata) == cap


def test_the_average_follows_the_calls() -> None:
    typical = TypicalCall()
    assert typical.cost() == Cost(input_tokens=500, output_tokens=250)
    for _ in range(100):
        typical.observe(1_000, 50)
    assert typical.cost().input_tokens == pytest.approx(1_000, abs=2)
    assert typical.cost().output_tokens == pytest.approx(50, abs=2)
    typical.observe(0, 2_050)
    assert typical.cost().output_tokens == pytest.approx(250, abs=5)


def test_the_estimate_can_be_replaced() -> None:
    seen: list[ModelCall] = []

    def flat(asked: ModelCall) -> Cost:
        seen.append(asked)
        return Cost(tokens=42)

    limiter = RateLimiter(requests_per_minute=1, estimate=flat)
    limiter.account.observe(10, 350)
    assert limiter.estimate(call("hello")) == Cost(tokens=42)
    assert (seen[0].prompt, seen[0].typical_output) == ("hello", 300)


def test_an_estimate_of_another_type_is_refused() -> None:
    with pytest.raises(DeclarationError, match="estimate= returned 42, which is no Cost"):
        RateLimiter(requests_per_minute=1, estimate=lambda _: 42).estimate(call("hello"))


class Schema(BaseModel):
    """What a model that answers in a structure is given as `response_format`."""

    a_rather_long_name_of_a_field: str
    another_rather_long_name_of_a_field: int


def test_the_schema_of_an_answer_is_input_too_also_as_a_class() -> None:
    as_class = estimate_cost(call("hi", parameters={"response_format": Schema})).input_tokens
    as_dict = estimate_cost(call("hi", parameters={"response_format": Schema.model_json_schema()})).input_tokens
    assert as_class == as_dict > 50


def test_the_input_is_corrected_and_the_output_is_not() -> None:
    assert estimate_cost(call("x" * 400, correction=1.5)) == Cost(input_tokens=150, output_tokens=10)


async def _awaited(_: ModelCall) -> Cost:
    return Cost(tokens=1)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (42, "returned 42, which is no Cost"),
        (None, "returned None, which is no Cost"),
        ({"tokens": 5}, "which is no Cost"),
        (_awaited, "which is no Cost"),
    ],
)
def test_what_an_estimate_returns_is_checked(returned: Any, message: str) -> None:
    with pytest.raises(DeclarationError, match=message) as raised:
        checked_estimate(returned)
    assert "return Cost(" in str(raised.value)


def test_an_async_estimate_is_refused_without_a_second_warning() -> None:
    with pytest.raises(DeclarationError, match="async function") as raised:
        checked_estimate(_awaited(call("hi")))
    assert "plain function" in str(raised.value)
    assert checked_estimate(Cost(tokens=3)) == Cost(tokens=3)


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "correction", "admitted"),
    [
        ("hello you", None, 1.0, 200),  # an average answer would be 250
        ("x" * 760, None, 4.0, 200),
        ("x" * 760, 10, 4.0, 200),
        ("x" * 840, None, 0.5, 200),  # a lane whose estimates were twice too high
        ("x" * 840, None, 1.0, None),
        ("x" * 400, 101, 1.0, None),
        ("x" * 400, 101, 0.25, 126),
    ],
)
def test_a_call_is_too_large_only_by_what_is_certain(
    prompt: str, max_tokens: int | None, correction: float, admitted: int | None
) -> None:
    limiter = RateLimiter(tokens_per_minute=200)
    cost = limiter.estimate(call(prompt, max_tokens=max_tokens), correction=correction)
    if admitted is None:
        with pytest.raises(RequestTooLargeError):
            limiter.reserve(cost)
    else:
        assert limiter.account.amounts(cost) == (admitted,)
        limiter.reserve(cost)
