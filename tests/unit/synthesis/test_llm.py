from __future__ import annotations

from typing import Any

import pytest
from langchain_core.language_models import FakeListLLM
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.runnables import RunnableLambda
from pydantic import BaseModel

from langchain_parallel_plus import (
    BranchFailure,
    BranchPolicy,
    CoverageError,
    DeclarationError,
    ErrorKind,
    JoinPolicy,
    RunnableParallelPlus,
    RunnableSynthesis,
    SynthesisError,
)
from langchain_parallel_plus.outcome import FanOutDict
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.modes import MODES, Mode


def lost(name: str, partial: Any = None) -> BranchFailure:
    return BranchFailure.of(name, TimeoutError("the provider's own words"), kind=ErrorKind.TIMEOUT, partial=partial)


def prompt_of(model: ScriptedChatModel) -> str:
    [call] = model.calls
    return "\n".join(str(message.content) for message in call.messages)


async def test_one_call_sees_every_branch_under_its_name(mode: Mode) -> None:
    model = ScriptedChatModel(["the joined answer"])
    fan_out = RunnableParallelPlus(first=lambda x: f"{x} one", second=lambda x: f"{x} two")
    chain = fan_out | RunnableSynthesis(model, instructions="Write a brief.") | StrOutputParser()
    assert await mode.run(chain, "text", None) == "the joined answer"
    prompt = prompt_of(model)
    assert '<branch name="first">\ntext one\n</branch>\n\n<branch name="second">\ntext two\n</branch>' in prompt
    assert "Write a brief." in prompt
    assert "<missing name" not in prompt


async def test_a_list_is_joined_by_number(mode: Mode) -> None:
    model = ScriptedChatModel(["answer"])
    assert await mode.run(RunnableSynthesis(model) | StrOutputParser(), ["one", "two", None], None) == "answer"
    prompt = prompt_of(model)
    assert '<branch name="item_1">\none\n</branch>\n\n<branch name="item_2">\ntwo\n</branch>' in prompt
    assert '<missing name="item_3">empty</missing>' in prompt


async def test_the_model_is_told_which_branches_are_missing_and_why(mode: Mode) -> None:
    def down(_: str) -> str:
        raise TimeoutError("the provider's own words")

    model = ScriptedChatModel(["answer"])
    fan_out = RunnableParallelPlus(good=lambda x: x, slow=down, gone=down, blank=lambda _: " ").with_policy(
        slow=BranchPolicy(on_failure="keep"), gone=BranchPolicy(on_failure="drop")
    )
    chain = fan_out | RunnableSynthesis(model, expected=["good", "other"]) | StrOutputParser()
    assert await mode.run(chain, "text", None) == "answer"
    prompt = prompt_of(model)
    assert '<missing name="slow">timeout</missing>' in prompt
    assert '<missing name="gone">timeout</missing>' in prompt
    assert '<missing name="blank">empty</missing>' in prompt
    assert '<missing name="other">no result</missing>' in prompt
    assert "do not invent them" in prompt
    assert "own words" not in prompt


async def test_a_branch_that_was_not_waited_for_is_missing(mode: Mode) -> None:
    import threading

    never = threading.Event()
    model = ScriptedChatModel(["answer"])
    fan_out = RunnableParallelPlus(quick=lambda x: x, slow=lambda _: never.wait(10)).with_join(JoinPolicy(wait_for=1))
    try:
        assert await mode.run(fan_out | RunnableSynthesis(model) | StrOutputParser(), "text", None) == "answer"
    finally:
        never.set()
    assert '<missing name="slow">not waited for</missing>' in prompt_of(model)


def test_what_a_failed_branch_had_streamed_is_shown_and_marked() -> None:
    model = ScriptedChatModel(["answer"])
    RunnableSynthesis(model).invoke({"good": "x", "slow": lost("slow", partial="The first half of")})
    prompt = prompt_of(model)
    assert '<branch name="slow" partial="timeout">\nThe first half of\n</branch>' in prompt
    assert '<missing name="slow">timeout; shown as far as it came</missing>' in prompt
    assert "A block marked as partial was cut off when its branch failed" in prompt


def test_partial_text_alone_is_no_coverage() -> None:
    with pytest.raises(CoverageError, match="0 of 1 branches came back"):
        RunnableSynthesis(ScriptedChatModel(["answer"])).invoke({"slow": lost("slow", partial="The first half of")})


