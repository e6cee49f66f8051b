"""A synthesis is a Runnable as any other: it composes, travels, is traced, and has schemas."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
from langchain_core.load import dumps
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import BasePromptTemplate, ChatPromptTemplate, PromptTemplate
from langchain_core.prompts.chat import HumanMessagePromptTemplate, SystemMessagePromptTemplate
from langchain_core.runnables import ConfigurableField, RunnableLambda, RunnablePassthrough
from langchain_core.tracers.base import BaseTracer

from langchain_parallel_plus import (
    BranchPolicy,
    RateLimiter,
    RetryPolicy,
    RunnableParallelPlus,
    RunnableSynthesis,
    RunnableWithPolicy,
)
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.modes import MODES, Mode
from tests.unit.synthesis.loading import loaded
from tests.unit.synthesis.windows import Reader, count_words, words

OUTPUTS = {"a": "x", "b": "y"}
LONG = {f"b{number}": words(f"b{number}-", 60) for number in range(4)}
TEMPLATES = [ChatPromptTemplate, PromptTemplate, HumanMessagePromptTemplate, SystemMessagePromptTemplate]


def answering(*answers: Any) -> RunnableSynthesis:
    return RunnableSynthesis(ScriptedChatModel(list(answers) or ["answer"], cycle=not answers))


@pytest.mark.parametrize("whole", [mode for mode in MODES if not mode.streams], ids=str)
async def test_it_can_be_retried(whole: Mode) -> None:  # upstream retries no streams
    chain = answering(TimeoutError("slow"), "answer").with_retry(wait_exponential_jitter=False) | StrOutputParser()
    assert await whole.run(chain, OUTPUTS, None) == "answer"


async def test_it_has_a_policy_of_its_own(mode: Mode) -> None:
    policy = BranchPolicy(retry=RetryPolicy(max_attempts=2, initial_interval=0.001))
    chain = RunnableWithPolicy(answering(TimeoutError("slow"), "answer"), policy) | StrOutputParser()
    assert await mode.run(chain, OUTPUTS, None) == "answer"


async def test_it_can_fall_back(mode: Mode) -> None:
    chain = answering(ValueError("no")).with_fallbacks([answering("plan b")]) | StrOutputParser()
    assert await mode.run(chain, OUTPUTS, None) == "plan b"


async def test_it_is_a_branch_a_step_and_an_assignment(mode: Mode) -> None:
    brief = answering() | StrOutputParser()
    assert await mode.run(RunnableParallelPlus(brief=brief, raw=len), OUTPUTS, None) == {"brief": "answer", "raw": 2}
    assigned = RunnablePassthrough.assign(brief=brief)
    assert await mode.run(assigned, OUTPUTS, None) == {**OUTPUTS, "brief": "answer"}


async def test_its_fields_can_be_configured(mode: Mode) -> None:
    reader = Reader()
    synthesis = reader.synthesis(prompt="ANSWER {instructions} {branches}").configurable_fields(
        instructions=ConfigurableField(id="task"), max_input_tokens=ConfigurableField(id="window")
    )
    config = {"configurable": {"task": "Write a haiku.", "window": 400}}
    assert (await mode.run(synthesis, LONG, config)).content == "the answer"
    [prompt] = reader.prompts
    assert "Write a haiku." in prompt


async def test_its_models_fields_can_be_configured() -> None:
    models = ScriptedChatModel(["a"], cycle=True).configurable_alternatives(
        ConfigurableField(id="llm"), default_key="a", b=ScriptedChatModel(["b"], cycle=True)
    )
    synthesis = RunnableSynthesis(models)
    assert [spec.id for spec in synthesis.config_specs] == ["llm"]
    assert synthesis.with_config(configurable={"llm": "b"}).invoke(OUTPUTS).content == "b"


def synthesis_with_options() -> RunnableSynthesis:
    return RunnableSynthesis(
        RunnablePassthrough(),
        "Join {branches}",
        max_input_tokens=2_000,
        min_coverage=0.5,
        instructions="Write a brief.",
        expected=["a", "b"],
        with_provenance=True,
        digest_model=RunnablePassthrough(),
        digest_tokens=100,
        limits=RateLimiter(requests_per_minute=60, name="synthesis"),
        name="brief",
    )


@pytest.mark.parametrize(
    "copied",
    [
        lambda one: pickle.loads(pickle.dumps(one)),
        copy.copy,
        copy.deepcopy,
        lambda one: one.model_copy(),
        lambda one: loaded(one, RunnableSynthesis, RunnablePassthrough, *TEMPLATES),
    ],
    ids=["pickle", "copy", "deepcopy", "model_copy", "dumpd"],
)
def test_a_copy_has_all_that_was_declared(copied: Any) -> None:
    one = synthesis_with_options()
    twin = copied(one)
    assert type(twin) is RunnableSynthesis
    for name in type(one).model_fields:
        if name != "limits":
            assert getattr(twin, name) == getattr(one, name), name
    assert [limiter.account for limiter in twin.limits] == [limiter.account for limiter in one.limits]
    assert twin.plan(OUTPUTS) == one.plan(OUTPUTS)


def test_what_is_written_has_no_defaults() -> None:
    written = json.loads(dumps(RunnableSynthesis(RunnablePassthrough(), "Join {branches}")))
    assert written["id"] == ["langchain_parallel_plus", "synthesis", "llm", "RunnableSynthesis"]
    assert set(written["kwargs"]) == {"model", "prompt", "instructions", "digest_prompt"}


def test_it_has_schemas_and_a_graph() -> None:
    synthesis = answering()
    assert synthesis.get_input_jsonschema()["anyOf"]
    assert synthesis.get_output_jsonschema()
    assert "synthesize" in str(list(synthesis.get_graph().nodes.values()))
    assert isinstance(synthesis.prompt, BasePromptTemplate)


class Runs(BaseTracer):
    """Keeps the runs of a call."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[Any] = []

    def _persist_run(self, run: Any) -> None:
        self.all = [run]
        for one in self.all:
            self.all += one.child_runs


