"""What a finished call used, read from its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.outputs import LLMResult

__all__ = ("Usage", "read_usage", "split_usage")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one call, as the provider counted them."""

    input_tokens: int
    """All that was sent, what the provider had in its prompt cache included."""
    output_tokens: int
    """All that was written, reasoning included."""
    cached_tokens: int = 0
    """Of the input: read from the provider's prompt cache. Anthropic and Groq do not count them against the limit."""
    cache_written_tokens: int = 0
    """Of the input: written to the provider's prompt cache, and counted in full."""
    from_cache: bool = False
    """No call was made: LangChain's cache answered."""


def read_usage(response: LLMResult) -> Usage | None:
    """Return what `response` says that it used; `None` if it says nothing.

    Args:
        response: The result of one prompt. For several prompts that a completion model sends in one go, LangChain
            reports the sum of them with the first one, and an empty record with the others (`LLMResult.flatten`).
    """
    generations = response.generations[0] if response.generations else []
    message = getattr(generations[0], "message", None) if generations else None
    if message is not None and (usage := _from_message(getattr(message, "usage_metadata", None))) is not None:
        return usage
    counted = (response.llm_output or {}).get("token_usage")
    return _from_counts(counted, "prompt_tokens", "completion_tokens", "prompt_tokens_details")


def split_usage(usage: Usage, weights: Sequence[float]) -> list[Usage]:
    """Return the parts that prompts of these weights have in `usage`, which is that of all: whole tokens."""
    weights = weights if sum(weights) > 0 else [1.0] * len(weights)
    ends = [end / sum(weights) for end in accumulate(weights, initial=0.0)]

    def parts(tokens: int) -> list[int]:
        return [round(tokens * end) - round(tokens * begin) for begin, end in pairwise(ends)]

    columns = (usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.cache_written_tokens)
    return [
        Usage(input_tokens=sent, output_tokens=received, cached_tokens=cached, cache_written_tokens=written)
        for sent, received, cached, written in zip(*map(parts, columns), strict=True)
    ]


def _from_message(metadata: object) -> Usage | None:
    if not isinstance(metadata, Mapping):
        return None
    # langchain-core marks a cache hit like this (`BaseChatModel._convert_cached_generations`); no provider does.
    if metadata.get("total_cost") == 0:
        return Usage(input_tokens=0, output_tokens=0, from_cache=True)
    return _from_counts(metadata, "input_tokens", "output_tokens", "input_token_details")


def _from_counts(counts: object, sent: str, received: str, details: str) -> Usage | None:
    if not isinstance(counts, Mapping):
        return None
    input_tokens, output_tokens = counts.get(sent), counts.get(received)
    if not (_is_count(input_tokens) and _is_count(output_tokens)) or input_tokens == output_tokens == 0:
        return None  # no call takes nothing: zeros stand for a server that does not count
    parts = counts.get(details)
    cached = _part(parts, "cache_read", "cached_tokens")
    # langchain-anthropic 1.7 sets `cache_creation` to 0 where it knows the times to live.
    written = _part(parts, "cache_creation", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_tokens=min(cached, input_tokens),
        cache_written_tokens=min(written, input_tokens),
    )


def _part(parts: object, *names: str) -> int:
    """Return a part of the input tokens; langchain-openai puts a service tier before the name (`flex_cache_read`)."""
    if not isinstance(parts, Mapping):
        return 0
    found: list[Any] = [value for name, value in parts.items() if str(name).endswith(names)]
    return sum(value for value in found if _is_count(value))


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
