"""A real document that is longer than the model's window, read in parts and joined."""

from __future__ import annotations

from importlib import import_module

from langchain_core.messages import BaseMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from langchain_parallel_plus import RunnableSynthesis
from langchain_parallel_plus.synthesis import MapReduce
from langchain_parallel_plus.synthesis.counting import estimated_tokens
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.modes import Mode

WINDOW = 3_000
CHAPTERS = ("typesseq", "string-methods", "specialnames", "formatstrings", "objects")


async def test_every_part_is_read_once_and_no_call_is_longer_than_the_window(mode: Mode) -> None:
    topics: dict[str, str] = import_module("pydoc_data.topics").topics
    document = "\n\n".join(topics[name] for name in CHAPTERS)
    read: list[str] = []

    def answer(messages: list[BaseMessage]) -> str:
        prompt = "\n".join(str(message.content) for message in messages)
        if estimated_tokens(prompt) > WINDOW:
            raise ValueError("context_length_exceeded")
        if prompt.startswith("Summarise:\n"):
            read.append(prompt.removeprefix("Summarise:\n"))
            return f"Part {document.index(read[-1])} says something."
        return f"From {prompt.count('says something.')} parts."

    llm = ScriptedChatModel(answer)
    summarise = ChatPromptTemplate.from_template("Summarise:\n{part}") | llm | StrOutputParser()
    chain = MapReduce(summarise, RunnableSynthesis(llm), split=2_000) | StrOutputParser()
    result = await mode.run(chain, document, None)
    assert estimated_tokens(document) > 5 * WINDOW
    assert "".join(sorted(read, key=document.index)) == document
    assert result == f"From {len(read)} parts."
    assert len(read) <= estimated_tokens(document) / 2_000 * 1.3
