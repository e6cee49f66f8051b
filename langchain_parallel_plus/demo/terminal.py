"""Two streams: what the demo says about itself goes to standard error, what it makes to standard output."""

from __future__ import annotations

import re
import sys

__all__ = ("printable", "say", "write")

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Return `text` without control characters: what a model writes must not steer the terminal."""
    return _CONTROL.sub("", text)


def say(line: str) -> None:
    """Write a line about the demo's own progress to standard error."""
    print(printable(line), file=sys.stderr, flush=True)


def write(text: str, *, end: str = "\n") -> None:
    """Write a result, or a piece of one, to standard output at once."""
    print(printable(text), end=end, flush=True)
