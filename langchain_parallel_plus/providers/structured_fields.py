"""Lists of HTTP Structured Fields (RFC 9651), as far as rate limit headers use them, read leniently."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("Item", "parse_items")

_MOST_TEXT: Final = 2_048
_MOST_ITEMS: Final = 16
# One token at a time: a quoted string, a separator, or what stands between separators.
_TOKEN: Final = re.compile(r'"((?:[^"\\]|\\.)*)"|([,;=])|([^",;=]+)')


@dataclass(slots=True)
class Item:
    """One member of a list."""

    value: str
    """Without quotes; empty if a member begins with a parameter."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """By lower-case name, without quotes; a parameter that is only named is `""`."""


def parse_items(text: str) -> list[Item]:
    """Return the members of a list or dictionary, at most 16; what is malformed is read as far as it goes.

    A dictionary member `limit=100` (the drafts up to 07) is an item `limit` with the parameter `"="`.

    Example:
        ```python
        [item] = parse_items('"per, minute";q=100;w=60')
        assert (item.value, item.parameters) == ("per, minute", {"q": "100", "w": "60"})
        ```
    """
    members: list[list[list[str]]] = [[[""]]]
    for quoted, separator, bare in _TOKEN.findall(text[:_MOST_TEXT]):
        match separator:
            case ",":
                members.append([[""]])
            case ";":
                members[-1].append([""])
            case "=":
                members[-1][-1].append("")
            case _:
                members[-1][-1][-1] += bare.strip() if bare else re.sub(r"\\(.)", r"\1", quoted)
    return [_item(member) for member in members[:_MOST_ITEMS] if member != [[""]]]


def _item(member: list[list[str]]) -> Item:
    (value, *assigned), *rest = member
    parameters = {"=": assigned[0]} if assigned else {}
    for name, *values in rest:
        parameters[name.lower()] = values[0] if values else ""
    return Item(value, parameters)
