"""What a request takes from a quota, and the three rules by which providers count its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from langchain_parallel_plus.errors import DeclarationError

__all__ = ("DIMENSIONS", "OUTPUT_ALLOWANCE", "Cost", "Dimension", "TokenRule", "admission_cost", "final_cost")

Dimension = Literal["requests", "tokens", "input_tokens", "output_tokens", "requests_per_day", "tokens_per_day"]
"""What a limit counts; per minute if it does not say otherwise."""

DIMENSIONS: tuple[Dimension, ...] = (
    "requests",
    "tokens",
    "input_tokens",
    "output_tokens",
    "requests_per_day",
    "tokens_per_day",
)

TokenRule = Literal["reserve", "reserve_refund", "actual"]
"""How a provider counts tokens:

- `reserve`: the prompt's estimate and `max_tokens`, when the request is admitted; nothing is given back (Azure; OpenAI
  as documented).
- `reserve_refund`: the same, and at the end of the request the count is corrected to what was really used (Bedrock;
  Anthropic's output tokens).
- `actual`: the prompt's estimate when the request is admitted, and at the end the count is corrected to what was really
  used, output included (Groq; Anthropic's input tokens). Requests in flight can so take more than the limit.
"""

OUTPUT_ALLOWANCE = 16
"""Output tokens reserved if the request sets no `max_tokens` (the legacy default of OpenAI's API)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Units of a quota.

    Raises:
        DeclarationError: If a count is not a whole number >= 0.
    """

    requests: int = 1
    input_tokens: int = 0
    output_tokens: int = 0

    def __post_init__(self) -> None:
        counts = self.requests, self.input_tokens, self.output_tokens
        if not all(isinstance(count, int) and count >= 0 for count in counts):
            raise DeclarationError(f"a cost must be whole numbers >= 0, got {counts!r}")

    @property
    def tokens(self) -> int:
        """Input and output tokens together."""
        return self.input_tokens + self.output_tokens

    def of(self, dimension: Dimension) -> int:
        """Return the units that count against a limit."""
        match dimension:
            case "requests" | "requests_per_day":
                return self.requests
            case "input_tokens":
                return self.input_tokens
            case "output_tokens":
                return self.output_tokens
            case _:
                return self.tokens


def admission_cost(rule: TokenRule, *, input_tokens: int, max_tokens: int | None) -> Cost:
    """Return what a request takes when it is admitted.

    Args:
        rule: How the provider counts.
        input_tokens: The provider's estimate of the prompt.
        max_tokens: What the request allows for its answer; None reserves `OUTPUT_ALLOWANCE`.
    """
    reserved = 0 if rule == "actual" else OUTPUT_ALLOWANCE if max_tokens is None else max_tokens
    return Cost(input_tokens=input_tokens, output_tokens=reserved)


def final_cost(rule: TokenRule, admitted: Cost, used: Cost) -> Cost:
    """Return what a request that took `admitted` and really used `used` has cost when it has ended."""
    return admitted if rule == "reserve" else used
