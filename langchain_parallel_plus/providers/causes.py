"""The errors behind an error: causes, contexts and members of groups, as far as is reasonable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from langchain_parallel_plus.providers.exception_type import facts_of
from langchain_parallel_plus.providers.foreign import attribute, items_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_parallel_plus.providers.classified import Classified

__all__ = ("first_known", "is_control_flow")

_DEEPEST: Final = 8
_MOST: Final = 64


def first_known(error: Exception, ask: Callable[[Exception], Classified | None]) -> Classified | None:
    """Return the first answer for `error`, a group's members, its cause, or the error it was raised in the course of.

    Looks at most 8 deep and at 64 errors, at each once. Of a group's answers the first that forbids a retry counts,
    since a retry would repeat all of them; else the one with the longest wait.
    """
    return _Search(ask).of(error, 0)


def is_control_flow(error: BaseException) -> bool:
    """Whether `error` is no failure: cancellation, an interrupt of Python or LangGraph, or a group of nothing else."""
    return _control_flow(error, 0)


def _control_flow(error: BaseException, depth: int) -> bool:
    if not isinstance(error, Exception) or facts_of(type(error)).control_flow:
        return True
    if not isinstance(error, ExceptionGroup) or depth >= _DEEPEST:
        return False
    members = _members(error)
    return bool(members) and all(_control_flow(member, depth + 1) for member in members)


class _Search:
    """One walk; remembers where it has been."""

    def __init__(self, ask: Callable[[Exception], Classified | None]) -> None:
        self._ask = ask
        self._seen: set[int] = set()

    def of(self, error: Any, depth: int) -> Classified | None:
        if not isinstance(error, Exception) or facts_of(type(error)).control_flow:
            return None
        if depth > _DEEPEST or id(error) in self._seen or len(self._seen) >= _MOST:
            return None
        self._seen.add(id(error))
        return self._ask(error) or self._of_members(error, depth + 1) or self.of(_behind(error), depth + 1)

    def _of_members(self, error: Exception, depth: int) -> Classified | None:
        if not isinstance(error, ExceptionGroup):
            return None
        answers = [found for member in _members(error) if (found := self.of(member, depth))]
        final = next((one for one in answers if not one.retryable), None)
        return final or max(answers, key=lambda one: one.retry_after or 0.0, default=None)


def _members(group: Exception) -> tuple[Any, ...]:
    return items_of(attribute(group, "exceptions"), _MOST)


def _behind(error: Exception) -> Any:
    cause = attribute(error, "__cause__")
    suppressed = cause is not None or attribute(error, "__suppress_context__")
    return cause if suppressed else attribute(error, "__context__")
