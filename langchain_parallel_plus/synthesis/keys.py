"""By what a reducer compares outputs or items: a function of one, or the name of a field of it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from langchain_core.documents import Document

from langchain_parallel_plus.errors import DeclarationError, SynthesisError
from langchain_parallel_plus.synthesis.contributions import asked, kind_of
from langchain_parallel_plus.synthesis.declared import plain_function

__all__ = ("Key", "checked_key", "field_of", "key_of")

Key = Callable[[Any], Any] | str
"""A function of an output or item, or the name of its field."""

_ABSENT = object()


def checked_key(key: object, what: str) -> Key | None:
    """Return `key` if it is a plain function or a name, or left out."""
    if key == "":
        raise DeclarationError(f"{what} is an empty name", help="name a field, or leave it out")
    if isinstance(key, str):
        return key
    checked: Key | None = plain_function(key, what, "for example key='answer', or key=lambda output: output['answer']")
    return checked


def key_of(value: Any, key: Key, what: str, branch: str) -> Any:
    """Return what `key` makes of `value`, which came from `branch`.

    Raises:
        SynthesisError: There is no such field.
    """
    if isinstance(key, str):
        return field_of(value, key, what, branch)
    with asked(what, branch):
        return key(value)


def field_of(value: Any, name: str, what: str, branch: str) -> Any:
    """Return a field: of a dict, of a Document's metadata (or its `id`), or an attribute of anything else.

    Raises:
        SynthesisError: There is no such field.
    """
    fields: Mapping[Any, Any] | None = value if isinstance(value, Mapping) else None
    if isinstance(value, Document):
        fields = {"id": value.id, **value.metadata} if value.id is not None else value.metadata
    found = getattr(value, name, _ABSENT) if fields is None else fields.get(name, _ABSENT)
    if found is not _ABSENT:
        return found
    known = [str(one) for one in (fields if fields is not None else getattr(type(value), "model_fields", ()))]
    close = difflib.get_close_matches(name, known, n=1)
    listed = ", ".join(map(repr, known[:10]))
    msg = f"{what} is {name!r}, and {kind_of(value)} of branch {branch!r} has no such field"
    hint = f"did you mean {close[0]!r}?" if close else "give a function: key=lambda output: ..."
    raise SynthesisError(f"{msg}; it has {listed}" if listed else msg, help=hint)