async def test_a_fan_out_inside_a_branch_tells_what_it_misses(mode: Mode) -> None:
    def down(_: str) -> str:
        raise TimeoutError("the provider's own words")

    model = ScriptedChatModel(["answer"])
    inner = RunnableParallelPlus(lost=down, found=lambda x: x).with_policy(BranchPolicy(on_failure="keep"))
    chain = RunnableParallelPlus(inner=inner, outer=lambda x: x) | RunnableSynthesis(model) | StrOutputParser()
    assert await mode.run(chain, "text", None) == "answer"
    prompt = prompt_of(model)
    assert '<missing name="inner/lost">timeout</missing>' in prompt
    assert '<branch name="inner">\n{"found": "text"}\n</branch>' in prompt
    assert "own words" not in prompt


async def test_a_fan_out_of_which_nothing_came_back_is_no_coverage(mode: Mode) -> None:
    model = ScriptedChatModel(["answer"])
    with pytest.raises(CoverageError, match="0 of 2 branches came back"):
        await mode.run(RunnableSynthesis(model), {"inner": {"a": lost("a"), "b": lost("b")}}, None)
    assert not model.calls


@pytest.mark.parametrize("streaming", [mode for mode in MODES if mode.streams], ids=str)
async def test_the_answer_is_streamed_while_it_is_written(streaming: Mode) -> None:
    synthesis = RunnableSynthesis(ScriptedChatModel(["one two three"], cycle=True))
    assert await streaming.run(synthesis | StrOutputParser(), {"a": "x"}, None) == "one two three"
    pieces = [chunk async for chunk in synthesis.astream({"a": "x"})]
    assert len([piece for piece in pieces if piece.content]) >= 3
    assert len([piece for piece in synthesis.stream({"a": "x"}) if piece.content]) >= 3


@pytest.mark.parametrize(
    ("inputs", "min_coverage", "share"),
    [
        ({"a": lost("a")}, None, "coverage 0.00"),
        ({"a": "x", "b": lost("b")}, 0.6, r"coverage 0.50, min_coverage is 0.6"),
        (["x", None, ""], 0.5, "coverage 0.33"),
        (FanOutDict({"a": "x"}, {"b": "timeout", "c": "not waited for"}), 0.5, "coverage 0.33"),
        ({"a": "x", "inner": {"b": "x", "c": lost("c"), "d": lost("d"), "e": lost("e")}}, 0.7, r"coverage 0.62"),
    ],
)
async def test_too_few_branches_raise_before_the_model_is_called(
    mode: Mode, inputs: Any, min_coverage: float | None, share: str
) -> None:
    model = ScriptedChatModel(["answer"])
    with pytest.raises(CoverageError, match=rf"\d of \d branches came back \({share}") as caught:
        await mode.run(RunnableSynthesis(model, min_coverage=min_coverage), inputs, None)
    assert "timeout" in str(caught.value) or "empty" in str(caught.value)
    assert not model.calls


def test_enough_branches_are_enough() -> None:
    model = ScriptedChatModel(["answer"], cycle=True)
    synthesis = RunnableSynthesis(model, min_coverage=0.5)
    synthesis.invoke({"a": "x", "b": lost("b")})
    synthesis.invoke({"a": {"x": "x", "y": lost("y")}})
    assert len(model.calls) == 2


@pytest.mark.parametrize("nothing", [{}, []])
async def test_an_empty_input_is_said_to_be_empty(mode: Mode, nothing: Any) -> None:
    model = ScriptedChatModel(["answer"])
    with pytest.raises(CoverageError, match="the input of RunnableSynthesis is empty"):
        await mode.run(RunnableSynthesis(model), nothing, None)
    assert not model.calls


@pytest.mark.parametrize(("wrong", "kind"), [("text", "str"), (None, "NoneType"), (AIMessage("x"), "AIMessage")])
async def test_an_input_that_is_neither_a_dict_nor_a_list_is_named(mode: Mode, wrong: Any, kind: str) -> None:
    with pytest.raises(SynthesisError, match=f"got {kind}"):
        await mode.run(RunnableSynthesis(ScriptedChatModel(["answer"])), wrong, None)


def test_a_key_that_is_no_name_is_named() -> None:
    with pytest.raises(SynthesisError, match=r"got the key 1 \(int\)"):
        RunnableSynthesis(ScriptedChatModel(["answer"])).invoke({1: "x"})


