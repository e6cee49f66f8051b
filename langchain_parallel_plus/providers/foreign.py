"""Reading objects that others made: exceptions, responses and headers of packages that are not imported here.

Any attribute may be missing, of another type, endless, or raise. Everything that is read is bounded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("attribute", "entry", "guarded", "items_of", "json_of", "lowered_headers", "text_of")

T = TypeVar("T")

_MOST_ITEMS: Final = 256
_MOST_TEXT: Final = 2_048
_MOST_JSON: Final = 65_536


def guarded(call: Callable[[], T]) -> T | None:
    """Return what `call` returns, or `None` if foreign code in it raises."""
    try:
        return call()
    except Exception:  # noqa: BLE001 - properties and __str__ of other packages may raise anything
        return None


def attribute(holder: object, name: str) -> Any:
    """Return an attribute, or `None` if there is none or reading it raises."""
    return None if holder is None else guarded(lambda: getattr(holder, name, None))


def entry(holder: object, *path: str) -> Any:
    """Return the value at `path` of nested mappings, or `None` where a step is missing or no mapping."""
    for key in path:
        if not isinstance(holder, Mapping):
            return None
        holder = guarded(lambda found=holder, key=key: found.get(key))  # type: ignore[misc]  # mypy infers no lambda here
    return holder


def items_of(value: object, limit: int = 16) -> tuple[Any, ...]:
    """Return the first items of a list or tuple; nothing for anything else."""
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        return ()
    return guarded(lambda: tuple(islice(value, limit))) or ()


def text_of(value: object, limit: int = _MOST_TEXT) -> str:
    """Return `str(value)` cut to `limit` characters; an exception's message without rendering a huge one."""
    if isinstance(value, BaseException) and type(value).__str__ is BaseException.__str__:
        args = value.args
        if len(args) == 1 and type(args[0]) is str:
            return args[0][:limit]
    if isinstance(value, bytes):
        return value[:limit].decode("utf-8", "replace")
    return (guarded(lambda: str(value)) or "")[:limit]


def json_of(content: object) -> Any:
    """Return what a body's bytes say, or `None` if they are no JSON or more than 64 KiB."""
    if not isinstance(content, bytes | bytearray) or not 0 < len(content) <= _MOST_JSON:
        return None
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def lowered_headers(headers: object) -> dict[str, str]:
    """Return headers by lower-case name; values of the same name are joined by a comma, as RFC 9110 section 5.3 says.

    Takes a mapping, anything with `.items()`, or pairs; values may be strings, bytes, numbers or lists of them.
    Names or values of other types are left out.
    """
    lowered: dict[str, str] = {}
    guarded(lambda: _fill(lowered, headers))
    return lowered


def _fill(lowered: dict[str, str], headers: object) -> None:
    items = attribute(headers, "items")
    pairs = items() if callable(items) else headers
    if not isinstance(pairs, Iterable) or isinstance(pairs, str | bytes):
        return
    for pair in islice(pairs, _MOST_ITEMS):
        name, value = pair
        written = _written(value)
        if written is None or not isinstance(name, str | bytes):
            continue
        key = text_of(name, 128).lower()
        lowered[key] = f"{lowered[key]}, {written}"[:_MOST_TEXT] if key in lowered else written


def _written(value: object) -> str | None:
    match value:
        case str() | bytes() | int() | float() if not isinstance(value, bool):
            return text_of(value).strip()
        case list() | tuple():
            parts = [part for one in value[:16] if not isinstance(one, list | tuple) and (part := _written(one))]
            return ", ".join(parts)[:_MOST_TEXT] if parts else None
        case _:
            return None
