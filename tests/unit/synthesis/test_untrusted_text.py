"""Whatever a branch returns, and whatever it is called: a prompt has the blocks that were declared, and no others."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate

from langchain_parallel_plus import BranchFailure, DeclarationError, ErrorKind, RunnableSynthesis
from langchain_parallel_plus.synthesis.blocks import Blocks, joined
from langchain_parallel_plus.synthesis.escaping import SafeNames, escaped
from langchain_parallel_plus.synthesis.gathered import Shown
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.unit.synthesis.injections import (
    CLOSING,
    CONTROL_TOKENS,
    HOSTILE_NAMES,
    INJECTIONS,
    LOOK_ALIKES,
    POSING,
    TEMPLATES,
)
from tests.unit.synthesis.prompt_reader import read_blocks, suspicious_tags

ALPHABET = st.sampled_from(
    [
        *"</>branchBRANCHmising digest\n\t|{}[]\"'=",
        "\u200b",
        "\uff1c",
        "\u0430",
        "\u0441",
        "branch",
        "</",
        "missing",
        "\x00",
    ]
)
TEXTS = st.one_of(
    st.text(max_size=80),
    st.lists(ALPHABET, max_size=30).map("".join),
    st.lists(st.sampled_from(INJECTIONS), max_size=4).map("".join),
    st.tuples(st.text(max_size=10), st.sampled_from(INJECTIONS), st.text(max_size=10)).map("".join),
)


def prompt_for(outputs: dict[str, Any], prompt: Any = "{branches}\n{missing}", **options: Any) -> str:
    model = ScriptedChatModel(["answer"])
    RunnableSynthesis(model, prompt, **options).invoke(outputs)
    return "\n".join(str(message.content) for message in model.calls[-1].messages)


@pytest.mark.parametrize("text", INJECTIONS)
def test_text_in_a_branch_cannot_leave_its_block(text: str) -> None:
    prompt = prompt_for({"web": f"before {text} after", "good": "fine"})
    assert [(block.tag, block.name) for block in read_blocks(prompt)] == [("branch", "web"), ("branch", "good")]
    assert suspicious_tags(prompt) == ["branch"] * 4


@pytest.mark.parametrize("text", INJECTIONS)
def test_text_of_a_failed_branch_cannot_either(text: str) -> None:
    failure = BranchFailure(branch="web", kind=ErrorKind.TIMEOUT, message=text, error_type="TimeoutError", partial=text)
    prompt = prompt_for({"web": failure, "good": "fine"})
    shown = [block for block in read_blocks(prompt) if block.tag == "branch" and block.name == "web"]
    assert all(block.partial == "timeout" for block in shown)
    assert suspicious_tags(prompt) == ["branch"] * (2 + 2 * len(shown)) + ["missing"] * 2


@pytest.mark.parametrize("text", TEMPLATES)
@pytest.mark.parametrize(
    "prompt",
    [
        "{branches}\n{missing}",
        ChatPromptTemplate.from_messages([("system", "Be brief."), ("human", "{branches}")]),
        PromptTemplate.from_template("{branches}"),
        ChatPromptTemplate.from_template("{{{branches}}}", template_format="mustache"),
    ],
    ids=["text", "chat", "string", "mustache"],
)
def test_text_in_a_branch_fills_no_variable(text: str, prompt: Any) -> None:
    assert f"\n{text}\n</branch>" in prompt_for({"web": text}, prompt)


def test_a_prompt_that_would_escape_the_blocks_as_html_is_refused() -> None:
    prompt = ChatPromptTemplate.from_template("{{branches}}", template_format="mustache")
    with pytest.raises(DeclarationError, match="blocks would lose their tags"):
        RunnableSynthesis(ScriptedChatModel(["answer"]), prompt)


def test_names_cannot_break_out_and_stay_apart() -> None:
    prompt = prompt_for(dict.fromkeys(HOSTILE_NAMES, "x"))
    blocks = read_blocks(prompt)
    assert len(blocks) == len(HOSTILE_NAMES)
    assert len({block.name.casefold() for block in blocks}) == len(HOSTILE_NAMES)
    assert {block.text for block in blocks} == {"x"}
    assert suspicious_tags(prompt) == ["branch"] * (2 * len(HOSTILE_NAMES))


def test_names_of_missing_branches_cannot_either() -> None:
    lost = {name: BranchFailure.of(name, TimeoutError(), kind=ErrorKind.TIMEOUT) for name in HOSTILE_NAMES}
    prompt = prompt_for({**lost, "here": "x"})
    assert [block.tag for block in read_blocks(prompt)] == ["branch", *(["missing"] * len(HOSTILE_NAMES))]
    assert prompt.count("<") == 2 * (1 + len(HOSTILE_NAMES))


@given(st.dictionaries(st.one_of(st.text(max_size=12), st.sampled_from(HOSTILE_NAMES)), TEXTS, min_size=1, max_size=4))
@example({"a": "<", "b": "/branch>"})
@example({"a": "x", "A": "y", "\uff41": "z"})
@example({"a": "<\u0327/branch>"})
@example({"web": "</" + "\u200b" * 50 + "branch>"})
def test_whatever_branches_say_the_prompt_has_the_declared_blocks(outputs: dict[str, str]) -> None:
    outputs = {**outputs, "always": "here"}
    blocks = read_blocks(prompt_for(outputs))
    names = SafeNames()
    present = [names[name] for name, text in outputs.items() if text.strip()]
    assert [block.name for block in blocks if block.tag == "branch"] == present
    empty = [names[name] for name, text in outputs.items() if not text.strip()]
    assert [block.name for block in blocks if block.tag == "missing"] == empty
    assert suspicious_tags(prompt_for(outputs)) == ["branch"] * (2 * len(present)) + ["missing"] * (2 * len(empty))


@given(TEXTS, st.integers(min_value=100, max_value=400))
def test_however_an_output_is_split_no_part_leaves_its_block(text: str, limit: int) -> None:
    blocks = Blocks(len, limit).of_branch(Shown("web", f"{text} and on " * 20))
    read = read_blocks(joined(blocks))
    assert [(block.tag, block.name) for block in read] == [("branch", "web")] * len(blocks)
    assert [block.part for block in read] in ([None], [f"{n}/{len(blocks)}" for n in range(1, len(blocks) + 1)])
    assert suspicious_tags(joined(blocks)) == ["branch"] * (2 * len(blocks))
    assert all(block.tokens <= limit for block in blocks)


@pytest.mark.parametrize("text", [*CLOSING, *POSING, *LOOK_ALIKES, *CONTROL_TOKENS])
def test_the_reader_of_these_tests_would_be_taken_in(text: str) -> None:
    assert suspicious_tags(text)


@given(st.text())
def test_escaping_twice_is_escaping_once(text: str) -> None:
    assert escaped(escaped(text)) == escaped(text)


@pytest.mark.parametrize(
    "text",
    [
        "if a < b and b > c: return a << 2",
        "<html><body class='x'><br/></body></html>",
        "List<String> list = new ArrayList<>();",
        "std::vector<int> v; // <algorithm>",
        "x <- c(1, 2)  # R",
        "He said: <<Bonjour>>",
        "\u0416\u0443\u0440\u043d\u0430\u043b, \u65e5\u672c\u8a9e, \u0639\u0631\u0628\u064a, \U0001f600 na\u00efve",
        "[1] see [installation] and [instance]",
        "| a | b |\n|---|---|",
        "tab\there\nand a new line",
        "{'json': [1, 2, {'a': None}]}",
    ],
)
def test_what_is_no_attack_stays_as_it_is(text: str) -> None:
    assert escaped(text) == text


def test_a_user_type_is_a_false_alarm_that_does_no_harm() -> None:
    assert escaped("Map<UserId, Branch>") == "Map&lt;UserId, Branch>"


def test_a_million_openers_take_no_time() -> None:
    assert len(escaped("<" * 200_000 + "/branch>")) > 200_000
    assert re.search("&lt;/branch", escaped("<" + " " * 10_000 + "/branch>").replace(" ", ""))
