"""How many tokens a model call takes, before it is made, and how many it took."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from weakref import WeakKeyDictionary

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.limits.cost import Cost
from langchain_parallel_plus.limits.tokens.media import MEDIA_TYPES, TOKENS_PER_MEDIA, media_tokens
from langchain_parallel_plus.providers.foreign import guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping, Sequence

    from langchain_core.messages import BaseMessage

__all__ = (
    "Estimate",
    "ModelCall",
    "TypicalCall",
    "certain_cost",
    "checked_estimate",
    "estimate_cost",
    "estimated_cost",
    "output_cap",
)

CHARACTERS_PER_TOKEN: Final = 4
"""English prose in current tokenizers is 4 to 4.5 characters a token; settling corrects the rest."""
TOKENS_PER_MESSAGE: Final = 4
"""Role and separators of a chat message (OpenAI cookbook, "How to count tokens with tiktoken": 3, and 1 for a name)."""
_TYPICAL_INPUT: Final = 500.0
_TYPICAL_OUTPUT: Final = 250.0
_SMOOTHING: Final = 0.1
_ANSWERS: Final = ("ai", "AIMessageChunk")
_SCHEMAS: Final = ("tools", "functions", "response_format")
_OUTPUT_CAPS: Final = ("max_completion_tokens", "max_output_tokens", "max_tokens")
_ONE_REQUEST: Final = Cost()


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
        return Cost(
            input_tokens=round(self.input_tokens), output_tokens=round(self.output_tokens), certain=_ONE_REQUEST
        )


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
    correction: float = 1.0
    """What the input tokens of this branch's calls of this model came to, relative to their estimates so far."""
    endpoint: str = ""
    """The provider again, if the call goes to an endpoint of its own; empty for a proxy or a server that only speaks
    its protocol, and where that is not known."""


Estimate: TypeAlias = "Callable[[ModelCall], Cost]"
"""What `RateLimiter(estimate=...)` takes: the cost of a call that is about to be made."""


def estimate_cost(call: ModelCall) -> Cost:
    """Return what `call` will take: a quarter of its characters in, corrected; out, its cap or the average answer.

    Example:
        ```python
        call = ModelCall(provider="openai", model="gpt-4o-mini", prompt="x" * 400, max_tokens=50)
        assert estimate_cost(call) == Cost(input_tokens=100, output_tokens=50)
        ```
    """
    return estimated_cost(call, call.typical_output, call.correction)


def estimated_cost(call: ModelCall, typical_output: float, correction: float) -> Cost:
    """Return what `estimate_cost` would, if these were the call's own: a copy of it costs as much as all the rest."""
    prompt, parameters = call.prompt, call.parameters
    tokens = _text_tokens(prompt) if isinstance(prompt, str) else sum([_message_tokens(one, call) for one in prompt])
    for name in _SCHEMAS:
        if value := parameters.get(name):
            tokens += _schema_tokens(value)
    output = typical_output if call.max_tokens is None else call.max_tokens
    return Cost(input_tokens=round(tokens * correction), output_tokens=round(output * _answers(parameters)))


def certain_cost(call: ModelCall, correction: float) -> Cost:
    """Return what is certain of an estimate: no average answer, and no more input than its characters say."""
    return estimated_cost(call, 0.0, min(correction, 1.0))


def checked_estimate(returned: object) -> Cost:
    """Return what an `estimate=` callable has returned, if it is a cost.

    Raises:
        DeclarationError: It is something else.
    """
    if isinstance(returned, Cost):
        return returned
    if hasattr(returned, "__await__"):
        if callable(close := getattr(returned, "close", None)):
            close()  # else Python warns of a coroutine that was never awaited
        msg = "estimate= is an async function: it returned an awaitable, and synchronous calls cannot await it"
        raise DeclarationError(msg, help="give a plain function; it is called before each model call, so keep it fast")
    msg = f"estimate= returned {returned!r}, which is no Cost"
    raise DeclarationError(msg, help="return Cost(input_tokens=..., output_tokens=...)")


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


def _message_tokens(message: BaseMessage, call: ModelCall) -> int:
    content = message.content
    tokens = TOKENS_PER_MESSAGE
    if isinstance(content, str):
        tokens += _text_tokens(content)
    else:
        tokens += sum(_block_tokens(block, call) for block in content)
    if message.type in _ANSWERS and (calls := getattr(message, "tool_calls", None)):
        tokens += _text_tokens(repr(calls))
    return tokens


def _block_tokens(block: str | dict[Any, Any], call: ModelCall) -> int:
    if isinstance(block, str):
        return _text_tokens(block)
    if isinstance(text := block.get("text"), str):
        return _text_tokens(text)
    if block.get("type") in MEDIA_TYPES:
        return media_tokens(block, provider=call.provider, model=call.model)
    return min(_text_tokens(repr(block)), TOKENS_PER_MEDIA)


_SCHEMA_TOKENS: MutableMapping[type, int] = WeakKeyDictionary()


def _schema_tokens(value: object) -> int:
    """Return the tokens of tools or of an output's schema: a dict, or a class that makes one."""
    if not isinstance(value, type):
        return _text_tokens(repr(value))
    if (known := _SCHEMA_TOKENS.get(value)) is None:
        make = getattr(value, "model_json_schema", None)
        schema = guarded(make) if callable(make) else None
        known = _SCHEMA_TOKENS[value] = _text_tokens(repr(value if schema is None else schema))
    return known
