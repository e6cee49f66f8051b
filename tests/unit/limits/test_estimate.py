"""Tokens of a call before it is made, and after."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, Generation, LLMResult

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.limits import Cost, RateLimiter
from langchain_parallel_plus.limits.estimate import (
    TOKENS_PER_MEDIA,
    TOKENS_PER_MESSAGE,
    ModelCall,
    TypicalCall,
    estimate_cost,
    output_cap,
)
from langchain_parallel_plus.limits.usage import Usage, read_usage

MESSAGE = TOKENS_PER_MESSAGE
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 400_000}}


def call(prompt: Any, **fields: Any) -> ModelCall:
    return ModelCall(provider="openai", model="gpt-4o-mini", prompt=prompt, **{"max_tokens": 10, **fields})


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


def chat_result(usage: Any) -> LLMResult:
    message = AIMessage("well")
    message.usage_metadata = usage
    return LLMResult(generations=[[ChatGeneration(message=message)]])


def text_result(counts: Any) -> LLMResult:
    return LLMResult(generations=[[Generation(text="well")]], llm_output={"token_usage": counts})


@pytest.mark.parametrize(
    ("result", "batch", "usage"),
    [
        (chat_result({"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}), 1, (5, 7, False)),
        (chat_result({"input_tokens": 5, "output_tokens": 7, "total_tokens": 12, "total_cost": 0}), 1, (0, 0, True)),
        (chat_result({"total_cost": 0}), 1, (0, 0, True)),
        (chat_result(None), 1, None),
        (chat_result({"input_tokens": "5", "output_tokens": 7}), 1, None),
        (chat_result({"input_tokens": -5, "output_tokens": 7}), 1, None),
        (text_result({"prompt_tokens": 5, "completion_tokens": 7}), 1, (5, 7, False)),
        (text_result({}), 1, None),
        (text_result({}), 3, (0, 0, False)),
        (LLMResult(generations=[[Generation(text="well")]]), 1, None),
        (LLMResult(generations=[]), 1, None),
        (LLMResult(generations=[[]]), 1, None),
    ],
)
def test_usage_is_read_where_langchain_puts_it(
    result: LLMResult, batch: int, usage: tuple[int, int, bool] | None
) -> None:
    expected = usage and Usage(input_tokens=usage[0], output_tokens=usage[1], from_cache=usage[2])
    assert read_usage(result, batch=batch) == expected