@pytest.mark.parametrize(
    "prompt",
    ["Join {branches}.", PromptTemplate.from_template("{branches}"), ChatPromptTemplate.from_template("{branches}")],
)
def test_the_prompt_can_be_ones_own(prompt: Any) -> None:
    model = ScriptedChatModel(["answer"])
    RunnableSynthesis(model, prompt).invoke({"a": "x"})
    assert "<branch" in prompt_of(model)


@pytest.mark.parametrize("argument", ["prompt", "digest_prompt"])
@pytest.mark.parametrize("prompt", ["no variable", "{branches} {topic}"])
def test_a_prompt_with_other_variables_is_refused(prompt: str, argument: str) -> None:
    with pytest.raises(DeclarationError, match=rf"the {argument} of RunnableSynthesis has the variables"):
        RunnableSynthesis(ScriptedChatModel(["answer"]), **{argument: prompt})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_coverage": -0.1}, "min_coverage is a share from 0 to 1, got -0.1"),
        ({"min_coverage": 1.1}, "min_coverage is a share from 0 to 1, got 1.1"),
        ({"min_coverage": float("nan")}, "min_coverage is a share"),
        ({"min_coverage": "half"}, "min_coverage is a share"),
        ({"min_coverage": True}, "min_coverage is a share"),
        ({"expected": "web"}, "expected takes names of branches, got the string 'web'"),
        ({"expected": [1]}, r"expected takes names of branches, got \[1\]"),
        ({"max_input_tokens": 0}, "max_input_tokens is a whole number of tokens, got 0"),
        ({"max_input_tokens": 8e3}, "max_input_tokens is a whole number of tokens, got 8000.0"),
        ({"digest_tokens": -1}, "digest_tokens is a whole number of tokens, got -1"),
        ({"max_input_tokens": 150}, r"max_input_tokens=150 leaves -?\d+ tokens for the branches: the prompt of"),
        ({"max_input_tokens": 1000, "digest_tokens": 900}, "digest_tokens=900 is more than half of the"),
        ({"render": "json"}, "render takes a function, got 'json'"),
        ({"count_tokens": 4}, "count_tokens takes a function, got 4"),
        ({"count_tokens": lambda _: "many"}, "count_tokens returned 'many'"),
        ({"instructions": 4}, "instructions is a text, got 4"),
        ({"limits": 4}, "limits takes RateLimiters, got 4"),
        ({"prompt": 4}, "prompt takes a prompt template, or text for one, got int"),
    ],
)
def test_a_wrong_argument_is_refused_at_once(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DeclarationError, match=message) as caught:
        RunnableSynthesis(ScriptedChatModel(["answer"]), **arguments)
    assert "help: " in str(caught.value)


class Brief(BaseModel):
    title: str


STRUCTURED = AIMessage("", tool_calls=[{"name": "Brief", "args": {"title": "Rain"}, "id": "1"}])


class StructuredChatModel(ScriptedChatModel):
    """A scripted model whose tools are taken, as those of providers are."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self.bind(tools=tools, **kwargs)


async def test_a_model_with_structured_output_gives_typed_results(mode: Mode) -> None:
    model = StructuredChatModel([STRUCTURED]).with_structured_output(Brief)
    assert await mode.run(RunnableSynthesis(model), {"a": "x"}, None) == Brief(title="Rain")


@pytest.mark.parametrize(
    "model",
    [
        FakeListLLM(responses=["answer"]),
        RunnableLambda(lambda prompt: "answer" if "<branch" in prompt.to_string() else "?"),
        ScriptedChatModel(["answer"], cycle=True) | StrOutputParser(),
        lambda _: "answer",
    ],
    ids=["llm", "lambda", "chain", "function"],
)
async def test_any_runnable_can_be_the_model(mode: Mode, model: Any) -> None:
    assert await mode.run(RunnableSynthesis(model), {"a": "x"}, None) == "answer"


async def test_further_arguments_go_to_the_model() -> None:
    model = ScriptedChatModel(["answer"], cycle=True)
    synthesis = RunnableSynthesis(model).bind(stop=["END"])
    synthesis.invoke({"a": "x"})
    await synthesis.ainvoke({"a": "x"})
    list(synthesis.stream({"a": "x"}))
    _ = [chunk async for chunk in synthesis.astream({"a": "x"})]
    assert [call.stop for call in model.calls] == [("END",)] * 4
