"""Models that read little, and remember what: for tests of what is longer than a window."""

from __future__ import annotations

import re
from typing import Any

from langchain_core.messages import BaseMessage

from langchain_parallel_plus import RunnableSynthesis
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.unit.synthesis.prompt_reader import Tag, read_blocks

__all__ = ("DIGEST_WORDS", "Reader", "count_words", "words")

DIGEST_WORDS = 10


def count_words(text: str) -> int:
    """Count the words outside of tags: then a block has as many tokens as its output."""
    return len(re.sub(r"<[^<>\n]*>", "", text).split())


def words(name: str, count: int) -> str:
    """Return so many words, each with the name in it."""
    return " ".join(f"{name}{number}" for number in range(count))


class Reader:
    """A scripted model with a window of 100 words of blocks; a digest of it has ten."""

    def __init__(self, *, window: int = 100, answer: str = "the answer", **fields: Any) -> None:
        self.window = window
        self.answer = answer
        self.model = ScriptedChatModel(self._write, **fields)

    def synthesis(self, **options: Any) -> RunnableSynthesis:
        """Return a synthesis with this model, whose prompts have five tokens beside the blocks."""
        defaults = {
            "prompt": "ANSWER {branches}{missing}",
            "digest_prompt": "DIGEST {branches}",
            "max_input_tokens": self.window + 5,
            "digest_tokens": DIGEST_WORDS,
            "count_tokens": count_words,
        }
        return RunnableSynthesis(self.model, **{**defaults, **options})

    @property
    def prompts(self) -> list[str]:
        """What the model was given, call by call."""
        return [str(call.messages[0].content) for call in self.model.calls]

    @property
    def digested(self) -> list[list[Tag]]:
        """The blocks of each reduce call."""
        return [read_blocks(prompt) for prompt in self.prompts if prompt.startswith("DIGEST")]

    @property
    def answered(self) -> list[Tag]:
        """The blocks of the answering call."""
        [prompt] = [prompt for prompt in self.prompts if prompt.startswith("ANSWER")]
        return read_blocks(prompt)

    def _write(self, messages: list[BaseMessage]) -> str:
        prompt = str(messages[0].content)
        if prompt.startswith("ANSWER"):
            return self.answer
        first = read_blocks(prompt)[0].name.split(",")[0]
        return words(f"digest-of-{first}-", DIGEST_WORDS)
