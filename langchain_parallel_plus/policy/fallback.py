"""What to call instead, and for which errors."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import Runnable
from langchain_core.runnables.base import coerce_to_runnable

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.outcome import ErrorKind
from langchain_parallel_plus.policy.checks import ShortRepr

__all__ = ("Fallback", "FallbackOn", "checked_fallbacks")

FallbackOn = str | type[Exception] | Sequence[str | type[Exception]]
"""Kinds of errors, by `ErrorKind` or its name, and exception types."""


@dataclass(frozen=True, slots=True, repr=False)
class Fallback(ShortRepr):
    """A fallback for some errors only: a bigger model for what is too long, another key for an exhausted quota.

    When a target has failed, the next fallback in the list that is for its error is called; those passed over are not
    come back to.

    Raises:
        DeclarationError: `on` names no kind of error, or `runnable` is none.

    Example:
        ```python
        BranchPolicy(fallbacks=[Fallback(long_context_model, on="context_length"), other_provider])
        ```
    """

    runnable: Any
    """A runnable, a function or a dict of them. A `RunnableWithPolicy` has retries and timeouts of its own, where its
    policy names them, and a limiter of its own."""
    on: FallbackOn = ()
    """Kinds of errors (`"context_length"`, `ErrorKind.AUTH`) and exception types; left out, every failure."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "runnable", _runnable(self.runnable))
        given: object = self.on
        listed = (given,) if isinstance(given, str | type) or not isinstance(given, Sequence) else given
        object.__setattr__(self, "on", tuple(_error(one) for one in listed))

    def is_for(self, error: BaseException, kind: ErrorKind) -> bool:
        """Return whether it is to be called after this error."""
        on: Any = self.on  # made a tuple when it was declared
        return not on or any(isinstance(error, one) if isinstance(one, type) else kind is one for one in on)


def _runnable(value: object) -> Runnable[Any, Any]:
    if not (isinstance(value, Runnable | Mapping) or callable(value)):
        msg = f"BranchPolicy.fallbacks takes runnables, functions and dicts of them, got {value!r}"
        raise DeclarationError(msg, help="write fallbacks=[ChatOpenAI(model=...)], not the model's name")
    return coerce_to_runnable(value)


def _error(value: object) -> ErrorKind | type[Exception]:
    if isinstance(value, type) and issubclass(value, Exception):
        return value
    kinds = [kind.value for kind in ErrorKind if kind is not ErrorKind.CANCELLED]
    if isinstance(value, str) and value in kinds:
        return ErrorKind(value)
    close = difflib.get_close_matches(str(value), kinds, n=1)
    msg = f"Fallback.on takes kinds of errors and exception types, got {value!r}"
    raise DeclarationError(msg, help=f"did you mean {close[0]!r}?" if close else f"the kinds are: {', '.join(kinds)}")


def checked_fallbacks(given: object) -> tuple[Any, ...]:
    """Return the fallbacks of a branch, as runnables and as `Fallback`s where they are for some errors only.

    Raises:
        DeclarationError: They are no list, or one of them is nothing to call.
    """
    if isinstance(given, str | bytes | Mapping | Runnable | Fallback) or not isinstance(given, Sequence):
        msg = f"BranchPolicy.fallbacks must be a list of runnables, got {type(given).__name__}"
        raise DeclarationError(msg, help="write fallbacks=[other_model]")
    return tuple(_checked(one) for one in given)


def _checked(one: object) -> Fallback | Runnable[Any, Any]:
    if isinstance(one, Mapping) and set(one) == {"runnable", "on"} and isinstance(one["on"], list):
        one = Fallback(**one)  # as plain data has it: what a list says can be no branch of a dict
    if isinstance(one, Fallback):
        return one if one.on else one.runnable
    return _runnable(one)
