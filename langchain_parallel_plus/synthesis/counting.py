"""How many tokens a text or a prompt has, where no provider has counted them yet."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from langchain_core.language_models import BaseLanguageModel
from langchain_core.prompt_values import ChatPromptValue
from langchain_core.runnables import Runnable

from langchain_parallel_plus.limits.tokens.estimate import CHARACTERS_PER_TOKEN, TOKENS_PER_MESSAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.prompt_values import PromptValue

    from langchain_parallel_plus.synthesis.splitting import CountTokens

__all__ = ("estimated_tokens", "inside", "language_model", "prompt_tokens", "token_counter")

_NOT_LATIN: Final = re.compile("[^\x00-\u024f\u2010-\u203a]")


def estimated_tokens(text: str) -> int:
    """Return about how many tokens `text` has: a quarter of its characters, as the rate limiter estimates it.

    A character outside the Latin scripts counts as a token of its own, which is on the safe side: a window is no budget
    that a later call could make up for.

    Example:
        ```python
        assert estimated_tokens("x" * 400) == 100
        assert estimated_tokens("\u65e5\u672c\u8a9e") == 3
        ```
    """
    wide = sum(1 for _ in _NOT_LATIN.finditer(text))
    return wide + -(-(len(text) - wide) // CHARACTERS_PER_TOKEN)


def token_counter(model: Runnable[Any, Any]) -> CountTokens:
    """Return what counts tokens for `model`.

    That is the model's own `get_num_tokens` where the user has given it a tokenizer (`custom_get_token_ids`), and the
    estimate elsewhere: LangChain's default and those of most integrations download a vocabulary or call the provider.
    """
    found = language_model(model)
    if found is not None and found.custom_get_token_ids is not None:
        return found.get_num_tokens
    return estimated_tokens


def prompt_tokens(value: PromptValue, count_tokens: CountTokens) -> int:
    """Return how many tokens a prompt has; a message of a chat has some around its text."""
    if not isinstance(value, ChatPromptValue):
        return count_tokens(value.to_string())
    return sum(TOKENS_PER_MESSAGE + count_tokens(str(message.text)) for message in value.to_messages())


def language_model(runnable: Runnable[Any, Any]) -> BaseLanguageModel[Any] | None:
    """Return the model inside of bindings, policies, fallbacks and chains, if there is one."""
    return next((one for one in inside(runnable) if isinstance(one, BaseLanguageModel)), None)


def inside(runnable: Any) -> Iterator[Any]:
    """Yield a runnable and all that it wraps, outermost first."""
    yield runnable
    fields = getattr(runnable, "__dict__", {})  # not `getattr(runnable, name)`: bindings pass that on to what is bound
    parts = [fields.get(name) for name in ("bound", "runnable", "default", "first", "last")]
    parts += [*(fields.get("middle") or ()), *(fields.get("steps__") or {}).values()]
    for part in parts:
        if isinstance(part, Runnable):
            yield from inside(part)
