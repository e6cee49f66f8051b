"""What the simulator answers where no model can run: words of the text itself, put together by rule."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from langchain_parallel_plus.demo.brief import PARTS
from langchain_parallel_plus.demo.terms import extract_terms

if TYPE_CHECKING:
    from langchain_parallel_plus.testing import ChatRequest

__all__ = ("answer",)

_BLOCK = re.compile(r'<branch name="(\w+)">\n(.*?)\n</branch>', re.DOTALL)


def answer(request: ChatRequest) -> str:
    """Return the text's first sentences, its frequent words or questions about them, or all parts under headings."""
    text, _, asked = request.prompt.rpartition("\n\n")
    if asked == PARTS["summary"]:
        return " ".join(re.split(r"(?<=[.!?])\s+", text)[:3])
    if asked == PARTS["key_terms"]:
        return extract_terms(text)
    if asked == PARTS["questions"]:
        return re.sub(r"(?m)\. (.+)$", r". What does the text say about \1?", extract_terms(text))
    parts = [f"## {name}\n{part}" for name, part in _BLOCK.findall(request.prompt)]
    return "\n\n".join(["(Put together by a simulator: no model wrote this.)", *parts])