async def test_its_runs_say_what_they_are(mode: Mode) -> None:
    runs, reader = Runs(), Reader()
    await mode.run(reader.synthesis(), LONG, {"callbacks": [runs], "tags": ["mine"]})
    root, *children = runs.all
    assert root.name == "synthesize"
    assert not root.error
    digests = [run for run in children if "synthesize:digest" in (run.tags or [])]
    assert sorted(run.name for run in digests) == ["digest 1.1", "digest 1.2", "digest 1.3"]
    assert all("mine" in run.tags and run.parent_run_id == root.id for run in children)
    assert [run.name for run in children if run not in digests] == ["ScriptedChatModel"]


async def test_its_run_can_be_named(mode: Mode) -> None:
    runs = Runs()
    await mode.run(RunnableSynthesis(ScriptedChatModel(["x"]), name="brief"), OUTPUTS, {"callbacks": [runs]})
    assert runs.all[0].name == "brief"


async def test_its_events_show_the_words_as_they_come() -> None:
    chain = RunnableParallelPlus(a=RunnableLambda(str)) | RunnableSynthesis(ScriptedChatModel(["one two three"]))
    events = [event async for event in chain.astream_events("x", version="v2")]
    words = [event["data"]["chunk"].content for event in events if event["event"] == "on_chat_model_stream"]
    assert [word for word in words if word] == ["one ", "two ", "three"]
    ours = [event["event"] for event in events if event["name"] == "synthesize"]
    assert ours[0] == "on_chain_start"
    assert ours[-1] == "on_chain_end"
    assert ours.count("on_chain_stream") >= 3


@pytest.mark.parametrize("cap", [0, -1])
async def test_a_cap_that_is_none_is_refused(mode: Mode, cap: int) -> None:
    with pytest.raises(ValueError, match="max_concurrency"):
        await mode.run(answering(), OUTPUTS, {"max_concurrency": cap})


def test_the_models_own_tokenizer_counts_if_it_was_given_one() -> None:
    counted: list[str] = []

    def tokens(text: str) -> list[int]:
        counted.append(text)
        return list(range(count_words(text)))

    model = ScriptedChatModel(["answer"], custom_get_token_ids=tokens)
    RunnableSynthesis(model.bind(stop=["x"]), "{branches}", digest_prompt="{branches}", max_input_tokens=200).invoke(
        OUTPUTS
    )
    assert any("<branch" in text for text in counted)
