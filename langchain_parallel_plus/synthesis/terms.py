"""What was declared of a synthesis, and what follows from it for one input, before any call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from langchain_parallel_plus.errors import SynthesisError
from langchain_parallel_plus.synthesis.blocks import Blocks, joined
from langchain_parallel_plus.synthesis.counting import prompt_tokens
from langchain_parallel_plus.synthesis.gathered import gathered
from langchain_parallel_plus.synthesis.packing import Window
from langchain_parallel_plus.synthesis.prompts import filled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_core.prompt_values import PromptValue
    from langchain_core.prompts import BasePromptTemplate

    from langchain_parallel_plus.errors import DeclarationError
    from langchain_parallel_plus.synthesis.blocks import Block
    from langchain_parallel_plus.synthesis.gathered import Gathered, Render
    from langchain_parallel_plus.synthesis.splitting import CountTokens

__all__ = ("Terms",)

_MOST_DIGEST_TOKENS: Final = 1_000
"""What a digest is asked to keep to in a large window: models write no longer ones that are any good."""
_LEAST_ROOM: Final = 64
"""Tokens that must be left for blocks: their tags have about twenty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The terms of a synthesis."""

    prompt: BasePromptTemplate[Any]
    digest_prompt: BasePromptTemplate[Any]
    instructions: str
    expected: tuple[str, ...]
    min_coverage: float | None
    render: Render | None
    count_tokens: CountTokens
    max_input_tokens: int | None
    digest_tokens: int | None

    def window(
        self, missing: str = "", refusal: Callable[..., SynthesisError | DeclarationError] = SynthesisError
    ) -> Window | None:
        """Return what fits a call beside the prompts; `None` without a limit.

        Raises:
            SynthesisError: The prompts leave too little (or `refusal`, in its place).
        """
        limit = self.max_input_tokens
        if limit is None:
            return None
        taken = prompt_tokens(self._answer("", missing), self.count_tokens)
        digest = filled(self.digest_prompt, {"branches": "", "instructions": self.instructions, "words": 9999})
        digest_taken = prompt_tokens(digest, self.count_tokens)
        left = limit - max(taken, digest_taken)
        if left < _LEAST_ROOM:
            which = "prompt of the answer" if taken >= digest_taken else "prompt of a digest"
            msg = f"max_input_tokens={limit} leaves {left} tokens for the branches: the {which} takes {limit - left}"
            raise refusal(msg, help=f"at least {_LEAST_ROOM} are needed; raise it, or shorten the instructions")
        asked = min(_MOST_DIGEST_TOKENS, left // 4) if self.digest_tokens is None else self.digest_tokens
        if 2 * asked > left:
            msg = (
                f"digest_tokens={asked} is more than half of the {left} tokens that the prompts leave for the branches"
            )
            raise refusal(msg, help="a call must be able to read at least two digests; a quarter is the default")
        return Window(answer=limit - taken, digest=limit - digest_taken, digest_tokens=asked)

    def blocks(self, names: Sequence[str] = ()) -> Blocks:
        """Return what writes the blocks of one input."""
        window = self.window()
        limit = None if window is None else min(window.answer, window.digest)
        return Blocks(self.count_tokens, limit, names)

    def gathered(self, inputs: Any) -> Gathered:
        """Return what came back.

        Raises:
            SynthesisError: The input has the wrong shape.
            CoverageError: Too little came back.
        """
        found = gathered(inputs, expected=self.expected, render=self.render)
        found.require(self.min_coverage)
        return found

    def answer(self, row: Sequence[Block], missing: str) -> PromptValue:
        """Return the prompt of the call that writes the answer."""
        return self._answer(joined(row), missing)

    def _answer(self, branches: str, missing: str) -> PromptValue:
        return filled(self.prompt, {"branches": branches, "missing": missing, "instructions": self.instructions})
