"""What a finished call used, read from its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_core.outputs import ChatGeneration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_core.outputs import LLMResult

__all__ = ("Usage", "read_usage")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one call, as the provider counted them."""

    input_tokens: int
    output_tokens: int
    from_cache: bool = False
    """No call was made: LangChain's cache answered."""


def read_usage(response: LLMResult, *, batch: int = 1) -> Usage | None:
    """Return what `response` says that it used; `None` if it says nothing.

    Args:
        response: The result of one prompt.
        batch: How many prompts were sent in one go. For a completion model LangChain reports the sum of them with the
            first prompt, and an empty record with the others (`LLMResult.flatten`).
    """
    generations = response.generations[0] if response.generations else []
    if generations and isinstance(generations[0], ChatGeneration):
        return _from_message(getattr(generations[0].message, "usage_metadata", None))
    counted = (response.llm_output or {}).get("token_usage")
    if counted == {} and batch > 1:
        return Usage(input_tokens=0, output_tokens=0)
    return _from_counts(counted, "prompt_tokens", "completion_tokens") if counted else None


def _from_message(metadata: Mapping[str, Any] | None) -> Usage | None:
    if not metadata:
        return None
    # langchain-core marks a cache hit like this (`BaseChatModel._convert_cached_generations`); no provider does.
    if metadata.get("total_cost") == 0:
        return Usage(input_tokens=0, output_tokens=0, from_cache=True)
    return _from_counts(metadata, "input_tokens", "output_tokens")


def _from_counts(counts: Mapping[str, Any], sent: str, received: str) -> Usage | None:
    input_tokens, output_tokens = counts.get(sent), counts.get(received)
    if isinstance(input_tokens, int) and isinstance(output_tokens, int) and input_tokens >= 0 <= output_tokens:
        return Usage(input_tokens=input_tokens, output_tokens=output_tokens)
    return None
