"""A provider's name is believed at an endpoint of its own only; real models tell where they call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_openai import AzureChatOpenAI, ChatOpenAI, OpenAI

from langchain_parallel_plus.limits.gate.endpoint import provider_at_endpoint
from langchain_parallel_plus.limits.gate.invocation import describe_call
from langchain_parallel_plus.testing import ScriptedChatModel

AZURE = {"azure_deployment": "gpt", "api_version": "2024-10-21", "model": "gpt-4o", "api_key": "none"}


class Halt(BaseException):
    """Raised in place of the call."""


class Witness(BaseCallbackHandler):
    """Keeps what the start of a call tells, and halts it."""

    raise_error = True

    def on_chat_model_start(self, serialized: Any, messages: Any, **facts: Any) -> None:
        self.call = describe_call(serialized, messages[0], facts)
        raise Halt

    def on_llm_start(self, serialized: Any, prompts: Any, **facts: Any) -> None:
        self.call = describe_call(serialized, prompts[0], facts)
        raise Halt


def described(model: Any) -> Any:
    witness = Witness()
    with pytest.raises(Halt):
        model.invoke("hello", {"callbacks": [witness]})
    return witness.call


def openai(**fields: Any) -> Callable[[], Any]:
    return lambda: ChatOpenAI(model="gpt-4o-mini", api_key="none", **fields)


def azure(**fields: Any) -> Callable[[], Any]:
    return lambda: AzureChatOpenAI(**AZURE, **fields)


MODELS: dict[str, tuple[Callable[[], Any], dict[str, str], str, str]] = {
    "OpenAI": (openai(), {}, "openai", "openai"),
    "OpenAI, spelled out": (openai(base_url="https://api.openai.com/v1"), {}, "openai", "openai"),
    "OpenAI, in Europe": (openai(base_url="https://eu.api.openai.com/v1"), {}, "openai", "openai"),
    "a local server": (openai(base_url="http://127.0.0.1:8000/v1"), {}, "openai", ""),
    "another provider": (openai(base_url="https://openrouter.ai/api/v1"), {}, "openai", ""),
    "a look-alike": (openai(base_url="https://api.openai.com.example.org/v1"), {}, "openai", ""),
    "no address": (openai(base_url="http://[::1"), {}, "openai", ""),
    "LangChain's variable": (openai(), {"OPENAI_API_BASE": "http://127.0.0.1:1/v1"}, "openai", ""),
    "the SDK's variable": (openai(), {"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}, "openai", ""),
    "a field over the variable": (
        openai(base_url="https://api.openai.com/v1"),
        {"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"},
        "openai",
        "openai",
    ),
    "Azure": (azure(azure_endpoint="https://ours.openai.azure.com"), {}, "azure", "azure"),
    "Azure behind a gateway": (azure(azure_endpoint="https://gate.example.org"), {}, "azure", ""),
    "a completion model": (lambda: OpenAI(api_key="none"), {}, "openai", "openai"),
    "a local completion model": (
        lambda: OpenAI(api_key="none", base_url="http://127.0.0.1:1/v1"),
        {},
        "openai",
        "",
    ),
    "not serialisable": (lambda: ScriptedChatModel(["well"], provider="openai"), {}, "openai", ""),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", MODELS)
def test_real_models_tell_where_they_call(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    build, environment, provider, endpoint = MODELS[name]
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    try:
        model = build()
    except Exception:  # a client that refuses an address by itself
        assert endpoint == ""
        return
    call = described(model)
    assert (call.provider, call.endpoint) == (provider, endpoint)


def serialised(**fields: Any) -> dict[str, Any]:
    return {"lc": 1, "type": "constructor", "id": ["x", "Model"], "kwargs": fields}


@pytest.mark.parametrize(
    ("provider", "fields", "own"),
    [
        ("anthropic", {"anthropic_api_url": "https://api.anthropic.com"}, True),
        ("anthropic", {"anthropic_api_url": "https://proxy.example.org"}, False),
        ("groq", {"groq_api_base": "https://api.groq.com"}, True),
        ("groq", {}, True),
        ("google_genai", {"base_url": {"api_endpoint": "gateway.example.org"}}, False),
        ("amazon_bedrock", {"endpoint_url": "https://bedrock-runtime.eu-west-1.amazonaws.com"}, True),
        ("amazon_bedrock", {"endpoint_url": "https://vpce.example.org"}, False),
        ("mistral", {"endpoint": "https://api.mistral.ai/v1"}, True),
        ("nobody knows", {"base_url": "https://api.nobody.example.org"}, False),
        ("openai", {"openai_api_base": "x" * 5_000}, False),
        ("openai", {"openai_api_base": None}, True),
    ],
)
def test_addresses_are_found_under_each_integration_s_names(provider: str, fields: dict[str, Any], own: bool) -> None:
    assert provider_at_endpoint(provider, serialised(**fields), {}) == (provider if own else "")


@pytest.mark.parametrize("serialized", [None, "text", {}, {"kwargs": None}, {"type": "not_implemented", "repr": "x"}])
def test_what_says_nothing_is_not_believed(serialized: object) -> None:
    assert provider_at_endpoint("openai", serialized, {}) == ""


def test_no_provider_is_no_provider() -> None:
    assert provider_at_endpoint("", serialised(), {}) == ""
