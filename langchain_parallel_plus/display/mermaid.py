"""Names in a graph so that Mermaid reads them as text.

LangChain draws a node `"key: step"` as a subgraph `key`, and puts both into Mermaid's syntax as they are. There,
brackets, quotes, bars and line ends, and in the title of a subgraph keywords (`end`) and commas, end the text or the
diagram.
Mermaid shows entity codes such as `#91;` as their character, and takes a title in quotes for one text: "Flowcharts
Syntax", mermaid.js.org, tried with Mermaid 11.17 in 2026.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container

__all__ = ("branch_label", "free_name", "is_branch", "node_label")

_NOT_IN_LABELS = re.compile(r"#(?!\w+;)|[\[\](){}\"|:]")
"""A `#` that begins an entity code already stays; `:` is where LangChain cuts names."""
_NOT_IN_TITLES = re.compile(r"#|[\[\](){}\"|:<>`]")
_QUOTE = '"'
_QUOTED = re.compile(r'"[^":]*"')
_PLAIN = re.compile(r"\w+(?:[ -]\w+)*")
_KEYWORDS = frozenset({
    "br", "bt", "call", "class", "classdef", "click", "default", "direction", "elk", "end", "flowchart", "graph",
    "href", "interpolate", "linkstyle", "lr", "rl", "style", "subgraph", "tb", "td",
})  # fmt: skip


def node_label(name: str) -> str:
    """Return a node's name as text; what is escaped already, and the title before it, stays as it is."""
    title, colon, label = _parts(name)
    return f"{title}{colon}{_NOT_IN_LABELS.sub(_code, _on_one_line(label))}"


def branch_label(key: str, name: str) -> str:
    """Return the name of a branch's first node, in the subgraph `key`; of a branch in a branch, in one for both.

    Example:
        ```python
        assert branch_label("key_terms", "ChatOpenAI") == "key_terms: ChatOpenAI"
        assert branch_label("a [b]", "len") == '"a #91;b#93;": len'
        assert branch_label("outer", "inner: len") == '"outer/inner": len'
        ```
    """
    inner, colon, label = _parts(node_label(name))
    flat = _on_one_line(key)
    if not colon and _is_plain(flat):
        return f"{flat}: {label}"
    escaped = _NOT_IN_TITLES.sub(_code, flat)
    return f'"{escaped}/{inner.strip(_QUOTE)}": {label}' if colon else f'"{escaped}": {label}'


def is_branch(name: str) -> bool:
    """Return whether a node's name is that of a branch's first node."""
    return bool(_parts(name)[1])


def free_name(name: str, taken: Container[str]) -> str:
    """Return a name for what is said of a branch; where a branch in it has that already, of the one around."""
    while name in taken:
        name = f"{name} around"
    return name


def _parts(name: str) -> tuple[str, str, str]:
    title, colon, label = name.rpartition(": ")
    return (title, colon, label) if _is_plain(title) or _QUOTED.fullmatch(title) else ("", "", name)


def _is_plain(text: str) -> bool:
    return bool(_PLAIN.fullmatch(text)) and not _KEYWORDS.intersection(re.split("[ -]", text.casefold()))


def _code(found: re.Match[str]) -> str:
    return f"#{ord(found[0])};"


def _on_one_line(text: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
