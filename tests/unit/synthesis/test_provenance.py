"""A result that says where it comes from: the same in every mode, and wherever it travels."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from langchain_core.output_parsers import StrOutputParser

from langchain_parallel_plus import (
    BranchFailure,
    BranchPolicy,
    ErrorKind,
    JoinPolicy,
    RunnableParallelPlus,
    RunnableSynthesis,
)
from langchain_parallel_plus.synthesis import SynthesisProvenance, SynthesisResult
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.modes import MODES, Mode, added
from tests.unit.synthesis.loading import loaded, lost

RESULT = SynthesisResult(
    output="text",
    provenance=SynthesisProvenance(
        contributed=("a", "b"), missing={"c": "timeout"}, partial=("c",), coverage=2 / 3, model_calls=4, levels=1
    ),
)


def text_model(text: str = "the joined answer") -> Any:
    return ScriptedChatModel([text], cycle=True) | StrOutputParser()


async def test_it_names_what_is_there_and_what_is_missing(mode: Mode) -> None:
    def down(_: str) -> str:
        raise TimeoutError("the provider's own words")

    fan_out = (
        RunnableParallelPlus(good=str.upper, also=str.lower, dropped=down, kept=down, empty=lambda _: "")
        .with_policy(dropped=BranchPolicy(on_failure="drop"), kept=BranchPolicy(on_failure="keep"))
        .with_join(JoinPolicy(min_success=1))
    )
    chain = fan_out | RunnableSynthesis(text_model(), with_provenance=True, expected=["other"])
    assert await mode.run(chain, "Text", None) == SynthesisResult(
        output="the joined answer",
        provenance=SynthesisProvenance(
            contributed=("good", "also"),
            missing={"kept": "timeout", "empty": "empty", "dropped": "timeout", "other": "no result"},
            coverage=2 / 6,
        ),
    )


async def test_nothing_missing_is_not_degraded(mode: Mode) -> None:
    result = await mode.run(RunnableSynthesis(text_model(), with_provenance=True), {"a": "x", "b": "y"}, None)
    assert result.provenance == SynthesisProvenance(contributed=("a", "b"))
    assert not result.provenance.degraded
    assert result.provenance.coverage == 1.0


async def test_text_of_a_failed_branch_is_named_as_partial(mode: Mode) -> None:
    inputs = {"a": "x", "b": BranchFailure.of("b", TimeoutError(), kind=ErrorKind.TIMEOUT, partial="half")}
    result = await mode.run(RunnableSynthesis(text_model(), with_provenance=True), inputs, None)
    assert result.provenance.contributed == ("a",)
    assert result.provenance.partial == ("b",)
    assert result.provenance.missing == {"b": "timeout"}


async def test_a_fan_out_inside_counts_as_the_share_of_its_branches(mode: Mode) -> None:
    inputs = {"a": "x", "inner": {"b": "y", "c": lost("c")}}
    result = await mode.run(RunnableSynthesis(text_model(), with_provenance=True), inputs, None)
    assert result.provenance.contributed == ("a", "inner")
    assert result.provenance.missing == {"inner/c": "timeout"}
    assert result.provenance.coverage == 0.75


@pytest.mark.parametrize("streaming", [mode for mode in MODES if mode.streams], ids=str)
async def test_the_text_is_streamed_first_and_the_provenance_last(streaming: Mode) -> None:
    synthesis = RunnableSynthesis(text_model("one two three"), with_provenance=True)
    chunks = list(synthesis.stream({"a": "x"}))
    assert chunks == [chunk async for chunk in synthesis.astream({"a": "x"})]
    assert [chunk.output for chunk in chunks if chunk.output] == ["one ", "two ", "three"]
    assert [chunk.provenance is None for chunk in chunks] == [True] * (len(chunks) - 1) + [False]
    assert added(chunks) == synthesis.invoke({"a": "x"}) == await streaming.run(synthesis, {"a": "x"}, None)


async def test_messages_are_added_up_as_messages(mode: Mode) -> None:
    synthesis = RunnableSynthesis(ScriptedChatModel(["one two"]), with_provenance=True)
    result = await mode.run(synthesis, {"a": "x"}, None)
    assert result.output.content == "one two"
    assert result.output.usage_metadata["output_tokens"] > 0


def test_outputs_that_cannot_be_added_are_the_last_one() -> None:
    total = SynthesisResult(output={1}) + SynthesisResult(output={2}) + SynthesisResult()
    assert total == SynthesisResult(output={2})
    with pytest.raises(TypeError):
        _ = SynthesisResult(output="x") + "y"  # type: ignore[operator]


@pytest.mark.parametrize("value", [RESULT, RESULT.provenance, SynthesisResult(output="text")], ids=repr)
def test_it_travels(value: Any) -> None:
    assert pickle.loads(pickle.dumps(value)) == value
    assert loaded(value, SynthesisResult, SynthesisProvenance) == value
    assert type(value).model_validate_json(value.model_dump_json()) == value


def test_as_json_it_says_whether_it_is_degraded() -> None:
    written = json.loads(RESULT.model_dump_json())
    assert written["provenance"] == {
        "contributed": ["a", "b"],
        "missing": {"c": "timeout"},
        "partial": ["c"],
        "coverage": 2 / 3,
        "model_calls": 4,
        "levels": 1,
        "degraded": True,
    }


def test_it_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        RESULT.output = "another"  # type: ignore[misc]


def test_it_reads_well() -> None:
    assert str(RESULT.provenance) == "from 2 of 3 branches: a, b; missing: c (timeout); 4 model calls"


def test_the_schema_names_it() -> None:
    assert RunnableSynthesis(text_model(), with_provenance=True).get_output_schema() is SynthesisResult
    assert RunnableSynthesis(text_model()).OutputType is str


async def test_an_error_of_this_package_is_a_failure_in_plain_words(mode: Mode) -> None:
    inner = RunnableParallelPlus(x=lambda _: 1 / 0, y=str).with_policy(BranchPolicy(on_failure="drop"))
    refused = inner | RunnableSynthesis(ScriptedChatModel(["never"]), min_coverage=1)
    fan_out = RunnableParallelPlus(p=refused, q=str).with_policy(BranchPolicy(on_failure="keep"))
    chain = fan_out | RunnableSynthesis(ScriptedChatModel(["text"]), with_provenance=True)
    assert (await mode.run(chain, "question", None)).provenance.missing == {"p": "failed"}
