"""What the simulator answers where no model can run: words of the text itself, put together by rule."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from langchain_parallel_plus.demo.terms import extract_terms

if TYPE_CHECKING:
    from langchain_parallel_plus.testing import ChatRequest

__all__ = ("answer",)


def answer(request: ChatRequest) -> str:
    """Return the first sentences, the most frequent words, or questions about them, as the prompt's last line asks."""
    text, _, asked = request.prompt.rpartition("\n\n")
    terms = [line.partition(". ")[2] for line in extract_terms(text or asked).splitlines()]
    if "questions that" in asked:
        return "\n".join(f"{number}. What does the text say about {term}?" for number, term in enumerate(terms, 1))
    if "key terms of" in asked:
        return extract_terms(text)
    if "Summarize" in asked:
        return " ".join(re.split(r"(?<=[.!?])\s+", text)[:3])
    return f"(Written by a simulator, not by a model.) The parts above speak of {', '.join(terms)}."
