"""What a synthesis checks of its arguments, before any call is made."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from langchain_core.runnables.base import RunnableBinding

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.synthesis.counting import inside
from langchain_parallel_plus.synthesis.prompts import INSTRUCTIONS

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable

__all__ = (
    "check_writes_text",
    "checked_counter",
    "checked_function",
    "checked_instructions",
    "checked_names",
    "checked_share",
    "checked_tokens",
)


def checked_share(value: object) -> float | None:
    """Return `min_coverage`."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
    if value is None or (number and 0 <= value <= 1):  # type: ignore[operator]  # a number by now
        return value  # type: ignore[return-value]
    msg = f"min_coverage is a share from 0 to 1, got {value!r}"
    raise DeclarationError(msg, help="0.5 asks for half of the branches")


def checked_names(value: object) -> tuple[str, ...]:
    """Return `expected`."""
    if isinstance(value, str):
        msg = f"expected takes names of branches, got the string {value!r}"
        raise DeclarationError(msg, help=f"write expected=[{value!r}]")
    names = tuple(value) if isinstance(value, list | tuple | set | frozenset | dict) else (value,)
    if not all(isinstance(name, str) for name in names):
        msg = f"expected takes names of branches, got {value!r}"
        raise DeclarationError(msg, help="for example expected=['web', 'news']")
    return names


def checked_tokens(value: object, argument: str) -> int | None:
    """Return a number of tokens."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    msg = f"{argument} is a whole number of tokens, got {value!r}"
    raise DeclarationError(msg, help=f"for example {argument}=8_000; leave it out for no limit")


def checked_instructions(value: object) -> str:
    """Return `instructions`."""
    if value is None or isinstance(value, str):
        return INSTRUCTIONS if value is None else value
    msg = f"instructions is a text, got {value!r}"
    raise DeclarationError(msg, help="for example instructions='Write a brief of 150 words.'")


def checked_function(value: object, argument: str) -> Any:
    """Return a function of the user's."""
    if value is None or callable(value):
        return value
    msg = f"{argument} takes a function, got {value!r}"
    raise DeclarationError(msg, help="for example render=str")


def checked_counter(value: object) -> Any:
    """Return `count_tokens`, which has counted a text."""
    count = checked_function(value, "count_tokens")
    if count is None:
        return None
    counted: object = count("How many tokens are these?")
    if isinstance(counted, int) and not isinstance(counted, bool) and counted >= 0:
        return count
    msg = f"count_tokens returned {counted!r} for a text of 26 characters"
    raise DeclarationError(msg, help="give a function from a text to its number of tokens, such as llm.get_num_tokens")


def check_writes_text(model: Runnable[Any, Any]) -> None:
    """Refuse a model with structured output where its outputs would have to be read again."""
    bindings = [one for one in inside(model) if isinstance(one, RunnableBinding)]
    if any({"ls_structured_output_format", "response_format"} & set(one.kwargs) for one in bindings):
        msg = "a model with structured output cannot write the digests that max_input_tokens may need: they are text"
        raise DeclarationError(msg, help="give digest_model= the model without its structure; model= writes the answer")
