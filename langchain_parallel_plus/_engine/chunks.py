"""Chunks of a stream as one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ("Streamed", "whole")


def whole(chunks: Iterable[Any]) -> Any:
    """Return the value that the chunks make up, as LangChain adds them: the last one where they cannot be added."""
    output = None
    for number, chunk in enumerate(chunks):
        if number == 0:
            output = chunk
            continue
        try:
            output = output + chunk
        except TypeError:
            output = chunk
    return output


@dataclass(frozen=True, slots=True)
class Streamed:
    """An output that went by in chunks, put together only if somebody asks for it."""

    chunks: Sequence[Any]

    @property
    def whole(self) -> Any:
        """The output; `None` if there was no chunk."""
        return whole(self.chunks)
