"""Refusals that are answers, not faults: langchain-core must not log them.

A handler can refuse a model call only by raising with `raise_error` at its start. langchain-core logs every exception
of a handler as a warning ("Error in ... callback") before it looks at `raise_error`, and Python writes warnings to
stderr where logging is not configured. No other place serves: a model's start is told to handlers alone, what is not an
`Exception` would pass the user's own `except` and fallbacks by, and nothing that a handler has is asked before the
warning. So the warning is dropped, where it is made: only if it is about the exception that is being handled in this
very thread, that is a refusal of ours, and one of our refusing handlers has raised it. A defect of these handlers is
logged as before, and so is everything that other handlers raise.
"""

from __future__ import annotations

import logging
import sys
from typing import Final, TypeVar

from langchain_core.callbacks import manager

from langchain_parallel_plus.errors import BranchAbandonedError, LimiterError

__all__ = ("refuses",)

H = TypeVar("H", bound=type)

_MESSAGE: Final = "Error in %s.%s callback: %s"
"""As langchain-core 1.7 and 1.8 log it, with the handler's class, the event, and the exception's repr."""

_HANDLERS: set[str] = set()


class _WithoutRefusals(logging.Filter):
    """Lets all records pass but those of our refusals."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.msg != _MESSAGE or not isinstance(record.args, tuple) or len(record.args) != 3:
            return True
        handler, _, told = record.args
        error = sys.exc_info()[1]
        refused = isinstance(error, LimiterError | BranchAbandonedError) and told == repr(error)
        return not (refused and handler in _HANDLERS)


def refuses(handler: H) -> H:
    """Mark a class of callback handlers that refuse calls on purpose."""
    _HANDLERS.add(handler.__name__)
    return handler


manager.logger.addFilter(_WithoutRefusals())
