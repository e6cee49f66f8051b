"""A model that retries by itself is warned of, once."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import pytest
from langchain_core.load import dumpd
from langchain_openai import AzureChatOpenAI, ChatOpenAI, OpenAI

from langchain_parallel_plus import RateLimiter, RunnableParallelPlus
from langchain_parallel_plus.limits.gate import hidden_retries as module
from langchain_parallel_plus.limits.gate.hidden_retries import (
    HiddenRetriesWarning,
    hidden_retries,
    warn_of_hidden_retries,
)
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.modes import Mode


@pytest.fixture(autouse=True)
def _nothing_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_warned", {})


class Retrying(ScriptedChatModel):
    """A model that shows a setting such as integrations have."""

    max_retries: int = 2


def azure(**fields: Any) -> AzureChatOpenAI:
    return AzureChatOpenAI(
        azure_deployment="d",
        api_version="2024-10-21",
        azure_endpoint="https://x.openai.azure.com",
        api_key="k",
        **fields,
    )


@pytest.mark.parametrize(
    ("model", "retries"),
    [
        (lambda: ChatOpenAI(model="gpt-4o", api_key="k"), 2),
        (lambda: ChatOpenAI(model="gpt-4o", api_key="k", max_retries=0), 0),
        (lambda: ChatOpenAI(model="gpt-4o", api_key="k", max_retries=6), 6),
        (lambda: azure(), 2),
        (lambda: azure(max_retries=0), 0),
        (lambda: OpenAI(api_key="k"), 2),
        (lambda: OpenAI(api_key="k", max_retries=0), 0),
        (lambda: ScriptedChatModel(["well"]), 0),
        (lambda: Retrying(["well"]), 2),
        (lambda: Retrying(["well"], max_retries=0), 0),
    ],
)
def test_real_models_tell_how_often_they_retry(model: Any, retries: int) -> None:
    assert hidden_retries(dumpd(model())) == retries


def serialised(**fields: Any) -> dict[str, Any]:
    return {"lc": 1, "type": "constructor", "id": ["langchain", "chat_models", "ChatThing"], "kwargs": fields}


@pytest.mark.parametrize(
    ("serialized", "provider", "retries"),
    [
        (serialised(max_retries=2, anthropic_api_url="https://api.anthropic.com"), "anthropic", 2),
        (serialised(max_retries=6), "google_genai", 5),
        (serialised(max_retries=1), "google_genai", 0),
        (serialised(max_retries=0), "google_genai", 5),
        (serialised(), "groq", 0),
        (serialised(max_retries=True), "groq", 0),
        (serialised(max_retries="2"), "groq", 0),
        ({"type": "not_implemented", "repr": "ChatDeepSeek(openai_api_key=SecretStr('**'))"}, "deepseek", 2),
        ({"type": "not_implemented", "repr": "ChatDeepSeek(openai_api_key=SecretStr('**'), max_retries=0)"}, "", 0),
        ({"type": "not_implemented", "repr": "ChatOther(max_retries=3, x=1)"}, "", 3),
        ({"type": "not_implemented"}, "", 0),
        (None, "", 0),
    ],
)
def test_other_integrations_are_read_from_what_they_serialise(serialized: Any, provider: str, retries: int) -> None:
    assert hidden_retries(serialized, provider) == retries


def warned(serialized: Any, **names: str) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_hidden_retries(serialized, **{"provider": "groq", "model": "m", "limiter": "key", **names})
    assert all(issubclass(one.category, HiddenRetriesWarning) for one in caught)
    return [str(one.message) for one in caught]


def test_the_warning_says_why_and_what_to_set() -> None:
    [message] = warned(serialised(max_retries=2), model="llama", limiter="groq key")
    assert "ChatThing 'llama' is under rate limiter 'groq key'" in message
    assert "up to 2 times by itself" in message
    assert "max_retries=0" in message
    assert "RetryPolicy" in message


def test_where_the_setting_counts_attempts_it_says_one() -> None:
    [message] = warned(serialised(max_retries=2), provider="google_genai")
    assert "again once by itself" in message
    assert "max_retries=1" in message


def test_each_class_and_name_is_warned_of_once() -> None:
    one, silent = serialised(max_retries=2), serialised(max_retries=0)
    assert [len(warned(one, model=name)) for name in ("a", "b", "a", "b")] == [1, 1, 0, 0]
    assert warned(silent, model="c") == []


def test_a_model_that_does_not_retry_hides_no_other_one_of_its_name() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for retries in (0, 2, 2):
            model = ChatOpenAI(model="gpt-4o-mini", api_key="k", max_retries=retries)
            warn_of_hidden_retries(dumpd(model), provider="openai", model="gpt-4o-mini", limiter="l")
    assert len(caught) == 1


def test_threads_warn_once_together() -> None:
    barrier = threading.Barrier(8)

    def warn() -> None:
        barrier.wait()
        warn_of_hidden_retries(serialised(max_retries=2), provider="", model="m", limiter="key")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        threads = [threading.Thread(target=warn) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(caught) == 1


async def test_a_branch_s_model_is_warned_of_at_its_first_call(mode: Mode) -> None:
    limiter = RateLimiter(requests_per_minute=600)
    model = Retrying(["well"], cycle=True)
    fan_out = RunnableParallelPlus(x=lambda text: model.invoke(text)).with_limits(limiter)
    with pytest.warns(HiddenRetriesWarning, match="Retrying 'scripted' is under rate limiter 'unnamed'") as caught:
        await mode.run(fan_out | (lambda _: "again") | fan_out, "ask", None)
    assert len(caught) == 1
    assert model.max_retries == 2


@pytest.mark.parametrize("limits", [(), (RateLimiter(requests_per_minute=60, models="openai:*"),)])
async def test_a_model_that_no_limiter_governs_may_retry(limits: Any, mode: Mode) -> None:
    fan_out = RunnableParallelPlus(x=Retrying(["well"], cycle=True)).with_limits(*limits)
    await mode.run(fan_out, "ask", None)


async def test_where_warnings_are_errors_the_call_is_refused_and_nothing_is_held(mode: Mode) -> None:
    limiter = RateLimiter(requests_per_day=5, concurrency=1)
    fan_out = RunnableParallelPlus(x=Retrying(["well"], cycle=True)).with_limits(limiter)
    with pytest.raises(HiddenRetriesWarning):
        await mode.run(fan_out, "ask", None)
    statistics = limiter.statistics()
    assert (statistics.in_flight, statistics.rates["requests_per_day"].available) == (0, 5)
