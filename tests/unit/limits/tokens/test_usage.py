"""What a call used is read wherever LangChain puts it, and nothing odd is believed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, Generation, LLMResult

from langchain_parallel_plus.limits.tokens.usage import Usage, read_usage, split_usage


def chat_result(usage: Any) -> LLMResult:
    message = AIMessage("well")
    message.usage_metadata = usage
    return LLMResult(generations=[[ChatGeneration(message=message)]])


def text_result(counts: Any) -> LLMResult:
    return LLMResult(generations=[[Generation(text="well")]], llm_output={"token_usage": counts})


@pytest.mark.parametrize(
    ("result", "usage"),
    [
        (chat_result({"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}), (5, 7, False)),
        (chat_result({"input_tokens": 5, "output_tokens": 7, "total_tokens": 12, "total_cost": 0}), (0, 0, True)),
        (chat_result({"total_cost": 0}), (0, 0, True)),
        (chat_result(None), None),
        (chat_result({"input_tokens": "5", "output_tokens": 7}), None),
        (chat_result({"input_tokens": -5, "output_tokens": 7}), None),
        (chat_result({"input_tokens": True, "output_tokens": 7}), None),
        (chat_result({"input_tokens": 0, "output_tokens": 0}), None),
        (chat_result([1, 2]), None),
        (text_result({"prompt_tokens": 5, "completion_tokens": 7}), (5, 7, False)),
        (text_result({}), None),
        (LLMResult(generations=[[Generation(text="well")]]), None),
        (LLMResult(generations=[]), None),
        (LLMResult(generations=[[]]), None),
    ],
)
def test_usage_is_read_where_langchain_puts_it(result: LLMResult, usage: tuple[int, int, bool] | None) -> None:
    expected = usage and Usage(input_tokens=usage[0], output_tokens=usage[1], from_cache=usage[2])
    assert read_usage(result) == expected


def details(**parts: Any) -> dict[str, Any]:
    return {"input_tokens": 100, "output_tokens": 7, "total_tokens": 107, "input_token_details": parts}


@pytest.mark.parametrize(
    ("metadata", "cached", "written"),
    [
        (details(cache_read=60), 60, 0),
        (details(cache_read=60, cache_creation=30), 60, 30),
        (details(cache_read=60, cache_creation=0, ephemeral_5m_input_tokens=10, ephemeral_1h_input_tokens=5), 60, 15),
        (details(flex_cache_read=60, flex=40), 60, 0),
        (details(cache_read=500), 100, 0),
        (details(cache_read=None), 0, 0),
        (details(cache_read="60"), 0, 0),
        (details(cache_read=-60), 0, 0),
        (details(audio=60), 0, 0),
        ({**details(), "input_token_details": "none"}, 0, 0),
        ({**details(), "output_token_details": {"reasoning": 5}}, 0, 0),
    ],
)
def test_cached_tokens_are_part_of_the_input(metadata: dict[str, Any], cached: int, written: int) -> None:
    expected = Usage(input_tokens=100, output_tokens=7, cached_tokens=cached, cache_written_tokens=written)
    assert read_usage(chat_result(metadata)) == expected


def test_completion_models_report_cached_tokens_under_openai_s_names() -> None:
    counts = {"prompt_tokens": 100, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 64}}
    assert read_usage(text_result(counts)) == Usage(input_tokens=100, output_tokens=7, cached_tokens=64)


def test_a_chat_model_without_usage_on_its_message_may_have_it_on_the_result() -> None:
    result = chat_result(None)
    result.llm_output = {"token_usage": {"prompt_tokens": 5, "completion_tokens": 7}}
    assert read_usage(result) == Usage(input_tokens=5, output_tokens=7)


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=20),
    st.integers(0, 10**7),
    st.integers(0, 10**7),
    st.floats(0, 1),
)
def test_the_parts_of_a_batch_are_its_sum_and_none_is_less_than_nothing(
    weights: list[float], sent: int, received: int, cached: float
) -> None:
    usage = Usage(input_tokens=sent, output_tokens=received, cached_tokens=int(cached * sent))
    parts = split_usage(usage, weights)
    assert len(parts) == len(weights)
    for name in ("input_tokens", "output_tokens", "cached_tokens", "cache_written_tokens"):
        amounts = [getattr(part, name) for part in parts]
        assert sum(amounts) == getattr(usage, name)
        assert min(amounts) >= 0


def test_a_prompt_has_the_part_of_its_weight() -> None:
    parts = split_usage(Usage(input_tokens=400, output_tokens=40), [30, 10])
    assert [(part.input_tokens, part.output_tokens) for part in parts] == [(300, 30), (100, 10)]
