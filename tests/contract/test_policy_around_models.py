"""`RunnableWithPolicy` around models with tools and with structured output, in a chain and under LangGraph."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda
from pydantic import BaseModel

from langchain_parallel_plus import (
    BranchPolicy,
    HedgePolicy,
    RetryBudget,
    RetryPolicy,
    RunnableWithPolicy,
    TimeoutPolicy,
)
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.modes import MODES, Mode

ALL = pytest.mark.parametrize("mode", MODES, ids=str)


def policy() -> BranchPolicy:
    """Return all policies, with a budget of their own."""
    return BranchPolicy(
        retry=RetryPolicy(initial_interval=0.001, budget=RetryBudget()),
        timeout=TimeoutPolicy(run_timeout=20, idle_timeout=10),
        hedge=HedgePolicy(5),
    )


class Answer(BaseModel):
    """What is asked for."""

    text: str


class Tooled(ScriptedChatModel):
    """Takes tools, and remembers with which it was bound."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self.bind(tools=[getattr(tool, "name", getattr(tool, "__name__", "")) for tool in tools])


def called(name: str) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": name, "args": {"text": "well"}, "id": "1"}])


def search(text: str) -> str:
    """Search."""
    return text


PROMPT = ChatPromptTemplate.from_template("{question}")


@ALL
async def test_a_model_with_tools_is_retried_inside_a_chain(mode: Mode) -> None:
    model = Tooled([ConnectionError("lost"), called("search")])
    chain = PROMPT | RunnableWithPolicy(model.bind_tools([search]), policy()) | (lambda message: message.tool_calls[0])
    assert (await mode.run(chain, {"question": "what?"}))["args"] == {"text": "well"}


@ALL
async def test_structured_output_is_retried_inside_a_chain(mode: Mode) -> None:
    model = Tooled([ConnectionError("lost"), called("Answer")])
    structured: Runnable[Any, Any] = model.with_structured_output(Answer)
    chain = PROMPT | RunnableWithPolicy(structured, policy()) | (lambda answer: [answer.text])
    assert await mode.run(chain, {"question": "what?"}) == ["well"]


@ALL
async def test_the_model_is_retried_and_not_what_stands_before_it(mode: Mode) -> None:
    asked: list[Any] = []
    lock = threading.Lock()

    def note(value: Any) -> Any:
        with lock:
            asked.append(value)
        return value

    model = ScriptedChatModel([ConnectionError("lost"), "well"])
    chain = RunnableLambda(note) | PROMPT | RunnableWithPolicy(model, policy())
    assert (await mode.run(chain, {"question": "what?"})).content == "well"
    assert len(asked) == 1
