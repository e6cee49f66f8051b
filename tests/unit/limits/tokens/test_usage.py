"""What a call used is read wherever LangChain puts it, and nothing odd is believed."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, Generation, LLMResult

from langchain_parallel_plus.limits.tokens.usage import Usage, read_usage


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
        (chat_result({"input_tokens": True, "output_tokens": 7}), 1, None),
        (chat_result({"input_tokens": 0, "output_tokens": 0}), 1, None),
        (chat_result([1, 2]), 1, None),
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
