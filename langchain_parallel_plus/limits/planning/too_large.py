"""Requests that no wait can make fit: more than a limit itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_parallel_plus.errors import RequestTooLargeError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("refuse_too_large",)

_WAYS_OUT = (
    ("requests", "give Cost(...) fewer requests"),
    ("input", "shorten the prompt"),
    ("output", "lower max_tokens"),
    ("", "shorten the prompt, lower max_tokens"),
)


def refuse_too_large(needs: Iterable[tuple[str, float, float]]) -> None:
    """Raise if one request needs more of a rate than its limit.

    Args:
        needs: The name of each rate, what one request may take of it, and what this one needs.

    Raises:
        RequestTooLargeError: It does.
    """
    for name, limit, amount in needs:
        if amount > limit:
            msg = f"one request needs {amount:g} of {name}, and the limit itself is {limit:g}"
            way_out = next(help_ for unit, help_ in _WAYS_OUT if name.startswith(unit))
            raise RequestTooLargeError(msg, help=f"{way_out}, or declare the limit that the provider really has")
