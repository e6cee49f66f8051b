"""How many tokens a model call takes, before it is made, and how many it took."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from langchain_parallel_plus.limits.cost import Cost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from langchain_core.messages import BaseMessage

__all__ = ("Estimate", "ModelCall", "TypicalCall", "estimate_cost", "output_cap")

CHARACTERS_PER_TOKEN: Final = 4
"""English prose in current tokenizers is 4 to 4.5 characters a token; settling corrects the rest."""
TOKENS_PER_MESSAGE: Final = 4
"""Role and separators of a chat message (OpenAI cookbook, "How to count tokens with tiktoken": 3, and 1 for a name)."""
TOKENS_PER_MEDIA: Final = 1_000
"""An image, sound or file. OpenAI bills 765 for a 1024x1024 image in high detail, Anthropic about 1,400 for one of
1000x1000; the base64 text of it would be counted a hundred times too high."""

_TYPICAL_INPUT: Final = 500.0
_TYPICAL_OUTPUT: Final = 250.0
_SMOOTHING: Final = 0.1
_SCHEMAS: Final = ("tools", "functions", "response_format")
_MEDIA: Final = frozenset({"image", "image_url", "audio", "input_audio", "video", "file", "document", "media"})
_OUTPUT_CAPS: Final = ("max_completion_tokens", "max_output_tokens", "max_tokens")


class TypicalCall:
    """A running average of the calls that a limiter has seen end.

    It starts at 500 tokens in and 250 out, takes the first calls at full weight, and then forgets exponentially
    (each call weighs a tenth).
    """

    __slots__ = ("_seen", "input_tokens", "output_tokens")

    def __init__(self) -> None:
        self._seen = 0
        self.input_tokens = _TYPICAL_INPUT
        self.output_tokens = _TYPICAL_OUTPUT

    def observe(self, input_tokens: float, output_tokens: float) -> None:
        """Take a finished call in."""
        self._seen += 1
        weight = max(_SMOOTHING, 1 / (self._seen + 1))
        self.input_tokens += weight * (input_tokens - self.input_tokens)
        self.output_tokens += weight * (output_tokens - self.output_tokens)

    def cost(self) -> Cost:
        """Return the cost of a call of average size."""
        return Cost(input_tokens=round(self.input_tokens), output_tokens=round(self.output_tokens))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCall:
    """A model call that is about to be made, as an `estimate=` callable sees it."""

    provider: str
    """LangSmith's name of the provider, such as "openai"; empty if unknown."""
    model: str
    prompt: Sequence[BaseMessage] | str
    """The messages of a chat model, or the text of a completion model."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """The call's parameters as the integration reports them: tools, temperature, and so on."""
    max_tokens: int | None = None
    """The most tokens that the answer may have, if the call says so."""
    typical_output: float = _TYPICAL_OUTPUT
    """Average answer of this limiter's calls so far."""


Estimate: TypeAlias = "Callable[[ModelCall], Cost]"
"""What `RateLimiter(estimate=...)` takes: the cost of a call that is about to be made."""


def estimate_cost(call: ModelCall) -> Cost:
    """Return what `call` will take: a quarter of its characters in; out, its cap or the average answer.

    Example:
        ```python
        call = ModelCall(provider="openai", model="gpt-4o-mini", prompt="x" * 400, max_tokens=50)
        assert estimate_cost(call) == Cost(input_tokens=100, output_tokens=50)
        ```
    """
    prompt = call.prompt
    tokens = _text_tokens(prompt) if isinstance(prompt, str) else sum(map(_message_tokens, prompt))
    tokens += sum(_text_tokens(repr(call.parameters[name])) for name in _SCHEMAS if call.parameters.get(name))
    output = call.typical_output if call.max_tokens is None else call.max_tokens
    return Cost(input_tokens=tokens, output_tokens=round(output * _answers(call.parameters)))


def output_cap(parameters: Mapping[str, Any], metadata: Mapping[str, Any]) -> int | None:
    """Return the most tokens that a call's answer may have, if it says so."""
    for value in (*(parameters.get(name) for name in _OUTPUT_CAPS), metadata.get("ls_max_tokens")):
        if isinstance(value, int) and value > 0:
            return value
    return None


def _answers(parameters: Mapping[str, Any]) -> int:
    count = parameters.get("n")
    return count if isinstance(count, int) and count > 1 else 1


def _text_tokens(text: str) -> int:
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def _message_tokens(message: BaseMessage) -> int:
    content = message.content
    tokens = TOKENS_PER_MESSAGE + (_text_tokens(content) if isinstance(content, str) else _block_tokens(content))
    if calls := getattr(message, "tool_calls", None):
        tokens += _text_tokens(repr(calls))
    return tokens


def _block_tokens(blocks: Iterable[str | dict[Any, Any]]) -> int:
    tokens = 0
    for block in blocks:
        if isinstance(block, str):
            tokens += _text_tokens(block)
        elif isinstance(text := block.get("text"), str):
            tokens += _text_tokens(text)
        elif block.get("type") in _MEDIA:
            tokens += TOKENS_PER_MEDIA
        else:
            tokens += min(_text_tokens(repr(block)), TOKENS_PER_MEDIA)
    return tokens
