"""Of what a map-reduce works on: the items of a list, or of what makes one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_core.documents import Document

from langchain_parallel_plus.errors import CoverageError, SynthesisError
from langchain_parallel_plus.synthesis.contributions import kind_of, named_outputs
from langchain_parallel_plus.synthesis.counting import estimated_tokens
from langchain_parallel_plus.synthesis.declared import number, plain_function
from langchain_parallel_plus.synthesis.splitting import split_text

__all__ = ("Split", "checked_split", "itemised")

Split = Callable[[Any], Sequence[Any] | Mapping[str, Any]] | int
"""A function that makes the items of the input, or the tokens of a part of a text."""

_HELP = "a number of tokens, such as split=2_000, or a function, such as split=lambda text: text.split('\\n\\n')"


def checked_split(split: object) -> Split | None:
    """Return `split` if it can be one."""
    if isinstance(split, int | float):
        checked: Split = number(split, "MapReduce.split", _HELP, least=1, whole=True)
        return checked
    function: Split | None = plain_function(split, "MapReduce.split", _HELP)
    return function


def itemised(value: Any, split: Split | None) -> dict[str, Any]:
    """Return the items of `value` by name: `item_1`, `item_2` and so on, or those of a dict.

    Raises:
        SynthesisError: It is no list, or cannot be split.
        CoverageError: There are none.
    """
    if isinstance(split, int):
        return named_outputs(_parts(value, split), "MapReduce")
    if split is None:
        return _items(value, "MapReduce takes a list of items", f"split=... makes a list of it: {_HELP}")
    return _items(split(value), "MapReduce.split must return a list of items", "such as text.split('\\n\\n')")


def _items(given: Any, what: str, help: str) -> dict[str, Any]:
    if not isinstance(given, Mapping | Sequence) or isinstance(given, str | bytes):
        raise SynthesisError(f"{what}, got {kind_of(given)}", help=help)
    items = named_outputs(given, "MapReduce")
    if not items:
        raise CoverageError(f"{what}, got none: {given!r}; nothing was called")
    return items


def _parts(value: Any, tokens: int) -> list[str]:
    text = value.page_content if isinstance(value, Document) else value
    if not isinstance(text, str):
        msg = f"MapReduce(split={tokens}) takes a text or a Document, got {kind_of(value)}"
        raise SynthesisError(msg, help="leave split out for a list, or give a function that makes one")
    if not text.strip():
        raise CoverageError(f"MapReduce(split={tokens}) was given an empty text; nothing was called")
    return split_text(text, tokens, estimated_tokens)
