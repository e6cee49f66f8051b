"""The brief: three parts of a document written at once under a rate limit, and joined while the user reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda

from langchain_parallel_plus import (
    BranchPolicy,
    JoinPolicy,
    RateLimiter,
    RetryPolicy,
    RunnableParallelPlus,
    RunnableSynthesis,
    TimeoutPolicy,
)
from langchain_parallel_plus.demo.terms import extract_terms

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import Runnable

    from langchain_parallel_plus.demo.model import DemoModel
    from langchain_parallel_plus.synthesis import SynthesisResult

__all__ = ("INSTRUCTIONS", "PARTS", "brief_chain")

PARTS = {
    "summary": "Summarize the text above in three sentences.",
    "questions": "Write five questions that the text above answers.",
    "key_terms": "List the five key terms of the text above.",
}
"""What is asked about the document, by branch. The document comes first: a small model forgets what stood before it."""

INSTRUCTIONS = "Write a brief from these parts: what the text is about, its key terms, and three questions to ask."


def brief_chain(
    model: DemoModel, *, finished: Callable[[str, str], None], failing: str | None = None
) -> Runnable[dict[str, str], SynthesisResult]:
    """Return the chain from `{"document": text}` to the brief, a message that streams, and what it was made from.

    No output parser follows the model: one that is interrupted first reads its input to the end, for the trace
    (`_transform_stream_with_config` of langchain-core 1.7), so that Ctrl-C would wait for the whole brief.

    Args:
        model: Writes the parts and the brief.
        finished: Called with the name and the text of each part when it is in, from the part's thread.
        failing: The name of a part that is made to fail, to see what becomes of the brief.
    """

    def noted(part: str) -> Runnable[str, str]:
        def note(text: str) -> str:
            finished(part, text)
            return text

        return RunnableLambda(note, name="note")

    def ask(part: str) -> Runnable[Any, str]:
        if part == failing:
            return RunnableLambda(_fail, name="fail")
        prompt = ChatPromptTemplate.from_messages([("human", "{document}\n\n" + PARTS[part])])
        return prompt | model.chat(part) | StrOutputParser() | noted(part)

    counted: Runnable[Any, str] = RunnableLambda(
        lambda given: extract_terms(given["document"]), name="extract_terms"
    ) | noted("key_terms")
    parts = (
        RunnableParallelPlus[dict[str, str]]({part: ask(part) for part in PARTS}, name="parts of the brief")
        .with_policy(
            BranchPolicy(retry=RetryPolicy(max_attempts=4), timeout=TimeoutPolicy(run_timeout=120)),
            key_terms=BranchPolicy(fallbacks=() if failing == "key_terms" else [counted], on_failure="drop"),
        )
        .with_limits(RateLimiter(requests_per_minute=500, tokens_per_minute=200_000, name="demo"))
        .with_join(JoinPolicy(min_success=2, deadline=180))
    )
    return parts | RunnableSynthesis(model.chat("brief"), instructions=INSTRUCTIONS, with_provenance=True)


def _fail(_: object) -> str:
    msg = "made to fail by --fail"
    raise ConnectionError(msg)
