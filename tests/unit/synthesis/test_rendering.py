from __future__ import annotations

import dataclasses
import datetime
import enum
from collections import OrderedDict
from typing import Any, NamedTuple

import pytest
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.prompt_values import ChatPromptValue, StringPromptValue
from pydantic import BaseModel

from langchain_parallel_plus import BranchFailure, ErrorKind, RunnableSynthesis, SynthesisError
from langchain_parallel_plus.synthesis import rendered
from langchain_parallel_plus.testing import ScriptedChatModel


class Fact(BaseModel):
    name: str
    year: int
    source: Document | None = None


class Mood(enum.Enum):
    GOOD = "good"


class Level(enum.IntEnum):
    HIGH = 3


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Score:
    label: str
    value: float


LOST = BranchFailure.of("a", TimeoutError("the provider's own words"), kind=ErrorKind.TIMEOUT)
IMAGE = {"type": "image", "base64": "aGk=", "mime_type": "image/png"}
TOOL_CALL = {"name": "search", "args": {"query": "rain"}, "id": "1", "type": "tool_call"}


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("text", "text"),
        ("two\nlines", "two\nlines"),
        (None, ""),
        ("", ""),
        ([], ""),
        ({}, ""),
        (set(), ""),
        (b"", ""),
        (0, "0"),
        (3.5, "3.5"),
        (True, "True"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (Mood.GOOD, "good"),
        (Level.HIGH, "3"),
        (b"\x00" * 2048, "[2048 bytes]"),
        (AIMessage("from a model"), "from a model"),
        (AIMessageChunk("a chunk"), "a chunk"),
        (HumanMessage("from a human"), "from a human"),
        (ToolMessage("found", tool_call_id="1"), "found"),
        (AIMessage([{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]), "one two"),
        (AIMessage([{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "so"}]), "so"),
        (AIMessage("", tool_calls=[TOOL_CALL]), '[tool call search({"query": "rain"})]'),
        (
            HumanMessage(
                [{"type": "text", "text": "see"}, {"type": "image", "base64": "aGk=", "mime_type": "image/png"}]
            ),
            "see\n[image, image/png]",
        ),
        (Document("page"), "page"),
        (Document("page", metadata={"source": "a.txt", "page": 3}), "Source: a.txt\npage"),
        ([Document("one"), "two"], "- one\n- two"),
        (["a\nb", ["c", "d"]], "- a\n  b\n- - c\n  - d"),
        (("x", 1), "- x\n- 1"),
        (Point(1, 2), "- 1\n- 2"),
        ({"b", "a"}, "- a\n- b"),
        ({"a": 1}, '{"a": 1}'),
        ({1: "\u00e9", "m": AIMessage("hi"), "d": Document("page")}, '{"1": "\u00e9", "m": "hi", "d": "page"}'),
        (OrderedDict(b=1, a=None), '{"b": 1, "a": null}'),
        (Fact(name="x", year=1, source=Document("s")), '{"name": "x", "year": 1, "source": "s"}'),
        (Score("x", 0.5), '{"label": "x", "value": 0.5}'),
        (Score, str(Score)),
        ({"a": [Fact(name="x", year=1)]}, '{"a": [{"name": "x", "year": 1, "source": null}]}'),
        ({"when": datetime.date(2026, 1, 2), "mood": Mood.GOOD}, '{"when": "2026-01-02", "mood": "good"}'),
        ([LOST, "b"], "- [failed: timeout]\n- b"),
        (StringPromptValue(text="a prompt"), "- a prompt"),
        (ChatPromptValue(messages=[HumanMessage("a"), AIMessage("b")]), "- a\n- b"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_outputs_of_any_shape_are_text(output: Any, text: str) -> None:
    assert rendered(output) == text
    assert rendered(output) == rendered(output)


def shown(output: Any, **options: Any) -> str:
    model = ScriptedChatModel(["answer"])
    RunnableSynthesis(model, "{branches}", **options).invoke({"a": output})
    return str(model.calls[0].messages[0].content)


def test_a_block_has_what_was_rendered() -> None:
    assert shown([Document("one"), "two"]) == '<branch name="a">\n- one\n- two\n</branch>'


def test_how_outputs_are_rendered_can_be_replaced() -> None:
    assert "\nDOCUMENT\n" in shown(Document("document"), render=lambda output: output.page_content.upper())


def test_what_replaces_it_still_cannot_leave_its_block() -> None:
    assert shown("x", render=lambda _: "</branch>") == '<branch name="a">\n&lt;/branch>\n</branch>'


class Rude:
    def __str__(self) -> str:
        raise RuntimeError("no text for you")


def test_an_output_without_text_is_named_with_its_type() -> None:
    with pytest.raises(SynthesisError, match=r"branch 'a' \(Rude\) was not rendered: no text for you") as caught:
        shown(Rude())
    assert isinstance(caught.value.__cause__, RuntimeError)
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    with pytest.raises(SynthesisError, match=r"branch 'a' \(list\)"):
        shown(cyclic)


def test_a_render_that_returns_no_text_is_named_with_the_branch() -> None:
    with pytest.raises(SynthesisError, match=r"render returned int for the output of branch 'a' \(str\)"):
        shown("x", render=len)
