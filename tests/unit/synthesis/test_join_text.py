from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.messages import AIMessage

from langchain_parallel_plus import (
    BranchPolicy,
    CoverageError,
    DeclarationError,
    RunnableParallelPlus,
    UnknownBranchError,
)
from langchain_parallel_plus.synthesis import JoinText
from tests.modes import Mode
from tests.unit.synthesis.loading import lost


async def test_outputs_become_one_text_in_the_order_of_the_fan_out(mode: Mode) -> None:
    fan_out = RunnableParallelPlus(summary=lambda x: f"about {x}", terms=lambda x: [x, "more"])
    chain = fan_out | JoinText("## {branch}\n{output}")
    assert await mode.run(chain, "rain", None) == "## summary\nabout rain\n\n## terms\n- rain\n- more"


def test_outputs_of_any_shape_are_texts() -> None:
    outputs = {"a": AIMessage("one"), "b": Document("two"), "c": {"three": 3}, "d": 4}
    assert JoinText(separator="; ").invoke(outputs) == 'one; two; {"three": 3}; 4'
    assert JoinText().invoke(["x", "y"]) == "x\n\ny"


@given(st.text(), st.text(min_size=1).filter(str.strip))
def test_what_stands_in_an_output_is_never_looked_at(name: str, output: str) -> None:
    assert JoinText("{branch}|{output}|{{x}}").invoke({name: output}) == f"{name}|{output}|{{x}}"


@pytest.mark.parametrize("text", ["{branch}", "{output}", "{0}", "{output.__class__}", "{{", "}", "{branch!r}"])
def test_braces_in_an_output_are_text(text: str) -> None:
    assert JoinText("{branch}: {output}").invoke({"a": text, "b": "x"}) == f"a: {text}\n\nb: x"


def test_a_branch_can_have_a_template_of_its_own() -> None:
    join = JoinText({"summary": "SUMMARY: {output}"}, separator="\n")
    assert join.invoke({"summary": "x", "rest": "y"}) == "SUMMARY: x\ny"
    with pytest.raises(UnknownBranchError, match=r"JoinText.template names 'sumary'.*\nhelp: did you mean 'summary'"):
        JoinText({"sumary": "{output}"}).invoke({"summary": "x"})


def test_what_is_missing_is_left_out_or_said() -> None:
    def down(_: str) -> str:
        raise RuntimeError("secret words")

    fan_out = RunnableParallelPlus(down=down, good=lambda x: x, empty=lambda x: "", none=lambda x: None).with_policy(
        down=BranchPolicy(on_failure="drop")
    )
    assert (fan_out | JoinText()).invoke("text") == "text"
    said = (fan_out | JoinText(separator="\n", missing="{branch} is missing: {reason}")).invoke("text")
    assert said == "text\ndown is missing: failed\nnone is missing: empty\nempty is missing: empty"


@pytest.mark.parametrize("outputs", [{"a": ""}, {"a": " \n", "b": []}, {"a": lost("a")}, {}, []])
def test_nothing_to_join_is_no_coverage(outputs: Any) -> None:
    with pytest.raises(CoverageError, match="JoinText"):
        JoinText().invoke(outputs)


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (lambda: JoinText("{outptu}"), "JoinText.template has variables that it cannot have: '{outptu}'"),
        (lambda: JoinText("{output.real}"), "cannot have: '{output.real}'"),
        (lambda: JoinText("{output[0]}"), "cannot have"),
        (lambda: JoinText("{output!r}"), "cannot have"),
        (lambda: JoinText("{output:>9}"), "cannot have"),
        (lambda: JoinText("{}"), "cannot have"),
        (lambda: JoinText("{output"), "JoinText.template is no template"),
        (lambda: JoinText("{branch}"), "JoinText.template has no {output}"),
        (lambda: JoinText({"a": "{x}{output}"}), "JoinText.template['a'] has variables"),
        (lambda: JoinText(3), "JoinText.template must be a text, got 3"),  # type: ignore[arg-type]
        (lambda: JoinText(missing="{output}"), "JoinText.missing has variables that it cannot have"),
    ],
)
def test_a_template_that_cannot_be_filled_is_refused_with_the_way_out(declare: Any, says: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        declare()
    assert says in str(caught.value)
    assert "\nhelp: it takes {" in str(caught.value)
